/** Maps the name of a variable to its setting, and suggests a setting for an unknown name. */
import { editLimit, edits, nearestOf } from '../diagnostics/nearest.ts';
import type { Declaration } from './declaration.ts';
import {
  type GroupName,
  indexedGroups,
  listSettings,
  type PlainName,
  plainSettings,
} from './declarations/index.ts';
import { type Meant, meantBy, splitIndex } from './synonyms.ts';

const MAX_INDEX = 9999;

export type KnownName =
  | { readonly kind: 'plain'; readonly name: PlainName; readonly declaration: Declaration }
  | {
      readonly kind: 'indexed';
      readonly group: GroupName;
      readonly field: string;
      readonly index: number;
      readonly name: string;
      readonly declaration: Declaration;
    };

export type NameVerdict =
  | { readonly is: 'setting'; readonly known: KnownName }
  /** `NAME_FILE` of a sensitive setting. */
  | { readonly is: 'secret-file'; readonly known: KnownName }
  /** `NAME_FILE` of a secret that the gateway reads only from its own environment. */
  | { readonly is: 'no-secret-file'; readonly known: KnownName }
  | { readonly is: 'wrong-case'; readonly declared: string }
  | { readonly is: 'wrong-index'; readonly canonical: string | undefined }
  | { readonly is: 'unknown'; readonly nearest: string | undefined; readonly note?: string }
  | { readonly is: 'foreign' };

/** Unknown names with these prefixes are reported. */
const OUR_PREFIXES =
  /^(?:AZURE_OPENAI_|GATEWAY_|AI_PROXY_|AI_RATE_LIMIT_|CACHE_|RATE_LIMIT_|QUOTA_|LB_|CORS_|IP_WHITE|IP_BLACK|OIDC_|RESPONSES_AFFINITY_|APIM_GATEWAY_|PROMETHEUS_|ENABLE_|APISIX_ACTIVE_)/;

/** Names with our prefixes that belong to other software: SDKs, the platform, Prometheus and OpenTelemetry. */
const FOREIGN = new Set([
  'AZURE_OPENAI_API_KEY',
  'AZURE_OPENAI_AD_TOKEN',
  'AZURE_OPENAI_API_VERSION',
  'AZURE_OPENAI_ENDPOINT',
  'AZURE_OPENAI_DEPLOYMENT',
  'AZURE_OPENAI_DEPLOYMENT_NAME',
  'AZURE_OPENAI_CHAT_DEPLOYMENT_NAME',
  'AZURE_OPENAI_EMBEDDING_DEPLOYMENT_NAME',
  'ENABLE_ORYX_BUILD',
  'GATEWAY_INTERFACE',
  'PROMETHEUS_MULTIPROC_DIR',
]);

/** Variables that Kubernetes sets for services named gateway or prometheus. */
const SERVICE_LINK =
  /^[A-Z_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP)(?:_\w+)?)$|^(?:GATEWAY|PROMETHEUS)_PORT$/;
/** Kubernetes writes `tcp://10.0.0.1:80`, people write a number. */
const OWN_PORT = /^\d+$/;

const KNOWN_FIELDS = Object.entries(indexedGroups).map(([group, { prefix, fields }]) => ({
  group: group as GroupName,
  prefix,
  fields: fields as Readonly<Record<string, Declaration>>,
}));

/** `FIELD` and `N` of an indexed name, with N as written: `1`, `01`, `+1`. */
const INDEXED = /^([A-Z][A-Z_]*[A-Z])_([+-]?\d+)$/;

function findExact(name: string): KnownName | { readonly canonical: string | undefined } | undefined {
  if (Object.hasOwn(plainSettings, name)) {
    return {
      kind: 'plain',
      name: name as PlainName,
      declaration: plainSettings[name as PlainName] as Declaration,
    };
  }
  for (const { group, prefix, fields } of KNOWN_FIELDS) {
    if (!name.startsWith(prefix)) continue;
    const [, field = '', digits = ''] = INDEXED.exec(name.slice(prefix.length)) ?? [];
    if (!Object.hasOwn(fields, field)) continue;
    const index = Number(digits);
    const inRange = index >= 0 && index <= MAX_INDEX;
    if (!inRange || String(index) !== digits) {
      return { canonical: inRange ? `${prefix}${field}_${Math.abs(index)}` : undefined };
    }
    return { kind: 'indexed', group, field, index, name, declaration: fields[field] as Declaration };
  }
  return undefined;
}

