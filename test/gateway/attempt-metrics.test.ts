/** Metrics of attempts, failovers, cooldowns, limits and affinity. No label value can be chosen by a client. */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, withItems } from '../support/apisix.ts';
import { type EntraGateway, startEntraGateway } from '../support/entra.ts';
import { backendKey, CLIENT_KEY, HOST, quickMetrics } from '../support/gateway.ts';
import { documentedMetrics, type Sample, samplesIn, total, typesIn } from '../support/metrics-text.ts';
import { type RawConnection, rawConnection, requestBytes } from '../support/raw-http.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';
import {
  backendOf,
  chatBody,
  chatOnWire,
  chatPrelude,
  chatText,
  chatUsage,
  until,
} from '../support/traffic.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('metrics of attempts') || cannotRunRedisTests('metrics of attempts');

const REDIS_PASSWORD = 'password-of-the-affinity-redis';
const COUNTED_KEY = 'key-of-the-counted-client-0123456789';
const IN_MODEL_NAME = 'planted-in-the-name-of-a-model';

/** The attempts that requests for each model must have, by backend and outcome. */
const ATTEMPTS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  plain: { 'backend-0 ok': 1 },
  refused: { 'backend-0 ok': 1 },
  'stream-usage': { 'backend-0 ok': 1 },
  sound: { 'backend-0 ok': 1 },
  'stream-silent': { 'backend-0 ok': 1 },
  throttled: { 'backend-0 throttled': 1, 'backend-0 skipped_cooling': 1, 'backend-1 ok': 2 },
  'server-error': { 'backend-0 server_error': 1, 'backend-1 ok': 1 },
  timeout: { 'backend-0 timeout': 1, 'backend-1 ok': 1 },
  reset: { 'backend-0 connect_error': 1, 'backend-1 ok': 1 },
  stale: { 'backend-0 ok': 1, 'backend-0 stale_connection': 1, 'backend-1 ok': 1 },
  'not-there': { 'backend-0 connect_error': 1, 'backend-1 ok': 1 },
  unhealthy: { 'backend-0 skipped_unhealthy': 1, 'backend-1 ok': 1 },
  'refused-stream': { 'backend-0 throttled': 1, 'backend-1 ok': 1 },
  'broken-stream': { 'backend-0 stream_error': 1, 'backend-1 ok': 1 },
  'no-permission': { 'backend-0 refused': 1, 'backend-1 ok': 1 },
  'cut-stream': { 'backend-0 stream_error': 1 },
  'left-in-stream': { 'backend-0 client_abort': 1 },
  'left-waiting': { 'backend-0 client_abort': 1 },
  'all-throttled': {
    'backend-0 throttled': 1,
    'backend-1 throttled': 1,
    'backend-0 skipped_cooling': 1,
    'backend-1 skipped_cooling': 1,
  },
  'all-failing': { 'backend-0 server_error': 1, 'backend-1 server_error': 1 },
  spilled: { 'backend-0 ok': 2 },
  low: { 'backend-0 ok': 1 },
  counted: { 'backend-0 ok': 1 },
  // The first time the backend has no token. The other backends have no list of deployments, so they may serve the model
  // too.
  alias: { 'backend-2 credentials': 1, 'backend-0 ok': 1, 'backend-2 ok': 1 },
};

