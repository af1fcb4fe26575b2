/** The workflows in .github: their actions are pinned, their scripts exist, and their commands can be run by hand. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT, repositoryFiles, textOf } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}
interface Job {
  readonly uses?: string;
  readonly steps?: readonly Step[];
  readonly permissions?: unknown;
  readonly 'timeout-minutes'?: number;
}
interface Workflow {
  readonly permissions: unknown;
  readonly jobs: Readonly<Record<string, Job>>;
}

const files = repositoryFiles('.github/workflows/*');
const workflows = files.map((file) => ({
  file,
  text: textOf(file),
  workflow: parse(textOf(file)) as Workflow,
}));
const jobs = workflows.flatMap(({ file, workflow }) =>
  Object.entries(workflow.jobs).map(([name, job]) => ({ file, name, job })),
);
const steps = jobs.flatMap(({ file, name, job }) => (job.steps ?? []).map((step) => ({ file, name, step })));

test('the test and release workflows are found', () => {
  expect(files).toEqual(
    expect.arrayContaining(['.github/workflows/release.yml', '.github/workflows/test.yml']),
  );
  expect(steps.length).toBeGreaterThan(20);
});

describe.each(workflows)('$file', ({ text, workflow }) => {
  test('pins each third-party action by commit, with its version as a comment', () => {
    const used = [...text.matchAll(/^\s*(?:- )?uses: (.*)$/gm)].map(([, each = '']) => each);
    expect(used.length).toBeGreaterThan(0);
    for (const each of used) {
      expect(each).toMatch(
        /^(?:\.\/\.github\/workflows\/\S+\.yml(?: # zizmor: .*)?|[\w-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$/,
      );
    }
  });

  test('grants no permission except to single jobs', () => {
    expect(workflow.permissions).toEqual({});
    for (const [name, job] of Object.entries(workflow.jobs)) {
      expect(job.permissions, name).toBeTypeOf('object');
      if (job.uses === undefined) expect(job['timeout-minutes'], name).toBeLessThanOrEqual(90);
    }
  });
});

test('every workflow uses the same version of an action', () => {
  const versions = new Map<string, Set<string>>();
  for (const { step } of steps) {
    const [action = '', commit = ''] = step.uses?.split('@') ?? [];
    versions.set(action, (versions.get(action) ?? new Set()).add(commit));
  }
  for (const [action, commits] of versions) expect([...commits], action).toHaveLength(1);
});

test('no checkout leaves a token in the work tree', () => {
  for (const { step } of steps) {
    if (step.uses?.startsWith('actions/checkout@')) {
      expect(step.with).toMatchObject({ 'persist-credentials': false });
    }
  }
});

/** Programs and scripts that a step may start, with arguments on the same line. */
const COMMAND =
  /^(?:npm (?:ci|pack|run [\w:]+)|\.ci\/run|(?:node )?\.github\/scripts\/[\w-]+\.(?:sh|mjs)( \S+)*)$/;

describe('the commands of the workflows', () => {
  const commands = [...new Set(steps.flatMap(({ step }) => step.run ?? []))];
  const withQuotes = (command: string) => command.replace(/"([^" ]*)"/g, '$1');

  test.each(commands)('can be run by hand: %s', (command) => {
    expect(withQuotes(command)).toMatch(COMMAND);
    // A GitHub expression in a command line would become part of the program.
    expect(command).not.toContain('${{');
    const [, script] = /\bnpm run (\S+)/.exec(command) ?? [];
    if (script !== undefined) expect(JSON.parse(textOf('package.json')).scripts).toHaveProperty(script);
    const [file] = /\.(?:ci|github)\/\S+/.exec(command) ?? [];
    if (file === undefined) return;
    expect(existsSync(join(ROOT, file)), file).toBe(true);
    if (!command.startsWith('node ')) accessSync(join(ROOT, file), constants.X_OK);
  });

  test('call every script', () => {
    const scripts = repositoryFiles('.github/scripts/*');
    const called = [...commands, ...scripts.map(textOf)].join('\n');
    for (const script of scripts.filter((each) => !each.endsWith('.d.mts'))) expect(called).toContain(script);
  });
});

test('the workflows test every Node version that package.json names', () => {
  const { program, installed } = parse(textOf('.github/workflows/test.yml')).jobs;
  const { engines } = JSON.parse(textOf('package.json'));
  const oldest = [...engines.node.matchAll(/(\d+)\.(\d+)\.\d+/g)].map(([version, major, minor]) =>
    minor === '0' ? major : version,
  );
  const majors = oldest.map((version: string) => version.split('.')[0]);
  expect(program.strategy.matrix.node).toEqual(majors);
  expect(installed.strategy.matrix.node).toEqual(expect.arrayContaining([...majors, ...oldest]));
});

describe('the issue forms', () => {
  const forms = repositoryFiles('.github/ISSUE_TEMPLATE/*').filter((file) => !file.endsWith('/config.yml'));

  test('are found', () => expect(forms.length).toBeGreaterThan(1));

  test.each(forms)('have the fields that GitHub requires: %s', (file) => {
    const form = parse(textOf(file));
    expect(form).toMatchObject({ name: expect.any(String), description: expect.any(String) });
    const ids: string[] = [];
    for (const { type, id, attributes } of form.body) {
      expect(['markdown', 'input', 'textarea', 'dropdown', 'checkboxes']).toContain(type);
      if (type === 'markdown') {
        expect(attributes.value).toBeTypeOf('string');
      } else {
        expect(id).toMatch(/^[\w-]+$/);
        expect(attributes.label).toBeTypeOf('string');
        ids.push(id);
      }
      if (type === 'dropdown' || type === 'checkboxes') expect(attributes.options.length).toBeGreaterThan(0);
    }
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length).toBeGreaterThan(0);
  });

  test('lead to private reporting for a vulnerability', () => {
    const { contact_links } = parse(textOf('.github/ISSUE_TEMPLATE/config.yml'));
    for (const { name, url, about } of contact_links) expect([name, url, about].join('')).toMatch(/https:/);
    expect(contact_links.map(({ url }: { url: string }) => url).join(' ')).toContain('/security/');
  });
});

describe.skipIf(cannotRun('the workflows with actionlint and zizmor', 'actionlint', 'zizmor'))(
  'the linters of workflows',
  () => {
    const run = (program: string, ...args: string[]) => {
      const { status, stdout, stderr } = spawnSync(program, args, { cwd: ROOT, encoding: 'utf8' });
      return { status, output: status === 0 ? '' : stdout + stderr };
    };

    test('actionlint reports nothing', { timeout: 60_000 }, () => {
      expect(run('actionlint', ...files)).toEqual({ status: 0, output: '' });
    });

    test('zizmor reports nothing', { timeout: 60_000 }, () => {
      const audited = repositoryFiles('.github/workflows/*', '.github/dependabot.yml', 'action.yml');
      expect(run('zizmor', '--offline', '--no-progress', ...audited)).toEqual({ status: 0, output: '' });
    });
  },
);
