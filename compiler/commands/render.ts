import { join } from 'node:path';
import type { CompileResult } from '../compile.ts';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { nameWithoutKeys } from '../diagnostics/keys.ts';
import { DOCUMENT_NAMES } from '../emit/emit.ts';
import { FILE_MODES, writeDocuments } from '../output/write.ts';
import type { Command } from './command.ts';
import { OUTPUT_FOLDER, settingsOptions } from './options.ts';
import {
  type CommonOptions,
  compileAndReport,
  EXIT,
  formatOf,
  printReport,
  type Terminal,
} from './terminal.ts';

export interface RenderOptions extends CommonOptions {
  readonly out: string;
}

export const command: Command<RenderOptions> = {
  description: 'Validate the settings, then write config.yaml, apisix.yaml and otel-collector.yaml.',
  examples: [
    'genai-gateway render --out rendered',
    'genai-gateway render -e base.env -e prod.env --out rendered --strict',
  ],
  options: [OUTPUT_FOLDER, ...settingsOptions()],
  run: ({ options, terminal }) => render(options, terminal),
};

/** Writes the three files if the settings have no errors, and lists the variables and files that they refer to. */
async function render(options: RenderOptions, terminal: Terminal): Promise<number> {
  return writeRendered(await compileAndReport(options, terminal, { toRun: 'later' }), options, terminal);
}

/**
 * Writes the compiled documents.
 * @returns the exit code
 */
export async function writeRendered(
  { model, documents, needs, settings }: CompileResult,
  options: RenderOptions,
  terminal: Terminal,
): Promise<number> {
  const format = formatOf(options, settings);
  if (!model || !documents || !needs) return EXIT.diagnostics;
  const written = writeDocuments(options.out, documents, FILE_MODES[model.server.secrets]);
  if (!written.ok) {
    await printReport(
      [diagnostic('OUTPUT_UNWRITABLE', { setting: written.path }, { reason: written.reason })],
      { ...options, format },
      terminal,
    );
    return EXIT.unwritable;
  }
  const { variables, files } = needs;
  const folder = nameWithoutKeys(options.out);
  if (format === 'json') {
    terminal.out(
      `${JSON.stringify({ folder: options.out, files: written.outcomes, variables, secretFiles: files }, null, 2)}\n`,
    );
  } else if (!options.quiet) {
    for (const name of DOCUMENT_NAMES) terminal.out(`${join(folder, name)}  ${written.outcomes[name]}\n`);
    if (variables.apisix.length > 0)
      terminal.out(`The APISIX process needs these variables: ${summary(variables.apisix)}\n`);
    if (variables.collector.length > 0)
      terminal.out(`The collector process needs these variables: ${summary(variables.collector)}\n`);
    for (const [process, paths] of [
      ['APISIX', files.apisix],
      ['collector', files.collector],
    ] as const) {
      const list = [...new Set(Object.values(paths))];
      if (list.length > 0)
        terminal.out(`The ${process} process needs to read these files: ${summary(list)}\n`);
    }
  }
  return EXIT.ok;
}

const SHOWN = 20;

/** The first of many names. */
export const summary = (names: readonly string[], separator = ' '): string =>
  names.length > SHOWN
    ? `${names.slice(0, SHOWN).join(separator)} and ${names.length - SHOWN} more (--format json lists all)`
    : names.join(separator);
