/**
 * A mock Azure OpenAI resource on its own port. It answers like Azure, or with scripted faults. Each mock has its own
 * limits, files, responses and log.
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { answerOfStatus } from './answers.ts';
import { AzureOpenAI, addressOf } from './azure.ts';
import { type Behaviour, overlaid } from './behaviour.ts';
import { closeServer } from './close-server.ts';
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
  /** The region in messages. Default mock. */
  readonly name?: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Further addresses to listen on, with the same port. */
  readonly alsoOn?: readonly string[];
  /** Default 0: any free port. */
  readonly port?: number;
  /** PEM. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /**
   * Accepted keys, in the header api-key, or on v1 as a bearer token. Undefined: any credential is accepted, but one is
   * required.
   */
  readonly keys?: readonly string[];
  /** Accepted bearer tokens of Entra ID, in addition to the keys. */
  readonly tokens?: (token: string) => boolean;
  /** Names of deployments; undefined: all names exist. */
  readonly deployments?: readonly string[];
  readonly config?: MockConfig;
}

export interface MockBackend {
  readonly name: string;
  readonly port: number;
  readonly url: string;
  /** Requests in the order in which their headers arrived. */
  readonly requests: readonly RecordedRequest[];
  readonly connections: { readonly opened: number; readonly open: number };
  /** Adds behaviours for a limited number of requests. Each request takes the first one whose path matches. */
  script(...behaviours: Behaviour[]): void;
  /** Sets the behaviour for requests without a scripted one; undefined: Azure's own. */
  always(behaviour: Behaviour | undefined): void;
  /** Changes the configuration. The limit windows are kept. */
  configure(patch: MockConfig): void;
  /** Removes only scripts, including that of `always`. */
  clearScripts(): void;
  /** Removes requests, scripts, windows and stored objects; the configuration is kept. */
  reset(): void;
  /** Waits until `count` requests have arrived. Rejects after `timeoutMs`, by default 5000. */
  waitForRequests(count: number, timeoutMs?: number): Promise<void>;
  /** Stops like a process that ends: the port is closed, and open connections are cut. */
  stop(): Promise<void>;
  /** Starts again on the same port. */
  restart(): Promise<void>;
}

const MAX_BODY_BYTES = 100 * 2 ** 20;
const MAX_HEADER_BYTES = 64 * 2 ** 10;
const DEFAULT_WAIT_MS = 5_000;
const NO_BODY = Buffer.alloc(0);

/** Starts a mock. Rejects if it cannot listen on the port. */
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
  /** The TCP socket of each request socket, which is the same socket or TLS on top of it. */
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

  clearScripts(): void {
    this.#queue = [];
    this.#always = undefined;
  }

  reset(): void {
    this.#log.reset();
    this.clearScripts();
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
    // The body ended early: the 'close' event of the response handles it.
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

/** The answer that a behaviour defines; undefined if Azure's answer is to be sent. */
function scriptedAnswer({ status, body, events }: Behaviour): Behaviour | undefined {
  if (body !== undefined || events !== undefined) return {};
  return status === undefined ? undefined : (answerOfStatus(status) ?? {});
}

function endsWithDone({ method, target }: RequestRecord): boolean {
  const address = addressOf(target);
  return address !== undefined && routeOf(method, address.path)?.operation.done === true;
}
