/** The GitHub action, run in a repository with two branches against a fake GitHub API, and the CI examples. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { COMMAND_NAMES } from '../../compiler/cli.ts';
import { MARKER } from '../../compiler/diff/markdown.ts';
import { PROGRAM, runHere } from '../support/cli.ts';
import { workspace } from '../support/workspace.ts';

const ROOT = join(import.meta.dirname, '../..');
const inFolder = workspace();

const BASE = `AZURE_OPENAI_ENDPOINT_0=https://one.openai.azure.com
AZURE_OPENAI_KEY_0=key-of-backend-zero
GATEWAY_REQUIRE_AUTH=true
GATEWAY_CLIENT_NAME_0=app
GATEWAY_CLIENT_KEY_0=key-of-client-zero
`;

function git(...args: string[]): void {
  const identity = [
    '-c',
    'user.name=test',
    '-c',
    'user.email=test@example.com',
    '-c',
    'init.defaultBranch=main',
  ];
  const { status, stderr } = spawnSync('git', [...identity, ...args], {
    cwd: inFolder('.'),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
}

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(inFolder(name)), { recursive: true });
    writeFileSync(inFolder(name), text);
  }
}

/** Creates a repository with the files `before` as origin/main and the files `after` on top. */
function repository(before: Readonly<Record<string, string>>, after: Readonly<Record<string, string>>): void {
  write(before);
  git('init', '--quiet');
  git('add', '.');
  git('commit', '--quiet', '--message', 'before');
  git('update-ref', 'refs/remotes/origin/main', 'HEAD');
  write(after);
}

