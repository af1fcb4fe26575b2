/** From raw variables to typed settings. Never throws, and reports everything there is to say about single values. */
import { type Diagnostic, diagnostic, type Source } from '../diagnostics/diagnostic.ts';
import type { Declaration } from './declaration.ts';
import {
  type BackendValues,
  backendFields,
  type ClientValues,
  clientFields,
  type GroupName,
  type PlainValues,
  plainSettings,
} from './declarations/index.ts';
import { type KnownName, resolveName } from './names.ts';
import { Secret } from './secret.ts';
import type { RawSettings, RawValue } from './sources.ts';

/** Typed settings. Frozen; sensitive values are `Secret`s. */
export interface Settings {
  readonly values: PlainValues;
  /** In the order of their index. */
  readonly backends: readonly BackendValues[];
  readonly clients: readonly ClientValues[];
  /** Where each setting that was given came from, by variable name; what is not here has its default. */
  readonly sources: ReadonlyMap<string, Source>;
  /** Which of those were given but cannot be used; they have their default too. */
  readonly unusable: ReadonlySet<string>;
}

export interface ParseResult {
  readonly settings: Settings;
  readonly diagnostics: readonly Diagnostic[];
}

interface Given extends RawValue {
  readonly known: KnownName;
  /** The variable as written: `NAME` or `NAME_FILE`. */
  readonly variable: string;
}

/** Types every variable that is a setting; what cannot be used is reported and counts as unset. */
export function parseSettings(raw: RawSettings): ParseResult {
  const diagnostics: Diagnostic[] = [...raw.diagnostics];
  const sources = new Map<string, Source>();
  const inline = raw.variables.get('GATEWAY_SECRETS')?.value.trim().toLowerCase() === 'inline';
  const given = collect(raw, inline, sources, diagnostics);

  const plain: Record<string, unknown> = {};
  const indexed: Record<GroupName, Map<number, Record<string, unknown>>> = {
    backends: new Map(),
    clients: new Map(),
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
      sources,
      unusable,
    }),
    diagnostics,
  };
}

function inOrder<T>(
  fields: Readonly<Record<string, unknown>>,
  group: Map<number, Record<string, unknown>>,
): readonly T[] {
  return [...group]
    .sort(([a], [b]) => a - b)
    .map(([index, given]) => withDefaults<T>(fields, { ...given, index }));
}

/** The declarations give the type T its keys, so that T is what their defaults and the given values make together. */
function withDefaults<T>(declarations: Readonly<Record<string, unknown>>, given: Record<string, unknown>): T {
  const values: Record<string, unknown> = { ...given };
  for (const name in declarations) {
    if (!(name in values)) values[name] = (declarations[name] as Declaration).default;
  }
  return Object.freeze(values) as T;
}

/** The variables that are settings, by setting. Reports on the names of the others. */
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
    // The value of a name that is not declared may be a secret: it is never shown.
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
        // The gateway reads it too, in a folder of its own.
        const usable = inline || !hasPath || SECRET_PATH.test(value.trim());
        if (!usable) diagnostics.push(diagnostic('SECRET_FILE_PATH', place, {}));
        if (content && usable) given.set(name, { ...content, variable, known: verdict.known });
        // A file that cannot be read was reported; that its setting is missing would be said on top of that.
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
        break;
    }
  }
  return given;
}

/** Absolute, without a way up, and without what APISIX and the collector would expand. As in apisix/secret/file.lua. */
const SECRET_PATH = /^(?!.*\/\.\.(?:\/|$))\/[^\p{Cc}${}]{1,4095}$/u;

const EMPTY = Symbol('empty');
const INVALID = Symbol('invalid');

/** The rules that hold for every setting, then those of its type. */
function parseValue(name: string, given: Given, inline: boolean, diagnostics: Diagnostic[]): unknown {
  const { declaration } = given.known;
  const value = given.value.trim();
  const place = { setting: given.variable, source: given.source };
  const invalid = (finding: Diagnostic): typeof INVALID => {
    diagnostics.push(finding);
    return INVALID;
  };
  if (value === '') return declaration.sensitive ? invalid(diagnostic('BLANK_SECRET', place, {})) : EMPTY;
  if (hasLineBreak(value)) return invalid(diagnostic('CONTROL_CHARACTER', place, {}));
  if (/^(["'`]).*\1$/.test(value) && value.length > 1)
    return invalid(diagnostic('WRAPPED_IN_QUOTES', place, {}));
  if (/^\$(?:env|secret):\/\//i.test(value)) return invalid(diagnostic('REFERENCE_IN_VALUE', place, {}));
  if (value.includes('${{') && (inline || !declaration.sensitive)) {
    return invalid(diagnostic('TEMPLATE_IN_VALUE', place, {}));
  }
  const { ambiguous } = given;
  if (ambiguous === 'always' || (ambiguous === 'for-secrets' && declaration.sensitive)) {
    return invalid(diagnostic('ENV_FILE_VALUE_AMBIGUOUS', place, {}));
  }
  if (declaration.sensitive) {
    if (!inline && value !== given.value) return invalid(diagnostic('SECRET_SURROUNDED_BY_SPACE', place, {}));
  }
  const parsed = declaration.type.parse(value);
  if ('issue' in parsed) {
    const { issue } = parsed;
    return invalid(
      diagnostic(
        'INVALID_VALUE',
        { ...place, received: declaration.sensitive ? undefined : value },
        {
          expected: declaration.type.expected,
          example: declaration.example,
          ...(issue === undefined || declaration.sensitive ? {} : { issue }),
        },
      ),
    );
  }
  if (declaration.sensitive && given.quoted && !inline)
    diagnostics.push(diagnostic('SECRET_QUOTED', place, {}));
  reportHistory(name, declaration, value, parsed.value, place, diagnostics);
  return declaration.sensitive
    ? new Secret(
        name,
        parsed.value as string,
        given.source.kind === 'secret-file' ? given.source.path : undefined,
      )
    : parsed.value;
}

function hasLineBreak(value: string): boolean {
  return value.includes('\0') || value.includes('\n') || value.includes('\r');
}

/** What a user of the accelerator needs to know about a setting that was given. */
function reportHistory(
  name: string,
  declaration: Declaration,
  value: string,
  parsed: unknown,
  place: { setting: string; source: Source },
  diagnostics: Diagnostic[],
): void {
  const { replacedBy, replacedValues, changed } = declaration;
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
  // Turning off what was off before changes nothing.
  if (changed !== undefined && parsed !== false)
    diagnostics.push(diagnostic('CHANGED_MEANING', { setting: name, source: place.source }, { changed }));
}
