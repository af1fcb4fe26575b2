/** Diagnostics about env files and secret files. */
import { error, info, list, warning } from './entry.ts';

export const sources = {
  ENV_FILE_UNREADABLE: error((a: { reason: string }, name) => ({
    message: `the env file cannot be read: ${a.reason}`,
    expected: 'a readable text file of at most 4 MiB',
    hint: `check the path ${name}`,
  })),
  ENV_FILE_NOT_READ: info((_, name) => ({
    message: `this folder has a ${name}, but it is read only when you add -e ${name}`,
    expected: 'env files given with -e or GATEWAY_ENV_FILES',
    hint: `add -e ${name}`,
  })),
  ENV_FILE_NOT_TEXT: error((_, name) => ({
    message: 'the env file contains a NUL byte',
    expected: 'a text file in UTF-8',
    hint: `save ${name} as UTF-8 text; UTF-16 files contain NUL bytes`,
  })),
  ENV_FILE_FORMAT: error((a: { format: keyof typeof FORMATS }, name) => ({
    message: `the file is not an env file: it looks like ${FORMATS[a.format].what}`,
    expected: 'one NAME=value on each line',
    hint: FORMATS[a.format].fix(name),
  })),
  ENV_FILE_LINE_IGNORED: warning((a: { line: number }, name) => ({
    message: `line ${a.line} is neither NAME=value nor a comment`,
    expected: 'NAME=value',
    hint: `correct or remove line ${a.line} of ${name}`,
  })),
  ENV_FILE_NOT_FOR_DOCKER: info(
    (a: { spelling: keyof typeof SPELLINGS; lines: readonly number[] }, name) => ({
      message: `${linesText(a.lines)} ${SPELLINGS[a.spelling][a.lines.length === 1 ? 0 : 1]}, which docker --env-file rejects: write NAME=value`,
      expected: 'NAME=value, which every program reads the same way',
      hint: `write NAME=value on ${linesText(a.lines)} of ${name}`,
    }),
  ),
  DUPLICATE_ASSIGNMENT: warning((a: { lines: readonly number[]; last: number }, name) => ({
    message: `${name} is set on ${a.lines.length === 1 ? 'line' : 'lines'} ${list(a.lines.map(String))} too; the last value, on line ${a.last}, is used`,
    expected: 'one assignment of each name in a file',
    hint: 'remove all but one, or correct the index if you copied a block',
  })),
  SECRET_PADDED: warning((_, name) => ({
    message:
      'genai-gateway removes the white space around the secret, but docker --env-file keeps it as part of the secret',
    expected: 'a secret that every program reads the same way',
    hint: `remove the white space around the value of ${name}`,
  })),
  ENV_FILE_VALUE_AMBIGUOUS: error(
    (a: { cause: keyof typeof AMBIGUITIES; until?: number | undefined }, name) => ({
      message: `${AMBIGUITIES[a.cause].problem}${a.until === undefined ? '' : `, to line ${a.until}`}`,
      expected: 'a value that every program reads the same way',
      hint: AMBIGUITIES[a.cause].fix(name),
    }),
  ),
  SECRET_FILE_UNREADABLE: error((a: { reason: string }, name) => ({
    message: `the file in ${name} cannot be read: ${a.reason}`,
    expected: 'the path of a readable file of at most 64 KiB',
    hint: `correct the path in ${name}`,
  })),
  SECRET_QUOTED: info((_, name) => ({
    message:
      'genai-gateway removes the quotes around the secret, but docker --env-file keeps them as part of the secret',
    expected: 'a secret that every program reads the same way',
    hint: `if docker --env-file reads this file too, write ${name} without quotes`,
  })),
  SECRET_GIVEN_TWICE: error((a: { file: string }, name) => ({
    message: `${name} and ${a.file} are both set`,
    expected: 'only one of the two',
    hint: `unset ${name} or ${a.file}`,
  })),
  SECRET_FILE_PATH: error((_, name) => ({
    message:
      'the running gateway reads this file too, and its path is not absolute or has characters that are not allowed',
    expected: 'an absolute path without .., control characters, $, { and }',
    hint: `set ${name} to the absolute path that the file has in the gateway's container`,
  })),
  SECRET_FILE_REFUSED: error((a: { variable: string }, name) => ({
    message: `${name} has no effect: the gateway reads ${a.variable} only from its environment`,
    expected: `${a.variable} in the environment of the gateway's process, set by the platform`,
    hint: `remove ${name}`,
  })),
  SECRETS_INLINE: warning(() => ({
    message: 'secrets are written into the rendered files (mode 0640)',
    expected: 'GATEWAY_SECRETS=reference',
    hint: 'remove GATEWAY_SECRETS=inline, or let only uid 636 and gid 636 (the user of the APISIX image) read the files',
  })),
};

