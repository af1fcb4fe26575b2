/** What budgets are charged with: what backends say that an answer cost, else an estimate that the log shows to be one. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, type Gateway, startGateway } from '../support/gateway.ts';
import { costing, expectRefusal, type Shot, shoot } from '../support/limits.ts';
import * as answers from '../support/mock-azure-openai/answers.ts';
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

/** What is used of the high lane's budget, as a request learns that itself costs nothing or, with `req`, one. */
async function used(gateway: Gateway): Promise<number> {
  // The request before is charged after its last byte.
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

describe.skipIf(skipped)('tokens', () => {
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
  ])('%s costs %i', async (_, cost, request) => {
    expect(await chargeOf(gateway, request)).toBe(cost);
  });

  test('what is known is no estimate', async () => {
    await shoot(gateway, { body: { model: 'not-estimated' } });
    expect(await estimateInLog('not-estimated')).toBe('');
  });

  test('an image costs what it says', async () => {
    backendOf(gateway, 0).script({
      body: {
        data: [{ b64_json: '' }],
        usage: { input_tokens: 10, output_tokens: 4000, total_tokens: 4010 },
      },
    });
    expect(await chargeOf(gateway, post('/openai/v1/images/generations', { prompt: 'a cat' }))).toBe(4010);
  });

  test('a failover costs once', async () => {
    backendOf(gateway, 0).script(costing(0, 0), answers.throttled());
    backendOf(gateway, 1).script(costing(5, 6));
    const before = await used(gateway);
    await shoot(gateway);
    expect((await used(gateway)) - before).toBe(11);
  });

  test('a stored response costs nothing to read', async () => {
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
  ])('%s costs nothing', async (_, behaviour) => {
    const failing = async () => {
      for (const mock of gateway.mocks) mock.always(behaviour);
      expect((await shoot(gateway)).status).toBeGreaterThanOrEqual(400);
      for (const mock of gateway.mocks) mock.always(undefined);
    };
    expect(await chargeOf(gateway, failing)).toBe(0);
  });

  const events = [chatPrelude, ...Array.from({ length: 20 }, () => chatText('x'))];

  test('a stream without usage costs an estimate', async () => {
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
    // Its events are the twenty with a text, the one before them and the end; four bytes are a token.
    expect(charged).toBe(22 + Math.floor(Buffer.byteLength(body) / 4));
    expect(await estimateInLog('silent')).toBe(String(charged));
  });

  test('a stream that breaks off costs an estimate of what there was', async () => {
    backendOf(gateway, 0).script(costing(0, 0), { events, cutAfter: 11, gapMs: 5 });
    const before = await used(gateway);
    await chatOnWire(gateway, 'broken').waitForClose();
    const charged = (await used(gateway)) - before;
    expect(charged).toBe(11 + Math.floor(Buffer.byteLength(chatBody('broken', { stream: true })) / 4));
    expect(await estimateInLog('broken')).toBe(String(charged));
  });

  test('a stream whose client leaves costs an estimate of what there was', async () => {
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

  test('a stream that says its usage and then breaks off costs that', async () => {
    backendOf(gateway, 0).script(costing(0, 0), {
      events: [...events, chatUsage(100, 200), chatText('y'), chatText('z')],
      gapMs: 5,
      cutAfter: 23,
    });
    const before = await used(gateway);
    await chatOnWire(gateway, 'said').waitForClose();
    expect((await used(gateway)) - before).toBe(300);
  });

  test('a response in the background costs an estimate of what it was asked', async () => {
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

  test('the log has no errors of the limiter', async () => {
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
])('%s', (strategy, cost) => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start(strategy);
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test(`charges ${cost} of three in and seven out`, async () => {
    backendOf(gateway, 0).script(costing(0, 0), costing(3, 7));
    const before = await used(gateway);
    await shoot(gateway);
    expect((await used(gateway)) - before).toBe(cost);
  });
});

describe.skipIf(skipped)('requests', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start('req', { AI_RATE_LIMIT_LOW_LIMIT: '5' });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  /** Beyond the one that asks. */
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
  ])('%s %s is one', async (method, path, body) => {
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

  test('a failover is one', async () => {
    backendOf(gateway, 0).script(costing(), answers.throttled());
    const before = await used(gateway);
    await shoot(gateway);
    expect((await used(gateway)) - before - 1).toBe(1);
  });

  test('what no backend answers is none', async () => {
    const failing = async () => {
      for (const mock of gateway.mocks) mock.always(answers.throttled());
      expect((await shoot(gateway)).status).toBe(429);
      for (const mock of gateway.mocks) mock.always(undefined);
    };
    expect(await requestsOf(failing)).toBe(0);
  });

  test('a lane lets through as many as it has, and then nothing', async () => {
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
