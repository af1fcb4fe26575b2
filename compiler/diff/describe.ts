/** Describes changes as text, one line each. Pure. */
import type { Change, Effect, Shown } from './changes.ts';

const EFFECTS: Readonly<Record<Effect, string>> = {
  'at once': '',
  'next start': ' (takes effect at the next start)',
  // The name of the object already contains "collector", and the collector always reads its file at its start.
  'next start of the collector': '',
};

/** One line for each change, without newline: `backend swe-ptu: weight 1 → 3`. */
export const describe = (changes: readonly Change[]): string[] => changes.map(line);

/** How an output format writes names, values and field names from documents. */
export interface Style {
  value(text: string): string;
  field(text: string): string;
}

const PLAIN: Style = { value: (text) => text, field: (text) => text };

function line(change: Change): string {
  const { object, name, effect } = change;
  const subject = name === undefined ? object : `${object} ${title(name)}`;
  return tamed(`${subject}: ${what(change)}${EFFECTS[effect]}`);
}

/** The change itself, without the object: `weight 1 → 3`, `added`. */
export function what(
  { kind, field: named, item, secret, before, after }: Change,
  style: Style = PLAIN,
): string {
  const text = (value: Shown | undefined): string | undefined => {
    const short = shortText(value);
    return short === undefined ? undefined : style.value(short);
  };
  if (kind === 'renamed') return `renamed to ${style.value(title(String(after)))}`;
  const given = named === undefined ? undefined : style.field(named);
  const field = kind === 'order' ? `${given ?? ''} order`.trim() : given;
  const of = field === undefined ? '' : `${field}${item ? ':' : ''} `;
  const shown = field === undefined ? undefined : text(after ?? before);
  if (item) return `${of}${shown ?? 'an item'} ${kind}`;
  // The reader knows from the settings where this secret comes from.
  if (secret && (kind === 'added' || kind === 'removed')) return `${of}${kind}`;
  if (kind === 'added' || kind === 'removed')
    return `${of}${kind}${shown === undefined ? '' : `${kind === 'added' ? ': ' : ', was '}${shown}`}`;
  const [old, current] = [text(before), text(after)];
  return old === undefined || current === undefined || old === current
    ? `${of}changed`
    : `${of}${old} → ${current}`;
}

/** Longer values are not shown. */
const MAX_TEXT = 100;

/** A short value on one line; undefined for long or nested values. */
function shortText(value: Shown | undefined): string | undefined {
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

/** Quotes a text that could be misread. */
const word = (value: string): string =>
  /^$|^[\s"']|\s$|, |→|^(?:true|false|null)$/.test(value) || !Number.isNaN(Number(value))
    ? JSON.stringify(value)
    : value;

/** Quotes a name that could be confused with the words around it. */
const title = (name: string): string => (/^$|^[\s"]|\s$|:/.test(name) ? JSON.stringify(name) : name);

/** Files can contain any character, also terminal escapes and newlines. */
const tamed = (text: string): string =>
  text.replace(/\p{C}/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
