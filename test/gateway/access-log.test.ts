/** The access log: one line of JSON for each request, on stdout and in the file, whatever the result of the request. */
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { MARK, type Observed, observe, observedGateway, planted } from '../support/observed-requests.ts';
import { rawBytes, rawRequest } from '../support/raw-http.ts';

const LOGS = '/var/log/genai-gateway';

type Line = Readonly<Record<string, string>>;

/** The fields of every line; `''` when a field does not apply. */
const NOTHING: Line = {
  api_version: '',
  client: 'app',
  lane: 'high',
  operation: 'chat_completions',
  requested_model: 'gpt-4o',
  model: 'gpt-4o',
  backend: 'backend-0',
  region: 'swedencentral',
  attempts: 'backend-0:200:ok',
  failover: '',
  affinity: '',
  limiter: '',
  error: '',
  error_source: '',
  request_type: 'ai_chat',
  prompt_tokens: '0',
  completion_tokens: '0',
  cached_tokens: '0',
  reasoning_tokens: '0',
  estimated_tokens: '',
  audio_seconds: '',
  path: '/openai/v1/chat/completions',
  method: 'POST',
  status: '200',
};
const ANSWER = { prompt_tokens: '20', completion_tokens: '10', cached_tokens: '16', reasoning_tokens: '4' };
const STREAM = { request_type: 'ai_stream' };
const ANSWERED_STREAM = { ...STREAM, prompt_tokens: '2', completion_tokens: '9' };
const NO_BACKEND = { backend: '', region: '' };
const EARLY = { ...NO_BACKEND, attempts: '' };
const other = { requested_model: 'other', model: 'other' };
const unread = { requested_model: '', model: '' };
const error = (code: string, source = 'gateway') => ({ error: code, error_source: source });
const estimated = { estimated_tokens: expect.stringMatching(/^[1-9]\d*$/) as string };
const saved = (first: string, more: Line = ANSWER): Line => ({
  attempts: `backend-0:${first} backend-1:200:ok`,
  backend: 'backend-1',
  model: 'gpt-4o-west',
  region: '',
  failover: 'saved',
  ...more,
});

const EXPECTED: Readonly<Record<string, Line>> = {
  success: ANSWER,
  stream: ANSWERED_STREAM,
  'stream without usage': { ...STREAM, ...estimated },
  'failover: throttled': saved('429:throttled'),
  'failover: server error': saved('503:server_error'),
  'failover: stale connection': saved(':stale_connection', { ...ANSWER, failover: '' }),
  'failover: timeout': saved(':timeout'),
  'failover: reset': saved(':connect_error'),
  'failover: no connection': saved(':connect_error'),
  'failover: credentials': saved('401:credentials'),
  'failover: broken stream': saved('200:stream_error', ANSWERED_STREAM),
  'failover: refused stream': saved('200:throttled', ANSWERED_STREAM),
  'throttled by all': {
    ...NO_BACKEND,
    ...error('rate_limit_exceeded'),
    status: '429',
    attempts: 'backend-0:429:throttled backend-1:429:throttled',
    model: 'gpt-4o-west',
    failover: 'failed',
  },
  'failed by all': {
    ...NO_BACKEND,
    ...error('gateway_error'),
    status: '500',
    attempts: 'backend-0:500:server_error backend-1:500:server_error',
    model: 'gpt-4o-west',
    failover: 'failed',
  },
  'throttled by the gateway': {
    ...EARLY,
    ...unread,
    ...error('rate_limit_exceeded'),
    status: '429',
    client: 'limited',
    lane: 'low',
    limiter: 'limit-count',
  },
  'wrong keys': {
    ...EARLY,
    ...unread,
    ...error('invalid_api_key'),
    status: '401',
    client: '',
    lane: '',
    operation: '',
    request_type: 'traditional_http',
  },
  'unknown model': { ...EARLY, ...other, ...error('DeploymentNotFound'), status: '404' },
  'refused by the backend': { ...error('400', 'backend'), status: '400', attempts: 'backend-0:400:ok' },
  'keys in the query': {
    path: '/openai/deployments/gpt-4o/chat/completions',
    api_version: '2024-10-21',
    prompt_tokens: '7',
    completion_tokens: '4',
  },
  'a key as version': {
    path: '/openai/deployments/gpt-4o/chat/completions',
    api_version: 'other',
    prompt_tokens: '7',
    completion_tokens: '4',
  },
  embeddings: {
    path: '/openai/v1/embeddings',
    operation: 'embeddings',
    requested_model: 'embedded',
    model: 'embedded',
    prompt_tokens: '7',
  },
  'next response': {
    path: '/openai/v1/responses',
    operation: 'responses',
    affinity: 'memory',
    prompt_tokens: '7',
    completion_tokens: '16',
  },
  'left in the stream': {
    ...STREAM,
    ...estimated,
    ...error('client_abort', 'client'),
    attempts: 'backend-0:200:client_abort',
  },
  'left before an answer': {
    ...NO_BACKEND,
    ...error('client_abort', 'client'),
    status: '499',
    attempts: 'backend-0::client_abort',
  },
  'cut stream': {
    ...STREAM,
    ...estimated,
    ...error('stream_error', 'backend'),
    attempts: 'backend-0:200:stream_error',
  },
};

