/** What the hidden command `container` prints for the image's entrypoint, tested without the image. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { runCli } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

/** Evaluates assignments in a shell, and returns the words of an expression. */
function words(assignments: string, expression: string): string[] {
  const script = `eval "$1"; printf '%s\\0' ${expression}`;
  const options = { encoding: 'utf8' } as const;
  return execFileSync('bash', ['-c', script, 'bash', assignments], options).split('\0').slice(0, -1);
}

const FILES = '"${env_files[@]}"';
const EXPORTED = '"${exported[@]}"';
const FLAGS = '"$follow" "$json"';

describe('container', () => {
  test('prints exactly the variables that env files set and the process does not have', () => {
    const values = {
      QUOTES: `'"'"'`,
      DOLLARS: '$HOME $(id) `id` ${x}',
      LINES: 'one\ntwo\n',
      BACKSLASH: '\\n \\',
      EMPTY: '',
    };
    const text = Object.entries(values).map(([name, value]) => {
      const quote = value.includes("'") ? '`' : "'";
      return `${name}=${quote}${value}${quote}\n`;
    });
    const first = inFolder('first.env', `${text.join('')}LATER=first\nOWN=file\nUID=0\nwith.dot=1\n`);
    const second = inFolder('second.env', 'LATER=second\n');
    const environment = { ...GOOD, OWN: 'process', GATEWAY_ENV_FILES: `${first},${second}` };
    const { code, stdout, stderr } = runCli(['container', '--out', inFolder('out')], { env: environment });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(words(stdout, FILES)).toEqual([first, second]);
    expect(words(stdout, FLAGS)).toEqual(['', '']);
    expect(words(stdout, EXPORTED)).toEqual([
      ...Object.entries(values).map(([name, value]) => `${name}=${value}`),
      'LATER=second',
    ]);
    expect(existsSync(inFolder('out/apisix.yaml'))).toBe(true);
  });

  test('prints nothing for wrong settings, and one line of JSON with the diagnostics', () => {
    const env = { ...GOOD, LB_ALG: 'fastest', GATEWAY_LOG_FORMAT: 'json' };
    const { code, stdout, stderr } = runCli(['container', '--out', inFolder('out')], { env });
    expect({ code, stdout, lines: stderr.split('\n').length }).toEqual({ code: 1, stdout: '', lines: 2 });
    expect(existsSync(inFolder('out'))).toBe(false);
  });

  test('exits with 3 when it cannot write', () => {
    const file = inFolder('file', '');
    const { code, stdout } = runCli(['container', '--out', `${file}/out`], { env: GOOD });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
  });

  test('only reads the env files when no output folder is given', () => {
    const file = inFolder('secrets.env', "AZURE_OPENAI_KEY_0='a b'\nGATEWAY_LOG_FORMAT=json\n");
    const { code, stdout } = runCli(['container'], { env: { GATEWAY_ENV_FILES: file } });
    expect(code).toBe(0);
    expect(words(stdout, EXPORTED)).toEqual(['AZURE_OPENAI_KEY_0=a b', 'GATEWAY_LOG_FORMAT=json']);
    expect(words(stdout, FLAGS)).toEqual(['', 'true']);
    const unreadable = runCli(['container'], { env: { GATEWAY_ENV_FILES: inFolder('none.env') } });
    expect(unreadable).toMatchObject({ code: 1, stdout: '' });
    expect(unreadable.stderr).toMatch(/ENV_FILE_UNREADABLE/);
  });

  test('appears neither in the help nor in the completion', () => {
    expect(runCli(['--help']).stdout).not.toMatch(/^ *container\b/m);
    // Descriptions may have the word.
    for (const shell of ['bash', 'zsh', 'fish'])
      expect(runCli(['completion', shell]).stdout.replaceAll(/'[^'\n]*'/g, "''"), shell).not.toMatch(
        // Options such as --container-app are others.
        /(?<![\w-])container(?![\w-])/,
      );
  });
});
