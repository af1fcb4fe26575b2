/**
 * A stream ends with its last event, whatever its connection does afterwards. A stream without its last event is cut for
 * the client too.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventText } from '../../compiler/mock/behaviour.ts';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import {
  backendOf,
  calls,
  chatBody,
  chatOnWire,
  chatText,
  chatUsage,
  inOrder,
  resetMocks,
  Wire,
  type WireAnswer,
} from '../support/traffic.ts';

let gateway: Gateway;
const backend = (index: number) => backendOf(gateway, index);
const bytes = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');
const event = (type: string, fields: object = {}): StreamEvent => ({
  event: type,
  data: { type, ...fields },
});
const DONE = 'data: [DONE]\n\n';
const usage = { input_tokens: 1, output_tokens: 2, total_tokens: 3 };
const delta = event('response.output_text.delta', { delta: 'Hello' });
const finished: StreamEvent = { data: { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] } };

/** Complete streams, by their last events. */
const COMPLETE: [what: string, events: readonly StreamEvent[]][] = [
  ['[DONE]', [chatText('Hello'), finished, DONE]],
  ['response.completed', [delta, event('response.completed', { response: { usage } })]],
  ['response.completed and [DONE]', [delta, event('response.completed', { response: {} }), DONE]],
  ['response.failed', [delta, event('response.failed', { response: { error: { code: 'server_error' } } })]],
  ['response.incomplete', [delta, event('response.incomplete', { response: {} })]],
  ['image_generation.completed', [event('image_generation.completed', { b64_json: 'QUJD', usage })]],
  ['image_edit.completed', [event('image_edit.completed', { b64_json: 'QUJD', usage })]],
  ['transcript.text.done', [event('transcript.text.done', { text: 'Hello', usage })]],
  ['an error', [delta, event('error', { error: { code: 'server_error' } })]],
  [
    'an event of 200 KB',
    [delta, event('response.completed', { response: { output: ['x'.repeat(200_000)], usage } })],
  ],
];

async function* andThenNothing(events: readonly StreamEvent[]) {
  yield* events;
  await new Promise(() => undefined);
}

async function* andThenComments(events: readonly StreamEvent[]) {
  yield* events;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    yield ': keep-alive\n\n';
  }
}

