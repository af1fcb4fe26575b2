/** What render writes, from which sources, and what it leaves behind. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCli } from '../../support/cli.ts';
import { FILES, GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('render', () => {
  test('writes the three files, world-readable, and says which variables are needed', () => {
    const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const file of FILES) expect(statSync(inFolder(`out/${file}`)).mode & 0o777).toBe(0o644);
    expect(stdout).toContain("APISIX's process must have: AZURE_OPENAI_KEY_0 GATEWAY_CLIENT_KEY_0\n");
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8').slice(-10)).toContain('#END');
  });

  describe('with backends that sign in with Entra', () => {
    const { AZURE_OPENAI_KEY_0: _, ...withoutKey } = GOOD;
    const ENTRA = { ...withoutKey, AZURE_OPENAI_AUTH_MODE: 'entra' };
    const platform = {
      IDENTITY_ENDPOINT: 'http://127.0.0.1:42356/msi/token',
      IDENTITY_HEADER: 'header-of-the-platform-0123',
      AZURE_CLIENT_ID: '00000000-1111-2222-3333-444444444444',
      AZURE_TENANT_ID: 'contoso.example',
    };

    test('says that the gateway needs what of the platform’s variables is here, and writes no value', () => {
      const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out')], {
        env: { ...ENTRA, ...platform },
      });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain(
        "APISIX's process must have: GATEWAY_CLIENT_KEY_0 IDENTITY_ENDPOINT IDENTITY_HEADER AZURE_TENANT_ID\n",
      );
      const written = FILES.map((file) => readFileSync(inFolder(`out/${file}`), 'utf8')).join();
      for (const value of [platform.IDENTITY_ENDPOINT, platform.IDENTITY_HEADER, platform.AZURE_TENANT_ID])
        expect(written).not.toContain(value);
      expect(written).toContain(`"client_id": "${platform.AZURE_CLIENT_ID}"`);
    });

    test('none of them needs to be here: the platform has them where the gateway runs', () => {
      const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out'), '--strict'], {
        env: ENTRA,
      });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain("APISIX's process must have: GATEWAY_CLIENT_KEY_0\n");
    });

    test('not where every backend has a key', () => {
      const { stdout } = runCli(['render', '--out', inFolder('out')], { env: { ...GOOD, ...platform } });
      expect(stdout).toContain("APISIX's process must have: AZURE_OPENAI_KEY_0 GATEWAY_CLIENT_KEY_0\n");
    });

    test('its secrets stay out of the files in inline mode too', () => {
      const { code } = runCli(['render', '--out', inFolder('out')], {
        env: { ...ENTRA, ...platform, GATEWAY_SECRETS: 'inline' },
      });
      expect(code).toBe(0);
      const written = FILES.map((file) => readFileSync(inFolder(`out/${file}`), 'utf8')).join();
      expect(written).toContain('key-of-client-zero');
      expect(written).not.toContain(platform.IDENTITY_HEADER);
    });
  });

  test('writes inline secrets readable by owner and group only', () => {
    const { code, stderr } = runCli(['render', '--out', inFolder('out')], {
      env: { ...GOOD, GATEWAY_SECRETS: 'inline' },
    });
    expect(code).toBe(0);
    expect(stderr).toMatch(/uid 636 and gid 636/);
    for (const file of FILES) expect(statSync(inFolder(`out/${file}`)).mode & 0o777).toBe(0o640);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain('key-of-backend-zero');
  });

  test('a second run with the same settings touches nothing', () => {
    runCli(['render', '--out', inFolder('out')], { env: GOOD });
    const before = FILES.map((file) => statSync(inFolder(`out/${file}`)).mtimeMs);
    const { stdout } = runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect(stdout).toContain('apisix.yaml  unchanged');
    expect(FILES.map((file) => statSync(inFolder(`out/${file}`)).mtimeMs)).toEqual(before);
  });

  test('reads a secret from a file in inline mode, less one final newline', () => {
    const { AZURE_OPENAI_KEY_0: _, ...env } = GOOD;
    const file = inFolder('key', 'key "from" a\\file\n');
    const { code } = runCli(['render', '--out', inFolder('out')], {
      env: { ...env, AZURE_OPENAI_KEY_0_FILE: file, GATEWAY_SECRETS: 'inline' },
    });
    expect(code).toBe(0);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain(
      'api-key: "key \\"from\\" a\\\\file"\n',
    );
  });

  test('the environment wins over env files, later env files over earlier ones', () => {
    const one = inFolder('1.env', 'AZURE_OPENAI_NAME_0=from-first\nAPISIX_LOG_LEVEL=info\nLB_ALG=chash\n');
    const two = inFolder('2.env', 'AZURE_OPENAI_NAME_0=from-second\nAPISIX_LOG_LEVEL=error\n');
    const { stdout } = runCli(['preview', 'model', '--env-file', one, '--env-file', two], {
      env: { ...GOOD, APISIX_LOG_LEVEL: 'crit' },
    });
    expect(JSON.parse(stdout)).toMatchObject({
      backends: [{ name: 'from-second' }],
      server: { logLevel: 'crit' },
      balancing: { algorithm: 'chash' },
    });
  });

  test('an output that cannot be written is exit 3, and nothing changed', () => {
    const { code, stderr } = runCli(['render', '--out', join(inFolder('file', 'x'), 'out')], { env: GOOD });
    expect(code).toBe(3);
    expect(stderr).toContain('OUTPUT_UNWRITABLE');
    expect(readFileSync(inFolder('file'), 'utf8')).toBe('x');
  });

  test('GATEWAY_LOG_FORMAT=json makes JSON of diagnostics and summary, --format wins over it', () => {
    const { stdout, stderr } = runCli(['render', '--out', inFolder('out')], {
      env: { ...GOOD, GATEWAY_LOG_FORMAT: 'json' },
    });
    expect(JSON.parse(stderr)).toEqual({ diagnostics: [], summary: { error: 0, warning: 0, info: 0 } });
    expect(JSON.parse(stdout)).toMatchObject({
      files: { 'apisix.yaml': 'written' },
      variables: { apisix: ['AZURE_OPENAI_KEY_0', 'GATEWAY_CLIENT_KEY_0'], collector: [] },
    });
    expect(
      runCli(['render', '--out', inFolder('out'), '--format', 'text'], {
        env: { ...GOOD, GATEWAY_LOG_FORMAT: 'json' },
      }).stdout,
    ).toContain('apisix.yaml  unchanged');
  });
});
