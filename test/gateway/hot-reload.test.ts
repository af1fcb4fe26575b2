/** Changes that `genai-gateway watch` renders reach the running gateway without disturbing requests. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { throttled } from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { backendOf, calls, chatBody, resetMocks, until, Wire } from '../support/traffic.ts';
import { envText, MountedVolume, startWatch, type Watching } from '../support/watching.ts';

const REQUESTS = 10_000;
const PER_SECOND = 200;
const RELOADS = 20;
const RELOAD_EVERY_MS = (REQUESTS / PER_SECOND / (RELOADS + 1)) * 1_000;
const QUOTA = 1_000_000;
/** A change takes effect within this time after it was written. */
const IN_EFFECT_MS = 2_000;

type Change = Readonly<Record<string, string | undefined>>;

describe.skipIf(cannotRunGatewayTests('hot reload'))('while the files change', () => {
  let folder: string;
  let rendered: string;
  let gateway: Gateway;
  let volume: MountedVolume;
  let watching: Watching;
  let settings: Record<string, string>;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'genai-gateway-hot-reload-'));
    rendered = join(folder, 'rendered');
    mkdirSync(rendered);
    // The user of APISIX must be able to enter the folder.
    chmodSync(folder, 0o755);
    gateway = await startGateway({
      backends: [{}, {}, {}],
      settings: {
        ENABLE_QUOTA: 'true',
        QUOTA_COUNT: String(QUOTA),
        QUOTA_TIME_WINDOW: '86400',
        AI_PROXY_COOLDOWN_MAX: '10m',
      },
      configFolder: rendered,
    });
    for (const mock of gateway.mocks) mock.configure({ recordBodies: false });
    settings = { ...gateway.variables };
    volume = new MountedVolume(join(folder, 'config'), { 'gateway.env': envText(settings) });
    watching = follow();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await watching?.end('SIGTERM');
    await gateway?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(() => {
    resetMocks(gateway);
  });

  /** Starts the watcher as the entrypoint does, with the environment that the env file was exported into. */
  const follow = () =>
    startWatch(['--env-file', volume.path('gateway.env'), '--out', rendered], {
      ...gateway.variables,
      GENAI_GATEWAY_EXPORTED: Object.keys(gateway.variables).join(','),
    });
  const write = (change: Change) => {
    settings = Object.fromEntries(
      Object.entries({ ...settings, ...change }).filter(
        (each): each is [string, string] => each[1] !== undefined,
      ),
    );
    volume.swap({ 'gateway.env': envText(settings) });
  };
  /** Writes a change and waits until the watcher has logged something. */
  const change = async (what: Change): Promise<string> => {
    const before = watching.said.length;
    const lines = watching.lines.length;
    write(what);
    await until(() => watching.lines.length > lines, 15_000);
    await sleep(50);
    return watching.said.slice(before);
  };
  /** Runs something that changes apisix.yaml, and waits until every worker has loaded it. */
  const inEffect = async <T>(what: () => T): Promise<Awaited<T>> => {
    const isThere = await gateway.apisix.nextReload();
    const result = await what();
    await isThere();
    return result;
  };
  const back = () =>
    change(Object.fromEntries(changedNames().map((name) => [name, gateway.variables[name]])));
  const changedNames = () =>
    [...new Set([...Object.keys(settings), ...Object.keys(gateway.variables)])].filter(
      (name) => settings[name] !== gateway.variables[name],
    );
  const files = () =>
    ['config.yaml', 'apisix.yaml', 'otel-collector.yaml'].map((name) => readFileSync(join(rendered, name)));

  async function status(model = 'gpt-4o'): Promise<number> {
    const wire = new Wire(gateway, '/openai/v1/chat/completions', {
      body: chatBody(model),
      headers: { Connection: 'close' },
    });
    return (await wire.end(10_000)).status;
  }
  /** The backends that get requests, among this number of requests. */
  async function serving(count = 12): Promise<number[]> {
    resetMocks(gateway);
    for (let index = 0; index < count; index++) expect(await status()).toBe(200);
    return calls(gateway).flatMap((each, index) => (each > 0 ? [index] : []));
  }

  test(`${REQUESTS} requests succeed at a steady load during ${RELOADS} reloads, and none reaches a drained backend`, {
    timeout: 180_000,
  }, async () => {
    const cooled = backendOf(gateway, 0);
    cooled.script(throttled({ retryAfter: 600 }));
    for (let index = 0; index < 6 && cooled.requests.length === 0; index++)
      expect(await status('cooled')).toBe(200);
    resetMocks(gateway);
    const leftBefore = await quotaLeft();

    const outcomes: string[] = [];
    const agent = new http.Agent({ keepAlive: true });
    const began = performance.now();
    const load = steadily(async (index) => {
      outcomes.push(await chat(agent, index));
    });
    /** The times from which and until which backend 1 must get no requests. */
    const drained: { from: number; to: number }[] = [];
    const { AZURE_OPENAI_ENDPOINT_1, AZURE_OPENAI_KEY_1 } = gateway.variables;
    const noBackend1 = {
      AZURE_OPENAI_ENDPOINT_1: undefined,
      AZURE_OPENAI_KEY_1: undefined,
      AZURE_OPENAI_WEIGHT_1: undefined,
    };
    const plan = (isFirst: boolean): { change: Change; drains?: true; returns?: true }[] => [
      { change: { AZURE_OPENAI_WEIGHT_1: '0' }, drains: true },
      { change: { AZURE_OPENAI_WEIGHT_0: isFirst ? '3' : '2' } },
      { change: { GATEWAY_CLIENT_MODELS_0: isFirst ? 'gpt-*,cooled' : undefined } },
      { change: { AZURE_OPENAI_WEIGHT_1: '1' }, returns: true },
      { change: { AZURE_OPENAI_PRIORITY_2: '9' } },
      { change: { AZURE_OPENAI_PRIORITY_2: undefined } },
      { change: noBackend1, drains: true },
      { change: { AI_PROXY_COOLDOWN: isFirst ? '20s' : undefined } },
      { change: { LB_ALG: isFirst ? 'latency' : undefined } },
      { change: { AZURE_OPENAI_ENDPOINT_1, AZURE_OPENAI_KEY_1 }, returns: true },
    ];
    const reloads = [...plan(true), ...plan(false)];
    expect(reloads).toHaveLength(RELOADS);
    for (const [index, { change: what, drains, returns }] of reloads.entries()) {
      await sleep(Math.max(0, began + (index + 1) * RELOAD_EVERY_MS - performance.now()));
      const last = drained.at(-1);
      if (returns && last) last.to = performance.now();
      expect(await change(what)).toMatch(/^watch: apisix\.yaml written/);
      if (drains) drained.push({ from: performance.now() + IN_EFFECT_MS, to: Number.POSITIVE_INFINITY });
    }
    await load;
    agent.destroy();

    expect(countsOf(outcomes)).toEqual({ whole: REQUESTS });
    const times = backendOf(gateway, 1).requests.map(({ startedAt }) => startedAt);
    expect(drained).toHaveLength(4);
    for (const { from, to } of drained) {
      expect(to - from).toBeGreaterThan(1_000);
      expect(times.filter((at) => at > from && at < to)).toEqual([]);
    }
    expect(calls(gateway).every((count) => count > REQUESTS / 20)).toBe(true);

    // Counters and cooldowns survived all reloads.
    expect(leftBefore - (await quotaLeft())).toBe(REQUESTS + 1);
    cooled.reset();
    for (let index = 0; index < 12; index++) expect(await status('cooled')).toBe(200);
    expect(cooled.requests).toHaveLength(0);
  });

  async function quotaLeft(): Promise<number> {
    const { status: code, headers } = await gateway.chat('gpt-4o');
    expect(code).toBe(200);
    return Number(headers.get('x-quota-ratelimit-remaining'));
  }

  /** Starts each request at its time, however long the others take. */
  async function steadily(task: (index: number) => Promise<void>): Promise<void> {
    const began = performance.now();
    const tasks: Promise<void>[] = [];
    while (tasks.length < REQUESTS) {
      const due = Math.min(REQUESTS, Math.floor(((performance.now() - began) * PER_SECOND) / 1_000));
      while (tasks.length < due) tasks.push(task(tasks.length));
      await sleep(5);
    }
    await Promise.all(tasks);
  }

  /** Every fourth request is a stream. */
  function chat(agent: http.Agent, index: number): Promise<string> {
    const stream = index % 4 === 0;
    return new Promise((resolve) => {
      const request = http.request(
        `${gateway.url}/openai/v1/chat/completions`,
        { agent, method: 'POST', headers: { 'api-key': CLIENT_KEY, 'content-type': 'application/json' } },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (piece: string) => {
            text += piece;
          });
          response.on('error', () => resolve('truncated'));
          response.on('end', () => {
            const isWhole = text.trimEnd().endsWith(stream ? 'data: [DONE]' : '}');
            resolve(response.statusCode === 200 && isWhole ? 'whole' : `${response.statusCode} ${text}`);
          });
        },
      );
      request.on('error', (error) => resolve(`error ${error.message}`));
      request.end(chatBody('gpt-4o', { stream }));
    });
  }

  describe('a bad change', () => {
    const bad: [string, () => Change, string][] = [
      ['a value that is none', () => ({ AZURE_OPENAI_WEIGHT_0: 'heavy' }), 'INVALID_VALUE'],
      ['a client’s key that is blank', () => ({ GATEWAY_CLIENT_KEY_0: ' ' }), 'BLANK_SECRET'],
      ['a backend without its key', () => ({ AZURE_OPENAI_KEY_1: undefined }), 'BACKEND_WITHOUT_CREDENTIAL'],
      [
        'nothing that has a weight',
        () => ({ AZURE_OPENAI_WEIGHT_0: '0', AZURE_OPENAI_WEIGHT_1: '0', AZURE_OPENAI_WEIGHT_2: '0' }),
        'ALL_BACKENDS_DRAINED',
      ],
      [
        'a name that is there twice',
        () => ({ AZURE_OPENAI_NAME_0: 'same', AZURE_OPENAI_NAME_1: 'same' }),
        'DUPLICATE_NAME',
      ],
    ];
    test.each(bad)('%s: is reported once, and the gateway keeps its settings', async (_, what, code) => {
      const before = files();
      const said = await change(what());
      expect(said).toMatch(/^watch: the settings have errors/);
      expect(said).toContain(code);
      await sleep(1_500);
      expect(files()).toEqual(before);
      expect(await serving()).toEqual([0, 1, 2]);
      expect(watching.said.endsWith(said)).toBe(true);
      expect(await back()).toMatch(/^watch: the settings have no errors any more/);
    });
  });

  test('changes that need a start are reported and deferred, and the others are applied', async () => {
    const said = await inEffect(() =>
      change({
        APISIX_LOG_LEVEL: 'info',
        GATEWAY_WORKERS: '4',
        AZURE_OPENAI_KEY_2: 'another-key-of-backend-2-0123456789',
        AZURE_OPENAI_WEIGHT_1: '0',
        AZURE_OPENAI_ENDPOINT_7: 'https://new.openai.azure.com',
        AZURE_OPENAI_KEY_7: 'key-of-backend-7-0123456789',
      }),
    );
    expect(said).toContain('apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_1)');
    expect(said).toMatch(/error APISIX_LOG_LEVEL: .*\[CHANGE_NEEDS_START\]/s);
    expect(said).toMatch(/error GATEWAY_WORKERS: .*\[CHANGE_NEEDS_START\]/s);
    expect(said).toMatch(/error AZURE_OPENAI_KEY_2: .*AZURE_OPENAI_KEY_2_FILE.*\[CHANGE_NEEDS_PROCESS\]/s);
    expect(said).toMatch(/error AZURE_OPENAI_KEY_7: .*\[CHANGE_NEEDS_PROCESS\]/s);
    expect(said).toMatch(/error AZURE_OPENAI_ENDPOINT_7: .*\[CHANGE_NEEDS_OTHERS\]/s);
    expect(said).toContain('5 errors');
    expect(said).not.toMatch(/another-key|key-of-backend/);
    expect(await serving()).toEqual([0, 2]);
    await inEffect(back);
    expect(await serving()).toEqual([0, 1, 2]);
  });

  test('killing the watcher does not affect the gateway, and the next watcher applies the changes made since', async () => {
    await watching.end('SIGKILL');
    expect(await serving()).toEqual([0, 1, 2]);
    await inEffect(async () => {
      write({ AZURE_OPENAI_WEIGHT_0: '0' });
      watching = follow();
      await watching.waitFor('apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
    });
    expect(await serving()).toEqual([1, 2]);
    await watching.end('SIGKILL');
    watching = follow();
    await inEffect(back);
    expect(await serving()).toEqual([0, 1, 2]);
  });

  describe('a request that began before a backend was drained', () => {
    const drained = async (what: Change, meanwhile: () => Promise<number>): Promise<[number, number[]]> => {
      resetMocks(gateway);
      const answered = meanwhile();
      await change(what);
      const code = await answered;
      const got = calls(gateway);
      await inEffect(back);
      return [code, got];
    };

    test('does not fail over to the drained backend', async () => {
      await inEffect(() => change({ AZURE_OPENAI_PRIORITY_0: '9', AZURE_OPENAI_PRIORITY_1: '8' }));
      const slowly = () => {
        backendOf(gateway, 0).script({ status: 503, delayMs: 4_500 });
        return status('outdated-1');
      };
      expect(await drained({ AZURE_OPENAI_WEIGHT_1: '0' }, slowly)).toEqual([200, [1, 0, 1]]);
    });

    test('is served by the drained backend when there was no other, as for a slow upload', async () => {
      await inEffect(() => change({ AZURE_OPENAI_WEIGHT_0: '0', AZURE_OPENAI_WEIGHT_1: '0' }));
      const slowly = async () => {
        const body = chatBody('outdated-2');
        const wire = new Wire(gateway, '/openai/v1/chat/completions', {
          headers: { 'Content-Length': String(body.length), Connection: 'close' },
          body: body.slice(0, 10),
        });
        await sleep(4_500);
        wire.send(body.slice(10));
        return (await wire.end(10_000)).status;
      };
      const swapped = { AZURE_OPENAI_WEIGHT_0: '1', AZURE_OPENAI_WEIGHT_2: '0' };
      expect(await drained(swapped, slowly)).toEqual([200, [0, 0, 1]]);
    });
  });

  test('a reference that cannot be resolved disables its backend and is never sent as a key', async () => {
    // Not written by the watcher, but by hand or by a render for another environment.
    const path = join(rendered, 'apisix.yaml');
    const before = readFileSync(path, 'utf8');
    await inEffect(() =>
      writeFileSync(path, before.replace('$env://AZURE_OPENAI_KEY_1', '$env://AZURE_OPENAI_KEY_99')),
    );
    expect(await serving()).toEqual([0, 2]);
    await inEffect(() => writeFileSync(path, before));
    expect(await serving()).toEqual([0, 1, 2]);
    const keys = gateway.mocks.flatMap(({ requests }) => requests.map((each) => each.header('api-key')));
    expect(keys.filter((key) => key === undefined || key.includes('env://'))).toEqual([]);
    expect(await gateway.apisix.log()).toContain(
      'backend backend-1 gets no requests: its credential cannot be resolved',
    );
  });
});

function countsOf(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
