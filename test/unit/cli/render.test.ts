/** What `render` writes, and which source of a setting wins. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCli } from '../../support/cli.ts';
import { FILES, GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('render', () => {
  test('writes three world-readable files and lists the variables that APISIX needs', () => {
    const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const file of FILES) expect(statSync(inFolder(`out/${file}`)).mode & 0o777).toBe(0o644);
    expect(stdout).toContain(
      'The APISIX process needs these variables: AZURE_OPENAI_KEY_0 GATEWAY_CLIENT_KEY_0\n',
    );
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8').slice(-10)).toContain('#END');
  });

  test('lists the first 20 variables, and the number of the others', () => {
    const many = (count: number) =>
      Object.fromEntries(
        Array.from({ length: count }, (_, index) => [
          [`AZURE_OPENAI_ENDPOINT_${index}`, `https://res${index}.openai.azure.com`],
          [`AZURE_OPENAI_KEY_${index}`, `key-of-backend-${index}`],
        ]).flat(),
      );
    const listed = (count: number) => {
      const args = ['render', '--out', inFolder('out')];
      const { stdout } = runCli(args, { env: { ...GOOD, ...many(count) } });
      const [, names = ''] = /^The APISIX process needs these variables: (.*)$/m.exec(stdout) ?? [];
      return [names.match(/\b[A-Z_]+_\d+\b/g)?.length, /and (.*)$/.exec(names)?.[0]];
    };
    expect(listed(19)).toEqual([20, undefined]);
    expect(listed(200)).toEqual([20, 'and 181 more (--format json lists all)']);
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

    test('lists the identity variables that are set here and writes none of their values', () => {
      const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out')], {
        env: { ...ENTRA, ...platform },
      });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain(
        'The APISIX process needs these variables: GATEWAY_CLIENT_KEY_0 IDENTITY_ENDPOINT IDENTITY_HEADER AZURE_TENANT_ID\n',
      );
      const written = FILES.map((file) => readFileSync(inFolder(`out/${file}`), 'utf8')).join();
      for (const value of [platform.IDENTITY_ENDPOINT, platform.IDENTITY_HEADER, platform.AZURE_TENANT_ID])
        expect(written).not.toContain(value);
      expect(written).toContain(`"client_id": "${platform.AZURE_CLIENT_ID}"`);
    });

    test('succeeds under --strict without the identity variables, because only the platform has them', () => {
      const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out'), '--strict'], {
        env: ENTRA,
      });
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('The APISIX process needs these variables: GATEWAY_CLIENT_KEY_0\n');
    });

    test('lists no identity variable when every backend has a key', () => {
      const { stdout } = runCli(['render', '--out', inFolder('out')], { env: { ...GOOD, ...platform } });
      expect(stdout).toContain(
        'The APISIX process needs these variables: AZURE_OPENAI_KEY_0 GATEWAY_CLIENT_KEY_0\n',
      );
    });

    test('writes no identity secret to the files in inline mode', () => {
      const { code } = runCli(['render', '--out', inFolder('out')], {
        env: { ...ENTRA, ...platform, GATEWAY_SECRETS: 'inline' },
      });
      expect(code).toBe(0);
      const written = FILES.map((file) => readFileSync(inFolder(`out/${file}`), 'utf8')).join();
      expect(written).toContain('key-of-client-zero');
      expect(written).not.toContain(platform.IDENTITY_HEADER);
    });
  });

  test('makes files with inline secrets readable by owner and group only', () => {
    const { code, stderr } = runCli(['render', '--out', inFolder('out')], {
      env: { ...GOOD, GATEWAY_SECRETS: 'inline' },
    });
    expect(code).toBe(0);
    expect(stderr).toMatch(/uid 636 and gid 636/);
    for (const file of FILES) expect(statSync(inFolder(`out/${file}`)).mode & 0o777).toBe(0o640);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain('key-of-backend-zero');
  });

  test('leaves the files untouched when the settings are unchanged', () => {
    runCli(['render', '--out', inFolder('out')], { env: GOOD });
    const before = FILES.map((file) => statSync(inFolder(`out/${file}`)).mtimeMs);
    const { stdout } = runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect(stdout).toContain('apisix.yaml  unchanged');
    expect(FILES.map((file) => statSync(inFolder(`out/${file}`)).mtimeMs)).toEqual(before);
  });

  test('reads a secret from a file in inline mode and drops one final newline', () => {
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

  test('lets the environment win over env files, and later env files over earlier ones', () => {
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

  test('exits with 3 and changes nothing when the output cannot be written', () => {
    const { code, stderr } = runCli(['render', '--out', join(inFolder('file', 'x'), 'out')], { env: GOOD });
    expect(code).toBe(3);
    expect(stderr).toContain('OUTPUT_UNWRITABLE');
    expect(readFileSync(inFolder('file'), 'utf8')).toBe('x');
  });

  test('prints JSON with GATEWAY_LOG_FORMAT=json, unless --format overrides it', () => {
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
