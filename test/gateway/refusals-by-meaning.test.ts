/** A refusal inside a 200 is judged by its meaning: in any spelling and framing, however its bytes are cut. */
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
  Wire,
} from '../support/traffic.ts';

const RESPONSES = '/openai/v1/responses';
const GOOD: readonly StreamEvent[] = [chatPrelude, chatText('Hello'), 'data: [DONE]\n\n'];
const bytes = (events: Iterable<StreamEvent>) => [...events].map((event) => eventText(event, '\n')).join('');

let gateway: Gateway;
const start = (settings: Record<string, string>) => async () => {
  gateway = await startGateway({ settings: { ...inOrder(2), ...settings } });
};
const backend = (index: number) => backendOf(gateway, index);

/** Error codes for refusals, and the status that each stands for. */
const WORDS: readonly (readonly [word: string, status: number])[] = [
  ['too_many_requests', 429],
  ['rate_limit_exceeded', 429],
  ['rate_limit_error', 429],
  ['no_capacity', 429],
  ['insufficient_quota', 429],
  ['server_error', 500],
  ['internal_server_error', 500],
  ['service_unavailable', 503],
  ['overloaded_error', 503],
  ['engine_overloaded', 503],
  ['no_kv_space', 503],
  ['gateway_timeout', 504],
];

/** The spellings of an error code. */
function spellings(word: string): readonly string[] {
  const parts = word.split('_');
  const capital = (part: string) => part.charAt(0).toUpperCase() + part.slice(1);
  return [
    word,
    word.toUpperCase(),
    parts.map(capital).join(''),
    parts.join('-'),
    parts.map(capital).join(' '),
    (parts[0] ?? '') + parts.slice(1).map(capital).join(''),
  ];
}

/** The ways in which an error appears in a stream. */
const FRAMINGS: readonly (readonly [what: string, stream: (code: string) => Behaviour])[] = [
  ['nested', (code) => ({ events: [{ data: { error: { code, message: 'No.' } } }] })],
  ['nested, as a type', (code) => ({ events: [{ data: { error: { type: code, message: 'No.' } } }] })],
  ['named, flat', (code) => ({ events: [{ event: 'error', data: { code, message: 'No.' } }] })],
  [
    'named, a bare object whose type it is',
    (code) => ({ events: [{ event: 'error', data: { type: code, message: 'No.' } }] }),
  ],
  ['named, as text', (code) => ({ events: [{ event: 'error', data: code }] })],
  ['a text in error', (code) => ({ events: [{ data: { error: code, message: 'No.' } }] })],
  ['a bare object', (code) => ({ events: [{ data: { code, message: 'No.' } }] })],
  ['a list in error', (code) => ({ events: [{ data: { error: [{ code, message: 'No.' }] } }] })],
  ['a list of errors', (code) => ({ events: [{ data: { errors: [{ code, message: 'No.' }] } }] })],
  ['a list with the error', (code) => ({ events: [{ data: [{ error: { code, message: 'No.' } }] }] })],
  [
    'in innererror alone',
    (code) => ({ events: [{ data: { error: { code: null, message: 'No.', innererror: { code } } } }] }),
  ],
  [
    'an object that is an error',
    (code) => ({ events: [{ data: { object: 'error', message: 'No.', type: code, param: null } }] }),
  ],
  [
    'in the status of a response',
    (code) => ({
      events: [
        {
          data: {
            type: 'response.done',
            response: { status: 'failed', status_details: { error: { code } } },
          },
        },
      ],
    }),
  ],
  [
    'behind empty errors',
    (code) => ({
      events: [
        { data: { choices: [], error: '' } },
        { data: { type: 'response.in_progress', response: { id: 'resp_1', error: {} } } },
        { data: { error: { code, message: 'No.' } } },
      ],
    }),
  ],
  [
    'in the response, then nothing',
    (code) => ({
      events: [{ data: { type: 'response.failed', response: { status: 'failed', error: { code } } } }],
    }),
  ],
  [
    'behind a failure without a word',
    (code) => ({
      events: [
        { data: { type: 'response.created', response: { id: 'resp_1', error: null } } },
        { event: 'ping', data: {} },
        { data: { type: 'response.failed', response: { error: null } } },
        { event: 'error', data: { type: 'error', error: { type: code, message: 'No.' } } },
      ],
    }),
  ],
  [
    'behind pings and comments',
    (code) => ({
      events: [': hello\n\n', { data: { type: 'ping' } }, 'data:\n\n', { data: { error: { code } } }],
    }),
  ],
  ['CRLF', (code) => ({ events: [chatPrelude, { data: { error: { code } } }], lineEnd: '\r\n' })],
  ['CR', (code) => ({ events: [chatPrelude, { data: { error: { code } } }], lineEnd: '\r' })],
  [
    'a byte order mark and several lines',
    (code) => ({ events: [`\uFEFFdata: {"error":\ndata: {"code":"${code}"}}\n\n`] }),
  ],
  ['without an empty line behind it', (code) => ({ events: [`data: {"error":{"code":"${code}"}}\n`] })],
  ['no event at all', (code) => ({ events: [`{"error":{"code":"${code}","message":"No."}}`] })],
];

