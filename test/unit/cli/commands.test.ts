/** The other commands, as a user runs them. */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { PROGRAM, runCli } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('check', () => {
  test('good settings are exit 0, findings go to stdout', () => {
    const { code, stdout, stderr } = runCli(['check'], { env: { ...GOOD, AZURE_OPENAI_ENDPIONT_1: 'x' } });
    expect(code).toBe(0);
    expect(stdout).toContain('did you mean AZURE_OPENAI_ENDPOINT_1?');
    expect(stderr).toBe('The settings are good: 1 backend, 1 client.\n');
  });

  test('--strict makes errors of warnings', () => {
    expect(runCli(['check', '--strict'], { env: { ...GOOD, AZURE_OPENAI_ENDPIONT_1: 'x' } }).code).toBe(1);
    expect(runCli(['check', '--strict'], { env: { ...GOOD, GATEWAY_CLIENT_KEY_0: 'short' } }).code).toBe(1);
    expect(runCli(['check', '--strict'], { env: GOOD }).code).toBe(0);
  });

  test('findings in an env file carry its path and line', () => {
    const file = inFolder('a.env', '# one\n\nexport AZURE_OPENAI_WEIGHT_0=abc\n');
    const { stdout } = runCli(['check', '--env-file', file, '--format', 'github'], { env: GOOD });
    expect(stdout).toContain(`::error file=${file},line=3,title=INVALID_VALUE AZURE_OPENAI_WEIGHT_0::`);
  });
});

describe('preview', () => {
  test.each(['apisix', 'config', 'collector', 'model', 'settings'])(
    '%s shows no secret, inline or not',
    (what) => {
      for (const GATEWAY_SECRETS of ['reference', 'inline']) {
        const { code, stdout } = runCli(['preview', what], { env: { ...GOOD, GATEWAY_SECRETS } });
        expect(code).toBe(0);
        expect(stdout.length).toBeGreaterThan(200);
        expect(stdout).not.toContain('key-of-');
      }
    },
  );

  test('shows what render would write', () => {
    runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect(runCli(['preview'], { env: GOOD }).stdout).toBe(readFileSync(inFolder('out/apisix.yaml'), 'utf8'));
  });

  test('a reader that goes away is no error', () => {
    const { status, stderr } = spawnSync('sh', ['-c', '"$0" docs | head -1', PROGRAM], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('explain', () => {
  test('tells meaning, default, where the value came from, what it becomes', () => {
    const file = inFolder('a.env', 'AZURE_OPENAI_WEIGHT_3=7\nAZURE_OPENAI_ENDPOINT_3=https://c.example\n');
    const { code, stdout } = runCli(
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
    'takes %s',
    (name) => {
      expect(runCli(['explain', name]).stdout).toMatch(/^AZURE_OPENAI_WEIGHT_0\n {2}Share of the requests/);
    },
  );

  test('tells why a value is not used, and never a secret', () => {
    expect(runCli(['explain', 'LB_ALG'], { env: { LB_ALG: 'random' } }).stdout).toContain(
      'nothing: the value is not usable',
    );
    expect(runCli(['explain', 'AZURE_OPENAI_KEY_0'], { env: GOOD }).stdout).toContain(
      '$env://AZURE_OPENAI_KEY_0',
    );
  });

  test('an unknown name is exit 1 with the nearest one', () => {
    const { code, stderr } = runCli(['explain', 'LB_ALGO']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'LB_ALGO is not a setting. Did you mean LB_ALG?\n' });
  });
});

describe('init', () => {
  test.each(['minimal', 'multi-region', 'observability', 'priority-lanes', 'ptu-spillover'])(
    '%s gives an env file that renders',
    (scenario) => {
      const file = inFolder('.env');
      expect(runCli(['init', '--scenario', scenario, '--out', file]).code).toBe(0);
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(runCli(['init', '--scenario', scenario]).stdout).toBe(readFileSync(file, 'utf8'));
      expect(runCli(['render', '--strict', '--env-file', file, '--out', inFolder('out')]).code).toBe(0);
    },
  );

  test('never overwrites', () => {
    const { code, stderr } = runCli(['init', '--out', inFolder('.env', 'mine')]);
    expect(code).toBe(3);
    expect(stderr).toContain('FILE_EXISTS');
    expect(readFileSync(inFolder('.env'), 'utf8')).toBe('mine');
  });
});
