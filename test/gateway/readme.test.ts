/**
 * Runs the commands of README.md and docs/recipes.md that need Docker, in a copy of the repository.
 * test/unit/readme.test.ts runs the others.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import { runCli } from '../support/cli.ts';
import { backendKey, HOST, hostAddress } from '../support/gateway.ts';
import { BUILD_TIMEOUT_MS, buildOptions, cannotRunImageTests } from '../support/image.ts';
import { blocks, blocksOf, README, withBackends } from '../support/readme.ts';
import { copyOfRepository } from '../support/repository.ts';
import { until } from '../support/until.ts';

const copy = copyOfRepository();

/** `up` runs until it is stopped. The commands for the second terminal run meanwhile. */
const BACKGROUND = blocks('sh background');
const DOCKER = blocks('sh docker');
const IMAGE = blocks('sh docker image');
const STOCK = blocks('sh docker stock');

test('the pages contain commands for Docker', () => {
  for (const commands of [BACKGROUND, DOCKER, IMAGE, STOCK]) expect(commands).toHaveLength(1);
});

describe.skipIf(cannotRunGatewayTests("the README's gateway in Docker"))(
  'the gateway as the README runs it',
  () => {
    test('answers a request and fails over', { timeout: 180_000 }, async () => {
      const shell = (script: string) =>
        spawn('bash', ['-c', `set -e -o pipefail; ${script}`], {
          cwd: copy(),
          stdio: ['ignore', 'pipe', 'pipe'],
          detached: true,
        });
      const background = BACKGROUND.map(shell);
      try {
        const logs = background.map(textOf);
        const ready = () => logs.every((log) => log().includes('Press Ctrl-C to stop.'));
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
        const shown = blocksOf(README, 'text').flatMap((text) => text.trim().split('\n'));
        expect(shown.length).toBeGreaterThan(4);
        const seen = (output() + log()).split(/\r?\n/).map(withoutTimes);
        for (const line of shown) expect(seen).toContain(withoutTimes(line));
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

describe.skipIf(cannotRunImageTests("the README's image"))('the image as the README builds it', () => {
  test('answers a request with the settings that a user has filled in', {
    timeout: BUILD_TIMEOUT_MS,
  }, async () => {
    // Build on the local images, without fetching others.
    const build = `docker() { if [ "$1" = build ]; then command docker "$@" ${buildOptions().join(' ')}; else command docker "$@"; fi; }`;
    try {
      await expectAnswer([build, ...IMAGE]);
    } finally {
      spawnSync('docker', ['rmi', '--force', 'genai-gateway']);
    }
  });
});

describe.skipIf(cannotRunGatewayTests('the stock image of docs/recipes.md'))(
  'the stock image as the recipe runs it',
  () => {
    test('answers a request with the settings that a user has filled in', { timeout: 180_000 }, async () => {
      await expectAnswer(STOCK);
    });
  },
);

const PATIENCE_MS = 60_000;

/** Runs commands that start the container `genai-gateway` with `.env` and send it one request. */
async function expectAnswer(commands: readonly string[]): Promise<void> {
  const mocks = await filledIn();
  const script = spawn('bash', ['-c', ['set -e -o pipefail', ...commands].join('\n')], {
    cwd: copy(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = textOf(script);
  try {
    const [code] = await once(script, 'exit');
    expect({ code, output: code === 0 ? '' : output() }).toEqual({ code: 0, output: '' });
    expect(output().match(/^HTTP\/1\.1 200 /gm)).toHaveLength(1);
    expect(mocks.flatMap((mock) => mock.requests)).toHaveLength(1);
  } finally {
    spawnSync('docker', ['rm', '--force', 'genai-gateway']);
    await Promise.all(mocks.map((mock) => mock.stop()));
  }
}

/** Writes `.env` as the README's `init` does, with endpoints and keys of mocks in place of real ones. */
async function filledIn(): Promise<readonly MockBackend[]> {
  const address = await hostAddress();
  // Docker Desktop gives containers a name for this host. Elsewhere they can reach its address.
  const host = address === '127.0.0.1' ? HOST : address;
  const example = runCli(['init', '--scenario', 'ptu-spillover']).stdout;
  const mocks = await Promise.all(
    [...example.matchAll(/^AZURE_OPENAI_ENDPOINT_/gm)].map((_, index) =>
      startMockAzureOpenAI({ host: address, keys: [backendKey(index)] }),
    ),
  );
  copy(
    '.env',
    withBackends(example, (index) => ({
      endpoint: `http://${host}:${mocks[index]?.port}`,
      key: backendKey(index),
    })),
  );
  return mocks;
}

/** A line of output without the parts that differ between runs. */
const withoutTimes = (line: string): string =>
  line
    .replace(/^\d\d:\d\d:\d\d /, '')
    .replace(/ in \d+ ms/, '')
    .trim();

/** Everything that a program has written so far. */
function textOf({ stdout, stderr }: ChildProcess): () => string {
  let text = '';
  for (const stream of [stdout, stderr])
    stream?.setEncoding('utf8').on('data', (more) => {
      text += more;
    });
  return () => text;
}

/** Whether any process of the group is running. */
function isRunning({ pid }: ChildProcess): boolean {
  try {
    return pid !== undefined && process.kill(-pid, 0);
  } catch {
    return false;
  }
}
