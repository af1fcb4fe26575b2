/** Budgets are charged with the usage that backends report, else with an estimate that the log marks as such. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, type Gateway, startGateway } from '../support/gateway.ts';
import { costing, expectRefusal, type Shot, shoot } from '../support/limits.ts';
import {
  backendOf,
  chatBody,
  chatOnWire,
  chatPrelude,
  chatText,
  chatUsage,
  inOrder,
} from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('what budgets are charged with');
const BUDGET = 1_000_000;

const start = (strategy: string, more: Record<string, string> = {}) =>
  startGateway({
    settings: {
      ENABLE_AI_RATE_LIMIT: 'true',
      AI_RATE_LIMIT_STRATEGY: strategy,
      AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
      AI_RATE_LIMIT_HIGH_LIMIT: String(BUDGET),
      AI_RATE_LIMIT_LOW_LIMIT: '100',
      AI_PROXY_COOLDOWN: '0',
      AI_PROXY_COOLDOWN_MAX: '0',
      ...inOrder(2),
      ...more,
    },
  });

/** How much of the high lane's budget is used, measured with a request that costs nothing, or one with `req`. */
async function used(gateway: Gateway): Promise<number> {
  // The previous request is charged after its last byte.
  await sleep(50);
  backendOf(gateway, 0).script(costing(0, 0));
  const { headers } = await shoot(gateway);
  return BUDGET - Number(headers.get('x-ai-high-ratelimit-remaining'));
}

async function chargeOf(gateway: Gateway, request: () => Promise<unknown>): Promise<number> {
  const before = await used(gateway);
  await request();
  return (await used(gateway)) - before;
}

describe.skipIf(skipped)('a budget of tokens', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start('total_tokens');
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  const post = (path: string, body: object) => () => shoot(gateway, { path, body });
  const chat = '/openai/v1/chat/completions';
  const deployment = `/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}`;
  const withUsage = { stream: true, stream_options: { include_usage: true }, max_tokens: 9 };
  const estimateInLog = async (model: string) =>
    (await gateway.accessLog()).find((line) => line.requested_model === model)?.estimated_tokens;

  test.each<readonly [string, number, () => Promise<unknown>]>([
    ['a chat', 6, post(chat, { max_tokens: 4, model: 'known' })],
    ['a chat on a deployment', 6, post(deployment, { max_tokens: 4 })],
    ['a completion', 5, post('/openai/v1/completions', { prompt: 'Hello', max_tokens: 3 })],
    ['an embedding', 3, post('/openai/v1/embeddings', { input: 'four chars' })],
    ['a response', 18, post('/openai/v1/responses', { input: 'Hello' })],
    ['a stream of a chat with usage', 11, post(chat, withUsage)],
    ['a stream of a response', 18, post('/openai/v1/responses', { input: 'Hello', stream: true })],
  ])('is charged for %s: %i', async (_, cost, request) => {
    expect(await chargeOf(gateway, request)).toBe(cost);
  });

  test('is not charged with an estimate when the usage is known', async () => {
    await shoot(gateway, { body: { model: 'not-estimated' } });
    expect(await estimateInLog('not-estimated')).toBe('');
  });

  test('is charged for an image with its reported usage', async () => {
    backendOf(gateway, 0).script({
      body: {
        data: [{ b64_json: '' }],
        usage: { input_tokens: 10, output_tokens: 4000, total_tokens: 4010 },
      },
    });
    expect(await chargeOf(gateway, post('/openai/v1/images/generations', { prompt: 'a cat' }))).toBe(4010);
  });

  test('is charged once for a failover', async () => {
    backendOf(gateway, 0).script(costing(0, 0), answers.throttled());
    backendOf(gateway, 1).script(costing(5, 6));
    const before = await used(gateway);
    await shoot(gateway);
    expect((await used(gateway)) - before).toBe(11);
  });

  test('is not charged for reading a stored response', async () => {
    const { text } = await shoot(gateway, { path: '/openai/v1/responses', body: { input: 'Hello' } });
    const { id } = JSON.parse(text) as { id: string };
    const read = async () => {
      const answer = await gateway.fetch(`/openai/v1/responses/${id}`);
      expect(await answer.json()).toMatchObject({ usage: { total_tokens: 18 } });
    };
    expect(await chargeOf(gateway, read)).toBe(0);
  });

  test.each<readonly [string, Parameters<ReturnType<typeof backendOf>['always']>[0]]>([
    ['a filtered prompt', answers.contentFiltered()],
    ['a deployment that is not there', answers.deploymentNotFound()],
    ['throttled backends', { status: 429 }],
    ['failing backends', { status: 500 }],
  ])('is not charged for %s', async (_, behaviour) => {
    const failing = async () => {
      for (const mock of gateway.mocks) mock.always(behaviour);
      expect((await shoot(gateway)).status).toBeGreaterThanOrEqual(400);
      for (const mock of gateway.mocks) mock.always(undefined);
    };
    expect(await chargeOf(gateway, failing)).toBe(0);
  });

  const events = [chatPrelude, ...Array.from({ length: 20 }, () => chatText('x'))];

  test('is charged with an estimate for a stream without usage', async () => {
    const body = chatBody('silent', { stream: true });
    backendOf(gateway, 0).script(costing(0, 0), { events });
    const before = await used(gateway);
    const answer = await gateway.fetch(chat, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    await answer.text();
    const charged = (await used(gateway)) - before;
    // The estimate counts one token an event (twenty with a text, the first one and the end) and one for every four bytes
    // of the request.
    expect(charged).toBe(22 + Math.floor(Buffer.byteLength(body) / 4));
    expect(await estimateInLog('silent')).toBe(String(charged));
  });

  test('is charged with an estimate of the output so far when a stream breaks off', async () => {
    backendOf(gateway, 0).script(costing(0, 0), { events, cutAfter: 11, gapMs: 5 });
    const before = await used(gateway);
    await chatOnWire(gateway, 'broken').waitForClose();
    const charged = (await used(gateway)) - before;
    expect(charged).toBe(11 + Math.floor(Buffer.byteLength(chatBody('broken', { stream: true })) / 4));
    expect(await estimateInLog('broken')).toBe(String(charged));
  });

  test('is charged with an estimate of the output so far when the client disconnects', async () => {
    backendOf(gateway, 0).script(costing(0, 0), {
      events: Array.from({ length: 500 }, () => chatText('x')),
      gapMs: 20,
    });
    const before = await used(gateway);
    const wire = chatOnWire(gateway, 'left');
    await sleep(500);
    wire.leave();
    await sleep(300);
    const charged = (await used(gateway)) - before;
    expect(charged).toBeGreaterThan(20);
    expect(charged).toBeLessThan(100);
  });

  test('is charged with the reported usage when a stream breaks off after it', async () => {
    backendOf(gateway, 0).script(costing(0, 0), {
      events: [...events, chatUsage(100, 200), chatText('y'), chatText('z')],
      gapMs: 5,
      cutAfter: 23,
    });
    const before = await used(gateway);
    await chatOnWire(gateway, 'said').waitForClose();
    expect((await used(gateway)) - before).toBe(300);
  });

  test('is charged with an estimate of the input for a background response', async () => {
    const body = { model: 'background', input: 'x'.repeat(4000), background: true };
    const charged = await chargeOf(gateway, async () => {
      const answer = await gateway.fetch('/openai/v1/responses', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      expect(await answer.json()).toMatchObject({ usage: null });
    });
    expect(charged).toBe(Math.floor(JSON.stringify(body).length / 4));
    expect(await estimateInLog('background')).toBe(String(charged));
  });

  test('causes no error of the limiter in the log', async () => {
    await gateway.fetch('/openai/v1/models');
    await shoot(gateway);
    expect(await gateway.apisix.log()).not.toMatch(
      /failed to get token usage|failed to limit|rate limit rules/,
    );
  });
});

describe.skipIf(skipped).each([
  ['prompt_tokens', 3],
  ['completion_tokens', 7],
])('a budget of %s', (strategy, cost) => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start(strategy);
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test(`is charged ${cost} for three prompt tokens and seven completion tokens`, async () => {
    backendOf(gateway, 0).script(costing(0, 0), costing(3, 7));
    const before = await used(gateway);
    await shoot(gateway);
    expect((await used(gateway)) - before).toBe(cost);
  });
});

