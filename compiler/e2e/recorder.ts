/** A proxy between a load generator that is not ours and the gateway. It records what each request saw. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Lane } from '../model/model.ts';
import { type GatewayAddress, helperHeaders, PREFERRED_PATH } from './gateway-client.ts';
import { type HelperCall, type Observation, observationOf } from './observation.ts';

export interface Recorder {
  readonly url: string;
  readonly observations: readonly Observation[];
  /** Calls of the helper that sets the preferred backends. */
  readonly helpers: readonly HelperCall[];
  /** `performance.now()` at the first request of the load; undefined before it. */
  readonly begin: number | undefined;
  stop(): Promise<void>;
}

const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'transfer-encoding',
  'content-length',
  'content-encoding',
  'host',
];

/** Starts the proxy on a free port of the loopback address. */
export async function startRecorder(gateway: GatewayAddress): Promise<Recorder> {
  const { url, keys } = gateway;
  const observations: Observation[] = [];
  const helpers: { readonly ended: number; readonly status: number; readonly order: readonly string[] }[] =
    [];
  let begin: number | undefined;

  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const path = request.url ?? '/';
    const isHelper = path.startsWith(PREFERRED_PATH);
    const started = performance.now();
    if (!isHelper) begin ??= started;
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(
        (each): each is [string, string] => typeof each[1] === 'string' && !HOP_BY_HOP.includes(each[0]),
      ),
    );
    const sent = {
      at: started - (begin ?? started),
      path,
      lane: laneOf(request, path),
      client: Math.max(0, keys.indexOf(headers['api-key'] ?? '')),
      body: parsed(body),
    };
    let status = 0;
    try {
      const answer = await fetch(`${url}${path}`, {
        method: request.method ?? 'POST',
        headers: { ...headers, ...(isHelper ? helperHeaders(gateway) : {}) },
        ...(body.length > 0 ? { body } : {}),
      });
      const bytes = Buffer.from(await answer.arrayBuffer());
      status = answer.status;
      if (!isHelper) {
        const seen = { status, headers: answer.headers, text: bytes.toString('utf8') };
        observations.push(observationOf(sent, seen, performance.now() - started));
      }
      const passed = [...answer.headers].filter(([name]) => !HOP_BY_HOP.includes(name));
      response.writeHead(status, Object.fromEntries(passed));
      response.end(bytes);
    } catch {
      if (!isHelper) observations.push(observationOf(sent, undefined, performance.now() - started));
      if (!response.headersSent) response.writeHead(502);
      response.end();
    }
    if (isHelper) helpers.push({ ended: performance.now(), status, order: orderIn(sent.body) });
  };

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    get observations() {
      return observations.toSorted((a, b) => a.at - b.at);
    },
    get helpers() {
      return helpers.map(({ ended, status, order }) => ({ at: ended - (begin ?? ended), status, order }));
    },
    get begin() {
      return begin;
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The lane that a request asks for, as the toolkit's policies read it. */
function laneOf({ headers }: IncomingMessage, path: string): Lane {
  const asked = new URLSearchParams(path.split('?')[1] ?? '').get('priority');
  return headers['x-priority'] === 'low' || asked === 'low' ? 'low' : 'high';
}

/** Both names of the member, as the helper accepts them. */
function orderIn(body: unknown): readonly string[] {
  const { preferredBackends, preferred_backends: other } = (body ?? {}) as Record<string, unknown>;
  return [preferredBackends ?? other ?? []].flat().map(String);
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
