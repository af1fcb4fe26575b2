import type { Log } from 'sarif';
import { describe, expect, test } from 'vitest';
import { diagnostic, sortDiagnostics, strict } from '../../compiler/diagnostics/diagnostic.ts';
import { report } from '../../compiler/diagnostics/report.ts';

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

describe('text', () => {
  test('says what, where, what was expected, what was received and what to write', () => {
    expect(
      report(sortDiagnostics(found), { ...options, format: 'text' }),
    ).toBe(`error AZURE_OPENAI_WEIGHT_0: the value is not usable (a b,c:d.env:12)
  expected  a whole number
  received  ab\\nc%
  fix       write for example AZURE_OPENAI_WEIGHT_0=2 [INVALID_VALUE]
warning GATEWAY_REQUIRE_AUTH: authentication is off: anyone who reaches the gateway spends your capacity (environment)
  expected  GATEWAY_REQUIRE_AUTH=true
  fix       set GATEWAY_REQUIRE_AUTH=true and give each client a key [AUTH_OFF]
info GATEWAY_REQUIRE_AUTH: otherwise than in the accelerator: clients must authenticate unless this is false [AUTH_REQUIRED_BY_DEFAULT]
1 error, 1 warning, 1 info
`);
  });

  test('has colour where asked, and only there', () => {
    const ESC = String.fromCharCode(27);
    expect(report(found, { ...options, format: 'text', color: true })).toContain(`${ESC}[31merror${ESC}[39m`);
    expect(report(found, { ...options, format: 'text' })).not.toContain(ESC);
  });

  test('is empty where there is nothing to say', () => {
    expect(report([], { ...options, format: 'text' })).toBe('');
  });

  test('a name with terminal escapes or line breaks is shown escaped', () => {
    const hostile = diagnostic('UNKNOWN_SETTING', { setting: 'GATEWAY_\u001b[2J\n' }, { nearest: undefined });
    expect(report([hostile], { ...options, format: 'text' })).toMatch(/^warning GATEWAY_\\u001b\[2J\\n: /);
  });
});

test('quiet shows errors only, in every format', () => {
  for (const format of ['text', 'json', 'sarif', 'github'] as const) {
    const text = report(found, { format, color: false, quiet: true });
    expect(text).toContain('INVALID_VALUE');
    expect(text).not.toContain('AUTH_OFF');
  }
});

test('json carries every field, and a count', () => {
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
  });
});

test('sarif 2.1.0 names the rule, the level and the place of each finding', () => {
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
  expect(run?.results?.[0]?.locations?.[0]?.physicalLocation).toBeUndefined();
});

test('github annotations escape what the runner would read', () => {
  const [first, second] = report(found, { ...options, format: 'github' }).split('\n');
  expect(first).toMatch(
    /^::warning title=AUTH_OFF GATEWAY_REQUIRE_AUTH::GATEWAY_REQUIRE_AUTH: authentication is off/,
  );
  expect(second).toMatch(
    /^::error file=a b%2Cc%3Ad\.env,line=12,title=INVALID_VALUE AZURE_OPENAI_WEIGHT_0::/,
  );
  expect(second).toContain('Received ab\\nc%25.');
});

test('numbers in names are sorted as numbers, errors before warnings', () => {
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

test('strict makes errors of warnings, not of infos', () => {
  expect(strict(found).map(({ severity }) => severity)).toEqual(['error', 'error', 'info']);
});
