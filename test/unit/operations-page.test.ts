/** docs/operations.md lists exactly the messages of the error log and the exit codes. */
import { describe, expect, test } from 'vitest';
import { EXIT } from '../../compiler/commands/terminal.ts';
import { runCli } from '../support/cli.ts';
import { logMessages, unknownWriters } from '../support/log-messages.ts';
import { textOf } from '../support/repository.ts';

const PAGE = textOf('docs/operations.md');

const section = (heading: string): string =>
  PAGE.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? '';

describe('the messages of the error log', () => {
  const rows = [...section('Error-log messages').matchAll(/^\| `([^`]+)` \| ([a-z ]+) \| \S/gm)].map(
    ([, beginning = '', level = '']) => ({ beginning, level }),
  );
  const messages = logMessages();

  /** The row whose text is the longest beginning of a message: other rows can begin the same way. */
  const rowOf = (text: string) =>
    rows
      .filter(({ beginning }) => text.startsWith(beginning))
      .sort((one, other) => other.beginning.length - one.beginning.length)[0];

  test('are found in the Lua sources', () => {
    expect(messages.length).toBeGreaterThan(60);
    expect(unknownWriters()).toEqual([]);
  });

  test('each have a row with their level', () => {
    const missing = messages.filter(({ text, level }) => rowOf(text)?.level !== level);
    expect(missing).toEqual([]);
  });

  test('are the only rows, and no row is repeated', () => {
    const used = new Set(messages.map(({ text }) => rowOf(text)?.beginning));
    expect(rows.map(({ beginning }) => beginning).filter((each) => !used.has(each))).toEqual([]);
    expect(rows).toHaveLength(new Set(rows.map(({ beginning }) => beginning)).size);
    expect(section('Error-log messages').match(/^\| `/gm)).toHaveLength(rows.length);
  });
});

describe('the exit codes', () => {
  const rows = [...section('Exit codes').matchAll(/^\| (\d+) \| ([^|]+) \| ([^|]+) \|$/gm)].map(
    ([, code, program = '', container = '']) => ({ code: Number(code), program, container }),
  );
  const codesIn = (text: string, pattern: RegExp) =>
    [...text.matchAll(pattern)].map(([, code]) => Number(code));
  const sorted = (codes: Iterable<number>) => [...new Set(codes)].sort((one, other) => one - other);

  test('of the program are those of its sources', () => {
    const beforeCommands = codesIn(textOf('compiler/launcher.cjs'), /process\.exit\((\d+)\)/g);
    const ofDefects = codesIn(textOf('compiler/main.ts'), /exitCode = (\d+)/g);
    expect(beforeCommands).toEqual([69]);
    expect(ofDefects).toEqual([70]);
    expect(rows.map(({ code }) => code)).toEqual(
      sorted([...Object.values(EXIT), ...beforeCommands, ...ofDefects]),
    );
  });

  test('that commands use are those of --help', () => {
    const [, listed = ''] = /^Exit codes:\n(.*?)\n\n/ms.exec(runCli(['--help']).stdout) ?? [];
    const help = [...listed.matchAll(/^ +(\d+) +(.*)$/gm)].map(([, code]) => Number(code));
    expect(help).toEqual(sorted(Object.values(EXIT)));
  });

  test('of the container are those of its entrypoint', () => {
    const script = textOf('docker/entrypoint.sh');
    const own = codesIn(script, /\bfail (\d+) /g);
    expect(own).toContain(EXIT.unwritable);
    // 0 is nginx's own after SIGQUIT. When rendering fails, the entrypoint ends with the exit code of `container`.
    expect(rows.filter(({ container }) => container !== '–').map(({ code }) => code)).toEqual(
      sorted([0, EXIT.diagnostics, EXIT.unwritable, ...own]),
    );
  });
});
