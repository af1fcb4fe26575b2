/** The messages that the Lua sources write to the error log at level `warn` or above. */
import { luaFiles, luaSource, STRING, split } from './lua-source.ts';

export interface LogMessage {
  readonly file: string;
  /** `error`, `warn`, or `error or warn` when the source chooses. */
  readonly level: string;
  /** The constant parts of the message, with `…` for each value. */
  readonly text: string;
}

/** A function that logs its arguments, after those that are skipped. */
interface Writer {
  readonly call: RegExp;
  readonly level: (match: RegExpExecArray) => string;
  readonly skipped?: number;
  readonly file?: string;
}

const WRITERS: readonly Writer[] = [
  { call: /\bcore\.log\.(error|warn|crit|alert|emerg)\(/g, level: ([, level = '']) => level },
  {
    call: /\bthrottled_log\.write\(core\.log\.(\w+),/g,
    level: ([, level = '']) => level,
    skipped: 2,
  },
  // `local log = condition and core.log.error or core.log.warn`
  { call: /^\s+log\(/gm, level: () => 'error or warn' },
  { call: /\bngx_log\(WARN,/g, level: () => 'warn' },
  { call: /(?<!function )\badd\(/g, level: () => 'error', file: 'contract.lua' },
  { call: /(?<!function )\breport\(/g, level: () => 'error', skipped: 1, file: 'tls_problems.lua' },
];

/** The template of the expression that a local variable is initialised with; `…` if it has no constant part. */
function initialText(name: string, before: string): string {
  const declaration = `local ${name} = `;
  const at = before.lastIndexOf(declaration);
  if (at < 0) return '…';
  const [expression = ''] = split(before, at + declaration.length, '\0', /^\n(?!\s*\.\.)/);
  const text = template(expression, '');
  return hasWords(text) ? text : '…';
}

const hasWords = (text: string): boolean => /\p{L}/u.test(text);

/** The text of an expression, with `…` for each part that is not constant. */
const template = (expression: string, before: string): string =>
  split(expression, 0, '..')
    .map((piece) => {
      STRING.lastIndex = 0;
      if (STRING.exec(piece)?.[0] === piece) return JSON.parse(piece) as string;
      return /^\w+$/.test(piece) ? initialText(piece, before) : '…';
    })
    .join('');

function messagesIn(file: string): LogMessage[] {
  const source = luaSource(file);
  return WRITERS.filter((writer) => writer.file === undefined || file.endsWith(`/${writer.file}`)).flatMap(
    ({ call, level, skipped = 0 }) =>
      [...source.matchAll(call)].map((match) => {
        const before = source.slice(0, match.index);
        const args = split(source, match.index + match[0].length, ',').slice(skipped);
        const text = args.map((each) => template(each, before)).join('');
        return { file, level: level(match as RegExpExecArray), text: text.replace(/…+/g, '…') };
      }),
  );
}

/** All messages, without the calls inside a writer, which have no text of their own. */
export const logMessages = (): LogMessage[] =>
  luaFiles()
    .flatMap(messagesIn)
    .filter(({ text }) => hasWords(text));

/** Lines that write to the log in a way that `logMessages` does not recognise. */
export const unknownWriters = (): string[] =>
  luaFiles().flatMap((file) => {
    const known = /throttled_log\.write\(core\.log|local log = .* and core\.log\.\w+ or core\.log\.\w+$/;
    return luaSource(file)
      .split('\n')
      .filter((line) => {
        const isLevel = /core\.log\.(?:error|warn|crit|alert|emerg)(?!\w)(?!\()/.test(line);
        const isOther = /\blog\.log\b|\bcore\.log\[|\bngx\.log\(/.test(line);
        const isAlias = /\bcore\.log\s*$|= ngx\.log$/.test(line) && !file.endsWith('/contract.lua');
        return (isLevel && !known.test(line)) || isOther || isAlias;
      })
      .map((line) => `${file}: ${line.trim()}`);
  });
