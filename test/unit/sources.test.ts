import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
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
  test('in the environment does not hide the value of an env file', () => {
    const { variables } = readSources({ LB_ALG: ' ' }, [inFolder('a.env', 'LB_ALG=latency\n')]);
    expect(variables.get('LB_ALG')?.value).toBe('latency');
  });

  test('for a secret is an error, even when another source gives the secret', async () => {
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

  test('names files that are read before those on the command line, in order, each once', () => {
    const first = inFolder('first.env', 'A=first\nB=first\nC=first\nD=first\n');
    const second = inFolder('second.env', 'B=second\nC=second\n');
    const given = inFolder('given.env', 'C=given\nD=given\n');
    const read = variablesOf({ GATEWAY_ENV_FILES: ` ${first}, ${second} `, D: 'own' }, [given, first]);
    expect(['A', 'B', 'C', 'D'].map(read)).toEqual(['first', 'second', 'given', 'own']);
  });

  test.each(['relative.env', '/a.env,', '/a.env,/a.env', '/a b.env'])(
    'rejects %s and reports nothing about missing files',
    async (value) => {
      const { diagnostics } = await compile({ environment: { GATEWAY_ENV_FILES: value }, envFiles: [] });
      expect(diagnostics.map(({ code, setting }) => [code, setting])).toEqual([
        ['INVALID_VALUE', 'GATEWAY_ENV_FILES'],
      ]);
    },
  );

  test('reports a file that cannot be read', async () => {
    const path = inFolder('none.env');
    const { diagnostics } = await compile({ environment: { GATEWAY_ENV_FILES: path }, envFiles: [] });
    expect(diagnostics.map(({ code, setting }) => [code, setting])).toEqual([['ENV_FILE_UNREADABLE', path]]);
  });

  test.each(['GATEWAY_ENV_FILES', 'GATEWAY_SHARED_DIR'])('has no effect in an env file: %s', async (name) => {
    expect(await codes(`${name}=/somewhere\n`)).toEqual([['NOT_FROM_ENV_FILE', name, 1]]);
  });
});

describe('lines of an env file', () => {
  test('are counted through quoted values that span lines', async () => {
    const text = 'A="first\nLB_ALG=no\n# no comment\n"\n\nLB_ALG=bogus\nno assignment\n';
    expect(await codes(text)).toEqual([
      ['INVALID_VALUE', 'LB_ALG', 6],
      ['ENV_FILE_LINE_IGNORED', inFolder('a.env'), 7],
    ]);
  });

  test('may have Windows line ends, a byte order mark and the word export', async () => {
    expect(await codes('\ufeffLB_ALG=bogus\r\nexport APISIX_LOG_LEVEL=loud\r\n')).toEqual([
      ['INVALID_VALUE', 'APISIX_LOG_LEVEL', 2],
      ['INVALID_VALUE', 'LB_ALG', 1],
      ['ENV_FILE_NOT_FOR_DOCKER', inFolder('a.env'), 2],
    ]);
  });

  test('may be hundreds of thousands of blank ones', { timeout: 5_000 }, async () => {
    expect(await codes(`${'\n'.repeat(500_000)}LB_ALG=bogus\n`)).toEqual([
      ['INVALID_VALUE', 'LB_ALG', 500_001],
    ]);
  });
});

describe('a line that docker --env-file rejects', () => {
  const said = async (text: string) => {
    const path = inFolder('a.env', text);
    const { diagnostics } = await compile({ environment: GOOD, envFiles: [path] });
    return diagnostics.map(worded).map(({ code, severity, line, message, hint }) => {
      expect([code, severity]).toEqual(['ENV_FILE_NOT_FOR_DOCKER', 'info']);
      return [line, message, hint.replace(path, 'a.env')];
    });
  };

  test.each([
    ['export LB_ALG=chash', 'begins with export'],
    ['LB_ALG =chash', 'has white space before the ='],
    ['LB_ALG = chash', 'has white space before the ='],
    ['LB_ALG: chash', 'has a colon instead of ='],
  ])('is reported with its number and the fix: %s', async (line, problem) => {
    expect(await said(`# first\n${line}\n`)).toEqual([
      [
        2,
        `line 2 ${problem}, which docker --env-file rejects: write NAME=value`,
        'write NAME=value on line 2 of a.env',
      ],
    ]);
  });

  test('is reported once for all lines with the same problem', async () => {
    const lines = Array.from({ length: 12 }, (_, index) => `export A_${index}=x\n`).join('');
    const [of, first, ...others] = await said(`${lines}B = x\n`);
    expect(of?.[1]).toMatch(/^lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more begin with export, /);
    expect(first?.[0]).toBe(13);
    expect(others).toEqual([]);
  });

  test('is not reported when Docker reads it, such as white space before a name', async () => {
    expect(await said('  LB_ALG=chash\n# export A = x\nA="\nexport B = x\n"\n')).toEqual([]);
  });
});

