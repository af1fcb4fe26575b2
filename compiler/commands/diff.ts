import { type CompileResult, compile } from '../compile.ts';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { type Change, changesBetween, NotADocument, type Side } from '../diff/changes.ts';
import { describe } from '../diff/describe.ts';
import type { DocumentName, Documents } from '../emit/emit.ts';
import { type Against, readAgainst } from '../output/against.ts';
import { runTimeVariables } from '../settings/effective.ts';
import { Secret } from '../settings/secret.ts';
import {
  type CommonOptions,
  compileAndReport,
  EXIT,
  formatOf,
  printReport,
  type Terminal,
} from './terminal.ts';

export interface DiffOptions extends CommonOptions {
  readonly against: readonly string[];
}

/** Says, object by object, what rendering the settings would change about what is there. */
export async function diff(options: DiffOptions, terminal: Terminal): Promise<number> {
  const current = await compileAndReport(options, terminal);
  const format = formatOf(options, current.settings);
  if (!current.documents) return EXIT.diagnostics;
  const unreadable = async (path: string, reason: string) => {
    const finding = diagnostic('AGAINST_UNREADABLE', { setting: path }, { reason });
    await printReport([finding], { ...options, format }, terminal);
    return EXIT.unreadable;
  };

  const read = options.against.map((path) => ({ path, ...readAgainst(path) }));
  for (const each of read) if ('reason' in each) return unreadable(each.path, each.reason);
  const against = read as readonly (Against & { readonly path: string })[];
  const envFiles = against.filter((each) => each.kind === 'env-file');
  const other = against.filter((each) => each.kind !== 'env-file').at(0);
  if (other && against.length > 1) {
    terminal.err('error: --against may be repeated for env files only\n');
    return EXIT.usage;
  }

  let before: Side;
  if (other) before = { documents: other.documents };
  else {
    // By itself, with the same environment, which wins over both; its warnings are not what was asked for.
    const old = await compile({
      environment: terminal.environment,
      envFiles,
      templates: options.templates,
    });
    if (!old.documents) {
      if (format === 'text')
        terminal.err(`The settings of ${options.against.join(', ')} give nothing to compare with:\n`);
      await printReport(old.diagnostics, { ...options, format, quiet: true }, terminal);
      return EXIT.diagnostics;
    }
    before = sideOf(old, old.documents);
  }
  const after = sideOf(current, current.documents);
  const compared = other?.kind === 'file' ? onlyThose(before, after) : after;
  try {
    const changes = await changesBetween(before, compared);
    tell(changes, format, options, terminal);
    return changes.length > 0 ? EXIT.differs : EXIT.ok;
  } catch (error) {
    if (!(error instanceof NotADocument)) throw error;
    const path = options.against.join(', ');
    return unreadable(path, other?.kind === 'folder' ? `${error.document}: ${error.message}` : error.message);
  }
}

/** What was compiled, with what is known of its secrets beside it. */
export const sideOf = ({ settings, documentsWith }: CompileResult, documents: Documents): Side => ({
  documents,
  revealed: { inline: documentsWith?.('inline'), reference: documentsWith?.('reference') },
  runTime: new Map(
    runTimeVariables(settings).flatMap((name) => {
      const value = (settings.values as Readonly<Record<string, unknown>>)[name];
      return value === undefined ? [] : [[name, value instanceof Secret ? value : String(value)] as const];
    }),
  ),
});

/** One file is compared with its like alone. */
const onlyThose = (before: Side, { documents, revealed }: Side): Side => ({
  documents: Object.fromEntries(
    Object.keys(before.documents).map((name) => [name, documents[name as DocumentName]]),
  ),
  revealed,
});

function tell(
  changes: readonly Change[],
  format: string,
  { against, quiet }: DiffOptions,
  terminal: Terminal,
): void {
  if (format === 'json') {
    terminal.out(`${JSON.stringify({ against, same: changes.length === 0, changes }, null, 2)}\n`);
    return;
  }
  terminal.out(
    describe(changes)
      .map((line) => `${line}\n`)
      .join(''),
  );
  if (quiet) return;
  const count = changes.length;
  terminal.err(count === 0 ? 'Nothing differs.\n' : `${count} difference${count === 1 ? '' : 's'}.\n`);
}
