import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as tick } from 'node:timers/promises';
import { type AnswerHeaders, type Behaviour, eventText } from './behaviour.ts';

/** Most events without a gap in one write. */
const BURST = 64;
/** Time for the peer to read the headers before a reset discards unread data. */
const READ_HEADERS_MS = 20;

export interface Delivery {
  readonly response: ServerResponse;
  /** The TCP socket below TLS. */
  readonly socket: Socket;
  /** Default headers of the answer: names, each followed by its value. */
  readonly headers: readonly string[];
  /** Whether `[DONE]` ends a stream if the behaviour does not set it. */
  readonly done: boolean;
  /** Called before the headers are sent. */
  onHead?(): void;
  /** Called before the mock cuts the connection within an answer. */
  onCut?(): void;
}

/** Sends an answer. Stops early if the peer closes the connection. */
export async function respond(answer: Behaviour, delivery: Delivery): Promise<void> {
  const { response, socket } = delivery;
  if (answer.delayMs) await pause(answer.delayMs, response);
  if (response.destroyed || answer.hang) return;
  const reset = () => {
    delivery.onCut?.();
    socket.resetAndDestroy();
  };
  if (answer.reset === 'before-headers') {
    reset();
    return;
  }
  const body = answer.events === undefined ? bytesOf(answer.body) : undefined;
  delivery.onHead?.();
  writeHead(answer, body?.length, delivery);
  if (answer.reset === 'after-headers') {
    response.flushHeaders();
    await pause(READ_HEADERS_MS, response);
    reset();
    return;
  }
  const out = new Writer(response, answer.splitBytes);
  const cut = () => {
    response.flushHeaders();
    delivery.onCut?.();
    response.socket?.destroySoon();
  };
  if (body === undefined) {
    if ((await sendEvents(answer, delivery, out)) === 'cut') cut();
    else if (!response.destroyed) response.end();
  } else if (answer.cutAfter !== undefined && answer.cutAfter < body.length) {
    await out.write(body.subarray(0, answer.cutAfter));
    cut();
  } else if (answer.splitBytes === undefined) {
    response.end(body);
  } else {
    await out.write(body);
    response.end();
  }
}

function writeHead(
  answer: Behaviour,
  length: number | undefined,
  { response, headers, done }: Delivery,
): void {
  const defaults = [...headers];
  const type = contentType(answer);
  if (type !== undefined) defaults.push('Content-Type', type);
  const framing = answer.framing ?? (length === undefined ? 'chunked' : 'content-length');
  if (framing === 'content-length') {
    const bytes = length ?? streamLength(answer, done);
    const bodiless = answer.status === 204 || answer.status === 304;
    if (bytes !== undefined && !bodiless) defaults.push('Content-Length', String(bytes));
  } else if (framing === 'close') {
    response.useChunkedEncodingByDefault = false;
  }
  if (answer.closeConnection || framing === 'close') defaults.push('Connection', 'close');
  response.writeHead(answer.status ?? 200, merged(defaults, answer.headers));
}

/** Headers as names, each followed by its value. A header in `overrides` replaces the default one. */
function merged(defaults: string[], overrides: AnswerHeaders | undefined): string[] {
  if (overrides === undefined) return defaults;
  const names = new Set(Object.keys(overrides).map((name) => name.toLowerCase()));
  if (names.size === 0) return defaults;
  const all: string[] = [];
  for (let index = 0; index < defaults.length; index += 2) {
    const name = defaults[index] ?? '';
    if (!names.has(name.toLowerCase())) all.push(name, defaults[index + 1] ?? '');
  }
  for (const [name, value] of Object.entries(overrides)) {
    for (const each of value === null ? [] : [value].flat()) all.push(name, each);
  }
  return all;
}

