/** README.md is true to the last command: each is run, in its order, in a copy of the repository. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import { runCli } from '../support/cli.ts';
import { BUILD_TIMEOUT_MS, buildOptions, cannotRunImageTests } from '../support/image.ts';
import { until } from '../support/traffic.ts';

const ROOT = join(import.meta.dirname, '../..');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

const blocks = (language: string): string[] =>
  [...README.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text);

/** The gate runs these in a clean checkout; here they would install into, or run, the very tests that are running. */
const RUN_BY_THE_GATE = ['npm ci', 'npm test', 'npm run lint'];

const commands = blocks('sh')
  .flatMap((text) => text.trim().split('\n'))
  .filter((command) => !RUN_BY_THE_GATE.includes(command));

/** A shell passes over the failure of a command that it sources: that command is run by itself as well. */
const runnable = (command: string) => {
  const [, inner] = /^source <\((.*)\)$/.exec(command) ?? [];
  return inner === undefined ? command : `${inner} && ${command}`;
};

let copy = '';
beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), 'genai-gateway-readme-'));
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  for (const file of files.trim().split('\n')) {
    if (existsSync(join(ROOT, file))) cpSync(join(ROOT, file), join(copy, file), { verbatimSymlinks: true });
  }
  cpSync(join(ROOT, 'dist'), join(copy, 'dist'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
});
afterAll(() => {
  rmSync(copy, { recursive: true, force: true });
});

test('the gate runs what is not run here', () => {
  const gate = readFileSync(join(ROOT, '.ci/run'), 'utf8');
  for (const command of RUN_BY_THE_GATE) expect(gate).toMatch(new RegExp(`^(?:.* )?${command}\\b`, 'm'));
});

