/** Requests as they look on the wire, for what fetch and the official clients hide; and what tests of the gateway wait for. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { CLIENT_KEY, type Gateway } from './gateway.ts';
import type { MockBackend, RecordedRequest, StreamEvent } from './mock-azure-openai/server.ts';
import { until } from './until.ts';

export { until };

/** How many requests each of the mocks got. */
export const calls = ({ mocks }: { readonly mocks: readonly MockBackend[] }): number[] =>
  mocks.map(({ requests }) => requests.length);

export function backendOf({ mocks }: Gateway, index: number): MockBackend {
  const mock = mocks[index];
  if (!mock) throw new RangeError(`there is no backend ${index}`);
  return mock;
}

/** Forgets what the mocks got, and what they were told to do. */
export function resetMocks({ mocks }: Gateway): void {
  for (const mock of mocks) mock.reset();
}

/** Forgets what the mocks got; what they store stays. */
export async function forgetRequests({ mocks }: Gateway): Promise<void> {
  await Promise.all(mocks.map(({ url }) => fetch(`${url}/++/requests`, { method: 'DELETE' })));
}

/** Settings for so many backends that are tried in their order, so that each request begins with the first. */
export const inOrder = (backends: number): Record<string, string> =>
  Object.fromEntries(
    Array.from({ length: backends }, (_, index) => [
      `AZURE_OPENAI_PRIORITY_${index}`,
      String(backends - index),
    ]),
  );

/** Settings without memory between requests. */
export const NO_COOLDOWN = { AI_PROXY_COOLDOWN: '0', AI_PROXY_COOLDOWN_MAX: '0' };

/** The one request that a mock got. */
export function onlyRequest({ name, requests }: MockBackend): RecordedRequest {
  const [request] = requests;
  if (!request || requests.length > 1) throw new Error(`${name} got ${requests.length} requests, not one`);
  return request;
}

export interface WireOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

export interface WireAnswer {
  readonly status: number;
  readonly head: string;
  /** What came after the head, its transfer coding included. */
  readonly raw: Buffer;
  /** The same without the transfer coding. */
  readonly body: Buffer;
  /** Whether the answer came to its end, by its length or its last chunk. */
  readonly isWhole: boolean;
}

/** A connection with one request on it. */
export class Wire {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #closed = false;

  constructor(
    gateway: Pick<Gateway, 'url'>,
    path: string,
    { method = 'POST', headers = {}, body = '' }: WireOptions = {},
  ) {
    const { hostname, port } = new URL(gateway.url);
    this.#socket = connect(Number(port), hostname);
    this.#socket.setNoDelay(true);
    this.#socket.on('data', (data) => {
      this.#received = Buffer.concat([this.#received, data]);
    });
    this.#socket.on('error', () => undefined);
    this.#socket.once('close', () => {
      this.#closed = true;
    });
    const lines = Object.entries({
      Host: 'gateway',
      'api-key': CLIENT_KEY,
      'Content-Type': 'application/json',
      'Content-Length': String(Buffer.byteLength(body)),
      ...headers,
    }).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
    this.#socket.write(body);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What of the body is here. */
  get text(): string {
    return this.answer().body.toString();
  }

  /** More of the request. */
  send(data: string): void {
    this.#socket.write(data);
  }

  /** Until the text is in the body. */
  async waitFor(text: string, timeoutMs?: number): Promise<void> {
    await until(() => this.text.includes(text), timeoutMs);
  }

  /** The answer when it is whole, or the other side has closed the connection. */
  async end(timeoutMs?: number): Promise<WireAnswer> {
    await until(() => this.#closed || this.answer().isWhole, timeoutMs);
    return this.answer();
  }

  async waitForClose(timeoutMs = 5_000): Promise<WireAnswer> {
    if (!this.#closed) {
      await Promise.race([
        once(this.#socket, 'close'),
        sleep(timeoutMs, undefined, { ref: false }).then(() => {
          throw new Error(`the connection is still open after ${timeoutMs} ms`);
        }),
      ]);
    }
    return this.answer();
  }

  /** The client goes away. */
  leave(): void {
    this.#socket.destroy();
  }

  /** The answer as far as it is here. */
  answer(): WireAnswer {
    const headEnd = this.#received.indexOf('\r\n\r\n');
    if (headEnd < 0) return { status: 0, head: '', raw: NOTHING, body: NOTHING, isWhole: false };
    const head = this.#received.subarray(0, headEnd).toString('latin1');
    const raw = this.#received.subarray(headEnd + 4);
    const status = Number(head.slice(9, 12));
    const [, length] = /^content-length: *(\d+)/im.exec(head) ?? [];
    if (/^transfer-encoding: *chunked/im.test(head)) return { status, head, raw, ...unchunked(raw) };
    const isWhole = length === undefined ? this.#closed : raw.length >= Number(length);
    return { status, head, raw, body: raw, isWhole };
  }
}

const NOTHING = Buffer.alloc(0);

function unchunked(raw: Buffer): { readonly body: Buffer; readonly isWhole: boolean } {
  const chunks: Buffer[] = [];
  for (let position = 0; ; ) {
    const lineEnd = raw.indexOf('\r\n', position);
    if (lineEnd < 0) return { body: Buffer.concat(chunks), isWhole: false };
    const size = Number.parseInt(raw.subarray(position, lineEnd).toString('latin1'), 16);
    if (size === 0) return { body: Buffer.concat(chunks), isWhole: raw.length >= lineEnd + 4 };
    const start = lineEnd + 2;
    chunks.push(raw.subarray(start, start + size));
    position = start + size + 2;
  }
}

/** The body of a request for a chat completion. */
export const chatBody = (model: string, more: object = {}): string =>
  JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4, ...more });

/** A connection with a request for a streamed chat completion on it. */
export const chatOnWire = (
  gateway: Pick<Gateway, 'url'>,
  model: string,
  more: object = { stream: true },
): Wire => new Wire(gateway, '/openai/v1/chat/completions', { body: chatBody(model, more) });

const CHUNK = {
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  created: 1_720_000_000,
  model: 'gpt-4o-2024-07-18',
};

/** An event of a streamed chat completion with some of its text. */
export const chatText = (content: string): StreamEvent => ({
  data: { ...CHUNK, choices: [{ index: 0, delta: { content }, finish_reason: null }] },
});

/** The event that a streamed chat completion of Azure begins with, which is no output. */
export const chatPrelude: StreamEvent = {
  data: {
    choices: [],
    created: 0,
    id: '',
    model: '',
    object: '',
    prompt_filter_results: [{ prompt_index: 0 }],
  },
};

/** The last event of a streamed chat completion whose client asked for its usage. */
export const chatUsage = (prompt: number, completion: number): StreamEvent => ({
  data: {
    ...CHUNK,
    choices: [],
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  },
});

/** Lines of the error log with a level and a text; waits for one, and gives none where none comes. */
export async function logged({ apisix }: Gateway, level: 'error' | 'warn', text: string): Promise<string[]> {
  const lines = async () =>
    (await apisix.log()).split('\n').filter((line) => line.includes(`[${level}]`) && line.includes(text));
  for (let patience = 5; patience > 0; patience--) {
    const found = await lines();
    if (found.length > 0) return found;
  }
  return [];
}
