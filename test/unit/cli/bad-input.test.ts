/** The diagnostics and exit codes for each kind of bad input. */
import { existsSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { runHere } from '../../support/cli.ts';
import { FILES, GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

/** Each input gives a clear diagnostic and exit code 1, and the files of the last render stay unchanged. */
describe('bad input', () => {
  const without = (...names: string[]) =>
    Object.fromEntries(Object.entries(GOOD).filter(([name]) => !names.includes(name)));
  test.each<[string, Record<string, string>, string, string]>([
    [
      'no backend',
      without('AZURE_OPENAI_ENDPOINT_0', 'AZURE_OPENAI_KEY_0'),
      'NO_BACKEND',
      'AZURE_OPENAI_ENDPOINT_0',
    ],
    [
      'a gap in the clients',
      { ...GOOD, GATEWAY_CLIENT_NAME_2: 'c', GATEWAY_CLIENT_KEY_2: 'key-of-client-two-1' },
      'CLIENT_INDEX_GAP',
      'GATEWAY_CLIENT_NAME_2',
    ],
    [
      'duplicate client names',
      { ...GOOD, GATEWAY_CLIENT_NAME_1: 'app', GATEWAY_CLIENT_KEY_1: 'key-of-client-one-1' },
      'DUPLICATE_NAME',
      'GATEWAY_CLIENT_NAME_1',
    ],
    [
      'duplicate client keys',
      { ...GOOD, GATEWAY_CLIENT_NAME_1: 'b', GATEWAY_CLIENT_KEY_1: 'key-of-client-zero' },
      'DUPLICATE_CLIENT_KEY',
      'GATEWAY_CLIENT_KEY_1',
    ],
    [
      'duplicate backend names',
      {
        ...GOOD,
        AZURE_OPENAI_ENDPOINT_1: 'https://b.example',
        AZURE_OPENAI_KEY_1: 'k',
        AZURE_OPENAI_NAME_1: 'BACKEND-0',
      },
      'DUPLICATE_NAME',
      'AZURE_OPENAI_NAME_1',
    ],
    ['weight abc', { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' }, 'INVALID_VALUE', 'AZURE_OPENAI_WEIGHT_0'],
    ['weight -1', { ...GOOD, AZURE_OPENAI_WEIGHT_0: '-1' }, 'INVALID_VALUE', 'AZURE_OPENAI_WEIGHT_0'],
    ['weight 1.5', { ...GOOD, AZURE_OPENAI_WEIGHT_0: '1.5' }, 'INVALID_VALUE', 'AZURE_OPENAI_WEIGHT_0'],
    ['a blank key', { ...GOOD, GATEWAY_CLIENT_KEY_0: '' }, 'BLANK_SECRET', 'GATEWAY_CLIENT_KEY_0'],
    [
      'a key of white space',
      { ...GOOD, GATEWAY_CLIENT_KEY_0: ' \t ' },
      'BLANK_SECRET',
      'GATEWAY_CLIENT_KEY_0',
    ],
    [
      'a key with a newline',
      { ...GOOD, AZURE_OPENAI_KEY_0: 'first\nsecond' },
      'CONTROL_CHARACTER',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key ending in a newline',
      { ...GOOD, AZURE_OPENAI_KEY_0: 'key-of-backend-zero\n' },
      'SECRET_SURROUNDED_BY_SPACE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key in quotes',
      { ...GOOD, AZURE_OPENAI_KEY_0: '"key-of-backend-zero"' },
      'WRAPPED_IN_QUOTES',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key starting $env://',
      { ...GOOD, AZURE_OPENAI_KEY_0: '$env://OTHER' },
      'REFERENCE_IN_VALUE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      '${{X}} in what reaches a file',
      { ...GOOD, OTEL_SERVICE_NAME: 'a${{X}}' },
      'TEMPLATE_IN_VALUE',
      'OTEL_SERVICE_NAME',
    ],
    [
      '${{X}} in an inline key',
      { ...GOOD, GATEWAY_SECRETS: 'inline', AZURE_OPENAI_KEY_0: 'key${{X}}' },
      'TEMPLATE_IN_VALUE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'an endpoint without scheme',
      { ...GOOD, AZURE_OPENAI_ENDPOINT_0: 'one.openai.azure.com' },
      'INVALID_VALUE',
      'AZURE_OPENAI_ENDPOINT_0',
    ],
    [
      'GATEWAY_REQUIRE_AUTH=maybe',
      { ...GOOD, GATEWAY_REQUIRE_AUTH: 'maybe' },
      'INVALID_VALUE',
      'GATEWAY_REQUIRE_AUTH',
    ],
    [
      'both IP lists',
      { ...GOOD, ENABLE_IP_RESTRICTION: '1', IP_WHITELIST: '::1', IP_BLACKLIST: '::2' },
      'IP_LISTS',
      'ENABLE_IP_RESTRICTION',
    ],
    [
      'CORS * with credentials',
      { ...GOOD, ENABLE_CORS: '1', CORS_ALLOW_ORIGINS: '*', CORS_ALLOW_CREDENTIALS: '1' },
      'CORS_WILDCARD',
      'CORS_ALLOW_ORIGINS',
    ],
    [
      'a key in a variable and a file',
      { ...GOOD, AZURE_OPENAI_KEY_0_FILE: '/etc/hostname' },
      'SECRET_GIVEN_TWICE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a path of a key that leads upward',
      { ...without('GATEWAY_CLIENT_KEY_0'), GATEWAY_CLIENT_KEY_0_FILE: '/etc/../etc/hostname' },
      'SECRET_FILE_PATH',
      'GATEWAY_CLIENT_KEY_0_FILE',
    ],
    [
      'a secret of the platform in a file',
      { ...GOOD, IDENTITY_HEADER_FILE: '/etc/hostname' },
      'SECRET_FILE_REFUSED',
      'IDENTITY_HEADER_FILE',
    ],
  ])('%s is an error and leaves the rendered files unchanged', async (_, env, expectedCode, setting) => {
    await runHere(['render', '--out', inFolder('out')], { env: { ...GOOD, OTEL_SERVICE_NAME: 'before' } });
    const before = FILES.map((file) => [
      readFileSync(inFolder(`out/${file}`), 'utf8'),
      statSync(inFolder(`out/${file}`)).mtimeMs,
    ]);
    const { code, stdout, stderr } = await runHere(['render', '--out', inFolder('out'), '--format', 'json'], {
      env,
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    const errors = JSON.parse(stderr).diagnostics.filter(
      (each: { severity: string }) => each.severity === 'error',
    );
    expect(errors.map((each: { code: string; setting: string }) => [each.code, each.setting])).toEqual([
      [expectedCode, setting],
    ]);
    expect(
      FILES.map((file) => [
        readFileSync(inFolder(`out/${file}`), 'utf8'),
        statSync(inFolder(`out/${file}`)).mtimeMs,
      ]),
    ).toEqual(before);
    expect((await runHere(['render', '--out', inFolder('new')], { env })).code).toBe(1);
    expect(existsSync(inFolder('new'))).toBe(false);
  });

  test.each<[string, () => string, string]>([
    ['does not exist', () => inFolder('nowhere.env'), 'it does not exist'],
    ['is a folder', () => inFolder('.'), 'it is a folder'],
    [
      'is 50 MB',
      () => inFolder('big.env', Buffer.alloc(50 * 1024 * 1024, '#')),
      'it has more than 4194304 bytes',
    ],
    ['is a device', () => '/dev/zero', 'it is not a file'],
    ['has a NUL', () => inFolder('nul.env', 'A=b\0c\n'), 'NUL'],
    [
      'is a loop of links',
      () => {
        symlinkSync('loop.env', inFolder('loop.env'));
        return inFolder('loop.env');
      },
      'too many symbolic links',
    ],
  ])('an env file that %s is an error', async (_, path, reason) => {
    const { code, stderr } = await runHere(['render', '--env-file', path(), '--out', inFolder('out')], {
      env: GOOD,
    });
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
    expect(existsSync(inFolder('out'))).toBe(false);
  });

  test('one run reports all errors', async () => {
    const { code, stdout } = await runHere(['check', '--format', 'json'], {
      env: {
        AZURE_OPENAI_ENDPOINT_0: 'x',
        AZURE_OPENAI_WEIGHT_0: 'abc',
        GATEWAY_CLIENT_NAME_3: 'c',
        GATEWAY_CLIENT_KEY_3: '',
        LB_ALG: 'random',
        ENABLE_QUOTA: '1',
        ENABLE_OIDC: 'maybe',
      },
    });
    expect(code).toBe(1);
    const settings = JSON.parse(stdout)
      .diagnostics.filter((each: { severity: string }) => each.severity === 'error')
      .map((each: { setting: string }) => each.setting);
    expect(settings).toEqual([
      'AZURE_OPENAI_ENDPOINT_0',
      'AZURE_OPENAI_KEY_0',
      'AZURE_OPENAI_WEIGHT_0',
      'ENABLE_OIDC',
      'GATEWAY_CLIENT_KEY_3',
      'GATEWAY_CLIENT_NAME_3',
      'LB_ALG',
      'QUOTA_COUNT',
      'QUOTA_TIME_WINDOW',
    ]);
  });
});
