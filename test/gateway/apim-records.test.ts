/** APIM-style records: what each column holds, how records reach Azure Monitor, and what they must not contain. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type EntraGateway, startEntraGateway } from '../support/entra.ts';
import { API_VERSION, backendKey, CLIENT_KEY, HOST, hostAddress, quickMetrics } from '../support/gateway.ts';
import { keyOf } from '../support/limits.ts';
import { CLIENT_ID } from '../support/mock-identity.ts';
import {
  type ApimRecord,
  type MockIngestion,
  RESOURCE,
  startMockIngestion,
} from '../support/mock-ingestion.ts';
import { rawRequest } from '../support/raw-http.ts';
import { backendOf, chatBody, chatText, chatUsage, inOrder, until, Wire } from '../support/traffic.ts';

const OTHER_ID = '99999999-2222-3333-4444-555555555555';
const MAX_BATCH = 20;

let ingestion: MockIngestion;
let gateway: EntraGateway;
const secrets: string[] = [];

async function start(settings: Readonly<Record<string, string>>): Promise<void> {
  ingestion = await startMockIngestion({
    host: await hostAddress(),
    hostName: HOST,
    accepts: (token) => gateway.identity.accepts(token, RESOURCE),
  });
  gateway = await startEntraGateway({
    backends: ['key', {}, 'key'],
    settings: {
      ...inOrder(2),
      GATEWAY_WORKERS: '1',
      GATEWAY_CLIENT_NAME_1: 'limited',
      GATEWAY_CLIENT_KEY_1: keyOf('limited'),
      GATEWAY_CLIENT_REQUESTS_PER_MINUTE_1: '1',
      AZURE_OPENAI_NAME_0: 'first',
      AZURE_OPENAI_NAME_1: 'second',
      AZURE_OPENAI_NAME_2: 'third',
      AZURE_OPENAI_PRIORITY_2: '100',
      AZURE_OPENAI_DEPLOYMENTS_2: 'alias=real',
      AZURE_CLIENT_ID: CLIENT_ID,
      APIM_GATEWAY_LOGS_INGEST_URI: ingestion.uri,
      APIM_GATEWAY_LOGS_BATCH_FLUSH_INTERVAL: '1',
      APIM_GATEWAY_LOGS_BATCH_MAX_SIZE: String(MAX_BATCH),
      APIM_GATEWAY_LOGS_BATCH_MAX_RETRY: '1',
      ...settings,
    },
    adapt: quickMetrics,
  });
}

async function stop(): Promise<void> {
  await gateway?.stop();
  await ingestion?.stop();
}

let count = 0;
/** Sends a chat request and returns its record. */
async function recordOf(model: string, body: object = {}, headers: Record<string, string> = {}) {
  const id = `request-${++count}`;
  const before = Date.now();
  const answer = await gateway.chat(model, body, { 'x-request-id': id, ...headers });
  const text = await answer.text();
  return { answer, text, before, record: await record(id) };
}

const record = (id: string): Promise<ApimRecord> =>
  ingestion.waitForRecord(({ CorrelationId }) => CorrelationId === id);

/** Columns that every record has, with values that differ between records. */
const ANY = {
  TimeGenerated: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
  TotalTime: expect.any(Number),
  CorrelationId: expect.stringMatching(/^request-\d+$/),
  RequestId: expect.stringMatching(/^[0-9a-f]{32}$/),
  CallerIpAddress: expect.stringMatching(/^[0-9a-f.:]+$/),
  RequestHeaders: expect.any(Object),
  ResponseHeaders: expect.any(Object),
};

const CHAT = {
  OperationName: 'chat_completions',
  ApiId: 'openai-chat',
  ProductId: 'genai',
  SubscriptionId: 'app',
  Method: 'POST',
  Url: '/openai/v1/chat/completions',
  GatewayId: 'east',
  IsStreamCompletion: false,
  Lane: 'high',
};

async function counters(): Promise<Record<string, number>> {
  const lines = [
    ...(await gateway.metrics()).matchAll(/^apisix_(genai_apim_\w+)(?:\{reason="(\w+)"\})? (\d+)$/gm),
  ];
  return Object.fromEntries(
    lines.map(([, name, reason, value]) => [reason ? `${name} ${reason}` : name, Number(value)]),
  );
}

