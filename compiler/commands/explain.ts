import { Argument } from 'commander';
import { type Source, sortDiagnostics } from '../diagnostics/diagnostic.ts';
import { nameWithoutKeys } from '../diagnostics/keys.ts';
import { editLimit, edits } from '../diagnostics/nearest.ts';
import { worded } from '../diagnostics/words.ts';
import { APISIX, COLLECTOR } from '../emit/encodings.ts';
import { docsUrl } from '../links.ts';
import { ModelSecret } from '../model/secret.ts';
import type { Declaration } from '../settings/declaration.ts';
import { type BackendValues, listSettings, type PoolValues } from '../settings/declarations/index.ts';
import type { Effective } from '../settings/effective.ts';
import { type KnownName, nearestName, resolveName } from '../settings/names.ts';
import { emptyBackend, emptyPool, parseSettings, type Settings } from '../settings/parse.ts';
import { defaultText, outputTexts } from '../settings/reference.ts';
import { Secret } from '../settings/secret.ts';
import { isUnreadFile, readSources } from '../settings/sources.ts';
import { lackingFor } from '../settings/without-effect.ts';
import type { Command } from './command.ts';
import { ENV_FILES, outputOptions } from './options.ts';
import { type CommonOptions, EXIT, envFilesOf, formatOf, printReport, type Terminal } from './terminal.ts';

export const command: Command<CommonOptions, string> = {
  description:
    'Explain one setting (meaning, type, default, source, effect), or the code of a diagnostic or of an error that clients get.',
  examples: [
    'genai-gateway explain AZURE_OPENAI_WEIGHT_0 -e .env',
    'genai-gateway explain LB_ALG',
    'genai-gateway explain SHORT_CLIENT_KEY',
    'genai-gateway explain upstream_unavailable',
  ],
  argument: new Argument('<setting>', 'a setting, with or without index, or a code'),
  options: [ENV_FILES, ...outputOptions(['text', 'json'])],
  run: ({ argument, options, terminal }) => explain(argument, options, terminal),
};

/**
 * Prints one setting (meaning, type, default, source, value, output), or explains a code.
 * @returns the exit code
 */