describe('an assignment that readers of env files interpret differently', () => {
  const { AZURE_OPENAI_KEY_0: _, ...withoutKey } = GOOD;

  test.each([
    ['abc#def', 'a comment begins at its #', "='…' with the whole value"],
    ['abc-0123456789 # key', 'a comment begins at its #', "='…' with the whole value"],
    ['abc$HOME-0123456789', 'the text after its $', "='…' with the whole value"],
    ['"abc$HOME-0123456789"', 'the text after its $', "='…' with the whole value"],
    ['"abc\\\\-0123456789"', 'remove its backslashes', "='…' with the whole value"],
    ['"abc"def', 'text after the closing quote', "='…' with the whole value"],
    ['"abc-0123456789",', 'a comma after the closing quote', 'remove the comma'],
    ["'abc-0123456789", 'the value begins with a quote that is never closed', 'close the quote at the end'],
    [
      '"abc\nB="c',
      'not closed on the same line, so the value may include the next lines, to line 2',
      'close the quote on',
    ],
    [
      '"abc\nB=c\n"',
      'not closed on the same line, so the value may include the next lines, to line 3',
      'close the quote on',
    ],
    ['\n"next-line-0123456789"', 'the line ends after the =', 'on the same line'],
  ])('is reported with its cause and the fix: %s', async (value, problem, fix) => {
    const { diagnostics } = await compile({
      environment: withoutKey,
      envFiles: [inFolder('a.env', `AZURE_OPENAI_KEY_0=${value}\n`)],
    });
    const [found] = diagnostics.map(worded);
    expect(found).toMatchObject({ code: 'ENV_FILE_VALUE_AMBIGUOUS', setting: 'AZURE_OPENAI_KEY_0', line: 1 });
    expect(found?.message).toContain(problem);
    expect(found?.hint).toContain(fix);
  });

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
    'is not reported when all readers agree: %s',
    async (value) => {
      expect(
        (await codes(`AZURE_OPENAI_KEY_0=${value}\n`, withoutKey)).filter(
          ([code]) => code !== 'SECRET_QUOTED' && code !== 'KEY_WITH_SPACE',
        ),
      ).toEqual([]);
    },
  );

  test('is not reported when another source overrides it', async () => {
    expect(await codes('AZURE_OPENAI_KEY_0=abc#def\n')).toEqual([]);
  });

  test('is not reported for a comment after a value that is no secret', async () => {
    expect(await codes('LB_ALG=chash # by consumer\nOTEL_SERVICE_NAME=a$b\n')).toEqual([]);
  });
});