describe.skipIf(skipped)('a budget of requests', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start('req', { AI_RATE_LIMIT_LOW_LIMIT: '5' });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  /** The requests charged, without the one that measures. */
  const requestsOf = async (request: () => Promise<unknown>) => (await chargeOf(gateway, request)) - 1;

  test.each<readonly [string, string, string]>([
    ['POST', '/openai/v1/chat/completions', 'json'],
    ['POST', '/openai/v1/embeddings', 'json'],
    ['POST', '/openai/v1/responses', 'json'],
    ['POST', `/openai/deployments/gpt-4o/completions?api-version=${API_VERSION}`, 'json'],
    ['POST', '/openai/v1/images/generations', 'json'],
    ['POST', '/openai/v1/batches', 'json'],
    ['POST', '/openai/v1/audio/transcriptions', 'form'],
    ['GET', '/openai/v1/models', 'none'],
    ['DELETE', '/openai/v1/responses/resp_1', 'none'],
    ['POST', '/openai/v1/what-comes-next', 'json'],
  ])('is charged one for %s %s', async (method, path, body) => {
    const form = new FormData();
    form.set('model', 'whisper');
    form.set('file', new Blob(['x']), 'a.wav');
    const bodies: Record<string, RequestInit['body']> = {
      json: JSON.stringify({ model: 'gpt-4o', messages: [], input: 'a', prompt: 'a' }),
      form,
      none: null,
    };
    const charged = await requestsOf(async () => {
      const answer = await gateway.fetch(path, {
        method,
        headers: body === 'json' ? { 'content-type': 'application/json' } : {},
        body: bodies[body] ?? null,
      });
      await answer.text();
      expect(gateway.mocks[0]?.requests.at(-1)?.method).toBe(method);
    });
    expect(charged).toBe(1);
  });

  test('is charged one for a failover', async () => {
    backendOf(gateway, 0).script(costing(), answers.throttled());
    const before = await used(gateway);
    await shoot(gateway);
    expect((await used(gateway)) - before - 1).toBe(1);
  });

  test('is not charged for a request that all backends throttle', async () => {
    const failing = async () => {
      for (const mock of gateway.mocks) mock.always(answers.throttled());
      expect((await shoot(gateway)).status).toBe(429);
      for (const mock of gateway.mocks) mock.always(undefined);
    };
    expect(await requestsOf(failing)).toBe(0);
  });

  test('lets as many requests through as it has, then rejects', async () => {
    const low: Shot = { headers: { 'x-priority': 'low' } };
    let passed = 0;
    for (let index = 0; index < 9; index++) if ((await shoot(gateway, low)).status === 200) passed++;
    expect(passed).toSatisfy((count) => count === 5 || count === 6);
    await expectRefusal(gateway, low, {
      status: 503,
      message: 'rate limited',
      lane: 'low',
      withinMs: 3_600_000,
    });
    const reading = await gateway.fetch('/openai/v1/models', { headers: { 'x-priority': 'low' } });
    expect(reading.status).toBe(503);
    expect((await shoot(gateway)).status).toBe(200);
  });
});
