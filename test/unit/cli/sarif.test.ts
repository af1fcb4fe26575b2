/** SARIF for GitHub code scanning, and annotations for pull requests. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Ajv from 'ajv/dist/2020.js';
import type { Log, Result } from 'sarif';
import { describe, expect, test } from 'vitest';
import { catalog } from '../../../compiler/diagnostics/catalog.ts';
import { runCli, runHere } from '../../support/cli.ts';
import { goldenEnvFile } from '../../support/golden.ts';
import { cannotRun } from '../../support/requirements.ts';
import { sarifSchema, validate } from '../../support/sarif.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

const results = (log: string): readonly Result[] => (JSON.parse(log) as Log).runs[0]?.results ?? [];
const places = (log: string) =>
  results(log).map(({ ruleId, locations }) => {
    const physical = locations?.[0]?.physicalLocation;
    return `${ruleId} ${physical?.artifactLocation?.uri}:${physical?.region?.startLine}`;
  });

/** Ten kinds of settings: good, with errors that have lines, with missing settings, unreadable, with and without env files. */
const FILES: Readonly<
  Record<string, { readonly args: readonly string[]; readonly env?: Record<string, string> }>
> = {
  'good settings': { args: ['-e', 'examples/multi-region.env'] },
  'settings of the accelerator': { args: ['-e', goldenEnvFile('accelerator-test')] },
  'values that are wrong': { args: ['-e', goldenEnvFile('bad-numbers')] },
  'settings that contradict each other': { args: ['-e', goldenEnvFile('settings-that-contradict')] },
  'warnings alone': { args: ['-e', goldenEnvFile('warnings-only'), '--strict'] },
  'secrets in files that are missing': { args: ['-e', goldenEnvFile('secret-files')] },
  'no backend': { args: ['-e', goldenEnvFile('no-backend')] },
  'an env file that does not exist': { args: ['-e', 'nope/there is none #1.env'] },
  'nothing but the environment': { args: [], env: { ...GOOD, LB_ALG: 'nonsense', GATEWAY_NONSENSE: 'x' } },
  'nothing at all': { args: [] },
};

describe('the SARIF of ten kinds of settings', () => {
  const missing = cannotRun('SARIF by its schema and its validator', 'sarif');
  const logs = async () =>
    Promise.all(
      Object.entries(FILES).map(async ([name, { args, env }]) => ({
        name,
        log: (await runHere(['check', ...args, '--format', 'sarif'], env ? { env } : {})).stdout,
      })),
    );

  test('gives every result a file of the repository and a line', async () => {
    for (const { name, log } of await logs()) {
      if (name !== 'good settings') expect(results(log).length, name).toBeGreaterThan(0);
      for (const each of results(log)) {
        const { artifactLocation, region } = each.locations?.[0]?.physicalLocation ?? {};
        expect(artifactLocation?.uri, name).toMatch(/^[^/.:][^:]*$/);
        expect(region?.startLine, name).toBeGreaterThan(0);
      }
    }
  });

  test.skipIf(missing)('is valid by the schema of SARIF 2.1.0', async () => {
    const valid = new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(sarifSchema());
    for (const { name, log } of await logs()) {
      valid(JSON.parse(log));
      expect(valid.errors, name).toBeNull();
    }
  });

  test.skipIf(missing)(
    "passes Microsoft's validator with the rules of SARIF and of GitHub",
    async () => {
      const files = (await logs()).map(({ log }, index) => inFolder(`${index}.sarif`, log));
      const good = validate(files);
      expect(good).toEqual({ findings: [], scanned: files.length });
      // Make sure that the validator does find what code scanning would refuse.
      const bad = JSON.parse((await logs())[1]?.log ?? '') as Log;
      for (const rule of bad.runs[0]?.tool.driver.rules ?? []) delete rule.help;
      expect(validate([inFolder('bad.sarif', JSON.stringify(bad))]).findings.join('\n')).toContain('GH2012');
    },
    180_000,
  );
});

test('two results of one rule without a line have different fingerprints', async () => {
  const env = { ...GOOD, LB_ALG: 'x', AZURE_OPENAI_WEIGHT_0: 'x' };
  const { stdout } = await runHere(['check', '--format', 'sarif'], { env });
  const hashes = results(stdout).map((each) => each.partialFingerprints?.primaryLocationLineHash);
  expect(hashes).toHaveLength(2);
  expect(new Set(hashes).size).toBe(2);
});

