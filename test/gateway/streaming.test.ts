/** Streams reach the client unchanged and without delay: no event waits for the next one. */
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
  chatUsage,
  resetMocks,
  until,
  type Wire,
} from '../support/traffic.ts';

let gateway: Gateway;
const start = async () => {
  gateway = await startGateway({ backends: [{}] });
};
const stop = () => gateway?.stop();
const backend = () => backendOf(gateway, 0);
const bytes = (events: Iterable<StreamEvent>, lineEnd = '\n') =>
  [...events].map((event) => eventText(event, lineEnd)).join('');

const EVENTS = 200;
const MESSAGES = [{ role: 'user' as const, content: 'Hello' }];

describe.skipIf(cannotRunGatewayTests('streaming'))('streaming', () => {
  beforeAll(start, CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  /** Yields each event only after the client has read the one before it. */
  async function* onlyWhenRead(events: readonly StreamEvent[], hasRead: (index: number) => boolean) {
    for (const [index, event] of events.entries()) {
      yield event;
      await until(() => hasRead(index));
    }
  }

  test.each([
    ['chunks of a chat', Array.from({ length: EVENTS }, (_, index) => chatText(`<${index}>`))],
    [
      'events of a response',
      Array.from({ length: EVENTS }, (_, index) => ({
        event: 'response.output_text.delta',
        data: { type: 'response.output_text.delta', sequence_number: index, delta: `<${index}>` },
      })),
    ],
    [
      'comments between them',
      Array.from({ length: EVENTS }, (_, index) => `: <${index}>\n${index ? '' : 'data: {}\n'}\n`),
    ],
    [
      'events of nobody',
      Array.from({ length: EVENTS }, (_, index) => ({ event: 'new', data: `<${index}>` })),
    ],
  ])('sends each event to the client before the backend sends the next: %s', async (_, events) => {
    const wire: { current?: Wire } = {};
    const hasRead = (index: number) => wire.current?.text.includes(`<${index}>`) ?? false;
    backend().script({ events: onlyWhenRead(events, hasRead), done: false });
    wire.current = chatOnWire(gateway, 'gpt-4o');
    const answer = await wire.current.end(20_000);
    expect(answer.isWhole).toBe(true);
    expect(answer.body.toString()).toBe(bytes(events));
  });

  test('sends an incomplete event to the client at once', async () => {
    const pieces = [
      eventText(chatText('<0>'), '\n'),
      'data: {"choices":[{"delta":{"content":"<1>"',
      '}}]}\n\ndata: <2>\n\n',
    ];
    const wire: { current?: Wire } = {};
    backend().script({
      events: onlyWhenRead(pieces, (index) => wire.current?.text.endsWith(pieces[index] ?? '') ?? false),
      done: false,
    });
    wire.current = chatOnWire(gateway, 'gpt-4o');
    expect((await wire.current.end()).body.toString()).toBe(pieces.join(''));
  });

  /** 1 MB in one event, more than a single read returns. */
  const LARGE = 'é'.repeat(2 ** 19);
  const SHORT: readonly StreamEvent[] = [
    chatPrelude,
    chatText('Hello'),
    chatText(' \u2028 é 😀'),
    chatUsage(11, 7),
  ];
  const VARIANTS: readonly (readonly [what: string, behaviour: Behaviour, sent: string])[] = [
    ['several events in one write', { events: SHORT }, `${bytes(SHORT)}data: [DONE]\n\n`],
    ['a byte at a time', { events: SHORT, splitBytes: 1 }, `${bytes(SHORT)}data: [DONE]\n\n`],
    ['seven bytes at a time', { events: SHORT, splitBytes: 7 }, `${bytes(SHORT)}data: [DONE]\n\n`],
    ['CRLF', { events: SHORT, lineEnd: '\r\n' }, `${bytes(SHORT, '\r\n')}data: [DONE]\r\n\r\n`],
    [
      'CRLF, a byte at a time',
      { events: SHORT, lineEnd: '\r\n', splitBytes: 1 },
      `${bytes(SHORT, '\r\n')}data: [DONE]\r\n\r\n`,
    ],
    [
      'CRLF, seven bytes at a time',
      { events: SHORT, lineEnd: '\r\n', splitBytes: 7 },
      `${bytes(SHORT, '\r\n')}data: [DONE]\r\n\r\n`,
    ],
    ['CR', { events: SHORT, lineEnd: '\r' }, `${bytes(SHORT, '\r')}data: [DONE]\r\r`],
    [
      'CR, a byte at a time',
      { events: SHORT, lineEnd: '\r', splitBytes: 1 },
      `${bytes(SHORT, '\r')}data: [DONE]\r\r`,
    ],
    ['without [DONE]', { events: SHORT, done: false }, bytes(SHORT)],
    ['without content type', { events: SHORT, headers: { 'Content-Type': null }, done: false }, bytes(SHORT)],
    [
      'without content type, seven bytes at a time',
      { events: SHORT, headers: { 'Content-Type': null }, done: false, splitBytes: 7 },
      bytes(SHORT),
    ],
    ['with a length', { events: SHORT, framing: 'content-length', done: false }, bytes(SHORT)],
    ['until the connection closes', { events: SHORT, framing: 'close', done: false }, bytes(SHORT)],
    [
      'comments and events without data',
      { events: [': hello\n\n', 'event: ping\n\n', ...SHORT, ': bye\n\n'], done: false },
      `: hello\n\nevent: ping\n\n${bytes(SHORT)}: bye\n\n`,
    ],
    ['a byte order mark', { events: ['\uFEFF', ...SHORT], done: false }, `\uFEFF${bytes(SHORT)}`],
    [
      'fields of all kinds, and spaces',
      {
        events: [`id: 7\nretry: 10\nevent:x\ndata:{"choices":[],\ndata: "usage": null}\n\n`, ...SHORT],
        done: false,
      },
      `id: 7\nretry: 10\nevent:x\ndata:{"choices":[],\ndata: "usage": null}\n\n${bytes(SHORT)}`,
    ],
    [
      'an event of 1 MB',
      { events: [chatPrelude, chatText(LARGE), chatUsage(11, 7)], done: false },
      bytes([chatPrelude, chatText(LARGE), chatUsage(11, 7)]),
    ],
    [
      'a first event of 1 MB without output',
      {
        events: [{ data: { choices: [], filler: LARGE } }, chatText('Hello'), chatUsage(11, 7)],
        done: false,
      },
      bytes([{ data: { choices: [], filler: LARGE } }, chatText('Hello'), chatUsage(11, 7)]),
    ],
    [
      'a last event that does not end',
      { events: [...SHORT, 'data: {"cut'], done: false },
      `${bytes(SHORT)}data: {"cut`,
    ],
  ];

  /** The name of each variant and the tokens expected in the access log, by requested model. */
  const expected = new Map<string, [what: string, tokens: string[]]>();

  test.each(VARIANTS)(
    'passes every byte unchanged and reads the usage: %s',
    async (what, behaviour, sent) => {
      backend().script(behaviour);
      const model = `model-${expected.size}`;
      expected.set(model, [what, sent.includes('"prompt_tokens":11') ? ['11', '7'] : ['0', '0']]);
      const answer = await chatOnWire(gateway, model).end();
      expect(answer.status).toBe(200);
      expect(answer.body.toString() === sent).toBe(true);
      expect(answer.isWhole).toBe(true);
      const type = /^content-type: (.*)$/im.exec(answer.head)?.[1];
      if (what.startsWith('without content type')) expect(type).toBeUndefined();
      else expect(type).toBe('text/event-stream; charset=utf-8');
    },
  );

  test('logs the usage of all these streams', async () => {
    const log = await gateway.accessLog();
    const read = [...expected].map(([model, [what]]) => {
      const { prompt_tokens, completion_tokens } = log.find((line) => line.model === model) ?? {};
      return [what, [prompt_tokens, completion_tokens]];
    });
    expect(read).toHaveLength(VARIANTS.length);
    expect(read).toEqual([...expected.values()]);
  });

  test('counts the last of several usages', async () => {
    backend().script({ events: [chatText('a'), chatUsage(1, 1), chatText('b'), chatUsage(5, 6)] });
    await chatOnWire(gateway, 'last-usage').end();
    expect((await gateway.accessLog()).find((line) => line.model === 'last-usage')).toMatchObject({
      prompt_tokens: '5',
      completion_tokens: '6',
    });
  });

  test('ignores text about usage in the content', async () => {
    backend().script({ events: [chatUsage(5, 6), chatText('"usage": {"prompt_tokens": 900}')] });
    await chatOnWire(gateway, 'spoken-usage').end();
    expect((await gateway.accessLog()).find((line) => line.model === 'spoken-usage')).toMatchObject({
      prompt_tokens: '5',
      completion_tokens: '6',
    });
  });

  test('sends the whole stream to a client that reads slowly', async () => {
    const events = Array.from({ length: 64 }, (_, index) => chatText(`${index}${'x'.repeat(2 ** 16)}`));
    backend().script({ events, done: false });
    const answer = await gateway.fetch('/openai/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: chatBody('gpt-4o', { stream: true }),
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect((await answer.text()) === bytes(events)).toBe(true);
  });

  describe.each([
    ['v1', () => gateway.openai()],
    ['deployments', () => gateway.azure()],
  ] as const)('the official client, %s', (_, clientOf) => {
    test.each([
      ['as by Azure', {}],
      ['seven bytes at a time', { splitBytes: 7 }],
      ['with CRLF', { lineEnd: '\r\n' }],
      ['a byte at a time with CR', { lineEnd: '\r', splitBytes: 1 }],
      ['without content type', { headers: { 'Content-Type': null } }],
    ] satisfies [string, Behaviour][])('reads a chat sent %s', async (_what, behaviour) => {
      backend().script(behaviour);
      const stream = await clientOf().chat.completions.create({
        model: 'gpt-4o',
        messages: MESSAGES,
        max_tokens: 50,
        stream: true,
        stream_options: { include_usage: true },
      });
      const texts: string[] = [];
      let usage: unknown;
      for await (const chunk of stream) {
        texts.push(chunk.choices[0]?.delta?.content ?? '');
        usage = chunk.usage ?? usage;
      }
      expect(texts.filter((text) => text !== '')).toHaveLength(50);
      expect(usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 50, total_tokens: 52 });
    });
  });

  test('reads a response with the official client', async () => {
    const stream = await gateway.openai().responses.create({ model: 'gpt-4o', input: 'Hello', stream: true });
    const types: string[] = [];
    for await (const event of stream) types.push(event.type);
    expect(types.slice(0, 2)).toEqual(['response.created', 'response.in_progress']);
    expect(types.at(-1)).toBe('response.completed');
  });
});
