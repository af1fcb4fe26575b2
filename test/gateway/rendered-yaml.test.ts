/** The gateway's own reader of apisix.yaml reads every rendered file with the same result as APISIX's reader. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { APISIX_IMAGE, cannotRunGatewayTests } from '../support/apisix.ts';
import { goodScenarios } from '../support/scenarios.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describe.skipIf(cannotRunGatewayTests('rendered files in two readers'))('every golden apisix.yaml', () => {
  test('is read with the same result as by lyaml', () => {
    const files = goodScenarios().map((name) => `test/golden/${name}/expected/apisix.yaml`);
    expect(files.length).toBeGreaterThan(40);
    const archive = spawnSync(
      'tar',
      ['-c', 'lua-plugins/genai', 'test/golden', 'test/support/compare_yaml.lua'],
      {
        cwd: ROOT,
        maxBuffer: 2 ** 26,
      },
    ).stdout;
    const script =
      'tar -x -C /tmp && cd /tmp && exec /usr/local/openresty/luajit/bin/luajit test/support/compare_yaml.lua "$@"';
    const { stdout, stderr } = spawnSync(
      'docker',
      [
        ...['run', '--rm', '-i', '--network', 'none', '--entrypoint', 'bash', APISIX_IMAGE],
        ...['-c', script, 'bash', ...files],
      ],
      { input: archive, encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    expect(stdout.trim().split('\n')).toEqual(files.map((file) => `${file}\tsame`));
  });
});
