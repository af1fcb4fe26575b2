import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { readSources } from '../../compiler/settings/sources.ts';
import { PROGRAM } from '../support/cli.ts';
import { GOOD, workspace } from '../support/workspace.ts';

const inFolder = workspace();

const codes = async (text: string, environment: Record<string, string> = GOOD) => {
  const { diagnostics } = await compile({ environment, envFiles: [inFolder('a.env', text)] });
  return diagnostics.map(({ code, setting, line }) => [code, setting, line]);
};

const errorCodes = async (text: string, environment: Record<string, string>) => {
  const { diagnostics } = await compile({ environment, envFiles: [inFolder('a.env', text)] });
  return diagnostics
    .filter(({ severity }) => severity === 'error')
    .map(({ code, setting, line }) => [code, setting, line]);
};

describe('a blank variable', () => {
  test('of the environment does not hide one of an env file', () => {
    const { variables } = readSources({ LB_ALG: ' ' }, [inFolder('a.env', 'LB_ALG=latency\n')]);
    expect(variables.get('LB_ALG')?.value).toBe('latency');
  });

  test('that is a secret is an error, whatever else gives it', async () => {
    for (const environment of [
      { ...GOOD, AZURE_OPENAI_KEY_0: '', AZURE_OPENAI_KEY_0_FILE: inFolder('key', 'key') },
      { AZURE_OPENAI_KEY_0_FILE: inFolder('key', 'key'), ...GOOD, AZURE_OPENAI_KEY_0: '' },
    ]) {
      const { diagnostics } = await compile({
        environment: { ...environment, GATEWAY_SECRETS: 'inline' },
        envFiles: [],
      });
      expect(diagnostics.filter(({ severity }) => severity === 'error').map(({ code }) => code)).toEqual([
        'BLANK_SECRET',
      ]);
    }
  });
});

describe('GATEWAY_ENV_FILES', () => {
  const variablesOf = (environment: Record<string, string>, files: string[] = []) => {
    const { variables } = readSources(environment, files);
    return (name: string) => variables.get(name)?.value;
  };

  test('names files that come before those that are given, in their order, each once', () => {
    const first = inFolder('first.env', 'A=first\nB=first\nC=first\nD=first\n');
    const second = inFolder('second.env', 'B=second\nC=second\n');
    const given = inFolder('given.env', 'C=given\nD=given\n');
    const read = variablesOf({ GATEWAY_ENV_FILES: ` ${first}, ${second} `, D: 'own' }, [given, first]);
    expect(['A', 'B', 'C', 'D'].map(read)).toEqual(['first', 'second', 'given', 'own']);
  });

  test.each(['relative.env', '/a.env,', '/a.env,/a.env', '/a b.env'])(
    'refuses %s, and says nothing of what may stand in a file',
    async (value) => {
      const { diagnostics } = await compile({ environment: { GATEWAY_ENV_FILES: value }, envFiles: [] });
      expect(diagnostics.map(({ code, setting }) => [code, setting])).toEqual([
        ['INVALID_VALUE', 'GATEWAY_ENV_FILES'],
      ]);
    },
  );

  test('names a file that cannot be read', async () => {
    const path = inFolder('none.env');
    const { diagnostics } = await compile({ environment: { GATEWAY_ENV_FILES: path }, envFiles: [] });
    expect(diagnostics.map(({ code, setting }) => [code, setting])).toEqual([['ENV_FILE_UNREADABLE', path]]);
  });

  test.each(['GATEWAY_ENV_FILES', 'GATEWAY_SHARED_DIR'])('%s has no effect in an env file', async (name) => {
    expect(await codes(`${name}=/somewhere\n`)).toEqual([['NOT_FROM_ENV_FILE', name, 1]]);
  });
});

describe('lines of an env file', () => {
  test('are counted over quotes that span lines', async () => {
    const text = 'A="first\nLB_ALG=no\n# no comment\n"\n\nLB_ALG=bogus\nno assignment\n';
    expect(await codes(text)).toEqual([
      ['INVALID_VALUE', 'LB_ALG', 6],
      ['ENV_FILE_LINE_IGNORED', inFolder('a.env'), 7],
    ]);
  });

  test('may end as on Windows, begin with a byte order mark, and say export', async () => {
    expect(await codes('\ufeffLB_ALG=bogus\r\nexport APISIX_LOG_LEVEL=loud\r\n')).toEqual([
      ['INVALID_VALUE', 'APISIX_LOG_LEVEL', 2],
      ['INVALID_VALUE', 'LB_ALG', 1],
    ]);
  });

  test('may be many and blank', { timeout: 5_000 }, async () => {
    expect(await codes(`${'\n'.repeat(500_000)}LB_ALG=bogus\n`)).toEqual([
      ['INVALID_VALUE', 'LB_ALG', 500_001],
    ]);
  });
});

