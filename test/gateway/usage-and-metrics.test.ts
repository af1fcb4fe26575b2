/** What metrics and the access log show of requests: tokens, times, models, backends and attempts. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { type Sample, samplesIn, total as totalOf } from '../support/metrics-text.ts';
import {
  backendOf,
  chatBody,
  chatOnWire,
  chatPrelude,
  chatText,
  chatUsage,
  inOrder,
} from '../support/traffic.ts';

let gateway: Gateway;
const backend = (index: number) => backendOf(gateway, index);

describe.skipIf(cannotRunGatewayTests('usage and metrics'))('usage and metrics', () => {
  let metrics: readonly Sample[] = [];
  let accessLog: readonly Record<string, string>[] = [];
  let log = '';

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}, {}, {}],
      settings: {
        ...inOrder(2),
        AZURE_OPENAI_PRIORITY_2: '100',
        AZURE_OPENAI_DEPLOYMENTS_2: 'alias=real',
      },
      adapt: quickMetrics,
    });
    const text = async (answer: Promise<Response>) => (await answer).text();
    const usage = { stream: true, stream_options: { include_usage: true }, max_tokens: 9 };
    const stream = [chatPrelude, chatText('a'), chatText('b')];

    await text(gateway.chat('json'));
    await text(gateway.chat('json', { max_tokens: 6 }));
    backend(0).script({ events: [...stream, chatUsage(5, 7)], gapMs: 150 });
    await text(gateway.chat('slow-stream', usage));
    await text(gateway.chat('stream', usage));
    await text(gateway.chat('silent-stream', { stream: true }));

    backend(0).script(answers.throttled());
    await text(gateway.chat('failover'));
    backend(0).script(answers.throttledStream({ api: 'chat' }));
    await text(gateway.chat('refused-stream', usage));
    await text(gateway.chat('alias'));

    for (const index of [0, 1]) backend(index).script(answers.throttled());
    await text(gateway.chat('throttled'));
    await text(gateway.chat('throttled'));
    await text(gateway.chat('throttled'));

    backend(0).script({ events: Array.from({ length: 100 }, () => chatText('x')), gapMs: 50 });
    const inStream = chatOnWire(gateway, 'left-in-stream');
    await inStream.waitFor('"x"');
    inStream.leave();
    backend(0).script({ delayMs: 5_000 });
    const before = backend(0).requests.length;
    const waiting = chatOnWire(gateway, 'left-waiting', {});
    await backend(0).waitForRequests(before + 1);
    waiting.leave();

    backend(0).script({ events: [...stream, ...stream], gapMs: 20, cutAfter: 4 });
    await chatOnWire(gateway, 'cut').waitForClose();
    backend(0).script(answers.contentFiltered());
    await text(gateway.chat('filtered'));
    for (const index of [0, 1]) backend(index).script(answers.deploymentNotFound());
    await text(gateway.chat('nobody-has-this'));
    await text(gateway.fetch('/openai/v1/models'));

    const post = (path: string, body: object) =>
      text(
        gateway.fetch(path, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }),
      );
    await post('/openai/v1/embeddings', { model: 'embedded', input: 'four chars' });
    await post('/openai/v1/responses', { model: 'response', input: 'Hello', stream: true });
    await post('/openai/v1/responses', { model: 'whole-response', input: 'Hello' });
    await post('/openai/v1/completions', { model: 'legacy', prompt: 'Hello', max_tokens: 3 });
    await post(
      `/openai/deployments/classic/chat/completions?api-version=${API_VERSION}`,
      JSON.parse(chatBody('x')),
    );

    metrics = samplesIn(await gateway.metrics());
    accessLog = await gateway.accessLog();
    log = await gateway.apisix.log();
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const total = (name: string, labels: Readonly<Record<string, string>>) => totalOf(metrics, name, labels);
  const lineOf = (model: string) => accessLog.find((line) => line.requested_model === model);

  test.each([
    ['json', 'backend-0', 'ai_chat', 4, 10],
    ['slow-stream', 'backend-0', 'ai_stream', 5, 7],
    ['stream', 'backend-0', 'ai_stream', 2, 9],
    ['failover', 'backend-1', 'ai_chat', 2, 4],
    ['refused-stream', 'backend-1', 'ai_stream', 2, 9],
    ['alias', 'backend-2', 'ai_chat', 2, 4],
    ['response', 'backend-0', 'ai_stream', 2, 16],
    ['whole-response', 'backend-0', 'ai_chat', 2, 16],
    ['legacy', 'backend-0', 'ai_chat', 2, 3],
    ['classic', 'backend-0', 'ai_chat', 2, 4],
  ])(
    'metrics count tokens by client and model, and times by backend and model: %s',
    (model, node, type, prompt, completion) => {
      const labels = {
        consumer: 'app',
        lane: 'high',
        request_llm_model: model,
        llm_model: model === 'alias' ? 'real' : model,
      };
      expect(total('apisix_llm_prompt_tokens', labels)).toBe(prompt);
      expect(total('apisix_llm_completion_tokens', labels)).toBe(completion);
      const ofModel = { node, request_llm_model: model };
      const count = model === 'json' ? 2 : 1;
      expect(total('apisix_genai_attempts_total', { ...ofModel, outcome: 'ok' })).toBe(count);
      expect(total('apisix_llm_latency_count', { ...ofModel, type: 'total' })).toBe(count);
      expect(total('apisix_llm_latency_count', { ...ofModel, type: 'ttft' })).toBe(
        type === 'ai_stream' ? count : undefined,
      );
    },
  );

  test('embeddings have no completion tokens', () => {
    const labels = { request_llm_model: 'embedded', consumer: 'app' };
    expect(total('apisix_llm_prompt_tokens', labels)).toBe(3);
    expect(total('apisix_llm_completion_tokens', labels)).toBe(0);
  });

  test('a stream without usage has no tokens', () => {
    expect(total('apisix_llm_prompt_tokens', { request_llm_model: 'silent-stream' })).toBe(0);
    expect(total('apisix_llm_latency_count', { request_llm_model: 'silent-stream', type: 'ttft' })).toBe(1);
  });

  test('the time to the first token ends with the first output, and is measured for streams only', () => {
    const ttft = (model: string, what: string) =>
      total(`apisix_llm_latency_${what}`, { type: 'ttft', request_llm_model: model });
    expect(ttft('slow-stream', 'count')).toBe(1);
    expect(ttft('slow-stream', 'sum')).toBeGreaterThanOrEqual(140);
    expect(ttft('slow-stream', 'sum')).toBeLessThan(600);
    expect(Number(lineOf('slow-stream')?.time_to_first_token_ms)).toBeGreaterThanOrEqual(140);
    expect(ttft('json', 'count')).toBeUndefined();
    expect(
      total('apisix_llm_latency_sum', { type: 'total', request_llm_model: 'slow-stream' }),
    ).toBeGreaterThanOrEqual(440);
  });

  test('metrics count requests that no backend served', () => {
    expect(total('apisix_http_status', { code: '429', consumer: 'app', response_source: 'apisix' })).toBe(3);
    expect(total('apisix_genai_unserved_requests_total', { request_llm_model: 'throttled' })).toBe(3);
    expect(total('apisix_llm_completion_tokens', { request_llm_model: 'throttled' })).toBe(0);
  });

  test('metrics count clients that disconnected', () => {
    expect(total('apisix_http_status', { code: '499', consumer: 'app' })).toBe(1);
    expect(lineOf('left-in-stream')).toMatchObject({ upstream_status: '200' });
    expect(total('apisix_llm_latency_count', { request_llm_model: 'left-in-stream', type: 'ttft' })).toBe(1);
  });

  test('a model that no backend serves is no label value', () => {
    expect(metrics.filter(({ labels }) => Object.values(labels).includes('nobody-has-this'))).toEqual([]);
    expect(total('apisix_http_status', { code: '404', route: 'openai-v1' })).toBe(1);
    // Both backends without a list of deployments were called.
    expect(
      total('apisix_genai_attempts_total', { request_llm_model: 'other', outcome: 'deployment_not_found' }),
    ).toBe(2);
  });

  test('no connection counts as active at the end', () => {
    const active = metrics.filter(({ name }) => name === 'apisix_llm_active_connections');
    expect(new Set(active.map(({ labels }) => labels.node))).toEqual(
      new Set(['backend-0', 'backend-1', 'backend-2']),
    );
    expect(active.filter(({ value }) => value !== 0)).toEqual([]);
  });

  test('the access log has every attempt', () => {
    const addresses = gateway.mocks.map(({ port }) => `host.docker.internal:${port}`);
    const [first, second] = addresses;
    expect(lineOf('failover')).toMatchObject({
      status: '200',
      upstream: `${first}, ${second}`,
      upstream_status: '429, 200',
      model: 'failover',
    });
    expect(lineOf('refused-stream')).toMatchObject({
      upstream: `${first}, ${second}`,
      upstream_status: '200, 200',
    });
    const throttled = accessLog.filter((line) => line.requested_model === 'throttled');
    // Each worker writes its own lines in order.
    expect(throttled.map(({ status, upstream_status }) => `${status} ${upstream_status}`).sort()).toEqual([
      '429 ',
      '429 ',
      '429 429, 429',
    ]);
    expect(lineOf('alias')).toMatchObject({ upstream: addresses[2], model: 'real' });
    expect(lineOf('cut')).toMatchObject({ upstream: first, upstream_status: '200' });
    expect(lineOf('legacy')).toMatchObject({
      prompt_tokens: '2',
      completion_tokens: '3',
      request_type: 'ai_chat',
    });
  });

  test('the exporter logs no errors', () => {
    expect(
      log.split('\n').filter((line) => /\[(error|crit)\]/.test(line) && !line.includes('broke off')),
    ).toEqual([]);
  });
});
