/** An answer that ends without any output is a failed attempt, for streams and for JSON: no client gets an empty 200. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventText } from '../../compiler/mock/behaviour.ts';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import {
  backendOf,
  calls,
  chatOnWire,
  chatPrelude,
  chatText,
  inOrder,
  NO_COOLDOWN,
  resetMocks,
} from '../support/traffic.ts';

let gateway: Gateway;
const backend = (index: number) => backendOf(gateway, index);
const GOOD: readonly StreamEvent[] = [chatPrelude, chatText('Hello'), 'data: [DONE]\n\n'];
const bytes = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');

const STREAM = { 'Content-Type': 'text/event-stream' };
const JSON_TYPE = { 'Content-Type': 'application/json' };

/** Streams without output. */
const STREAMS: readonly (readonly [what: string, behaviour: Behaviour])[] = [
  ['a length of 0', { body: '', headers: STREAM }],
  ['no chunk', { events: [], done: false }],
  ['no byte until the connection closes', { events: [], done: false, framing: 'close' }],
  ['a head, then a reset', { events: [], reset: 'after-headers' }],
  ['a head, then the end of the connection', { events: [chatPrelude], cutAfter: 0 }],
  ['a preamble', { events: [chatPrelude], done: false }],
  ['a preamble, then the end of the connection', { events: [chatPrelude], cutAfter: 1, done: false }],
  ['a preamble and [DONE]', { events: [chatPrelude], done: true }],
  ['[DONE] alone', { events: [], done: true }],
  ['comments', { events: [': hello\n\n', ': again\n\n'], done: false }],
  ['pings', { events: [{ event: 'ping', data: {} }, { data: { type: 'ping' } }], done: false }],
  ['half an event', { events: ['data: {"choices":[{"delta":{"content":"Hel'], done: false }],
  [
    'items that are empty',
    {
      events: [
        { data: { type: 'response.created', response: {} } },
        { data: { type: 'response.output_item.added', item: {} } },
        { data: { type: 'response.content_part.added', part: { text: '' } } },
      ],
      done: false,
    },
  ],
];

/** Whole answers without content. */
const ANSWERS: readonly (readonly [what: string, path: string, behaviour: Behaviour])[] = [
  ['a length of 0', '/openai/v1/chat/completions', { body: '', headers: JSON_TYPE }],
  ['no chunk', '/openai/v1/responses', { body: '', headers: JSON_TYPE, framing: 'chunked' }],
  [
    'no byte until the connection closes',
    '/openai/v1/embeddings',
    { body: '', headers: JSON_TYPE, framing: 'close' },
  ],
  ['line ends', '/openai/v1/chat/completions', { body: '\r\n', headers: JSON_TYPE }],
  ['no content type', '/openai/v1/chat/completions', { body: '' }],
  [
    'half a JSON text until the connection closes',
    '/openai/v1/responses',
    { body: '{"id":"r', framing: 'close' },
  ],
  ['half a JSON text of a length', '/openai/v1/responses', { body: '{"id":"resp_1"}', cutAfter: 5 }],
  ['no image', '/openai/v1/images/generations', { body: '', headers: JSON_TYPE }],
  [
    'no sound',
    '/openai/v1/audio/speech',
    { body: Buffer.alloc(0), headers: { 'Content-Type': 'audio/mpeg' } },
  ],
];

describe.skipIf(cannotRunGatewayTests('silent answers'))('an answer that ends without any output', () => {
  beforeAll(async () => {
    gateway = await startGateway({
      adapt: quickMetrics,
      settings: { ...inOrder(2), ...NO_COOLDOWN, AI_PROXY_READ_TIMEOUT: '2s' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const post = (path: string) =>
    gateway.fetch(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'gpt-4o', input: 'Hello', messages: [] }),
    });

  test.each(STREAMS)('fails over for a stream with %s', async (_, behaviour) => {
    backend(0).script(behaviour);
    backend(1).script({ events: GOOD, done: false });
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect([answer.status, answer.body.toString(), answer.isWhole]).toEqual([200, bytes(GOOD), true]);
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test.each(STREAMS)('returns 502 when every backend sends a stream with %s', async (_, behaviour) => {
    for (const mock of gateway.mocks) mock.always(behaviour);
    const answer = await gateway.chat('gpt-4o', { stream: true });
    expect(answer.status).toBe(502);
    expect(await answer.json()).toMatchObject({ error: { message: expect.stringContaining('answer') } });
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test.each(ANSWERS)('fails over for %s at %s', async (_, path, behaviour) => {
    const good = { object: 'of the second backend' };
    backend(0).script(behaviour);
    backend(1).script({ body: good });
    const answer = await post(path);
    expect([answer.status, await answer.json()]).toEqual([200, good]);
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test.each(ANSWERS)('returns 502 when every backend sends %s at %s', async (_, path, behaviour) => {
    for (const mock of gateway.mocks) mock.always(behaviour);
    const answer = await post(path);
    expect(answer.status).toBe(502);
    expect(await answer.json()).toMatchObject({ error: { message: expect.any(String) } });
  });

  test('logs both attempts and counts the failover', async () => {
    backend(0).script({ events: [], done: false });
    backend(1).script({ events: GOOD, done: false });
    await chatOnWire(gateway, 'logged').end();
    const line = (await gateway.accessLog()).find(({ model }) => model === 'logged');
    expect(line).toMatchObject({ failover: 'saved', backend: 'backend-1', status: '200' });
    expect(line?.attempts).toMatch(/^backend-0:200:stream_error:\d+ backend-1:200:ok:\d+$/);
    expect(await gateway.metrics()).toMatch(
      /apisix_genai_failovers_total\{node="backend-1",request_llm_model="logged",reason="stream_error"\} 1/,
    );
  });

  test.each<[string, string, string, Behaviour]>([
    ['GET', 'an empty file', '/openai/v1/files/file-1/content', { body: '' }],
    ['DELETE', 'a deletion', '/openai/v1/files/file-1', { body: '' }],
    ['DELETE', 'no content', '/openai/v1/files/file-1', { status: 204 }],
    ['POST', 'an operation that makes no content', '/openai/v1/new', { body: '' }],
    [
      'POST',
      'the text of silence',
      '/openai/v1/audio/transcriptions',
      { body: '', headers: { 'Content-Type': 'text/plain' } },
    ],
  ])('stays empty for %s: %s', async (method, _, path, behaviour) => {
    for (const mock of gateway.mocks) mock.always(behaviour);
    const answer = await gateway.fetch(path, { method });
    expect([answer.status, await answer.text()]).toEqual([behaviour.status ?? 200, '']);
  });
});
