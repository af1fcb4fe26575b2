/**
 * Azure refuses streams with status 200 and an error in the first events. Until something was sent to the client, this is
 * an error like any other.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { eventText } from '../../compiler/mock/behaviour.ts';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import {
  backendOf,
  calls,
  chatBody,
  chatOnWire,
  chatPrelude,
  chatText,
  chatUsage,
  inOrder,
  NO_COOLDOWN,
  resetMocks,
  Wire,
} from '../support/traffic.ts';

const SETTINGS = { ...inOrder(2), ...NO_COOLDOWN };
let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const reset = () => resetMocks(gateway);
const backend = (index: number) => backendOf(gateway, index);

/** A stream without any error. */
const GOOD: readonly StreamEvent[] = [chatPrelude, chatText('Hello'), chatText(' there'), chatUsage(2, 2)];
const bytes = (events: Iterable<StreamEvent>, lineEnd = '\n') =>
  [...events].map((event) => eventText(event, lineEnd)).join('');
const eventsOf = ({ events }: Behaviour) => events as readonly StreamEvent[];

const ORDERS = ['created-error-failed', 'created-failed-error', 'error-only'] as const;
const { throttledStream, failedStream } = answers;
const chatError = (error: object): Behaviour => ({ events: [chatPrelude, { data: { error } }], done: false });

const REFUSED: readonly (readonly [what: string, behaviour: Behaviour])[] = [
  ...ORDERS.flatMap((order) =>
    [true, false].map((nested): [string, Behaviour] => [
      `${order}, ${nested ? 'nested' : 'flat'}`,
      throttledStream({ order, nested }),
    ]),
  ),
  ['a response.created of 70 KB', throttledStream({ createdBytes: 70_000 })],
  ['a response.created of 300 KB', throttledStream({ createdBytes: 300_000, order: 'created-failed-error' })],
  [
    'a response.created of 70 KB, 1000 bytes at a time',
    { ...throttledStream({ createdBytes: 70_000 }), splitBytes: 1_000 },
  ],
  ['7 bytes at a time', { ...throttledStream(), splitBytes: 7 }],
  ['CRLF', { ...throttledStream(), lineEnd: '\r\n' }],
  ['CR', { ...throttledStream(), lineEnd: '\r' }],
  ['CRLF, a byte at a time', { ...throttledStream(), lineEnd: '\r\n', splitBytes: 1 }],
  ['no content type', { ...throttledStream(), headers: { 'Content-Type': null } }],
  ['a length', { ...throttledStream(), framing: 'content-length' }],
  ['until the connection closes', { ...throttledStream(), framing: 'close' }],
  ['response.failed with server_error', failedStream()],
  ['chat, nested', throttledStream({ api: 'chat' })],
  ['chat, flat', throttledStream({ api: 'chat', nested: false })],
  ['chat, after an event without output', chatError({ code: 'rate_limit_exceeded', message: 'Slow down.' })],
  ['chat, code 429', chatError({ code: '429', message: 'Requests have exceeded call rate limit.' })],
  ['chat, code 500 as a number', chatError({ code: 500, message: 'Internal server error' })],
  [
    'chat, server_error',
    chatError({ type: 'server_error', code: null, param: null, message: 'The server had an error.' }),
  ],
  [
    'chat, a comment before it',
    { events: [': keep-alive\n\n', { data: { error: { code: '429', message: 'no' } } }], done: false },
  ],
];

