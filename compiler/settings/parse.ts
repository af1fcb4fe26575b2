/** Parses raw variables into typed settings. Never throws, and reports all problems of single values. */
import { type Diagnostic, diagnostic, type Source } from '../diagnostics/diagnostic.ts';
import { looksLikeKey, MASK } from '../diagnostics/keys.ts';
import type { Declaration } from './declaration.ts';
import {
  type BackendValues,
  backendFields,
  type ClientValues,
  clientFields,
  type GroupName,
  indexedGroups,
  type PlainValues,
  type PoolValues,
  plainSettings,
  poolFields,
} from './declarations/index.ts';
import { type KnownName, meantByForeign, resolveName } from './names.ts';
import { Secret } from './secret.ts';
import type { RawSettings, RawValue } from './sources.ts';
import { strayCharacter } from './suggest.ts';
import { isEndpointName } from './synonyms.ts';

/** Typed settings. Frozen; sensitive values are `Secret`s. */
export interface Settings {
  readonly values: PlainValues;
  /** In the order of their indexes. */
  readonly backends: readonly BackendValues[];
  readonly clients: readonly ClientValues[];
  readonly pools: readonly PoolValues[];
  /** The source of each given setting, by variable name. A setting that is not in it has its default. */
  readonly sources: ReadonlyMap<string, Source>;
  /** Settings that were given but are invalid; they have their default too. */
  readonly unusable: ReadonlySet<string>;
}

export interface ParseResult {
  readonly settings: Settings;
  readonly diagnostics: readonly Diagnostic[];
}

interface Given extends RawValue {
  readonly known: KnownName;
  /** The name of the variable: `NAME` or `NAME_FILE`. */
  readonly variable: string;
}

/** Parses every variable that is a setting. An invalid value is reported and counts as unset. */
export function parseSettings(raw: RawSettings): ParseResult {
  const diagnostics: Diagnostic[] = [...raw.diagnostics];
  const sources = new Map<string, Source>();
  const inline = writesInline(raw);
  const given = withoutEmptyGroups(collect(raw, inline, sources, diagnostics), diagnostics);

  const plain: Record<string, unknown> = {};
  const indexed: Record<GroupName, Map<number, Record<string, unknown>>> = {
    backends: new Map(),
    clients: new Map(),
    pools: new Map(),
  };
  const unusable = new Set<string>(sources.keys());
  for (const [name, each] of given) {
    const value = parseValue(name, each, inline, diagnostics);
    if (value === EMPTY) continue;
    sources.set(name, each.source);
    if (value === INVALID) unusable.add(name);
    if (each.known.kind === 'plain') {
      if (value !== INVALID) plain[name] = value;
      continue;
    }
    const { group, index, field } = each.known;
    const fields = indexed[group].get(index) ?? {};
    indexed[group].set(index, fields);
    if (value !== INVALID) fields[field] = value;
  }
  return {
    settings: Object.freeze({
      values: withDefaults<PlainValues>(plainSettings, plain),
      backends: inOrder<BackendValues>(backendFields, indexed.backends),
      clients: inOrder<ClientValues>(clientFields, indexed.clients),
      pools: inOrder<PoolValues>(poolFields, indexed.pools),
      sources,
      unusable,
    }),
    diagnostics,
  };
}

/**
 * Whether rendered files will contain secrets. It is read first, because it changes which secrets and paths are valid.
 */
export function writesInline({ variables }: RawSettings): boolean {
  const given = variables.get('GATEWAY_SECRETS')?.value.trim() ?? '';
  const parsed = plainSettings.GATEWAY_SECRETS.type.parse(given);
  return 'value' in parsed && parsed.value === 'inline';
}

/** A backend without any settings. */
export const emptyBackend = (index: number): BackendValues =>
  withDefaults<BackendValues>(backendFields, { index });

/** A pool without any settings. */
export const emptyPool = (index: number): PoolValues => withDefaults<PoolValues>(poolFields, { index });

function inOrder<T>(
  fields: Readonly<Record<string, unknown>>,
  group: Map<number, Record<string, unknown>>,
): readonly T[] {
  return [...group]
    .sort(([a], [b]) => a - b)
    .map(([index, given]) => withDefaults<T>(fields, { ...given, index }));
}

