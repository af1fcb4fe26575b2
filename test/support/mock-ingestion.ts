/**
 * A mock of Azure Monitor's Logs Ingestion API, as a data collection endpoint answers: one rule with one stream, bearer
 * tokens of the gateway's identity, at most 1 MB a call, and rows that are JSON objects with a time.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { closeServer } from '../../compiler/mock/close-server.ts';
import { type RecordedRequest, RequestRecord } from '../../compiler/mock/request-log.ts';
import { until } from './traffic.ts';

export const RESOURCE = 'https://monitor.azure.com';
const RULE = 'dcr-0123456789abcdef0123456789abcdef';
const STREAM = 'Custom-APISIXGatewayLogs';
const MAX_BYTES = 1_048_576;

export type ApimRecord = Readonly<Record<string, unknown>>;

export interface Batch {
  readonly request: RecordedRequest;
  /** The status that the mock returned. */
  readonly status: number;
  /** The rows of the body, if it has any. */
  readonly records: readonly ApimRecord[];
}

export interface ScriptedAnswer {
  readonly status: number;
  readonly code?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly times?: number;
}

export interface MockIngestion {
  /** The endpoint for the gateway's settings. */
  readonly uri: string;
  /** All calls in order. */
  readonly batches: readonly Batch[];
  /** The accepted records. */
  readonly records: readonly ApimRecord[];
  script(...answers: readonly ScriptedAnswer[]): void;
  /** The answer to all calls; undefined restores real answers. */
  always(answer: ScriptedAnswer | undefined): void;
  /** Waits until a matching record was accepted. */
  waitForRecord(fits: (record: ApimRecord) => boolean, timeoutMs?: number): Promise<ApimRecord>;
  reset(): void;
  stop(): Promise<void>;
}

export interface MockIngestionOptions {
  readonly host: string;
  /** The gateway's name for that host. */
  readonly hostName: string;
  readonly accepts: (token: string) => boolean;
}

export async function startMockIngestion({
  host,
  hostName,
  accepts,
}: MockIngestionOptions): Promise<MockIngestion> {
  const batches: Batch[] = [];
  const open = new Set<Socket>();
  let queue: { readonly answer: ScriptedAnswer; left: number }[] = [];
  let always: ScriptedAnswer | undefined;

  function take(): ScriptedAnswer | undefined {
    const [next] = queue;
    if (next && --next.left === 0) queue.shift();
    return next?.answer ?? always;
  }

  function handle(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('error', () => undefined);
    request.once('end', () => {
      const record = Object.assign(new RequestRecord(request, 0), { body: Buffer.concat(chunks) });
      const rows = rowsOf(record.body);
      const { status, code, headers = {} } = take() ?? verdict(record, rows, accepts);
      batches.push({ request: record, status, records: rows ?? [] });
      response.writeHead(status, {
        ...headers,
        ...(status === 204
          ? {}
          : { 'content-type': 'application/json', 'x-ms-error-code': code ?? 'Scripted' }),
      });
      response.end(
        status === 204
          ? undefined
          : JSON.stringify({ error: { code: code ?? 'Scripted', message: 'planted-message' } }),
      );
    });
  }

  const server = createServer(handle);
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  server.listen({ host, port: 0 });
  await once(server, 'listening');
  const taken = () => batches.filter(({ status }) => status === 204).flatMap(({ records }) => records);
  return {
    uri: `http://${hostName}:${(server.address() as AddressInfo).port}/dataCollectionRules/${RULE}`,
    batches,
    get records() {
      return taken();
    },
    script: (...answers) => queue.push(...answers.map((answer) => ({ answer, left: answer.times ?? 1 }))),
    always: (answer) => {
      always = answer;
    },
    waitForRecord: async (fits, timeoutMs = 10_000) => {
      await until(() => taken().some(fits), timeoutMs);
      return taken().find(fits) as ApimRecord;
    },
    reset: () => {
      batches.length = 0;
      queue = [];
      always = undefined;
    },
    stop: () => closeServer(server, open),
  };
}

function verdict(
  request: RecordedRequest,
  rows: readonly ApimRecord[] | undefined,
  accepts: (token: string) => boolean,
): ScriptedAnswer {
  const [, token = ''] = /^Bearer (\S+)$/.exec(request.header('authorization') ?? '') ?? [];
  if (!accepts(token)) return { status: 401, code: 'InvalidToken' };
  if (request.method !== 'POST' || request.target !== TARGET) return { status: 404, code: 'NotFound' };
  if (request.body.length > MAX_BYTES) return { status: 413, code: 'ContentLengthLimitExceeded' };
  if (request.header('content-type') !== 'application/json')
    return { status: 415, code: 'UnsupportedMediaType' };
  if (rows === undefined) return { status: 400, code: 'InvalidPayload' };
  return { status: 204 };
}

const TARGET = `/dataCollectionRules/${RULE}/streams/${STREAM}?api-version=2023-01-01`;

/** The rows of a body, or undefined when it is no array of objects in UTF-8. */
function rowsOf(body: Buffer): readonly ApimRecord[] | undefined {
  try {
    const rows: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
    return Array.isArray(rows) && rows.every((each) => typeof each === 'object' && each !== null)
      ? (rows as ApimRecord[])
      : undefined;
  } catch {
    return undefined;
  }
}
