/** azure.yaml: what azd runs exists, and runs `deploy` for azd's environment. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT, textOf } from '../support/repository.ts';

interface Hook {
  readonly shell: string;
  readonly run: string;
}

interface Project {
  readonly infra: { readonly provider: string; readonly path: string };
  readonly hooks: Readonly<Record<string, Hook>>;
}

const project = parse(textOf('azure.yaml')) as Project;

test('azd finds the module and its parameters where azure.yaml says', () => {
  expect(project.infra.provider).toBe('terraform');
  for (const name of ['main.tf', 'main.tfvars.json'])
    expect(existsSync(join(ROOT, project.infra.path, name))).toBe(true);
  expect(textOf(`${project.infra.path}/main.tf`)).not.toMatch(/^resource/m);
});

test('each hook runs a program of the repository', () => {
  expect(Object.keys(project.hooks)).toEqual(['preprovision', 'predown']);
  for (const { run } of Object.values(project.hooks)) {
    const [, script = ''] = /^node (\S+)/.exec(run) ?? [];
    expect(existsSync(join(ROOT, script))).toBe(true);
  }
});

describe('the hook', () => {
  const run = (env: Readonly<Record<string, string>>, ...args: readonly string[]) =>
    spawnSync(process.execPath, [join(ROOT, 'deploy/azure/azd/deploy.mjs'), ...args], {
      env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, ...env },
      encoding: 'utf8',
    });

  test('deploys the environment of azd', () => {
    const { status, stderr } = run({ AZURE_ENV_NAME: 'of-azd-without-files' }, '--plan');
    expect(status).toBe(3);
    expect(stderr).toMatch(/environments\/of-azd-without-files\.tfvars does not exist/);
  });

  test('without an environment of azd says what to run instead', () => {
    const { status, stderr } = run({});
    expect(status).toBe(64);
    expect(stderr).toMatch(/genai-gateway deploy NAME/);
  });
});
