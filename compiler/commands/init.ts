import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Option } from 'commander';
import minimal from '../../examples/minimal.env';
import multiRegion from '../../examples/multi-region.env';
import observability from '../../examples/observability.env';
import priorityLanes from '../../examples/priority-lanes.env';
import ptuSpillover from '../../examples/ptu-spillover.env';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { nameWithoutKeys } from '../diagnostics/keys.ts';
import { errnoText } from '../errno.ts';
import { makeFolder } from '../output/write.ts';
import type { Command } from './command.ts';
import { notEmpty, outputOptions } from './options.ts';
import { type CommonOptions, EXIT, printReport, type Terminal } from './terminal.ts';

const SCENARIOS = {
  minimal,
  'multi-region': multiRegion,
  observability,
  'priority-lanes': priorityLanes,
  'ptu-spillover': ptuSpillover,
};

interface InitOptions extends CommonOptions {
  readonly scenario: keyof typeof SCENARIOS;
  readonly out?: string;
}

export const command: Command<InitOptions> = {
  description: 'Print a commented env file for a scenario, or write it to a new file.',
  examples: [
    'genai-gateway init --scenario multi-region',
    'genai-gateway init --scenario ptu-spillover --out .env',
  ],
  options: [
    new Option('--scenario <name>', 'which example').choices(Object.keys(SCENARIOS)).default('minimal'),
    new Option('-o, --out <file>', 'write to this new file').argParser(notEmpty),
    ...outputOptions(),
  ],
  run: ({ options, terminal }) => init(options, terminal),
};

/** Client keys can be generated. Keys of Azure resources must come from their owner. */
const withRandomKeys = (text: string): string =>
  text.replace(
    /^(GATEWAY_CLIENT_KEY\w*)=replace-with-.*$/gm,
    (_, name) => `${name}=${randomBytes(24).toString('hex')}`,
  );

/**
 * Prints a commented env file, or writes it to a new file. Creates missing folders. Only the owner may read the file,
 * because it will contain keys.
 */
async function init(options: InitOptions, terminal: Terminal): Promise<number> {
  const text = withRandomKeys(SCENARIOS[options.scenario]);
  if (options.out === undefined) {
    terminal.out(text);
    return EXIT.ok;
  }
  try {
    makeFolder(dirname(options.out));
    writeFileSync(options.out, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    const place = { setting: options.out };
    // mkdir reports EEXIST when a file is in the place of a folder.
    const { code, syscall } = error as NodeJS.ErrnoException;
    const exists = code === 'EEXIST' && syscall !== 'mkdir';
    const problem = exists
      ? diagnostic('FILE_EXISTS', place, {})
      : diagnostic('OUTPUT_UNWRITABLE', place, { reason: errnoText(error) });
    await printReport([problem], options, terminal);
    return EXIT.unwritable;
  }
  if (!options.quiet)
    terminal.out(
      `${nameWithoutKeys(options.out)}  written, with random keys for clients. Fill in the endpoints and keys of the backends.\n`,
    );
  return EXIT.ok;
}
