/** HTTP over bare sockets, for requests that no client would send and for answers that no client has modified. */
import { connect, type Socket } from 'node:net';

export type Header = readonly [name: string, value: string];

export interface RawAnswer {
  readonly status: number;
  /** Statuses of interim answers to the same request, such as 100. */
  readonly interim: readonly number[];
  /** As received, with order and case. */
  readonly headers: readonly Header[];
  /** The first header with this name in any case. */
  header(name: string): string | undefined;
  /** All headers with this name in any case, in order. */
  values(name: string): readonly string[];
  /** The body without chunked coding. */
  readonly body: Buffer;
  /** Whether the body is complete by its framing. */
  readonly isWhole: boolean;
}

export interface RawRequest {
  readonly method?: string;
  readonly target: string;
  /** Host and, for a body, Content-Length are added if missing. */
  readonly headers?: readonly Header[];
  readonly body?: string | Buffer;
}

export interface RawConnection {
  write(bytes: string | Buffer): Promise<void>;
  /** The next answer. An answer to HEAD has no body. */
  answer(method?: string): Promise<RawAnswer>;
  /** The bytes received but not read yet. */
  unread(): Buffer;
  /** Waits until the gateway closes the connection. */
  closed(): Promise<void>;
  destroy(): void;
}

/** The bound for a gateway that never answers. */
const PATIENCE_MS = 15_000;

/** Sends one request exactly as given, and reads one answer. */
export async function rawRequest(url: string, request: RawRequest): Promise<RawAnswer> {
  const connection = await rawConnection(url);
  try {
    await connection.write(requestBytes(request));
    return await connection.answer(request.method);
  } finally {
    connection.destroy();
  }
}

/** Sends bytes, and reads one answer. */
export async function rawBytes(url: string, bytes: string | Buffer): Promise<RawAnswer> {
  const connection = await rawConnection(url);
  try {
    await connection.write(bytes);
    return await connection.answer();
  } finally {
    connection.destroy();
  }
}

/** Characters of headers and targets are sent as bytes. Other text must be converted with `utf8Bytes`. */
export function requestBytes({ method = 'GET', target, headers = [], body }: RawRequest): Buffer {
  const names = new Set(headers.map(([name]) => name.toLowerCase()));
  const content = body === undefined ? undefined : Buffer.from(body as string);
  const lines: Header[] = [...headers];
  if (!names.has('host')) lines.unshift(['Host', 'gateway.test']);
  if (content && !names.has('content-length') && !names.has('transfer-encoding')) {
    lines.push(['Content-Length', String(content.length)]);
  }
  const head = `${method} ${target} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), content ?? Buffer.alloc(0)]);
}

/** The UTF-8 bytes of a text, one character for each. */
export const utf8Bytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

export async function rawConnection(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const inbox = new Inbox(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return {
    // The write fails when the gateway has closed the connection. Its answer says why.
    write: (bytes) => new Promise((resolve) => socket.write(bytes, () => resolve())),
    answer: (method) => readAnswer(inbox, method),
    unread: () => inbox.bytes,
    closed: async () => {
      while (!inbox.ended) await inbox.more();
    },
    destroy: () => socket.destroy(),
  };
}

class Inbox {
  bytes: Buffer = Buffer.alloc(0);
  ended = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    const end = () => {
      this.ended = true;
      this.#wake();
    };
    socket.on('data', (data) => {
      this.bytes = Buffer.concat([this.bytes, data]);
      this.#wake();
    });
    // A reset ends the received data like any other end.
    socket.on('error', end);
    socket.on('close', end);
    socket.on('end', end);
  }

  /** Waits until more data has arrived, or the end. */
  async more(): Promise<void> {
    if (this.ended) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(
          new Error(
            `nothing more for ${PATIENCE_MS} ms after: ${this.bytes.toString('latin1').slice(0, 500)}`,
          ),
        );
      }, PATIENCE_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  take(length: number): Buffer {
    const taken = this.bytes.subarray(0, length);
    this.bytes = this.bytes.subarray(length);
    return taken;
  }

  /** Reads up to and including `end`, or returns undefined when the connection ends before. */
  async until(end: string): Promise<string | undefined> {
    for (;;) {
      const at = this.bytes.indexOf(end, 0, 'latin1');
      if (at >= 0) return this.take(at + end.length).toString('latin1');
      if (this.ended) return undefined;
      await this.more();
    }
  }

  /** Reads this number of bytes, or fewer when the connection ends before. */
  async exactly(length: number): Promise<Buffer> {
    while (this.bytes.length < length && !this.ended) await this.more();
    return this.take(length);
  }
}

async function readAnswer(inbox: Inbox, method = 'GET'): Promise<RawAnswer> {
  const interim: number[] = [];
  for (;;) {
    const head = await inbox.until('\r\n\r\n');
    if (head === undefined)
      throw new Error(`no answer, but: ${JSON.stringify(inbox.bytes.toString('latin1'))}`);
    const [first = '', ...lines] = head.slice(0, -4).split('\r\n');
    const [, digits] = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first) ?? [];
    if (digits === undefined) throw new Error(`not an answer: ${JSON.stringify(first.slice(0, 200))}`);
    const status = Number(digits);
    if (status >= 200) return { status, interim, ...(await readRest(inbox, method, status, lines)) };
    interim.push(status);
  }
}

async function readRest(inbox: Inbox, method: string, status: number, lines: readonly string[]) {
  const headers = lines.map((line): Header => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const values = (name: string) =>
    headers.filter(([each]) => each.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
  const header = (name: string) => values(name)[0];
  const length = header('content-length');
  let body: Buffer = Buffer.alloc(0);
  let isWhole = true;
  if (method === 'HEAD' || status === 204 || status === 304) {
    // No body follows.
  } else if (header('transfer-encoding')?.toLowerCase() === 'chunked') {
    ({ body, isWhole } = await readChunks(inbox));
  } else if (length !== undefined) {
    body = await inbox.exactly(Number(length));
    isWhole = body.length === Number(length);
  } else {
    body = await inbox.exactly(Number.POSITIVE_INFINITY);
  }
  return { headers, header, values, body, isWhole };
}

async function readChunks(inbox: Inbox): Promise<{ body: Buffer; isWhole: boolean }> {
  const chunks: Buffer[] = [];
  for (;;) {
    const size = Number.parseInt((await inbox.until('\r\n')) ?? '', 16);
    const chunk = Number.isNaN(size) ? undefined : await inbox.exactly(size + 2);
    const isWhole = chunk?.length === size + 2;
    if (size === 0 || !isWhole) return { body: Buffer.concat(chunks), isWhole };
    chunks.push(chunk.subarray(0, size));
  }
}