describe.skipIf(cannotRunGatewayTests('refusals by meaning'))('a stream that is refused', () => {
  beforeAll(start(NO_COOLDOWN), CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test.each(WORDS)('with %s leads to a failover, in every spelling and framing', async (word) => {
    for (const code of spellings(word)) {
      for (const [what, stream] of FRAMINGS) {
        resetMocks(gateway);
        backend(0).script({ ...stream(code), done: false });
        backend(1).script({ events: GOOD, done: false });
        const answer = await chatOnWire(gateway, 'gpt-4o').end();
        expect([code, what, answer.body.toString()]).toEqual([code, what, bytes(GOOD)]);
        expect(calls(gateway)).toEqual([1, 1]);
      }
    }
  });

  test.each(FRAMINGS)('in the framing "%s" is recognised one byte at a time', async (_, stream) => {
    backend(0).script({ ...stream('TooManyRequests'), done: false, splitBytes: 1 });
    backend(1).script({ events: GOOD, done: false });
    const answer = await chatOnWire(gateway, 'gpt-4o').end();
    expect(answer.body.toString()).toBe(bytes(GOOD));
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test.each(WORDS)('with %s by every backend returns its status, %i', async (word, status) => {
    for (const mock of gateway.mocks)
      mock.always({ events: [{ data: { error: { code: word } } }], done: false });
    const answer = await gateway.chat('gpt-4o', { stream: true });
    expect(answer.status).toBe(status);
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test.each([429, '429', 500, '503', 529])('with the number %j leads to a failover', async (number) => {
    for (const error of [{ code: number }, { status: number }, { message: 'No.', statusCode: number }]) {
      resetMocks(gateway);
      backend(0).script({ events: [{ data: { error } }], done: false });
      backend(1).script({ events: GOOD, done: false });
      expect((await chatOnWire(gateway, 'gpt-4o').end()).body.toString()).toBe(bytes(GOOD));
    }
  });

  test.each<[string, object]>([
    [
      'too_many_requests/no_capacity',
      { type: 'too_many_requests', code: 'no_capacity', message: 'High demand.' },
    ],
    ['a message alone', { message: 'Rate limit is exceeded. Try again in 26 seconds.' }],
    ['innererror', { code: 'TooManyRequests', innererror: { code: 'RateLimit' } }],
  ])('with %s counts as throttling', async (_, error) => {
    for (const mock of gateway.mocks)
      mock.always({ events: [{ event: 'error', data: { type: 'error', error } }] });
    expect((await gateway.chat('gpt-4o', { stream: true })).status).toBe(429);
  });
});

const FAULTS = [
  'content_filter',
  'content_policy_violation',
  'ResponsibleAIPolicyViolation',
  'invalid_prompt',
  'context_length_exceeded',
  'invalid_request_error',
  'user_error',
];

describe.skipIf(cannotRunGatewayTests('faults of the prompt'))('a stream that fails for its prompt', () => {
  beforeAll(start({}), CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const created = { data: { type: 'response.created', response: { id: 'resp_1', error: null } } };
  const failed = { data: { type: 'response.failed', response: { status: 'failed', error: null } } };
  const error = (code: string) => ({
    event: 'error',
    data: { type: 'error', error: { type: 'server_error', code, message: 'The prompt was blocked.' } },
  });
  const reason = (code: string) => ({
    data: { type: 'response.failed', response: { status: 'failed', error: { code, message: 'No.' } } },
  });

  test.each(FAULTS)('with %s is returned after one call, without a cooldown', async (code) => {
    for (const events of [
      [created, failed, error(code)],
      [created, error(code), failed],
      [created, reason(code)],
      [{ data: { error: { code, message: 'No.' } } }],
    ]) {
      for (const sending of [{}, { gapMs: 5 }, { splitBytes: 1 }]) {
        resetMocks(gateway);
        backend(0).script({ events, done: false, ...sending });
        const wire = new Wire(gateway, RESPONSES, { body: chatBody('gpt-4o', { stream: true }) });
        const answer = await wire.end();
        expect([answer.status, answer.body.toString()]).toEqual([200, bytes(events)]);
        expect(calls(gateway)).toEqual([1, 0]);
      }
    }
    expect(await logged(gateway, 'warn', 'cooling down')).toEqual([]);
  });

  test.each<[string, object]>([
    ['incomplete_details', { error: null, incomplete_details: { reason: 'content_filter' } }],
    ['a filter that blocked', { error: null, content_filters: [{ blocked: true, source_type: 'prompt' }] }],
    [
      'both and an error',
      { error: { code: 'server_error' }, incomplete_details: { reason: 'content_filter' } },
    ],
    ['innererror', { error: { code: 'server_error', innererror: { code: 'ContentFiltered' } } }],
    ['details', { error: { code: 'server_error', details: [{ code: 'content_filter' }] } }],
    ['a message alone', { error: { code: 'server_error', message: 'See the content management policy.' } }],
  ])('with %s in a response of any length is returned as blocked', async (_, said) => {
    for (const instructions of ['', 'x'.repeat(20_000)]) {
      const response = { id: 'resp_1', status: 'failed', output: [], instructions, ...said };
      const events = [created, { data: { type: 'response.failed', response } }];
      resetMocks(gateway);
      backend(0).script({ events, done: false });
      const wire = new Wire(gateway, RESPONSES, { body: chatBody('gpt-4o', { stream: true }) });
      expect((await wire.end()).body.toString()).toBe(bytes(events));
      expect(calls(gateway)).toEqual([1, 0]);

      resetMocks(gateway);
      backend(0).script({ body: response });
      const body = chatBody('gpt-4o');
      expect((await new Wire(gateway, RESPONSES, { body }).end()).body.toString()).toBe(
        JSON.stringify(response),
      );
      expect(calls(gateway)).toEqual([1, 0]);
    }
    expect(await logged(gateway, 'warn', 'cooling down')).toEqual([]);
  });

  test('with forbidden is judged as a 403: another backend is tried, and no cooldown starts', async () => {
    const events = [
      { event: 'error', data: { type: 'error', error: { type: 'forbidden', message: 'No.' } } },
    ];
    backend(0).script({ events, done: false });
    backend(1).script({ events: GOOD, done: false });
    expect((await chatOnWire(gateway, 'gpt-4o').end()).body.toString()).toBe(bytes(GOOD));
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
    for (const mock of gateway.mocks) mock.always({ events, done: false });
    const answer = await gateway.chat('gpt-4o', { stream: true });
    expect(answer.status).toBe(403);
    expect(answer.headers.get('retry-after')).toBeNull();
  });
});

describe.skipIf(cannotRunGatewayTests('failed answers in JSON'))('a JSON answer with a failure', () => {
  beforeAll(start(NO_COOLDOWN), CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const respond = (body: object) =>
    gateway.fetch(RESPONSES, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'gpt-4o', input: 'Hello', ...body }),
    });
  const failedResponse = (error: unknown, more: object = {}) => ({
    id: 'resp_failed',
    object: 'response',
    ...more,
    status: 'failed',
    error,
    output: [],
  });
  const LONG = 'x'.repeat(200_000);

  test.each<[string, object]>([
    ['server_error', failedResponse({ code: 'server_error', message: 'No.' })],
    ['rate_limit_exceeded', failedResponse({ code: 'rate_limit_exceeded', message: 'No.' })],
    ['no reason', failedResponse(null)],
    ['long instructions before it', failedResponse({ code: 'server_error' }, { instructions: LONG })],
    ['long instructions behind it', { ...failedResponse({ code: 'server_error' }), instructions: LONG }],
    ['an error alone', { error: { code: '429', message: 'No.' } }],
    ['an error as text', { error: 'Too many requests' }],
    ['an error of API Management', { statusCode: 429, message: 'Rate limit is exceeded.' }],
    ['an error next to empty choices', { choices: [], error: { code: '429', message: 'No.' } }],
    ['an error next to null data', { object: 'list', data: null, error: { code: '429', message: 'No.' } }],
    ['an empty error', failedResponse({})],
    ['a failure behind metadata', { metadata: { status: 'x', data: 'x' }, ...failedResponse(null) }],
    ['an error behind a byte order mark', Buffer.from('\uFEFF{"error":{"code":"429"}}')],
    ['a list with an error', [{ error: { code: 429, message: 'No.' } }]],
  ])('leads to a failover: %s', async (_, body) => {
    for (const sending of [
      {},
      { splitBytes: 7_000 },
      { framing: 'chunked' as const },
      { framing: 'close' as const },
      { headers: { 'content-type': 'text/plain' } },
      { headers: { 'content-type': null } },
    ]) {
      resetMocks(gateway);
      backend(0).script({ body, ...sending });
      const answer = await respond({});
      expect(answer.status).toBe(200);
      expect(await answer.json()).toMatchObject({ status: 'completed' });
      expect(calls(gateway)).toEqual([1, 1]);
    }
  });

  test('by every backend returns the delay in its message', async () => {
    const body = failedResponse({ code: 'rate_limit_exceeded', message: 'Try again in 26 seconds.' });
    for (const mock of gateway.mocks) mock.always({ body });
    const answer = await respond({});
    expect(answer.status).toBe(429);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(24);
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(26);
  });

  test.each<[string, object]>([
    ['a filtered prompt', failedResponse({ code: 'content_filter', message: 'No.' })],
    ['output', { ...failedResponse({ code: 'server_error' }), output: [{ type: 'message' }] }],
    ['a response that goes on', { object: 'response', status: 'in_progress', error: null, output: [] }],
  ])('is returned after one call: %s', async (_, body) => {
    backend(0).script({ body });
    const answer = await respond({});
    expect(await answer.json()).toEqual(body);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('is returned unchanged when the client asked for a stored response', async () => {
    const body = failedResponse({ code: 'server_error', message: 'No.' });
    for (const mock of gateway.mocks) mock.always({ body, path: /resp_failed/ });
    const answer = await gateway.fetch(`${RESPONSES}/resp_failed`);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual(body);
  });
});