describe('an assignment that readers of env files take differently', () => {
  const { AZURE_OPENAI_KEY_0: _, ...withoutKey } = GOOD;

  test.each([
    'abc#def-0123456789',
    "'abc'#def-0123456789",
    '"abc-0123456789',
    'abcd$HOME-0123456789',
    'abc-0123456789 # comment',
    '"abc$HOME-0123456789"',
    '"abc\\\\-0123456789"',
    '"a"b"-0123456789',
    '\n"next-line-0123456789"',
  ])('is an error for a secret: %s', async (value) => {
    expect(await errorCodes(`AZURE_OPENAI_KEY_0=${value}\n`, withoutKey)).toEqual([
      ['ENV_FILE_VALUE_AMBIGUOUS', 'AZURE_OPENAI_KEY_0', 1],
    ]);
  });

  test.each(['\'abc#$def "x" \\\\ 0123456789\'', 'plain-0123456789', "'plain-0123456789' # comment"])(
    'is none where they agree: %s',
    async (value) => {
      expect(
        (await codes(`AZURE_OPENAI_KEY_0=${value}\n`, withoutKey)).filter(
          ([code]) => code !== 'SECRET_QUOTED',
        ),
      ).toEqual([]);
    },
  );

  test('is passed over where another source gives the value', async () => {
    expect(await codes('AZURE_OPENAI_KEY_0=abc#def\n')).toEqual([]);
  });

  test('may be a comment behind what is no secret', async () => {
    expect(await codes('LB_ALG=chash # by consumer\nOTEL_SERVICE_NAME=a$b\n')).toEqual([]);
  });
});

test('an env file may be a pipe', () => {
  const { status, stdout } = spawnSync(
    'bash',
    ['-c', '"$0" explain LB_ALG --env-file <(echo LB_ALG=latency)', PROGRAM],
    { encoding: 'utf8' },
  );
  expect(status).toBe(0);
  expect(stdout).toContain('becomes    latency');
});

test('a pipe may be slow', () => {
  const { status, stdout } = spawnSync(
    'bash',
    ['-c', '"$0" explain LB_ALG --env-file <(sleep 0.5; echo LB_ALG=latency)', PROGRAM],
    { encoding: 'utf8' },
  );
  expect(status).toBe(0);
  expect(stdout).toContain('becomes    latency');
});

test('a pipe that nobody writes into holds nobody up', () => {
  const pipe = inFolder('pipe', '');
  const script = 'rm "$1" && mkfifo "$1" && exec timeout 20 "$0" explain LB_ALG --env-file "$1"';
  const { status, stderr } = spawnSync('bash', ['-c', script, PROGRAM, pipe], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain('nobody writes into the pipe');
});

test('a path that is no path is not shown: it may be the secret itself', async () => {
  const key = 'Zk7TqQv9mWb3Xc5RpLs8JdHg2NfYt4Ae';
  const { diagnostics } = await compile({
    environment: { ...GOOD, AZURE_OPENAI_KEY_1_FILE: key },
    envFiles: [],
  });
  expect(diagnostics.map(({ code }) => code)).toContain('SECRET_FILE_UNREADABLE');
  expect(JSON.stringify(diagnostics)).not.toContain(key.slice(0, 8));
});

test('without an env file that was named, nothing is said of what is missing', async () => {
  const { diagnostics } = await compile({ environment: {}, envFiles: [inFolder('nowhere.env')] });
  expect(diagnostics.map(({ code }) => code)).toEqual(['ENV_FILE_UNREADABLE']);
});

test('a long value that is wrong is an answer at once', { timeout: 5_000 }, async () => {
  const { diagnostics } = await compile({
    environment: { ...GOOD, LB_ALG: '?'.repeat(300_000) },
    envFiles: [],
  });
  expect(diagnostics.map(({ code }) => code)).toEqual(['INVALID_VALUE']);
});
