/** Changes in words, one line each, and as JSON. Pure. */
import type { Change, Effect, Shown } from './changes.ts';

const EFFECTS: Readonly<Record<Effect, string>> = {
  'at once': '',
  'next start': ' (takes effect at the next start)',
  // Its objects say whose they are, and it reads all of its file at its start.
  'next start of the collector': '',
};

/** One line for each change, without line ends: `backend swe-ptu: weight 1 → 3`. */
export const describe = (changes: readonly Change[]): string[] => changes.map(line);

function line(change: Change): string {
  const { object, name, effect } = change;
  const subject = name === undefined ? object : `${object} ${title(name)}`;
  return tamed(`${subject}: ${what(change)}${EFFECTS[effect]}`);
}

function what({ kind, field: named, item, before, after }: Change): string {
  if (kind === 'renamed') return `renamed to ${title(String(after))}`;
  const field = kind === 'order' ? `${named ?? ''} order`.trim() : named;
  const of = field === undefined ? '' : `${field}${item ? ':' : ''} `;
  const shown = field === undefined ? undefined : text(after ?? before);
  if (item) return `${of}${shown ?? 'an item'} ${kind}`;
  if (kind === 'added' || kind === 'removed')
    return `${of}${kind}${shown === undefined ? '' : `${kind === 'added' ? ': ' : ', was '}${shown}`}`;
  const [old, current] = [text(before), text(after)];
  return old === undefined || current === undefined || old === current
    ? `${of}changed`
    : `${of}${old} → ${current}`;
}

/** Longer values are only said to have changed. */
const MAX_TEXT = 100;

/** A short value in one line; undefined for what is long or nested. */
function text(value: Shown | undefined): string | undefined {
  const flat = scalar(value) ?? flow(value);
  return flat !== undefined && flat.length <= MAX_TEXT ? flat : undefined;
}

function flow(value: Shown | undefined): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const entries = Object.entries(value).map(([key, each]) => ({ key, each: scalar(each) }));
  if (entries.some(({ each }) => each === undefined)) return undefined;
  if (Array.isArray(value)) return entries.map(({ each }) => each).join(', ') || '[]';
  return `{${entries.map(({ key, each }) => `${key}: ${each}`).join(', ')}}`;
}

function scalar(value: Shown | undefined): string | undefined {
  if (typeof value === 'string') return word(value);
  return value === undefined || (typeof value === 'object' && value !== null) ? undefined : String(value);
}

/** A text that could be read as something else stands in quotes. */
const word = (value: string): string =>
  /^$|^[\s"']|\s$|, |→|^(?:true|false|null)$/.test(value) || !Number.isNaN(Number(value))
    ? JSON.stringify(value)
    : value;

/** A name in quotes where it would not be told from the words around it. */
const title = (name: string): string => (/^$|^[\s"]|\s$|:/.test(name) ? JSON.stringify(name) : name);

/** Files may hold anything: terminal escapes, line ends. */
const tamed = (text: string): string =>
  text.replace(/\p{C}/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