function contentType({ body, events, status = 200 }: Behaviour): string | undefined {
  if (events !== undefined) return 'text/event-stream; charset=utf-8';
  if (body === undefined || status === 204 || status === 304) return undefined;
  if (Buffer.isBuffer(body)) return 'application/octet-stream';
  if (typeof body === 'object') return 'application/json';
  if (body === '') return undefined;
  if (/^\s*[[{]/.test(body)) return 'application/json';
  return /^\s*</.test(body) ? 'text/html' : 'text/plain; charset=utf-8';
}

function bytesOf(body: Behaviour['body']): Buffer {
  if (Buffer.isBuffer(body)) return body;
  if (body === undefined) return Buffer.alloc(0);
  return Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
}

/** The length of a stream in bytes; undefined if its events are not known in advance. */
function streamLength(
  { events, lineEnd = '\n', done }: Behaviour,
  doneByDefault: boolean,
): number | undefined {
  if (!Array.isArray(events)) return undefined;
  const texts = events.map((event) => eventText(event, lineEnd));
  if (needsDone(texts.at(-1), done, doneByDefault)) texts.push(doneText(lineEnd));
  return Buffer.byteLength(texts.join(''));
}

const doneText = (lineEnd: string): string => `data: [DONE]${lineEnd}${lineEnd}`;

const needsDone = (last: string | undefined, asked: boolean | undefined, byDefault: boolean): boolean =>
  asked ?? (byDefault && !(last ?? '').startsWith('data: [DONE]'));

async function sendEvents(
  answer: Behaviour,
  { response, done }: Delivery,
  out: Writer,
): Promise<'whole' | 'cut'> {
  const { events = [], gapMs = 0, lineEnd = '\n', cutAfter = Number.POSITIVE_INFINITY } = answer;
  const begin = performance.now();
  let sent = 0;
  let text = '';
  let last = '';
  const flush = async () => {
    const piece = text;
    text = '';
    if (piece !== '') await out.write(piece);
  };
  /** @returns whether the stream continues */
  const send = async (event: string, alone: boolean): Promise<boolean> => {
    if (sent >= cutAfter) return false;
    if (gapMs > 0 && sent > 0) await pause(begin + sent * gapMs - performance.now(), response);
    if (response.destroyed) return false;
    last = event;
    text += event;
    sent++;
    if (alone || gapMs > 0 || sent % BURST === 0 || sent >= cutAfter) await flush();
    return sent < cutAfter;
  };
  if (cutAfter <= 0) return 'cut';
  if (Symbol.asyncIterator in events) {
    // Send the headers now, because a generator may wait for a test.
    response.flushHeaders();
    for await (const event of untilClosed(events, response)) {
      if (!(await send(eventText(event, lineEnd), true))) break;
    }
  } else {
    for (const event of events) if (!(await send(eventText(event, lineEnd), false))) break;
  }
  if (sent < cutAfter && !response.destroyed && needsDone(last, answer.done, done)) {
    await send(doneText(lineEnd), false);
  }
  if (!response.destroyed) await flush();
  return sent >= cutAfter ? 'cut' : 'whole';
}

/** Yields events until the peer closes the connection, then stops the source. */
async function* untilClosed<Event>(
  events: AsyncIterable<Event>,
  response: ServerResponse,
): AsyncGenerator<Event> {
  const iterator = events[Symbol.asyncIterator]();
  const closed = new Promise<undefined>((resolve) => {
    response.once('close', () => resolve(undefined));
  });
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), closed]);
      if (next === undefined || next.done) return;
      yield next.value;
    }
  } finally {
    // Not awaited: a waiting generator ends only after its own wait.
    void iterator.return?.();
  }
}

/** Writes, and waits if the peer reads slowly. */
class Writer {
  readonly #response: ServerResponse;
  readonly #splitBytes: number | undefined;

  constructor(response: ServerResponse, splitBytes: number | undefined) {
    this.#response = response;
    this.#splitBytes = splitBytes;
  }

  async write(data: string | Buffer): Promise<void> {
    const response = this.#response;
    if (this.#splitBytes === undefined) {
      if (!response.write(data)) await drained(response);
      return;
    }
    response.flushHeaders();
    const bytes = Buffer.from(data);
    for (let start = 0; start < bytes.length && !response.destroyed; start += this.#splitBytes) {
      await tick();
      if (!response.write(bytes.subarray(start, start + this.#splitBytes))) await drained(response);
    }
  }
}

function drained(response: ServerResponse): Promise<void> {
  if (response.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.once('drain', done);
    response.once('close', done);
  });
}

/** Waits for some milliseconds, or until the peer closes the connection. */
function pause(ms: number, response: ServerResponse): Promise<void> {
  if (ms <= 0 || response.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      response.off('close', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    response.once('close', done);
  });
}
