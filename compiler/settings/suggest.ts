/** Suggests a valid value for an invalid one. Pure; suggestions are only shown, never applied. */
import { editLimit, edits } from '../diagnostics/nearest.ts';

/** Words with the same meaning, without separators. A word can be on several lines. */
const MEANINGS: readonly string[] = [
  'true y t enabled enable active activated ja oui si positive',
  'false n f disabled disable inactive deactivated none never null nein non negative',
  'entra aad azuread ad entraid microsoftentra microsoftentraid managedidentity msi mi uami systemassigned userassigned systemassignedidentity userassignedidentity systemassignedmanagedidentity userassignedmanagedidentity identity azureidentity workloadidentity workload federated oauth oauth2 token accesstoken bearer bearertoken rbac keyless passwordless defaultazurecredential azurecredential default serviceprincipal spn azureadtoken azuread2',
  'apikey key keys subscriptionkey ocpapimsubscriptionkey static secret sharedkey accesskey azure',
  'roundrobin rr weighted weightedroundrobin wrr random weightedrandom simpleshuffle shuffle even uniform spread equal priority weight weights usage usagebased usagebasedrouting',
  'chash hash hashing consistenthash consistenthashing consistent sticky session sessions sessionaffinity iphash sourceip ketama affinity maglev ringhash ring',
  'latency fastest leastlatency lowestlatency leastconn leastconnection leastconnections leastrequest leastrequests leasttime leastbusy leastloaded leastoutstanding latencybased latencybasedrouting ewma peakewma performance responsetime quickest speed p2c fast',
  'warn warning warnings wrn',
  'error err errors eror',
  'crit critical fatal severe',
  'emerg emergency panic off none silent',
  'debug trace verbose finest silly all dbg',
  'info information informational inf normal default',
  'prod production live prd productive',
  'dev development develop developer local sandbox',
  'test testing tests staging stage stg qa uat int integration preprod nonprod',
  'consumer user client tenant apikey key account subscription caller',
  'client user consumer tenant apikey key account subscription caller perclient peruser',
  'ip address remoteaddr clientip sourceip ipaddress remoteaddress xforwardedfor addr perip',
  'vars var variable variables ip address remoteaddr clientip sourceip ipaddress remoteaddress addr uri url path host',
  'varscombinations varscombination variablescombination combination multiple',
  'header headers httpheader',
  'cookie cookies',
  'gateway global all everyone shared total service whole instance',
  'redis rediscluster remote distributed shared cluster redissentinel',
  'local memory inmemory node process pod single worker',
  'totaltokens total tokens token all totaltoken sum tpm',
  'req request requests rpm count calls rps',
  'prompttokens prompt input inputtokens in inputs',
  'completiontokens completion output outputtokens out outputs completions',
  'high interactive realtime urgent premium important top highest critical fast normal default',
  'low batch background bulk besteffort lowest standard slow',
  'reference ref references env environment variable variables envvar external secret keyvault vault',
  'inline value values literal plain plaintext embedded raw',
  'json structured jsonl ndjson jsonlines',
  'text plain console human logfmt pretty txt',
  'http plaintext notls',
  'https tls ssl secure',
  'http429 429 ratelimit ratelimited ratelimiting toomanyrequests throttled throttling throttle',
  'http5xx 5xx servererror servererrors 500 503 server',
];

const squeeze = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');

/** The word that a text stands for: by its spelling without separators, by its meaning, or with a few wrong letters. */
export function wordLike(text: string, words: readonly string[]): string | undefined {
  const written = squeeze(text);
  if (written === '' || text.length > 64) return undefined;
  const same = words.find((word) => squeeze(word) === written);
  if (same !== undefined) return same;
  const of = (word: string) =>
    words.find((each) => MEANINGS.some((line) => has(line, squeeze(each)) && has(line, word)));
  const meant = of(written);
  if (meant !== undefined) return meant;
  const [nearest] = words
    .map((word) => ({ word, distance: edits(written, squeeze(word)) }))
    .filter(({ word, distance }) => word.length > 2 && distance <= editLimit(word))
    .sort((a, b) => a.distance - b.distance);
  return nearest?.word;
}

const has = (line: string, word: string) => ` ${line} `.includes(` ${word} `);

const FACTORS: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, g: 1e9, b: 1e9 };

