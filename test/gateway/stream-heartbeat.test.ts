/** AI_PROXY_STREAM_HEARTBEAT: a comment for each pause of a stream, between events only. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventText } from '../../compiler/mock/behaviour.ts';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import {
  backendOf,
  chatBody,
  chatOnWire,
  chatPrelude,
  chatText,
  inOrder,
  NO_COOLDOWN,
  resetMocks,
  Wire,
} from '../support/traffic.ts';

let gateway: Gateway;
const start = (settings: Record<string, string>) => async () => {
  gateway = await startGateway({
    settings: { ...inOrder(2), ...NO_COOLDOWN, AI_PROXY_STREAM_HOLD: '300ms', ...settings },
  });
};
const backend = (index: number) => backendOf(gateway, index);
const bytes = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const DONE = 'data: [DONE]\n\n';
const PING = ': ping\n\n';

/** Builds a stream from events and pauses in milliseconds. */
function stream(...pieces: readonly (StreamEvent | number)[]): Behaviour {
  async function* events() {
    for (const piece of pieces) {
      if (typeof piece === 'number') await pause(piece);
      else yield piece;
    }
  }
  return { events: events(), done: false };
}

const count = (text: string) => text.split(PING).length - 1;

describe.skipIf(cannotRunGatewayTests('heartbeats'))('AI_PROXY_STREAM_HEARTBEAT=1s', () => {
  beforeAll(start({ AI_PROXY_STREAM_HEARTBEAT: '1s', AI_PROXY_READ_TIMEOUT: '6s' }), CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test('sends a comment for each second of silence and leaves the events unchanged', async () => {
    backend(0).script(stream(chatText('a'), 2_500, chatText('b'), DONE));
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.body.toString()).toBe(
      `${bytes([chatText('a')])}${PING}${PING}${bytes([chatText('b'), DONE])}`,
    );
    expect(answer.isWhole).toBe(true);
  });

  test('sends comments while a model is thinking, once the head was sent', async () => {
    backend(0).script(stream(chatPrelude, 2_900, chatText('a'), DONE));
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(count(answer.body.toString())).toBe(2);
    expect(answer.body.toString().replaceAll(PING, '')).toBe(bytes([chatPrelude, chatText('a'), DONE]));
  });

  test('is invisible to the official client', async () => {
    backend(0).script(stream(chatPrelude, 1_500, chatText('Hel'), 1_500, chatText('lo'), DONE));
    const chat = await gateway
      .openai()
      .chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'x' }], stream: true });
    let text = '';
    for await (const chunk of chat) text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe('Hello');
  });

  test('sends no comment within an event', async () => {
    const pieces = ['data: {"choices":[{"delta":{"content":"a"', '}}]}\n\n'] as const;
    backend(0).script(stream(chatText('a'), pieces[0], 2_500, pieces[1], DONE));
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.body.toString()).toBe(`${bytes([chatText('a')])}${pieces.join('')}${DONE}`);
  });

  test('sends no comment after the last event', async () => {
    backend(0).script(stream(chatText('a'), DONE, 3_000));
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.body.toString()).toBe(bytes([chatText('a'), DONE]));
  });

  test('does not keep a dead stream alive', async () => {
    backend(0).script(stream(chatText('a'), 20_000));
    const answer = await chatOnWire(gateway, 'gpt-4o').waitForClose(10_000);
    expect(answer.isWhole).toBe(false);
    expect(count(answer.body.toString())).toBe(5);
  });

  test('sends nothing before a backend answers, or in answers that are no streams', async () => {
    backend(0).script({ delayMs: 2_500, status: 503 });
    backend(1).script({
      ...stream('{"choices":', 2_500, '[]}'),
      headers: { 'Content-Type': 'application/json' },
    });
    const wire = new Wire(gateway, '/openai/v1/chat/completions', { body: chatBody('gpt-4o') });
    await pause(2_000);
    expect(wire.answer().head).toBe('');
    expect((await wire.end()).body.toString()).toBe('{"choices":[]}');
  });

  test('sends nothing in an encoded stream', async () => {
    backend(0).script({ ...stream('abc', 2_500, 'def'), headers: { 'Content-Encoding': 'gzip' } });
    expect((await chatOnWire(gateway, 'gpt-4o').end()).body.toString()).toBe('abcdef');
  });
});

describe.skipIf(cannotRunGatewayTests('no heartbeats'))('without AI_PROXY_STREAM_HEARTBEAT', () => {
  beforeAll(start({}), CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('adds nothing to a silent stream', async () => {
    backend(0).script(stream(chatText('a'), 2_500, chatText('b'), DONE));
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.body.toString()).toBe(bytes([chatText('a'), chatText('b'), DONE]));
  });
});
