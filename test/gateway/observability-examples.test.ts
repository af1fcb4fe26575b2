/**
 * Runs every query of the dashboard, the alerts and docs/observability.md in a Prometheus with the metrics of a running
 * gateway.
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { type MockAzureMonitor, startMockAzureMonitor } from '../support/azure-monitor.ts';
import { type Collector, cannotRunCollectorTests, startCollector } from '../support/collector.ts';
import { type Gateway, HOST, hostAddress, quickMetrics, startGateway } from '../support/gateway.ts';
import { samplesIn, total } from '../support/metrics-text.ts';
import { type MockIdentity, startMockIdentity } from '../support/mock-identity.ts';
import {
  cannotRunPrometheusTests,
  PROMETHEUS_PORT,
  type Prometheus,
  type Series,
  startPrometheus,
} from '../support/prometheus.ts';
import {
  ALERTS_FILE,
  alertRules,
  dashboard,
  filledIn,
  otherQueries,
  PAGE,
  panelQueries,
  read,
  selectorsOf,
} from '../support/promql.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';
import { cannotRun } from '../support/requirements.ts';
import { backendOf, chatOnWire, chatPrelude, chatText, chatUsage } from '../support/traffic.ts';

const NAME = 'queries of the dashboard, the alerts and the page';
const skipped =
  cannotRunGatewayTests(NAME) ||
  cannotRunRedisTests(NAME) ||
  cannotRunPrometheusTests(NAME) ||
  cannotRunCollectorTests(NAME);

const cannotRunJq = cannotRun('queries to the access log', 'jq');

/** The two ways in which a gateway's metrics reach Prometheus. */
const SCRAPED = 'gateway-scraped';
const COLLECTED = 'gateway-collected';
const WAYS = [SCRAPED, COLLECTED];

const PATIENCE_MS = 30_000;
const COUNTED_KEY = 'key-of-the-counted-client-0123456789';
const POOL = 'search';
/** For a million tokens. */
const USD_OF_PROMPTS = 1_000;
const FAILING = ['failing', 'broken', 'worse', 'worst', 'hopeless'];
const MODELS = [
  ...FAILING,
  'plain',
  'streamed',
  'silent',
  'throttled',
  'refused',
  'cut',
  'left',
  'none',
  'down',
  'embedded',
  'pooled',
  'pool-down',
];

/** Queries without a result when Prometheus scrapes the gateway: only the collector knows prices. */
const ofCollector = (expr: string) => /llm_(?:cost|saved_cost)_usd/.test(expr);

/** Alerts that this test does not raise, with the reason. */
const QUIET: Readonly<Record<string, string>> = {
  GatewayFirstTokenSlow: 'no stream waits for ten seconds',
  GatewayBackendUnhealthy: 'all backends can be reached',
  GatewayBackendCredentialsRefused:
    'backends that refuse are skipped for two minutes, and a single refusal is no increase',
  GatewayEntraTokensFail: 'a single failure is no increase',
  GatewayBackendCoolsForLong: 'no backend cools for fifteen minutes',
  GatewayAuthenticationFails: 'one wrong key is no attack',
  GatewayMetricsAbsent: 'there is a gateway',
  GatewayMetricsIncomplete: 'all series have room',
};