describe('SARIF and annotations name files from the root of the workspace', () => {
  const BAD = 'LB_ALG=x\n';
  const write = (path: string) => {
    const file = inFolder(path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, BAD);
    return file;
  };
  const check = (format: string, env: Record<string, string>, cwd: string, file: string) =>
    runCli(['check', '-e', file, '--format', format], { env, cwd }).stdout;
  const lines = (sarif: string) => places(sarif).filter((each) => each.startsWith('INVALID_VALUE'));

  test.each(['GITHUB_WORKSPACE', 'BUILD_SOURCESDIRECTORY', 'CI_PROJECT_DIR'])('that %s gives', (variable) => {
    write('infra/envs/prod.env');
    const [root, cwd] = [inFolder('.'), inFolder('infra/envs')];
    for (const file of ['prod.env', '../envs/prod.env', inFolder('infra/envs/prod.env')]) {
      expect(lines(check('sarif', { [variable]: root }, cwd, file))).toEqual([
        'INVALID_VALUE infra/envs/prod.env:1',
      ]);
      expect(check('github', { [variable]: root }, cwd, file)).toContain(
        '::error file=infra/envs/prod.env,line=1,title=INVALID_VALUE LB_ALG::',
      );
    }
  });

  test('that the git checkout around the current folder gives, without such a variable', () => {
    write('infra/prod.env');
    mkdirSync(inFolder('.git'));
    expect(lines(check('sarif', {}, inFolder('infra'), 'prod.env'))).toEqual([
      'INVALID_VALUE infra/prod.env:1',
    ]);
  });

  test('when paths contain symbolic links', () => {
    write('real/infra/prod.env');
    symlinkSync(inFolder('real'), inFolder('link'));
    const env = { GITHUB_WORKSPACE: inFolder('link') };
    expect(lines(check('sarif', env, inFolder('real'), 'infra/prod.env'))).toEqual([
      'INVALID_VALUE infra/prod.env:1',
    ]);
    expect(lines(check('sarif', env, '/', inFolder('link/infra/prod.env')))).toEqual([
      'INVALID_VALUE infra/prod.env:1',
    ]);
  });

  test('with special characters escaped for a URI', () => {
    write('a b/c#d?e%.env');
    expect(
      lines(check('sarif', { GITHUB_WORKSPACE: inFolder('.') }, inFolder('.'), 'a b/c#d?e%.env')),
    ).toEqual(['INVALID_VALUE a%20b/c%23d%3Fe%25.env:1']);
  });

  test('and give a file outside of it no path, but name it in the message', () => {
    const outside = write('outside.env');
    mkdirSync(inFolder('repository'));
    const env = { GITHUB_WORKSPACE: inFolder('repository') };
    const sarif = check('sarif', env, inFolder('repository'), outside);
    expect(lines(sarif)).toEqual(['INVALID_VALUE environment:1']);
    expect(sarif).toContain(`The value comes from ${outside}, line 1.`);
    const github = check('github', env, inFolder('repository'), outside);
    expect(github).toContain(`::error file=${outside},line=1,title=INVALID_VALUE LB_ALG::`);
  });
});

describe('a result for a setting that no file contains is placed', () => {
  test('in the last env file given', async () => {
    const { stdout } = await runHere(['check', '-e', 'examples/minimal.env', '--format', 'sarif'], {
      env: { LB_ALG: 'x' },
    });
    expect(places(stdout)).toContain('INVALID_VALUE examples/minimal.env:1');
    expect(stdout).toContain('The value comes from the environment.');
  });

  test('in the workflow that is running', async () => {
    const env = {
      ...GOOD,
      LB_ALG: 'x',
      GITHUB_REPOSITORY: 'octo/gateway',
      GITHUB_WORKFLOW_REF: 'octo/gateway/.github/workflows/check.yml@refs/heads/main',
    };
    const { stdout } = await runHere(['check', '--format', 'sarif'], { env });
    expect(places(stdout)).toEqual(['INVALID_VALUE .github/workflows/check.yml:1']);
  });
});

test("an error in a custom template has the template's path and line", async () => {
  const folder = inFolder('templates');
  mkdirSync(join(folder, 'apisix/plugins'), { recursive: true });
  writeFileSync(join(folder, 'apisix/plugins/cors.hbs'), '\n"x": {{nothing}}\n');
  const { stdout } = await runHere(['check', '--templates', folder, '--format', 'sarif'], {
    env: { ...GOOD, GITHUB_WORKSPACE: folder },
  });
  expect(places(stdout)).toEqual(['TEMPLATE_RAW_VALUE apisix/plugins/cors.hbs:2']);
});

test('JSON and SARIF distinguish files from settings', async () => {
  const json = await runHere(['check', '-e', 'nope.env', '--format', 'json']);
  expect(JSON.parse(json.stdout).diagnostics[0]).toMatchObject({ setting: 'nope.env', file: 'nope.env' });
  const sarif = await runHere(['check', '-e', 'nope.env', '--format', 'sarif']);
  expect(places(sarif.stdout)).toEqual(['ENV_FILE_UNREADABLE nope.env:1']);
  expect(results(sarif.stdout)[0]?.locations?.[0]?.logicalLocations).toBeUndefined();
});

test('a message that ends with a question mark gets no full stop after it', async () => {
  const { stdout } = await runHere(['check', '--format', 'github'], { env: { ...GOOD, LB_ALGO: 'x' } });
  expect(stdout).toMatch(/Did you mean \w+\?\S* ?(?:The value comes from the environment\.)?\n$/);
  expect(stdout).not.toContain('?.');
});

test('the diagnostics page has a section for every code', async () => {
  const { stdout } = await runHere(['docs', 'diagnostics']);
  for (const code of Object.keys(catalog)) expect(stdout).toContain(`\n## ${code}\n`);
});
