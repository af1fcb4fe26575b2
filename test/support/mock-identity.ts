/**
 * A mock of the sources of Entra ID tokens on a port of its own: the endpoint of Container Apps and App Service, the
 * metadata service of virtual machines, and Entra ID itself for workload identity. Each rejects what the real one rejects.
 */

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { type Behaviour, overlaid } from '../../compiler/mock/behaviour.ts';
import { closeServer } from '../../compiler/mock/close-server.ts';
import { type RecordedRequest, RequestRecord } from '../../compiler/mock/request-log.ts';
import { respond } from '../../compiler/mock/respond.ts';
import { until } from './traffic.ts';

export type TokenSource = 'endpoint' | 'metadata' | 'workload';

export interface MockIdentityOptions {
  readonly host: string;
  /** The gateway's name for that host. */
  readonly hostName: string;
  /** PEM. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** The lifetime of tokens in seconds. Default an hour. */
  readonly lifetimeS?: number;
}

/** A token request in any of the three ways. */
export interface TokenRequest extends RecordedRequest {
  readonly source: TokenSource | undefined;
  readonly resource: string | undefined;
  readonly clientId: string | undefined;
  /** The content of the token file. */
  readonly assertion: string | undefined;
  /** The token that was issued. */
  readonly token?: string;
}

export interface MockIdentity {
  readonly url: string;
  /** In order of arrival. */
  readonly requests: readonly TokenRequest[];
  /** The secret that the endpoint of Container Apps expects. */
  readonly secret: string;
  /** The content that a token file must have. */
  readonly assertion: string;
  /** Whether a token was issued for a resource and has not expired. */
  accepts(token: string, resource?: string): boolean;
  /** Sets the lifetime of tokens issued from now on. */
  lifetime(seconds: number): void;
  /** Changes and returns the token file content that Entra ID expects from now on. */
  rotateAssertion(): string;
  /** Variables that make the gateway use one of the sources. */
  environment(source: TokenSource): Record<string, string>;
  /** Adds one-shot behaviours. Each request takes the first one whose path matches its target. */
  script(...behaviours: Behaviour[]): void;
  /** The behaviour for requests without a scripted one; undefined restores real answers. */
  always(behaviour: Behaviour | undefined): void;
  /** Waits until this many requests have arrived. */
  waitForRequests(count: number, timeoutMs?: number): Promise<void>;
  /** Forgets requests, scripts and tokens. */
  reset(): void;
  stop(): Promise<void>;
  /** Starts again on the same port. */
  restart(): Promise<void>;
}

export const TENANT = '72f988bf-86f1-41af-91ab-2d7cd011db47';
export const CLIENT_ID = '11111111-2222-3333-4444-555555555555';
export const DEFAULT_RESOURCE = 'https://cognitiveservices.azure.com/';
/** The path of the token file in the gateway's container. */
export const TOKEN_FILE = '/tmp/azure-identity-token';

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** About the length of real Entra ID tokens. */
const TOKEN_BYTES = 1_700;

export async function startMockIdentity(options: MockIdentityOptions): Promise<MockIdentity> {
  const mock = new MockIdentityServer(options);
  await mock.restart();
  return mock;
}

class MockIdentityServer implements MockIdentity {
  readonly requests: (RequestRecord & TokenRequest)[] = [];
  readonly secret = `secret-of-the-endpoint-${randomUUID()}`;
  assertion = newAssertion();
  readonly #options: MockIdentityOptions;
  readonly #open = new Set<Socket>();
  readonly #tokens = new Map<string, { readonly resource: string; readonly endsAt: number }>();
  #lifetimeS: number;
  #port = 0;
  #queue: { readonly behaviour: Behaviour; left: number }[] = [];
  #always: Behaviour | undefined;
  #server: ReturnType<typeof createServer> | undefined;

  constructor(options: MockIdentityOptions) {
    this.#options = options;
    this.#lifetimeS = options.lifetimeS ?? 3_600;
  }