describe.skipIf(skipped)(NAME, () => {
  let redis: Redis;
  let azure: MockAzureMonitor;
  let identity: MockIdentity;
  let gateway: Gateway;
  let collector: Collector;
  let prometheus: Prometheus;
  let writeUrl = '';

  beforeAll(async () => {
    const host = await hostAddress();
    redis = await startRedis();
    azure = await startMockAzureMonitor({ host, store: () => writeUrl });
    identity = await startMockIdentity({ host, hostName: HOST });
    const limits = { host: redis.host, port: String(redis.port) };
    gateway = await startGateway({
      backends: [
        {},
        {},
        { keys: [], tokens: (token) => identity.accepts(token) },
        { keys: ['a-key-that-the-gateway-does-not-have'] },
      ],
      adapt: quickMetrics,
      sidecarPorts: [PROMETHEUS_PORT],
      settings: {
        AZURE_OPENAI_PRIORITY_0: '30',
        AZURE_OPENAI_PRIORITY_1: '20',
        AZURE_OPENAI_DEPLOYMENTS_2: 'keyless',
        AZURE_OPENAI_DEPLOYMENTS_3: 'locked',
        AZURE_OPENAI_PRIORITY_3: '40',
        AZURE_OPENAI_KEY_2: '',
        AZURE_OPENAI_AUTH_MODE_2: 'entra',
        ...identity.environment('endpoint'),
        GATEWAY_CLIENT_NAME_1: 'counted',
        GATEWAY_CLIENT_KEY_1: COUNTED_KEY,
        GATEWAY_CLIENT_REQUESTS_PER_MINUTE_1: '1',
        MODEL_PRICES: [...MODELS, 'keyless', 'response']
          .map((model) => `${model}=${USD_OF_PROMPTS}/2000`)
          .join(','),
        AI_PROXY_COOLDOWN: '1s',
        ENABLE_CACHE: 'true',
        CACHE_OPERATIONS: 'embeddings',
        CACHE_POLICY: 'redis',
        CACHE_REDIS_HOST: limits.host,
        CACHE_REDIS_PORT: limits.port,
        GATEWAY_POOL_NAME_0: POOL,
        GATEWAY_POOL_BACKENDS_0: 'backend-0,backend-1',
        GATEWAY_POOL_TOKENS_PER_MINUTE_0: '1000',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
        AI_RATE_LIMIT_HIGH_LIMIT: '1000000000',
        AI_RATE_LIMIT_LOW_LIMIT: '5',
        AI_RATE_LIMIT_POLICY: 'redis',
        AI_RATE_LIMIT_REDIS_HOST: limits.host,
        AI_RATE_LIMIT_REDIS_PORT: limits.port,
        RESPONSES_AFFINITY_REDIS_HOST: limits.host,
        RESPONSES_AFFINITY_REDIS_PORT: limits.port,
        APISIX_ACTIVE_HEALTH_CHECKS: 'true',
        APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL: '1s',
        APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL: '1s',
        AZURE_MONITOR_WORKSPACE_ENDPOINT: `http://${HOST}:${azure.port}/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics`,
        OTEL_SERVICE_NAME: COLLECTED,
        PROMETHEUS_SCRAPE_INTERVAL: '1s',
        PROMETHEUS_SCRAPE_TIMEOUT: '900ms',
        OTEL_BATCH_TIMEOUT: '200ms',
        // No collector and no endpoint accepts these spans and records.
        OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:9',
        OTEL_SAMPLE_RATE: '1',
        APIM_GATEWAY_LOGS_INGEST_URI: `http://${HOST}:${azure.port}/dataCollectionRules/dcr-0123/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01`,
        APIM_GATEWAY_LOGS_BATCH_FLUSH_INTERVAL: '1',
      },
    });
    prometheus = await startPrometheus({
      beside: gateway.apisix,
      config: JSON.stringify({
        global: { scrape_interval: '1s', scrape_timeout: '900ms', evaluation_interval: '1s' },
        rule_files: ['alerts.yml'],
        scrape_configs: [
          {
            job_name: SCRAPED,
            metrics_path: '/apisix/prometheus/metrics',
            static_configs: [{ targets: [`127.0.0.1:${PORTS.metrics}`] }],
          },
        ],
      }),
      files: {
        'alerts.yml': read(ALERTS_FILE),
        'alerts_test.yml': read('test/support/alerts_test.yml'),
        'example.yml': read('examples/compose/prometheus.yml'),
      },
    });
    writeUrl = prometheus.writeUrl;
    collector = await startCollector({
      file: gateway.documents['otel-collector.yaml'],
      environment: { CONTAINER_APP_REPLICA_NAME: 'gateway--abc-1', ...identity.environment('endpoint') },
      beside: gateway.apisix.containerId,
      memoryMiB: 256,
    });
    // Twice, because the first value of a counter is no increase.
    await whatHappens('first');
    await stored();
    await whatHappens('second');
    await stored();
    await redis.stop();
    for (const _ of [1, 2]) {
      await ask('plain', 200);
      await gateway.openai().embeddings.create({ model: 'embedded', input: 'Hello' });
      await (await gateway.fetch('/openai/v1/responses/resp_unknown')).text();
      await stored();
      // After a failure Redis is not used for five seconds.
      await sleep(5_000);
    }
  }, 3 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await collector?.stop();
    await prometheus?.stop();
    await gateway?.stop();
    await identity?.stop();
    await azure?.stop();
    await redis?.stop();
  });

  async function ask(model: string, status: number, body: object = {}, headers: Record<string, string> = {}) {
    const answer = await gateway.chat(model, body, headers);
    await answer.text();
    expect([model, answer.status]).toEqual([model, status]);
  }

  /** The status that the pool's path answers. */
  async function askPool(model: string): Promise<number> {
    const answer = await gateway.fetch(`/${POOL}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4 }),
    });
    await answer.text();
    return answer.status;
  }

  /** @param input of embeddings, whose answers the cache stores: a new one is stored again */
  async function whatHappens(input: string): Promise<void> {
    const chat = (index: number, script: Behaviour) =>
      backendOf(gateway, index).script({ path: /chat/, ...script });
    const usage = {
      prompt_tokens: 10,
      completion_tokens: 8,
      total_tokens: 18,
      prompt_tokens_details: { cached_tokens: 4 },
      completion_tokens_details: { reasoning_tokens: 3 },
    };
    chat(0, { body: { choices: [], usage } });
    await ask('plain', 200);
    chat(0, { events: [chatPrelude, chatText('a'), chatUsage(5, 7)], gapMs: 20 });
    await ask('streamed', 200, { stream: true, stream_options: { include_usage: true } });
    chat(0, { events: [chatPrelude, chatText('a')] });
    await ask('silent', 200, { stream: true });
    for (let count = 0; count < 3; count++)
      await gateway.openai().embeddings.create({ model: 'embedded', input });
    // By a path of the classic API too.
    await gateway
      .azure('plain')
      .chat.completions.create({ model: 'plain', messages: [{ role: 'user', content: 'Hello' }] });
    chat(0, { headers: { 'x-ms-spillover-from-deployment': 'plain' } });
    await ask('plain', 200);
    chat(0, answers.contentFiltered());
    await ask('plain', 400);

    expect(await askPool('plain')).toBe(200);
    // The second time, the minute of the first one may not be over: then this answer is not asked for.
    chat(0, { body: { choices: [], usage: { ...usage, prompt_tokens: 992, total_tokens: 1000 } } });
    await askPool('pooled');
    backendOf(gateway, 0).reset();
    expect(await askPool('pooled')).toBe(429);

    chat(0, answers.throttled({ retryAfter: 1 }));
    await ask('throttled', 200);
    await ask('throttled', 200);
    for (const index of [0, 1]) chat(index, answers.throttled({ retryAfter: 1 }));
    for (const _ of [1, 2, 3, 4, 5, 6]) await ask('none', 429);
    for (const model of FAILING) {
      chat(0, answers.serverError());
      await ask(model, 200);
    }
    for (const index of [0, 1]) chat(index, answers.unavailable());
    await ask('down', 503);
    for (const index of [0, 1]) chat(index, answers.unavailable());
    expect(await askPool('pool-down')).toBe(503);
    // From now on the other backend is preferred for this operation.
    backendOf(gateway, 0).script({ path: /embeddings/, ...answers.noPermission() });
    await gateway.openai().embeddings.create({ model: 'refused', input: 'Hello' });
    await ask('locked', 200);
    // This does not affect the tokens for sending telemetry.
    identity.script({ path: /cognitiveservices/, status: 500 });
    await ask('keyless', 200);

    chat(0, { events: [chatPrelude, chatText('a'), chatText('b')], gapMs: 20, cutAfter: 2 });
    await chatOnWire(gateway, 'cut').waitForClose();
    chat(0, { events: Array.from({ length: 100 }, () => chatText('x')), gapMs: 50 });
    const left = chatOnWire(gateway, 'left');
    await left.waitFor('"x"');
    left.leave();

    for (const _ of [1, 2, 3]) await gateway.chat('plain', {}, { 'x-priority': 'low' }).then((a) => a.text());
    for (const _ of [1, 2])
      await gateway.chat('plain', {}, { 'api-key': COUNTED_KEY }).then((answer) => answer.text());
    await ask('plain', 401, {}, { 'api-key': 'nobody' });
    const { id } = await gateway.openai().responses.create({ model: 'response', input: 'Hello' });
    expect((await gateway.fetch(`/openai/v1/responses/${id}`)).status).toBe(200);
    await (await gateway.fetch('/openai/v1/responses/resp_unknown')).text();
  }

  /** Waits until Prometheus has all counters of the gateway in both ways, at two points in time. */
  async function stored(): Promise<void> {
    const counters = ['apisix_http_status', 'apisix_genai_attempts_total'];
    const samples = samplesIn(await gateway.metrics());
    const expected = counters.map((name) => total(samples, name));
    let found: unknown;
    for (const started = Date.now(); Date.now() - started < PATIENCE_MS; await sleep(250)) {
      const values = await Promise.all(
        WAYS.map((job) => Promise.all(counters.map((name) => sumOf(`sum(${name}{job="${job}"})`)))),
      );
      found = values;
      if (values.every((each) => each.every((value, index) => value === expected[index]))) {
        await sleep(2_000);
        return;
      }
    }
    throw new Error(`${JSON.stringify(found)} is not ${expected}, twice:\n${collector.log().slice(-3000)}`);
  }

  const sumOf = async (promql: string) => (await prometheus.query(promql))[0]?.value;
  const numbers = (series: readonly Series[]) => series.filter(({ value }) => Number.isFinite(value));

  describe.each(WAYS)('the metrics of %s', (job) => {
    test.each(panelQueries({ job }))('give values for $where', async ({ expr }) => {
      const series = await prometheus.query(expr);
      if (job === SCRAPED && ofCollector(expr)) expect(series).toEqual([]);
      else expect(numbers(series)).not.toEqual([]);
    });

    test.each(dashboard().templating.list.filter(({ type }) => type === 'query'))(
      'offer values for the variable $name',
      async ({ definition = '' }) => {
        const [, series = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? [];
        const chosen = await prometheus.query(`group by (${label}) (${filledIn(series, { job })})`);
        expect(chosen.map(({ labels }) => labels[label] ?? '').join('')).not.toBe('');
      },
    );
  });

  test.each(otherQueries())('$where uses only series that existed', async ({ expr }) => {
    for (const { text } of selectorsOf(expr))
      expect([text, await prometheus.query(`last_over_time(${text}[1h])`)]).not.toEqual([text, []]);
    await prometheus.query(expr);
  });

  test.each(otherQueries().filter(({ where }) => where.startsWith('page')))(
    '$where has values',
    async ({ expr }) => {
      // Cooldowns may have ended by now, and there was no yesterday; without these conditions there are values.
      const now = expr.replace(/cooldown_seconds\) > 0$/, 'cooldown_seconds)').replaceAll(' offset 1d', '');
      expect(numbers(await prometheus.query(now))).not.toEqual([]);
    },
  );

  test('the tokens of clients include the estimates for streams without usage', async () => {
    const { expr = '' } = otherQueries().find((each) => each.expr.startsWith('60 *')) ?? {};
    const used = await prometheus.query(expr.replaceAll('[5m]', '[1h]'));
    expect(used.find(({ labels }) => labels.request_llm_model === 'silent')?.value).toBeGreaterThan(0);
  });

  test('the saved cost is the price of the tokens that the cache saved', async () => {
    const saved = `sum(apisix_genai_cache_saved_tokens_total{job="${COLLECTED}", kind="prompt"})`;
    expect(await sumOf(saved)).toBeGreaterThan(0);
    expect(await sumOf(`sum(llm_saved_cost_usd{job="${COLLECTED}"})`)).toBeCloseTo(
      ((await sumOf(saved)) ?? 0) * (USD_OF_PROMPTS / 1e6),
      9,
    );
  });

  test('the queries about pools tell the pool from the plain paths', async () => {
    const ofPools = otherQueries().filter(({ expr }) => expr.includes('by (pool'));
    expect(ofPools.length).toBeGreaterThan(3);
    for (const { expr } of ofPools) {
      const found = await prometheus.query(expr.replaceAll('[5m]', '[1h]'));
      const values = found.filter(({ labels }) => labels.pool === POOL).map(({ value }) => value);
      expect([expr, Math.max(...values) > 0]).toEqual([expr, true]);
      if (!expr.includes('shared-budget'))
        expect([expr, found.map(({ labels }) => labels.pool)]).toEqual([
          expr,
          expect.arrayContaining(['default']),
        ]);
    }
  });

  test.skipIf(cannotRunJq)('the jq commands of the page find their fields in the access log', async () => {
    const lines = await gateway.accessLog();
    const answer = await gateway.chat('plain');
    await answer.text();
    const id = lines[0]?.request_id ?? '';
    const commands = [...read(PAGE).matchAll(/^```sh\n(jq .*?) access\.json(.*)\n```$/gm)];
    expect(commands.length).toBeGreaterThan(3);
    for (const [, command = '', rest = ''] of commands) {
      const { status, stdout, stderr } = spawnSync(
        'bash',
        ['-c', `set -o pipefail; ${command.replace(/(--arg id) \w+/, `$1 ${id}`)} ${rest}`],
        { input: lines.map((line) => JSON.stringify(line)).join('\n'), encoding: 'utf8' },
      );
      expect({ command, status, stderr }).toEqual({ command, status: 0, stderr: '' });
      expect(stdout, command).toMatch(/\w/);
    }
  });

  test('promtool accepts the rules, and the Prometheus settings of the compose example', async () => {
    const rules = await prometheus.promtool('check', 'rules', '--lint=all', '--lint-fatal', 'alerts.yml');
    expect(rules).toMatchObject({ exitCode: 0 });
    expect(rules.output).toContain(`SUCCESS: ${alertRules().length} rules found`);
    expect(await prometheus.promtool('check', 'config', 'example.yml')).toMatchObject({ exitCode: 0 });
  });

  test('each alert fires in exactly the states that alerts_test.yml lists', async () => {
    expect(await prometheus.promtool('test', 'rules', 'alerts_test.yml')).toMatchObject({ exitCode: 0 });
    const tested = read('test/support/alerts_test.yml');
    for (const { alert } of alertRules()) expect(tested).toContain(`alertname="${alert}"`);
  });

  test('Prometheus evaluates all alerts, and fires those whose cause happened in this test', async () => {
    const states = await prometheus.alerts();
    expect(states.map(({ name }) => name).sort()).toEqual(
      alertRules()
        .map(({ alert }) => alert)
        .sort(),
    );
    expect(states.filter(({ health }) => health !== 'ok')).toEqual([]);
    const quiet = states.filter(({ state }) => state === 'inactive').map(({ name }) => name);
    expect(quiet.sort()).toEqual(Object.keys(QUIET).sort());
  });
});