export async function explain(name: string, options: CommonOptions, terminal: Terminal): Promise<number> {
  const known = find(name);
  if (typeof known === 'string' || !known) {
    if (await explainCode(name, options, terminal)) return EXIT.ok;
    const meant = [known, await codeLike(name)].filter((each) => each !== undefined).join(' or ');
    terminal.err(
      `${nameWithoutKeys(name)} is not a setting.${meant === '' ? '' : ` Did you mean ${meant}?`}\n${related(name)}`,
    );
    return EXIT.diagnostics;
  }
  const { declaration, name: variable } = known;
  const { settings, diagnostics } = parseSettings(readSources(terminal.environment, envFilesOf(options)));
  const format = formatOf(options, settings);
  const unreadable = diagnostics.filter(isUnreadFile);
  if (unreadable.length > 0) {
    await printReport(sortDiagnostics(unreadable), { ...options, format }, terminal);
    return EXIT.diagnostics;
  }
  const problem = diagnostics.find(
    ({ setting, severity }) =>
      severity === 'error' && (setting === variable || setting === `${variable}_FILE`),
  );
  const effective = effectiveOf(known, settings);
  const lacking = lackingFor(declaration, settings, backendOf(known, settings), poolOf(known, settings));
  const explanation = {
    name: variable,
    description: declaration.description,
    section: declaration.section,
    expected: declaration.type.expected,
    default: defaultText(declaration),
    example: `${variable}=${declaration.example}`,
    output: outputTexts(declaration),
    sensitive: declaration.sensitive ?? false,
    ...(declaration.isNew ? { new: true } : {}),
    ...(declaration.changed === undefined ? {} : { changed: declaration.changed }),
    ...(declaration.replacedBy === undefined ? {} : { replacedBy: declaration.replacedBy }),
    source: sourceText(settings.sources.get(variable), effective.follows, settings),
    becomes: problem ? `nothing: ${worded(problem).message}` : valueText(known, effective.value, settings),
    ...(lacking.length === 0 ? {} : { effect: `none without ${lacking.join(' and ')}` }),
    more: docsUrl(
      'settings.md',
      known.kind === 'plain' ? known.name.toLowerCase() : known.name.replace(/\d+$/, 'n').toLowerCase(),
    ),
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

/**
 * Explains a diagnostic or an error of the gateway by its code.
 * @returns false if there is no such code
 */
async function explainCode(name: string, options: CommonOptions, terminal: Terminal): Promise<boolean> {
  const explanation = (await diagnosticOf(name)) ?? (await clientErrorOf(name));
  if (explanation === undefined) return false;
  const { code, about, help, facts } = explanation;
  if (formatOf(options) === 'json') {
    terminal.out(`${JSON.stringify({ code, about, ...Object.fromEntries(facts), help }, null, 2)}\n`);
    return true;
  }
  const lines = [...facts, ['more', help] as const].map(
    ([key, value]) => `  ${(key === 'remedy' ? 'what to do' : key).padEnd(10)}  ${value}\n`,
  );
  terminal.out(`${code}\n  ${about}\n\n${lines.join('')}`);
  return true;
}

interface CodeExplanation {
  readonly code: string;
  readonly about: string;
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly help: string;
}

async function diagnosticOf(name: string): Promise<CodeExplanation | undefined> {
  const { DESCRIPTIONS } = await import('../diagnostics/descriptions.ts');
  const code = name.trim().toUpperCase();
  if (!Object.hasOwn(DESCRIPTIONS, code)) return undefined;
  const { about, remedy } = DESCRIPTIONS[code as keyof typeof DESCRIPTIONS];
  return { code, about, facts: [['remedy', remedy]], help: docsUrl('diagnostics.md', code.toLowerCase()) };
}

/** The code with nearly the same spelling, of a diagnostic or of an error that clients get. */
async function codeLike(name: string): Promise<string | undefined> {
  const { DESCRIPTIONS } = await import('../diagnostics/descriptions.ts');
  const { CLIENT_ERRORS } = await import('../client-errors.ts');
  const codes = [...Object.keys(DESCRIPTIONS), ...Object.keys(CLIENT_ERRORS)];
  const wanted = name.trim().toLowerCase();
  return codes
    .map((code) => ({ code, distance: edits(wanted, code.toLowerCase()) }))
    .filter(({ code, distance }) => distance <= Math.min(4, editLimit(code)))
    .sort((a, b) => a.distance - b.distance)[0]?.code;
}

/** An error that the running gateway returns. */
async function clientErrorOf(name: string): Promise<CodeExplanation | undefined> {
  const { CLIENT_ERRORS, clientRemedy } = await import('../client-errors.ts');
  const wanted = name.trim().toLowerCase();
  const found = Object.entries(CLIENT_ERRORS).find(([code]) => code.toLowerCase() === wanted);
  if (found === undefined) return undefined;
  const [code, error] = found;
  const client = clientRemedy(error);
  const facts: (readonly [string, string])[] = [['status', error.statuses.join(' or ')]];
  if (client !== undefined) facts.push(['client', client]);
  if (error.operator !== undefined) facts.push(['operator', withoutLinks(error.operator)]);
  return { code, about: error.about, facts, help: docsUrl('client-errors.md', code.toLowerCase()) };
}

/** Markdown links as plain text for a terminal. */
const withoutLinks = (text: string) =>
  text.replace(/\[([^\]]+)\]\(([^)#]+)[^)]*\)/g, (_, words: string, page: string) =>
    words === page ? `docs/${page}` : `${words} (docs/${page})`,
  );

const MAX_RELATED = 12;

/** Settings with the word in their name, or, if there are none, in their description. */
function related(word: string): string {
  const wanted = word.trim().toLowerCase();
  if (wanted.length < 3) return '';
  const all = listSettings();
  const named = all.filter(({ name }) => name.toLowerCase().includes(wanted.replaceAll(/[\s-]+/g, '_')));
  const found =
    named.length > 0
      ? named
      : all.filter(({ declaration }) => declaration.description.toLowerCase().includes(wanted));
  if (found.length === 0) return '';
  const width = Math.max(...found.slice(0, MAX_RELATED).map(({ name }) => name.length));
  const lines = found
    .slice(0, MAX_RELATED)
    .map(({ name, declaration }) => `  ${name.padEnd(width)}  ${declaration.description}\n`);
  const rest = found.length - MAX_RELATED;
  return `Related settings:\n${lines.join('')}${rest > 0 ? `  and ${rest} more: docs/settings.md\n` : ''}`;
}

/**
 * Accepts `LB_ALG`, `AZURE_OPENAI_WEIGHT_3`, `AZURE_OPENAI_WEIGHT_N`, `AZURE_OPENAI_WEIGHT` and `NAME_FILE`, in any
 * case.
 * @returns the setting, or a suggestion for another name
 */
function find(name: string): KnownName | string | undefined {
  const upper = name.trim().toUpperCase();
  for (const candidate of [upper, upper.replace(/_N$/, '_0'), `${upper}_0`]) {
    const verdict = resolveName(candidate);
    if (verdict.is === 'wrong-index') return verdict.canonical;
    if (verdict.is === 'setting' || verdict.is === 'secret-file') return verdict.known;
  }
  return nearestName(upper);
}

/** The backend to which an indexed setting belongs. */
function backendOf(known: KnownName, { backends }: Settings): BackendValues | undefined {
  if (known.kind !== 'indexed' || known.group !== 'backends') return undefined;
  return backends.find(({ index }) => index === known.index) ?? emptyBackend(known.index);
}

/** The pool to which an indexed setting belongs. */
function poolOf(known: KnownName, { pools }: Settings): PoolValues | undefined {
  if (known.kind !== 'indexed' || known.group !== 'pools') return undefined;
  return pools.find(({ index }) => index === known.index) ?? emptyPool(known.index);
}

/** The value of the variable, else the default. */
function ownValue(known: KnownName, settings: Settings): unknown {
  if (known.kind === 'plain') return settings.values[known.name];
  const group = settings[known.group].find(({ index }) => index === known.index);
  const value = group && Object.entries(group).find(([field]) => field === known.field)?.[1];
  return value ?? known.declaration.default;
}

/** The effective value, and the setting that determines it. */
function effectiveOf(known: KnownName, settings: Settings): Effective<unknown> {
  const { declaration } = known;
  const pool = poolOf(known, settings);
  const effective = pool
    ? declaration.effectiveOfPool?.(settings, pool)
    : declaration.effective?.(settings, backendOf(known, settings) ?? emptyBackend(0));
  return effective ?? { value: ownValue(known, settings) };
}

/** The source of the effective value: its own variable, another setting, both if the other one wins, or the default. */
function sourceText(source: Source | undefined, follows: string | undefined, settings: Settings): string {
  const parts = [
    ...(source ? [placeText(source)] : []),
    ...(follows === undefined ? [] : [`follows ${assignment(follows, settings)}`]),
  ];
  return parts.length > 0 ? parts.join(', but ') : 'not set: the default applies';
}

function placeText(source: Source): string {
  if (source.kind === 'environment') return 'the environment';
  return source.kind === 'file' && source.line !== undefined ? `${source.path}:${source.line}` : source.path;
}

/** A setting with its value, as in an env file. For a secret only the name. */
function assignment(name: string, settings: Settings): string {
  const verdict = resolveName(name);
  if (verdict.is !== 'setting') return name;
  const { declaration } = verdict.known;
  const value = ownValue(verdict.known, settings);
  const known = value === undefined || declaration.sensitive ? name : `${name}=${format(declaration, value)}`;
  return declaration.readAtRunTime ? `${known}, which the gateway reads at run time` : known;
}

const format = ({ type }: Declaration, value: unknown): string => nameWithoutKeys(type.format(value));

/** The effective value as text; for a secret its reference in the outputs; without a value the default in words. */
function valueText({ name, declaration }: KnownName, value: unknown, { values }: Settings): string {
  if (value === undefined) return defaultText(declaration);
  // An empty list formats as the empty string.
  if (!(value instanceof Secret)) return format(declaration, value) || 'none';
  const [first] = declaration.output;
  if (first === undefined || value.variable !== name) return 'a secret that is not written into any file';
  const secret = new ModelSecret(value, values.GATEWAY_SECRETS);
  if (secret.form.kind === 'inline') return 'the value, inline';
  return (first.startsWith('otel-collector.yaml: ') ? COLLECTOR : APISIX).secret(secret);
}
