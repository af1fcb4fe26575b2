/** docs/deploy.md: a new user who follows it gets a gateway that answers, and options and steps are those of the program. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { command } from '../../compiler/commands/deploy.ts';
import { STEPS } from '../../compiler/deploy/steps.ts';
import { PROGRAM } from '../support/cli.ts';
import { Doubles, SUBSCRIPTION } from '../support/deploy/doubles.ts';
import { textOf } from '../support/repository.ts';

const TIMEOUT_MS = 120_000;
const page = textOf('docs/deploy.md');
const section = (heading: string): string =>
  page.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? '';
const blocks = (text: string, language: string): readonly string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    ([, code = '']) => code,
  );

test('lists the steps of the program, in order', () => {
  const rows = [...section('What it does').matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(rows).toEqual(STEPS.map(({ name }) => name));
});

test('names every option of the program, and no other', () => {
  const named = new Set(
    [...section('Options').matchAll(/^\|.*?\|/gm)].flatMap(
      ([cell]) => cell.match(/--[a-z][a-z0-9-]+/g) ?? [],
    ),
  );
  const own = (command.options ?? [])
    .map(({ long }) => long ?? '')
    .filter((name) => !/--no-color|--quiet/.test(name));
  expect([...named].sort()).toEqual(own.sort());
});

describe('following it', () => {
  let doubles: Doubles;
  let folder = '';
  beforeEach(async () => {
    doubles = await new Doubles().start();
    folder = mkdtempSync(join(doubles.folder, 'new-user-'));
  });
  afterEach(async () => {
    rmSync(folder, { recursive: true, force: true });
    await doubles.stop();
  });

  const sh = (code: string) =>
    new Promise<{ readonly code: number | null; readonly text: string }>((resolve) => {
      // Not spawnSync: the vault of this process has to answer meanwhile.
      const child = doubles.shell(code.replaceAll('npx genai-gateway', PROGRAM), folder);
      let text = '';
      for (const stream of [child.stdout, child.stderr])
        stream?.on('data', (chunk) => {
          text += chunk;
        });
      child.once('close', (status) => resolve({ code: status, text }));
    });

  test(
    'leads from an empty folder to a gateway that answers',
    async () => {
      const steps = section('From settings to a gateway that answers');
      mkdirSync(join(folder, 'environments'));
      const [variables = ''] = blocks(steps, 'hcl');
      writeFileSync(
        join(folder, 'environments/dev.tfvars'),
        variables.replace('00000000-0000-0000-0000-000000000000', SUBSCRIPTION),
      );
      const [files = '', look = '', deploy = ''] = blocks(steps, 'sh');
      expect((await sh(files)).code).toBe(0);
      expect(statSync(join(folder, 'environments/dev.secrets.env')).mode & 0o077).toBe(0);
      expect(readFileSync(join(folder, '.gitignore'), 'utf8')).toBe('*.secrets.env\n');

      const planned = await sh(look);
      expect(planned.code, planned.text).toBe(2);
      const deployed = await sh(deploy);
      expect(deployed.code, deployed.text).toBe(0);
      expect(deployed.text).toMatch(/The gateway answers at/);
      const key =
        /=(\w+)/.exec(readFileSync(join(folder, 'environments/dev.secrets.env'), 'utf8'))?.[1] ?? '';
      expect(key).toHaveLength(64);
      expect(doubles.vault.get('gateway-client-key-0')).toBe(key);
      expect(deployed.text).not.toContain(key);
    },
    TIMEOUT_MS,
  );

  test(
    'with the subscription of the example stops before anything is touched',
    async () => {
      mkdirSync(join(folder, 'environments'));
      const [variables = ''] = blocks(section('From settings to a gateway that answers'), 'hcl');
      writeFileSync(join(folder, 'environments/dev.tfvars'), variables);
      const { code, text } = await sh('npx genai-gateway deploy dev');
      expect(code).toBe(3);
      expect(text).toMatch(/subscription_id: the value is that of the example/);
      expect(doubles.calls().map(({ args }) => args[0])).toEqual(['version', 'version']);
    },
    TIMEOUT_MS,
  );

  test('the words for a pipeline take the code 2 of a plan for a success', () => {
    const [line = ''] = /genai-gateway deploy prod --plan \|\| [^`]+/.exec(section('In a pipeline')) ?? [];
    for (const [given, expected] of [
      [2, 0],
      [3, 1],
      [0, 0],
    ] as const)
      expect(
        spawnSync('sh', ['-c', line.replace('genai-gateway deploy prod --plan', `(exit ${given})`)]).status,
      ).toBe(expected);
  });
});
