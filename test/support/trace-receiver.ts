/** A receiver for a collector's traces: OTLP over HTTP as JSON. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { closeServer } from '../../compiler/mock/close-server.ts';
import { until } from './traffic.ts';

export type Attributes = Readonly<Record<string, string | number | boolean>>;

export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** '' when it has no parent. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: 'server' | 'client' | 'other';
  /** Milliseconds since 1970. */
  readonly start: number;
  readonly end: number;
  readonly attributes: Attributes;
  readonly status: 'unset' | 'ok' | 'error';
  readonly message: string;
  readonly resource: Attributes;
}

export interface TraceReceiver {
  readonly port: number;
  readonly spans: readonly Span[];
  /** Everything received, as text. */
  readonly raw: string;
  /** The spans of a trace in the order of their starts, once there are this many. */
  trace(traceId: string, count: number, timeoutMs?: number): Promise<readonly Span[]>;
  /** The configuration of a collector that forwards traces to this receiver. */
  collectorFile(hostName: string): string;
  stop(): Promise<void>;
}

interface Value {
  readonly stringValue?: string;
  readonly intValue?: string;
  readonly doubleValue?: number;
  readonly boolValue?: boolean;
}

interface Pair {
  readonly key: string;
  readonly value: Value;
}

interface WireSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes?: readonly Pair[];
  readonly status?: { readonly code?: number; readonly message?: string };
}

interface Batch {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes?: readonly Pair[] };
    readonly scopeSpans: readonly { readonly spans: readonly WireSpan[] }[];
  }[];
}

const read = ({ stringValue, intValue, doubleValue, boolValue }: Value): string | number | boolean =>
  stringValue ?? (intValue === undefined ? (doubleValue ?? boolValue ?? '') : Number(intValue));

const attributesOf = (pairs: readonly Pair[] = []): Attributes =>
  Object.fromEntries(pairs.map(({ key, value }) => [key, read(value)]));

const milliseconds = (nanoseconds: string): number => Number(BigInt(nanoseconds) / 1_000_000n);

const spanOf = (span: WireSpan, resource: Attributes): Span => ({
  traceId: span.traceId,
  spanId: span.spanId,
  parentSpanId: span.parentSpanId ?? '',
  name: span.name,
  kind: span.kind === 2 ? 'server' : span.kind === 3 ? 'client' : 'other',
  start: milliseconds(span.startTimeUnixNano),
  end: milliseconds(span.endTimeUnixNano),
  attributes: attributesOf(span.attributes),
  status: span.status?.code === 2 ? 'error' : span.status?.code === 1 ? 'ok' : 'unset',
  message: span.status?.message ?? '',
  resource,
});

export async function startTraceReceiver(host: string): Promise<TraceReceiver> {
  const spans: Span[] = [];
  let raw = '';
  const open = new Set<Socket>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const text = (request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString('utf8');
    raw += text;
    for (const { resource, scopeSpans } of (JSON.parse(text) as Batch).resourceSpans)
      for (const scope of scopeSpans)
        spans.push(...scope.spans.map((span) => spanOf(span, attributesOf(resource.attributes))));
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  server.on('connection', (socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const ofTrace = (traceId: string) => spans.filter((span) => span.traceId === traceId);
  return {
    port,
    spans,
    get raw() {
      return raw;
    },
    trace: async (traceId, count, timeoutMs = 20_000) => {
      await until(() => ofTrace(traceId).length >= count, timeoutMs);
      return ofTrace(traceId).sort((a, b) => a.start - b.start);
    },
    collectorFile: (hostName) =>
      JSON.stringify({
        receivers: { otlp: { protocols: { http: { endpoint: '0.0.0.0:4318' } } } },
        exporters: { otlp_http: { endpoint: `http://${hostName}:${port}`, encoding: 'json' } },
        service: { pipelines: { traces: { receivers: ['otlp'], exporters: ['otlp_http'] } } },
      }),
    stop: () => closeServer(server, open),
  };
}
