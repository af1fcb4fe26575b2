/** The commands check, preview, explain and init, run as a user runs them. */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { PROGRAM, runHere } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('check', () => {
  test('exits with 0 for good settings and prints diagnostics to stdout', async () => {
    const { code, stdout, stderr } = await runHere(['check'], {
      env: { ...GOOD, AZURE_OPENAI_ENDPIONT_1: 'x' },
    });
    expect(code).toBe(0);
    expect(stdout).toContain('did you mean AZURE_OPENAI_ENDPOINT_1?');
    expect(stderr).toBe('The settings are valid: 1 backend, 1 client.\n');
  });

  test('--strict turns warnings into errors', async () => {
    expect(
      (await runHere(['check', '--strict'], { env: { ...GOOD, AZURE_OPENAI_ENDPIONT_1: 'x' } })).code,
    ).toBe(1);
    expect(
      (await runHere(['check', '--strict'], { env: { ...GOOD, GATEWAY_CLIENT_KEY_0: 'short' } })).code,
    ).toBe(1);
    expect((await runHere(['check', '--strict'], { env: GOOD })).code).toBe(0);
  });

  test('a diagnostic about an env file has its path and line', async () => {
    const file = inFolder('a.env', '# one\n\nexport AZURE_OPENAI_WEIGHT_0=abc\n');
    const { stdout } = await runHere(['check', '--env-file', file, '--format', 'github'], { env: GOOD });
    expect(stdout).toContain(`::error file=${file},line=3,title=INVALID_VALUE AZURE_OPENAI_WEIGHT_0::`);
  });
});

