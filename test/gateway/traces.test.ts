/** Traces: a span for each request and one for each attempt, as a real collector receives them. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Collector, cannotRunCollectorTests, startCollector } from '../support/collector.ts';
import { type Gateway, HOST, hostAddress, quickMetrics, startGateway } from '../support/gateway.ts';
import { MARK, newTrace, type Observed, observe, observedGateway } from '../support/observed-requests.ts';
import {
  type Attributes,
  type Span,
  startTraceReceiver,
  type TraceReceiver,
} from '../support/trace-receiver.ts';
import { backendOf, chatBody, logged, onlyRequest, resetMocks } from '../support/traffic.ts';

const cannotRun = cannotRunGatewayTests('traces') || cannotRunCollectorTests('traces');

/** The attributes of an attempt's span: `BACKEND STATUS OUTCOME`. */
type Attempt = readonly [backend: 0 | 1, status: number | undefined, outcome: string, more?: Attributes];

interface Expected {
  readonly status: number;
  /** Attributes of the request's span, in addition to those of every request. */
  readonly request?: Attributes;
  readonly attempts: readonly Attempt[];
  readonly isError?: boolean;
  readonly path?: string;
  readonly operation?: readonly [name: string, genAi: string, api?: string];
  readonly isStream?: boolean;
}

const CHAT = '/openai/v1/chat/completions';
const ANSWER = {
  'gen_ai.response.model': 'gpt-4o-2024-11-20',
  'gen_ai.usage.input_tokens': 20,
  'gen_ai.usage.output_tokens': 10,
  'gen_ai.usage.cache_read.input_tokens': 16,
  'gen_ai.usage.reasoning.output_tokens': 4,
};
const seconds = expect.any(Number) as number;
const STREAM = { 'gen_ai.response.time_to_first_chunk': seconds };
const ANSWERED_STREAM = {
  ...STREAM,
  'gen_ai.response.model': 'gpt-4o-2024-07-18',
  'gen_ai.usage.input_tokens': 2,
  'gen_ai.usage.output_tokens': 9,
};
const EMBEDDED = {
  'gen_ai.response.model': 'embedded',
  'gen_ai.usage.input_tokens': 7,
  'gen_ai.usage.output_tokens': 0,
};
/** The attributes of an answer that the mock generates. */
const anyAnswer = (input: number, output: number) => ({
  'gen_ai.response.model': expect.any(String) as string,
  'gen_ai.usage.input_tokens': input,
  'gen_ai.usage.output_tokens': output,
  'gen_ai.usage.cache_read.input_tokens': 0,
  'gen_ai.usage.reasoning.output_tokens': 0,
});
const client = (name: string, lane = 'high') => ({
  'genai_gateway.client': name,
  'genai_gateway.lane': lane,
});
const error = (type: string, source: string) => ({
  'error.type': type,
  'genai_gateway.error_source': source,
});
const served = (backend: 0 | 1): Attributes =>
  backend === 0
    ? { 'genai_gateway.backend': 'backend-0' }
    : { 'genai_gateway.backend': 'backend-1', 'genai_gateway.failover': 'saved' };
const saved = (outcome: string, status: number | undefined, isStream = false): Expected => {
  const answer = isStream ? ANSWERED_STREAM : ANSWER;
  return {
    status: 200,
    isStream,
    request: { ...served(1), ...answer },
    attempts: [
      [0, status, outcome],
      [1, 200, 'ok', answer],
    ],
  };
};
const noBackend = (status: number, outcome: string, code: string, isError: boolean): Expected => ({
  status,
  isError,
  request: { 'genai_gateway.failover': 'failed', ...error(code, 'gateway') },
  attempts: [
    [0, status, outcome],
    [1, status, outcome],
  ],
});

