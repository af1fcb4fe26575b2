/** Every module and stack of deploy/azure: its form, its types, its lock file, and the tests that it has itself. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { textOf } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';
import { messagesOf, TerraformCopy } from '../support/terraform.ts';
import { FILES, MODULES, STACKS } from './folders.ts';

const PATIENCE_MS = 900_000;

interface Diagnostic {
  readonly severity: string;
  readonly summary: string;
  readonly detail?: string;
  readonly range?: { readonly filename: string; readonly start: { readonly line: number } };
}

const inWords = ({ severity, summary, detail = '', range }: Diagnostic): string =>
  `${severity}: ${range?.filename ?? ''}:${range?.start.line ?? ''} ${summary}. ${detail}`;

test('deploy/azure has the five stacks in their order, and modules', () => {
  expect(STACKS.map((folder) => folder.replace(/.*\//, ''))).toEqual([
    '00-bootstrap',
    '05-observability',
    '10-platform',
    '15-foundry',
    '20-workload',
  ]);
  expect(MODULES).not.toEqual([]);
});

describe.each(STACKS)('%s', (stack) => {
  test('has a lock file with one version of each provider that it requires', () => {
    const required = [...textOf(`${stack}/versions.tf`).matchAll(/source\s*=\s*"([^"]+)"/g)].map(
      ([, source = '']) => `registry.terraform.io/${source.toLowerCase()}`,
    );
    const locked = [...textOf(`${stack}/.terraform.lock.hcl`).matchAll(/^provider "([^"]+)" \{$/gm)];
    expect(locked.map(([, address]) => address).sort()).toEqual(required.sort());
  });

  // Checksums of a plugin that somebody built would refuse the one that the provider's publisher has signed.
  test('has no checksum in its lock file but those that the registry publishes', () => {
    const blocks = textOf(`${stack}/.terraform.lock.hcl`)
      .split(/^provider /m)
      .slice(1);
    for (const block of blocks) {
      if (block.includes('"h1:')) expect(block, 'a hash from the list of the registry').toContain('"zh:');
    }
  });
});

describe.skipIf(cannotRun('the Terraform of deploy/azure', 'terraform'))('terraform', () => {
  let copy: TerraformCopy;
  beforeAll(() => {
    copy = new TerraformCopy(FILES);
  });
  afterAll(() => copy?.remove());

  test('finds every file formatted', async () => {
    const { code, stdout, stderr } = await copy.run('deploy/azure', ['fmt', '-check', '-recursive', '-diff']);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test.each(STACKS)(
    'takes the versions of the lock file of %s, and adds the checksums that it lacks',
    async (stack) => {
      const fresh = new TerraformCopy(FILES);
      try {
        const locked = textOf(`${stack}/.terraform.lock.hcl`);
        const { code, stderr } = await fresh.run(stack, [
          'init',
          '-backend=false',
          '-input=false',
          '-no-color',
        ]);
        expect(code, stderr).toBe(0);
        const after = readFileSync(fresh.path(`${stack}/.terraform.lock.hcl`), 'utf8');
        const versions = (text: string) => text.match(/^provider .*|^ {2}(?:version|constraints) .*/gm);
        expect(versions(after)).toEqual(versions(locked));
        const providers = after.split(/^provider /m).slice(1);
        for (const provider of providers) expect(provider).toMatch(/"h1:/);
      } finally {
        fresh.remove();
      }
    },
    PATIENCE_MS,
  );

  // One after the other: each starts the providers, which take all of a core and a gigabyte.
  describe.each([...MODULES, ...STACKS])('%s', (folder) => {
    test(
      'is valid by the schemas of the providers, without a warning',
      async () => {
        const init = await copy.init(folder);
        expect(init.code, init.stderr).toBe(0);
        const { stdout } = await copy.run(folder, ['validate', '-json']);
        const { diagnostics } = JSON.parse(stdout) as { diagnostics: readonly Diagnostic[] };
        expect(diagnostics.map(inWords)).toEqual([]);
      },
      PATIENCE_MS,
    );

    test(
      'passes its own tests, and has some',
      async () => {
        await copy.init(folder);
        const { stdout } = await copy.run(folder, ['test', '-json']);
        const messages = messagesOf(stdout);
        const diagnostics = messages.flatMap(({ diagnostic, '@testrun': run }) =>
          diagnostic === undefined ? [] : [`${run}: ${inWords(diagnostic as Diagnostic)}`],
        );
        expect(diagnostics).toEqual([]);
        const summary = messages.find(({ type }) => type === 'test_summary')?.test_summary;
        expect(summary).toMatchObject({ status: 'pass', failed: 0, errored: 0, skipped: 0 });
        expect((summary as { passed: number }).passed).toBeGreaterThan(0);
      },
      PATIENCE_MS,
    );
  });
});
