/**
 * A mock of an OIDC issuer on a port of its own: its discovery document, its keys, and tokens that are correctly signed or
 * forged as a test needs.
 */

import {
  constants,
  createHmac,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  sign,
} from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { closeServer } from '../../compiler/mock/close-server.ts';

export type Algorithm = `${'RS' | 'PS' | 'ES' | 'HS'}${256 | 384 | 512}`;
export type AsymmetricAlgorithm = Exclude<Algorithm, `HS${string}`>;

export interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export interface TokenOptions {
  /** Overrides claims of a valid token; undefined removes a claim. */
  readonly claims?: Readonly<Record<string, unknown>>;
  /** Overrides `alg`, `kid` and `typ`; undefined removes a parameter. */
  readonly header?: Readonly<Record<string, unknown>>;
  /** The signing key. Default the issuer's first RSA key. */
  readonly key?: SigningKey;
  /** Default RS256, or ES256 for an EC key. */
  readonly algorithm?: AsymmetricAlgorithm;
}

/** An answer in place of one of the two documents. */
export interface IssuerAnswer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, unless it is a string. */
  readonly body?: unknown;
  readonly delayMs?: number;
  /** Accepts the request and never answers. */
  readonly hang?: boolean;
}

export type IssuerDocument = 'discovery' | 'keys';

export interface MockIssuerOptions {
  readonly host: string;
  /** The gateway's name for that host. Default the host itself. */
  readonly hostName?: string;
  /** PEM. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export interface MockIssuer {
  /** The issuer's name in its tokens. */
  readonly issuer: string;
  readonly discoveryUrl: string;
  /** The requested documents in order. */
  readonly requests: readonly IssuerDocument[];
  /** The published keys. A test may change the list and add keys that are not its own. */
  readonly keys: (SigningKey | JsonWebKey)[];
  /** A valid token of `subject-1`, modified by the options. */
  token(options?: TokenOptions): string;
  /** Sets the answer for a document; undefined restores the document itself. */
  answer(document: IssuerDocument, answer: IssuerAnswer | undefined): void;
  /** Forgets requests. */
  forget(): void;
  /** Restores the initial keys and answers, and forgets requests. */
  reset(): void;
  stop(): Promise<void>;
  /** Starts again on the same port. */
  restart(): Promise<void>;
}

export const AUDIENCE = '11111111-2222-3333-4444-555555555555';

const base64url = (value: string | Buffer) => Buffer.from(value).toString('base64url');
const json = (value: unknown) => base64url(JSON.stringify(value));
const seconds = () => Math.floor(Date.now() / 1000);

export function rsaKey(kid: string, modulusLength = 2048): SigningKey {
  return { kid, ...generateKeyPairSync('rsa', { modulusLength }) };
}

export function ecKey(kid: string, namedCurve: 'P-256' | 'P-384' | 'P-521' = 'P-256'): SigningKey {
  return { kid, ...generateKeyPairSync('ec', { namedCurve }) };
}

/** The key in the form that an issuer publishes. */
export function publicJwk({ kid, publicKey }: SigningKey): JsonWebKey {
  return { kid, use: 'sig', ...publicKey.export({ format: 'jwk' }) };
}

/** A token of three given parts. */
export const assembled = (
  header: unknown,
  claims: unknown,
  signature: (signed: string) => Buffer | string,
) => {
  const signed = `${json(header)}.${json(claims)}`;
  return `${signed}.${base64url(signature(signed))}`;
};

