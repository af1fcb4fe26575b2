/** `diff` as a user runs it: everything it can compare with, and its exit codes. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { PROGRAM, runHere } from '../../support/cli.ts';
import { FILES, GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

const envFile = (name: string, variables: Readonly<Record<string, string>>) =>
  inFolder(
    name,
    Object.entries(variables)
      .map(([variable, value]) => `${variable}=${value}\n`)
      .join(''),
  );

const render = async (variables: Readonly<Record<string, string>>): Promise<string> => {
  expect((await runHere(['render', '--out', inFolder('rendered')], { env: variables })).code).toBe(0);
  return inFolder('rendered');
};

const WEIGHT = 'backend backend-0: weight 1 → 3\n';
const HEAVY = { ...GOOD, AZURE_OPENAI_WEIGHT_0: '3' };

describe('diff', () => {
  test('exits with 0 when the rendered folder is equal, and with 2 when it differs', async () => {
    const against = await render(GOOD);
    expect(await runHere(['diff', '--against', against], { env: GOOD })).toEqual({
      code: 0,
      stdout: '',
      stderr: 'There are no differences.\n',
    });
    expect(await runHere(['diff', '--against', against], { env: HEAVY })).toEqual({
      code: 2,
      stdout: WEIGHT,
      stderr: '1 difference.\n',
    });
    expect((await runHere(['diff', '--against', against, '--quiet'], { env: HEAVY })).stderr).toBe('');
  });

  test('reports what a render would change, and nothing after that render', async () => {
    const against = await render(GOOD);
    const env = { ...HEAVY, APISIX_LOG_LEVEL: 'info', ENABLE_DEBUG_EXPORTER: 'true' };
    const { code, stdout } = await runHere(['diff', '--against', against], { env });
    expect(code).toBe(2);
    expect(stdout).toContain(WEIGHT);
    expect(stdout).toContain(
      'setting of the gateway: log level warn → info (takes effect at the next start)\n',
    );
    expect(stdout).toContain('collector exporter debug: added\n');
    await render(env);
    expect((await runHere(['diff', '--against', against], { env })).code).toBe(0);
  });

  test('compares one file alone, recognised by its name or its content', async () => {
    const against = await render(GOOD);
    const env = { ...HEAVY, APISIX_LOG_LEVEL: 'info', OTEL_SERVICE_NAME: 'mine' };
    const expected = [
      'setting of the gateway: log level warn → info (takes effect at the next start)\n',
      WEIGHT,
      'collector processor resource: attributes.service.name.value apisix-gateway → mine\n',
    ];
    for (const [index, name] of FILES.entries()) {
      const other = inFolder('copy.yaml', readFileSync(`${against}/${name}`, 'utf8'));
      for (const path of [`${against}/${name}`, other]) {
        expect(await runHere(['diff', '--against', path], { env })).toMatchObject({
          code: 2,
          stdout: expected[index],
        });
        expect((await runHere(['diff', '--against', path], { env: GOOD })).code).toBe(0);
      }
    }
  });

  test('compares with an env file, and applies the environment to both sides', async () => {
    const old = envFile('old.env', GOOD);
    const current = envFile('new.env', { ...HEAVY, GATEWAY_CLIENT_KEY_0: 'other-key-of-client-zero' });
    const differ = await runHere(['diff', '--against', old, '--env-file', current]);
    expect(differ).toMatchObject({
      code: 2,
      stdout: `${WEIGHT}client app: key changed (takes effect at the next start)\n`,
    });
    const env = { AZURE_OPENAI_WEIGHT_0: '9', GATEWAY_CLIENT_KEY_0: 'key-of-the-environment' };
    expect((await runHere(['diff', '--against', old, '--env-file', current], { env })).code).toBe(0);
    expect((await runHere(['diff', '--against', old, '--env-file', old])).code).toBe(0);
  });

  test('compares several env files with several, and the last one wins', async () => {
    const base = envFile('base.env', GOOD);
    const one = envFile('one.env', { AZURE_OPENAI_WEIGHT_0: '1' });
    const three = envFile('three.env', { AZURE_OPENAI_WEIGHT_0: '3' });
    expect(
      await runHere(['diff', '--against', base, '--against', one, '-e', base, '-e', one, '-e', three]),
    ).toMatchObject({ code: 2, stdout: WEIGHT });
  });

  test('compares with a pipe, such as a file of an earlier commit', async () => {
    const [old, current] = [envFile('old.env', GOOD), envFile('new.env', HEAVY)];
    const rendered = await render(GOOD);
    for (const file of [old, `${rendered}/apisix.yaml`]) {
      const { status, stdout } = spawnSync('bash', [
        '-c',
        `"$0" diff --against <(cat ${file}) --env-file <(cat ${current})`,
        PROGRAM,
      ]);
      expect({ status, stdout: stdout.toString() }).toEqual({ status: 2, stdout: WEIGHT });
    }
  });

  test('compares variables that the gateway reads at run time between env files', async () => {
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
    expect(await runHere(['diff', '--against', old, '--env-file', current])).toMatchObject({
      code: 2,
      stdout:
        'run-time variable IDENTITY_HEADER: value changed (takes effect at the next start)\n' +
        'run-time variable AZURE_TENANT_ID: value one → two (takes effect at the next start)\n',
    });
  });

  test('prints JSON with --format json or GATEWAY_LOG_FORMAT=json', async () => {
    const against = await render(GOOD);
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
    const asked = await runHere(['diff', '--against', against, '--format', 'json'], { env: HEAVY });
    expect(asked.code).toBe(2);
    expect(JSON.parse(asked.stdout)).toEqual({ against: [against], same: false, changes: [change] });
    const inSettings = await runHere(['diff', '--against', against], {
      env: { ...GOOD, GATEWAY_LOG_FORMAT: 'json' },
    });
    expect(inSettings.code).toBe(0);
    expect(JSON.parse(inSettings.stdout)).toEqual({ against: [against], same: true, changes: [] });
  });

  test('compares files made from custom templates like all others', async () => {
    mkdirSync(inFolder('templates/apisix'), { recursive: true });
    const routes = readFileSync(
      new URL('../../../templates/apisix/routes.hbs', import.meta.url),
      'utf8',
    ).replace('uri: "/openai/*"', 'uri: "/azure/*"');
    writeFileSync(inFolder('templates/apisix/routes.hbs'), routes);
    const against = await render(GOOD);
    const templates = ['--templates', inFolder('templates')];
    expect(await runHere(['diff', '--against', against, ...templates], { env: GOOD })).toMatchObject({
      code: 2,
      stdout: 'route openai: uri /openai/* → /azure/*\n',
    });
    expect(
      await runHere(['diff', '--against', envFile('old.env', GOOD), ...templates], { env: GOOD }),
    ).toMatchObject({ code: 0, stdout: '' });
  });

  test('exits with 1 for wrong settings and says on which side they are', async () => {
    const against = await render(GOOD);
    const own = await runHere(['diff', '--against', against], {
      env: { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' },
    });
    expect(own).toMatchObject({ code: 1, stdout: '' });
    expect(own.stderr).toContain('AZURE_OPENAI_WEIGHT_0');
    const old = envFile('old.env', { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' });
    const other = await runHere(['diff', '--against', old, '--env-file', envFile('new.env', GOOD)]);
    expect(other).toMatchObject({ code: 1, stdout: '' });
    expect(other.stderr).toContain(
      `The settings of ${old} have errors, so there is nothing to compare with:\n`,
    );
    expect(other.stderr).toContain(`${old}:6`);
  });

  test.each<[string, () => string, string]>([
    ['is not there', () => inFolder('nowhere'), 'it does not exist'],
    ['is a folder without rendered files', () => inFolder('.'), 'it holds none of config.yaml'],
    ['is another YAML file', () => inFolder('x.yaml', 'a: 1\n'), 'it is none of config.yaml'],
    ['is no text', () => inFolder('x', Buffer.from([0, 1, 2])), 'it is no text'],
    ['is a device', () => '/dev/zero', 'it is not a file'],
    ['is broken', () => inFolder('apisix.yaml', 'services: [\n  "key-of-x\n'), 'is not YAML'],
    [
      'is a folder with a broken file',
      () => {
        inFolder('config.yaml', 'apisix: {\n');
        return inFolder('.');
      },
      'config.yaml: line',
    ],
  ])('exits with 3 for an --against path that %s', async (_, path, reason) => {
    const { code, stdout, stderr } = await runHere(['diff', '--against', path()], { env: GOOD });
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain(reason);
    expect(stderr).not.toContain('key-of-x');
  });

  test('exits with 64 for wrong usage', async () => {
    const against = await render(GOOD);
    for (const args of [
      [],
      ['--against', ''],
      ['--against', against, '--format', 'sarif'],
      ['--against', against, '--against', envFile('old.env', GOOD)],
    ])
      expect(await runHere(['diff', ...args], { env: GOOD })).toMatchObject({ code: 64, stdout: '' });
  });
});