/** The given values with defaults. The caller guarantees that T has the keys of the declarations. */
function withDefaults<T>(declarations: Readonly<Record<string, unknown>>, given: Record<string, unknown>): T {
  const values: Record<string, unknown> = { ...given };
  for (const name in declarations) {
    if (!(name in values)) values[name] = (declarations[name] as Declaration).default;
  }
  return Object.freeze(values) as T;
}

/** The field, in addition to the key, that a group must have. */
const ANCHORS: Readonly<Record<GroupName, string>> = {
  backends: 'ENDPOINT',
  clients: 'NAME',
  pools: 'NAME',
};

const WHAT = { backends: 'backend', clients: 'client', pools: 'pool' } as const;

/**
 * Templates often set the variables of optional backends and clients to empty values. A group whose anchor and key are
 * empty is ignored. If there is an endpoint or a name, an empty key is an error.
 */
function withoutEmptyGroups(given: Map<string, Given>, diagnostics: Diagnostic[]): Map<string, Given> {
  const isEmpty = ({ value }: Given) => value.trim() === '';
  const groups = new Map<string, Given[]>();
  for (const each of given.values()) {
    if (each.known.kind !== 'indexed') continue;
    const id = `${each.known.group} ${each.known.index}`;
    const members = groups.get(id);
    if (members) members.push(each);
    else groups.set(id, [each]);
  }
  const left = new Map(given);
  for (const members of groups.values()) {
    const known = members[0]?.known;
    if (known?.kind !== 'indexed' || !members.some(isEmpty)) continue;
    const field = (name: string) =>
      members.find((each) => each.known.kind === 'indexed' && each.known.field === name);
    const anchor = field(ANCHORS[known.group]);
    const key = field('KEY');
    // A group without the variable of its anchor is left out only if all its variables are empty.
    const first = anchor ?? (members.every(isEmpty) ? key : undefined);
    if (!first || !isEmpty(first) || (key && !isEmpty(key))) continue;
    const ignored = members.filter((each) => each !== anchor && each !== key && !isEmpty(each));
    for (const each of members) left.delete(each.known.name);
    // A single empty endpoint or name counts as unset.
    if (!key && ignored.length === 0) continue;
    const args = {
      what: WHAT[known.group],
      index: known.index,
      empty: [anchor, key].flatMap((each) => each?.variable ?? []),
      ignored: ignored.map(({ variable }) => variable),
    };
    diagnostics.push(diagnostic('EMPTY_GROUP', { setting: first.variable, source: first.source }, args));
  }
  return left;
}

/** The variables that are settings, by setting. Reports the names of the others. */
function collect(
  raw: RawSettings,
  inline: boolean,
  sources: Map<string, Source>,
  diagnostics: Diagnostic[],
): Map<string, Given> {
  const given = new Map<string, Given>();
  for (const [variable, each] of raw.variables) {
    const { value, source } = each;
    const verdict = resolveName(variable);
    // The value of an unknown name may be a secret, so it is never shown.
    const place = { setting: variable, source };
    switch (verdict.is) {
      case 'setting':
        if (raw.secretFiles.has(variable) && value.trim() !== '') {
          diagnostics.push(diagnostic('SECRET_GIVEN_TWICE', place, { file: `${variable}_FILE` }));
        }
        given.set(variable, { ...each, variable, known: verdict.known });
        break;
      case 'secret-file': {
        const { name } = verdict.known;
        const content = raw.secretFiles.get(name);
        if (raw.variables.has(name)) break;
        const hasPath = value.trim() !== '';
        // The gateway reads the file too, from its own working folder, so the path must be absolute.
        const usable = inline || !hasPath || SECRET_PATH.test(value.trim());
        if (!usable) diagnostics.push(diagnostic('SECRET_FILE_PATH', place, {}));
        if (content && usable) given.set(name, { ...content, variable, known: verdict.known });
        // The unreadable file was reported. The setting counts as given, so that it is not reported as missing too.
        else if (hasPath) sources.set(name, source);
        break;
      }
      case 'no-secret-file':
        diagnostics.push(diagnostic('SECRET_FILE_REFUSED', place, { variable: verdict.known.name }));
        break;
      case 'wrong-case':
        diagnostics.push(diagnostic('WRONG_CASE', place, { declared: verdict.declared }));
        break;
      case 'wrong-index':
        diagnostics.push(diagnostic('NON_CANONICAL_INDEX', place, { canonical: verdict.canonical }));
        break;
      case 'unknown':
        diagnostics.push(
          diagnostic('UNKNOWN_SETTING', place, { nearest: verdict.nearest, note: verdict.note }),
        );
        break;
      case 'foreign':
        if (source.kind === 'file') reportForeign(variable, each, raw, diagnostics);
        break;
    }
  }
  return given;
}

