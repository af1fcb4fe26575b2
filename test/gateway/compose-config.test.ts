/** examples/compose is valid for Docker Compose. Nothing is started. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cannotRun } from '../support/requirements.ts';

const FOLDER = join(import.meta.dirname, '../../examples/compose');

test.skipIf(cannotRun('docker compose config', 'compose'))('docker compose accepts the example', () => {
  const { status, stderr } = spawnSync('docker', ['compose', 'config', '--quiet'], {
    cwd: FOLDER,
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
