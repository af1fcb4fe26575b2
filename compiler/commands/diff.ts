import { Option } from 'commander';
import { type CompileResult, compile } from '../compile.ts';
import { diagnostic } from '../diagnostics/diagnostic.ts';
import { hiding, nameWithoutKeys } from '../diagnostics/keys.ts';
import { type Change, comparisonOf, type DocumentSet, NotADocument } from '../diff/changes.ts';
import { describe } from '../diff/describe.ts';
import { type DocumentName, type Documents, emitDocuments } from '../emit/emit.ts';
import { TemplateError, type TemplateOverrides } from '../emit/templates.ts';
import { buildModel } from '../model/build.ts';
import type { SecretsMode } from '../model/secret.ts';
import { type Against, readAgainst } from '../output/against.ts';
import { settingValues } from '../settings/names.ts';
import type { Settings } from '../settings/parse.ts';
import { runTimeVariables } from '../settings/run-time.ts';
import { Secret } from '../settings/secret.ts';
import type { Command } from './command.ts';
import { collect, notEmpty, settingsOptions } from './options.ts';
import {
  type CommonOptions,
  compileAndReport,
  EXIT,
  formatOf,
  printReport,
  type Terminal,
} from './terminal.ts';

interface DiffOptions extends CommonOptions {
  readonly against: readonly string[];
  /** Title of the Markdown. */
  readonly title?: string;
}

export const command: Command<DiffOptions> = {
  description: 'Show what rendering the settings would change, object by object, without showing secrets.',
  examples: [
    'genai-gateway diff --against rendered -e .env',
    'genai-gateway diff --against rendered/apisix.yaml -e .env --format json',
    'git show main:prod.env | genai-gateway diff --against - -e prod.env',
    'genai-gateway diff --against old.env -e new.env --format markdown',
  ],
  notes: `Variables of the environment override the env files on both sides. A change takes
effect at once unless its line says "takes effect at the next start"; the collector
reads its file only when it starts. Files with references do not contain the values
of secrets, so a changed secret is not a difference there.

Exit codes: 0 no difference, 1 the settings have errors, 2 there are differences,
3 a file given with --against cannot be read, 64 wrong usage.`,
  options: [
    new Option(
      '--against <dir|file>',
      'compare with this: a folder with rendered files, one rendered file, or an env file (- for standard input); env files are repeatable, later files win',
    )
      .argParser(collect)
      .makeOptionMandatory(),
    new Option('--title <text>', 'heading of the Markdown').argParser(notEmpty),
    ...settingsOptions(['text', 'json', 'markdown']),
  ],
  hint: ([before, after]) =>
    after === undefined ? undefined : `To compare two env files write --against ${before} -e ${after}`,
  run: ({ options, terminal }) => diff(options, terminal),
};

/** Prints the changes that rendering the settings would make. */
async function diff(options: DiffOptions, terminal: Terminal): Promise<number> {
  if ([...options.against, ...(options.envFile ?? [])].filter((path) => path === '-').length > 1) {
    terminal.err('error: standard input (-) can be read only once\n');
    return EXIT.usage;
  }
  // The Markdown goes into a comment, so diagnostics are printed as text, for the log.
  const isMarkdown = options.format === 'markdown';
  const { format: wanted, ...others } = options;
  const reportOptions: CommonOptions = isMarkdown ? { ...others, format: 'text' } : options;
  const current = await compileAndReport(reportOptions, terminal);
  const format = formatOf(reportOptions, current.settings);
  if (!current.documents) {
    if (wanted === 'markdown')
      await printReport(current.diagnostics, { ...options, quiet: true }, terminal, 'out');
    return EXIT.diagnostics;
  }
  const unreadable = async (path: string, reason: string) => {
    const problem = diagnostic('AGAINST_UNREADABLE', { setting: path }, { reason });
    await printReport([problem], { ...options, format }, terminal);
    return EXIT.unreadable;
  };

  const read = options.against.map((path) => ({ path, ...readAgainst(path) }));
  for (const each of read) if ('reason' in each) return unreadable(each.path, each.reason);
  const against = read as readonly (Against & { readonly path: string })[];
  const envFiles = against.filter((each) => each.kind === 'env-file');
  const other = against.filter((each) => each.kind !== 'env-file').at(0);
  if (other && against.length > 1) {
    terminal.err('error: --against can be repeated only for env files\n');
    return EXIT.usage;
  }

  let before: DocumentSet;
  const values = settingValues(current.variables);
  if (other) before = { documents: other.documents };
  else {
    // The older settings are compiled with the same environment. Only their errors are printed.
    const old = await compile({
      environment: terminal.environment,
      envFiles,
      templates: options.templates,
    });
    if (!old.documents) {
      if (format === 'text')
        terminal.err(
          `The settings of ${nameWithoutKeys(options.against.join(', '))} have errors, so there is nothing to compare with:\n`,
        );
      await printReport(old.diagnostics, { ...options, format, quiet: true }, terminal);
      return EXIT.diagnostics;
    }
    before = documentSetOf(old, old.documents);
    values.push(...settingValues(old.variables));
  }
  const after = documentSetOf(current, current.documents);
  const compared = other?.kind === 'file' ? onlySameDocuments(before, after) : after;
  try {
    const comparison = await comparisonOf(before, compared);
    const hide = hiding(values);
    const shown: Terminal = { ...terminal, out: (text) => terminal.out(hide(text)) };
    const { changes } = comparison;
    if (isMarkdown) {
      const { asMarkdown } = await import('../diff/markdown.ts');
      shown.out(asMarkdown(comparison, titleOf(options)));
    } else printChanges(changes, format, options, shown);
    return changes.length > 0 ? EXIT.differs : EXIT.ok;
  } catch (error) {
    if (!(error instanceof NotADocument)) throw error;
    const path = nameWithoutKeys(options.against.join(', '));
    return unreadable(path, other?.kind === 'folder' ? `${error.document}: ${error.message}` : error.message);
  }
}

/** The compiled documents, with the variants that show where their secrets are. */
export const documentSetOf = ({ settings, overrides }: CompileResult, documents: Documents): DocumentSet => ({
  documents,
  renderings: {
    inline: documentsWith('inline', settings, overrides),
    reference: documentsWith('reference', settings, overrides),
  },
  runTime: new Map(
    runTimeVariables(settings).flatMap((name) => {
      const value = settings.values[name];
      return value === undefined ? [] : [[name, value instanceof Secret ? value : String(value)] as const];
    }),
  ),
});

/** The documents with all secrets in one form; undefined if a user's template cannot write that form. */
function documentsWith(
  secrets: SecretsMode,
  settings: Settings,
  overrides: TemplateOverrides | undefined,
): Documents | undefined {
  try {
    return emitDocuments(buildModel(settings, secrets), overrides).documents;
  } catch (error) {
    if (error instanceof TemplateError) return undefined;
    throw error;
  }
}

/** Only the documents that `before` has: a single file is compared with the file of the same name. */
const onlySameDocuments = (before: DocumentSet, { documents, renderings }: DocumentSet): DocumentSet => ({
  documents: Object.fromEntries(
    Object.keys(before.documents).map((name) => [name, documents[name as DocumentName]]),
  ),
  renderings,
});

/** The title that the user gave, else the names of the env files. */
const titleOf = ({ title, envFile = [] }: DiffOptions): string =>
  nameWithoutKeys(title ?? (envFile.length > 0 ? envFile.join(', ') : 'settings from the environment'));

function printChanges(
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
  terminal.err(
    count === 0 ? 'There are no differences.\n' : `${count} difference${count === 1 ? '' : 's'}.\n`,
  );
}
