/**
 * Adds the wording to diagnostics and hides possible keys and credentials. All printed diagnostics pass through here.
 */
import type { Arg, Args, Entry, Wording } from './catalog/entry.ts';
import { catalog } from './catalog.ts';
import type { Diagnostic } from './diagnostic.ts';
import { nameWithoutKeys, withoutCredentials, withoutKeys } from './keys.ts';

/** A diagnostic that may be printed. */
export type Worded = Diagnostic & Wording;

export function worded(each: Diagnostic): Worded {
  const setting = shownName(each.setting);
  // The type system cannot know that the arguments belong to this code.
  const { words } = catalog[each.code] as Entry<Args>;
  const { message, expected, hint } = words(each.args, setting);
  return {
    ...each,
    ...(typeof each.environments === 'object'
      ? { environments: each.environments.map(nameWithoutKeys) }
      : {}),
    setting,
    args: inTexts(each.args, withoutKeys) as Diagnostic['args'],
    message: withoutKeys(message),
    expected: withoutKeys(expected),
    ...(each.received === undefined ? {} : { received: printable(each.received) }),
    hint: withoutKeys(hint),
  };
}

/** Applies a function to every text in the arguments. */
function inTexts(args: Args, change: (text: string) => string): Args {
  const changed = (arg: Arg): Arg => {
    if (typeof arg === 'string') return change(arg);
    return Array.isArray(arg) ? arg.map((each) => (typeof each === 'string' ? change(each) : each)) : arg;
  };
  return Object.fromEntries(Object.entries(args).map(([name, arg]) => [name, changed(arg)]));
}

/** The name of a variable can contain any character except = and NUL, also terminal escapes. */
const shownName = (name: string) => nameWithoutKeys(/^[\x20-\x7e]+$/.test(name) ? name : printable(name));

const RECEIVED_MAX = 120;

const hex = (character: string) => character.codePointAt(0)?.toString(16).padStart(4, '0');

/** Hides credentials, escapes control characters, and limits the length. */
function printable(value: string): string {
  const beginning = value.slice(0, 4 * RECEIVED_MAX);
  // Cutting a key could leave a piece that no longer looks like a key, so the cut word is removed.
  const whole = beginning.length < value.length ? beginning.replace(/[\w+/=.-]{0,100}$/, '') : beginning;
  const masked = withoutKeys(withoutCredentials(whole));
  const escaped = JSON.stringify(masked)
    .slice(1, -1)
    .replace(/\\"/g, '"')
    .replace(/\\\\/g, '\\')
    // Invisible characters hide a mistake; some reverse the text after them.
    .replace(/[\p{Cf}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, (each) => `\\u${hex(each)}`);
  return escaped.length > RECEIVED_MAX ? `${escaped.slice(0, RECEIVED_MAX)}…` : escaped;
}