describe.skipIf(skipped)('metrics of attempts', () => {
  let gateway: EntraGateway;
  let redis: Redis;
  let down: readonly Sample[] = [];
  let samples: readonly Sample[] = [];
  let text = '';
  const backend = (index: number) => backendOf(gateway, index);

  beforeAll(async () => {
    redis = await startRedis({ password: REDIS_PASSWORD });
    gateway = await startEntraGateway({
      backends: ['key', 'key', {}],
      adapt: quickMetrics,
      settings: {
        AZURE_OPENAI_PRIORITY_0: '20',
        AZURE_OPENAI_PRIORITY_1: '10',
        AZURE_OPENAI_PRIORITY_2: '30',
        AZURE_OPENAI_DEPLOYMENTS_2: 'Alias=Real',
        GATEWAY_CLIENT_NAME_1: 'counted',
        GATEWAY_CLIENT_KEY_1: COUNTED_KEY,
        GATEWAY_CLIENT_REQUESTS_PER_MINUTE_1: '1',
        MODEL_PRICES: [...Object.keys(ATTEMPTS), 'response'].map((model) => `${model}=1/1`).join(','),
        AI_PROXY_READ_TIMEOUT: '700ms',
        AI_PROXY_COOLDOWN: '1s',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
        AI_RATE_LIMIT_HIGH_LIMIT: '1000000000',
        AI_RATE_LIMIT_LOW_LIMIT: '5',
        APISIX_ACTIVE_HEALTH_CHECKS: 'true',
        APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL: '1s',
        APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL: '1s',
        RESPONSES_AFFINITY_REDIS_HOST: redis.host,
        RESPONSES_AFFINITY_REDIS_PORT: String(redis.port),
        RESPONSES_AFFINITY_REDIS_PASSWORD: REDIS_PASSWORD,
        RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: '2000',
      },
    });
    await everythingThatHappens();
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    await redis?.stop();
  });

  async function ask(model: string, body: object = {}, headers: Record<string, string> = {}) {
    const answer = await gateway.chat(model, body, headers);
    await answer.text();
    return answer.status;
  }

  async function everythingThatHappens(): Promise<void> {
    const health = async (node: string) =>
      total(samplesIn(await gateway.metrics()), 'apisix_genai_backend_healthy', { node });

    gateway.identity.script({ status: 500 });
    expect(await ask('ALIAS')).toBe(200);

    await backend(0).stop();
    expect(await ask('not-there')).toBe(200);
    await eventually(async () => (await health('backend-0')) === 0, { timeoutMs: 30_000 });
    expect(await ask('unhealthy')).toBe(200);
    down = samplesIn(await gateway.metrics());
    await backend(0).restart();
    await eventually(async () => (await health('backend-0')) === 1, { timeoutMs: 30_000 });
    expect(await ask('alias')).toBe(200);

    const usage = {
      prompt_tokens: 10,
      completion_tokens: 8,
      total_tokens: 18,
      prompt_tokens_details: { cached_tokens: 4 },
      completion_tokens_details: { reasoning_tokens: 3 },
    };
    const chat = (script: Parameters<ReturnType<typeof backend>['script']>[0]) =>
      backend(0).script({ path: /chat/, ...script });
    chat({ body: { choices: [], usage } });
    await ask('plain');
    chat(answers.contentFiltered());
    expect(await ask('refused')).toBe(400);
    const stream = [chatPrelude, chatText('a'), chatText('b')];
    chat({ events: [...stream, chatUsage(5, 7)], gapMs: 50 });
    await ask('stream-usage', { stream: true, stream_options: { include_usage: true } });
    chat({ events: stream });
    await ask('stream-silent', { stream: true });
    backend(0).script({ path: /audio/, body: { text: 'Hi', usage: { type: 'duration', seconds: 4 } } });
    const sound = await gateway.fetch('/openai/v1/audio/transcriptions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'sound' }),
    });
    expect(sound.status).toBe(200);
    await sound.text();

    for (const [model, failure, body] of [
      ['throttled', answers.throttled()],
      ['server-error', answers.serverError()],
      ['timeout', { hang: true }],
      ['reset', { reset: 'before-headers' }],
      ['refused-stream', answers.throttledStream({ api: 'chat' }), { stream: true }],
      ['broken-stream', { events: [chatPrelude, chatPrelude], gapMs: 20, cutAfter: 1 }, { stream: true }],
    ] as const) {
      // The gateway retries a reset on a reused connection, so this reset must happen on a new one.
      if (model === 'reset') {
        await backend(0).stop();
        await backend(0).restart();
      }
      chat(failure);
      expect([model, await ask(model, body)]).toEqual([model, 200]);
    }
    expect(await ask('throttled')).toBe(200);
    // One connection reaches one worker, which reuses its connection to the backend.
    const connection = await rawConnection(gateway.url);
    expect(await chatOver(connection, 'stale')).toBe(200);
    chat({ reset: 'before-headers' });
    expect(await chatOver(connection, 'stale')).toBe(200);
    connection.destroy();

    for (const index of [0, 1]) backend(index).script({ path: /chat/, ...answers.throttled() });
    expect(await ask('all-throttled')).toBe(429);
    expect(await ask('all-throttled')).toBe(429);
    for (const index of [0, 1]) backend(index).script({ path: /chat/, ...answers.unavailable() });
    expect(await ask('all-failing')).toBe(503);
    chat({ headers: { 'x-ms-spillover-from-deployment': 'spilled' } });
    expect(await ask('spilled')).toBe(200);
    expect(await ask('spilled')).toBe(200);

    chat({ events: [...stream, ...stream], gapMs: 20, cutAfter: 4 });
    await chatOnWire(gateway, 'cut-stream').waitForClose();
    chat({ events: Array.from({ length: 100 }, () => chatText('x')), gapMs: 50 });
    const inStream = chatOnWire(gateway, 'left-in-stream');
    await inStream.waitFor('"x"');
    inStream.leave();
    chat({ hang: true });
    const isWaiting = () => backend(0).requests.some(({ body }) => body.includes('left-waiting'));
    const waiting = chatOnWire(gateway, 'left-waiting', {});
    await until(isWaiting);
    waiting.leave();

    expect(await ask('low', {}, { 'x-priority': 'low' })).toBe(200);
    expect(await ask('low', {}, { 'x-priority': 'low' })).toBe(503);

    expect(await ask('counted', {}, { 'api-key': COUNTED_KEY })).toBe(200);
    expect(await ask('counted', {}, { 'api-key': COUNTED_KEY })).toBe(429);

    await affinityOfEveryKind();
    for (const name of [CLIENT_KEY, backendKey(0), IN_MODEL_NAME]) {
      await ask(name);
      await (
        await fetch(`${gateway.url}/openai/v1/${name}?api-key=${name}`, { headers: { 'api-key': name } })
      ).text();
    }
    // Sent last, because from here on the other backend is used for this operation.
    chat(answers.noPermission());
    expect(await ask('no-permission')).toBe(200);
    text = await gateway.metrics();
    samples = samplesIn(text);
  }

  async function affinityOfEveryKind(): Promise<void> {
    const read = async (id: string) => (await gateway.fetch(`/openai/v1/responses/${id}`)).status;
    const { id } = await gateway.openai().responses.create({ model: 'response', input: 'Hello' });
    expect(await read(id)).toBe(200);

    const elsewhere = await fetch(`${backend(1).url}/openai/v1/responses`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'api-key': backendKey(1) },
      body: JSON.stringify({ model: 'response', input: 'Hello' }),
    });
    expect(await read(((await elsewhere.json()) as { id: string }).id)).toBe(200);

    const key = `responses_affinity:${createHash('md5').update('app\nresp_known').digest('hex')}`;
    await redis.command('SET', key, `http://${HOST}:${backend(1).port}`);
    expect(await read('resp_known')).toBe(404);
    expect(await read('resp_unknown')).toBe(404);
    await redis.stop();
    expect(await read('resp_unknown')).toBe(404);
  }

  const sumOf = (name: string, labels: Record<string, string> = {}) => total(samples, name, labels);

  test.each(Object.entries(ATTEMPTS))('counts the attempts of %s', (model, expected) => {
    const attempts = samples
      .filter(
        ({ name, labels }) => name === 'apisix_genai_attempts_total' && labels.request_llm_model === model,
      )
      .map(({ labels, value }) => [`${labels.node} ${labels.outcome}`, value]);
    expect(Object.fromEntries(attempts)).toEqual(expected);
  });

  test('counts successful failovers by the first failure and the backend that answered', () => {
    const failovers = samples
      .filter(({ name }) => name === 'apisix_genai_failovers_total')
      .map(({ labels, value }) => `${labels.request_llm_model}: ${labels.reason}, ${labels.node}, ${value}`);
    expect(failovers.sort()).toEqual([
      'alias: credentials, backend-0, 1',
      'broken-stream: stream_error, backend-1, 1',
      'no-permission: refused, backend-1, 1',
      'not-there: connect_error, backend-1, 1',
      'refused-stream: throttled, backend-1, 1',
      'reset: connect_error, backend-1, 1',
      'server-error: server_error, backend-1, 1',
      'throttled: throttled, backend-1, 1',
      'timeout: timeout, backend-1, 1',
    ]);
  });

  test('counts requests that no backend could serve', () => {
    const unserved = samples
      .filter(({ name }) => name === 'apisix_genai_unserved_requests_total')
      .map(({ labels, value }) => `${labels.lane}, ${labels.request_llm_model}: ${labels.reason}, ${value}`);
    expect(unserved.sort()).toEqual([
      'high, all-failing: server_error, 1',
      'high, all-throttled: throttled, 2',
    ]);
    const byClient = (reason: string) =>
      sumOf('apisix_genai_unserved_by_client_total', { consumer: 'app', reason });
    expect([byClient('server_error'), byClient('throttled')]).toEqual([1, 2]);
    const ofApp = { code: '429', consumer: 'app', lane: 'high', response_source: 'apisix' };
    expect(sumOf('apisix_http_status', ofApp)).toBe(2);
  });

  test('counts answers that Azure spilled over to a standard deployment', () => {
    const spilled = samples.filter(({ name }) => name === 'apisix_genai_spillovers_total');
    expect(spilled.map(({ labels, value }) => ({ ...labels, value }))).toEqual([
      { node: 'backend-0', request_llm_model: 'spilled', value: 1 },
    ]);
  });

  test('shows cooldowns and their end', () => {
    const cooldown = (of: readonly Sample[], node: string, model: string) =>
      total(of, 'apisix_genai_backend_cooldown_seconds', { node, request_llm_model: model });
    expect(cooldown(samples, 'backend-0', 'throttled')).toBeGreaterThan(1);
    expect(cooldown(samples, 'backend-0', 'throttled')).toBeLessThanOrEqual(33);
    expect(cooldown(samples, 'backend-0', 'server-error')).toBe(0);
    for (const index of [0, 1, 2]) expect(cooldown(samples, `backend-${index}`, '*')).toBe(0);
    const began = (labels: Record<string, string>) => sumOf('apisix_genai_cooldowns_total', labels);
    expect(began({ node: 'backend-0', request_llm_model: 'throttled', reason: 'throttled' })).toBe(1);
    expect(began({ node: 'backend-0', request_llm_model: 'server-error', reason: 'failing' })).toBe(1);
    expect(began({ node: 'backend-0', request_llm_model: '*', reason: 'unreachable' })).toBe(1);
    expect(began({ node: 'backend-2', request_llm_model: '*', reason: 'credentials' })).toBe(1);
  });

  test('shows the health that probes find', () => {
    const healthy = (of: readonly Sample[], index: number) =>
      total(of, 'apisix_genai_backend_healthy', { node: `backend-${index}` });
    expect([0, 1, 2].map((index) => healthy(down, index))).toEqual([0, 1, 1]);
    expect([0, 1, 2].map((index) => healthy(samples, index))).toEqual([1, 1, 1]);
  });

  test('counts tokens of every kind by client, lane and model', () => {
    const labels = { consumer: 'app', lane: 'high' };
    const tokens = (kind: string, model: string) =>
      sumOf('apisix_genai_tokens_total', { ...labels, kind, request_llm_model: model, llm_model: model });
    expect(tokens('cached', 'plain')).toBe(4);
    expect(tokens('reasoning', 'plain')).toBe(3);
    expect(tokens('estimated', 'plain')).toBeUndefined();
    expect(sumOf('apisix_genai_audio_seconds_total', { ...labels, request_llm_model: 'sound' })).toBe(4);
    expect(tokens('estimated', 'stream-silent')).toBeGreaterThan(0);
    for (const [model, prompt, completion] of [
      ['plain', 10, 8],
      ['stream-usage', 5, 7],
      ['stream-silent', 0, 0],
    ] as const) {
      const of = { ...labels, request_llm_model: model };
      expect(sumOf('apisix_llm_prompt_tokens', of)).toBe(prompt);
      expect(sumOf('apisix_llm_completion_tokens', of)).toBe(completion);
    }
    expect(
      sumOf('apisix_llm_prompt_tokens', {
        request_llm_model: 'alias',
        llm_model: 'real',
      }),
    ).toBe(2);
    expect(sumOf('apisix_llm_prompt_tokens', { ...labels, lane: 'low', request_llm_model: 'low' })).toBe(2);
    expect(sumOf('apisix_llm_prompt_tokens', { request_llm_model: 'response' })).toBeGreaterThan(0);
    expect(sumOf('apisix_http_latency_count', { type: 'request', operation: 'responses' })).toBeGreaterThan(
      0,
    );
  });

  test('measures the time to the first token and to the end of the answer', () => {
    const of = { request_llm_model: 'stream-usage', node: 'backend-0' };
    const [ttft, whole] = ['ttft', 'total'].map((type) => sumOf('apisix_llm_latency_sum', { ...of, type }));
    expect(ttft).toBeGreaterThanOrEqual(45);
    expect(whole).toBeGreaterThanOrEqual(145);
    expect(ttft).toBeLessThan(whole ?? 0);
    const slow = { node: 'backend-1', request_llm_model: 'timeout', type: 'total' };
    expect(sumOf('apisix_llm_latency_sum', slow)).toBeGreaterThanOrEqual(690);
    const ofChat = { lane: 'high', operation: 'chat_completions' };
    const upstream = sumOf('apisix_http_latency_sum', { ...ofChat, type: 'upstream' }) ?? 0;
    const own = sumOf('apisix_http_latency_sum', { ...ofChat, type: 'apisix' }) ?? 0;
    expect(upstream).toBeGreaterThanOrEqual(690);
    expect(own).toBeLessThan(upstream / 4);
    for (const name of ['apisix_http_latency', 'apisix_llm_latency'])
      expect(sumOf(`${name}_bucket`, { le: '600000' })).toBe(sumOf(`${name}_count`));
  });

  test('counts decisions of limiters by lane', () => {
    const decided = (lane: string, decision: string) =>
      sumOf('apisix_genai_limiter_decisions_total', {
        limiter: 'ai-rate-limiting',
        lane,
        decision,
        consumer: 'app',
      });
    expect([decided('low', 'allowed'), decided('low', 'rejected')]).toEqual([1, 1]);
    expect(decided('high', 'allowed')).toBeGreaterThan(20);
    expect(decided('high', 'rejected')).toBeUndefined();
    const ofCounted = samples
      .filter(
        ({ name, labels }) =>
          name === 'apisix_genai_limiter_decisions_total' && labels.consumer === 'counted',
      )
      .map(({ labels, value }) => `${labels.limiter} ${labels.decision} ${value}`);
    expect(ofCounted.sort()).toEqual([
      'ai-rate-limiting allowed 2',
      'limit-count allowed 1',
      'limit-count rejected 1',
    ]);
    expect(sumOf('apisix_http_status', { code: '503', lane: 'low', response_source: 'apisix' })).toBe(1);
  });

  test('counts affinity lookups by the place where the owner was found', () => {
    const found = ['memory', 'redis', 'search', 'none', 'failed'].map((result) =>
      sumOf('apisix_genai_affinity_lookups_total', { result }),
    );
    expect(found).toEqual([1, 1, 1, 2, undefined]);
    expect(sumOf('apisix_genai_affinity_redis_failures_total')).toBe(1);
  });

  test('counts requests for Entra ID tokens', () => {
    expect(sumOf('apisix_genai_entra_token_requests_total', { outcome: 'failed' })).toBe(1);
    expect(sumOf('apisix_genai_entra_token_requests_total', { outcome: 'ok' })).toBe(1);
  });

  test('has exactly the metrics and labels of docs/metrics.md', () => {
    const types = typesIn(text);
    const shown: Record<string, { type: string | undefined; labels: Set<string> }> = {};
    for (const { name, labels } of samples) {
      const base = name.replace(/_(?:bucket|count|sum)$/, '');
      const metric = types[base] === 'histogram' ? base : name;
      shown[metric] ??= { type: types[metric], labels: new Set() };
      for (const label of Object.keys(labels)) if (label !== 'le') shown[metric].labels.add(label);
    }
    // These are only counted with limits in Redis (shared-counters.test.ts), with traces (traces.test.ts) and with the
    // cache (answer-cache-redis.test.ts).
    const elsewhere = ['apisix_genai_limiter_degraded_total', 'apisix_genai_spans_dropped_total'];
    const documented = documentedMetrics().filter(
      ({ name }) => !elsewhere.includes(name) && !name.startsWith('apisix_genai_cache_'),
    );
    expect(documented.length).toBeGreaterThan(20);
    expect(shown).toEqual(
      Object.fromEntries(
        // Without named pools there is no label for them (pools.test.ts).
        documented.map(({ name, type, labels }) => [
          name,
          { type, labels: new Set(labels.filter((label) => label !== 'pool')) },
        ]),
      ),
    );
  });

  test('contains no secret and no text that a client wrote', () => {
    expect(sumOf('apisix_genai_attempts_total', { request_llm_model: 'other' })).toBe(3);
    for (const secret of [CLIENT_KEY, backendKey(0), REDIS_PASSWORD, gateway.identity.secret, IN_MODEL_NAME])
      expect(text).not.toContain(secret);
    const tokens = gateway.identity.requests.flatMap(({ token }) => token ?? []);
    expect(tokens).not.toEqual([]);
    for (const token of tokens) expect(text).not.toContain(token);
  });

  test('adds at most one series to each metric and combination of other labels for 10,000 model names', async () => {
    for (const mock of gateway.mocks) mock.configure({ recordRequests: false });
    const before = new Set(samples.map(seriesOf));
    let sent = 0;
    const send = async (count: number) => {
      const connections = await Promise.all(Array.from({ length: 16 }, () => rawConnection(gateway.url)));
      const end = sent + count;
      const statuses = await Promise.all(
        connections.map(async (connection) => {
          const seen = new Set<number>();
          while (sent < end) seen.add(await chatOver(connection, `Random-${sent++}-${Math.random()}`));
          connection.destroy();
          return [...seen];
        }),
      );
      return [...new Set(statuses.flat())];
    };
    for (const index of [0, 1]) backend(index).always(answers.deploymentNotFound());
    expect(await send(5_000)).toEqual([404]);
    for (const index of [0, 1]) backend(index).always(undefined);
    expect(await send(5_000)).toEqual([200]);

    const after = samplesIn(await gateway.metrics());
    const attempts = (outcome: string) =>
      total(after, 'apisix_genai_attempts_total', { request_llm_model: 'other', outcome });
    expect(attempts('ok')).toBe(5_003);
    // One attempt at each backend.
    expect(attempts('deployment_not_found')).toBe(10_000);
    const added = after.filter((sample) => !before.has(seriesOf(sample)));
    const names = added.flatMap(({ labels }) => [labels.request_llm_model ?? '', labels.llm_model ?? '']);
    expect(names.filter((name) => name !== '' && name !== 'other')).toEqual([]);
    const combinations = added.map(({ name, labels: { request_llm_model: _, llm_model: __, ...others } }) =>
      seriesOf({ name, labels: others, value: 0 }),
    );
    expect(new Set(combinations).size).toBe(combinations.length);
  }, 60_000);

  test('updates gauges on a reload, and keeps counters of workers that ended', async () => {
    type File = { services: { plugins: Record<string, { instances?: { name: string }[] }> }[] };
    const withoutBackend1 = withItems<File>(gateway.documents['apisix.yaml'], ({ services: [service] }) => {
      const pool = service?.plugins['ai-proxy-multi'];
      if (!pool?.instances) throw new Error('there is no pool');
      pool.instances = pool.instances.filter(({ name }) => name !== 'backend-1');
    });
    await gateway.apisix.reload(withoutBackend1);

    backend(0).script({ path: /chat/, ...answers.throttled({ retryAfter: 5 }) });
    expect(await ask('plain')).toBe(429);
    const cooldown = (of: readonly Sample[], model: string) =>
      total(of, 'apisix_genai_backend_cooldown_seconds', { node: 'backend-0', request_llm_model: model });
    const cooling = samplesIn(await gateway.metrics());
    expect(cooldown(cooling, 'plain')).toBeGreaterThan(0);
    for (const { pid } of await gateway.apisix.workers()) await gateway.apisix.killWorker(pid);
    await sleep(2_500);
    const after = samplesIn(await gateway.metrics());
    expect(cooldown(after, 'plain')).toBe(0);
    const gauges = after.filter(({ name }) => /^apisix_genai_backend_/.test(name));
    expect([...new Set(gauges.map(({ labels }) => labels.node))].sort()).toEqual(['backend-0', 'backend-2']);
    const unserved = { request_llm_model: 'plain', reason: 'throttled' };
    expect(total(after, 'apisix_genai_unserved_requests_total', unserved)).toBe(1);
  });
});

const seriesOf = ({ name, labels }: Sample): string => JSON.stringify([name, Object.entries(labels).sort()]);

async function chatOver(connection: RawConnection, model: string): Promise<number> {
  const headers = [
    ['api-key', CLIENT_KEY],
    ['content-type', 'application/json'],
  ] as const;
  await connection.write(
    requestBytes({
      method: 'POST',
      target: '/openai/v1/chat/completions',
      headers,
      body: chatBody(model, { max_tokens: 1 }),
    }),
  );
  return (await connection.answer()).status;
}
