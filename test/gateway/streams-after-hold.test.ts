/**
 * A stream whose preamble hold has ended: the client gets the head and those events that may be repeated. Until the first
 * output another backend may still answer under that head. If none does, the stream ends with an error and is cut.
 */
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
  until,
  Wire,
} from '../support/traffic.ts';

let gateway: Gateway;
const backend = (index: number) => backendOf(gateway, index);
const bytes = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');

const HOLD_MS = 300;
const GOOD: readonly StreamEvent[] = [chatPrelude, chatText('Hello'), 'data: [DONE]\n\n'];

const event = (type: string, fields: object = {}): StreamEvent => ({
  event: type,
  data: { type, ...fields },
});
const created = (id: string) =>
  event('response.created', {
    response: { id, object: 'response', status: 'in_progress', output: [], error: null },
  });
const item = event('response.output_item.added', {
  output_index: 0,
  item: { id: 'msg_1', type: 'message', role: 'assistant', status: 'in_progress', content: [] },
});
const part = event('response.content_part.added', {
  item_id: 'msg_1',
  output_index: 0,
  content_index: 0,
  part: { type: 'output_text', text: '', annotations: [] },
});
const delta = event('response.output_text.delta', {
  item_id: 'msg_1',
  output_index: 0,
  content_index: 0,
  delta: 'Hello',
});
const completed = (id: string) =>
  event('response.completed', {
    response: {
      id,
      object: 'response',
      status: 'completed',
      output: [
        {
          id: 'msg_1',
          type: 'message',
          role: 'assistant',
          status: 'completed',
          content: [{ type: 'output_text', text: 'Hello', annotations: [] }],
        },
      ],
      usage: { input_tokens: 1, output_tokens: 2, total_tokens: 3 },
    },
  });
const ANSWER = [created('resp_b'), item, part, delta, completed('resp_b')];

const silence = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Events, then a pause longer than the hold, then more events. */
function slowly(
  first: readonly StreamEvent[],
  rest: readonly StreamEvent[],
  more: Behaviour = {},
): Behaviour {
  async function* events() {
    yield* first;
    await silence(HOLD_MS * 3);
    yield* rest;
  }
  return { events: events(), done: false, ...more };
}

const responsesOnWire = () =>
  new Wire(gateway, '/openai/v1/responses', {
    body: JSON.stringify({ model: 'gpt-4o', input: 'x', stream: true }),
  });

const THROTTLED = event('error', {
  error: { type: 'too_many_requests', code: 'no_capacity', message: 'High demand. Try again in 26 seconds.' },
});

/** How a stream can fail after the client got its head and before there is output. */
const FAILING: readonly (readonly [what: string, behaviour: () => Behaviour])[] = [
  ['is refused', () => slowly([created('resp_a')], [item, THROTTLED])],
  ['is refused a byte at a time', () => slowly([created('resp_a')], [item, THROTTLED], { splitBytes: 1 })],
  ['ends', () => slowly([created('resp_a')], [item, part])],
  ['breaks off', () => slowly([created('resp_a')], [item, part], { cutAfter: 3 })],
  ['says nothing more', () => ({ events: andThenNothing([created('resp_a'), item]), done: false })],
];

async function* andThenNothing(events: readonly StreamEvent[]) {
  yield* events;
  await new Promise(() => undefined);
}