/** Formats that are given as env files by mistake, and how to make an env file of them. */
const FORMATS = {
  'json-object': {
    what: 'JSON',
    fix: (name: string) => `make an env file of it: jq -r 'to_entries[] | "\\(.key)=\\(.value)"' ${name}`,
  },
  'json-array': {
    what: 'JSON',
    fix: (name: string) => `make an env file of it: jq -r '.[] | "\\(.name)=\\(.value)"' ${name}`,
  },
  terraform: {
    what: 'Terraform variables',
    fix: (name: string) =>
      `in a copy of ${name} write NAME=value instead of NAME = "value", without quotes, braces and commas`,
  },
  yaml: {
    what: 'YAML',
    fix: (name: string) =>
      `in a copy of ${name} write NAME=value instead of NAME: value, without quotes, and leave out the other keys`,
  },
  'compose-list': {
    what: 'a list of a Compose file',
    fix: (name: string) =>
      `in a copy of ${name} remove the hyphen, the blanks and the quotes around each NAME=value`,
  },
  powershell: {
    what: 'a PowerShell script',
    fix: (name: string) => `in a copy of ${name} write NAME=value instead of $env:NAME = "value"`,
  },
  windows: {
    what: 'a Windows batch file',
    fix: (name: string) => `in a copy of ${name} write NAME=value instead of set NAME=value`,
  },
} as const;

/** Values that programs interpret differently, and what to write instead. */
const AMBIGUITIES = {
  comment: {
    problem: 'programs read this value differently: for some a comment begins at its #',
    fix: inSingleQuotes,
  },
  variable: {
    problem:
      'programs read this value differently: some treat the text after its $ as the name of a variable',
    fix: inSingleQuotes,
  },
  backslash: {
    problem: 'programs read this value differently: some remove its backslashes',
    fix: inSingleQuotes,
  },
  'behind-quote': { problem: 'there is text after the closing quote of the value', fix: inSingleQuotes },
  comma: {
    problem: 'there is a comma after the closing quote of the value, as in Terraform files',
    fix: (name: string) => `remove the comma after the value of ${name}`,
  },
  'open-quote': {
    problem: 'the value begins with a quote that is never closed',
    fix: (name: string) => `close the quote at the end of the value of ${name}, or remove it`,
  },
  'many-lines': {
    problem:
      'the quote at the start of the value is not closed on the same line, so the value may include the next lines',
    fix: (name: string) => `close the quote on the line of ${name}`,
  },
  'next-line': {
    problem: 'the line ends after the =, and some programs take the next line as the value',
    fix: (name: string) => `write the value of ${name} on the same line`,
  },
} as const;

function inSingleQuotes(name: string): string {
  return `write ${name}='…' with the whole value in single quotes, and no comment after it`;
}

const SPELLINGS = {
  export: ['begins with export', 'begin with export'],
  space: ['has white space before the =', 'have white space before the ='],
  colon: ['has a colon instead of =', 'have a colon instead of ='],
} as const;

const MAX_LINES = 10;

/** `lines 1, 2, 3`, with at most MAX_LINES numbers. */
function linesText(lines: readonly number[]): string {
  const rest = lines.length - MAX_LINES;
  return `${lines.length === 1 ? 'line' : 'lines'} ${lines.slice(0, MAX_LINES).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