describe.skipIf(cannotRunGatewayTests('the access log'))('the access log', () => {
  let folder: string;
  let gateway: Gateway;
  let seen: ReadonlyMap<string, Observed>;
  let lines: readonly Line[];
  let inFile: readonly Readonly<Record<string, unknown>>[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'genai-gateway-access-log-'));
    // World-writable like an emptyDir, because the containers that share it run as different users.
    chmodSync(folder, 0o777);
    gateway = await startGateway({
      ...observedGateway,
      settings: {
        ...observedGateway.settings,
        APISIX_LOGS_PATH: `${LOGS}/access.json`,
        APISIX_LOG_LEVEL: 'info',
        GATEWAY_LOG_MODE: 'test',
      },
      sharedFolders: { [LOGS]: folder },
    });
    // The spans go to a collector that does not exist. This must not show in the access log.
    seen = await observe(gateway);
    await rawRequest(gateway.url, { method: 'GET', target: `/nowhere?api-key=${planted('nowhere')}` });
    await rawBytes(gateway.url, `GET /${planted('path')} HTTP/9.9\r\nHost: a\r\n\r\n`);
    await rawRequest(gateway.url, {
      method: 'GET',
      target: '/openai/v1/models',
      headers: [
        ['api-key', String(observedGateway.settings?.GATEWAY_CLIENT_KEY_0)],
        ['User-Agent', 'a "quoted"\\ \u0001 agent'],
      ],
    });
    lines = await gateway.accessLog();
    inFile = readFileSync(join(folder, 'access.json'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    if (folder) rmSync(folder, { recursive: true });
  });

  const lineOf = (name: string): Line => {
    const ofTrace = lines.filter(({ trace_id }) => trace_id === seen.get(name)?.traceId);
    expect(ofTrace).toHaveLength(1);
    return ofTrace[0] ?? {};
  };
  /** The attempts without their durations. */
  const timeless = (attempts = '') => attempts.replace(/:\d+(?= |$)/g, '');

  test.each(Object.entries(EXPECTED))(
    'writes one line with the expected fields for: %s',
    (name, expected) => {
      const line = lineOf(name);
      const status = seen.get(name)?.status;
      if (status) expect(line.status).toBe(String(status));
      expect({ ...line, attempts: timeless(line.attempts) }).toEqual({
        ...line,
        ...NOTHING,
        ...expected,
      });
    },
  );

  test('logs the measured times and sizes', () => {
    const line = lineOf('failover: timeout');
    const [first, second] = (line.attempts ?? '').split(' ').map((each) => Number(each.split(':')[3]));
    expect(first).toBeGreaterThanOrEqual(950);
    expect(second).toBeLessThan(500);
    expect(Number(line.duration_s)).toBeGreaterThan(0.95);
    expect(Number(line.time_to_first_token_ms)).toBeGreaterThan(950);
    expect(Number(lineOf('stream').time_to_first_token_ms)).toBeGreaterThan(50);
    expect(Number(lineOf('stream').bytes_in)).toBeGreaterThan(100);
    expect(Number(lineOf('stream').bytes_out)).toBeGreaterThan(100);
    expect(line.upstream_status).toBe('504, 200');
    expect(Math.abs(Date.now() - Date.parse(line.time ?? ''))).toBeLessThan(120_000);
    expect(line.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$/);
    expect(line.request_id).toMatch(/^[0-9a-f-]{32,36}$/);
  });

  test('writes a line for a path without a route and for a request that nginx cannot parse', () => {
    expect(lines.find(({ path }) => path === '/nowhere')).toMatchObject({
      status: '404',
      client: '',
      ...error('not_found'),
    });
    expect(lines.filter(({ status }) => status === '400' || status === '505')).toContainEqual(
      expect.objectContaining({ path: '/.genai-gateway/unreadable-request', error_source: 'gateway' }),
    );
  });

  test('writes JSON with the same fields in the same order and only string values', () => {
    const fields = Object.keys(lines[0] ?? {});
    expect(fields).toEqual(expect.arrayContaining(['time', 'trace_id', 'user_agent', 'stream', 'route']));
    for (const line of lines) {
      expect(Object.keys(line)).toEqual(fields);
      expect(new Set(Object.values(line).map((value) => typeof value))).toEqual(new Set(['string']));
    }
    expect(lines.find(({ path }) => path === '/openai/v1/models')?.user_agent).toBe(
      'a "quoted"\\ \u0001 agent',
    );
    expect(lineOf('success')).toMatchObject({ host: '127.0.0.1', protocol: 'HTTP/1.1', route: 'openai-v1' });
  });

  test('writes the same fields with the same values to the file', () => {
    // A request outside of the routes of the AI service reaches no plugin, so it has no line in the file.
    const ofService = lines.filter(({ path }) => path?.startsWith('/openai/'));
    expect(ofService.length).toBeGreaterThan(5);
    expect(inFile).toHaveLength(ofService.length);
    for (const line of ofService) {
      // The file also has the fields that APISIX adds, and those of AI_PROXY_LOG_SUMMARIES.
      const { route_id, service_id, llm_summary, ...same } =
        inFile.find(({ request_id }) => request_id === line.request_id) ?? {};
      // The line of the file is written before the last bytes are sent.
      const { bytes_out: _, duration_s: __, ...rest } = line;
      const texts = Object.fromEntries(Object.entries(same).map(([name, value]) => [name, String(value)]));
      const filled = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== ''));
      expect(texts).toMatchObject(filled);
      expect(Object.keys(line)).toEqual(expect.arrayContaining(Object.keys(same)));
      expect([route_id, service_id]).toEqual([line.route, 'azure-openai']);
      const summary = llm_summary as Record<string, unknown> | undefined;
      if (line.trace_id === seen.get('success')?.traceId)
        expect(summary).toMatchObject({
          request_model: 'gpt-4o',
          prompt_tokens: 20,
          cache_read_input_tokens: 16,
        });
    }
  });

  test('contains no secret, prompt or answer; neither does the rest of the log', async () => {
    expect(JSON.stringify([lines.filter(({ path }) => !path?.includes(MARK)), inFile])).not.toContain(MARK);
    // At the level info APISIX logs requests with their queries before any plugin runs.
    const beside = (await gateway.apisix.log())
      .split('\n')
      .filter((line) => line.includes(MARK) && !/\[info\].*\?api-/.test(line));
    expect(beside.filter((line) => !line.includes(planted('path')))).toEqual([]);
  });
});
