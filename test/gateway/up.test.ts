/** `genai-gateway up` and `down`, as a user runs them. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse as parseDotenv } from 'dotenv';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePorts } from '../../compiler/commands/local/docker.ts';
import { startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { PROGRAM, runCli } from '../support/cli.ts';
import { API_VERSION, backendKey, CLIENT_KEY, HOST, hostAddress } from '../support/gateway.ts';
import { until } from '../support/until.ts';

const skipped = cannotRunGatewayTests('genai-gateway up on the stock APISIX image');

const PATIENCE_MS = 60_000;

let folder = '';
const started: Up[] = [];

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'genai-gateway-test-')));
});
afterAll(() => {
  for (const each of started) each.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** What docker needs to find its engine, and the folder for temporary files. */
const environment = (): Record<string, string> => ({
  PATH: process.env.PATH ?? '',
  TMPDIR: folder,
  ...(process.env.DOCKER_HOST ? { DOCKER_HOST: process.env.DOCKER_HOST } : {}),
});

const folders = () => readdirSync(folder).filter((name) => name.startsWith('genai-gateway-up-'));

const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' });
const containersOf = (port: number) =>
  docker('ps', '--all', '--format', '{{.Names}}', '--filter', `label=genai-gateway.port=${port}`).trim();

class Up {
  readonly process: ReturnType<typeof spawn>;
  readonly exit: Promise<unknown[]>;
  text = '';
  port = 0;

