/** The machinery around the assertions: load, simulators, the recorder in front of a gateway, the toolkit's files. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Check } from '../../compiler/e2e/checks.ts';
import { chosen } from '../../compiler/e2e/e2e.ts';
import { runLoad, timesOf } from '../../compiler/e2e/load.ts';
import { startMocksOf } from '../../compiler/e2e/mocks.ts';
import { DEPLOYMENTS, POOL_SCENARIOS } from '../../compiler/e2e/names.ts';
import { replicasDuring } from '../../compiler/e2e/platform.ts';
import { startRecorder } from '../../compiler/e2e/recorder.ts';
import { hasFailed, scenarioTable, summaryTable } from '../../compiler/e2e/report.ts';
import { type RunOptions, runScenario, type Target } from '../../compiler/e2e/run.ts';
import { DEFAULT_VARIANT, scenariosFor } from '../../compiler/e2e/scenarios.ts';
import { fastestFirst, setLatencies, simulatorsAt } from '../../compiler/e2e/simulators.ts';
import { tokensByClient } from '../../compiler/e2e/tokens-metric.ts';
import {
  checkToolkit,
  locustArguments,
  runLocust,
  toolkitEnvironment,
  writeOutputs,
} from '../../compiler/e2e/toolkit.ts';
import type { MockBackend } from '../../compiler/mock/server.ts';
import { keyOf } from '../../compiler/mock/start.ts';

const KEYS = ['key-of-client-one', 'key-of-client-two', 'key-of-client-three'];
const FAST = 100;
const SECOND = 1000 / FAST;
const scenario = (name: string) => {
  const found = scenariosFor().find((each) => each.name === name);
  if (!found) throw new Error(`there is no scenario ${name}`);
  return found;
};
/** More users than the scenario has, so that there are enough requests on a busy machine too. */
const busy = (name: string) => ({
  ...scenario(name),
  stages: [{ seconds: 180, users: 20, spawnRate: 1000, lane: 'high' as const }],
});

let mocks: readonly MockBackend[] = [];
beforeAll(async () => {
  mocks = await startMocksOf(SECOND, '127.0.0.1');
});
afterAll(() => Promise.all(mocks.map((mock) => mock.stop())));

const simulators = () =>
  simulatorsAt(
    mocks.map(({ url }) => url),
    mocks.map((_, index) => keyOf(index)),
  );

/** A gateway that sends each request to the mock that `choose` names, and reports its name. */
interface Stub {
  readonly url: string;
  readonly paths: string[];
}
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function stub(
  choose: (
    turn: number,
    path: string,
  ) => { readonly backend?: number; readonly status?: number; readonly named?: boolean },
): Promise<Stub> {
  const paths: string[] = [];
  let turn = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', async () => {
      const path = request.url ?? '';
      paths.push(`${request.headers['api-key']} ${path}`);
      const { backend, status, named = true } = choose(turn++, path);
      const mock = backend === undefined ? undefined : mocks[backend];
      if (!mock) {
        response.writeHead(status ?? 429).end();
        return;
      }
      const answer = await fetch(`${mock.url}${path.replace(/^\/[^/]+/, '')}`, {
        method: 'POST',
        headers: { 'api-key': keyOf(backend ?? 0), 'content-type': 'application/json' },
        body: Buffer.concat(chunks),
      });
      const headers = named ? { 'x-gateway-backend': mock.name } : {};
      response.writeHead(status ?? answer.status, headers).end(await answer.text());
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, paths };
}

const target = (url: string): Target => ({
  url,
  keys: KEYS,
  clientNames: ['one', 'two', 'three'],
  simulators: simulators(),
  resetMocks: () => {
    for (const mock of mocks) mock.reset();
  },
});

const options = (): RunOptions => ({
  timeScale: FAST,
  budgetMinute: 60 / FAST,
  variant: DEFAULT_VARIANT,
  environment: {},
  signal: new AbortController().signal,
  note: () => undefined,
});

