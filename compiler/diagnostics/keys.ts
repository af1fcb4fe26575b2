/**
 * Detects texts that look like keys, and hides them. A key in a wrong place must not appear on a screen or in a log.
 * Pure.
 * The shapes: 32 or more hexadecimal digits (Azure's keys, `openssl rand -hex`), Azure's keys of 84 letters and digits,
 * base64 of 24 or more bytes in either alphabet, also percent-encoded, `sk-…` and similar prefixes, client secrets of
 * Entra, access keys of AWS, JSON Web Tokens. Host names do not match: they are words in one case, with dots and hyphens.
 */

/** `sk-`, `sk-proj-`, `sk_live_` and other prefixes of API keys. */
const PREFIXED =
  /\b(?:sk|pk|rk|gsk|xai|pplx|r8|hf|ghp|gho|ghs|glpat)[-_](?:[a-z]{2,8}[-_])?(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{16,}[A-Za-z0-9_-]*/g;
/** Keys whose parts are too short or too regular for RUN: `sk-ant-…`, `AKIA…`, and `…8Q~…` of Entra. */
const ISSUED = /\bsk-ant-[\w-]{16,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|[\w.~-]{3}\dQ~[\w.~-]{20,}[\w~-]/g;
/** A JSON Web Token: base64 of `{"`, and the parts after its dots. */
const TOKEN = /\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]+){0,4}/g;
/** A run of hexadecimal or base64 characters, also percent-encoded. */
const RUN = /(?:[A-Za-z0-9+/_=-]|%[0-9A-Fa-f]{2}){16,}/g;