  constructor(args: readonly string[]) {
    this.process = spawn(PROGRAM, ['up', '--port', '0', ...args], {
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.exit = once(this.process, 'exit');
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.setEncoding('utf8').on('data', (text) => {
        this.text += text;
      });
    started.push(this);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async says(expected: string | RegExp): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (typeof expected === 'string' ? !this.text.includes(expected) : !expected.test(this.text)) {
      if (Date.now() > deadline || this.process.exitCode !== null)
        throw new Error(`up did not say ${expected}, but:\n${this.text}`);
      await sleep(50);
    }
  }

  /** Waits until the gateway serves requests. */
  async ready(marker: string | RegExp = 'Press Ctrl-C to stop.'): Promise<this> {
    await this.says(marker);
    this.port = Number(/genai-gateway-(\d+)/.exec(this.text)?.[1]);
    return this;
  }

  /** A terminal sends the signal to the whole process group. */
  async ctrlC(): Promise<unknown> {
    process.kill(-(this.process.pid ?? 0), 'SIGINT');
    return (await this.exit)[0];
  }

  /** Kills the process and removes its container, whatever its state. */
  kill(): void {
    this.process.kill('SIGKILL');
    if (this.port !== 0) runCli(['down', '--port', String(this.port)], { env: environment() });
  }
}

describe.skipIf(skipped)('up', () => {
  let mocked: Up;

  beforeAll(async () => {
    mocked = await new Up(['--mock', '--mock-port', '0']).ready();
  }, CONTAINER_TIMEOUT_MS);

  test('prints commands with --mock that show a failover without a failed request', async () => {
    // Each command is on one line, or on several that end with a backslash.
    const commands = mocked.text.match(/^ {2}curl (?:.*\\\n)*.*$/gm) ?? [];
    const [chat = '', throttle = ''] = commands;
    expect(commands).toHaveLength(2);
    const run = (command: string) =>
      execFileSync('bash', ['-c', command], { encoding: 'utf8', stdio: 'pipe' });
    const first = run(chat);
    expect(first).toMatch(/^HTTP\/1\.1 200 /);
    expect(first).toMatch(/^x-gateway-backend: mock-0\r?$/im);
    run(throttle);
    const second = run(chat);
    expect(second).toMatch(/^HTTP\/1\.1 200 /);
    expect(second).toMatch(/^x-gateway-backend: mock-1\r?$/im);
    expect(second).toMatch(/^x-gateway-attempts: 2\r?$/im);
    await mocked.says(/ 1 attempt: mock-0 200\n/);
    await mocked.says(/ 2 attempts: mock-0 429, mock-1 200\n/);
    await mocked.says(/\[warn\] backend mock-0 throttled: 429/);
  });

  test('serves metrics at the printed address, and publishes everything on loopback only', async () => {
    const [, metrics = ''] = /Metrics\s+(\S+)/.exec(mocked.text) ?? [];
    expect(await (await fetch(metrics)).text()).toContain('apisix_http_requests_total');
    const published = docker('port', containersOf(mocked.port)).trim().split('\n');
    expect(published.length).toBeGreaterThanOrEqual(2);
    for (const each of published) expect(each).toMatch(/-> 127\.0\.0\.1:\d+$/);
  });

  test('can run twice, and down removes only what a killed one left', async () => {
    const other = await new Up(['--mock', '--mock-port', '0']).ready();
    expect(other.port).not.toBe(mocked.port);
    expect(folders()).toHaveLength(2);
    other.process.kill('SIGKILL');
    await other.exit;
    expect(containersOf(other.port)).toBe(`genai-gateway-${other.port}`);
    const again = runCli(['up', '--mock', '--port', String(other.port)], { env: environment() });
    expect(again.code).toBe(3);
    expect(again.stderr).toContain(`stop it with genai-gateway down --port ${other.port}`);
    const down = runCli(['down', '--port', String(other.port)], { env: environment() });
    expect(down).toMatchObject({ code: 0, stderr: '' });
    expect(down.stdout).toMatch(/^removed container genai-gateway-\d+\nremoved folder \S+\n$/);
    expect(containersOf(other.port)).toBe('');
    expect(folders()).toHaveLength(1);
    expect((await fetch(`${mocked.url}/openai/v1/models`)).status).toBe(401);
  }, 90_000);

  test('serves the settings of an env file without writing secrets, and ends when down removes its container', async () => {
    const backend = await startMockAzureOpenAI({ host: await hostAddress(), keys: [backendKey(0)] });
    const text = `AZURE_OPENAI_ENDPOINT_0=http://${HOST}:${backend.port}
AZURE_OPENAI_KEY_0=${backendKey(0)}
AZURE_OPENAI_NAME_0=mine
GATEWAY_CLIENT_NAME_0=app
GATEWAY_CLIENT_KEY_0=${CLIENT_KEY}
GATEWAY_REQUIRE_AUTH=true
`;
    const file = join(folder, 'mine.env');
    writeFileSync(file, text);
    const own = await new Up(['--env-file', file, '--format', 'json']).ready(/"container":/);
    const path = `/openai/deployments/any/chat/completions?api-version=${API_VERSION}`;
    const answer = await fetch(`${own.url}${path}`, {
      method: 'POST',
      headers: { 'api-key': CLIENT_KEY, 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'Hello' }] }),
    });
    expect(answer.status).toBe(200);
    expect(backend.requests.map((each) => each.header('api-key'))).toEqual([backendKey(0)]);
    await own.says(/^\{"time":.*"path":"\/openai\/deployments\/any\/chat\/completions"/m);
    const config = docker(
      'inspect',
      '--format',
      '{{json .Args}} {{json .Mounts}} {{json .Config.Labels}}',
      containersOf(own.port),
    );
    expect(folders()).not.toEqual([]);
    for (const secret of [backendKey(0), CLIENT_KEY]) {
      expect(own.text).not.toContain(secret);
      expect(config).not.toContain(secret);
      for (const each of folders())
        expect(
          execFileSync('bash', ['-c', `cat "$0"/rendered/*`, join(folder, each)], { encoding: 'utf8' }),
        ).not.toContain(secret);
    }
    expect(parseDotenv(docker('exec', containersOf(own.port), 'env')).AZURE_OPENAI_KEY_0).toBe(backendKey(0));
    expect(runCli(['down', '--port', String(own.port)], { env: environment() }).code).toBe(0);
    expect((await own.exit)[0]).toBe(0);
    expect(own.text).toContain(
      `The container genai-gateway-${own.port} was removed from outside this command.`,
    );
    await backend.stop();
  }, 90_000);

  test('shows the reason and leaves nothing when APISIX does not start', async () => {
    const ca = join(folder, 'no-ca.pem');
    writeFileSync(ca, 'no certificate\n');
    const file = join(folder, 'broken.env');
    writeFileSync(file, `GATEWAY_TRUSTED_CA_FILE=${ca}\n`);
    const before = folders();
    const broken = new Up(['--env-file', file, '--mock', '--mock-port', '0']);
    expect((await broken.exit)[0]).toBe(3);
    expect(broken.text).toMatch(/no-ca\.pem[\s\S]*APISIX stopped before it was ready: see its log above\./);
    expect(folders()).toEqual(before);
  }, 90_000);

  test('leaves nothing after Ctrl-C during the start', async () => {
    const before = folders();
    const [port = 0] = await freePorts(1);
    const starting = new Up(['--port', String(port), '--mock', '--mock-port', '0']);
    await until(() => containersOf(port) !== '', 30_000);
    expect(await starting.ctrlC()).toBe(0);
    expect(starting.text).toBe('');
    expect(containersOf(port)).toBe('');
    expect(folders()).toEqual(before);
  }, 60_000);

  test('lets a stream end after Ctrl-C, and leaves neither container nor folder', async () => {
    const [, mockUrl = ''] = /Mock\s+(\S+)\s+is the backend mock-1/.exec(mocked.text) ?? [];
    for (const index of [0, 1]) {
      const url =
        index === 1 ? mockUrl : (/Mock\s+(\S+)\s+is the backend mock-0/.exec(mocked.text)?.[1] ?? '');
      await fetch(`${url}/++/config`, {
        method: 'PATCH',
        body: JSON.stringify({ latency: { perTokenMs: 100 } }),
      });
    }
    const answer = await fetch(`${mocked.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { 'api-key': 'key-of-the-client-app', 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'gpt-4o',
        stream: true,
        max_tokens: 16,
        messages: [{ role: 'user', content: 'Hello' }],
      }),
    });
    expect(answer.status).toBe(200);
    const reader = answer.body?.getReader();
    let text = new TextDecoder().decode((await reader?.read())?.value);
    const ended = mocked.ctrlC();
    await mocked.says('Stopping. Running requests get');
    for (let chunk = await reader?.read(); chunk && !chunk.done; chunk = await reader?.read())
      text += new TextDecoder().decode(chunk.value);
    expect(text.trimEnd()).toMatch(/data: \[DONE\]$/);
    expect(await ended).toBe(0);
    expect(containersOf(mocked.port)).toBe('');
    expect(folders()).toEqual([]);
  }, 60_000);

  test('ends at once after a second Ctrl-C', async () => {
    const hasty = await new Up(['--mock', '--mock-port', '0']).ready();
    const [, mockUrl = ''] = /Mock\s+(\S+)\s+is the backend mock-0/.exec(hasty.text) ?? [];
    const slow = { status: 200, body: '{}', delayMs: 60_000 };
    await fetch(`${mockUrl}/++/script`, { method: 'POST', body: JSON.stringify(slow) });
    const request = fetch(`${hasty.url}/openai/v1/models`, {
      headers: { 'api-key': 'key-of-the-client-app' },
    }).catch(() => 'cut off');
    await sleep(500);
    const ended = hasty.ctrlC();
    await hasty.says('Press Ctrl-C again');
    const since = performance.now();
    await hasty.ctrlC();
    expect(await ended).toBe(0);
    expect(performance.now() - since).toBeLessThan(5_000);
    expect(await request).toBe('cut off');
    expect(containersOf(hasty.port)).toBe('');
    expect(folders()).toEqual([]);
  }, 60_000);
});