const EXPECTED: Readonly<Record<string, Expected>> = {
  success: { status: 200, request: { ...served(0), ...ANSWER }, attempts: [[0, 200, 'ok', ANSWER]] },
  stream: {
    status: 200,
    isStream: true,
    request: { ...served(0), ...ANSWERED_STREAM },
    attempts: [[0, 200, 'ok', ANSWERED_STREAM]],
  },
  'stream without usage': {
    status: 200,
    isStream: true,
    request: { ...served(0), ...STREAM, 'genai_gateway.estimated_tokens': seconds },
    attempts: [[0, 200, 'ok', STREAM]],
  },
  'failover: throttled': saved('throttled', 429),
  'failover: server error': saved('server_error', 503),
  // The reused connection was closed. This is no failure of the backend.
  'failover: stale connection': {
    ...saved('stale_connection', undefined),
    request: { 'genai_gateway.backend': 'backend-1', ...ANSWER },
  },
  'failover: timeout': saved('timeout', undefined),
  'failover: reset': saved('connect_error', undefined),
  'failover: no connection': saved('connect_error', undefined),
  'failover: credentials': saved('credentials', 401),
  'failover: broken stream': saved('stream_error', 200, true),
  'failover: refused stream': saved('throttled', 200, true),
  'throttled by all': noBackend(429, 'throttled', 'rate_limit_exceeded', false),
  'failed by all': noBackend(500, 'server_error', 'gateway_error', true),
  'refused by the backend': {
    status: 400,
    request: { ...served(0), ...error('400', 'backend') },
    attempts: [[0, 400, 'ok']],
  },
  'keys in the query': {
    status: 200,
    path: '/openai/deployments/gpt-4o/chat/completions',
    request: { ...served(0), ...anyAnswer(7, 4), 'azure.openai.api_version': '2024-10-21' },
    attempts: [[0, 200, 'ok', anyAnswer(7, 4)]],
  },
  embeddings: {
    status: 200,
    path: '/openai/v1/embeddings',
    operation: ['embeddings', 'embeddings'],
    request: { ...served(0), ...EMBEDDED },
    attempts: [[0, 200, 'ok', EMBEDDED]],
  },
  'next response': {
    status: 200,
    path: '/openai/v1/responses',
    operation: ['responses', 'chat', 'responses'],
    request: { ...served(0), ...anyAnswer(7, 16), 'genai_gateway.affinity': 'memory' },
    attempts: [[0, 200, 'ok', anyAnswer(7, 16)]],
  },
  'left in the stream': {
    status: 200,
    isStream: true,
    request: {
      ...served(0),
      ...STREAM,
      ...error('client_abort', 'client'),
      'genai_gateway.estimated_tokens': seconds,
    },
    attempts: [[0, 200, 'client_abort', STREAM]],
  },
  'left before an answer': {
    status: 499,
    request: error('client_abort', 'client'),
    attempts: [[0, undefined, 'client_abort']],
  },
  'cut stream': {
    status: 200,
    isStream: true,
    isError: true,
    request: {
      ...served(0),
      ...STREAM,
      ...error('stream_error', 'backend'),
      'genai_gateway.estimated_tokens': seconds,
    },
    attempts: [[0, 200, 'stream_error', STREAM]],
  },
};

