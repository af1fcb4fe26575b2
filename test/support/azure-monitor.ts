/** Azure Monitor as a collector sees it: Application Insights accepts telemetry, and a workspace accepts metrics. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { closeServer } from '../../compiler/mock/close-server.ts';

/** One item of telemetry as Application Insights stores it. */
export interface Envelope {
  readonly name: string;
  readonly time: string;
  readonly iKey: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly data: {
    readonly baseType: string;
    readonly baseData: Readonly<Record<string, unknown>> & {
      readonly properties?: Readonly<Record<string, string>>;
    };
  };
}

export interface RemoteWrite {
  /** Path and query. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
}

export interface MockAzureMonitor {
  readonly port: number;
  readonly envelopes: readonly Envelope[];
  readonly writes: readonly RemoteWrite[];
  /** Requests to any other path. */
  readonly strays: readonly string[];
  stop(): Promise<void>;
}

export interface MockAzureMonitorOptions {
  readonly host: string;
  /** The remote write endpoint of a Prometheus that stores what is written to the workspace. */
  readonly store?: string | (() => string);
}

export async function startMockAzureMonitor({
  host,
  store,
}: MockAzureMonitorOptions): Promise<MockAzureMonitor> {
  const envelopes: Envelope[] = [];
  const writes: RemoteWrite[] = [];
  const strays: string[] = [];
  const open = new Set<Socket>();
  const server = createServer(async (request, response) => {
    const target = request.url ?? '';
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    if (target.endsWith('/v2.1/track')) {
      const text = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
      const items = text.toString('utf8').trim().split('\n');
      envelopes.push(...items.map((each) => JSON.parse(each) as Envelope));
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ itemsReceived: items.length, itemsAccepted: items.length, errors: [] }));
    } else if (target.includes('/api/v1/write')) {
      writes.push({ target, headers: request.headers });
      response.statusCode =
        store === undefined
          ? 204
          : await forward(typeof store === 'string' ? store : store(), request.headers, body);
      response.end();
    } else {
      strays.push(target);
      response.writeHead(404).end();
    }
  });
  server.on('connection', (socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  server.listen(0, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    envelopes,
    writes,
    strays,
    stop: () => closeServer(server, open),
  };
}

async function forward(store: string, headers: IncomingHttpHeaders, body: Buffer): Promise<number> {
  const kept = ['content-type', 'content-encoding', 'x-prometheus-remote-write-version'];
  const answer = await fetch(store, {
    method: 'POST',
    headers: Object.fromEntries(kept.map((name) => [name, String(headers[name])])),
    body: new Uint8Array(body),
  });
  await answer.text();
  return answer.status;
}