  get url(): string {
    const { tls, hostName } = this.#options;
    return `${tls ? 'https' : 'http'}://${hostName}:${this.#port}`;
  }

  accepts(token: string, resource = DEFAULT_RESOURCE): boolean {
    const known = this.#tokens.get(token);
    return (
      known !== undefined && known.endsAt > Date.now() && audience(known.resource) === audience(resource)
    );
  }

  lifetime(seconds: number): void {
    this.#lifetimeS = seconds;
  }

  rotateAssertion(): string {
    this.assertion = newAssertion();
    return this.assertion;
  }

  environment(source: TokenSource): Record<string, string> {
    switch (source) {
      case 'endpoint':
        return { IDENTITY_ENDPOINT: `${this.url}/msi/token`, IDENTITY_HEADER: this.secret };
      case 'metadata':
        return { AZURE_POD_IDENTITY_AUTHORITY_HOST: this.url };
      case 'workload':
        return {
          AZURE_FEDERATED_TOKEN_FILE: TOKEN_FILE,
          AZURE_TENANT_ID: TENANT,
          AZURE_CLIENT_ID: CLIENT_ID,
          AZURE_AUTHORITY_HOST: `${this.url}/`,
        };
    }
  }

  script(...behaviours: Behaviour[]): void {
    this.#queue.push(...behaviours.map((behaviour) => ({ behaviour, left: behaviour.times ?? 1 })));
  }

  always(behaviour: Behaviour | undefined): void {
    this.#always = behaviour;
  }

  waitForRequests(count: number, timeoutMs?: number): Promise<void> {
    return until(() => this.requests.length >= count, timeoutMs);
  }

  reset(): void {
    this.requests.length = 0;
    this.#queue = [];
    this.#always = undefined;
    this.#tokens.clear();
    this.#lifetimeS = this.#options.lifetimeS ?? 3_600;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    await closeServer(server, this.#open);
  }

  async restart(): Promise<void> {
    await this.stop();
    const { tls, host } = this.#options;
    const listener = (request: IncomingMessage, response: ServerResponse) => this.#handle(request, response);
    const server = tls ? createTlsServer(tls, listener) : createServer(listener);
    server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
    server.on('tlsClientError', (_, socket) => socket.destroy());
    server.on('clientError', (_, socket) => socket.destroy());
    server.listen({ host, port: this.#port });
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('error', () => undefined);
    request.once('end', () => {
      const record = Object.assign(new RequestRecord(request, 0), { body: Buffer.concat(chunks) });
      response.once('close', () => record.end(response.writableFinished ? 'finished' : 'aborted'));
      const asked = askedFor(record);
      const behaviour = this.#take(record.target) ?? this.#always;
      const isScripted = behaviour?.status !== undefined || behaviour?.body !== undefined;
      const problem = this.#problem(record, asked);
      const token = isScripted || problem ? undefined : this.#issue(asked);
      this.requests.push(Object.assign(record, asked, token && { token }));
      const answer: Behaviour =
        token === undefined
          ? { status: 400, body: { error: 'invalid_request', error_description: problem } }
          : { body: this.#answer(asked, token) };
      void respond(behaviour ? overlaid(isScripted ? {} : answer, behaviour) : answer, {
        response,
        socket: request.socket,
        headers: [],
        done: false,
      });
    });
  }

  #take(target: string): Behaviour | undefined {
    const taken = this.#queue.find(({ behaviour: { path } }) => path === undefined || path.test(target));
    if (taken && --taken.left === 0) this.#queue.splice(this.#queue.indexOf(taken), 1);
    return taken?.behaviour;
  }

  /** Why the real service would reject a request. */
  #problem(record: RequestRecord, asked: Asked): string | undefined {
    const version = new URL(record.target, this.url).searchParams.get('api-version');
    switch (asked.source) {
      case 'endpoint':
        if (record.header('x-identity-header') !== this.secret) return 'wrong X-IDENTITY-HEADER';
        return version === '2019-08-01' ? needsResource(asked) : 'wrong api-version';
      case 'metadata':
        if (record.header('metadata') !== 'true') return 'Required metadata header not specified';
        if (record.header('x-forwarded-for') !== undefined) return 'X-Forwarded-For is not allowed';
        return version === '2018-02-01' ? needsResource(asked) : 'wrong api-version';
      case 'workload': {
        const form = formOf(record);
        if (record.header('content-type') !== 'application/x-www-form-urlencoded') return 'not a form';
        if (form.get('grant_type') !== 'client_credentials') return 'wrong grant_type';
        if (form.get('client_assertion_type') !== ASSERTION_TYPE) return 'wrong client_assertion_type';
        if (asked.assertion !== this.assertion) return 'wrong client_assertion';
        if (asked.clientId === undefined) return 'no client_id';
        return needsResource(asked);
      }
      default:
        return 'there is nothing here';
    }
  }

  #issue({ resource = '', clientId }: Asked): string {
    const claims = {
      aud: audience(resource),
      appid: clientId ?? 'system-assigned',
      iss: `https://sts.windows.net/${TENANT}/`,
      exp: Math.floor(Date.now() / 1_000) + this.#lifetimeS,
      uti: randomUUID(),
    };
    const unsigned = `${encoded({ typ: 'JWT', alg: 'RS256' })}.${encoded(claims)}.`;
    const token = unsigned + 'token-signature-'.repeat(TOKEN_BYTES).slice(0, TOKEN_BYTES - unsigned.length);
    this.#tokens.set(token, { resource, endsAt: Date.now() + this.#lifetimeS * 1_000 });
    return token;
  }