describe('a file of another format', () => {
  const settings = Object.entries(GOOD);
  const lines = (line: (name: string, value: string) => string) =>
    settings.map(([name, value]) => line(name, value)).join('\n');
  const found = async (text: string) => {
    const path = inFolder('a.env', text);
    const { diagnostics } = await compile({ environment: {}, envFiles: [path] });
    expect(JSON.stringify(diagnostics)).not.toContain(GOOD.AZURE_OPENAI_KEY_0);
    return diagnostics.map(worded).map(({ code, severity, message, hint }) => {
      expect([code, severity]).toEqual(['ENV_FILE_FORMAT', 'error']);
      return [message.replace('the file is not an env file: it looks like ', ''), hint.replace(path, 'FILE')];
    });
  };

  test.each([
    ['JSON', 'to_entries', JSON.stringify(GOOD)],
    ['JSON', 'to_entries', JSON.stringify(GOOD, null, 2)],
    [
      'JSON',
      '.name',
      JSON.stringify(
        settings.map(([name, value]) => ({ name, value })),
        null,
        2,
      ),
    ],
    [
      'Terraform variables',
      'NAME = "value"',
      `# a\napp_settings = {\n${lines((n, v) => `  ${n} = "${v}"`)}\n}\n`,
    ],
    ['Terraform variables', 'NAME = "value"', lines((n, v) => `"${n}" = "${v}",`)],
    [
      'YAML',
      'NAME: value',
      `services:\n  gateway:\n    environment:\n${lines((n, v) => `      ${n}: ${v}`)}`,
    ],
    ['YAML', 'NAME: value', lines((n, v) => `- name: ${n}\n  value: "${v}"`)],
    ['a list of a Compose file', 'remove the hyphen', lines((n, v) => `- ${n}=${v}`)],
    ['a list of a Compose file', 'remove the hyphen', `environment:\n${lines((n, v) => `  - "${n}=${v}"`)}`],
    ['a PowerShell script', '$env:NAME', lines((n, v) => `$env:${n} = '${v}'`)],
    [
      'a Windows batch file',
      'set NAME=value',
      `@echo off\r\nrem a\r\n${lines((n, v) => `set ${n}=${v}`)}\r\n`,
    ],
    ['a Windows batch file', 'set NAME=value', lines((n, v) => `set "${n}=${v}"`)],
    ['a Windows batch file', 'set NAME=value', lines((n, v) => `setx ${n} ${v}`)],
  ])('is one error, which says that it is %s and how to convert it: %s', async (what, fix, text) => {
    const [only, ...others] = await found(text);
    expect(only?.[0]).toBe(what);
    expect(only?.[1]).toContain(fix);
    expect(others).toEqual([]);
  });

  test('is not an env file with a few lines that are not assignments', async () => {
    for (const line of ['set A=b', '$env:A = 1', '- A=b', '"A" = "b"', '[section]'])
      expect(await codes(`LB_ALG=chash\n${line}\nLB_HASH_ON=header\nLB_HASH_KEY=x-a\n`), line).toEqual([
        ['ENV_FILE_LINE_IGNORED', inFolder('a.env'), 2],
      ]);
    for (const line of ['LB_ALG: chash', 'LB_ALG = "chash"', 'export LB_ALG=chash'])
      expect((await codes(`${line}\n`)).map(([code]) => code)).toEqual(['ENV_FILE_NOT_FOR_DOCKER']);
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

test('an env file may be a pipe that is slow', () => {
  const { status, stdout } = spawnSync(
    'bash',
    ['-c', '"$0" explain LB_ALG --env-file <(sleep 0.5; echo LB_ALG=latency)', PROGRAM],
    { encoding: 'utf8' },
  );
  expect(status).toBe(0);
  expect(stdout).toContain('becomes    latency');
});

test('a pipe without a writer is an error after a while', () => {
  const pipe = inFolder('pipe', '');
  const script = 'rm "$1" && mkfifo "$1" && exec timeout 20 "$0" explain LB_ALG --env-file "$1"';
  const { status, stderr } = spawnSync('bash', ['-c', script, PROGRAM, pipe], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain('no program writes into the pipe');
});

test('the value of a _FILE variable that is no path is not shown, because it may be the secret', async () => {
  const key = 'Zk7TqQv9mWb3Xc5RpLs8JdHg2NfYt4Ae';
  const { diagnostics } = await compile({
    environment: { ...GOOD, AZURE_OPENAI_KEY_1_FILE: key },
    envFiles: [],
  });
  expect(diagnostics.map(({ code }) => code)).toContain('SECRET_FILE_UNREADABLE');
  expect(JSON.stringify(diagnostics)).not.toContain(key.slice(0, 8));
});

test('an env file that cannot be read is the only diagnostic, without those on missing settings', async () => {
  const { diagnostics } = await compile({ environment: {}, envFiles: [inFolder('nowhere.env')] });
  expect(diagnostics.map(({ code }) => code)).toEqual(['ENV_FILE_UNREADABLE']);
});

test('a very long wrong value is rejected within 5 seconds', { timeout: 5_000 }, async () => {
  const { diagnostics } = await compile({
    environment: { ...GOOD, LB_ALG: '?'.repeat(300_000) },
    envFiles: [],
  });
  expect(diagnostics.map(({ code }) => code)).toEqual(['INVALID_VALUE']);
});