/** Accepts `10_000`, `10,000`, `20k`, `1.5M`, `1e6`, `10.0`, `007`, `+5`, `5 tokens`. */
export function wholeNumberLike(text: string): string | undefined {
  const plain = text
    .trim()
    .replace(/^\+/, '')
    .replace(/(\d)[_' ](?=\d{3}\b)/g, '$1')
    .replace(/(\d),(?=\d{3}(?:\D|$))/g, '$1');
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*([a-z%/ ]*)$/i.exec(plain) ?? [];
  if (digits === '') return undefined;
  const factor = unit === '' ? 1 : /^[kmgb]$/i.test(unit) ? FACTORS[unit.toLowerCase()] : 1;
  const number = Number(digits) * (factor ?? 1);
  return Number.isSafeInteger(number) ? String(number) : undefined;
}

/** Accepts `0,5`, `.5`, `10%`, `1e-2`. */
export function decimalLike(text: string, isShare: boolean): string | undefined {
  const [, number = '', percent] = /^\+?(\d*[.,]?\d+(?:e-?\d{1,2})?)\s*(%)?$/i.exec(text.trim()) ?? [];
  if (number === '') return undefined;
  const value = Number(number.replace(',', '.')) / (percent === undefined ? 1 : 100);
  const written = Number.isFinite(value) ? value.toFixed(12).replace(/\.?0+$/, '') : '';
  if (written === '') return undefined;
  // A share of 2 or more is meant as a percentage.
  return isShare && percent === undefined && value >= 2 && value <= 100
    ? decimalLike(`${text}%`, true)
    : written;
}

const MILLISECONDS: readonly (readonly [RegExp, number])[] = [
  [/^(?:ms|msecs?|millis?|milliseconds?)$/i, 1],
  [/^(?:s|secs?|seconds?)?$/i, 1_000],
  [/^(?:m|mins?|minutes?)$/i, 60_000],
  [/^(?:h|hrs?|hours?)$/i, 3_600_000],
  [/^(?:d|days?)$/i, 86_400_000],
];

/**
 * Accepts `10sec`, `1h30m`, `1.5s`, `5 minutes`, `PT30S`, `00:05:00`.
 * @returns milliseconds
 */
export function millisecondsLike(text: string): number | undefined {
  const clock = /^(\d{1,2}):(\d{2}):(\d{2})$/.exec(text.trim());
  if (clock) return (Number(clock[1]) * 3600 + Number(clock[2]) * 60 + Number(clock[3])) * 1000;
  const plain = text.trim().replace(/^PT?(?=\d)/i, '');
  if (!/^(?:\d+(?:\.\d+)?\s*[a-z]*\s*)+$/i.test(plain) || plain.length > 40) return undefined;
  let total = 0;
  for (const [, digits = '', unit = ''] of plain.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]*)/gi)) {
    const factor = MILLISECONDS.find(([pattern]) => pattern.test(unit))?.[1];
    if (factor === undefined) return undefined;
    total += Number(digits) * factor;
  }
  return Number.isSafeInteger(Math.round(total)) ? Math.round(total) : undefined;
}

const BYTES: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/**
 * Accepts `100MB`, `1 GiB`, `512 KB`, `1.5g`.
 * @returns bytes
 */
export function bytesLike(text: string): number | undefined {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b|ytes?)?$/i.exec(text.trim()) ?? [];
  if (digits === '') return undefined;
  return Math.round(Number(digits) * (BYTES[unit.toLowerCase()] ?? 1));
}

/** The items of a list with wrong separators, in JSON, or with empty or repeated items. */
export function partsLike(text: string): string[] {
  const parts = text
    .replace(/^\[(.*)\]$/s, '$1')
    .split(/[,;\s|]+/)
    .map((each) => each.replace(/^(["'])(.*)\1$/, '$2'))
    .filter((each) => each !== '');
  return [...new Set(parts)];
}

/** Host and port of a URL such as `redis://redis.internal:6379/0`. */
export function hostLike(
  text: string,
): { readonly host: string; readonly port: string | undefined } | undefined {
  const bare = text
    .trim()
    .replace(/^[a-z][a-z0-9+.-]*:\/\//i, '')
    .replace(/[/?#].*$/s, '')
    .replace(/^[^@]*@/, '');
  const [, host = '', port] = /^(\[[0-9A-Fa-f:.]+\]|[^:\s]+)(?::(\d{1,5}))?$/.exec(bare) ?? [];
  return host === '' ? undefined : { host, port };
}

/** Replaces all characters that are not allowed in names by hyphens, and removes accents and invisible characters. */
export const nameLike = (text: string): string =>
  text
    .normalize('NFKD')
    .replace(/[\p{M}\p{Cf}]/gu, '')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^-+|-+$/g, '');

/** The first invisible character, typographic quote or dash of a text, none of which is typed into a secret. */
export const strayCharacter = (text: string): string | undefined =>
  unusualCharacter(text.replace(/[^\p{Cf}\p{Z}\p{Pi}\p{Pf}\p{Pd}„‚\ufffd]|[ -~]/gu, ''));

/** The first invisible or non-ASCII character of a text, as `U+200B` or `é (U+00E9)`. */
export function unusualCharacter(text: string): string | undefined {
  for (const each of text) {
    const code = each.codePointAt(0) ?? 0;
    if (code >= 0x20 && code < 0x7f) continue;
    const name = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
    return /[\p{C}\p{Z}\p{M}]/u.test(each) ? name : `${each} (${name})`;
  }
  return undefined;
}