describe('preview', () => {
  test.each(['apisix', 'config', 'collector', 'model', 'settings'])(
    '%s prints no secret, whether secrets are inline or references',
    async (what) => {
      for (const GATEWAY_SECRETS of ['reference', 'inline']) {
        const { code, stdout } = await runHere(['preview', what], { env: { ...GOOD, GATEWAY_SECRETS } });
        expect(code).toBe(0);
        expect(stdout.length).toBeGreaterThan(200);
        expect(stdout).not.toContain('key-of-');
      }
    },
  );

  test('prints what render would write', async () => {
    await runHere(['render', '--out', inFolder('out')], { env: GOOD });
    expect((await runHere(['preview'], { env: GOOD })).stdout).toBe(
      readFileSync(inFolder('out/apisix.yaml'), 'utf8'),
    );
  });

  test('exits with 0 when the reader of its output closes the pipe', () => {
    const { status, stderr } = spawnSync('sh', ['-c', '"$0" docs | head -1', PROGRAM], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('explain', () => {
  test('prints meaning, default, source and effective value of a setting, and where it is written', async () => {
    const file = inFolder('a.env', 'AZURE_OPENAI_WEIGHT_3=7\nAZURE_OPENAI_ENDPOINT_3=https://c.example\n');
    const { code, stdout } = await runHere(
      ['explain', 'azure_openai_weight_3', '--env-file', file, '--format', 'json'],
      { env: GOOD },
    );
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      name: 'AZURE_OPENAI_WEIGHT_3',
      default: '1',
      source: `${file}:1`,
      becomes: '7',
      output: ['apisix.yaml: services[].plugins.ai-proxy-multi.instances[].weight'],
    });
  });

  test.each([['AZURE_OPENAI_WEIGHT_N'], ['AZURE_OPENAI_WEIGHT'], ['AZURE_OPENAI_WEIGHT_0']])(
    'accepts the form %s',
    async (name) => {
      expect((await runHere(['explain', name])).stdout).toMatch(
        /^AZURE_OPENAI_WEIGHT_0\n {2}Share of the requests/,
      );
    },
  );

  test('says why a value is not used, and prints no secret', async () => {
    expect((await runHere(['explain', 'LB_ALG'], { env: { LB_ALG: 'random' } })).stdout).toContain(
      'nothing: the value is not usable',
    );
    expect((await runHere(['explain', 'AZURE_OPENAI_KEY_0'], { env: GOOD })).stdout).toContain(
      '$env://AZURE_OPENAI_KEY_0',
    );
  });

  test('exits with 1 for an unknown name and suggests the nearest setting', async () => {
    const { code, stderr } = await runHere(['explain', 'LB_ALGO']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'LB_ALGO is not a setting. Did you mean LB_ALG?\n' });
  });
});

describe('init', () => {
  test.each(['minimal', 'multi-region', 'observability', 'priority-lanes', 'ptu-spillover'])(
    '%s writes an env file that renders once endpoints and keys are filled in',
    async (scenario) => {
      const file = inFolder('.env');
      expect((await runHere(['init', '--scenario', scenario, '--out', file])).code).toBe(0);
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const text = readFileSync(file, 'utf8');
      const withoutKeys = (given: string) => given.replaceAll(/=[0-9a-f]{48}$/gm, '=');
      expect(withoutKeys((await runHere(['init', '--scenario', scenario])).stdout)).toBe(withoutKeys(text));

      const render = () => runHere(['render', '--strict', '--env-file', file, '--out', inFolder('out')]);
      const { code, stderr } = await render();
      expect(code).toBe(1);
      const waiting = [...stderr.matchAll(/^error (\S+): .* from an example/gm)].map(([, name]) => name);
      const expected = [...text.matchAll(/^(AZURE_OPENAI_(?:ENDPOINT|KEY)_\d+)=/gm)].map(([, name]) => name);
      expect(waiting.toSorted()).toEqual(expected.toSorted());

      const filled = text
        .replaceAll(/=https:\/\/my-/g, '=https://contoso-')
        .replaceAll(/=replace-with-.*$/gm, '=0123456789abcdef0123456789abcdef');
      inFolder('.env', filled.replaceAll(/^(AZURE_OPENAI_KEY_(\d)=.*)$/gm, '$1$2'));
      expect((await render()).code).toBe(0);
    },
  );

  test('generates a new random key for every client on every run', async () => {
    const keys = async () => {
      const { stdout } = await runHere(['init', '--scenario', 'priority-lanes']);
      return [...stdout.matchAll(/^GATEWAY_CLIENT_KEY_\d=([0-9a-f]{48})$/gm)].map(([, key]) => key);
    };
    const all = [...(await keys()), ...(await keys())];
    expect(all.length).toBeGreaterThan(3);
    expect(new Set(all).size).toBe(all.length);
  });

  test('does not overwrite an existing file', async () => {
    const { code, stderr } = await runHere(['init', '--out', inFolder('.env', 'mine')]);
    expect(code).toBe(3);
    expect(stderr).toContain('FILE_EXISTS');
    // Node's own recursive mkdir would not end there.
    expect((await runHere(['init', '--out', '/proc/none/.env'])).code).toBe(3);
    const below = await runHere(['init', '--out', `${inFolder('x.env', 'mine')}/.env`]);
    expect(below.code).toBe(3);
    expect(below.stderr).toContain('OUTPUT_UNWRITABLE');
    expect(readFileSync(inFolder('.env'), 'utf8')).toBe('mine');
  });
});

describe('explain', () => {
  test.each(['SHORT_CLIENT_KEY', 'short_client_key', 'POLICY_TLS'])(
    'prints what the code %s means',
    async (code) => {
      const { code: exit, stdout } = await runHere(['explain', code]);
      expect(exit).toBe(0);
      expect(stdout).toMatch(new RegExp(`^${code.toUpperCase()}\\n {2}\\w.*\\n\\n {2}what to do {2}\\w`));
      const json = JSON.parse((await runHere(['explain', code, '--format', 'json'])).stdout);
      expect(Object.keys(json)).toEqual(['code', 'about', 'remedy', 'help']);
    },
  );

  test('explains an error that clients get, whatever the case of its code', async () => {
    const { code, stdout } = await runHere(['explain', 'DEPLOYMENTNOTFOUND']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^DeploymentNotFound\n {2}\w.*\n\n {2}status {6}404\n {2}client {6}Use /);
    expect(stdout).toContain('docs/client-errors.md#deploymentnotfound');
    const json = JSON.parse((await runHere(['explain', 'unavailable', '--format', 'json'])).stdout);
    expect(json).toMatchObject({
      code: 'unavailable',
      status: '503',
      operator: expect.stringContaining('(docs/readiness.md)'),
    });
  });

  test('lists the settings that match a search word', async () => {
    const named = await runHere(['explain', 'cooldown']);
    expect(named).toMatchObject({ code: 1, stdout: '' });
    expect(named.stderr).toContain('cooldown is not a setting.');
    expect(named.stderr).toMatch(/Related settings:\n(?:.*\n)? {2}AI_PROXY_COOLDOWN /);
    expect((await runHere(['explain', 'log level'])).stderr).toContain('APISIX_LOG_LEVEL');
    expect((await runHere(['explain', 'xyzzy'])).stderr).toBe('xyzzy is not a setting.\n');
  });

  test.each([
    ['INVALID_VALU', 'INVALID_VALUE'],
    ['short_client_kye', 'SHORT_CLIENT_KEY'],
    ['upstream_unavailble', 'upstream_unavailable'],
    ['LB_ALGO', 'LB_ALG'],
  ])('%s is not explained, and the nearest name %s is suggested', async (word, meant) => {
    const { code, stderr } = await runHere(['explain', word]);
    expect(code).toBe(1);
    expect(stderr).toContain(`${word} is not a setting. Did you mean ${meant}?`);
  });
});
