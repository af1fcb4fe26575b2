import { type CommonOptions, compileAndReport, EXIT, formatOf, type Terminal } from './terminal.ts';

/** Validates and prints the findings to stdout: here they are the data. */
export async function check(options: CommonOptions, terminal: Terminal): Promise<number> {
  const { documents, model, settings } = await compileAndReport(options, terminal, { to: 'out' });
  if (!documents || !model) return EXIT.diagnostics;
  if (!options.quiet && formatOf(options, settings) === 'text') {
    const count = (list: readonly unknown[], noun: string) =>
      `${list.length} ${noun}${list.length === 1 ? '' : 's'}`;
    terminal.err(
      `The settings are good: ${count(model.backends, 'backend')}, ${count(model.clients, 'client')}.\n`,
    );
  }
  return EXIT.ok;
}
