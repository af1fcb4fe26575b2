/**
 * What the image's entrypoint needs to know, as assignments of a shell: the variables that env files give and the
 * process itself does not have, the env files, whether they are to be followed, whether messages are to be JSON. The
 * entrypoint reads them from a pipe: no value ever stands in a file or an argument.
 */
import { hasErrors, sortDiagnostics } from '../diagnostics/diagnostic.ts';
import { parseSettings } from '../settings/parse.ts';
import { namedEnvFiles, type RawSettings, readSources } from '../settings/sources.ts';
import { type RenderOptions, writeRendered } from './render.ts';
import { compileAndReport, EXIT, formatOf, printReport, type Terminal } from './terminal.ts';

export interface ContainerOptions {
  /** Where to render to; without it another container has rendered, and the env files only are read. */
  readonly out?: string;
}

/** A shell sets no other names, and keeps these for itself. */
const SHELL_NAME =
  /^(?!(?:BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID|GENAI_GATEWAY_EXPORTED)$)[A-Za-z_]\w*$/;

/** Renders into the folder, where there is one, and tells the entrypoint what it needs. */
export async function container({ out }: ContainerOptions, terminal: Terminal): Promise<number> {
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

/** Nothing is false to a shell. */
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
  const result = await compileAndReport(options, terminal);
  // What was written where is nothing to a container's log.
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
  // What the settings come to was another container's to say.
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

/** In single quotes a shell takes every character as it is, but the quote itself. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
