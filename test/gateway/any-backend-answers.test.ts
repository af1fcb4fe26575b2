/**
 * Generated answers of backends, in any order and cut anywhere: the client gets a whole answer of one backend, a visibly
 * truncated answer, or an error with a true delay.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventText } from '../../compiler/mock/behaviour.ts';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { calls, inOrder, NO_COOLDOWN, resetMocks, Wire, type WireAnswer } from '../support/traffic.ts';

const SEED = Number(process.env.ANSWERS_SEED ?? 20261201);
const RUNS = Number(process.env.ANSWERS_RUNS ?? 250);
const BACKENDS = 3;
const HOLD_MS = 300;

type Api = 'chat' | 'responses';
interface Request {
  readonly api: Api;
  readonly stream: boolean;
}

/** How a backend answers. */
interface Answer {
  readonly what: string;
  readonly behaviour: (of: Context) => Behaviour;
  /** What the gateway must do: try the next backend, or give the client this answer, whole, truncated or as an error. */
  readonly means: 'next' | 'whole' | 'truncated' | 'error';
  /** Whether the client gets the head of the stream before the verdict is known. */
  readonly opens?: boolean;
  /** The delay in seconds that the answer asks for. */
  readonly delay?: number;
}
interface Context extends Request {
  readonly name: string;
}

const text = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');
const typed = (type: string, fields: object): StreamEvent => ({ event: type, data: { type, ...fields } });

const preamble = ({ api, name }: Context): StreamEvent[] =>
  api === 'chat'
    ? [{ data: { choices: [], prompt_filter_results: [], preamble: name } }]
    : [typed('response.created', { response: { id: `resp_${name}`, error: null } })];
const output = ({ api, name }: Context): StreamEvent[] =>
  ['one', 'two', 'three'].map((word) =>
    api === 'chat'
      ? { data: { choices: [{ index: 0, delta: { content: `${word} of ${name}` } }] } }
      : typed('response.output_text.delta', { delta: `${word} of ${name}` }),
  );
const ending = ({ api, name }: Context): StreamEvent[] =>
  api === 'chat'
    ? [{ data: { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] } }, 'data: [DONE]\n\n']
    : [typed('response.completed', { response: { id: `resp_${name}` } })];
const goodEvents = (of: Context) => [...preamble(of), ...output(of), ...ending(of)];
const goodBody = ({ api, name }: Context) =>
  api === 'chat'
    ? { choices: [], served_by: name }
    : { object: 'response', status: 'completed', served_by: name };

/** The text that the client must receive when this backend's answer is used. */
const wholeText = (of: Context) => (of.stream ? text(goodEvents(of)) : JSON.stringify(goodBody(of)));

/** Ways of sending that must not change the verdict. */
const sending = fc.constantFrom<Partial<Behaviour>>(
  {},
  { splitBytes: 1 },
  { splitBytes: 17 },
  { framing: 'close' },
  { framing: 'content-length' },
  { framing: 'chunked' },
);

const good: fc.Arbitrary<Answer> = sending.map((way) => ({
  what: `good ${JSON.stringify(way)}`,
  means: 'whole',
  behaviour: (of) => ({
    ...(of.stream ? { events: goodEvents(of), done: false } : { body: goodBody(of) }),
    ...way,
  }),
}));

const failure: fc.Arbitrary<Answer> = fc
  .record({
    status: fc.constantFrom(408, 429, 500, 502, 503, 504, 403),
    delay: fc.option(fc.integer({ min: 5, max: 60 }), { nil: undefined }),
    inWords: fc.boolean(),
    way: sending,
  })
  .map(({ status, delay, inWords, way }) => ({
    what: `status ${status} delay ${delay}${inWords ? ' in words' : ''} ${JSON.stringify(way)}`,
    means: 'next',
    ...(delay !== undefined && status !== 403 ? { delay } : {}),
    behaviour: () => ({
      status,
      ...(delay === undefined || inWords ? {} : { headers: { 'Retry-After': String(delay) } }),
      body: {
        error: {
          code: String(status),
          message: inWords ? `Try again in ${delay ?? 'some'} seconds.` : 'No.',
        },
      },
      ...way,
    }),
  }));