/** How many requests there are depends on the load of this machine. */
const failedChecks = ({ checks }: { readonly checks: readonly Check[] }) =>
  checks.filter(({ result, what }) => result === 'failed' && what !== 'requests').map(({ what }) => what);

describe('a scenario against a gateway', () => {
  test('passes if the gateway acts as intended', async () => {
    const gateway = await stub((turn) => ({ backend: 1 + (turn % 2) }));
    const result = await runScenario(busy('round-robin-simple'), target(gateway.url), options());
    expect(failedChecks(result)).toEqual([]);
    expect(gateway.paths.length).toBeGreaterThan(10);
    expect(gateway.paths[0]).toMatch(
      /^key-of-client-one \/round-robin-simple\/openai\/deployments\/gpt-35-turbo-100m-token\/completions\?/,
    );
  });

  test('fails if one backend gets everything', async () => {
    const gateway = await stub(() => ({ backend: 1 }));
    const result = await runScenario(busy('round-robin-simple'), target(gateway.url), options());
    expect(failedChecks(result)).toEqual(['answers by backend']);
  });

  test('fails if requests fail', async () => {
    const gateway = await stub((turn) => (turn % 50 === 10 ? { status: 503 } : { backend: 1 + (turn % 2) }));
    const result = await runScenario(busy('round-robin-simple'), target(gateway.url), options());
    expect(failedChecks(result)).toEqual(['failed requests']);
  });

  test('uses the keys of three clients for usage tracking', async () => {
    const gateway = await stub(() => ({ backend: 1 }));
    const result = await runScenario(busy('usage-tracking'), target(gateway.url), options());
    expect(failedChecks(result)).toEqual([]);
    for (const key of KEYS) expect(gateway.paths.some((path) => path.startsWith(`${key} `))).toBe(true);
    expect(result.checks.at(-1)).toMatchObject({ result: 'not asserted' });
  });

  test.each<readonly [string, Parameters<typeof stub>[0], RegExp]>([
    ['has no such path', () => ({ status: 404 }), /GATEWAY_E2E_TEST_MODE=true/],
    ['does not know the key', () => ({ status: 401 }), /GATEWAY_CLIENT_KEY_0/],
    ['does not name its backends', () => ({ backend: 1, named: false }), /GATEWAY_BACKEND_HEADER=true/],
  ])('is refused if the gateway %s', async (_, choose, message) => {
    const gateway = await stub(choose);
    await expect(runScenario(busy('round-robin-simple'), target(gateway.url), options())).rejects.toThrow(
      message,
    );
  });

  test('is refused if nothing listens', async () => {
    await expect(
      runScenario(busy('round-robin-simple'), target('http://127.0.0.1:9'), options()),
    ).rejects.toThrow(/does not answer at http:\/\/127\.0\.0\.1:9/);
  });
});

describe('the load', () => {
  const stage = (users: number, lane: 'high' | 'low' | 'mixed') => ({
    seconds: 10,
    users,
    spawnRate: 100,
    lane,
  });

  test('has the lanes and about the number of requests of its stages', async () => {
    const stages = [stage(2, 'low'), stage(4, 'mixed'), stage(2, 'high')];
    const begin = performance.now();
    const sent: { readonly lane: string; readonly at: number }[] = [];
    const send = async (lane: string) => {
      sent.push({ lane, at: performance.now() - begin });
    };
    await runLoad({ stages, think: 1, second: 20, send, signal: new AbortController().signal });
    const times = timesOf(stages, 20);
    expect(times.map(({ from, to }) => [from, to])).toEqual([
      [0, 200],
      [200, 400],
      [400, 600],
    ]);
    const of = (index: number) =>
      sent.filter(({ at }) => at >= (times[index]?.from ?? 0) && at < (times[index]?.to ?? 0) - 5);
    const low = of(0).filter(({ lane }) => lane === 'low').length;
    expect(low).toBeGreaterThan(8);
    expect(low).toBeLessThanOrEqual(22);
    const mixed = of(1).filter(({ lane }) => lane === 'low').length / of(1).length;
    expect(mixed).toBeGreaterThan(0.35);
    expect(mixed).toBeLessThan(0.65);
    expect(sent.at(-1)?.lane).toBe('high');
  });

  test('ends early if it is interrupted', async () => {
    const controller = new AbortController();
    const begin = performance.now();
    setTimeout(() => controller.abort(), 50);
    await runLoad({
      stages: [stage(3, 'high')],
      think: 1,
      second: 1000,
      send: async () => undefined,
      signal: controller.signal,
    });
    expect(performance.now() - begin).toBeLessThan(2_000);
  });
});

