import { writeFileSync } from 'node:fs';
import minimal from '../../examples/minimal.env';
import multiRegion from '../../examples/multi-region.env';
import observability from '../../examples/observability.env';
import priorityLanes from '../../examples/priority-lanes.env';
import ptuSpillover from '../../examples/ptu-spillover.env';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { errnoText } from '../errno.ts';
import type { ScenarioName } from './scenarios.ts';
import { type CommonOptions, EXIT, printReport, type Terminal } from './terminal.ts';

/** The examples, by name. */
const SCENARIOS: Readonly<Record<ScenarioName, string>> = {
  minimal,
  'multi-region': multiRegion,
  observability,
  'priority-lanes': priorityLanes,
  'ptu-spillover': ptuSpillover,
};

/** Prints a commented env file, or writes it where nothing is yet: only the owner may read it, for keys will be in it. */
export async function init(
  scenario: ScenarioName,
  options: CommonOptions & { readonly out?: string },
  terminal: Terminal,
): Promise<number> {
  const text = SCENARIOS[scenario];
  if (options.out === undefined) {
    terminal.out(text);
    return EXIT.ok;
  }
  try {
    writeFileSync(options.out, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    const place = { setting: options.out };
    const exists = (error as NodeJS.ErrnoException).code === 'EEXIST';
    const finding = exists
      ? diagnostic('FILE_EXISTS', place, {})
      : diagnostic('OUTPUT_UNWRITABLE', place, { reason: errnoText(error) });
    await printReport([finding], options, terminal);
    return EXIT.unwritable;
  }
  if (!options.quiet) terminal.out(`${options.out}  written\n`);
  return EXIT.ok;
}