/** Classifies the name of a variable. Fast for foreign names, which are the majority of an environment. */
export function resolveName(name: string): NameVerdict {
  const exact = findExact(name);
  if (exact) {
    return 'kind' in exact
      ? { is: 'setting', known: exact }
      : { is: 'wrong-index', canonical: exact.canonical };
  }
  if (name.endsWith('_FILE')) {
    const base = findExact(name.slice(0, -'_FILE'.length));
    if (base && !('kind' in base)) {
      return { is: 'wrong-index', canonical: base.canonical && `${base.canonical}_FILE` };
    }
    if (base) {
      if (base.declaration.readAtRunTime && base.declaration.sensitive)
        return { is: 'no-secret-file', known: base };
      if (base.declaration.readAtRunTime)
        return {
          is: 'unknown',
          nearest: base.name,
          note: `the gateway reads ${base.name} at run time`,
        };
      if (base.declaration.sensitive) return { is: 'secret-file', known: base };
      return { is: 'unknown', nearest: base.name, note: 'only secrets can be set by a file' };
    }
  }
  const upper = name.toUpperCase();
  if (upper !== name) {
    const inUpperCase = resolveName(upper).is;
    return inUpperCase === 'setting' || inUpperCase === 'secret-file'
      ? { is: 'wrong-case', declared: upper }
      : { is: 'foreign' };
  }
  if (!OUR_PREFIXES.test(name) || FOREIGN.has(name) || SERVICE_LINK.test(name)) return { is: 'foreign' };
  return { is: 'unknown', ...probablyMeant(name) };
}

/** Longer names cannot be a misspelling of ours, and would be slow to compare. */
const MAX_NAME_LENGTH = 80;

/** A suggestion for an unknown name: by its meaning, else by its spelling. */
function probablyMeant(name: string): Meant {
  if (name.length > MAX_NAME_LENGTH) return { nearest: undefined };
  return meantBy(name) ?? { nearest: nearestSpelling(name) };
}

/** The declared name that was probably meant, by its meaning or else its spelling, with the same index. */
export const nearestName = (name: string): string | undefined => probablyMeant(name).nearest;

/**
 * The same for names without our prefixes, which may belong to other software: only known synonyms and near-identical
 * spellings.
 */
export function meantByForeign(name: string, value: string): Meant | undefined {
  if (name.length > MAX_NAME_LENGTH || (SERVICE_LINK.test(name) && !OWN_PORT.test(value.trim())))
    return undefined;
  const meant = meantBy(name);
  if (meant) return meant;
  const nearest = closestDeclared(name);
  return nearest === undefined ? undefined : { nearest };
}

function nearestSpelling(name: string): string | undefined {
  const ofGroup = nearestField(name);
  if (ofGroup !== undefined) return ofGroup.nearest;
  const { stem, index } = splitIndex(name);
  return nearestOf(index === undefined ? [name] : [`${stem}_${index}`, name], candidates(index));
}

/**
 * Compares a field only with the fields of its group. Indexed names share long prefixes, so whole names would all be
 * similar. Undefined if the name is not of a group.
 */
function nearestField(name: string): { readonly nearest: string | undefined } | undefined {
  const { stem, index } = splitIndex(name);
  if (index === undefined) return undefined;
  const group = KNOWN_FIELDS.find(({ prefix }) => stem.startsWith(prefix));
  if (!group) return undefined;
  const written = stem.slice(group.prefix.length);
  const [best] = Object.keys(group.fields)
    .map((field) => ({ field, distance: edits(written, field) }))
    .filter(({ field, distance }) => distance <= editLimit(field))
    .sort((a, b) => a.distance - b.distance);
  return { nearest: best && `${group.prefix}${best.field}_${index}` };
}

/** A declared name with nearly the same spelling, for names that may not be meant as settings. */
function closestDeclared(name: string): string | undefined {
  const { stem, index } = splitIndex(name);
  const spelling = index === undefined ? name : `${stem}_${index}`;
  const squeezed = spelling.replaceAll('_', '');
  return candidates(index).find(
    (each) => each.length > 8 && (each.replaceAll('_', '') === squeezed || edits(spelling, each) <= 1),
  );
}

function candidates(index: string | undefined): string[] {
  declaredNames ??= listSettings().map((listed) => listed.name);
  return declaredNames.map((each) => (each.endsWith('_N') ? each.slice(0, -1) + (index ?? '0') : each));
}

let declaredNames: string[] | undefined;

/** The values of all variables that are settings. */
export const settingValues = (variables: ReadonlyMap<string, { readonly value: string }>): string[] =>
  [...variables].flatMap(([name, { value }]) => (resolveName(name).is === 'setting' ? [value] : []));
