import type { Log } from 'sarif';
import { describe, expect, test } from 'vitest';
import type { Arg } from '../../compiler/diagnostics/catalog/entry.ts';
import { diagnostic, sortDiagnostics, strict } from '../../compiler/diagnostics/diagnostic.ts';
import { REPORT_FORMATS } from '../../compiler/diagnostics/formats.ts';
import { MASK } from '../../compiler/diagnostics/keys.ts';
import { report } from '../../compiler/diagnostics/report.ts';
import { Secret } from '../../compiler/settings/secret.ts';

const found = [
  diagnostic('AUTH_OFF', { setting: 'GATEWAY_REQUIRE_AUTH', source: { kind: 'environment' } }, {}),
  diagnostic(
    'INVALID_VALUE',
    {
      setting: 'AZURE_OPENAI_WEIGHT_0',
      source: { kind: 'file', path: 'a b,c:d.env', line: 12 },
      received: 'ab\nc%',
    },
    { expected: 'a whole number', example: '2' },
  ),
  diagnostic('AUTH_REQUIRED_BY_DEFAULT', { setting: 'GATEWAY_REQUIRE_AUTH' }, {}),
];
const options = { color: false, quiet: false } as const;

describe('the text format', () => {
  test('shows the setting, its source, what is expected, what was received and the fix', () => {
    expect(
      report(sortDiagnostics(found), { ...options, format: 'text' }),
    ).toBe(`error AZURE_OPENAI_WEIGHT_0: the value is not usable (a b,c:d.env:12)
  expected  a whole number
  received  ab\\nc%
  fix       write for example AZURE_OPENAI_WEIGHT_0=2 [INVALID_VALUE]
warning GATEWAY_REQUIRE_AUTH: authentication is off: anyone who reaches the gateway can use your backends (environment)
  fix       set GATEWAY_REQUIRE_AUTH=true and give each client a key [AUTH_OFF]
info GATEWAY_REQUIRE_AUTH: clients must authenticate unless GATEWAY_REQUIRE_AUTH=false (the accelerator let everyone in by default) [AUTH_REQUIRED_BY_DEFAULT]
1 error, 1 warning, 1 info
`);
  });

  test('uses colour only when asked to', () => {
    const ESC = String.fromCharCode(27);
    expect(report(found, { ...options, format: 'text', color: true })).toContain(`${ESC}[31merror${ESC}[39m`);
    expect(report(found, { ...options, format: 'text' })).not.toContain(ESC);
  });

  test('is empty when there are no diagnostics', () => {
    expect(report([], { ...options, format: 'text' })).toBe('');
  });

  test('escapes control characters in names', () => {
    const hostile = diagnostic('UNKNOWN_SETTING', { setting: 'GATEWAY_\u001b[2J\n' }, { nearest: undefined });
    expect(report([hostile], { ...options, format: 'text' })).toMatch(/^warning GATEWAY_\\u001b\[2J\\n: /);
  });
});

test('--quiet keeps only errors, in every format', () => {
  for (const format of ['text', 'json', 'sarif', 'github'] as const) {
    const text = report(found, { format, color: false, quiet: true });
    expect(text).toContain('INVALID_VALUE');
    expect(text).not.toContain('AUTH_OFF');
  }
});

test('the JSON format has every field and counts by severity', () => {
  const parsed = JSON.parse(report(found, { ...options, format: 'json' }));
  expect(parsed.summary).toEqual({ error: 1, warning: 1, info: 1 });
  expect(parsed.diagnostics[1]).toEqual({
    code: 'INVALID_VALUE',
    severity: 'error',
    setting: 'AZURE_OPENAI_WEIGHT_0',
    source: 'a b,c:d.env',
    line: 12,
    message: 'the value is not usable',
    expected: 'a whole number',
    received: 'ab\\nc%',
    hint: 'write for example AZURE_OPENAI_WEIGHT_0=2',
    args: { expected: 'a whole number', example: '2' },
  });
});

describe('the arguments of a diagnostic', () => {
  const KEY = 'Zk7TqQv9mWb3Xc5RpLs8JdHg2NfYt4Ae';

  test('are masked in every format when they contain a key', () => {
    const hostile = [
      diagnostic(
        'DUPLICATE_NAME',
        { setting: 'AZURE_OPENAI_NAME_1' },
        { other: 'AZURE_OPENAI_NAME_0', name: KEY },
      ),
      diagnostic(
        'MODELS_NOT_SERVED',
        { setting: 'GATEWAY_CLIENT_MODELS_0', received: KEY },
        { models: [KEY], all: true, served: ['gpt-4o', KEY] },
      ),
    ];
    for (const format of REPORT_FORMATS) {
      const text = report(hostile, { ...options, format });
      expect(text).toContain(MASK.slice(1, -1));
      expect(text).not.toContain(KEY.slice(0, 8));
    }
    const [, second] = JSON.parse(report(hostile, { ...options, format: 'json' })).diagnostics;
    expect(second.args).toEqual({ models: [MASK], all: true, served: ['gpt-4o', MASK] });
  });

  test('cannot be secrets', () => {
    const secret = new Secret('AZURE_OPENAI_KEY_0', KEY);
    // @ts-expect-error A Secret is no valid argument: the type check fails if it becomes one.
    const arg: Arg = secret;
    // @ts-expect-error The types of the arguments depend on the code.
    const found = diagnostic('DUPLICATE_NAME', { setting: 'X' }, { other: 'Y', name: secret });
    expect([arg, found.args.name]).toEqual([secret, secret]);
  });

  test('sort the diagnostics of one setting and code, with numbers compared as numbers', () => {
    const line = (number: number) =>
      diagnostic('ENV_FILE_LINE_IGNORED', { setting: 'a.env' }, { line: number });
    const sorted = sortDiagnostics([line(10), line(9), line(100)]);
    expect(sorted.map(({ args }) => args)).toEqual([{ line: 9 }, { line: 10 }, { line: 100 }]);
  });
});

test('SARIF has the rule, level, file and line of each diagnostic', () => {
  const log: Log = JSON.parse(report(found, { ...options, format: 'sarif' }));
  const [run] = log.runs;
  expect(log.version).toBe('2.1.0');
  expect(run?.tool.driver.rules?.map(({ id }) => id)).toEqual([
    'AUTH_OFF',
    'AUTH_REQUIRED_BY_DEFAULT',
    'INVALID_VALUE',
  ]);
  expect(run?.results?.map(({ level, ruleId, ruleIndex }) => [level, ruleId, ruleIndex])).toEqual([
    ['warning', 'AUTH_OFF', 0],
    ['error', 'INVALID_VALUE', 2],
    ['note', 'AUTH_REQUIRED_BY_DEFAULT', 1],
  ]);
  expect(run?.results?.[1]?.locations?.[0]?.physicalLocation).toEqual({
    artifactLocation: { uri: 'a%20b,c:d.env' },
    region: { startLine: 12 },
  });
  // Code scanning rejects a file with a result that has no location.
  expect(run?.results?.[0]?.locations?.[0]?.physicalLocation).toEqual({
    artifactLocation: { uri: 'environment' },
    region: { startLine: 1 },
  });
});

test('GitHub annotations escape the characters that the runner interprets', () => {
  const [first, second] = report(found, { ...options, format: 'github' }).split('\n');
  expect(first).toMatch(
    /^::warning title=AUTH_OFF GATEWAY_REQUIRE_AUTH::GATEWAY_REQUIRE_AUTH: authentication is off/,
  );
  expect(second).toMatch(
    /^::error file=a b%2Cc%3Ad\.env,line=12,title=INVALID_VALUE AZURE_OPENAI_WEIGHT_0::/,
  );
  expect(second).toContain('Received ab\\nc%25.');
});

test('diagnostics are sorted with errors first, and numbers in names compared as numbers', () => {
  const named = (setting: string) => diagnostic('BLANK_SECRET', { setting }, {});
  const sorted = sortDiagnostics(
    [found[0], named('KEY_10'), named('KEY_9'), named('KEY_010'), named('KEY')].filter(
      (each) => each !== undefined,
    ),
  );
  expect(sorted.map(({ setting }) => setting)).toEqual([
    'KEY',
    'KEY_9',
    'KEY_010',
    'KEY_10',
    'GATEWAY_REQUIRE_AUTH',
  ]);
});

test('--strict turns warnings into errors, but not infos', () => {
  expect(strict(found).map(({ severity }) => severity)).toEqual(['error', 'error', 'info']);
});
