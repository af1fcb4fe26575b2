/**
 * A mock of an Azure OpenAI resource on a port of its own. It answers as Azure does, and misbehaves as it is told. Each mock
 * has its own limits, files, responses and log.
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { closeServer } from '../close-server.ts';
import { answerOfStatus } from './answers.ts';
import { AzureOpenAI, addressOf } from './azure.ts';
import { type Behaviour, overlaid } from './behaviour.ts';
import { type Config, DEFAULT_CONFIG, type MockConfig, patched } from './config.ts';
import { control } from './control.ts';
import { azureHeaders } from './headers.ts';
import { type RecordedRequest, RequestLog, RequestRecord } from './request-log.ts';
import { respond } from './respond.ts';
import { routeOf } from './routes.ts';

export type { Behaviour, StreamEvent } from './behaviour.ts';
export type { MockConfig } from './config.ts';
export type { RecordedRequest } from './request-log.ts';

export interface MockOptions {
  /** Shown where Azure shows a region. Default mock. */
  readonly name?: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Further addresses, with the same port. */
  readonly alsoOn?: readonly string[];
  /** Default 0, for one that is free. */
  readonly port?: number;
  /** PEM. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** In the header api-key, or on v1 as bearer token. Undefined for any credential; one there must be. */
  readonly keys?: readonly string[];
  /** Which bearer tokens are good beside them: those of Entra ID. */
  readonly tokens?: (token: string) => boolean;
  /** Undefined for any. */
  readonly deployments?: readonly string[];
  readonly config?: MockConfig;
}

export interface MockBackend {
  readonly name: string;
  readonly port: number;
  readonly url: string;
  /** In the order in which their headers came in. */
  readonly requests: readonly RecordedRequest[];
  readonly connections: { readonly opened: number; readonly open: number };
  /** Adds one-shot behaviours; each request takes the first one whose path it matches. */
  script(...behaviours: Behaviour[]): void;
  /** For requests that no scripted behaviour is for; undefined for Azure's own. */
  always(behaviour: Behaviour | undefined): void;
  /** Leaves the windows of limits as they are. */
  configure(patch: MockConfig): void;
  /** Forgets requests, scripts, windows and everything stored; the configuration stays. */
  reset(): void;
  /** Until so many requests have come in; rejects after `timeoutMs`, 5000 by default. */
  waitForRequests(count: number, timeoutMs?: number): Promise<void>;
  /** Like the end of a process: nothing listens any more, and open connections are gone. */
  stop(): Promise<void>;
  /** On the same port again. */
  restart(): Promise<void>;
}

const MAX_BODY_BYTES = 100 * 2 ** 20;
const MAX_HEADER_BYTES = 64 * 2 ** 10;
const DEFAULT_WAIT_MS = 5_000;
const NO_BODY = Buffer.alloc(0);

/** Rejects where the port cannot be had. */
export async function startMockAzureOpenAI(options: MockOptions = {}): Promise<MockBackend> {
  const mock = new MockServer(options);
  await mock.restart();
  return mock;
}

class MockServer implements MockBackend {
  readonly name: string;
  port: number;
  config: Config;
  readonly deployments: readonly string[] | undefined;
  readonly #options: MockOptions;
  readonly #host: string;
  readonly #azure: AzureOpenAI;
  readonly #log = new RequestLog();
  /** TCP sockets, by the socket that requests come over: the same, or TLS over it. */
  readonly #sockets = new WeakMap<Socket, { readonly tcp: Socket; readonly number: number }>();
  readonly #open = new Set<Socket>();
  #opened = 0;
  #queue: { readonly behaviour: Behaviour; left: number }[] = [];
  #always: Behaviour | undefined;
  #server: ReturnType<typeof createServer> | undefined;
  readonly #others: Server[] = [];

  constructor(options: MockOptions) {
    const { name = 'mock', host = '127.0.0.1', port = 0, keys, tokens, deployments, config = {} } = options;
    this.name = name;
    this.port = port;
    this.deployments = deployments;
    this.config = patched(DEFAULT_CONFIG, config);
    this.#options = options;
    this.#host = host;
    this.#azure = new AzureOpenAI({ keys, tokens, deployments });
  }

  get url(): string {
    const host = this.#host.includes(':') ? `[${this.#host}]` : this.#host;
    return `${this.#options.tls ? 'https' : 'http'}://${host}:${this.port}`;
  }

  get requests(): readonly RecordedRequest[] {
    return this.#log.requests;
  }