describe.skipIf(cannotRunGatewayTests('complete streams'))('a complete stream', () => {
  beforeAll(async () => {
    gateway = await startGateway({ settings: { ...inOrder(2), AI_PROXY_READ_TIMEOUT: '20s' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test.each(COMPLETE)('with %s ends although its backend keeps the connection open', async (_, events) => {
    backend(0).script({ events: andThenNothing(events), done: false });
    const began = performance.now();
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(performance.now() - began).toBeLessThan(2_000);
    expect([answer.body.toString() === bytes(events), answer.isWhole]).toEqual([true, true]);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test.each(COMPLETE)(
    'with %s is complete although its connection ends without the last chunk',
    async (_, events) => {
      backend(0).script({ events, cutAfter: events.length, gapMs: 5 });
      const answer = await chatOnWire(gateway, 'gpt-4o').end();
      expect([answer.body.toString() === bytes(events), answer.isWhole]).toEqual([true, true]);
    },
  );

  test.each(COMPLETE.filter(([, events]) => events.length > 1 && bytes(events).length < 100_000))(
    'with %s ends although its backend never sends the final empty line',
    async (_, events) => {
      const whole = bytes(events);
      for (const missing of [1, 2]) {
        backend(0).script({ events: andThenNothing([whole.slice(0, -missing)]), done: false });
        const answer = await chatOnWire(gateway, 'gpt-4o').end();
        expect([answer.body.toString() === whole, answer.isWhole]).toEqual([true, true]);
      }
    },
  );

  test('has its usage counted when no empty line follows the last event', async () => {
    const text = bytes([chatText('Hello'), finished, chatUsage(3, 4)]).slice(0, -2);
    backend(0).script({ events: [text], done: false });
    expect((await chatOnWire(gateway, 'unended-usage').end()).body.toString()).toBe(text);
    const line = (await gateway.accessLog()).find(({ model }) => model === 'unended-usage');
    expect(line).toMatchObject({ prompt_tokens: '3', completion_tokens: '4', error: '' });
  });

  test('ends when its last event arrives in two pieces with a pause', async () => {
    const last = 'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n';
    await Promise.all(
      Array.from({ length: last.length - 3 }, async (_, index) => {
        async function* events() {
          yield `data: {"type":"response.output_text.delta"}\n\n${last.slice(0, index + 1)}`;
          await new Promise((resolve) => setTimeout(resolve, 1_000));
          yield last.slice(index + 1);
        }
        backend(0).script({ events: events(), done: false });
        const answer = await chatOnWire(gateway, 'gpt-4o').end();
        expect([index, answer.isWhole, answer.body.toString().endsWith(last)]).toEqual([index, true, true]);
      }),
    );
  });

  test('is not assumed when its last event breaks off', async () => {
    for (const framing of ['chunked', 'close'] as const) {
      const text = 'data: {"type":"x"}\n\nevent: response.completed\ndata: {"type":"response.comp';
      backend(0).script({ events: [text, 'x'], cutAfter: 1, gapMs: 5, done: false, framing });
      expect((await chatOnWire(gateway, 'gpt-4o').waitForClose()).isWhole).toBe(false);
    }
  });

  test('is not assumed after a chunk with an empty error', async () => {
    const chunk = (content: string) =>
      `data: {"error":"","choices":[{"index":0,"delta":{"content":"${content}"}}]}\n\n`;
    async function* events() {
      yield chunk('a');
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      yield `${chunk('b')}${DONE}`;
    }
    backend(0).script({ events: events(), done: false });
    expect((await chatOnWire(gateway, 'gpt-4o').end()).body.toString()).toBe(chunk('a') + chunk('b') + DONE);
  });

  test('is not kept open by comments after its last event', async () => {
    const events = [chatText('Hello'), DONE];
    backend(0).script({ events: andThenComments(events), done: false });
    const answer = await chatOnWire(gateway, 'gpt-4o').end(3_000);
    expect(answer.isWhole).toBe(true);
    expect(answer.body.toString()).toContain(bytes(events));
  });

  test('that leaves its connection open makes the gateway close that connection', async () => {
    backend(0).script({ events: andThenNothing([chatText('Hello'), DONE]), done: false });
    await chatOnWire(gateway, 'gpt-4o').end();
    const [first] = backend(0).requests;
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(backend(0).requests[1]?.connection).not.toBe(first?.connection);
  });

  test('may have its usage long after the last choice', async () => {
    async function* events() {
      yield* [chatText('Hello'), finished];
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      yield* [chatUsage(3, 4), DONE];
    }
    backend(0).script({ events: events(), done: false });
    const answer = await chatOnWire(gateway, 'late-usage').end();
    expect(answer.body.toString()).toBe(bytes([chatText('Hello'), finished, chatUsage(3, 4), DONE]));
    const line = (await gateway.accessLog()).find(({ model }) => model === 'late-usage');
    expect(line).toMatchObject({ prompt_tokens: '3', completion_tokens: '4', error: '' });
  });

  test('of several images ends with the last image', async () => {
    const image = event('image_generation.completed', { b64_json: 'QUJD', usage });
    async function* events() {
      yield image;
      await new Promise((resolve) => setTimeout(resolve, 1_200));
      yield image;
      await new Promise(() => undefined);
    }
    backend(0).script({ events: events(), done: false });
    const body = JSON.stringify({ model: 'gpt-image-1', prompt: 'x', n: 2, stream: true });
    const answer = await new Wire(gateway, '/openai/v1/images/generations', { body }).end();
    expect([answer.body.toString(), answer.isWhole]).toEqual([bytes([image, image]), true]);
  });
});

const CLOSE = { framing: 'close', done: false } as const;

describe.skipIf(cannotRunGatewayTests('answers without a length'))('an answer without a length', () => {
  beforeAll(async () => {
    gateway = await startGateway({ settings: inOrder(2) });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const ended = async (wire: Wire): Promise<WireAnswer> => wire.end();

  test.each<[string, readonly StreamEvent[]]>([
    ['a chat', [chatText('Hello')]],
    ['a response', [delta]],
    ['an image', [event('image_generation.partial_image', { b64_json: 'QUJD' })]],
    ['a transcription', [event('transcript.text.delta', { delta: 'Hello' })]],
    ['half an event', [chatText('Hello'), 'data: {"choices":[{"del']],
  ])('is cut when it ends in the middle of %s', async (_, events) => {
    backend(0).script({ events, ...CLOSE });
    const answer = await chatOnWire(gateway, 'cut').waitForClose();
    expect([answer.body.toString(), answer.isWhole]).toEqual([bytes(events), false]);
    const line = (await gateway.accessLog()).findLast(({ model }) => model === 'cut');
    expect(line).toMatchObject({ error: 'stream_error', error_source: 'backend' });
  });

  test.each<[string, readonly StreamEvent[]]>([
    ...COMPLETE,
    ['a finished choice', [chatText('Hello'), finished]],
    ['the usage of a chat', [chatText('Hello'), chatUsage(1, 2)]],
    ['events of nobody', ['data: hello\n\n', 'event: new\ndata: {}\n\n']],
    ['[DONE] without an empty line', [chatText('Hello'), 'data: [DONE]\n']],
  ])('is complete when it ends with %s', async (_, events) => {
    backend(0).script({ events, ...CLOSE });
    const answer = await ended(chatOnWire(gateway, 'gpt-4o'));
    expect([answer.body.toString() === bytes(events), answer.isWhole]).toEqual([true, true]);
  });

  const LONG = JSON.stringify({ object: 'chat.completion', choices: ['x'.repeat(200_000)] });
  const post = (behaviour: Behaviour): Wire => {
    backend(0).script(behaviour);
    return new Wire(gateway, '/openai/v1/chat/completions', { body: chatBody('gpt-4o') });
  };

  test('is complete when it is whole JSON, and is cut when it is half of it', async () => {
    const whole = await post({ body: LONG, framing: 'close' }).end();
    expect([whole.body.toString() === LONG, whole.isWhole]).toEqual([true, true]);
    const half = LONG.slice(0, 150_000);
    const cut = await post({ body: half, framing: 'close' }).waitForClose();
    expect([cut.body.toString() === half, cut.isWhole]).toEqual([true, false]);
  });
});
