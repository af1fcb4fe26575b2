/** The Lua sources of the gateway as text, for tests that compare them with tables and pages. */
import { repositoryFiles, textOf } from './repository.ts';

export const luaFiles = (): string[] => repositoryFiles('lua-plugins/*.lua');

/** A source with spaces in place of its comments. */
export const luaSource = (file: string): string => withoutComments(textOf(file));

/** A string of Lua at a position. */
export const STRING = /"(?:[^"\\]|\\.)*"/y;

/** Replaces comments by spaces, so that positions stay the same. */
const withoutComments = (source: string): string =>
  source.replace(/"(?:[^"\\\n]|\\.)*"|--\[\[.*?\]\]|--[^\n]*/gs, (each) =>
    each.startsWith('"') ? each : each.replace(/[^\n]/g, ' '),
  );

/**
 * Splits an expression at separators outside of brackets and strings. Ends at `until` or at a closing bracket without an
 * opening one.
 */
export function split(source: string, start: number, separator: string, until?: RegExp): string[] {
  const pieces = [''];
  let depth = 0;
  for (let at = start; at < source.length; ) {
    STRING.lastIndex = at;
    const [text] = STRING.exec(source) ?? [];
    const char = text ?? source.charAt(at);
    if ('([{'.includes(char)) depth++;
    if (')]}'.includes(char) && depth-- === 0) break;
    if (depth === 0 && until?.test(source.slice(at))) break;
    if (depth === 0 && text === undefined && source.startsWith(separator, at)) {
      pieces.push('');
      at += separator.length;
    } else {
      pieces.push(`${pieces.pop()}${char}`);
      at += char.length;
    }
  }
  return pieces.map((each) => each.trim());
}