describe.skipIf(cannotRunGatewayTests('APIM-style records'))('a record', () => {
  beforeAll(() => start({ GATEWAY_PRODUCT_ID: 'genai', APIM_GATEWAY_ID: 'east' }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => {
    for (const mock of gateway.mocks) mock.reset();
    ingestion.reset();
  });

  test('of a successful request has every column', async () => {
    backendOf(gateway, 2).script({ delayMs: 120 });
    const { record, before, answer } = await recordOf('alias', { max_tokens: 6 }, { 'x-priority': 'low' });
    expect(answer.status).toBe(200);
    expect(record).toEqual({
      ...ANY,
      ...CHAT,
      BackendId: 'third',
      ResponseCode: 200,
      BackendResponseCode: 200,
      BackendTime: expect.any(Number),
      DeploymentName: 'alias',
      ModelName: 'real',
      PromptTokens: expect.any(Number),
      CompletionTokens: 6,
      TotalTokens: expect.any(Number),
      CachedTokens: 0,
      ReasoningTokens: 0,
      TimeToFirstToken: expect.any(Number),
      Attempts: 1,
      Lane: 'low',
    });
    expect(record).not.toHaveProperty('LastErrorReason');
    const { TotalTime, BackendTime, TotalTokens, PromptTokens } = record as Record<string, number>;
    expect(BackendTime).toBeGreaterThanOrEqual(100);
    expect(TotalTime).toBeGreaterThanOrEqual(BackendTime ?? 0);
    expect(TotalTime).toBeLessThan(5_000);
    expect(TotalTokens).toBe((PromptTokens ?? 0) + 6);
    expect(Math.abs(Date.parse(String(record.TimeGenerated)) - before)).toBeLessThan(1_000);
    expect(record.RequestHeaders).toMatchObject({
      'content-type': 'application/json',
      'x-priority': 'low',
      'x-request-id': record.CorrelationId,
    });
    expect(record.ResponseHeaders).toMatchObject({
      'content-type': 'application/json',
      // Azure's own header, as the client received it.
      'x-request-id': answer.headers.get('x-request-id'),
      'apim-request-id': answer.headers.get('apim-request-id'),
      'x-ms-region': expect.any(String),
    });
  });

  test('of a failover names the backend that answered and the number of attempts', async () => {
    backendOf(gateway, 0).script(answers.throttled());
    const { record } = await recordOf('failover');
    expect(record).toMatchObject({
      ...CHAT,
      BackendId: 'second',
      ResponseCode: 200,
      BackendResponseCode: 200,
      Attempts: 2,
    });
  });

  test("of a request that all backends throttle has one backend's answer, or none while they are cooling down", async () => {
    for (const mock of gateway.mocks) mock.script(answers.throttled());
    const { record } = await recordOf('throttled');
    expect(record).toMatchObject({ ...CHAT, ResponseCode: 429, BackendResponseCode: 429, Attempts: 2 });
    expect(['first', 'second']).toContain(record.BackendId);
    expect(record.ResponseHeaders).toHaveProperty('retry-after');
    const { record: cooling } = await recordOf('throttled');
    expect(cooling).toMatchObject({ ...CHAT, BackendId: 'pool', ResponseCode: 429, Attempts: 0 });
    expect(cooling).not.toHaveProperty('BackendResponseCode');
    expect(cooling).not.toHaveProperty('BackendTime');
    expect(cooling).not.toHaveProperty('TotalTokens');
  });

  test('of a request that a limit rejects has no backend', async () => {
    const key = { 'api-key': keyOf('limited') };
    await recordOf('limited', {}, key);
    const { record } = await recordOf('limited', {}, key);
    expect(record).toMatchObject({
      ...ANY,
      OperationName: 'chat_completions',
      ApiId: 'openai-chat',
      SubscriptionId: 'limited',
      BackendId: 'pool',
      ResponseCode: 429,
      Attempts: 0,
    });
    expect(record).not.toHaveProperty('BackendResponseCode');
    expect(record.ResponseHeaders).toMatchObject({ 'x-gateway-ratelimit-lane': 'high' });
  });

  test('of a request without a valid key has its operation, but neither client nor backend', async () => {
    const { record } = await recordOf('nobody', {}, { 'api-key': 'unknown' });
    expect(record).toMatchObject({
      ...ANY,
      OperationName: 'chat_completions',
      ApiId: 'openai-chat',
      ResponseCode: 401,
    });
    for (const column of ['SubscriptionId', 'BackendId', 'BackendResponseCode', 'Attempts'])
      expect(record).not.toHaveProperty(column);
  });

  test('of a stream has its usage and the time to the first token, or an estimate without usage', async () => {
    backendOf(gateway, 0).script({ events: [chatText('a'), chatText('b'), chatUsage(5, 7)], gapMs: 100 });
    const { record } = await recordOf('stream', { stream: true });
    expect(record).toMatchObject({
      ...CHAT,
      IsStreamCompletion: true,
      PromptTokens: 5,
      CompletionTokens: 7,
      TotalTokens: 12,
    });
    const { TimeToFirstToken, TotalTime } = record as Record<string, number>;
    expect(TimeToFirstToken).toBeLessThan((TotalTime ?? 0) - 100);
    backendOf(gateway, 0).script({ events: [chatText('a'), chatText('b')] });
    const { record: silent } = await recordOf('silent', { stream: true });
    expect(silent).not.toHaveProperty('TotalTokens');
    expect(silent.EstimatedTokens).toBeGreaterThan(0);
  });

  test('says whether the client or the backend broke off', async () => {
    const send = (id: string) =>
      new Wire(gateway, '/openai/v1/chat/completions', {
        headers: { 'x-request-id': id },
        body: chatBody(id, { stream: true }),
      });
    const endless = { events: Array.from({ length: 200 }, () => chatText('x')), gapMs: 50 };
    backendOf(gateway, 0).script(endless);
    const left = send('left');
    await left.waitFor('"x"');
    left.leave();
    expect(await record('left')).toMatchObject({
      BackendId: 'first',
      ResponseCode: 200,
      BackendResponseCode: 200,
      LastErrorReason: 'ClientConnectionFailure',
    });

    backendOf(gateway, 0).reset();
    backendOf(gateway, 0).script({ delayMs: 5_000 });
    const waiting = send('waiting');
    await backendOf(gateway, 0).waitForRequests(1);
    waiting.leave();
    const gone = await record('waiting');
    expect(gone).toMatchObject({
      BackendId: 'first',
      ResponseCode: 499,
      LastErrorReason: 'ClientConnectionFailure',
    });
    expect(gone).not.toHaveProperty('BackendResponseCode');

    backendOf(gateway, 0).script({ ...endless, gapMs: 5, cutAfter: 4 });
    await send('cut').waitForClose();
    expect(await record('cut')).toMatchObject({
      BackendId: 'first',
      LastErrorReason: 'BackendConnectionFailure',
    });
  });

  test.each([
    ['POST', '/openai/v1/responses', 'responses', 'openai-responses'],
    ['GET', '/openai/v1/responses/resp_nobody-has-this', 'responses_manage', 'openai-responses'],
    ['POST', '/openai/v1/embeddings', 'embeddings', 'openai-embeddings'],
    ['GET', '/openai/v1/models', 'models', 'openai-models'],
    [
      'POST',
      `/openai/deployments/d/completions?api-version=${API_VERSION}`,
      'completions',
      'openai-completions',
    ],
  ])('of %s %s has the operation %s', async (method, path, operation, api) => {
    const id = `request-${++count}`;
    await gateway.fetch(path, {
      method,
      headers: { 'x-request-id': id, 'content-type': 'application/json' },
      ...(method === 'GET' ? {} : { body: JSON.stringify({ model: 'm', input: 'Hello', prompt: 'Hello' }) }),
    });
    expect(await record(id)).toMatchObject({
      OperationName: operation,
      ApiId: api,
      Method: method,
      Url: path,
    });
  });

  test('contains no credential, wherever the request or the answer had one', async () => {
    const planted = (place: string) => {
      secrets.push(`planted-in-${place}-0123456789`);
      return secrets.at(-1) ?? '';
    };
    secrets.push(CLIENT_KEY, backendKey(0), gateway.identity.secret);
    const answer = await rawRequest(gateway.url, {
      method: 'POST',
      target: `/openai/deployments/secret/chat/completions?api-key=${planted('query')}&api-version=${API_VERSION}&subscription-key=${planted('other-query')}`,
      headers: [
        ['Authorization', `Bearer ${planted('authorization')}`],
        ['api-key', CLIENT_KEY],
        ['Ocp-Apim-Subscription-Key', planted('subscription-key')],
        ['Cookie', `session=${planted('cookie')}`],
        ['Proxy-Authorization', `Basic ${planted('proxy-authorization')}`],
        ['X-Api-Key', planted('x-api-key')],
        ['X-Functions-Key', planted('x-functions-key')],
        ['X-Forwarded-Authorization', planted('forwarded')],
        ['Referer', `https://example.com/?key=${planted('referer')}`],
        ['X-Request-Id', 'with-secrets'],
        ['Content-Type', 'application/json'],
      ],
      body: chatBody('secret', { user: planted('body') }),
    });
    expect(answer.status).toBe(200);
    backendOf(gateway, 0).script({
      status: 401,
      headers: { 'set-cookie': planted('answer-cookie'), 'x-secret': planted('answer') },
    });
    await recordOf('refused-key');
    await gateway.chat(planted('model'), {}, { 'x-request-id': 'as-version' });
    const misused = await gateway.fetch(`/openai/models?api-version=${planted('version')}`, {
      headers: { 'x-request-id': 'misused' },
    });
    await misused.text();
    expect((await record('with-secrets')).Url).toBe(
      `/openai/deployments/secret/chat/completions?api-version=${API_VERSION}`,
    );
    expect((await record('misused')).Url).toBe('/openai/models');
    const tokens = gateway.identity.requests.flatMap(({ token }) => token ?? []);
    expect(tokens.length).toBeGreaterThan(0);
    const model = 'planted-in-model-0123456789';
    const everything = JSON.stringify(ingestion.batches.map(({ records }) => records));
    expect([...secrets, ...tokens].filter((each) => each !== model && everything.includes(each))).toEqual([]);
    expect(everything).not.toContain('Hello');
    const log = await gateway.apisix.log();
    expect([...tokens, gateway.identity.secret].filter((each) => log.includes(each))).toEqual([]);
  });

  test("is sent with the gateway's own identity and the audience of Azure Monitor", async () => {
    await recordOf('identity');
    const asked = gateway.identity.requests.filter(({ resource }) => resource === RESOURCE);
    expect(asked.map(({ source, clientId }) => [source, clientId])).toEqual([['endpoint', CLIENT_ID]]);
    const [batch] = ingestion.batches;
    expect(batch?.request.header('authorization')).toBe(`Bearer ${asked[0]?.token}`);
  });
});

describe.skipIf(cannotRunGatewayTests('batches of APIM-style records'))('a batch of records', () => {
  beforeAll(
    () =>
      start({
        APIM_GATEWAY_LOGS_INCLUDE_REQ_BODY: 'true',
        APIM_GATEWAY_LOGS_MSI_CLIENT_ID: OTHER_ID,
      }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(() => ingestion.reset());

  const many = (number: number, body: object = {}) =>
    Promise.all(Array.from({ length: number }, async () => (await gateway.chat('gpt-4o', body)).text()));
  const taken = (number: number) => until(() => ingestion.records.length >= number, 15_000);

  test('is sent when it is full, and the rest after the interval', async () => {
    await many(MAX_BATCH * 2 + 3);
    await taken(MAX_BATCH * 2 + 3);
    expect(ingestion.records).toHaveLength(MAX_BATCH * 2 + 3);
    expect(Math.max(...ingestion.batches.map(({ records }) => records.length))).toBe(MAX_BATCH);
    expect(ingestion.batches.length).toBeLessThan(8);
  });

  test('is sent with the identity configured for records', () => {
    expect(gateway.identity.requests.find(({ resource }) => resource === RESOURCE)?.clientId).toBe(OTHER_ID);
  });

  test('contains bodies when configured: as JSON, truncated when long, and repaired when they are no valid text', async () => {
    const body = { tools: [], seed: 1234567890123456, user: 'ü' };
    expect((await recordOf('body', body)).record.RequestBody).toMatchObject({ model: 'body', ...body });
    const { record: long } = await recordOf('long', { user: 'ü'.repeat(40_000) });
    expect(Buffer.byteLength(String(long.RequestBody))).toBeGreaterThan(32_000);
    expect(Buffer.byteLength(String(long.RequestBody))).toBeLessThanOrEqual(32_768);
    const id = `request-${++count}`;
    await rawRequest(gateway.url, {
      method: 'POST',
      target: '/openai/v1/chat/completions',
      headers: [
        ['api-key', CLIENT_KEY],
        ['X-Request-Id', id],
        ['User-Agent', 'a\xffb'],
      ],
      body: Buffer.from('{"model": "broken", "user": "\xff"}', 'latin1'),
    });
    expect(await record(id)).toMatchObject({ RequestBody: '{"model": "broken", "user": "\ufffd"}' });
  });

  test("stays below the API's limit of 1 MB", { timeout: 30_000 }, async () => {
    // Each control character takes six bytes in JSON.
    await many(MAX_BATCH, { user: '\u0001'.repeat(5_400) });
    await many(MAX_BATCH, { user: '"'.repeat(31_000) });
    await taken(2 * MAX_BATCH);
    expect(ingestion.batches.map(({ status }) => status)).not.toContain(413);
    expect(Math.max(...ingestion.batches.map(({ request }) => request.body.length))).toBeGreaterThan(900_000);
    expect(Math.max(...ingestion.batches.map(({ request }) => request.body.length))).toBeLessThanOrEqual(
      1_000_000,
    );
  });

  test('is sent again after the delay that the API asks for', async () => {
    ingestion.script({ status: 429, headers: { 'Retry-After': '2' } });
    await recordOf('throttled-by-monitor');
    const [first, second] = ingestion.batches;
    expect(second?.status).toBe(204);
    expect(second?.request.body).toEqual(first?.request.body);
    expect((second?.request.startedAt ?? 0) - (first?.request.startedAt ?? 0)).toBeGreaterThanOrEqual(1_990);
    ingestion.reset();
    ingestion.script({ status: 503 });
    await recordOf('failing-monitor');
    expect(ingestion.batches.map(({ status }) => status)).toEqual([503, 204]);
  });

  test('is sent again with a new token when the token is refused', async () => {
    const before = gateway.identity.requests.length;
    ingestion.script({ status: 401 });
    await recordOf('refused-token');
    expect(ingestion.batches.map(({ status }) => status)).toEqual([401, 204]);
    expect(gateway.identity.requests.length).toBe(before + 1);
    const [first, second] = ingestion.batches.map(({ request }) => request.header('authorization'));
    expect(second).not.toBe(first);
  });

  test('that the API rejects is dropped and counted, and requests are not affected', {
    timeout: 40_000,
  }, async () => {
    const before = await counters();
    ingestion.script({ status: 403 });
    expect((await gateway.chat('dropped')).status).toBe(200);
    await until(() => ingestion.batches.length === 1);
    ingestion.reset();
    ingestion.always({ status: 500 });
    const begun = performance.now();
    expect((await gateway.chat('dropped-later')).status).toBe(200);
    expect(performance.now() - begun).toBeLessThan(900);
    await until(() => ingestion.batches.length === 2, 10_000);
    const after = await counters();
    const grown = (name: string) => (after[name] ?? Number.NaN) - (before[name] ?? Number.NaN);
    expect(grown('genai_apim_records_dropped_total refused')).toBe(1);
    expect(grown('genai_apim_records_dropped_total retries_exhausted')).toBe(1);
    expect(grown('genai_apim_posts_failed_total unauthorized')).toBe(1);
    expect(grown('genai_apim_posts_failed_total server_error')).toBe(2);
    expect(after.genai_apim_records_sent_total).toBeGreaterThan(50);
    expect(after['genai_apim_records_dropped_total queue_full']).toBe(0);
    const log = await gateway.apisix.log();
    expect(log).toContain('needs the role Monitoring Metrics Publisher');
    expect(log).not.toContain('planted-message');
  });

  test('that is waiting is sent when the worker ends', { timeout: 20_000 }, async () => {
    ingestion.reset();
    await gateway.chat('last-words', {}, { 'x-request-id': 'last-words' });
    await gateway.apisix.signal(1, 'QUIT');
    await record('last-words');
  });
});
