/** The page of metrics stays within its budget, exists from the start, and reports what it left out. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { type Sample, samplesIn, total } from '../support/metrics-text.ts';

const CLIENTS = 45;
const MODELS = 45;
const keyOf = (client: number) => `key-of-client-${client}-0123456789`;
const numbered = (count: number) => Array.from({ length: count }, (_, index) => index);

describe.skipIf(cannotRunGatewayTests('budget of metrics'))('budget of metrics', () => {
  let gateway: Gateway;
  let atStart: readonly Sample[] = [];
  let text = '';
  let samples: readonly Sample[] = [];

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}, {}],
      adapt: quickMetrics,
      settings: {
        // This gives a budget of 5,000 lines and 1 MB.
        GATEWAY_METRICS_MEMORY: '8m',
        AZURE_OPENAI_REGION_0: 'swedencentral',
        MODEL_PRICES: numbered(MODELS)
          .map((model) => `model-${model}=1/1`)
          .join(','),
        ...Object.fromEntries(
          numbered(CLIENTS).flatMap((client) => [
            [`GATEWAY_CLIENT_NAME_${client}`, `client-${client}`],
            [`GATEWAY_CLIENT_KEY_${client}`, keyOf(client)],
          ]),
        ),
      },
    });
    const page = await gateway.apisix.request(PORTS.metrics, '/apisix/prometheus/metrics');
    atStart = samplesIn(await page.text());
    for (const mock of gateway.mocks) mock.configure({ recordRequests: false });
    await Promise.all(
      numbered(8).map(async (from) => {
        for (let index = from; index < CLIENTS * MODELS; index += 8) {
          const headers = { 'api-key': keyOf(Math.floor(index / MODELS)) };
          expect((await gateway.chat(`model-${index % MODELS}`, {}, headers)).status).toBe(200);
        }
      }),
    );
    gateway.mocks[0]?.script(answers.throttled({ retryAfter: 1 }));
    gateway.mocks[1]?.script(answers.throttled({ retryAfter: 1 }));
    await gateway.chat('model-1', {}, { 'api-key': keyOf(1) });
    await gateway.fetch('/nothing/here');
    text = await gateway.metrics();
    samples = samplesIn(text);
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('has a page with its write time before the first request', () => {
    const written = total(atStart, 'apisix_genai_metrics_written_timestamp_seconds') ?? 0;
    expect(Math.abs(Date.now() / 1000 - written)).toBeLessThan(60);
    expect(total(atStart, 'apisix_genai_metrics_max_lines')).toBe(5000);
    expect(total(atStart, 'apisix_genai_metrics_left_out_total')).toBe(0);
  });

  test('has no more lines and bytes than its budget', () => {
    expect(samples.length).toBeGreaterThan(3000);
    expect(samples.length).toBeLessThanOrEqual(5000);
    expect(text.length).toBeLessThanOrEqual(1_000_000);
    expect(total(samples, 'apisix_genai_metrics_lines')).toBeGreaterThan(3000);
  });

  test('loses no request, and counts clients without room as `other`', () => {
    const tokens = samples.filter(({ name }) => name === 'apisix_llm_prompt_tokens');
    const ofOther = tokens.filter(({ labels }) => labels.consumer === 'other');
    expect(ofOther.length).toBeGreaterThan(0);
    // Every model is shown: there is room for models without a client.
    expect(tokens.filter(({ labels }) => labels.request_llm_model === 'other')).toEqual([]);
    expect(total(samples, 'apisix_llm_latency_count', { type: 'total' })).toBe(CLIENTS * MODELS);
    const status = { code: '200', response_source: 'upstream' };
    expect(total(samples, 'apisix_http_status', status)).toBe(CLIENTS * MODELS);
    const leftOut = total(samples, 'apisix_genai_metrics_left_out_total', {
      metric: 'apisix_llm_prompt_tokens',
    });
    expect(leftOut).toBeGreaterThanOrEqual(ofOther.length);
  });

  test('shows other events with their own labels', () => {
    const attempts = (outcome: string) =>
      total(samples, 'apisix_genai_attempts_total', { request_llm_model: 'model-1', outcome });
    expect(attempts('throttled')).toBe(2);
    expect(
      total(samples, 'apisix_genai_unserved_requests_total', {
        request_llm_model: 'model-1',
        reason: 'throttled',
      }),
    ).toBe(1);
  });

  test('counts requests without a route', () => {
    const labels = { route: 'not-found', code: '404', consumer: '', response_source: 'apisix' };
    expect(total(samples, 'apisix_http_status', labels)).toBe(1);
  });

  test('shows the region of each backend', () => {
    const regions = samples
      .filter(({ name }) => name === 'apisix_genai_backend_info')
      .map(({ labels, value }) => [labels.node, labels.region, value]);
    expect(regions.sort()).toEqual([
      ['backend-0', 'swedencentral', 1],
      ['backend-1', '', 1],
    ]);
  });

  test('logs no errors', async () => {
    const log = await gateway.apisix.log();
    expect(log.split('\n').filter((line) => /\[(error|crit)\]/.test(line))).toEqual([]);
  });

  test('keeps all counters when the process that writes the page is replaced', async () => {
    const agent = '^nginx: privileged agent process';
    const pids = `for d in /proc/[0-9]*; do grep -qs "${agent}" "$d/cmdline" && echo "\${d#/proc/}"; done; true`;
    const before = Number(await gateway.apisix.asRoot(pids));
    await gateway.apisix.asRoot('kill -KILL "$1"', String(before));
    const after = samplesIn(await gateway.metrics());
    expect(Number(await gateway.apisix.asRoot(pids))).not.toBe(before);
    const counters = (of: readonly Sample[]) =>
      of
        .filter(({ name }) => /_tokens$|_attempts_total|_http_status/.test(name))
        .map((each) => JSON.stringify(each));
    expect(counters(after).sort()).toEqual(counters(samples).sort());
  });

  test('stops counting active attempts of a worker that ended', async () => {
    for (const mock of gateway.mocks) mock.script({ hang: true });
    const active = async () => total(samplesIn(await gateway.metrics()), 'apisix_llm_active_connections');
    const request = gateway.chat('model-2', {}, { 'api-key': keyOf(2) }).catch(() => undefined);
    expect(await active()).toBe(1);
    for (const { pid } of await gateway.apisix.workers()) await gateway.apisix.killWorker(pid);
    await request;
    // By then the connections to the ended workers are closed.
    await sleep(2000);
    expect(await active()).toBe(0);
  }, 60_000);
});
