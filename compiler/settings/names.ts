/** Which setting a variable's name means, and what a name that means none was probably meant to be. */
import { nearestOf } from '../diagnostics/nearest.ts';
import type { Declaration } from './declaration.ts';
import {
  type GroupName,
  indexedGroups,
  listSettings,
  type PlainName,
  plainSettings,
} from './declarations/index.ts';

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
  /** `NAME_FILE` of a secret that the gateway reads from its own environment. */
  | { readonly is: 'no-secret-file'; readonly known: KnownName }
  | { readonly is: 'wrong-case'; readonly declared: string }
  | { readonly is: 'wrong-index'; readonly canonical: string | undefined }
  | { readonly is: 'unknown'; readonly nearest: string | undefined; readonly note?: string }
  | { readonly is: 'foreign' };

/** Names that begin like ours are reported when they are not declared. */
const OUR_PREFIXES =
  /^(?:AZURE_OPENAI_|GATEWAY_|AI_PROXY_|AI_RATE_LIMIT_|RATE_LIMIT_|QUOTA_|LB_|CORS_|IP_WHITE|IP_BLACK|OIDC_|RESPONSES_AFFINITY_|APIM_GATEWAY_|PROMETHEUS_|ENABLE_|APISIX_ACTIVE_)/;

/** Names that others own although they begin like ours: SDKs, the platform, Prometheus and OpenTelemetry themselves. */
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

/** What Kubernetes sets for services named gateway or prometheus. */
const SERVICE_LINK =
  /^[A-Z_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP)(?:_\w+)?)$|^(?:GATEWAY|PROMETHEUS)_PORT$/;

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

/** Says what a variable's name means. Cheap for names that are not ours: most of an environment is not. */
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
          note: `the gateway itself reads ${base.name} when it runs`,
        };
      if (base.declaration.sensitive) return { is: 'secret-file', known: base };
      return { is: 'unknown', nearest: base.name, note: 'only secrets can be given as a file' };
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
  return { is: 'unknown', nearest: nearestName(name) };
}

/** Longer than any name of ours could be misspelt, and short enough to compare. */
const MAX_NAME_LENGTH = 80;

/** The declared name that a name was probably meant to be, with the index that was written. */
export function nearestName(name: string): string | undefined {
  if (name.length > MAX_NAME_LENGTH) return undefined;
  const [, stem = name, index = ''] = /^(.*?)_?(\d+)$/.exec(name) ?? [];
  declaredNames ??= listSettings().map((listed) => listed.name);
  const candidates = declaredNames.map((each) =>
    each.endsWith('_N') ? each.slice(0, -1) + (index || '0') : each,
  );
  return nearestOf(index ? [`${stem}_${index}`, name] : [name], candidates);
}

let declaredNames: string[] | undefined;