/** Ids that are not secret: of data collection rules, and GUIDs with hyphens. */
const HARMLESS = /\bdcr-[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi;

/** The minimum length of a key, by its characters. */
interface Lengths {
  readonly hex: number;
  readonly mixed: number;
  /** Letters of one case with digits; Infinity: never a key. */
  readonly single: number;
  /** Names made of words with capitals and numbers are not keys. */
  readonly exceptWords: boolean;
}

/** To reject a value: only texts that are certainly keys. */
const CERTAIN: Lengths = { hex: 32, mixed: 32, single: Number.POSITIVE_INFINITY, exceptWords: true };
/** To hide a text: also pieces of keys. Hiding an ordinary word by mistake does no harm. */
const POSSIBLE: Lengths = { hex: 20, mixed: 20, single: 24, exceptWords: false };

export const MASK = '[looks like a key]';

/** Whether a value certainly is or contains a key. */
export const looksLikeKey = (value: string): boolean => runsOfKeys(value, CERTAIN).length > 0;

/** Hides everything in a text that may be a key or a piece of one. */
export const withoutKeys = (text: string): string => masked(text, POSSIBLE);

/** Hides only certain keys in the name of a file or variable, because programs look these names up. */
export const nameWithoutKeys = (name: string): string => masked(name, CERTAIN);

/** Hides credentials in URLs and connection strings. */
export const withoutCredentials = (text: string): string =>
  text
    .replace(/:\/\/\S*@/g, '://…@')
    .replace(/(:\/\/[^#]*)#.*/g, '$1#…')
    .replace(/([?&][^=&#\s]*=)[^&#\s]*/g, '$1…')
    .replace(/(Key|Secret|Password|Token)=[^;\s]+/gi, '$1=…');

/**
 * Returns a function that hides keys in settings that are not secret (some values look like keys). It ignores case,
 * because hosts and headers are written in lower case.
 */
export function hiding(values: Iterable<string>): (text: string) => string {
  const runs = [
    ...new Set(
      [...values].flatMap((value) =>
        runsOfKeys(value, CERTAIN).map(({ start, end }) => value.slice(start, end)),
      ),
    ),
  ];
  if (runs.length === 0) return (text) => text;
  const pattern = new RegExp(runs.map((run) => run.replace(/[+.]/g, '\\$&')).join('|'), 'gi');
  return (text) => text.replace(pattern, MASK);
}

interface Run {
  readonly start: number;
  readonly end: number;
}

/** A quick test that most texts fail: shorter runs are never keys. */
const MAY_HOLD_KEY = /[A-Za-z0-9+/_=%-]{16}|eyJ|\dQ~/;

function masked(text: string, lengths: Lengths): string {
  if (!MAY_HOLD_KEY.test(text)) return text;
  let result = '';
  let at = 0;
  for (const { start, end } of runsOfKeys(text, lengths)) {
    result += `${text.slice(at, start)}${MASK}`;
    at = end;
  }
  return result + text.slice(at);
}

/** The positions of keys, in order and without overlaps. */
function runsOfKeys(text: string, lengths: Lengths): Run[] {
  if (!MAY_HOLD_KEY.test(text)) return [];
  // Replaced by text of the same length, so that positions stay valid.
  const plain = text.replace(HARMLESS, (id) => '.'.repeat(id.length));
  const found: Run[] = [];
  const add = (start: number, end: number) => found.push({ start, end });
  for (const pattern of [PREFIXED, ISSUED, TOKEN])
    for (const match of plain.matchAll(pattern)) add(match.index, match.index + match[0].length);
  for (const match of plain.matchAll(RUN))
    for (const { start, end } of inRun(match[0], lengths)) add(match.index + start, match.index + end);
  const merged: Run[] = [];
  for (const run of found.sort((a, b) => a.start - b.start || b.end - a.end)) {
    const last = merged.at(-1);
    if (last && run.start <= last.end)
      merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, run.end) };
    else merged.push(run);
  }
  return merged;
}

/** The whole run if it is random, else the random parts between separators. */
function inRun(run: string, lengths: Lengths): Run[] {
  if (isKey(run, lengths)) return [{ start: 0, end: run.length }];
  const parts: Run[] = [];
  for (const match of run.matchAll(/[A-Za-z0-9+]+/g)) {
    if (isKey(match[0], lengths)) parts.push({ start: match.index, end: match.index + match[0].length });
  }
  return parts;
}

function isKey(run: string, { hex, mixed, single, exceptWords }: Lengths): boolean {
  if (run.length >= hex && /^[0-9a-f]+$/i.test(run) && /\d/.test(run) && /[a-f]/i.test(run)) return true;
  const hasLower = /[a-z]/.test(run);
  const hasUpper = /[A-Z]/.test(run);
  if (hasLower && hasUpper) {
    const random = run.length < CERTAIN.mixed ? RANDOM_OF_FEW : RANDOM;
    return run.length >= mixed && changes(run) > random && !(exceptWords && isWordy(run));
  }
  const digits = run.match(/\d/g)?.length ?? 0;
  return (
    run.length >= single && /^[A-Za-z0-9]+$/.test(run) && digits >= 4 && changes(run) > RANDOM_OF_ONE_CASE
  );
}

/**
 * A run is random if more than this share of its neighbouring characters are of different kinds. In random text two
 * thirds are, in CamelCase words one fifth.
 */
const RANDOM = 0.25;
/** Short texts vary more: short CamelCase words can come near to it. */
const RANDOM_OF_FEW = 0.36;
/** For one case and digits: two fifths in random text, less in words with numbers. */
const RANDOM_OF_ONE_CASE = 0.2;

/**
 * Whether a run consists of words, like the names of resources and deployments `GPT4o-Prod-EastUS2-GlobalStandard` and
 * `AzureOpenAIProdSwedenCentralPTU01`.
 */
function isWordy(run: string): boolean {
  if (changes(run) > 0.45) return false;
  const inWords = run.match(/[a-z]{3,}/g)?.join('').length ?? 0;
  return inWords / run.length > 0.5 || run.split(/[-_=/]/).length > 3;
}

/**
 * The share of neighbouring characters of different kinds (lower case, upper case, digits). Other characters are
 * ignored.
 */
function changes(text: string): number {
  let different = 0;
  let counted = 0;
  for (let at = 1; at < text.length; at++) {
    const [before, after] = [kind(text.charCodeAt(at - 1)), kind(text.charCodeAt(at))];
    if (before === 0 || after === 0) continue;
    counted++;
    if (before !== after) different++;
  }
  return counted === 0 ? 0 : different / counted;
}

function kind(code: number): 0 | 1 | 2 | 3 {
  if (code >= 0x61 && code <= 0x7a) return 1;
  if (code >= 0x41 && code <= 0x5a) return 2;
  return code >= 0x30 && code <= 0x39 ? 3 : 0;
}