describe('the simulators', () => {
  test('are ordered by their measured latency, which a change turns round', async () => {
    const latency = (mean: number, backend: 'payg-backend-1' | 'payg-backend-2') =>
      ({ backend, operation: 'open_ai_completions', mean, scales: false }) as const;
    const both = ['payg-backend-1', 'payg-backend-2'] as const;
    await setLatencies(simulators(), [latency(1, both[0]), latency(80, both[1])], 1000);
    expect(await fastestFirst(simulators(), both)).toEqual([...both]);
    await setLatencies(simulators(), [latency(80, both[0]), latency(1, both[1])], 1000);
    expect(await fastestFirst(simulators(), both)).toEqual([...both].reverse());
  });

  test('that cannot be reached are named, with their address', async () => {
    const [first] = simulatorsAt(['http://127.0.0.1:9', '', ''], ['k', '', '']);
    const latency = {
      backend: 'ptu-backend-1',
      operation: 'open_ai_completions',
      mean: 1,
      scales: false,
    } as const;
    await expect(setLatencies(first ? [first] : [], [latency], 1000)).rejects.toThrow(
      /simulator of ptu-backend-1 does not answer at http:\/\/127\.0\.0\.1:9: .*--simulator/,
    );
  });

  test('in mocks limit tokens by a window that is as much shorter as the run', async () => {
    const [mock] = mocks;
    mock?.reset();
    const url = `${mock?.url}/openai/deployments/gpt-35-turbo-1k-token/chat/completions?api-version=2023-05-15`;
    const chat = () =>
      fetch(url, {
        method: 'POST',
        headers: { 'api-key': keyOf(0), 'content-type': 'application/json' },
        body: JSON.stringify({ messages: [{ role: 'user', content: 'x' }], max_tokens: 1000 }),
      });
    expect((await chat()).status).toBe(200);
    const rejected = await chat();
    expect(rejected.status).toBe(429);
    expect(rejected.headers.get('retry-after')).toBe('1');
    expect(Number(rejected.headers.get('retry-after-ms'))).toBeLessThanOrEqual(60 * SECOND);
    expect(Object.keys(DEPLOYMENTS)).toContain('gpt-35-turbo-1k-token');
  });
});

