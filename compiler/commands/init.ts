import { existsSync, writeFileSync } from 'node:fs';
import minimal from '../../examples/minimal.env';
import multiRegion from '../../examples/multi-region.env';
import observability from '../../examples/observability.env';
import priorityLanes from '../../examples/priority-lanes.env';
import ptuSpillover from '../../examples/ptu-spillover.env';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { errnoText } from '../settings/sources.ts';
import { type CommonOptions, EXIT, printReport, type Terminal } from './terminal.ts';

/** The examples, by name. */
export const SCENARIOS: Readonly<Record<string, string>> = {
  minimal,
  'multi-region': multiRegion,
  observability,
  'priority-lanes': priorityLanes,
  'ptu-spillover': ptuSpillover,
};

/** Prints a commented env file, or writes it where nothing is yet: only the owner may read it, for keys will be in it. */
export async function init(
  scenario: string,
  options: CommonOptions & { readonly out?: string },
  terminal: Terminal,
): Promise<number> {
  const text = SCENARIOS[scenario] ?? '';
  if (options.out === undefined) {
    terminal.out(text);
    return EXIT.ok;
  }
  const refuse = async (reason: string) => {
    await printReport(
      [diagnostic('OUTPUT_UNWRITABLE', { setting: options.out ?? '' }, { reason })],
      options,
      terminal,
    );
    return EXIT.unwritable;
  };
  if (existsSync(options.out)) return refuse('it exists already');
  try {
    writeFileSync(options.out, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    return refuse(errnoText(error));
  }
  if (!options.quiet) terminal.out(`${options.out}  written\n`);
  return EXIT.ok;
}
