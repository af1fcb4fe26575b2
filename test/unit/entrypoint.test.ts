/**
 * Functions of docker/entrypoint.sh, each run alone in a shell. test/gateway/image.test.ts runs the whole script in its
 * image.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FALSE_WORDS, TRUE_WORDS } from '../../compiler/settings/types.ts';
import { cannotRun } from '../support/requirements.ts';
import { workspace } from '../support/workspace.ts';

const SCRIPT = readFileSync(join(import.meta.dirname, '../../docker/entrypoint.sh'), 'utf8');
const inFolder = workspace();

/** The source text of functions of the script. */
const functions = (...names: readonly string[]): string =>
  names
    .map((name) => {
      const [text] = new RegExp(`^${name}\\(\\) \\{\\n.*?^\\}`, 'ms').exec(SCRIPT) ?? [];
      if (text === undefined) throw new Error(`docker/entrypoint.sh has no function ${name}`);
      return text;
    })
    .join('\n');

const inEveryCase = (words: readonly string[]): string[] =>
  words.flatMap((word) => [
    ...new Set([word, word.toUpperCase(), word.charAt(0).toUpperCase() + word.slice(1), ` ${word} `]),
  ]);

describe.skipIf(cannotRun("the entrypoint's functions", 'bash'))(
  'the entrypoint with mounted rendered files',
  () => {
    /** The warning that the entrypoint prints for each value of GATEWAY_WATCH. */
    function warnings(values: readonly string[]): Record<string, string> {
      inFolder('config.yaml', '');
      inFolder('apisix.yaml', '');
      const script = `set -u
      json='' conf=$1
      shift
      ${functions('say', 'fail', 'is_false', 'take_rendered')}
      for GATEWAY_WATCH; do
        printf '%s\\t%s\\n' "$GATEWAY_WATCH" "$(take_rendered 2>&1 | grep ^warning:)"
      done`;
      const { status, stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', inFolder(''), ...values], {
        encoding: 'utf8',
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const lines = stdout.split('\n').filter((line) => line !== '');
      return Object.fromEntries(lines.map((line) => line.split('\t')));
    }

    test('does not warn when GATEWAY_WATCH is empty or false, in any spelling that the compiler accepts', () => {
      const values = ['', ...inEveryCase(FALSE_WORDS)];
      expect(warnings(values)).toEqual(Object.fromEntries(values.map((value) => [value, ''])));
    });

    test('warns that GATEWAY_WATCH has no effect when it is true in any spelling', () => {
      const values = inEveryCase(TRUE_WORDS);
      const warned = expect.stringContaining('GATEWAY_WATCH has no effect here');
      expect(warnings(values)).toEqual(Object.fromEntries(values.map((value) => [value, warned])));
    });
  },
);
