import { type CompileResult, compile } from '../compile.ts';
import type { ReportFormat } from '../diagnostics/formats.ts';
import type { Settings } from '../settings/parse.ts';

/** Exit codes; the same in every command. */
export const EXIT = { ok: 0, diagnostics: 1, differs: 2, unreadable: 3, unwritable: 3, usage: 64 } as const;

/** What a command sees of the world. Data goes to `out`, diagnostics to `err`. */
export interface Terminal {
  readonly environment: Readonly<Record<string, string | undefined>>;
  wantsColor(stream: 'out' | 'err'): boolean;
  out(text: string): void;
  err(text: string): void;
}

/** Options that every command reading settings has. */
export interface CommonOptions {
  readonly envFile?: readonly string[];
  readonly strict?: boolean;
  readonly format?: ReportFormat;
  readonly color?: boolean;
  readonly quiet?: boolean;
  readonly templates?: string;
  /** JSON on one line. */
  readonly oneLine?: boolean;
}

/** `--format`, else GATEWAY_LOG_FORMAT where settings were read, else text. */
export const formatOf = (options: CommonOptions, settings?: Settings): ReportFormat =>
  options.format ?? settings?.values.GATEWAY_LOG_FORMAT ?? 'text';

/** Compiles what the options name and prints the diagnostics. */
export async function compileAndReport(
  options: CommonOptions,
  terminal: Terminal,
  { redact = false, to = 'err' }: { redact?: boolean; to?: 'out' | 'err' } = {},
): Promise<CompileResult> {
  const result = await compile({
    environment: terminal.environment,
    envFiles: options.envFile ?? [],
    templates: options.templates,
    strict: options.strict ?? false,
    redact,
  });
  await printReport(
    result.diagnostics,
    { ...options, format: formatOf(options, result.settings) },
    terminal,
    to,
  );
  return result;
}

/** Loads the reporters only where there is something to say. */
export async function printReport(
  diagnostics: CompileResult['diagnostics'],
  options: CommonOptions,
  terminal: Terminal,
  to: 'out' | 'err' = 'err',
): Promise<void> {
  const format = formatOf(options);
  if (diagnostics.length === 0 && (format === 'text' || format === 'github')) return;
  const { report } = await import('../diagnostics/report.ts');
  const color = format === 'text' && (options.color ?? true) && terminal.wantsColor(to);
  const { quiet = false, oneLine = false } = options;
  terminal[to](report(diagnostics, { format, color, quiet, oneLine }));
}