describe.skipIf(cannotRunGatewayTests('streams whose hold is over'))('a stream after its hold', () => {
  beforeAll(async () => {
    gateway = await startGateway({
      adapt: quickMetrics,
      settings: {
        ...inOrder(2),
        ...NO_COOLDOWN,
        AI_PROXY_STREAM_HOLD: `${HOLD_MS}ms`,
        AI_PROXY_READ_TIMEOUT: '2s',
        GATEWAY_BACKEND_HEADER: 'true',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test('has its head sent, even without any event', async () => {
    backend(0).script(slowly([], GOOD));
    const began = performance.now();
    const wire = chatOnWire(gateway, 'gpt-4o');
    await until(() => wire.answer().head !== '');
    const took = performance.now() - began;
    expect(took).toBeGreaterThan(HOLD_MS - 50);
    expect(took).toBeLessThan(HOLD_MS * 2.5);
    const { head, raw } = wire.answer();
    expect(head).toMatch(/^HTTP\/1.1 200 /);
    expect(head).toMatch(/content-type: text\/event-stream/i);
    expect(raw).toHaveLength(0);
    const answer = await wire.end();
    expect([answer.body.toString(), answer.isWhole]).toEqual([bytes(GOOD), true]);
  });

  test('has its repeatable events sent, and the others with the first output', async () => {
    backend(0).script(slowly([created('resp_a'), item, part], [delta, completed('resp_a')]));
    const wire = responsesOnWire();
    await wire.waitFor('response.created');
    await silence(HOLD_MS);
    expect(wire.text).toBe(bytes([created('resp_a')]));
    const answer = await wire.end();
    expect(answer.body.toString()).toBe(bytes([created('resp_a'), item, part, delta, completed('resp_a')]));
    expect(answer.isWhole).toBe(true);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test.each(FAILING)("that %s is followed by another backend's complete stream", async (_, behaviour) => {
    backend(0).script(behaviour());
    backend(1).script({ events: ANSWER, done: false });
    const answer = await responsesOnWire().end();
    expect([answer.status, answer.isWhole]).toEqual([200, true]);
    expect(answer.body.toString()).toBe(bytes([created('resp_a'), ...ANSWER]));
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test.each(FAILING)('that %s gives the official client one complete answer', async (_, behaviour) => {
    backend(0).script(behaviour());
    backend(1).script({ events: ANSWER, done: false });
    const stream = gateway.openai().responses.stream({ model: 'gpt-4o', input: 'x' });
    const final = await stream.finalResponse();
    expect(final.output_text).toBe('Hello');
    expect(final.output).toHaveLength(1);
  });

  test.each(FAILING)('that %s at every backend ends with an API error and is cut', async (_, behaviour) => {
    backend(0).script(behaviour());
    backend(1).script({
      status: 429,
      body: { error: { code: '429', message: 'Please retry after 26 seconds.' } },
    });
    const answer = await responsesOnWire().waitForClose();
    expect([answer.status, answer.isWhole]).toEqual([200, false]);
    const [name, data = ''] = answer.body.toString().split('\n\n').at(-2)?.split('\n') ?? [];
    expect(name).toBe('event: error');
    const error = { code: '429', message: 'Please retry after 26 seconds.' };
    expect(JSON.parse(data.slice('data: '.length))).toMatchObject({ type: 'error', ...error, error });
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test('of a chat ends with an error in the chat format that the official client throws, with the delay in its message', async () => {
    const begin = () => {
      backend(0).script(slowly([chatPrelude], []));
      backend(1).script({ status: 429, body: 'Slow down.', headers: { 'Retry-After': '26' } });
    };
    begin();
    const answer = await chatOnWire(gateway, 'gpt-4o').waitForClose();
    const last = answer.body.toString().split('\n\n').at(-2) ?? '';
    expect(JSON.parse(last.slice('data: '.length))).toEqual({
      error: {
        code: 'rate_limit_exceeded',
        type: 'rate_limit_error',
        param: null,
        message: expect.stringMatching(/Try again in 2[56] seconds\.$/),
      },
    });
    begin();
    const read = async () => {
      const stream = await gateway.openai().chat.completions.create({
        model: 'gpt-4o',
        messages: [{ role: 'user', content: 'x' }],
        stream: true,
      });
      for await (const chunk of stream) void chunk;
    };
    await expect(read()).rejects.toThrow(/Try again in 2[56] seconds/);
  });

  test('ends with the error of a second backend that finds the request invalid', async () => {
    backend(0).script(slowly([chatPrelude], []));
    backend(1).script({ status: 400, body: { error: { code: 'content_filter', message: 'Filtered.' } } });
    const answer = await chatOnWire(gateway, 'gpt-4o').waitForClose();
    expect(answer.isWhole).toBe(false);
    expect(answer.body.toString()).toContain('data: {"error":{');
    expect(answer.body.toString()).toContain('Filtered.');
  });

  test('does not keep the Content-Length of the first backend', async () => {
    const text = bytes([chatPrelude]);
    backend(0).script(slowly([text], [], { headers: { 'Content-Length': '500' } }));
    backend(1).script({ events: GOOD, done: false });
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.head).not.toMatch(/content-length/i);
    expect([answer.body.toString(), answer.isWhole]).toEqual([text + bytes(GOOD), true]);
  });

  test('logs both backends, and counts the failover or the reason why none served it', async () => {
    backend(0).script(slowly([], []), slowly([chatPrelude], []));
    backend(1).script({ events: GOOD, done: false }, { status: 503 });
    await chatOnWire(gateway, 'saved').end();
    await chatOnWire(gateway, 'lost').waitForClose();
    const lines = await gateway.accessLog();
    const line = (model: string) => lines.find((each) => each.requested_model === model);
    expect(line('saved')).toMatchObject({
      status: '200',
      failover: 'saved',
      backend: 'backend-1',
      error: '',
    });
    expect(line('saved')?.attempts).toMatch(/^backend-0:200:\w+:\d+ backend-1:200:ok:\d+$/);
    expect(line('lost')).toMatchObject({ status: '200', failover: 'failed', error_source: 'gateway' });
    expect(line('lost')?.error).not.toBe('');
    const metrics = await gateway.metrics();
    expect(metrics).toMatch(/apisix_genai_failovers_total\{node="backend-1",request_llm_model="saved",/);
    expect(metrics).toMatch(/apisix_genai_unserved_requests_total\{[^}]*reason="server_error"\} 1/);
  });

  test('is cancelled when the client disconnects', async () => {
    backend(0).script({ events: andThenNothing([chatPrelude]), done: false });
    const wire = chatOnWire(gateway, 'gpt-4o');
    await wire.waitFor('prompt_filter_results');
    wire.leave();
    const [request] = backend(0).requests;
    await until(() => request?.endedAt !== undefined, 1_500);
    expect(request?.state).toBe('aborted');
    expect(calls(gateway)).toEqual([1, 0]);
  });
});
