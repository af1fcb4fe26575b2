/** `diff` as a user runs it: each kind of thing to compare with, and what the exit code says. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { PROGRAM, runCli } from '../../support/cli.ts';
import { FILES, GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

const envFile = (name: string, variables: Readonly<Record<string, string>>) =>
  inFolder(
    name,
    Object.entries(variables)
      .map(([variable, value]) => `${variable}=${value}\n`)
      .join(''),
  );

const render = (variables: Readonly<Record<string, string>>): string => {
  expect(runCli(['render', '--out', inFolder('rendered')], { env: variables }).code).toBe(0);
  return inFolder('rendered');
};

const WEIGHT = 'backend backend-0: weight 1 → 3\n';
const HEAVY = { ...GOOD, AZURE_OPENAI_WEIGHT_0: '3' };

describe('diff', () => {
  test('against the folder that was rendered: nothing is exit 0, something exit 2', () => {
    const against = render(GOOD);
    expect(runCli(['diff', '--against', against], { env: GOOD })).toEqual({
      code: 0,
      stdout: '',
      stderr: 'Nothing differs.\n',
    });
    expect(runCli(['diff', '--against', against], { env: HEAVY })).toEqual({
      code: 2,
      stdout: WEIGHT,
      stderr: '1 difference.\n',
    });
    expect(runCli(['diff', '--against', against, '--quiet'], { env: HEAVY }).stderr).toBe('');
  });

  test('says what a render would change: after it, nothing differs', () => {
    const against = render(GOOD);
    const env = { ...HEAVY, APISIX_LOG_LEVEL: 'info', ENABLE_DEBUG_EXPORTER: 'true' };
    const { code, stdout } = runCli(['diff', '--against', against], { env });
    expect(code).toBe(2);
    expect(stdout).toContain(WEIGHT);
    expect(stdout).toContain(
      'setting of the gateway: log level warn → info (takes effect at the next start)\n',
    );
    expect(stdout).toContain('collector exporter debug: added\n');
    render(env);
    expect(runCli(['diff', '--against', against], { env }).code).toBe(0);
  });

  test('against one file, that alone is compared; it is known by its name or by what is in it', () => {
    const against = render(GOOD);
    const env = { ...HEAVY, APISIX_LOG_LEVEL: 'info', OTEL_SERVICE_NAME: 'mine' };
    const expected = [
      'setting of the gateway: log level warn → info (takes effect at the next start)\n',
      WEIGHT,
      'collector processor resource: attributes.service.name.value apisix-gateway → mine\n',
    ];
    for (const [index, name] of FILES.entries()) {
      const other = inFolder('copy.yaml', readFileSync(`${against}/${name}`, 'utf8'));
      for (const path of [`${against}/${name}`, other]) {
        expect(runCli(['diff', '--against', path], { env })).toMatchObject({
          code: 2,
          stdout: expected[index],
        });
        expect(runCli(['diff', '--against', path], { env: GOOD }).code).toBe(0);
      }
    }
  });

  test('against an env file: by itself, with the environment over both', () => {
    const old = envFile('old.env', GOOD);
    const current = envFile('new.env', { ...HEAVY, GATEWAY_CLIENT_KEY_0: 'other-key-of-client-zero' });
    const differ = runCli(['diff', '--against', old, '--env-file', current]);
    expect(differ).toMatchObject({
      code: 2,
      stdout: `${WEIGHT}client app: key changed (takes effect at the next start)\n`,
    });
    const env = { AZURE_OPENAI_WEIGHT_0: '9', GATEWAY_CLIENT_KEY_0: 'key-of-the-environment' };
    expect(runCli(['diff', '--against', old, '--env-file', current], { env }).code).toBe(0);
    expect(runCli(['diff', '--against', old, '--env-file', old]).code).toBe(0);
  });

  test('several env files against several, later ones winning', () => {
    const base = envFile('base.env', GOOD);
    const one = envFile('one.env', { AZURE_OPENAI_WEIGHT_0: '1' });
    const three = envFile('three.env', { AZURE_OPENAI_WEIGHT_0: '3' });
    expect(
      runCli(['diff', '--against', base, '--against', one, '-e', base, '-e', one, '-e', three]),
    ).toMatchObject({ code: 2, stdout: WEIGHT });
  });

  test('against a pipe, as of a version that is not there any more', () => {
    const [old, current] = [envFile('old.env', GOOD), envFile('new.env', HEAVY)];
    const rendered = render(GOOD);
    for (const file of [old, `${rendered}/apisix.yaml`]) {
      const { status, stdout } = spawnSync('bash', [
        '-c',
        `"$0" diff --against <(cat ${file}) --env-file <(cat ${current})`,
        PROGRAM,
      ]);
      expect({ status, stdout: stdout.toString() }).toEqual({ status: 2, stdout: WEIGHT });
    }
  });

  test('variables that the gateway reads when it runs are compared between env files', () => {
    const entra = {
      ...GOOD,
      AZURE_OPENAI_AUTH_MODE_0: 'entra',
      AZURE_TENANT_ID: 'one',
      MSI_ENDPOINT: 'http://127.0.0.1:1/',
      IDENTITY_HEADER: 'secret-of-the-platform',
    };
    const old = envFile('old.env', entra);
    const current = envFile('new.env', {
      ...entra,
      AZURE_TENANT_ID: 'two',
      IDENTITY_HEADER: 'another-of-the-platform',
    });
    expect(runCli(['diff', '--against', old, '--env-file', current])).toMatchObject({
      code: 2,
      stdout:
        'run-time variable IDENTITY_HEADER: value changed (takes effect at the next start)\n' +
        'run-time variable AZURE_TENANT_ID: value one → two (takes effect at the next start)\n',
    });
  });

  test('JSON for programs, on request or by GATEWAY_LOG_FORMAT', () => {
    const against = render(GOOD);
    const change = {
      object: 'backend',
      name: 'backend-0',
      kind: 'changed',
      field: 'weight',
      before: 1,
      after: 3,
      document: 'apisix.yaml',
      path: '/services/azure-openai/plugins/ai-proxy-multi/instances/backend-0/weight',
      effect: 'at once',
    };
    const asked = runCli(['diff', '--against', against, '--format', 'json'], { env: HEAVY });
    expect(asked.code).toBe(2);
    expect(JSON.parse(asked.stdout)).toEqual({ against: [against], same: false, changes: [change] });
    const inSettings = runCli(['diff', '--against', against], {
      env: { ...GOOD, GATEWAY_LOG_FORMAT: 'json' },
    });
    expect(inSettings.code).toBe(0);
    expect(JSON.parse(inSettings.stdout)).toEqual({ against: [against], same: true, changes: [] });
  });

  test('files made with templates of one’s own are compared like all others', () => {
    mkdirSync(inFolder('templates/apisix'), { recursive: true });
    const routes = readFileSync(
      new URL('../../../templates/apisix/routes.hbs', import.meta.url),
      'utf8',
    ).replace('uri: "/openai/*"', 'uri: "/azure/*"');
    writeFileSync(inFolder('templates/apisix/routes.hbs'), routes);
    const against = render(GOOD);
    const templates = ['--templates', inFolder('templates')];
    expect(runCli(['diff', '--against', against, ...templates], { env: GOOD })).toMatchObject({
      code: 2,
      stdout: 'route openai: uri /openai/* → /azure/*\n',
    });
    expect(
      runCli(['diff', '--against', envFile('old.env', GOOD), ...templates], { env: GOOD }),
    ).toMatchObject({ code: 0, stdout: '' });
  });

  test('wrong settings are exit 1, and say on which side', () => {
    const against = render(GOOD);
    const own = runCli(['diff', '--against', against], { env: { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' } });
    expect(own).toMatchObject({ code: 1, stdout: '' });
    expect(own.stderr).toContain('AZURE_OPENAI_WEIGHT_0');
    const old = envFile('old.env', { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' });
    const other = runCli(['diff', '--against', old, '--env-file', envFile('new.env', GOOD)]);
    expect(other).toMatchObject({ code: 1, stdout: '' });
    expect(other.stderr).toContain(`The settings of ${old} give nothing to compare with:\n`);
    expect(other.stderr).toContain(`${old}:6`);
  });

  test.each<[string, () => string, string]>([
    ['is not there', () => inFolder('nowhere'), 'it does not exist'],
    ['is a folder without rendered files', () => inFolder('.'), 'it holds none of config.yaml'],
    ['is another YAML file', () => inFolder('x.yaml', 'a: 1\n'), 'it is none of config.yaml'],
    ['is no text', () => inFolder('x', Buffer.from([0, 1, 2])), 'it is no text'],
    ['is a device', () => '/dev/zero', 'it is not a file'],
    ['is broken', () => inFolder('apisix.yaml', 'services: [\n  "key-of-x\n'), 'is no YAML'],
    [
      'is a folder with a broken file',
      () => {
        inFolder('config.yaml', 'apisix: {\n');
        return inFolder('.');
      },
      'config.yaml: line',
    ],
  ])('what %s is exit 3', (_, path, reason) => {
    const { code, stdout, stderr } = runCli(['diff', '--against', path()], { env: GOOD });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain(reason);
    expect(stderr).not.toContain('key-of-x');
  });

  test('wrong usage is exit 64', () => {
    const against = render(GOOD);
    for (const args of [
      [],
      ['--against', ''],
      ['--against', against, '--format', 'sarif'],
      ['--against', against, '--against', envFile('old.env', GOOD)],
    ])
      expect(runCli(['diff', ...args], { env: GOOD })).toMatchObject({ code: 64, stdout: '' });
  });
});
