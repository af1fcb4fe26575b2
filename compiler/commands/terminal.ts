import { existsSync } from 'node:fs';
import { type CompileOptions, type CompileResult, compile } from '../compile.ts';
import type { DiagnosticCode } from '../diagnostics/catalog.ts';
import { type Diagnostic, diagnostic, STANDARD_INPUT } from '../diagnostics/diagnostic.ts';
import type { ReportFormat } from '../diagnostics/formats.ts';
import type { Places } from '../diagnostics/places.ts';
import type { EnvironmentSummary } from '../diagnostics/report.ts';
import type { SettingFiles } from '../diagnostics/workspace.ts';
import type { Settings } from '../settings/parse.ts';
import { type EnvFile, MAX_ENV_FILE_BYTES, namedEnvFiles, readStandardInput } from '../settings/sources.ts';

/** Exit codes, the same for all commands. */
export const EXIT = {
  ok: 0,
  diagnostics: 1,
  differs: 2,
  unreadable: 3,
  unwritable: 3,
  /** A step of a deployment failed. */
  failed: 3,
  usage: 64,
  /** Ctrl-C before a deployment was complete. */
  interrupted: 130,
} as const;

/** The interface of a command to the process. Results go to `out`, diagnostics to `err`. */
export interface Terminal {
  readonly environment: Readonly<Record<string, string | undefined>>;
  wantsColor(stream: 'out' | 'err'): boolean;
  out(text: string): void;
  err(text: string): void;
}

/** Options of every command that reads settings. */
export interface CommonOptions {
  readonly envFile?: readonly string[];
  readonly strict?: boolean;
  /** Codes that stay warnings with --strict. */
  readonly allow?: readonly DiagnosticCode[];
  readonly format?: ReportFormat;
  readonly color?: boolean;
  readonly quiet?: boolean;
  readonly templates?: string;
  /** JSON on one line. */
  readonly oneLine?: boolean;
}

/** The value of `--format`, else of GATEWAY_LOG_FORMAT, else text. */
export const formatOf = (options: CommonOptions, settings?: Settings): ReportFormat =>
  options.format ?? settings?.values.GATEWAY_LOG_FORMAT ?? 'text';

/** The env files of the options. `-` is standard input, which can be read only once. */
export function envFilesOf({ envFile = [] }: CommonOptions): readonly EnvFile[] {
  return [...new Set(envFile)].map((path) =>
    path === '-' ? { path: STANDARD_INPUT, ...readStandardInput(MAX_ENV_FILE_BYTES) } : path,
  );
}

/** Compiles the settings of the options and prints the diagnostics. */
export async function compileAndReport(
  options: CommonOptions,
  terminal: Terminal,
  {
    redact = false,
    toRun,
    to = 'err',
  }: { redact?: boolean; toRun?: CompileOptions['toRun']; to?: 'out' | 'err' } = {},
): Promise<CompileResult> {
  const result = await compile({
    environment: terminal.environment,
    envFiles: envFilesOf(options),
    templates: options.templates,
    strict: options.strict ?? 'as-set',
    allow: options.allow,
    redact,
    toRun,
  });
  await printReport(
    [...result.diagnostics, ...unreadEnvFile(result.diagnostics, options, terminal)],
    { ...options, format: formatOf(options, result.settings) },
    terminal,
    to,
  );
  return result;
}

/**
 * Reports an unread `.env` in the current folder if no env file is given and there is no backend. Other tools read
 * `.env` by default.
 */
export function unreadEnvFile(
  diagnostics: readonly Diagnostic[],
  { envFile = [] }: CommonOptions,
  { environment }: Terminal,
): Diagnostic[] {
  const isBare = envFile.length === 0 && namedEnvFiles(environment).length === 0;
  if (!isBare || !diagnostics.some(({ code }) => code === 'NO_BACKEND') || !existsSync(ENV_FILE)) return [];
  return [diagnostic('ENV_FILE_NOT_READ', { setting: ENV_FILE }, {})];
}

const ENV_FILE = '.env';

/** Prints diagnostics. Loads the reporters only if there are any. */
export async function printReport(
  diagnostics: CompileResult['diagnostics'],
  options: CommonOptions,
  terminal: Terminal,
  to: 'out' | 'err' = 'err',
  {
    places = { files: options.envFile ?? [] },
    environments,
  }: {
    readonly places?: SettingFiles;
    readonly environments?: readonly EnvironmentSummary[] | undefined;
  } = {},
): Promise<void> {
  const format = formatOf(options);
  if (diagnostics.length === 0 && (format === 'text' || format === 'github')) return;
  const { report } = await import('../diagnostics/report.ts');
  const color = format === 'text' && (options.color ?? true) && terminal.wantsColor(to);
  const { quiet = false, oneLine = false } = options;
  const workspace = await workspaceOf(format, places, terminal);
  terminal[to](report(diagnostics, { format, color, quiet, oneLine, environments, ...workspace }));
}

/** The workspace, for formats whose readers map diagnostics to files of a repository. */
async function workspaceOf(
  format: ReportFormat,
  places: SettingFiles,
  { environment }: Terminal,
): Promise<{ readonly workspace?: Places }> {
  if (format !== 'sarif' && format !== 'github' && format !== 'markdown') return {};
  const { findWorkspace } = await import('../diagnostics/workspace.ts');
  const files = [...namedEnvFiles(environment), ...places.files];
  return { workspace: findWorkspace(environment, { ...places, files }) };
}
