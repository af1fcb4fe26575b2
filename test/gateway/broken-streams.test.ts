/** When a backend breaks off after the first output, the client sees a broken answer, and no other backend is called. */
import { setTimeout as sleep } from 'node:timers/promises';
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
  chatPrelude,
  chatText,
  inOrder,
  logged,
  NO_COOLDOWN,
  resetMocks,
  until,
  Wire,
} from '../support/traffic.ts';

let gateway: Gateway;
const start = async () => {
  gateway = await startGateway({
    settings: { ...inOrder(2), ...NO_COOLDOWN, AI_PROXY_READ_TIMEOUT: '1s', AI_PROXY_STREAM_HOLD: '200ms' },
  });
};
const stop = () => gateway?.stop();
const backend = (index: number) => backendOf(gateway, index);
const bytes = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');

const MESSAGES = [{ role: 'user' as const, content: 'Hello' }];
const TEXT = [chatPrelude, chatText('Hello'), chatText(' there')];

async function* andThenNothing(events: readonly StreamEvent[]) {
  yield* events;
  await new Promise(() => undefined);
}

/** Streams that break after two events, and the bytes that the client receives. */
const BROKEN: readonly (readonly [what: string, behaviour: () => Behaviour, read: string])[] = [
  ['the connection ends', () => ({ events: [...TEXT, chatText('!')], gapMs: 30, cutAfter: 3 }), bytes(TEXT)],
  [
    'the connection ends within an event',
    () => ({ events: [...TEXT, 'data: {"choices":[{"del'], gapMs: 30, cutAfter: 4 }),
    `${bytes(TEXT)}data: {"choices":[{"del`,
  ],
  ['no more events come', () => ({ events: andThenNothing(TEXT) }), bytes(TEXT)],
  [
    'the connection ends before the announced length',
    () => ({
      events: TEXT,
      headers: { 'Content-Length': '100000' },
      framing: 'content-length',
      cutAfter: 3,
      gapMs: 30,
    }),
    bytes(TEXT),
  ],
];

describe.skipIf(cannotRunGatewayTests('broken streams'))('broken streams', () => {
  beforeAll(start, CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test.each(BROKEN)(
    "cuts the client's connection without a second call when %s",
    async (_, behaviour, read) => {
      backend(0).script(behaviour());
      const answer = await chatOnWire(gateway, 'gpt-4o').waitForClose();
      expect(answer.status).toBe(200);
      expect(answer.body.toString()).toBe(read);
      expect(answer.isWhole).toBe(false);
      expect(calls(gateway)).toEqual([1, 0]);
    },
  );

  test.each(BROKEN)('makes the official client throw when %s', async (_, behaviour) => {
    backend(0).script(behaviour());
    const read = async () => {
      const stream = await gateway
        .openai()
        .chat.completions.create({ model: 'gpt-4o', messages: MESSAGES, stream: true });
      for await (const chunk of stream) void chunk;
    };
    await expect(read()).rejects.toThrow();
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test.each<[string, Behaviour]>([
    ['with a length', { framing: 'content-length' }],
    ['in chunks', { framing: 'chunked' }],
  ])('does the same for a body %s that ends early', async (_, behaviour) => {
    const body = JSON.stringify({ object: 'chat.completion', filler: 'x'.repeat(300_000) });
    backend(0).script({ ...behaviour, body, cutAfter: 200_000 });
    const wire = new Wire(gateway, '/openai/v1/chat/completions', { body: chatBody('gpt-4o') });
    const answer = await wire.waitForClose();
    expect(answer.status).toBe(200);
    expect(answer.body.toString()).toBe(body.slice(0, 200_000));
    expect(answer.isWhole).toBe(false);
    expect(calls(gateway)).toEqual([1, 0]);

    backend(0).script({ ...behaviour, body, cutAfter: 200_000 });
    await expect(
      gateway.openai().chat.completions.create({ model: 'gpt-4o', messages: MESSAGES }),
    ).rejects.toThrow();
    expect(calls(gateway)).toEqual([2, 0]);
  });

  test('logs an error that names the backend', async () => {
    backend(0).script({ events: TEXT, gapMs: 30, cutAfter: 2 });
    await chatOnWire(gateway, 'gpt-4o').waitForClose();
    expect(await logged(gateway, 'error', 'backend backend-0 broke off')).not.toEqual([]);
  });

  test("keeps the client's connection open after a complete stream", async () => {
    backend(0).script({ events: TEXT });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await wire.end();
    await sleep(200);
    expect(wire.closed).toBe(false);
    wire.leave();
  });
});

describe.skipIf(cannotRunGatewayTests('clients that go away'))('a client that disconnects', () => {
  beforeAll(start, CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  async function expectCancelled(left: number): Promise<void> {
    const [request] = backend(0).requests;
    await until(() => request?.endedAt !== undefined, 3_000);
    expect(request?.state).toBe('aborted');
    expect((request?.endedAt ?? 0) - left).toBeLessThan(2_000);
    await sleep(300);
    expect(calls(gateway)).toEqual([1, 0]);
    expect(await gateway.chat('gpt-4o')).toMatchObject({ status: 200 });
    expect(calls(gateway)).toEqual([2, 0]);
  }

  test('while waiting for headers cancels the request', async () => {
    backend(0).script({ delayMs: 900 });
    const wire = chatOnWire(gateway, 'gpt-4o', {});
    await backend(0).waitForRequests(1);
    await sleep(100);
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test('during the preamble hold cancels the request', async () => {
    backend(0).script({ events: [chatPrelude, chatPrelude, chatPrelude], gapMs: 900 });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await backend(0).waitForRequests(1);
    await sleep(100);
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test.each([
    ['in the middle of a stream', 20],
    ['in the middle of a stream that pauses', 900],
  ])('%s cancels the request', async (_, gapMs) => {
    backend(0).script({
      events: Array.from({ length: 1_000 }, (_, index) => chatText(`<${index}>`)),
      gapMs,
    });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await wire.waitFor('<0>');
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test('in the middle of a body cancels the request', async () => {
    const pieces = Array.from({ length: 1_000 }, () => 'x'.repeat(1_000));
    backend(0).script({ events: pieces, gapMs: 20, headers: { 'Content-Type': 'application/json' } });
    const wire = chatOnWire(gateway, 'gpt-4o', {});
    await wire.waitFor('xxxx');
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test('between two attempts prevents the next one', async () => {
    backend(0).script({ status: 503, delayMs: 500 });
    const wire = chatOnWire(gateway, 'gpt-4o', {});
    await backend(0).waitForRequests(1);
    wire.leave();
    await sleep(900);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('through the official client cancels the request', async () => {
    backend(0).script({
      events: Array.from({ length: 1_000 }, (_, index) => chatText(`<${index}>`)),
      gapMs: 20,
    });
    const stream = await gateway
      .openai()
      .chat.completions.create({ model: 'gpt-4o', messages: MESSAGES, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content === '<5>') break;
    }
    await expectCancelled(performance.now());
  });

  test('causes no error in the log', async () => {
    expect((await gateway.apisix.log()).split('\n').filter((line) => /\[(error|crit)\]/.test(line))).toEqual(
      [],
    );
  });
});
