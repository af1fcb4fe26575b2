import { type Diagnostic, type Source, sortDiagnostics } from '../diagnostics/diagnostic.ts';
import { apisixReference, collectorReference } from '../emit/references.ts';
import type { Declaration } from '../settings/declaration.ts';
import { backendName, retryStatuses } from '../settings/effective.ts';
import { nearestName, resolveName } from '../settings/names.ts';
import { parseSettings, type Settings } from '../settings/parse.ts';
import { defaultText } from '../settings/reference.ts';
import { Secret } from '../settings/secret.ts';
import { readSources } from '../settings/sources.ts';
import { type CommonOptions, EXIT, formatOf, printReport, type Terminal } from './terminal.ts';

/** One setting: meaning, type, default, where its value came from, what it becomes, in which output. */
export async function explain(name: string, options: CommonOptions, terminal: Terminal): Promise<number> {
  const known = find(name);
  if (typeof known === 'string' || !known) {
    terminal.err(`${name} is not a setting.${known ? ` Did you mean ${known}?` : ''}\n`);
    return EXIT.diagnostics;
  }
  const { declaration, variable } = known;
  const { settings, diagnostics } = parseSettings(readSources(terminal.environment, options.envFile ?? []));
  const format = formatOf(options, settings);
  const unreadable = diagnostics.filter(
    ({ code }) => code.startsWith('ENV_FILE_UN') || code === 'ENV_FILE_NOT_TEXT',
  );
  if (unreadable.length > 0) {
    await printReport(sortDiagnostics(unreadable), { ...options, format }, terminal);
    return EXIT.diagnostics;
  }
  const problem = diagnostics.find(
    ({ setting, severity }) =>
      severity === 'error' && (setting === variable || setting === `${variable}_FILE`),
  );
  const explanation = {
    name: variable,
    description: declaration.description,
    section: declaration.section,
    expected: declaration.type.expected,
    default: defaultText(declaration),
    example: `${variable}=${declaration.example}`,
    output: declaration.output.split('; '),
    sensitive: declaration.sensitive ?? false,
    ...(declaration.isNew ? { new: true } : {}),
    ...(declaration.changed === undefined ? {} : { changed: declaration.changed }),
    ...(declaration.replacedBy === undefined ? {} : { replacedBy: declaration.replacedBy }),
    source: sourceText(settings.sources.get(variable)),
    becomes: becomes(known, settings, problem),
  };
  if (format === 'json') {
    terminal.out(`${JSON.stringify(explanation, null, 2)}\n`);
    return EXIT.ok;
  }
  const { name: title, description, ...rest } = explanation;
  const lines = Object.entries(rest).map(
    ([key, value]) => `  ${key.padEnd(10)} ${Array.isArray(value) ? value.join('\n             ') : value}\n`,
  );
  terminal.out(`${title}\n  ${description}\n\n${lines.join('')}`);
  return EXIT.ok;
}

interface Found {
  /** With the index that was asked for, 0 where none was. */
  readonly variable: string;
  readonly declaration: Declaration;
  readonly indexed?: {
    readonly group: 'backends' | 'clients';
    readonly field: string;
    readonly index: number;
  };
}

/**
 * Takes `LB_ALG`, `AZURE_OPENAI_WEIGHT_3`, `AZURE_OPENAI_WEIGHT_N`, `AZURE_OPENAI_WEIGHT` and `NAME_FILE`, in any case;
 * else the name that was probably meant.
 */
function find(name: string): Found | string | undefined {
  const upper = name.trim().toUpperCase();
  for (const candidate of [upper, upper.replace(/_N$/, '_0'), `${upper}_0`]) {
    const verdict = resolveName(candidate);
    if (verdict.is === 'wrong-index') return verdict.canonical;
    if (verdict.is !== 'setting' && verdict.is !== 'secret-file') continue;
    const { known } = verdict;
    return known.kind === 'plain'
      ? { variable: known.name, declaration: known.declaration }
      : { variable: known.name, declaration: known.declaration, indexed: known };
  }
  return nearestName(upper);
}

function sourceText(source: Source | undefined): string {
  if (!source) return 'not set';
  if (source.kind === 'environment') return 'the environment';
  return source.kind === 'file' && source.line !== undefined ? `${source.path}:${source.line}` : source.path;
}

/** What the outputs get for a setting: the value, a reference, or what takes its place. */
function becomes(
  { variable, declaration, indexed }: Found,
  settings: Settings,
  problem: Diagnostic | undefined,
): string {
  if (problem) return `nothing: ${problem.message}`;
  if (declaration.output.startsWith('none')) return 'nothing in a file';
  const backend = settings.backends.find(({ index }) => index === indexed?.index);
  if (indexed?.field === 'NAME' && indexed.group === 'backends' && backend) return backendName(backend);
  if (variable === 'AI_PROXY_RETRY_STATUSES') return retryStatuses(settings).join(',');
  const group: Readonly<Record<string, unknown>> | undefined = indexed
    ? settings[indexed.group].find(({ index }) => index === indexed.index)
    : settings.values;
  const value = group?.[indexed?.field ?? variable];
  if (value === undefined) return `its default: ${defaultText(declaration)}`;
  if (!(value instanceof Secret)) return declaration.type.format(value);
  if (settings.values.GATEWAY_SECRETS === 'inline') return 'the value, inline';
  return (declaration.output.startsWith('otel-collector') ? collectorReference : apisixReference)(value);
}