/**
 * Reports names in an env file that other software uses for one of our settings, unless that setting is given too: the
 * env file may be shared with an application.
 */
function reportForeign(
  variable: string,
  { value, source }: RawValue,
  { variables }: RawSettings,
  diagnostics: Diagnostic[],
): void {
  const { nearest, note } = meantByForeign(variable, value) ?? {};
  if (nearest === undefined) {
    // Of names without a setting, only these are certainly meant for the gateway.
    if (note !== undefined && /^(?:GATEWAY|APISIX)_/.test(variable))
      diagnostics.push(diagnostic('NOT_A_SETTING', { setting: variable, source }, { note }));
    return;
  }
  // NO_BACKEND will mention this name.
  if (
    isEndpointName(variable) &&
    ![...variables.keys()].some((name) => /^AZURE_OPENAI_[A-Z_]+_\d+/.test(name))
  )
    return;
  const stem = /^(.*_)\d+$/.exec(nearest)?.[1];
  const isThere = (name: string) => variables.has(name) || variables.has(`${name}_FILE`);
  const hasNoIndex = stem !== undefined && !/\d/.test(variable);
  if (isThere(nearest) || (hasNoIndex && [...variables.keys()].some((name) => isOf(stem, name)))) return;
  diagnostics.push(diagnostic('NOT_A_SETTING', { setting: variable, source }, { nearest }));
}

/** Whether a variable is the same field with any index, or shows that the group is used: a backend may have no key. */
function isOf(stem: string, name: string): boolean {
  const field = name.replace(/_FILE$/, '').replace(/\d+$/, '');
  return field === stem || (stem.startsWith('AZURE_OPENAI_') && field === 'AZURE_OPENAI_ENDPOINT_');
}

/**
 * An absolute path without `..`, and without characters that APISIX and the collector would expand. The same rule is in
 * apisix/secret/file.lua.
 */
const SECRET_PATH = /^(?!.*\/\.\.(?:\/|$))\/[^\p{Cc}${}]{1,4095}$/u;

const EMPTY = Symbol('empty');
const INVALID = Symbol('invalid');

