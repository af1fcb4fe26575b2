/** What breaks after output has been sent breaks for the client too, visibly, and nothing is generated a second time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { eventText } from '../support/mock-azure-openai/behaviour.ts';
import type { Behaviour, StreamEvent } from '../support/mock-azure-openai/server.ts';
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

/** Streams that break after two events, and what of them the client gets. */
const BROKEN: readonly (readonly [what: string, behaviour: () => Behaviour, read: string])[] = [
  ['the connection ends', () => ({ events: [...TEXT, chatText('!')], gapMs: 30, cutAfter: 3 }), bytes(TEXT)],
  [
    'the connection ends within an event',
    () => ({ events: [...TEXT, 'data: {"choices":[{"del'], gapMs: 30, cutAfter: 4 }),
    `${bytes(TEXT)}data: {"choices":[{"del`,
  ],
  ['nothing comes any more', () => ({ events: andThenNothing(TEXT) }), bytes(TEXT)],
  [
    'the connection ends before the length that was said',
    () => ({
      events: TEXT,
      headers: { 'Content-Length': '100000' },
      framing: 'content-length',
      cutAfter: 3,
      gapMs: 30,
    }),
    bytes(TEXT),
  ],
  [
    'leading events were held and sent, then the connection ends',
    () => ({ events: [chatPrelude, chatPrelude, chatPrelude], gapMs: 300, cutAfter: 2 }),
    bytes([chatPrelude, chatPrelude]),
  ],
];

describe.skipIf(cannotRunGatewayTests('broken streams'))('broken streams', () => {
  beforeAll(start, CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test.each(BROKEN)(
    '%s: the client’s connection is cut, and there is no second call',
    async (_, behaviour, read) => {
      backend(0).script(behaviour());
      const answer = await chatOnWire(gateway, 'gpt-4o').waitForClose();
      expect(answer.status).toBe(200);
      expect(answer.body.toString()).toBe(read);
      expect(answer.isWhole).toBe(false);
      expect(calls(gateway)).toEqual([1, 0]);
    },
  );

  test.each(BROKEN)('%s: the official client throws', async (_, behaviour) => {
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
  ])('a body %s that ends early: the same', async (_, behaviour) => {
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

  test('it is an error in the log, which names the backend', async () => {
    backend(0).script({ events: TEXT, gapMs: 30, cutAfter: 2 });
    await chatOnWire(gateway, 'gpt-4o').waitForClose();
    expect(await logged(gateway, 'error', 'backend backend-0 broke off')).not.toEqual([]);
  });

  test('a stream that is whole leaves the client’s connection open', async () => {
    backend(0).script({ events: TEXT });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await wire.end();
    await sleep(200);
    expect(wire.closed).toBe(false);
    wire.leave();
  });
});

describe.skipIf(cannotRunGatewayTests('clients that go away'))('a client goes away', () => {
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

  test('while it waits for headers', async () => {
    backend(0).script({ delayMs: 900 });
    const wire = chatOnWire(gateway, 'gpt-4o', {});
    await backend(0).waitForRequests(1);
    await sleep(100);
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test('while leading events are held', async () => {
    backend(0).script({ events: [chatPrelude, chatPrelude, chatPrelude], gapMs: 900 });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await backend(0).waitForRequests(1);
    await sleep(100);
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test.each([
    ['in the midst of a stream', 20],
    ['in the midst of a stream that pauses', 900],
  ])('%s', async (_, gapMs) => {
    backend(0).script({ events: Array.from({ length: 1_000 }, (_, index) => chatText(`<${index}>`)), gapMs });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await wire.waitFor('<0>');
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test('in the midst of a body', async () => {
    const pieces = Array.from({ length: 1_000 }, () => 'x'.repeat(1_000));
    backend(0).script({ events: pieces, gapMs: 20, headers: { 'Content-Type': 'application/json' } });
    const wire = chatOnWire(gateway, 'gpt-4o', {});
    await wire.waitFor('xxxx');
    const left = performance.now();
    wire.leave();
    await expectCancelled(left);
  });

  test('between two attempts: the next backend is not called', async () => {
    backend(0).script({ status: 503, delayMs: 500 });
    const wire = chatOnWire(gateway, 'gpt-4o', {});
    await backend(0).waitForRequests(1);
    wire.leave();
    await sleep(900);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('the official client stops by itself', async () => {
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

  test('none of it is an error of the gateway', async () => {
    expect((await gateway.apisix.log()).split('\n').filter((line) => /\[(error|crit)\]/.test(line))).toEqual(
      [],
    );
  });
});