/** The signature of a JWS. */
export function signature(
  signed: string,
  algorithm: AsymmetricAlgorithm,
  { privateKey }: SigningKey,
): Buffer {
  const data = Buffer.from(signed);
  const digest = `sha${algorithm.slice(2)}`;
  if (algorithm.startsWith('ES')) return sign(digest, data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  if (algorithm.startsWith('RS')) return sign(digest, data, privateKey);
  return sign(digest, data, {
    key: privateKey,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  });
}

/** The signature of a JWS with a secret. */
export const hmac = (signed: string, secret: string | Buffer): Buffer =>
  createHmac('sha256', secret).update(signed).digest();

export async function startMockIssuer(options: MockIssuerOptions): Promise<MockIssuer> {
  const issuer = new MockIssuerServer(options);
  await issuer.restart();
  return issuer;
}

const PATH = '/tenant/v2.0';
const KEYS_PATH = '/tenant/discovery/v2.0/keys';

class MockIssuerServer implements MockIssuer {
  readonly requests: IssuerDocument[] = [];
  readonly keys: (SigningKey | JsonWebKey)[];
  readonly #initialKeys: readonly SigningKey[] = [rsaKey('rsa-1'), ecKey('ec-1')];
  readonly #options: MockIssuerOptions;
  readonly #open = new Set<Socket>();
  readonly #answers = new Map<IssuerDocument, IssuerAnswer>();
  #port = 0;
  #server: ReturnType<typeof createServer> | undefined;

  constructor(options: MockIssuerOptions) {
    this.#options = options;
    this.keys = [...this.#initialKeys];
  }

  get #origin(): string {
    const { tls, hostName, host } = this.#options;
    return `${tls ? 'https' : 'http'}://${hostName ?? host}:${this.#port}`;
  }

  get issuer(): string {
    return `${this.#origin}${PATH}`;
  }

  get discoveryUrl(): string {
    return `${this.issuer}/.well-known/openid-configuration`;
  }

  token({ claims, header, key, algorithm }: TokenOptions = {}): string {
    const signer = key ?? (this.#initialKeys[0] as SigningKey);
    const used = algorithm ?? (signer.privateKey.asymmetricKeyType === 'ec' ? 'ES256' : 'RS256');
    const now = seconds();
    return assembled(
      { alg: used, kid: signer.kid, typ: 'JWT', ...header },
      {
        iss: this.issuer,
        aud: AUDIENCE,
        sub: 'subject-1',
        iat: now,
        nbf: now,
        exp: now + 3_600,
        ...claims,
      },
      (signed) => signature(signed, used, signer),
    );
  }

  answer(document: IssuerDocument, answer: IssuerAnswer | undefined): void {
    if (answer) this.#answers.set(document, answer);
    else this.#answers.delete(document);
  }

  forget(): void {
    this.requests.length = 0;
  }

  reset(): void {
    this.forget();
    this.#answers.clear();
    this.keys.splice(0, this.keys.length, ...this.#initialKeys);
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
    const listener: RequestListener = ({ url = '' }, response) => this.#handle(url, response);
    const server = tls ? createTlsServer(tls, listener) : createServer(listener);
    server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
    server.listen({ host, port: this.#port });
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  #handle(target: string, response: ServerResponse): void {
    const document = this.#documentAt(target);
    if (!document) {
      response.writeHead(404).end();
      return;
    }
    this.requests.push(document);
    const { status = 200, headers = {}, body, delayMs = 0, hang } = this.#answers.get(document) ?? {};
    if (hang) return;
    const content = body ?? (document === 'discovery' ? this.#discovery() : this.#jwks());
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    setTimeout(() => {
      response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
      response.end(text);
    }, delayMs);
  }

  #documentAt(target: string): IssuerDocument | undefined {
    if (target === `${PATH}/.well-known/openid-configuration`) return 'discovery';
    return target === KEYS_PATH ? 'keys' : undefined;
  }

  #discovery(): object {
    return {
      issuer: this.issuer,
      jwks_uri: `${this.#origin}${KEYS_PATH}`,
      authorization_endpoint: `${this.#origin}/tenant/oauth2/v2.0/authorize`,
      token_endpoint: `${this.#origin}/tenant/oauth2/v2.0/token`,
      id_token_signing_alg_values_supported: ['RS256', 'ES256'],
    };
  }

  #jwks(): object {
    return { keys: this.keys.map((key) => ('privateKey' in key ? publicJwk(key as SigningKey) : key)) };
  }
}
