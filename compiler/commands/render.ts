import { join } from 'node:path';
import type { CompileResult } from '../compile.ts';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { DOCUMENT_NAMES, neededFiles, neededVariables } from '../emit/emit.ts';
import { FILE_MODES, writeDocuments } from '../output/write.ts';
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

/** Writes the three files where the settings are good, and says which variables and files they refer to. */
export async function render(options: RenderOptions, terminal: Terminal): Promise<number> {
  return writeRendered(await compileAndReport(options, terminal), options, terminal);
}

/** Writes what was compiled; the exit code. */
export async function writeRendered(
  { model, documents, settings }: CompileResult,
  options: RenderOptions,
  terminal: Terminal,
): Promise<number> {
  const format = formatOf(options, settings);
  if (!model || !documents) return EXIT.diagnostics;
  const written = writeDocuments(options.out, documents, FILE_MODES[model.server.secrets]);
  if (!written.ok) {
    await printReport(
      [diagnostic('OUTPUT_UNWRITABLE', { setting: written.path }, { reason: written.reason })],
      { ...options, format },
      terminal,
    );
    return EXIT.unwritable;
  }
  const needed = neededVariables(documents, settings);
  const files = neededFiles(model);
  if (format === 'json') {
    terminal.out(
      `${JSON.stringify({ folder: options.out, files: written.outcomes, variables: needed, secretFiles: files }, null, 2)}\n`,
    );
  } else if (!options.quiet) {
    for (const name of DOCUMENT_NAMES)
      terminal.out(`${join(options.out, name)}  ${written.outcomes[name]}\n`);
    if (needed.apisix.length > 0) terminal.out(`APISIX's process must have: ${summary(needed.apisix)}\n`);
    if (needed.collector.length > 0)
      terminal.out(`The collector's process must have: ${summary(needed.collector)}\n`);
    for (const [process, paths] of [
      ["APISIX's", files.apisix],
      ["The collector's", files.collector],
    ] as const) {
      const list = [...new Set(Object.values(paths))];
      if (list.length > 0) terminal.out(`${process} process must be able to read: ${summary(list)}\n`);
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