/** Applies the rules for every setting, then parses the value by its type. */
function parseValue(name: string, given: Given, inline: boolean, diagnostics: Diagnostic[]): unknown {
  const { declaration } = given.known;
  const value = given.value.trim();
  const place = { setting: given.variable, source: given.source };
  const invalid = (problem: Diagnostic): typeof INVALID => {
    diagnostics.push(problem);
    return INVALID;
  };
  if (value === '') return declaration.sensitive ? invalid(diagnostic('BLANK_SECRET', place, {})) : EMPTY;
  const { ambiguous } = given;
  if (hasLineBreak(value)) {
    return invalid(
      ambiguous?.args.until === undefined
        ? diagnostic('CONTROL_CHARACTER', place, {})
        : diagnostic('ENV_FILE_VALUE_AMBIGUOUS', place, ambiguous.args),
    );
  }
  if (/^(["'`]).*\1$/.test(value) && value.length > 1)
    return invalid(diagnostic('WRAPPED_IN_QUOTES', place, {}));
  if (/^\$(?:env|secret):\/\//i.test(value)) return invalid(diagnostic('REFERENCE_IN_VALUE', place, {}));
  if (value.includes('${{') && (inline || !declaration.sensitive)) {
    return invalid(diagnostic('TEMPLATE_IN_VALUE', place, {}));
  }
  if (ambiguous && (declaration.sensitive || !ambiguous.isForSecretsOnly)) {
    return invalid(diagnostic('ENV_FILE_VALUE_AMBIGUOUS', place, ambiguous.args));
  }
  if (!declaration.sensitive && looksLikeKey(value) && !declaration.mayLookLikeKey?.test(value)) {
    const args = { expected: declaration.type.expected, belongs: settingForKey(given.known) };
    // The whole value is hidden: a separator inside a key would leave pieces that no longer look like a key.
    return invalid(diagnostic('LOOKS_LIKE_KEY', { ...place, received: MASK }, args));
  }
  if (declaration.sensitive) {
    if (
      /^(?:https?|wss?|rediss?):\/\/\S|^(?:[a-z0-9-]+\.)+azure\.(?:com|us|cn)(?::\d+)?(?:\/\S*)?$/i.test(
        value,
      )
    ) {
      const args = { expected: declaration.type.expected, belongs: settingForUrl(given.known) };
      return invalid(diagnostic('SECRET_IS_URL', place, args));
    }
    if (!inline && value !== given.value) return invalid(diagnostic('SECRET_SURROUNDED_BY_SPACE', place, {}));
  }
  const parsed = declaration.type.parse(value);
  if ('issue' in parsed) {
    const { expected } = declaration.type;
    const { example } = declaration;
    // A diagnostic about a secret shows nothing of it. An invisible character or a typographic quote is not part of it.
    if (declaration.sensitive) {
      const character = strayCharacter(value);
      const stray = character && {
        issue: `it contains ${character}, which is probably a mistake of copying`,
        fix: `set ${given.variable} again without this character`,
      };
      return invalid(diagnostic('INVALID_VALUE', place, { expected, example, ...stray }));
    }
    const { issue = parsed.issue, suggestion, fix } = declaration.type.mistake(value) ?? {};
    const received = { ...place, received: value };
    return invalid(diagnostic('INVALID_VALUE', received, { expected, example, issue, suggestion, fix }));
  }
  if (declaration.sensitive && given.padded && !inline)
    diagnostics.push(diagnostic('SECRET_PADDED', place, {}));
  if (declaration.sensitive && given.quoted && !inline)
    diagnostics.push(diagnostic('SECRET_QUOTED', place, {}));
  reportHistory(declaration, value, place, diagnostics);
  return declaration.sensitive
    ? new Secret(
        name,
        parsed.value as string,
        given.source.kind === 'secret-file' ? given.source.path : undefined,
      )
    : parsed.value;
}

/** The setting in which a misplaced key belongs. */
function settingForKey(known: KnownName): string | undefined {
  if (known.kind === 'indexed')
    return known.group === 'pools' ? undefined : `${indexedGroups[known.group].prefix}KEY_${known.index}`;
  const password = known.name.replace(/_REDIS_[A-Z_]+$/, '_REDIS_PASSWORD');
  return password !== known.name && Object.hasOwn(plainSettings, password) ? password : undefined;
}

/** The setting in which a misplaced URL belongs. */
function settingForUrl(known: KnownName): string | undefined {
  if (known.kind === 'indexed')
    return known.group === 'backends' ? `${indexedGroups.backends.prefix}ENDPOINT_${known.index}` : undefined;
  const host = known.name.replace(/_REDIS_PASSWORD$/, '_REDIS_HOST');
  return host === known.name ? undefined : host;
}

function hasLineBreak(value: string): boolean {
  return value.includes('\0') || value.includes('\n') || value.includes('\r');
}

/** Reports settings and values that are accepted only for compatibility. */
function reportHistory(
  declaration: Declaration,
  value: string,
  place: { setting: string; source: Source },
  diagnostics: Diagnostic[],
): void {
  const { replacedBy, replacedValues } = declaration;
  if (replacedBy !== undefined) diagnostics.push(diagnostic('REPLACED_SETTING', place, { replacedBy }));
  for (const [old, replacement] of Object.entries(replacedValues ?? {})) {
    if (
      value
        .toLowerCase()
        .split(/\s*,\s*/)
        .includes(old)
    ) {
      diagnostics.push(diagnostic('REPLACED_VALUE', place, { value: old, replacedBy: replacement }));
    }
  }
}