describe.skipIf(cannotRunGatewayTests('refused streams'))('a stream that is refused', () => {
  beforeAll(start({ settings: SETTINGS }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  test.each(REFUSED)(
    "by one backend gives the client only the next backend's stream: %s",
    async (_, behaviour) => {
      backend(0).script(behaviour);
      backend(1).script({ events: GOOD, done: true });
      const answer = await chatOnWire(gateway, 'gpt-4o').end();
      expect(answer.status).toBe(200);
      expect(answer.body.toString()).toBe(`${bytes(GOOD)}data: [DONE]\n\n`);
      expect(answer.head).not.toMatch(/retry-after|^x-ratelimit-remaining-tokens: -/im);
      expect(answer.isWhole).toBe(true);
      expect(calls(gateway)).toEqual([1, 1]);
      expect(backend(1).requests[0]?.body).toEqual(backend(0).requests[0]?.body);
    },
  );

  test("after its first output is not replaced by another backend's", async () => {
    const events = [chatPrelude, chatText('Hello'), ...eventsOf(throttledStream({ api: 'chat' }))];
    backend(0).script({ events, gapMs: 50, done: false });
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.body.toString()).toBe(bytes(events));
    expect(calls(gateway)).toEqual([1, 0]);
  });

  const ERROR = { param: null, message: 'No.' };
  test.each<[string, Behaviour]>([
    ['a filtered prompt', chatError({ ...ERROR, code: 'content_filter', type: null, status: 400 })],
    ['an invalid request', chatError({ ...ERROR, code: 'unknown_parameter', type: 'invalid_request_error' })],
    ['a number', chatError({ ...ERROR, code: 400 })],
    [
      'an unknown model, as an event',
      {
        events: [
          {
            event: 'error',
            data: {
              type: 'error',
              error: { ...ERROR, code: 'model_not_found', type: 'invalid_request_error' },
            },
          },
        ],
      },
    ],
    [
      'a filtered prompt of responses',
      {
        events: [
          { event: 'error', data: { type: 'error', code: 'content_filter', ...ERROR, sequence_number: 0 } },
        ],
      },
    ],
    [
      'a failed response for reasons of the prompt',
      {
        events: [
          {
            event: 'response.created',
            data: { type: 'response.created', response: { status: 'in_progress', error: null } },
          },
          {
            event: 'response.failed',
            data: {
              type: 'response.failed',
              response: { status: 'failed', error: { ...ERROR, code: 'invalid_prompt' } },
            },
          },
        ],
      },
    ],
    ['an error that says nothing', chatError({})],
  ])("because of the client's request is passed on unchanged after one call: %s", async (_, behaviour) => {
    backend(0).script({ ...behaviour, done: false });
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.status).toBe(200);
    expect(answer.body.toString()).toBe(bytes(eventsOf(behaviour)));
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test.each(REFUSED)('by every backend becomes a JSON error: %s', async (_, behaviour) => {
    for (const mock of gateway.mocks) mock.always(behaviour);
    const answer = await gateway.chat('gpt-4o', { stream: true });
    expect([429, 500, 503]).toContain(answer.status);
    expect(answer.headers.get('content-type')).toBe('application/json');
    const { retryAfter } = behaviour.headers ?? {};
    expect(answer.headers.get('retry-after')).toBe(retryAfter ?? answer.headers.get('retry-after'));
    expect(await answer.json()).toMatchObject({ error: { message: expect.any(String) } });
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test("as throttled by every backend becomes a 429 with the backend's message", async () => {
    for (const mock of gateway.mocks) mock.always(throttledStream({ api: 'chat', retryAfter: 7 }));
    const answer = await gateway.chat('gpt-4o', { stream: true });
    expect(answer.status).toBe(429);
    expect(await answer.json()).toMatchObject({
      error: { message: expect.stringContaining('exceeded rate limit') },
    });
  });

  test("by one backend gives the official client the other backend's stream", async () => {
    backend(0).script(throttledStream({ createdBytes: 70_000 }), throttledStream({ api: 'chat' }));
    const response = await gateway
      .openai()
      .responses.create({ model: 'gpt-4o', input: 'Hello', stream: true });
    const types: string[] = [];
    for await (const event of response) types.push(event.type);
    expect(types.filter((type) => type === 'response.created')).toHaveLength(1);
    expect(types.at(-1)).toBe('response.completed');
    const chat = await gateway.azure('gpt-4o').chat.completions.create({
      model: 'gpt-4o',
      stream: true,
      messages: [{ role: 'user', content: 'Hello' }],
    });
    let text = '';
    for await (const chunk of chat) text += chunk.choices[0]?.delta.content ?? '';
    expect(text).not.toBe('');
    expect(calls(gateway)).toEqual([2, 2]);
  });
});

/** A stream that sends its first events, and the rest when `go` is called. */
function inTwoParts(first: readonly StreamEvent[], rest: readonly StreamEvent[]) {
  let go: () => void = () => undefined;
  const told = new Promise<void>((resolve) => {
    go = resolve;
  });
  async function* events() {
    yield* first;
    await told;
    yield* rest;
  }
  return { behaviour: { events: events(), done: false } satisfies Behaviour, go: () => go() };
}

describe.skipIf(cannotRunGatewayTests('AI_PROXY_STREAM_HOLD'))('AI_PROXY_STREAM_HOLD', () => {
  const events = eventsOf(throttledStream());
  const parts = () => inTwoParts(events.slice(0, 1), events.slice(1));
  const responsesOnWire = () =>
    new Wire(gateway, '/openai/v1/responses', {
      body: JSON.stringify({ model: 'gpt-4o', input: 'x', stream: true }),
    });

  describe('400ms', () => {
    beforeAll(start({ settings: { ...SETTINGS, AI_PROXY_STREAM_HOLD: '400ms' } }), CONTAINER_TIMEOUT_MS);
    afterAll(stop);
    afterEach(reset);

    test("sends the preamble after the hold, and another backend's stream after an error", async () => {
      const { behaviour, go } = parts();
      backend(0).script(behaviour);
      backend(1).script({ events: GOOD, done: true });
      const began = performance.now();
      const wire = responsesOnWire();
      await wire.waitFor('response.created');
      const took = performance.now() - began;
      expect(took).toBeGreaterThan(350);
      expect(took).toBeLessThan(1_000);
      go();
      const answer = await wire.end();
      expect(answer.body.toString()).toBe(`${bytes(events.slice(0, 1))}${bytes(GOOD)}data: [DONE]\n\n`);
      expect(answer.isWhole).toBe(true);
      expect(calls(gateway)).toEqual([1, 1]);
    });

    test('sends nothing of a stream that is refused during the hold', async () => {
      const { behaviour, go } = parts();
      backend(0).script(behaviour);
      backend(1).script({ events: GOOD, done: false });
      const wire = responsesOnWire();
      await sleep(150);
      expect(wire.answer().head).toBe('');
      go();
      expect((await wire.end()).body.toString()).toBe(bytes(GOOD));
      expect(calls(gateway)).toEqual([1, 1]);
    });
  });

  describe('1m', () => {
    beforeAll(
      start({ settings: { ...SETTINGS, AI_PROXY_STREAM_HOLD: '1m', AI_PROXY_READ_TIMEOUT: '1s' } }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);
    afterEach(reset);

    test('sends the first output at once, together with the held events', async () => {
      const { behaviour, go } = inTwoParts(GOOD.slice(0, 2), GOOD.slice(2));
      backend(0).script(behaviour);
      const began = performance.now();
      const wire = chatOnWire(gateway, 'gpt-4o');
      await wire.waitFor('Hello');
      expect(performance.now() - began).toBeLessThan(700);
      go();
      expect((await wire.end()).body.toString()).toBe(bytes(GOOD));
    });

    test('fails over when a stream contains only comments', async () => {
      backend(0).script({ events: [': nothing\n\n'], done: false });
      backend(1).script({ events: GOOD, done: false });
      const answer = await chatOnWire(gateway, 'gpt-4o').end();
      expect(answer.body.toString()).toBe(bytes(GOOD));
      expect(calls(gateway)).toEqual([1, 1]);
    });

    test('fails over when a backend is silent for longer than AI_PROXY_READ_TIMEOUT', async () => {
      backend(0).script(inTwoParts([chatPrelude], []).behaviour);
      backend(1).script({ events: GOOD, done: false });
      const answer = await chatOnWire(gateway, 'gpt-4o').end();
      expect(answer.body.toString()).toBe(bytes(GOOD));
      expect(calls(gateway)).toEqual([1, 1]);
    });
  });

  describe('0', () => {
    beforeAll(start({ settings: { ...SETTINGS, AI_PROXY_STREAM_HOLD: '0' } }), CONTAINER_TIMEOUT_MS);
    afterAll(stop);
    afterEach(reset);

    test('holds nothing and passes every error on', async () => {
      const { behaviour, go } = parts();
      backend(0).script(behaviour);
      const wire = responsesOnWire();
      await wire.waitFor('response.created', 1_000);
      go();
      expect((await wire.end()).body.toString()).toBe(bytes(events));
      expect(calls(gateway)).toEqual([1, 0]);
    });
  });
});

describe.skipIf(cannotRunGatewayTests('refused streams and retry statuses'))(
  'AI_PROXY_RETRY_STATUSES=500',
  () => {
    beforeAll(start({ settings: { ...SETTINGS, AI_PROXY_RETRY_STATUSES: '500' } }), CONTAINER_TIMEOUT_MS);
    afterAll(stop);

    test('passes on a throttled stream, but fails over for a stream with server_error', async () => {
      const throttled = throttledStream({ api: 'chat' });
      backend(0).script(throttled, failedStream());
      const wire = new Wire(gateway, '/openai/v1/chat/completions', {
        body: chatBody('gpt-4o', { stream: true }),
      });
      expect((await wire.end()).body.toString()).toBe(bytes(eventsOf(throttled)));
      expect(calls(gateway)).toEqual([1, 0]);
      expect((await chatOnWire(gateway, 'gpt-4o').end()).status).toBe(200);
      expect(calls(gateway)).toEqual([2, 1]);
    });
  },
);
