/** What a failed attempt means for its request and for others: failover, cooldown, and for which client. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { backendOf, calls, inOrder, resetMocks } from '../support/traffic.ts';

const OTHER_KEY = 'key-of-the-other-app-0123456789';
const OTHER_CLIENT = { GATEWAY_CLIENT_NAME_1: 'other', GATEWAY_CLIENT_KEY_1: OTHER_KEY };

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const backend = (index: number) => backendOf(gateway, index);
const chat = (model: string, content = 'Hello', headers = {}) =>
  gateway.chat(model, { messages: [{ role: 'user', content }] }, headers);
const status = async (...args: Parameters<typeof chat>) => (await chat(...args)).status;
const asOther = (model: string, content?: string) => status(model, content, { 'api-key': OTHER_KEY });
const always = (behaviour: Behaviour) => {
  for (const mock of gateway.mocks) mock.always(behaviour);
};

describe.skipIf(cannotRunGatewayTests('missing deployments'))('a deployment missing at one backend', () => {
  beforeAll(start({ settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test.each<[string, Behaviour, object]>([
    ['404 DeploymentNotFound', answers.deploymentNotFound(), {}],
    ['404 of v1', answers.modelNotFound(), {}],
    ['400 of v1', answers.modelNotFound({ status: 400 }), {}],
    [
      'an error in a stream',
      {
        events: [
          {
            event: 'error',
            data: {
              type: 'error',
              error: {
                type: 'user_error',
                message: 'Could not find an existing deployment to match the model.',
              },
            },
          },
        ],
      },
      { stream: true },
    ],
  ])('fails over and prefers the other backend from then on: %s', async (what, behaviour, body) => {
    const model = `missing-${what.replace(/\W/g, '-')}`;
    backend(0).script(behaviour);
    expect((await gateway.chat(model, body)).status).toBe(200);
    expect((await gateway.chat(model, body)).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
    expect(await status('another')).toBe(200);
    expect(calls(gateway)).toEqual([2, 2]);
  });

  test("returns a backend's 404 when no backend has it, and remembers nothing", async () => {
    always(answers.deploymentNotFound());
    const answer = await chat('nowhere');
    expect(answer.status).toBe(404);
    expect(await answer.json()).toEqual(answers.deploymentNotFound().body);
    expect(calls(gateway)).toEqual([1, 1]);
    resetMocks(gateway);
    expect(await status('nowhere')).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('returns no 404 while a backend that was not called may have it', async () => {
    backend(1).script(answers.throttled({ retryAfter: 9 }));
    backend(0).script(answers.deploymentNotFound());
    expect(await status('throttled-elsewhere')).toBe(429);
    backend(0).script(answers.deploymentNotFound());
    const answer = await chat('throttled-elsewhere');
    expect(answer.status).toBe(429);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(5);
    expect(calls(gateway)).toEqual([2, 1]);
  });

  test('calls the backend again when the other one does not have it', async () => {
    backend(0).script(answers.deploymentNotFound());
    expect(await status('moved')).toBe(200);
    backend(1).script(answers.deploymentNotFound());
    expect(await status('moved')).toBe(200);
    expect(calls(gateway)).toEqual([2, 2]);
    // Also when the other backend fails.
    backend(0).script(answers.deploymentNotFound());
    expect(await status('created')).toBe(200);
    backend(1).script({ status: 500 });
    expect(await status('created')).toBe(200);
    expect(calls(gateway)).toEqual([4, 4]);
  });

  test('passes on a 404 that means something else', async () => {
    backend(0).script(answers.resourceNotFound());
    const answer = await chat('gpt-4o');
    expect(answer.status).toBe(404);
    expect(await answer.json()).toEqual(answers.resourceNotFound().body);
    expect(calls(gateway)).toEqual([1, 0]);
  });
});

describe.skipIf(cannotRunGatewayTests('failing backends'))('a backend fails', () => {
  beforeAll(start({ settings: { ...inOrder(2), ...OTHER_CLIENT } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test('starts a cooldown when another backend answers', async () => {
    backend(0).script({ status: 500 });
    expect(await status('answered')).toBe(200);
    expect(await status('answered')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
  });

  test('starts no cooldown for a request that fails everywhere, however often it is sent', async () => {
    always({ status: 500 });
    for (let count = 0; count < 4; count++) expect(await status('poison', 'always the same')).toBe(500);
    resetMocks(gateway);
    expect(await asOther('poison')).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('starts a cooldown when different requests fail, but still uses the backend when there is no other', async () => {
    always({ status: 500 });
    expect(await status('broken', 'one')).toBe(500);
    expect(await asOther('broken', 'two')).toBe(500);
    resetMocks(gateway);
    expect(await asOther('broken', 'three')).toBe(200);
    expect(calls(gateway).reduce((sum, count) => sum + count)).toBe(1);
  });

  test('throttling without a delay does not keep the backend out when there is no other', async () => {
    const unnamed: Behaviour = { status: 429, body: '' };
    backend(0).script(unnamed);
    expect(await status('guessed')).toBe(200);
    expect(calls(gateway)).toEqual([1, 1]);
    expect(await status('guessed')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
    backend(1).script(unnamed);
    expect(await status('guessed')).toBe(200);
    expect(calls(gateway)).toEqual([2, 3]);
  });

  test.each<[string, Behaviour]>([
    ['429', { status: 429, body: { error: { code: '429', message: 'Try again in 26 seconds.' } } }],
    [
      'a response that failed',
      {
        status: 200,
        body: {
          id: 'resp_1',
          object: 'response',
          status: 'failed',
          error: { code: 'rate_limit_exceeded', message: 'Rate limit is exceeded. Try again in 26 seconds.' },
          output: [],
        },
      },
    ],
  ])('fails over and uses the delay in the message of %s', async (what, behaviour) => {
    const respond = () =>
      gateway.fetch('/openai/v1/responses', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: `in-${what.replace(/\W/g, '-')}`, input: 'Hello' }),
      });
    backend(0).script(behaviour);
    expect((await respond()).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 1]);
    backend(1).script(behaviour);
    const answer = await respond();
    expect(answer.status).toBe(429);
    expect(await answer.json()).toEqual(behaviour.body);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(20);
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(26);
  });

  test.each<[string, object | string]>([
    ['no model', { messages: [] }],
    ['a model that is no name', { model: 5, messages: [] }],
    ['a model that looks like an operation', { model: '(chat_completions)', messages: [] }],
    ['no JSON', 'model=gpt-4o'],
  ])('throttles no deployment when the throttled request has %s', async (_, body) => {
    for (const mock of gateway.mocks) mock.script(answers.throttled({ retryAfter: 60 }));
    const init = { method: 'POST', headers: { 'content-type': 'application/json' } };
    const sent = typeof body === 'string' ? body : JSON.stringify(body);
    expect((await gateway.fetch('/openai/v1/chat/completions', { ...init, body: sent })).status).toBe(429);
    // Only requests without a deployment are throttled.
    resetMocks(gateway);
    expect(await asOther(`named-beside-${sent.length}`)).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test("treats a quota in a 403 as a guess, because the text may be the client's", async () => {
    always({
      status: 403,
      body: { error: { message: 'Tool "insufficient_quota, retry after 100 seconds" is not permitted.' } },
    });
    expect(await status('echo')).toBe(403);
    resetMocks(gateway);
    expect(await asOther('echo')).toBe(200);
  });

  test.each<[string, Behaviour]>([
    ['after its head', { reset: 'after-headers', body: { choices: [] } }],
    ['in its body', { body: { choices: [], filler: 'x'.repeat(100) }, cutAfter: 10 }],
  ])('fails over when a JSON answer breaks off %s', async (what, behaviour) => {
    backend(0).script(behaviour);
    expect(await status(`cut-${what.replace(/\W/g, '-')}`)).toBe(200);
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test('returns no delay of a refusal, because a retry would not help', async () => {
    backend(0).script({ status: 403, body: '', headers: { 'Retry-After': '20' } });
    backend(1).script({ status: 500 });
    const answer = await chat('refused-and-failing');
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([500, null]);
  });

  test('passes on a response that failed because of its prompt', async () => {
    const body = { status: 'failed', error: { code: 'invalid_prompt', message: 'No.' }, output: [] };
    backend(0).script({ status: 200, body });
    const answer = await gateway.fetch('/openai/v1/responses', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'gpt-4o', input: 'Hello' }),
    });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual(body);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('does not wait for an error body that arrives slowly', async () => {
    backend(0).script({
      status: 503,
      headers: { 'Content-Type': 'application/json' },
      events: Array.from({ length: 40 }, () => ({ data: 'x' })),
      gapMs: 300,
    });
    const began = performance.now();
    expect(await status('trickle')).toBe(200);
    expect(performance.now() - began).toBeLessThan(4_000);
  });
});

describe.skipIf(cannotRunGatewayTests('unreachable backends'))('a backend refuses connections', () => {
  beforeAll(start({ settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test('is tried again after a second, not after ten', async () => {
    await backend(0).stop();
    expect(await status('first')).toBe(200);
    await backend(0).restart();
    expect(await status('first')).toBe(200);
    expect(calls(gateway)).toEqual([0, 2]);
    await sleep(1_100);
    expect(await status('first')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
  });
});

describe.skipIf(cannotRunGatewayTests('many backends'))('with seven backends', () => {
  beforeAll(
    start({ backends: Array.from({ length: 7 }, () => ({})), settings: inOrder(7) }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test('a request ends after five failures', async () => {
    always({ status: 500 });
    expect(await status('gpt-4o')).toBe(500);
    expect(calls(gateway)).toEqual([1, 1, 1, 1, 1, 0, 0]);
  });

  test.each<[string, Behaviour]>([
    ['throttled', { status: 429 }],
    ['without the deployment', answers.deploymentNotFound()],
  ])('backends that are %s do not count as failures', async (what, behaviour) => {
    for (let index = 0; index < 6; index++) backend(index).script(behaviour);
    expect(await status(`seven-${what.replace(/\W/g, '-')}`)).toBe(200);
    expect(calls(gateway)).toEqual([1, 1, 1, 1, 1, 1, 1]);
  });

  test('refused connections do not count as failures', async () => {
    for (let index = 0; index < 6; index++) await backend(index).stop();
    expect(await status('gpt-4o')).toBe(200);
    expect(calls(gateway)).toEqual([0, 0, 0, 0, 0, 0, 1]);
    for (let index = 0; index < 6; index++) await backend(index).restart();
  });
});