  /** Each source reports a token's expiry in its own format. */
  #answer({ source, resource, clientId }: Asked, token: string): object {
    const expiresOn = Math.floor(Date.now() / 1_000) + this.#lifetimeS;
    const common = { access_token: token, token_type: 'Bearer' };
    switch (source) {
      case 'endpoint':
        return { ...common, resource, client_id: clientId, expires_on: expiresOn };
      case 'metadata':
        return {
          ...common,
          resource,
          client_id: clientId,
          refresh_token: '',
          expires_in: String(this.#lifetimeS),
          expires_on: String(expiresOn),
          ext_expires_in: '86399',
          not_before: String(expiresOn - this.#lifetimeS - 300),
        };
      default:
        return { ...common, expires_in: this.#lifetimeS, ext_expires_in: this.#lifetimeS };
    }
  }
}

type Asked = Pick<TokenRequest, 'source' | 'resource' | 'clientId' | 'assertion'>;

function askedFor(record: RequestRecord): Asked {
  const { pathname, searchParams } = new URL(record.target, 'http://mock');
  const read = (from: URLSearchParams, name: string) => from.get(name) ?? undefined;
  const nothing = { source: undefined, resource: undefined, clientId: undefined, assertion: undefined };
  if (record.method === 'POST' && pathname === `/${TENANT}/oauth2/v2.0/token`) {
    const form = formOf(record);
    const [, resource] = /^(.*)\/\.default$/.exec(form.get('scope') ?? '') ?? [];
    return {
      source: 'workload',
      resource,
      clientId: read(form, 'client_id'),
      assertion: read(form, 'client_assertion'),
    };
  }
  const paths: Readonly<Record<string, TokenSource>> = {
    '/msi/token': 'endpoint',
    '/metadata/identity/oauth2/token': 'metadata',
  };
  const source = record.method === 'GET' ? paths[pathname] : undefined;
  if (!source) return nothing;
  return {
    source,
    resource: read(searchParams, 'resource'),
    clientId: read(searchParams, 'client_id'),
    assertion: undefined,
  };
}

const formOf = ({ body }: RequestRecord) => new URLSearchParams(body.toString('utf8'));

const needsResource = ({ resource }: Asked): string | undefined =>
  resource?.startsWith('https://') ? undefined : 'AADSTS500011: the resource principal was not found';

const audience = (resource: string): string => resource.replace(/\/$/, '');

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

const newAssertion = (): string => `assertion.of-the-token-file.${randomUUID()}`;
