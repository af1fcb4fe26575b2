import { Argument, Option } from 'commander';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { nameWithoutKeys } from '../diagnostics/keys.ts';
import type { Command } from './command.ts';
import { notEmpty, outputOptions } from './options.ts';
import { type CommonOptions, EXIT, printReport, type Terminal } from './terminal.ts';

interface ImportOptions extends CommonOptions {
  readonly name?: string;
  readonly out: string;
  readonly force?: boolean;
}

export const command: Command<ImportOptions, readonly string[]> = {
  description:
    "Turn the accelerator's .tfvars files into the files of an environment, for deploy: settings, secrets, variables of Terraform.",
  examples: [
    'genai-gateway import infra/terraform/stacks/20-workload/prod.tfvars',
    'genai-gateway import stacks/15-foundry/dev.tfvars stacks/20-workload/dev.tfvars --name dev',
  ],
  notes: `It writes environments/NAME.env, environments/NAME.secrets.env (readable only by
you; keep it out of git) and environments/NAME.tfvars. Of several files the last one
counts. The given files stay as they are.`,
  argument: new Argument('<file...>', '.tfvars files of the accelerator'),
  options: [
    new Option(
      '-n, --name <name>',
      'name of the environment; default: environment_code in the files',
    ).argParser(notEmpty),
    new Option('-o, --out <dir>', 'folder of the environments; created if it does not exist')
      .argParser(notEmpty)
      .default('environments'),
    new Option('--force', 'replace files that exist'),
    ...outputOptions(),
  ],
  run: ({ argument, options, terminal }) => importEnvironment(argument, options, terminal),
};

async function importEnvironment(
  paths: readonly string[],
  options: ImportOptions,
  terminal: Terminal,
): Promise<number> {
  const { environmentFiles } = await import('../deploy/environment-files.ts');
  const { importFiles } = await import('../deploy/import.ts');
  const read = await readFiles([...new Set(paths)]);
  if ('missing' in read) {
    terminal.err('error: this installation has no parser of HCL: run import from the npm package\n');
    return EXIT.unreadable;
  }
  const { files } = read;
  if (read.problems.length > 0) {
    await printReport(read.problems, options, terminal);
    return read.problems.some(({ code }) => code === 'TFVARS_UNREADABLE')
      ? EXIT.unreadable
      : EXIT.diagnostics;
  }
  const name = options.name ?? environmentCode(files);
  if (name === undefined) {
    terminal.err('error: the files have no environment_code: name the environment with --name\n');
    return EXIT.usage;
  }
  const environment = environmentFiles(options.out, name);
  if ('reason' in environment) {
    terminal.err(`error: ${nameWithoutKeys(name)}: ${environment.reason}: choose another --name\n`);
    return EXIT.usage;
  }
  const imported = importFiles(files, name);
  if ('problems' in imported) {
    const found = imported.problems.map((each) => invalid(each.path, each));
    await printReport(found, options, terminal);
    return EXIT.diagnostics;
  }
  const { writeNewFiles } = await import('../deploy/new-files.ts');
  const { settings, secrets, variables } = imported;
  const { counts } = imported;
  const written = [
    { path: environment.settings.path, text: settings, what: counted(counts.settings, 'setting') },
    {
      path: environment.secrets.path,
      text: secrets,
      isSecret: true,
      what: `${counted(counts.secrets, 'secret')}, readable only by you`,
    },
    { path: environment.variables.path, text: variables, what: counted(counts.variables, 'variable') },
  ].flatMap((file) => (file.text === undefined ? [] : [{ ...file, text: file.text }]));
  const problems = writeNewFiles(written, options.force === true);
  if (problems.length > 0) {
    const found = problems.map(({ path, reason }) =>
      reason === undefined
        ? diagnostic('FILE_EXISTS', { setting: path }, {})
        : diagnostic('OUTPUT_UNWRITABLE', { setting: path }, { reason }),
    );
    await printReport(found, options, terminal);
    if (problems.some(({ reason }) => reason === undefined))
      terminal.err('Nothing was written. With --force, import replaces the files.\n');
    return EXIT.unwritable;
  }
  if (!options.quiet) terminal.out(summary(name, written, imported));
  if (secrets !== undefined) await warnUnlessIgnored(environment.secrets.path, terminal);
  return EXIT.ok;
}

type ImportedFile = import('../deploy/import.ts').ImportedFile;

async function readFiles(
  paths: readonly string[],
): Promise<
  | { readonly files: readonly ImportedFile[]; readonly problems: readonly Diagnostic[] }
  | { readonly missing: true }
> {
  const { parseTfvars, readTfvarsText } = await import('../deploy/tfvars.ts');
  const files: ImportedFile[] = [];
  const problems: Diagnostic[] = [];
  for (const path of paths) {
    const content = readTfvarsText(path);
    if ('reason' in content) {
      problems.push(diagnostic('TFVARS_UNREADABLE', { setting: path }, { reason: content.reason }));
      continue;
    }
    try {
      const parsed = await parseTfvars(content.text);
      if (parsed.problems) problems.push(...parsed.problems.map((each) => invalid(path, each)));
      else files.push({ path, variables: parsed.variables });
    } catch (error) {
      // The image has no second bundle.
      if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return { missing: true };
      throw error;
    }
  }
  return { files, problems };
}

function invalid(
  path: string,
  {
    name,
    line,
    message,
    hint,
  }: { readonly name?: string; readonly line: number; readonly message: string; readonly hint: string },
): Diagnostic {
  return diagnostic(
    'TFVARS_INVALID',
    { setting: name ?? path, source: { kind: 'file', path, line } },
    { problem: message, fix: hint },
  );
}

/** The environment's name in the files; the last one counts. */
function environmentCode(files: readonly ImportedFile[]): string | undefined {
  const values = files.flatMap(({ variables }) =>
    variables.flatMap(({ name, value }) =>
      name === 'environment_code' && value.kind === 'string' && value.text !== '' ? [value.text] : [],
    ),
  );
  return values.at(-1)?.toLowerCase();
}

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;

function summary(
  name: string,
  written: readonly { readonly path: string; readonly what: string }[],
  { leftOut, changed }: import('../deploy/import.ts').Imported,
): string {
  const list = (title: string, notes: typeof leftOut) =>
    notes.length === 0
      ? []
      : [
          '',
          title,
          ...notes.map(({ names, reason }) => `  ${names.map(nameWithoutKeys).join(', ')}: ${reason}`),
        ];
  return `${[
    ...written.map(({ path, what }) => `${nameWithoutKeys(path)}  ${what}`),
    ...(written.length === 0 ? ['The files have nothing to import. No file was written.'] : []),
    ...list('Changed:', changed),
    ...list('Left out:', leftOut),
    ...(written.length === 0 ? [] : ['', `Read the files, then: genai-gateway deploy ${name} --plan`]),
  ].join('\n')}\n`;
}

async function warnUnlessIgnored(path: string, terminal: Terminal): Promise<void> {
  const { isIgnoredByGit } = await import('../deploy/new-files.ts');
  if (isIgnoredByGit(path) !== false) return;
  terminal.err(
    `warning: git does not ignore ${nameWithoutKeys(path)}. Add this line to .gitignore before you commit: *.secrets.env\n`,
  );
}