describe.skipIf(cannotRun)('traces', () => {
  let receiver: TraceReceiver;
  let gateway: Gateway;
  let collector: Collector;
  let seen: ReadonlyMap<string, Observed>;
  let firstRequests: readonly (readonly [traceparent: string, tracestate: string])[];

  beforeAll(async () => {
    receiver = await startTraceReceiver(await hostAddress());
    gateway = await startGateway({ ...observedGateway, adapt: quickMetrics });
    collector = await startCollector({
      file: receiver.collectorFile(HOST),
      beside: gateway.apisix.containerId,
    });
    seen = await observe(gateway);
    firstRequests = gateway.mocks
      .flatMap(({ requests }) => requests)
      // Ignore the gateway's own check after a 401, which belongs to no request.
      .filter(({ method }) => method === 'POST')
      .map((request) => [request.header('traceparent') ?? '', request.header('tracestate') ?? '']);
    await receiver.trace(seen.get('cut stream')?.traceId ?? '', 2);
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await collector?.stop();
    await gateway?.stop();
    await receiver?.stop();
  });
  beforeEach(() => resetMocks(gateway));

  async function spansOf(name: string, attempts: number) {
    const observed = seen.get(name);
    if (!observed) throw new Error(`nothing was sent for ${name}`);
    const spans = await receiver.trace(observed.traceId, attempts + 1);
    expect(spans).toHaveLength(attempts + 1);
    const [request] = spans.filter(({ kind }) => kind === 'server');
    if (!request) throw new Error(`no span of the request: ${name}`);
    return { observed, request, tries: spans.filter(({ kind }) => kind === 'client').sort(byNumber) };
  }
  const number = ({ attributes }: Span) => Number(attributes['http.request.resend_count'] ?? 0);
  const byNumber = (a: Span, b: Span) => number(a) - number(b);

  test.each(Object.entries(EXPECTED))('have all attributes on every span for: %s', async (name, expected) => {
    const { status, attempts, isError = false, path = CHAT, isStream = false } = expected;
    const { observed, request, tries } = await spansOf(name, attempts.length);
    if (observed.status > 0) expect(observed.status).toBe(status);
    const model = name === 'embeddings' ? 'embedded' : 'gpt-4o';
    const [operation, genAi, api] = expected.operation ?? ['chat_completions', 'chat', 'chat_completions'];
    const ofOperation = {
      'gen_ai.operation.name': genAi,
      'gen_ai.provider.name': 'azure.ai.openai',
      'gen_ai.request.stream': isStream,
      'http.request.method': 'POST',
      ...(api === undefined ? {} : { 'openai.api.type': api }),
    };
    const onWire = observed.status === 0;
    const route = path.startsWith('/openai/v1/') ? path : '/openai/deployments/*';

    expect(request.attributes).toEqual({
      ...ofOperation,
      ...client('app'),
      'gen_ai.request.model': model,
      'genai_gateway.operation': operation,
      'genai_gateway.attempts': attempts.length,
      'genai_gateway.request_id': expect.any(String),
      'url.scheme': 'http',
      'url.path': path,
      'http.route': route,
      'http.response.status_code': status,
      'server.address': onWire ? 'gateway' : '127.0.0.1',
      'client.address': expect.stringMatching(/^[\d.]+$/),
      'network.protocol.version': '1.1',
      ...(onWire ? {} : { 'user_agent.original': 'node' }),
      ...expected.request,
    });
    expect(request.name).toBe(`POST ${route}`);
    expect(request.status).toBe(isError ? 'error' : 'unset');
    expect(request.parentSpanId).toBe(observed.parentId);
    expect(request.resource).toMatchObject({
      'service.name': 'observed',
      'service.version': '1.2.3',
      'deployment.environment': 'test',
    });

    for (const [index, [backend, answered, outcome, more = {}]] of attempts.entries()) {
      const span = tries[index];
      if (!span) throw new Error('an attempt has no span');
      const asked = backend === 1 && model === 'gpt-4o' ? 'gpt-4o-west' : model;
      const failed = outcome === 'ok' ? (Number(answered) < 400 ? undefined : String(answered)) : outcome;
      expect(span.attributes).toEqual({
        ...ofOperation,
        'gen_ai.request.model': asked,
        'server.address': HOST,
        'server.port': backendOf(gateway, backend).port,
        'genai_gateway.backend': `backend-${backend}`,
        'genai_gateway.outcome': outcome,
        ...(backend === 0 ? { 'genai_gateway.region': 'swedencentral' } : {}),
        ...(answered === undefined ? {} : { 'http.response.status_code': answered }),
        ...(index === 0 ? {} : { 'http.request.resend_count': index }),
        ...(failed === undefined ? {} : { 'error.type': failed }),
        ...more,
      });
      expect(span.name).toBe(`${genAi} ${asked}`);
      expect(span.parentSpanId).toBe(request.spanId);
      const isFault = failed !== undefined && failed !== 'client_abort';
      expect([span.status, span.message]).toEqual(isFault ? ['error', failed] : ['unset', '']);
      expect(span.start).toBeGreaterThanOrEqual(tries[index - 1]?.end ?? request.start);
      expect(span.end).toBeLessThanOrEqual(request.end);
    }
  });

  test('have the measured times', async () => {
    const [slow, next] = (await spansOf('failover: timeout', 2)).tries;
    expect((slow?.end ?? 0) - (slow?.start ?? 0)).toBeGreaterThanOrEqual(950);
    expect((next?.end ?? 0) - (next?.start ?? 0)).toBeLessThan(500);
    const { request } = await spansOf('stream', 1);
    const first = Number(request.attributes['gen_ai.response.time_to_first_chunk']);
    expect(first).toBeGreaterThan(0.05);
    expect(first).toBeLessThan((request.end - request.start) / 1000);
  });

  test.each([
    [
      'throttled by the gateway',
      429,
      'rate_limit_exceeded',
      { ...client('limited', 'low'), 'genai_gateway.limiter': 'limit-count' },
    ],
    ['wrong keys', 401, 'invalid_api_key', { 'url.path': CHAT }],
    ['unknown model', 404, 'DeploymentNotFound', { ...client('app'), 'gen_ai.request.model': 'other' }],
  ])('have a request span without attempts for: %s', async (name, status, code, more) => {
    const { request } = await spansOf(name, 0);
    expect(request.attributes).toMatchObject({
      'http.response.status_code': status,
      ...error(code, 'gateway'),
      ...more,
    });
    expect(request.status).toBe('unset');
  });

  test("are propagated from each attempt's own span, and tracestate passes unchanged", () => {
    const attempts = receiver.spans.filter(({ kind }) => kind === 'client');
    expect(attempts.length).toBeGreaterThan(20);
    const ours = new Set(attempts.map(({ traceId, spanId }) => `00-${traceId}-${spanId}-01`));
    // A backend that does not listen receives nothing.
    expect(firstRequests.length).toBe(attempts.length - 1);
    for (const [traceparent] of firstRequests) expect(ours).toContain(traceparent);
    const states = new Set(firstRequests.map(([, tracestate]) => tracestate));
    // Requests on the wire have no tracestate.
    expect([...states].sort()).toEqual(['', `vendor=${MARK}-tracestate-0123456789`]);
  });

  const send = async (headers: Record<string, string>) => {
    const answer = await fetch(`${gateway.url}${CHAT}`, {
      method: 'POST',
      headers: {
        'api-key': observedGateway.settings?.GATEWAY_CLIENT_KEY_0 ?? '',
        'content-type': 'application/json',
        ...headers,
      },
      body: chatBody('gpt-4o'),
    });
    expect(answer.status).toBe(200);
    await answer.text();
    return onlyRequest(backendOf(gateway, 0));
  };

  test('are not recorded when the client or the sample rate says so, and traceparent passes unchanged', async () => {
    const [first, second] = [newTrace(), newTrace(false)];
    const recorded = newTrace();
    for (const header of [
      `00-${first.traceId}-${first.parentId}-00`,
      // A client cannot make the gateway record more than the operator's sample rate.
      `00-${second.traceId}-${second.parentId}-01`,
    ]) {
      const request = await send({ traceparent: header, tracestate: 'a=b' });
      expect([request.header('traceparent'), request.header('tracestate')]).toEqual([header, 'a=b']);
      resetMocks(gateway);
    }
    await send({ traceparent: `00-${recorded.traceId}-${recorded.parentId}-03` });
    await receiver.trace(recorded.traceId, 2);
    for (const { traceId } of [first, second])
      expect(receiver.spans.filter((span) => span.traceId === traceId)).toEqual([]);
    const line = (await gateway.accessLog()).find(({ trace_id }) => trace_id === second.traceId);
    expect(line).toMatchObject({ status: '200', client: 'app' });
  });

  test('begin here for half of the requests without a traceparent', async () => {
    const known = receiver.spans.length;
    const headers: (string | undefined)[] = [];
    for (let count = 0; count < 60; count++) {
      headers.push((await send({})).header('traceparent'));
      resetMocks(gateway);
    }
    const traces = headers.filter((header) => header !== undefined);
    expect(traces.length).toBeGreaterThan(10);
    expect(traces.length).toBeLessThan(50);
    expect(new Set(traces.map((header) => header.slice(3, 35))).size).toBe(traces.length);
    await receiver.trace(traces.at(-1)?.slice(3, 35) ?? '', 2);
    const spans = receiver.spans.slice(known);
    const roots = spans.filter(({ parentSpanId }) => parentSpanId === '');
    for (const header of traces) {
      const [, traceId, spanId] = header.split('-');
      const [root] = roots.filter((span) => span.traceId === traceId);
      expect(root?.kind).toBe('server');
      expect(spans.find((span) => span.spanId === spanId)?.parentSpanId).toBe(root?.spanId);
    }
  });

  test('begin here when the traceparent is invalid', async () => {
    const id = randomBytes(16).toString('hex');
    for (const broken of [`00-${id}-${'0'.repeat(16)}-01`, `ff-${id}-${'1'.repeat(16)}-01`, 'x']) {
      const request = await send({ traceparent: broken, tracestate: 'a=b' });
      if (request.header('traceparent') !== broken) {
        expect(request.header('traceparent')).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]$/);
        expect(request.header('traceparent')).not.toContain(id);
        expect(request.header('tracestate')).toBeUndefined();
      }
      resetMocks(gateway);
    }
  });

  test('contain no secret and no prompt; neither does the log', async () => {
    expect(receiver.raw).toContain('gen_ai.usage.input_tokens');
    expect(receiver.raw).not.toContain(MARK);
    const lines = (await gateway.apisix.log()).split('\n');
    expect(lines.length).toBeGreaterThan(30);
    expect(lines.filter((line) => line.includes(MARK))).toEqual([]);
  });

  test('are dropped and counted when the collector stops, and requests are served', async () => {
    await collector.stop();
    const { traceId, parentId } = newTrace();
    for (let count = 0; count < 5; count++) {
      const started = performance.now();
      await send({ traceparent: `00-${traceId}-${parentId}-01` });
      expect(performance.now() - started).toBeLessThan(1000);
      resetMocks(gateway);
    }
    const dropped = async () =>
      Number(/^apisix_genai_spans_dropped_total (\d+)/m.exec(await gateway.metrics())?.[1] ?? 0);
    await expect.poll(dropped, { timeout: 60_000, interval: 1000 }).toBeGreaterThanOrEqual(10);
    const lines = await logged(gateway, 'error', 'the trace collector');
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThanOrEqual(2);
    expect(lines[0]).toContain(
      'spans cannot be delivered to the trace collector at 127.0.0.1:4318: connection refused',
    );
  }, 90_000);
});
