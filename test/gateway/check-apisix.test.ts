/** `check --apisix` lets APISIX itself load the rendered files with our plugins, and reports what it rejects. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.ts';
import { cannotRun } from '../support/requirements.ts';
import { GOOD, workspace } from '../support/workspace.ts';

const skipped = cannotRun('check --apisix', 'apisix');
const TIMEOUT_MS = 180_000;
const TEMPLATES = join(import.meta.dirname, '../../templates');

const inFolder = workspace();

/** A templates folder with one custom template. */
function overriding(name: string, text: string): string {
  const file = inFolder(`templates/${name}.hbs`);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return inFolder('templates');
}

const SETTINGS = { ...GOOD, ENABLE_RESPONSE_REWRITE: 'true' };

describe.skipIf(skipped)('check --apisix', () => {
  test(
    'accepts what the templates of this version render',
    () => {
      const file = join(import.meta.dirname, '../../examples/ptu-spillover.env');
      const { code, stdout, stderr } = runCli(['check', '-e', file, '--apisix']);
      expect(code).toBe(0);
      expect(stdout).toMatch(/^info .*\[EXAMPLE_SETTINGS\]\n1 info\n$/);
      expect(stderr).toMatch(/^The settings are valid: .*; APISIX loads the rendered files\.\n$/);
    },
    TIMEOUT_MS,
  );

  test(
    'reports a custom template that the schemas accept and APISIX rejects',
    () => {
      const templates = overriding(
        'apisix/plugins/response-rewrite',
        'response-rewrite:\n  body: "%%%"\n  body_base64: true\n',
      );
      const args = ['check', '--templates', templates];
      expect(runCli(args, { env: SETTINGS })).toMatchObject({ code: 0, stdout: '' });
      const { code, stdout } = runCli([...args, '--apisix', '--format', 'json'], { env: SETTINGS });
      expect(code).toBe(1);
      const { diagnostics } = JSON.parse(stdout);
      expect(diagnostics).toHaveLength(1);
      expect(diagnostics[0]).toMatchObject({
        code: 'APISIX_REJECTS',
        setting: 'apisix.yaml',
        hint: 'check your own templates: apisix/plugins/response-rewrite',
      });
      expect(diagnostics[0].message).toMatch(
        /services not loaded, .*: azure-openai\. Its error log: .*plugin response-rewrite err: invalid base64 content$/,
      );
      expect(stdout).not.toContain(GOOD.AZURE_OPENAI_KEY_0);
    },
    TIMEOUT_MS,
  );

  test(
    'says why APISIX does not start, for the environment with the error only',
    () => {
      const config = readFileSync(join(TEMPLATES, 'config.yaml.hbs'), 'utf8');
      const templates = overriding(
        'config.yaml',
        config.replace(
          'http_configuration_snippet: "',
          'http_configuration_snippet: "no_such_directive on;\\n',
        ),
      );
      const { code, stdout } = runCli(['check', '--templates', templates, '--apisix'], { env: SETTINGS });
      expect(code).toBe(1);
      expect(stdout).toMatch(
        /^error config\.yaml: APISIX does not load all of config\.yaml: APISIX does not start\./,
      );
      expect(stdout).toContain('unknown directive "no_such_directive"');
    },
    TIMEOUT_MS,
  );

  test(
    'leaves no container, and does not start Docker for settings with errors',
    () => {
      expect(runCli(['check', '--apisix'], { env: { ...SETTINGS, LB_ALG: 'x' } }).code).toBe(1);
      const left = spawnSync(
        'docker',
        ['ps', '--all', '--filter', 'name=genai-gateway-check', '--format', '{{.Names}}'],
        {
          encoding: 'utf8',
        },
      );
      expect(left.stdout).toBe('');
    },
    TIMEOUT_MS,
  );
});

test('check --apisix exits with 3 and says so when there is no docker command', () => {
  symlinkSync(process.execPath, inFolder('node'));
  const { code, stdout, stderr } = runCli(['check', '--apisix'], {
    env: { ...GOOD, PATH: `${inFolder('.')}:${inFolder('nothing')}` },
  });
  expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
  expect(stderr).toContain('The check with APISIX is not possible. The docker command is missing');
});