describe('every command of the README does what it says', () => {
  test.each(commands)('%s', { timeout: 180_000 }, (command) => {
    const { status, stderr } = spawnSync('bash', ['-c', `set -o pipefail; ${runnable(command)}`], {
      cwd: copy,
      encoding: 'utf8',
      env: { ...process.env, npm_config_update_notifier: 'false' },
    });
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('the quickstart leaves the three files', () => {
    for (const name of ['apisix.yaml', 'config.yaml', 'otel-collector.yaml']) {
      expect(existsSync(join(copy, 'rendered', name)), name).toBe(true);
    }
  });
});

test.each(blocks('env'))(
  'a recipe beside a backend and a client is good, even under --strict:\n%s',
  (recipe) => {
    const file = join(copy, 'recipe.env');
    writeFileSync(file, `${readFileSync(join(ROOT, 'examples/minimal.env'), 'utf8')}\n${recipe}`);
    expect(runCli(['check', '--strict', '--env-file', file])).toMatchObject({ code: 0 });
  },
);

test.each([
  'README.md',
  'AGENTS.md',
  'docs/deployment.md',
  'docs/hot-reload.md',
  'docs/migration.md',
  'docs/settings.md',
])('the links of %s lead somewhere', (page) => {
  const text = readFileSync(join(ROOT, page), 'utf8');
  for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
    const [file = '', anchor] = target.split('#');
    const path = file === '' ? join(ROOT, page) : join(ROOT, dirname(page), file);
    expect(existsSync(path), target).toBe(true);
    if (anchor !== undefined) {
      const headings = [...readFileSync(path, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
        heading
          .toLowerCase()
          .replace(/[^\w\s-]/g, '')
          .replaceAll(' ', '-'),
      );
      expect(headings, target).toContain(anchor);
    }
  }
});

/** Both are long enough to wait for, and both end what they started. */
const BACKGROUND = blocks('sh background');
const DOCKER = blocks('sh docker');
const IMAGE = blocks('sh docker image');

describe.skipIf(cannotRunGatewayTests("the README's gateway in Docker"))(
  'the gateway as the README runs it',
  () => {
    test('answers, and fails over', { timeout: 180_000 }, async () => {
      const shell = (script: string) =>
        spawn('bash', ['-c', `set -e -o pipefail; ${script}`], {
          cwd: copy,
          stdio: ['ignore', 'pipe', 'pipe'],
          detached: true,
        });
      const background = BACKGROUND.map(shell);
      try {
        const logs = background.map(textOf);
        const ready = () => logs.every((log) => log().includes('Ctrl-C stops it.'));
        await until(() => ready() || !background.every(isRunning), PATIENCE_MS);
        expect(ready() ? '' : logs.map((log) => log())).toBe('');
        const main = shell(DOCKER.join('\n'));
        const output = textOf(main);
        const [code] = await once(main, 'exit');
        expect({ code, output: code === 0 ? '' : output() }).toEqual({ code: 0, output: '' });
        expect(output().match(/^HTTP\/1\.1 200 /gm)).toHaveLength(2);
        expect(output().match(/^x-gateway-backend: \S+/gm)).toEqual([
          'x-gateway-backend: mock-0',
          'x-gateway-backend: mock-1',
        ]);
        const log = () => logs.map((each) => each()).join('');
        await until(() => log().includes('2 attempts: mock-0 429, mock-1 200'));
        expect(log()).toContain('[warn] backend mock-0 throttled: 429, cooling down for 10000 ms');
      } finally {
        spawnSync('docker', ['rm', '--force', 'genai-gateway']);
        for (const each of background) if (isRunning(each)) process.kill(-(each.pid ?? 0), 'SIGINT');
        await until(() => !background.some(isRunning), PATIENCE_MS);
      }
      expect(runCli(['down', '--port', '9080'], { env: { PATH: process.env.PATH ?? '' } })).toMatchObject({
        stdout: 'There is nothing to remove for port 9080.\n',
      });
    });
  },
);

describe.skipIf(cannotRunImageTests("the README's image"))(
  'the image as the README builds and runs it',
  () => {
    test('gets ready', { timeout: BUILD_TIMEOUT_MS }, () => {
      // A build takes the images it is built on as they are here.
      const build = `docker() { if [ "$1" = build ]; then command docker "$@" ${buildOptions().join(' ')}; else command docker "$@"; fi; }`;
      try {
        const script = ['set -e -o pipefail', build, ...IMAGE].join('\n');
        const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { cwd: copy, encoding: 'utf8' });
        expect({ status, output: status === 0 ? '' : stdout + stderr }).toEqual({ status: 0, output: '' });
      } finally {
        spawnSync('docker', ['rm', '--force', 'genai-gateway']);
        spawnSync('docker', ['rmi', '--force', 'genai-gateway']);
      }
    });
  },
);

test('what docs/deployment.md shows is YAML', () => {
  const text = readFileSync(join(ROOT, 'docs/deployment.md'), 'utf8');
  const shown = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, yaml = '']) => yaml);
  expect(shown.length).toBeGreaterThan(1);
  for (const yaml of shown) expect(parse(yaml)).toBeTypeOf('object');
});

const PATIENCE_MS = 60_000;

/** Everything that a program has written so far. */
function textOf({ stdout, stderr }: ChildProcess): () => string {
  let text = '';
  for (const stream of [stdout, stderr])
    stream?.setEncoding('utf8').on('data', (more) => {
      text += more;
    });
  return () => text;
}

/** Any process of its group. */
function isRunning({ pid }: ChildProcess): boolean {
  try {
    return pid !== undefined && process.kill(-pid, 0);
  } catch {
    return false;
  }
}

test('the README names every command of the program', () => {
  const listed = [...runCli(['--help']).stdout.matchAll(/^ {2}(\w+) /gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'help' && name !== 'genai');
  expect(listed).toEqual(
    expect.arrayContaining(['render', 'check', 'preview', 'explain', 'init', 'schema', 'docs', 'completion']),
  );
  for (const name of listed) expect(README).toMatch(new RegExp(`^\\| \`${name}\\b`, 'm'));
});