async function act(inputs: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = {}) {
  write({ 'runner/summary': '', 'runner/output': '' });
  const child = spawn(process.execPath, [join(ROOT, 'action/check.mjs')], {
    cwd: inFolder(env.CWD ?? '.'),
    env: {
      PATH: process.env.PATH,
      GENAI_GATEWAY_PROGRAM: PROGRAM,
      GITHUB_WORKSPACE: inFolder('.'),
      GITHUB_STEP_SUMMARY: inFolder('runner/summary'),
      GITHUB_OUTPUT: inFolder('runner/output'),
      RUNNER_TEMP: inFolder('runner'),
      GITHUB_BASE_REF: 'main',
      ...env,
      ...Object.fromEntries(Object.entries(inputs).map(([name, value]) => [`INPUT_${name}`, value])),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.resume();
  const [code] = await once(child, 'close');
  const text = (name: string) => readFileSync(inFolder(name), 'utf8');
  return { code, stdout, summary: text('runner/summary'), output: text('runner/output') };
}

describe('the action', () => {
  test('annotates errors with paths from the root of the repository, and fails', async () => {
    repository({ 'infra/prod.env': BASE }, { 'infra/prod.env': `${BASE}LB_ALG=x\n` });
    const { code, stdout, summary } = await act(
      { SETTINGS: 'prod.env', SARIF: 'out/diagnostics.sarif' },
      { CWD: 'infra' },
    );
    expect(code).toBe(1);
    expect(stdout).toContain('::error file=infra/prod.env,line=6,title=INVALID_VALUE LB_ALG::');
    expect(summary).toContain('## Settings: 1 error');
    expect(
      JSON.parse(readFileSync(inFolder('infra/out/diagnostics.sarif'), 'utf8')).runs[0].results,
    ).toHaveLength(1);
  });

  test('reports what changes against the target branch, including the base file', async () => {
    repository(
      { 'envs/base.env': BASE, 'envs/prod.env': 'AZURE_OPENAI_WEIGHT_0=1\n' },
      {
        'envs/base.env': `${BASE}GATEWAY_REQUIRE_AUTH=false\n`,
        'envs/prod.env': 'AZURE_OPENAI_WEIGHT_0=3\n',
      },
    );
    const { code, summary, output } = await act({ SETTINGS: 'envs/prod.env', BASE: 'envs/base.env' });
    expect(code).toBe(0);
    expect(output).toBe('changed=true\n');
    expect(summary).toContain('## Gateway: `envs/prod.env`');
    expect(summary).toContain('(`authentication-off`)');
    expect(summary).toContain('weight `1` → `3`');
    expect(summary).not.toContain('key-of-');
  });

  test('checks a folder of environments, one of which is new', async () => {
    repository(
      { 'envs/base.env': BASE, 'envs/prod.env': '' },
      { 'envs/dev.env': 'AZURE_OPENAI_WEIGHT_0=2\n', 'envs/prod.env': 'AZURE_OPENAI_WEIGHT_0=2\n' },
    );
    const { code, summary } = await act({ SETTINGS: 'envs', BASE: 'envs/base.env' });
    expect(code).toBe(0);
    expect(summary).toContain('| `dev` | good |\n| `prod` | good |');
    expect(summary).toContain('## Gateway: `dev`\n\nThis environment is new.');
    expect(summary).toMatch(/## Gateway: `prod`\n\n\*\*1 change\*\*/);
  });

  test('compares nothing without a target branch, and fails with a message when the commit does not exist', async () => {
    repository({ 'prod.env': BASE }, {});
    expect(await act({ SETTINGS: 'prod.env' }, { GITHUB_BASE_REF: '' })).toMatchObject({
      code: 0,
      output: '',
    });
    const missing = await act({ SETTINGS: 'prod.env', AGAINST: 'nope' });
    expect(missing.code).toBe(3);
    expect(missing.stdout).toContain('::error::There is no commit nope: check out with fetch-depth: 0');
    expect((await act({ SETTINGS: '' })).stdout).toContain('::error::The input settings names no file.');
  });

  test('creates one comment, and updates the same comment on the next run', async () => {
    repository({ 'prod.env': BASE }, { 'prod.env': `${BASE}AZURE_OPENAI_WEIGHT_0=3\n` });
    write({ 'runner/event.json': '{"pull_request": {"number": 7}}' });
    const comments: { id: number; body: string }[] = Array.from({ length: 100 }, (_, id) => ({
      id,
      body: 'other',
    }));
    const calls: string[] = [];
    const server = createServer(async (request, response) => {
      calls.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      let text = '';
      for await (const data of request) text += data;
      const page = Number(new URL(request.url ?? '', 'http://x').searchParams.get('page') ?? 1);
      if (request.method === 'POST') comments.push({ id: comments.length, body: JSON.parse(text).body });
      response.end(
        JSON.stringify(request.method === 'GET' ? comments.slice((page - 1) * 100, page * 100) : {}),
      );
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const env = {
      GITHUB_API_URL: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
      GITHUB_REPOSITORY: 'octo/gateway',
      GITHUB_EVENT_PATH: inFolder('runner/event.json'),
    };
    try {
      for (let run = 0; run < 2; run++)
        expect((await act({ SETTINGS: 'prod.env', COMMENT: 'true', TOKEN: 'the-token' }, env)).code).toBe(0);
    } finally {
      server.close();
    }
    expect(calls.map((call) => call.split(' ').slice(0, 2).join(' '))).toEqual([
      'GET /repos/octo/gateway/issues/7/comments?per_page=100&page=1',
      'GET /repos/octo/gateway/issues/7/comments?per_page=100&page=2',
      'POST /repos/octo/gateway/issues/7/comments',
      'GET /repos/octo/gateway/issues/7/comments?per_page=100&page=1',
      'GET /repos/octo/gateway/issues/7/comments?per_page=100&page=2',
      'PATCH /repos/octo/gateway/issues/comments/100',
    ]);
    expect(comments.at(-1)?.body).toMatch(new RegExp(`^${MARKER}\n## Gateway: \`prod\\.env\`\n`));
    expect(calls.every((call) => call.endsWith('Bearer the-token'))).toBe(true);
  });
});

test('action.yml passes every input to the script, through the environment only', () => {
  const action = parse(readFileSync(join(ROOT, 'action.yml'), 'utf8'));
  const [step] = action.runs.steps;
  const script = readFileSync(join(ROOT, 'action/check.mjs'), 'utf8');
  for (const name of Object.keys(action.inputs).filter((each) => each !== 'working-directory')) {
    const variable = `INPUT_${name.toUpperCase()}`;
    expect(step.env[variable]).toBe(`\${{ inputs.${name} }}`);
    expect(script).toContain(`input('${name.toUpperCase()}')`);
  }
  // An expression inside a script would allow injection.
  expect(step.run).not.toContain('${{');
});

describe('the examples for CI', () => {
  const files = readdirSync(join(ROOT, 'examples/ci'));

  test.each(files)('%s is valid YAML and uses only commands that exist', async (name) => {
    const text = readFileSync(join(ROOT, 'examples/ci', name), 'utf8');
    expect(parse(text)).toBeTypeOf('object');
    const commands = text
      .replace(/\\\n\s*/g, ' ')
      .matchAll(/npx --yes genai-gateway (\w+)((?: (?!>|\|)\S+)*)/g);
    for (const [, command = '', rest = ''] of commands) {
      expect(COMMAND_NAMES).toContain(command);
      const { stdout } = await runHere([command, '--help']);
      for (const [option] of rest.matchAll(/--[a-z][a-z-]*/g)) expect(stdout).toContain(option);
    }
  });

  test('github.yml passes only inputs that the action declares', () => {
    const { inputs } = parse(readFileSync(join(ROOT, 'action.yml'), 'utf8'));
    const { jobs } = parse(readFileSync(join(ROOT, 'examples/ci/github.yml'), 'utf8'));
    const step = jobs.check.steps.find((each: { uses?: string }) => each.uses?.includes('genai-gateway'));
    for (const name of Object.keys(step.with)) expect(Object.keys(inputs)).toContain(name);
  });
});
