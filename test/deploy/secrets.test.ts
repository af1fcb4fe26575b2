/** A planted secret: it reaches the Key Vault, and no argument, environment, file, state or line of output. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Doubles, type Fault, plantedKey } from '../support/deploy/doubles.ts';

const TIMEOUT_MS = 90_000;

let doubles: Doubles;
beforeEach(async () => {
  doubles = await new Doubles().start();
});
afterEach(() => doubles.stop());

const filesUnder = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());

function expectNowhere(secret: string, outputs: readonly string[], except: readonly string[] = []): void {
  for (const output of outputs) expect(output).not.toContain(secret);
  for (const { tool, args, env } of doubles.calls()) {
    expect(args.join(' '), tool).not.toContain(secret);
    expect(Object.values(env).join('\n'), tool).not.toContain(secret);
  }
  for (const path of [...filesUnder(doubles.folder), ...filesUnder(doubles.azure)])
    if (!except.some((name) => path.endsWith(name)) && !path.endsWith('calls.jsonl'))
      expect(readFileSync(path, 'latin1').includes(secret), path).toBe(false);
}

describe('a secret of the files', () => {
  const FAULTS: readonly (readonly [string, readonly Fault[]])[] = [
    ['and everything goes well', []],
    [
      'and Terraform prints it in an error',
      [
        {
          match: 'terraform apply .*@20-workload',
          summary: 'bad value',
          detail: 'the value PLANTED is not allowed',
        },
      ],
    ],
    ['and the registry prints it', [{ match: 'az acr build', stderr: 'PLANTED is not a platform' }]],
  ];

  test.each(FAULTS)(
    'is in the vault only: %s',
    async (_, faults) => {
      doubles.faults(
        ...faults.map((fault) => JSON.parse(JSON.stringify(fault).replace('PLANTED', doubles.key)) as Fault),
      );
      const [first, second] = [await doubles.run(['dev']), await doubles.run(['dev', '--plan'])];
      // A fault of a test has the secret in its file.
      doubles.faults();
      expect(first.code).toBe(faults.length === 0 ? 0 : 3);
      if (faults.length === 0) expect([...doubles.vault]).toEqual([['gateway-client-key-0', doubles.key]]);
      else expect(first.stderr).toContain('[secret]');
      expectNowhere(
        doubles.key,
        [first.stdout, first.stderr, second.stdout, second.stderr],
        ['dev.secrets.env'],
      );
    },
    TIMEOUT_MS,
  );
});

describe('a variable of the shell', () => {
  test(
    'that is a secret setting, or has the value of a secret, reaches no program, and no setting',
    async () => {
      const other = plantedKey();
      const ran = await doubles.run(['dev', '--local-docker'], {
        env: { AZURE_OPENAI_KEY_7: other, MY_KEY: doubles.key, ARM_CLIENT_SECRET: 'of-terraform' },
      });
      expect(ran.code).toBe(0);
      expectNowhere(other, [ran.stdout, ran.stderr]);
      expectNowhere(doubles.key, [ran.stdout, ran.stderr], ['dev.secrets.env']);
      expect(doubles.vault.has('azure-openai-key-7')).toBe(false);
      const has = (tool: string) =>
        doubles.calls().filter((call) => call.tool === tool && call.env.ARM_CLIENT_SECRET !== undefined)
          .length;
      // The credential of a program goes to this program alone.
      expect(has('terraform')).toBeGreaterThan(0);
      expect(has('az')).toBe(0);
      expect(has('docker')).toBe(0);
    },
    TIMEOUT_MS,
  );
});

test(
  'files of a deployment are readable for their owner alone, and git ignores them',
  async () => {
    expect((await doubles.run(['dev', '--stack', 'bootstrap'])).code).toBe(0);
    const folder = join(doubles.folder, 'environments/.deploy');
    expect(statSync(join(folder, 'dev')).mode & 0o077).toBe(0);
    expect(readFileSync(join(folder, '.gitignore'), 'utf8')).toBe('*\n');
    const values = join(folder, 'dev/deploy/azure/stacks/00-bootstrap/deploy.auto.tfvars.json');
    expect(statSync(values).mode & 0o077).toBe(0);
  },
  TIMEOUT_MS,
);