const refused: fc.Arbitrary<Answer> = fc
  .record({
    code: fc.constantFrom(
      'too_many_requests',
      'ServerError',
      'no-capacity',
      'overloaded_error',
      '503',
      'RATE_LIMIT',
    ),
    delay: fc.option(fc.integer({ min: 5, max: 60 }), { nil: undefined }),
    framing: fc.constantFrom('nested', 'flat', 'failed', 'failed, then error'),
    isLate: fc.boolean(),
    way: fc.constantFrom<Partial<Behaviour>>({}, { splitBytes: 1 }, { lineEnd: '\r\n' }, { lineEnd: '\r' }),
  })
  .map(({ code, delay, framing, isLate, way }) => {
    const message = delay === undefined ? 'No.' : `Please retry after ${delay} seconds.`;
    const error = { code, message };
    const failed = (reason: object | null) =>
      typed('response.failed', { response: { status: 'failed', error: reason } });
    const said: Record<string, StreamEvent[]> = {
      nested: [{ data: { error } }],
      flat: [typed('error', error)],
      failed: [failed(error)],
      'failed, then error': [failed(null), typed('error', { error })],
    };
    return {
      what: `refused ${code} ${framing} delay ${delay} ${JSON.stringify(way)}${isLate ? ' late' : ''}`,
      means: 'next',
      opens: isLate,
      ...(delay === undefined ? {} : { delay }),
      behaviour: (of) => {
        if (!of.stream) return { body: { object: 'response', status: 'failed', error, output: [] } };
        const events = [...preamble(of), ...(said[framing] ?? [])];
        return { events: isLate ? lately(events) : events, done: false, ...way };
      },
    };
  });

async function* lately([first = '', ...rest]: readonly StreamEvent[]) {
  yield first;
  await new Promise((resolve) => setTimeout(resolve, HOLD_MS * 2));
  yield* rest;
}

const silent: fc.Arbitrary<Answer> = fc
  .constantFrom<readonly [string, (of: Context) => Behaviour]>(
    ['no byte', ({ stream }) => (stream ? { events: [], done: false } : { body: '', headers: JSON_TYPE })],
    ['a length of 0', ({ stream }) => ({ body: '', headers: stream ? STREAM_TYPE : JSON_TYPE })],
    [
      'a preamble',
      (of) => (of.stream ? { events: preamble(of), done: false } : { body: '  ', headers: JSON_TYPE }),
    ],
    ['a reset before its head', () => ({ reset: 'before-headers' })],
    [
      'a reset after its head',
      (of) => ({ ...(of.stream ? { events: [] } : { body: goodBody(of) }), reset: 'after-headers' }),
    ],
    [
      'an end in the preamble',
      (of) =>
        of.stream ? { events: preamble(of), cutAfter: 1, done: false } : { body: goodBody(of), cutAfter: 9 },
    ],
    [
      'half a text',
      (of) =>
        of.stream ? { events: ['data: {"choi'], done: false } : { body: '{"choices":[', framing: 'close' },
    ],
    [
      'comments',
      ({ stream }) =>
        stream
          ? { events: [': a\n\n', 'event: ping\ndata: {}\n\n'], done: false }
          : { body: '', headers: JSON_TYPE },
    ],
  )
  .map(([what, behaviour]) => ({ what: `silent: ${what}`, means: 'next', behaviour }));
const STREAM_TYPE = { 'Content-Type': 'text/event-stream' };
const JSON_TYPE = { 'Content-Type': 'application/json' };

const truncated: fc.Arbitrary<Answer> = fc
  .constantFrom<Partial<Behaviour>>({}, { framing: 'close' }, { splitBytes: 5 })
  .map((way) => ({
    what: `truncated ${JSON.stringify(way)}`,
    means: 'truncated',
    behaviour: (of) =>
      of.stream
        ? {
            events: [...preamble(of), ...output(of)],
            cutAfter: preamble(of).length + 2,
            gapMs: 2,
            done: false,
            ...way,
          }
        : { body: `{"choices":[{"text":"of ${of.name}${'x'.repeat(200_000)}`, framing: 'close' },
  }));

const faulty: fc.Arbitrary<Answer> = fc
  .record({
    inStream: fc.boolean(),
    code: fc.constantFrom('content_filter', 'InvalidPrompt', 'context_length_exceeded'),
  })
  .map(({ inStream, code }) => ({
    what: `fault ${code}${inStream ? ' in the answer' : ''}`,
    means: inStream ? 'whole' : 'error',
    behaviour: (of) => {
      const error = { code, message: `of ${of.name}` };
      if (!inStream) return { status: 400, body: { error } };
      if (!of.stream) return { body: { object: 'response', status: 'failed', error, output: [] } };
      return { events: [...preamble(of), typed('error', { error })], done: false };
    },
  }));

const answer = fc.oneof(
  { weight: 2, arbitrary: good },
  { weight: 3, arbitrary: failure },
  { weight: 3, arbitrary: refused },
  { weight: 3, arbitrary: silent },
  { weight: 1, arbitrary: truncated },
  { weight: 1, arbitrary: faulty },
);

const PATHS = { chat: '/openai/v1/chat/completions', responses: '/openai/v1/responses' };

