/**
 * The data for the image's entrypoint, as shell assignments: the variables that only env files set, the env files,
 * whether to follow them, and whether messages are JSON. The entrypoint reads them from a pipe, so that no secret is in
 * a file or an argument.
 */
import { Option } from 'commander';
import { hasErrors, sortDiagnostics } from '../diagnostics/diagnostic.ts';
import { parseSettings } from '../settings/parse.ts';
import { namedEnvFiles, type RawSettings, readSources } from '../settings/sources.ts';
import type { Command } from './command.ts';
import { notEmpty } from './options.ts';
import { type RenderOptions, writeRendered } from './render.ts';
import { compileAndReport, EXIT, formatOf, printReport, type Terminal } from './terminal.ts';

interface ContainerOptions {
  /** Folder to render to. Absent: another container renders, and only the env files are read. */
  readonly out?: string;
}

/** Hidden, because it is for the image's entrypoint only: it prints secrets to the pipe that the entrypoint reads. */
export const command: Command<ContainerOptions> = {
  description:
    "Used by the image's entrypoint: renders, and prints the environment that the APISIX process needs.",
  options: [new Option('-o, --out <dir>', 'folder to render to').argParser(notEmpty)],
  run: ({ options, terminal }) => container(options, terminal),
};

/** Names that a shell can export, without the variables that bash or the entrypoint reserve. */
const SHELL_NAME =
  /^(?!(?:BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID|GENAI_GATEWAY_EXPORTED)$)[A-Za-z_]\w*$/;

/** Renders if a folder is given, and prints the data for the entrypoint. */
async function container({ out }: ContainerOptions, terminal: Terminal): Promise<number> {
  const read = await (out === undefined ? readOnly(terminal) : renderAll(out, terminal));
  if (read.code !== EXIT.ok) return read.code;
  terminal.out(
    [
      `env_files=(${namedEnvFiles(terminal.environment).map(quoted).join(' ')})`,
      `exported=(${exported(read.variables).map(quoted).join(' ')})`,
      `follow=${read.follow}`,
      `json=${read.json}`,
      '',
    ].join('\n'),
  );
  return EXIT.ok;
}

/** A shell treats the empty string as false. */
type Flag = 'true' | '';

const flag = (on: boolean): Flag => (on ? 'true' : '');

interface Read {
  readonly code: number;
  readonly variables: RawSettings['variables'];
  readonly follow: Flag;
  readonly json: Flag;
}

async function renderAll(out: string, terminal: Terminal): Promise<Read> {
  const options: RenderOptions = { out, oneLine: true };
  const result = await compileAndReport(options, terminal, { toRun: 'now' });
  // The list of written files is not useful in a container's log.
  const code = await writeRendered(result, options, { ...terminal, out: () => undefined });
  const { settings, variables } = result;
  return {
    code,
    variables,
    follow: flag(settings.values.GATEWAY_WATCH),
    json: flag(formatOf(options, settings) === 'json'),
  };
}

async function readOnly(terminal: Terminal): Promise<Read> {
  const raw = readSources(terminal.environment, []);
  const { settings, diagnostics } = parseSettings(raw);
  const format = formatOf({}, settings);
  // The container that renders reports all other diagnostics.
  const found = diagnostics.filter(
    ({ code, setting }) => code.startsWith('ENV_FILE_') || setting === 'GATEWAY_ENV_FILES',
  );
  await printReport(sortDiagnostics(found), { format, oneLine: true }, terminal);
  const code = hasErrors(found) ? EXIT.diagnostics : EXIT.ok;
  return { code, variables: raw.variables, follow: '', json: flag(format === 'json') };
}

const exported = (variables: RawSettings['variables']): string[] =>
  [...variables]
    .filter(([name, { source }]) => source.kind === 'file' && SHELL_NAME.test(name))
    .map(([name, { value }]) => `${name}=${value}`);

/** In single quotes a shell takes every character literally, except the single quote. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
