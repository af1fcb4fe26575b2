/** Requests and answers on the wire, which fetch and the official clients hide, and helpers for gateway tests. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MockBackend, RecordedRequest, StreamEvent } from '../../compiler/mock/server.ts';
import { CLIENT_KEY, type Gateway } from './gateway.ts';
import { until } from './until.ts';

export { until };

/** The number of requests that each mock received. */
export const calls = ({ mocks }: { readonly mocks: readonly MockBackend[] }): number[] =>
  mocks.map(({ requests }) => requests.length);

export function backendOf({ mocks }: Gateway, index: number): MockBackend {
  const mock = mocks[index];
  if (!mock) throw new RangeError(`there is no backend ${index}`);
  return mock;
}

/** Resets the mocks' requests and scripts. */
export function resetMocks({ mocks }: Gateway): void {
  for (const mock of mocks) mock.reset();
}

/** Forgets the mocks' requests, but keeps their stored objects. */
export async function forgetRequests({ mocks }: Gateway): Promise<void> {
  await Promise.all(mocks.map(({ url }) => fetch(`${url}/++/requests`, { method: 'DELETE' })));
}

/** Settings for backends with descending priorities, so that each request begins with the first. */
export const inOrder = (backends: number): Record<string, string> =>
  Object.fromEntries(
    Array.from({ length: backends }, (_, index) => [
      `AZURE_OPENAI_PRIORITY_${index}`,
      String(backends - index),
    ]),
  );

/** Settings without cooldowns, so that requests do not affect later ones. */
export const NO_COOLDOWN = { AI_PROXY_COOLDOWN: '0', AI_PROXY_COOLDOWN_MAX: '0' };

/** The only request that a mock received. */
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
  /** The bytes after the head, including the transfer coding. */
  readonly raw: Buffer;
  /** The body without the transfer coding. */
  readonly body: Buffer;
  /** Whether the answer is complete, by its length or its last chunk. */
  readonly isWhole: boolean;
}

/** A connection with one request. */
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

  /** The body received so far. */
  get text(): string {
    return this.answer().body.toString();
  }

  /** Sends more of the request. */
  send(data: string): void {
    this.#socket.write(data);
  }

  /** Waits until the body contains a text. */
  async waitFor(text: string, timeoutMs?: number): Promise<void> {
    await until(() => this.text.includes(text), timeoutMs);
  }

  /** Waits until the answer is complete or the connection is closed. */
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

  /** Disconnects. */
  leave(): void {
    this.#socket.destroy();
  }

  /** The answer received so far. */
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

/** A connection with a request for a streamed chat completion. */
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

/** An event of a streamed chat completion with some text. */
export const chatText = (content: string): StreamEvent => ({
  data: { ...CHUNK, choices: [{ index: 0, delta: { content }, finish_reason: null }] },
});

/** The first event of Azure's streamed chat completions, which is no output. */
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

/** The last event of a streamed chat completion when the client asked for usage. */
export const chatUsage = (prompt: number, completion: number): StreamEvent => ({
  data: {
    ...CHUNK,
    choices: [],
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  },
});

/** The lines of the error log with this level and text. Waits for one, and returns none when none comes. */
export async function logged({ apisix }: Gateway, level: 'error' | 'warn', text: string): Promise<string[]> {
  const lines = async () =>
    (await apisix.log()).split('\n').filter((line) => line.includes(`[${level}]`) && line.includes(text));
  for (let patience = 5; patience > 0; patience--) {
    const found = await lines();
    if (found.length > 0) return found;
  }
  return [];
}
