/**
 * The front door of storage accounts, as the double of Azure has it: block blobs with metadata and leases, which is all that
 * Terraform's states need. Only tokens of Entra ID are taken, never keys.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

const METADATA = 'x-ms-meta-';

interface Blob {
  readonly content: Buffer;
  readonly type: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly lease?: string;
}

export interface BlobRequest {
  readonly method: string;
  /** The name of the account. */
  readonly account: string;
  /** Decoded, without a slash at its end. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly content: Buffer;
}

export interface BlobAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly content?: Buffer | string;
}

const refused = (status: number, code: string): BlobAnswer => ({
  status,
  headers: { 'content-type': 'application/xml', 'x-ms-error-code': code },
  content: `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`,
});

const metadataOf = (headers: IncomingHttpHeaders): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => name.startsWith(METADATA))
      .map(([name, value]) => [name.slice(METADATA.length), String(value)]),
  );

const headersOf = ({ content, type, metadata, lease }: Blob): Record<string, string> => ({
  'content-type': type,
  'last-modified': new Date().toUTCString(),
  etag: `"${createHash('sha256').update(content).digest('hex').slice(0, 16)}"`,
  'x-ms-blob-type': 'BlockBlob',
  'x-ms-lease-status': lease === undefined ? 'unlocked' : 'locked',
  'x-ms-lease-state': lease === undefined ? 'available' : 'leased',
  ...Object.fromEntries(Object.entries(metadata).map(([name, value]) => [METADATA + name, value])),
});

export class Blobs {
  /** By account and path. */
  private readonly blobs = new Map<string, Blob>();

  /** @param hasContainer whether there is a container of this name in this account. */
  constructor(private readonly hasContainer: (account: string, container: string) => boolean) {}

  /** The content of each blob, by `account/container/name`. */
  texts(): ReadonlyMap<string, string> {
    return new Map([...this.blobs].map(([key, { content }]) => [key, content.toString('utf8')]));
  }

  answer(request: BlobRequest): BlobAnswer {
    const { account, path, query, headers } = request;
    if (!headers.authorization?.startsWith('Bearer '))
      return refused(403, 'KeyBasedAuthenticationNotPermitted');
    const [, container = '', ...rest] = path.split('/');
    if (!this.hasContainer(account, container)) return refused(404, 'ContainerNotFound');
    if (rest.length > 0) return this.blob(request, `${account}${path}`);
    return query.get('comp') === 'list'
      ? this.list(account, container, query.get('prefix') ?? '')
      : { status: 200 };
  }

  private list(account: string, container: string, prefix: string): BlobAnswer {
    const folder = `${account}/${container}/`;
    const names = [...this.blobs.keys()]
      .filter((key) => key.startsWith(folder + prefix))
      .map((key) => `<Blob><Name>${key.slice(folder.length)}</Name></Blob>`);
    return {
      status: 200,
      headers: { 'content-type': 'application/xml' },
      content: `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Prefix>${prefix}</Prefix><Blobs>${names.join('')}</Blobs><NextMarker/></EnumerationResults>`,
    };
  }

  private blob({ method, query, headers, content }: BlobRequest, key: string): BlobAnswer {
    const before = this.blobs.get(key);
    const given = headers['x-ms-lease-id'];
    const isChange = method === 'PUT' || method === 'DELETE';
    if (isChange && query.get('comp') !== 'lease' && before?.lease !== undefined && before.lease !== given)
      return refused(412, given === undefined ? 'LeaseIdMissing' : 'LeaseIdMismatchWithBlobOperation');
    if (method === 'PUT' && !query.has('comp')) {
      const type = String(headers['x-ms-blob-content-type'] ?? 'application/octet-stream');
      const lease = before?.lease === undefined ? {} : { lease: before.lease };
      const blob: Blob = { content, type, metadata: metadataOf(headers), ...lease };
      this.blobs.set(key, blob);
      return { status: 201, headers: headersOf(blob) };
    }
    if (before === undefined) return refused(404, 'BlobNotFound');
    switch (`${method} ${query.get('comp') ?? ''}`) {
      case 'GET ':
        return { status: 200, headers: headersOf(before), content: before.content };
      case 'HEAD ':
        return {
          status: 200,
          headers: { ...headersOf(before), 'content-length': String(before.content.length) },
        };
      case 'DELETE ':
        this.blobs.delete(key);
        return { status: 202 };
      case 'PUT metadata':
        this.blobs.set(key, { ...before, metadata: metadataOf(headers) });
        return { status: 200 };
      case 'PUT lease':
        return this.lease(key, before, headers);
      default:
        return refused(400, 'UnsupportedByTheDouble');
    }
  }

  private lease(key: string, { lease, ...blob }: Blob, headers: IncomingHttpHeaders): BlobAnswer {
    if (headers['x-ms-lease-action'] === 'acquire') {
      if (lease !== undefined) return refused(409, 'LeaseAlreadyPresent');
      const id = String(headers['x-ms-proposed-lease-id'] ?? randomUUID());
      this.blobs.set(key, { ...blob, lease: id });
      return { status: 201, headers: { 'x-ms-lease-id': id } };
    }
    if (lease !== headers['x-ms-lease-id']) return refused(409, 'LeaseIdMismatchWithLeaseOperation');
    this.blobs.set(key, blob);
    return { status: 200 };
  }
}