/** The names of the backends whose output is in a text. */
const spoken = (body: string): string[] =>
  ['b0', 'b1', 'b2'].filter((name) => body.includes(`of ${name}`) || body.includes(`"served_by":"${name}"`));

function expectVisibleError(got: WireAnswer): void {
  expect(got.isWhole).toBe(false);
  const last =
    got.body
      .toString()
      .trimEnd()
      .split(/\r\n|\r|\n/)
      .at(-1) ?? '';
  expect(JSON.parse(last.replace(/^data: /, ''))).toMatchObject({ error: { message: expect.any(String) } });
}

function expectError(got: WireAnswer, delays: readonly number[], tookS: number): void {
  expect(got.isWhole).toBe(true);
  expect(JSON.parse(got.body.toString())).toMatchObject({ error: { message: expect.any(String) } });
  const told = /^retry-after: (\d+)/im.exec(got.head)?.[1];
  if (told === undefined) return;
  const shortest = Math.min(...delays);
  expect(Number(told)).toBeLessThanOrEqual(shortest);
  expect(Number(told)).toBeGreaterThanOrEqual(shortest - Math.ceil(tookS) - 1);
}

describe.skipIf(cannotRunGatewayTests('any answers of backends'))('whatever backends answer', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: Array.from({ length: BACKENDS }, () => ({})),
      settings: { ...inOrder(BACKENDS), ...NO_COOLDOWN, AI_PROXY_STREAM_HOLD: `${HOLD_MS}ms` },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  async function check(request: Request, answers: readonly Answer[]): Promise<void> {
    resetMocks(gateway);
    const contexts = answers.map((_, index): Context => ({ ...request, name: `b${index}` }));
    answers.forEach(({ behaviour }, index) => {
      // A reset on a reused connection would lead to one more attempt.
      gateway.mocks[index]?.script({ ...behaviour(contexts[index] as Context), closeConnection: true });
    });
    const began = performance.now();
    const body = JSON.stringify({ model: 'gpt-4o', stream: request.stream, input: 'x', messages: [] });
    const wire = new Wire(gateway, PATHS[request.api], { body, headers: { Connection: 'close' } });
    const got = await wire.waitForClose(20_000);
    const tookS = (performance.now() - began) / 1_000;

    const last = answers.findIndex(({ means }) => means !== 'next');
    const tried = last < 0 ? answers : answers.slice(0, last + 1);
    // On a busy machine a stream sent byte by byte can take longer than the preamble hold.
    const isOpen =
      request.stream &&
      (tried.slice(0, last < 0 ? undefined : last).some(({ opens }) => opens) ||
        (answers[last]?.means !== 'whole' && got.status === 200));
    expect(calls(gateway)).toEqual(answers.map((_, index) => (index < tried.length ? 1 : 0)));
    expect([got.status === 200, got.body.length]).not.toEqual([true, 0]);
    const final = answers[last];
    const of = contexts[last];
    const sent = got.body.toString();
    if (final === undefined || of === undefined) {
      const delays = answers.flatMap(({ delay }) => (delay === undefined ? [] : [delay]));
      if (isOpen) expectVisibleError(got);
      else {
        expect(got.status).toBeGreaterThanOrEqual(400);
        expectError(got, delays, tookS);
      }
      return;
    }
    expect(spoken(sent)).toEqual([of.name]);
    if (final.means === 'whole') {
      expect([got.status, got.isWhole]).toEqual([200, true]);
      if (final.what.startsWith('good')) expect(sent.endsWith(wholeText(of))).toBe(true);
      if (last === 0 && final.what.startsWith('good')) expect(sent).toBe(wholeText(of));
    } else if (final.means === 'truncated') {
      expect([got.status, got.isWhole]).toEqual([200, false]);
    } else if (isOpen) {
      expectVisibleError(got);
    } else {
      expect([got.status, got.isWhole]).toEqual([400, true]);
    }
  }

  test(`the client gets a whole answer of one backend, a visibly truncated one, or an error with a true delay (seed ${SEED})`, {
    timeout: 300_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({ api: fc.constantFrom<Api>('chat', 'responses'), stream: fc.boolean() }),
        fc.array(answer, { minLength: BACKENDS, maxLength: BACKENDS }),
        check,
      ),
      {
        seed: SEED,
        numRuns: RUNS,
        endOnFailure: true,
        reporter: (details) => {
          if (!details.failed) return;
          const [request, answers] = details.counterexample ?? [];
          throw new Error(
            `seed ${details.seed}, ${JSON.stringify(request)}: ${answers?.map(({ what }) => what).join(' | ')}\n${details.errorInstance}`,
          );
        },
      },
    );
  });
});
