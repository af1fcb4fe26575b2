/**
 * A Key Vault in this process, with the paths, bodies, challenges and errors of the real one (api-version 7.x). What it
 * answers can be disturbed: denied, throttled, slow.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Version {
  readonly id: string;
  readonly value: string;
  readonly contentType?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

interface Stored {
  readonly versions: Version[];
  deleted: boolean;
  enabled: boolean;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
}

/** An answer in place of the vault's own; `undefined`: the vault's own. */
export type Disturbance = (request: SeenRequest) =>
  | {
      readonly status: number;
      readonly code: string;
      readonly inner?: string;
      readonly headers?: Record<string, string>;
    }
  | 'hang'
  | undefined;

export class FakeKeyVault {
  readonly #server: Server;
  readonly #secrets = new Map<string, Stored>();
  /** Requests with a token, in order. The first of a client, which has none, is challenged and not listed. */
  readonly requests: SeenRequest[] = [];
  /** All texts that came in except bodies: paths and headers. */
  readonly heads: string[] = [];
  disturb: Disturbance = () => undefined;
  /** Reads of a recovered secret that still fail, as Key Vault needs some seconds. */
  readsUntilRecovered = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<FakeKeyVault> {
    const server = createServer();
    const vault = new FakeKeyVault(server);
    server.on('request', (request, response) => void vault.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    vault.uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    return vault;
  }

  /** Stays the same when the vault has stopped. */
  uri = '';

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  put(
    name: string,
    value: string,
    { tags, enabled = true }: { tags?: Record<string, string>; enabled?: boolean } = {},
  ): void {
    const stored = this.#secrets.get(name) ?? { versions: [], deleted: false, enabled };
    stored.versions.push({ id: `v${stored.versions.length + 1}`, value, tags });
    this.#secrets.set(name, stored);
  }

  remove(name: string): void {
    const stored = this.#secrets.get(name);
    if (stored) stored.deleted = true;
  }

  /** Values of all versions, oldest first. */
  versions(name: string): readonly string[] {
    return this.#secrets.get(name)?.versions.map(({ value }) => value) ?? [];
  }

  tags(name: string): Readonly<Record<string, string>> | undefined {
    return this.#secrets.get(name)?.versions.at(-1)?.tags;
  }

  names(): readonly string[] {
    return [...this.#secrets.keys()];
  }

  get writes(): readonly SeenRequest[] {
    return this.requests.filter(({ method }) => method !== 'GET');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method = '', url = '', headers } = request;
    this.heads.push(`${method} ${url} ${JSON.stringify({ ...headers, authorization: undefined })}`);
    const send = (status: number, body: unknown, more: Record<string, string> = {}) => {
      response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...more });
      response.end(JSON.stringify(body));
    };
    const refuse = (status: number, code: string, inner?: string, more?: Record<string, string>) =>
      send(
        status,
        {
          error: { code, message: `${code} of the test`, ...(inner ? { innererror: { code: inner } } : {}) },
        },
        more,
      );
    if (headers.authorization === undefined) {
      const challenge = `Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000", resource="https://vault.azure.net"`;
      return refuse(401, 'Unauthorized', 'AKV10000', { 'www-authenticate': challenge });
    }
    const { pathname } = new URL(url, this.uri);
    const seen = { method, path: pathname.replace(/\/$/, '') };
    this.requests.push(seen);
    const disturbed = this.disturb(seen);
    if (disturbed === 'hang') return;
    if (disturbed) return refuse(disturbed.status, disturbed.code, disturbed.inner, disturbed.headers);
    const [, kind, name = '', action] = seen.path.split('/');
    const stored = this.#secrets.get(name);
    const body = (version: Version | undefined) => ({
      value: version?.value,
      contentType: version?.contentType,
      id: `${this.uri}secrets/${name}/${version?.id}`,
      attributes: {
        enabled: true,
        created: 1_700_000_000,
        updated: 1_700_000_000,
        recoveryLevel: 'Recoverable+Purgeable',
      },
      tags: version?.tags,
    });
    const deletedBody = (of: Stored) => ({
      ...body(of.versions.at(-1)),
      value: undefined,
      recoveryId: `${this.uri}deletedsecrets/${name}`,
      deletedDate: 1_700_000_000,
      scheduledPurgeDate: 1_707_776_000,
    });
    if (kind === 'secrets' && method === 'GET') {
      if (!stored || stored.deleted) return refuse(404, 'SecretNotFound');
      if (this.readsUntilRecovered > 0) {
        this.readsUntilRecovered--;
        return refuse(404, 'SecretNotFound');
      }
      if (!stored.enabled) return refuse(403, 'Forbidden', 'SecretDisabled');
      return send(200, body(stored.versions.at(-1)));
    }
    if (kind === 'secrets' && method === 'PUT') {
      if (stored?.deleted) return refuse(409, 'Conflict', 'ObjectIsDeletedButRecoverable');
      const { value, contentType, tags } = JSON.parse(Buffer.concat(chunks).toString('utf8'));
      const of = stored ?? { versions: [], deleted: false, enabled: true };
      of.versions.push({ id: `v${of.versions.length + 1}`, value, contentType, tags });
      this.#secrets.set(name, of);
      return send(200, body(of.versions.at(-1)));
    }
    if (kind === 'deletedsecrets' && method === 'GET') {
      return stored?.deleted ? send(200, deletedBody(stored)) : refuse(404, 'SecretNotFound');
    }
    if (kind === 'deletedsecrets' && method === 'POST' && action === 'recover') {
      if (!stored?.deleted) return refuse(404, 'SecretNotFound');
      stored.deleted = false;
      return send(200, body(stored.versions.at(-1)));
    }
    refuse(400, 'BadParameter');
  }
}
