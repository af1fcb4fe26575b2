import type { Source } from '../diagnostics/diagnostic.ts';
import type { Declaration } from '../settings/declaration.ts';
import { nearestName, resolveName } from '../settings/names.ts';
import { parseSettings, type Settings } from '../settings/parse.ts';
import { defaultText } from '../settings/reference.ts';
import { Secret } from '../settings/secret.ts';
import { readSources } from '../settings/sources.ts';
import { type CommonOptions, EXIT, formatOf, type Terminal } from './terminal.ts';

/** One setting: meaning, type, default, where its value came from, what it becomes, in which output. */
export function explain(name: string, options: CommonOptions, terminal: Terminal): number {
  const known = find(name);
  if (!known) {
    const nearest = nearestName(name.toUpperCase());
    terminal.err(`${name} is not a setting.${nearest === undefined ? '' : ` Did you mean ${nearest}?`}\n`);
    return EXIT.diagnostics;
  }
  const { declaration } = known;
  const raw = readSources(terminal.environment, options.envFile ?? []);
  const { settings, diagnostics } = parseSettings(raw);
  const problems = diagnostics.filter((each) => each.setting === known.variable && each.severity === 'error');
  const source = settings.sources.get(known.variable);
  const explanation = {
    name: known.variable,
    description: declaration.description,
    section: declaration.section,
    expected: declaration.type.expected,
    default: defaultText(declaration),
    example: `${known.variable}=${declaration.example}`,
    output: declaration.output.split('; '),
    sensitive: declaration.sensitive ?? false,
    ...(declaration.isNew ? { new: true } : {}),
    ...(declaration.changed === undefined ? {} : { changed: declaration.changed }),
    ...(declaration.replacedBy === undefined ? {} : { replacedBy: declaration.replacedBy }),
    source: sourceText(source),
    becomes: problems[0] ? `nothing: ${problems[0].message}` : valueText(known, settings),
  };
  if (formatOf(options, settings) === 'json') {
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

/** Takes `LB_ALG`, `AZURE_OPENAI_WEIGHT_3`, `AZURE_OPENAI_WEIGHT_N`, `AZURE_OPENAI_WEIGHT` and `NAME_FILE`, in any case. */
function find(name: string): Found | undefined {
  const upper = name.trim().toUpperCase();
  for (const candidate of [upper, upper.replace(/_N$/, '_0'), `${upper}_0`]) {
    const verdict = resolveName(candidate);
    if (verdict.is !== 'setting' && verdict.is !== 'secret-file') continue;
    const { known } = verdict;
    return known.kind === 'plain'
      ? { variable: known.name, declaration: known.declaration }
      : { variable: known.name, declaration: known.declaration, indexed: known };
  }
  return undefined;
}

function sourceText(source: Source | undefined): string {
  if (!source) return 'not set';
  if (source.kind === 'environment') return 'the environment';
  return source.kind === 'file' && source.line !== undefined ? `${source.path}:${source.line}` : source.path;
}

function valueText({ variable, indexed }: Found, settings: Settings): string {
  const group: Readonly<Record<string, unknown>> | undefined = indexed
    ? settings[indexed.group].find((each) => each.index === indexed.index)
    : settings.values;
  const value = group?.[indexed?.field ?? variable];
  if (value === undefined) return 'nothing';
  if (!(value instanceof Secret)) return JSON.stringify(value);
  return settings.values.GATEWAY_SECRETS === 'inline' ? 'the value, inline' : `$env://${variable}`;
}