test('the recorder passes requests on, and records lane, client, backend and the helper', async () => {
  const gateway = await stub((_, path) => (path.startsWith('/helpers/') ? { status: 200 } : { backend: 1 }));
  const recorder = await startRecorder({ url: gateway.url, keys: KEYS });
  try {
    const path =
      '/usage-tracking/openai/deployments/gpt-35-turbo-100m-token/completions?api-version=2023-05-15';
    const send = (url: string, headers: Record<string, string>) =>
      fetch(`${recorder.url}${url}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ prompt: 'x', max_tokens: 7, preferredBackends: ['payg-backend-2'] }),
      });
    const answer = await send(path, { 'api-key': KEYS[1] ?? '', 'x-priority': 'low' });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toHaveProperty('usage');
    await send(path, { 'api-key': KEYS[0] ?? '' });
    expect((await send('/helpers/set-preferred-backends', { 'api-key': KEYS[0] ?? '' })).status).toBe(200);
    expect(recorder.observations).toMatchObject([
      { lane: 'low', client: 1, backend: 'payg-backend-1', status: 200, cost: 7, at: 0 },
      { lane: 'high', client: 0, backend: 'payg-backend-1', status: 200 },
    ]);
    expect(recorder.helpers).toMatchObject([{ status: 200, order: ['payg-backend-2'] }]);
  } finally {
    await recorder.stop();
  }
});

test('the tokens in metrics are added up by client', () => {
  const text = [
    'apisix_llm_prompt_tokens{consumer="one",lane="high"} 5',
    'apisix_llm_completion_tokens{consumer="one",lane="high"} 7',
    'apisix_llm_prompt_tokens{lane="low",consumer="two"} 1',
    'apisix_llm_latency_count{consumer="two"} 9',
  ].join('\n');
  expect([...tokensByClient(text)]).toEqual([
    ['one', 12],
    ['two', 1],
  ]);
});

describe('the toolkit', () => {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const values = () => ({
    simulators: simulatorsAt(
      ['https://ptu1.example.com', 'https://payg1.example.com', 'http://127.0.0.1:8002'],
      ['key-of-the-simulators', '', ''],
    ),
    keys: KEYS,
    gatewayUrl: 'http://127.0.0.1:1234',
    environment: {
      PATH: '/bin',
      RESOURCE_GROUP_NAME: 'ai',
      AZURE_OPENAI_KEY_0: 'not for locust',
      LOG: undefined,
    },
  });
  const json = (name: string) =>
    JSON.parse(readFileSync(join(folder, name), 'utf8')) as Record<string, unknown>;

  test('a folder without its files is refused', () => {
    expect(() => checkToolkit(folder)).toThrow(/no checkout|not a checkout/);
  });

  test('gets the files that its scripts read, for the owner only, and keeps other values', () => {
    mkdirSync(join(folder, 'infra/apim-genai'), { recursive: true });
    writeFileSync(join(folder, 'infra/apim-genai/output.json'), '{"apiManagementName": "old", "other": 1}');
    chmodSync(join(folder, 'infra/apim-genai/output.json'), 0o600);
    const paths = writeOutputs(folder, values());
    expect(paths).toHaveLength(4);
    for (const path of paths) expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(json('infra/simulators/generated-keys.json')).toEqual({
      simulatorApiKey: 'key-of-the-simulators',
    });
    expect(json('infra/simulators/output-simulators.json')).toEqual({
      resourceGroupName: 'ai',
      ptu1Fqdn: 'ptu1.example.com',
      payg1Fqdn: 'payg1.example.com',
      payg2Fqdn: '127.0.0.1:8002',
    });
    expect(json('infra/apim-genai/output.json')).toMatchObject({
      other: 1,
      apiManagementName: '127.0.0.1:1234',
      apiManagementAzureOpenAIProductSubscriptionThreeKey: KEYS[2],
    });
  });

  test('a file that is not JSON is refused by its name', () => {
    writeFileSync(join(folder, 'infra/apim-genai/output.json'), 'oops');
    expect(() => writeOutputs(folder, values())).toThrow(/output\.json cannot be written: it is not JSON/);
  });

  test('gets its variables, and none of the settings of the gateway', () => {
    const variant = { ...DEFAULT_VARIANT, requestType: 'chat', maxTokens: 50 } as const;
    const environment = toolkitEnvironment(values(), scenario('prioritization-simple'), variant);
    expect(environment).toMatchObject({
      PATH: '/bin',
      APIM_ENDPOINT: 'http://127.0.0.1:1234',
      APIM_SUBSCRIPTION_TWO_KEY: KEYS[1],
      SIMULATOR_ENDPOINT_PAYG2: 'http://127.0.0.1:8002',
      SIMULATOR_API_KEY: 'key-of-the-simulators',
      ENDPOINT_PATH: 'prioritization-simple',
      LOAD_PATTERN: 'cycle',
      REQUEST_TYPE: 'chat',
      MAX_TOKENS: '50',
    });
    expect(Object.keys(environment).filter((name) => name.startsWith('AZURE_OPENAI_'))).toEqual([]);
    const args = locustArguments('/toolkit', scenario('round-robin-weighted'), 'http://127.0.0.1:1');
    expect(args.join(' ')).toBe(
      '--locustfile /toolkit/end_to_end_tests/scenario_round_robin.py --host http://127.0.0.1:1/round-robin-weighted/ --headless --only-summary --stop-timeout 150 --users 3 --spawn-rate 1 --run-time 180s',
    );
    expect(locustArguments('/t', scenario('retry-with-payg'), 'http://h').join(' ')).not.toContain('--users');
    for (const key of KEYS) expect(args.join(' ')).not.toContain(key);
  });

  test('locust is run to its end, and its output is kept', async () => {
    const log = join(folder, 'locust.log');
    const run = { environment: { PATH: process.env.PATH ?? '' }, log, signal: new AbortController().signal };
    await runLocust({ ...run, program: 'sh', args: ['-c', 'echo hello; exit 2'] });
    expect(readFileSync(log, 'utf8')).toBe('hello\n');
    await expect(runLocust({ ...run, program: 'no-such-locust', args: [] })).rejects.toThrow(
      /no-such-locust cannot be started: .*requirements\.txt.*--locust/,
    );
  });
});

describe('the replicas of a container app', () => {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const az = (script: string) => {
    writeFileSync(join(folder, 'az'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return { PATH: `${folder}${delimiter}${process.env.PATH}` };
  };
  const ask = (environment: Record<string, string>) =>
    replicasDuring('/subscriptions/s/app', new Date(0), new Date(60_000), environment);

  test('are the minimum of its settings and the maximum of its metric', async () => {
    const environment = az(
      `case "$1" in containerapp) echo 2;; monitor) echo '{"value":[{"timeseries":[{"data":[{"maximum":2},{"maximum":5},{"maximum":null}]}]}]}';; esac`,
    );
    expect(await ask(environment)).toEqual({ least: 2, most: 5 });
  });

  test.each<readonly [string, string, RegExp]>([
    ['it fails', 'echo "Please run az login" >&2; exit 1', /^az: Please run az login$/],
    ['it prints no JSON', 'echo hello', /no JSON/],
    ['there is no metric', `case "$1" in containerapp) echo 2;; *) echo '{"value":[]}';; esac`, /no metric/],
  ])('are not known if %s', async (_, script, reason) => expect(await ask(az(script))).toMatch(reason));

  test('are not known without a platform or without the program', async () => {
    expect(await replicasDuring(undefined, new Date(), new Date(), {})).toMatch(/no platform/);
    expect(await ask({ PATH: '/nowhere' })).toBe('the program az is missing');
  });
});

describe('the result', () => {
  const check = (result: 'passed' | 'failed' | 'not asserted', what: string) => ({
    what,
    intended: 'i',
    seen: 's',
    result,
  });
  const good = { scenario: 'good', seconds: 1.4, checks: [check('passed', 'a'), check('not asserted', 'b')] };
  const bad = { scenario: 'bad', seconds: 2, checks: [check('passed', 'a'), check('failed', 'c')] };

  test('fails with a failed check, and without any', () => {
    expect([good, bad, { ...good, checks: [] }].map(hasFailed)).toEqual([false, true, true]);
  });

  test('is a table with what was intended and seen', () => {
    expect(scenarioTable(bad)).toBe(
      'bad (2 s)\n          check  intended  seen\n  ok      a      i         s\n  FAILED  c      i         s\n',
    );
    expect(summaryTable([good, bad])).toBe(
      '        scenario  checks passed            failed\nok      good      1 of 2 (1 not asserted)\nFAILED  bad       1 of 2                   c\n',
    );
  });
});

test('the chosen scenarios are the eleven pools, unless others are named', () => {
  const base = { loadPattern: 'cycle', requestType: 'embeddings', rampRate: 1 } as Parameters<
    typeof chosen
  >[0];
  const names = (options: object) => chosen({ ...base, ...options }).map(({ name }) => name);
  expect(names({})).toEqual([...POOL_SCENARIOS]);
  expect(names({ scenario: ['scalability', 'latency-routing'] })).toEqual(['latency-routing', 'scalability']);
  expect(names({ skip: ['latency-routing'] })).toHaveLength(10);
  expect(names({ containerApp: '/subscriptions/s/app' })).toHaveLength(13);
});