  get connections(): { readonly opened: number; readonly open: number } {
    return { opened: this.#opened, open: this.#open.size };
  }

  script(...behaviours: Behaviour[]): void {
    this.#queue.push(...behaviours.map((behaviour) => ({ behaviour, left: behaviour.times ?? 1 })));
  }

  always(behaviour: Behaviour | undefined): void {
    this.#always = behaviour;
  }

  configure(patch: MockConfig): void {
    this.config = patched(this.config, patch);
  }

  clearRequests(): void {
    this.#log.reset();
  }

  reset(): void {
    this.#log.reset();
    this.#queue = [];
    this.#always = undefined;
    this.#azure.reset();
  }

  waitForRequests(count: number, timeoutMs = DEFAULT_WAIT_MS): Promise<void> {
    return this.#log.waitFor(count, timeoutMs);
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const all = [server, ...this.#others.splice(0)];
    await Promise.all(all.map((each) => closeServer(each, this.#open)));
  }

  async restart(): Promise<void> {
    await this.stop();
    const { tls } = this.#options;
    const listener: RequestListener = (request, response) => this.#handle(request, response);
    const limits = {
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: 0,
      requestTimeout: 0,
      headersTimeout: 0,
    };
    const server = tls ? createTlsServer({ ...tls, ...limits }, listener) : createServer(limits, listener);
    const accepted = new Map<string, Socket>();
    server.on('connection', (socket: Socket) => {
      socket.setNoDelay(true);
      this.#opened++;
      this.#open.add(socket);
      const peer = `${socket.remoteAddress} ${socket.remotePort}`;
      const connection = { tcp: socket, number: this.#opened };
      this.#sockets.set(socket, connection);
      accepted.set(peer, socket);
      socket.once('close', () => {
        this.#open.delete(socket);
        accepted.delete(peer);
      });
    });
    server.on('secureConnection', (socket: Socket) => {
      const tcp = accepted.get(`${socket.remoteAddress} ${socket.remotePort}`);
      const connection = tcp && this.#sockets.get(tcp);
      if (connection) this.#sockets.set(socket, connection);
    });
    server.on('clientError', (_, socket) => socket.destroy());
    await listening(server.listen({ host: this.#host, port: this.port }));
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
    for (const host of this.#options.alsoOn ?? []) {
      const other = createTcpServer((socket) => server.emit('connection', socket));
      try {
        await listening(other.listen({ host, port: this.port }));
      } catch (error) {
        await this.stop();
        throw error;
      }
      this.#others.push(other);
    }
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.#sockets.get(request.socket);
    const socket = connection?.tcp ?? request.socket;
    const record = new RequestRecord(request, connection?.number ?? 0);
    const ours = record.target.startsWith('/++/');
    const { recordRequests, keepRequests } = this.config;
    const behaviour = ours ? undefined : this.#take(record.target);
    if (!ours) this.#log.add(record, recordRequests ? keepRequests : 0);
    response.once('close', () => record.end(response.writableFinished ? 'finished' : 'aborted'));
    response.once('finish', () => record.end('finished'));
    if (behaviour?.reset === 'before-request-read') {
      record.end('finished');
      socket.resetAndDestroy();
      return;
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
    });
    request.once('end', () => {
      record.state = 'answering';
      const body =
        chunks.length === 0 ? NO_BODY : chunks.length === 1 ? (chunks[0] ?? NO_BODY) : Buffer.concat(chunks);
      if (this.config.recordBodies) record.body = body;
      if (ours) {
        const answer = control(this, record.method, record.target, body);
        void respond(answer, { response, socket, headers: [], done: false });
        return;
      }
      this.#answer(record, body, bytes > MAX_BODY_BYTES, behaviour, { response, socket });
    });
    // A body that breaks off: the response tells by its 'close'.
    request.once('error', () => undefined);
  }

  #take(target: string): Behaviour | undefined {
    const index = this.#queue.findIndex(({ behaviour }) => matches(behaviour, target));
    const taken = this.#queue[index];
    if (!taken) return this.#always && matches(this.#always, target) ? this.#always : undefined;
    taken.left--;
    if (taken.left <= 0) this.#queue.splice(index, 1);
    return taken.behaviour;
  }

  #answer(
    record: RequestRecord,
    body: Buffer,
    tooLarge: boolean,
    behaviour: Behaviour | undefined,
    { response, socket }: { readonly response: ServerResponse; readonly socket: Socket },
  ): void {
    const scripted = behaviour && scriptedAnswer(behaviour);
    const azure = scripted
      ? { behaviour: scripted }
      : tooLarge
        ? { behaviour: { status: 413, body: '' } }
        : this.#azure.answer(record, body, this.config);
    const answer = behaviour ? overlaid(azure.behaviour, behaviour) : azure.behaviour;
    const status = answer.status ?? 200;
    const { deployment, standing } = { deployment: undefined, standing: undefined, ...azure };
    const headers = azureHeaders({
      config: this.config,
      region: this.name,
      success: status < 400,
      clientRequestId: record.header('x-ms-client-request-id'),
      deployment,
      standing,
      tookMs: performance.now() - record.startedAt,
    });
    const delivery = {
      response,
      socket,
      headers,
      done: endsWithDone(record),
      onHead: () => {
        record.status = status;
      },
      onCut: () => record.end('finished'),
    };
    void respond(answer, delivery);
  }
}

const listening = (server: Server) => once(server, 'listening');

const matches = ({ path }: Behaviour, target: string): boolean =>
  path === undefined || target.search(path) >= 0;

/** The answer that a behaviour has by itself; undefined where Azure's is to be sent in its way. */
function scriptedAnswer({ status, body, events }: Behaviour): Behaviour | undefined {
  if (body !== undefined || events !== undefined) return {};
  return status === undefined ? undefined : (answerOfStatus(status) ?? {});
}

function endsWithDone({ method, target }: RequestRecord): boolean {
  const address = addressOf(target);
  return address !== undefined && routeOf(method, address.path)?.operation.done === true;
}
