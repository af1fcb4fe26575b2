import { join } from 'node:path';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { DOCUMENT_NAMES, neededVariables } from '../emit/emit.ts';
import { writeDocuments } from '../output/write.ts';
import {
  type CommonOptions,
  compileAndReport,
  EXIT,
  formatOf,
  printReport,
  type Terminal,
} from './terminal.ts';

/** Everyone may read references; inline secrets only owner and group. */
const MODES = { reference: 0o644, inline: 0o640 } as const;

/** Writes the three files where the settings are good, and says which variables they refer to. */
export async function render(
  options: CommonOptions & { readonly out: string },
  terminal: Terminal,
): Promise<number> {
  const { model, documents, settings } = await compileAndReport(options, terminal);
  const format = formatOf(options, settings);
  if (!model || !documents) return EXIT.diagnostics;
  const written = writeDocuments(options.out, documents, MODES[model.server.secrets]);
  if (!written.ok) {
    await printReport(
      [diagnostic('OUTPUT_UNWRITABLE', { setting: written.path }, { reason: written.reason })],
      { ...options, format },
      terminal,
    );
    return EXIT.unwritable;
  }
  const needed = neededVariables(documents, settings);
  if (format === 'json') {
    terminal.out(
      `${JSON.stringify({ folder: options.out, files: written.outcomes, variables: needed }, null, 2)}\n`,
    );
  } else if (!options.quiet) {
    for (const name of DOCUMENT_NAMES)
      terminal.out(`${join(options.out, name)}  ${written.outcomes[name]}\n`);
    if (needed.apisix.length > 0) terminal.out(`APISIX's process must have: ${summary(needed.apisix)}\n`);
    if (needed.collector.length > 0)
      terminal.out(`The collector's process must have: ${summary(needed.collector)}\n`);
  }
  return EXIT.ok;
}

const SHOWN = 20;

const summary = (names: readonly string[]) =>
  names.length > SHOWN
    ? `${names.slice(0, SHOWN).join(' ')} and ${names.length - SHOWN} more (--format json lists all)`
    : names.join(' ');
