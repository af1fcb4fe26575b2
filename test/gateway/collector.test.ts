/**
 * A collector next to a gateway, as in one replica: it forwards everything to the right place, with cost and without
 * secrets.
 */
import { chmodSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type MockAzureMonitor, startMockAzureMonitor } from '../support/azure-monitor.ts';
import {
  COLLECTOR_PORTS,
  type Collector,
  cannotRunCollectorTests,
  startCollector,
} from '../support/collector.ts';
import {
  CLIENT_KEY,
  type Gateway,
  HOST,
  hostAddress,
  quickMetrics,
  startGateway,
} from '../support/gateway.ts';
import { CLIENT_ID, type MockIdentity, startMockIdentity } from '../support/mock-identity.ts';
import {
  cannotRunPrometheusTests,
  type Prometheus,
  type Series,
  startPrometheus,
} from '../support/prometheus.ts';
import { until } from '../support/traffic.ts';

const LOGS = '/var/log/genai-gateway';
const DCR = '/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics';
const SERVICE = 'a$b ${env:HOME} $${c}';
const CONVERSATION = 'what nobody but the model may read';
const PATIENCE_MS = 20_000;
const FIRST_LOOK_MS = 600;

const cannotRun =
  cannotRunGatewayTests('a collector next to the gateway') ||
  cannotRunCollectorTests('a collector next to the gateway') ||
  cannotRunPrometheusTests('a collector next to the gateway');

describe.skipIf(cannotRun)('a collector next to the gateway', () => {
  let logs: string;
  let prometheus: Prometheus;
  let azure: MockAzureMonitor;
  let identity: MockIdentity;
  let gateway: Gateway;
  let collector: Collector;
  let connectionString: string;

  beforeAll(async () => {
    logs = mkdtempSync(join(tmpdir(), 'genai-gateway-logs-'));
    // World-writable like an emptyDir, because the containers that share it run as different users.
    chmodSync(logs, 0o777);
    const host = await hostAddress();
    prometheus = await startPrometheus();
    azure = await startMockAzureMonitor({ host, store: prometheus.writeUrl });
    identity = await startMockIdentity({ host, hostName: HOST });
    connectionString = `InstrumentationKey=11111111-2222-3333-4444-555555555555;IngestionEndpoint=http://${HOST}:${azure.port}/`;
    gateway = await startGateway({
      settings: {
        // One worker, so that the backends take turns and the number of series is known.
        GATEWAY_WORKERS: '1',
        AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o=gpt-4o-east,o3,free,embedded',
        AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o=gpt-4o-east,o3,free,embedded',
        MODEL_PRICES: 'gpt-4o=2.50/10,o3=2/8,embedded=0.02/0',
        APISIX_LOGS_PATH: `${LOGS}/access.json`,
        APPLICATIONINSIGHTS_CONNECTION_STRING: connectionString,
        AZURE_MONITOR_WORKSPACE_ENDPOINT: `http://${HOST}:${azure.port}${DCR}`,
        AZURE_CLIENT_ID: CLIENT_ID,
        PROMETHEUS_REMOTE_WRITE_ORG_ID: 'team-1',
        CLUSTER_NAME: 'cluster-1',
        ENVIRONMENT: 'prod',
        OTEL_SERVICE_NAME: SERVICE,
        PROMETHEUS_SCRAPE_INTERVAL: '1s',
        PROMETHEUS_SCRAPE_TIMEOUT: '900ms',
        OTEL_BATCH_TIMEOUT: '200ms',
        ENABLE_DEBUG_EXPORTER: 'true',
      },
      adapt: quickMetrics,
      sharedFolders: { [LOGS]: logs },
      sidecarPorts: Object.values(COLLECTOR_PORTS),
    });
    collector = await startCollector({
      file: gateway.documents['otel-collector.yaml'],
      environment: {
        APPLICATIONINSIGHTS_CONNECTION_STRING: connectionString,
        CONTAINER_APP_REPLICA_NAME: 'gateway--abc-1',
        ...identity.environment('endpoint'),
      },
      beside: gateway.apisix.containerId,
      sharedFolders: { [LOGS]: logs },
      memoryMiB: 256,
    });
    // The collector reads a file that exists at its start from the end.
    await sleep(FIRST_LOOK_MS);
    const ask = async (model: string, body: object = {}) => {
      const messages = [{ role: 'user', content: CONVERSATION }];
      const answer = await gateway.chat(model, { messages, ...body });
      expect(answer.status).toBe(200);
      await answer.text();
    };
    await ask('gpt-4o', { max_tokens: 9 });
    await ask('GPT-4o', { max_tokens: 7 });
    await ask('o3');
    await ask('free');
    const embeddings = await gateway.fetch('/openai/v1/embeddings', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'embedded', input: 'some text' }),
    });
    expect(embeddings.status).toBe(200);
    await embeddings.text();
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await collector?.stop();
    await gateway?.stop();
    await identity?.stop();
    await azure?.stop();
    await prometheus?.stop();
    if (logs) rmSync(logs, { recursive: true });
  });

  /** The result of a query, as soon as it has this number of series. */
  async function inWorkspace(promql: string, series: number): Promise<readonly Series[]> {
    let found: readonly Series[] = [];
    for (const started = Date.now(); Date.now() - started < PATIENCE_MS; await sleep(250)) {
      found = await prometheus.query(promql);
      if (found.length >= series) return found;
    }
    throw new Error(`${promql} has ${found.length} series, not ${series}:\n${collector.log().slice(-3000)}`);
  }
  test('answers its health check', async () => {
    expect((await gateway.apisix.request(COLLECTOR_PORTS.health, '/')).status).toBe(200);
    expect(collector.log()).not.toMatch(/\t(?:warn|error)\t/);
  });

  test("writes the gateway's metrics to the workspace, with the replica as a label", async () => {
    const [attempts] = await inWorkspace(
      'apisix_genai_attempts_total{request_llm_model="o3", outcome="ok"}',
      1,
    );
    expect(attempts?.value).toBe(1);
    expect(attempts?.labels).toMatchObject({
      instance: 'gateway--abc-1',
      job: SERVICE,
      cluster: 'cluster-1',
      environment: 'prod',
    });
    const [up] = await inWorkspace('up', 1);
    expect(up?.value).toBe(1);
  });

  test('signs in with the configured identity for remote write, and names the tenant', async () => {
    await until(() => azure.writes.length > 1, PATIENCE_MS);
    const [write] = azure.writes;
    const [scheme, token = ''] = write?.headers.authorization?.split(' ') ?? [];
    expect(scheme).toBe('Bearer');
    expect(identity.accepts(token, 'https://monitor.azure.com')).toBe(true);
    expect(identity.requests[0]?.clientId).toBe(CLIENT_ID);
    // A token is reused until it expires.
    expect(identity.requests.length).toBe(1);
    expect(write?.target).toBe(`${DCR}/api/v1/write?api-version=2023-04-24`);
    expect(write?.headers).toMatchObject({ 'x-scope-orgid': 'team-1', 'content-encoding': 'snappy' });
    expect(azure.strays).toEqual([]);
  });

  /** The sum over clients and backends. */
  const byModel = (series: readonly Series[]) => {
    const sums: Record<string, number> = {};
    for (const { labels, value } of series) {
      const model = labels.request_llm_model ?? '';
      sums[model] = (sums[model] ?? 0) + value;
    }
    return sums;
  };

  test('writes the cost of tokens by model and kind in addition to their number', async () => {
    // The client's name of the model has a price, the backend's has none. Azure accepts names in any case.
    const cost = await inWorkspace('llm_cost_usd{cost_component="completion"}', 2);
    const prompt = await inWorkspace('llm_cost_usd{cost_component="prompt"}', 3);
    const tokens = await inWorkspace('apisix_llm_completion_tokens', 4);
    const promptTokens = await inWorkspace('apisix_llm_prompt_tokens', 4);

    expect(byModel(tokens)).toEqual({ 'gpt-4o': 9 + 7, o3: 4, free: 4, embedded: 0 });
    const spent = Object.entries(byModel(cost)).map(([model, usd]) => [
      model,
      Number((usd * 1e6).toFixed(6)),
    ]);
    expect(Object.fromEntries(spent)).toEqual({ 'gpt-4o': (9 + 7) * 10, o3: 4 * 8 });
    // The same costs by the answering model. All of these names have prices here.
    const served = await inWorkspace('llm_served_cost_usd{cost_component="completion"}', 2);
    expect(byModel(served)).toEqual(byModel(cost));
    for (const { labels } of served) {
      expect(labels).toMatchObject({ kind: 'completion', spilled: 'false' });
      expect(labels.node).toMatch(/./);
      expect(labels.consumer).toBeUndefined();
    }
    const usdOfPrompt = { 'gpt-4o': 2.5, o3: 2, embedded: 0.02 };
    expect(prompt).toHaveLength(3);
    for (const { labels, value } of prompt) {
      const { cost_component: _, __name__, ...same } = labels;
      const counter = promptTokens.find((each) =>
        Object.entries(same).every(([name, text]) => each.labels[name] === text),
      );
      const usd = usdOfPrompt[labels.request_llm_model as keyof typeof usdOfPrompt];
      expect(counter?.value).toBeGreaterThan(0);
      expect(value).toBeCloseTo(((counter?.value ?? 0) * usd) / 1e6, 12);
      expect(labels.consumer).toBe('app');
    }
  });

  const otlp = (signal: 'traces' | 'logs', body: object) =>
    gateway.apisix.request(COLLECTOR_PORTS.otlp, `/v1/${signal}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });

  test('forwards spans received by OTLP to Application Insights', async () => {
    const traceId = '5b8efff798038103d269b633813fc60c';
    const span = {
      traceId,
      spanId: 'eee19b7ec3c1b174',
      name: 'chat gpt-4o',
      kind: 2,
      startTimeUnixNano: `${Date.now()}000000`,
      endTimeUnixNano: `${Date.now() + 5}000000`,
    };
    const sent = await otlp('traces', { resourceSpans: [{ resource: {}, scopeSpans: [{ spans: [span] }] }] });
    expect(sent.status).toBe(200);
    const ofTrace = () => azure.envelopes.find(({ tags }) => tags['ai.operation.id'] === traceId);
    await until(() => ofTrace() !== undefined, PATIENCE_MS);
    expect(ofTrace()?.data.baseType).toBe('RequestData');
    // The collector must not expand `$$` in the file or `${…}` in the text.
    expect(ofTrace()?.tags['ai.cloud.role']).toBe(SERVICE);
    expect(ofTrace()?.iKey).toBe('11111111-2222-3333-4444-555555555555');
  });

  test('forwards log records received by OTLP to Application Insights', async () => {
    const record = { body: { stringValue: 'from a client of OTLP' }, severityNumber: 9 };
    const sent = await otlp('logs', {
      resourceLogs: [{ resource: {}, scopeLogs: [{ logRecords: [record] }] }],
    });
    expect(sent.status).toBe(200);
    await until(() => messages().some(({ message }) => message === 'from a client of OTLP'), PATIENCE_MS);
  });

  const messages = () =>
    azure.envelopes.filter(({ data }) => data.baseType === 'MessageData').map(({ data }) => data.baseData);
  const linesOf = (model: string) =>
    messages().flatMap(({ properties }) => (properties?.requested_model === model ? [properties] : []));

  test('forwards each line of the access log in the shared folder once, with its fields as properties', async () => {
    await until(() => linesOf('embedded').length > 0, PATIENCE_MS);
    expect(linesOf('o3')).toHaveLength(1);
    expect(linesOf('o3')[0]).toMatchObject({ client: 'app', status: '200', completion_tokens: '4' });
    const [line] = azure.envelopes.filter(({ data }) => data.baseData.properties?.requested_model === 'o3');
    expect(Date.parse(line?.time ?? '')).toBe(Date.parse(line?.data.baseData.properties?.time ?? ''));
  });

  test('continues with new lines after the file was truncated in place', async () => {
    const file = join(logs, 'access.json');
    expect(statSync(file).size).toBeGreaterThan(0);
    truncateSync(file);
    const answer = await gateway.chat('free', { user: 'after' });
    expect(answer.status).toBe(200);
    await answer.text();
    await until(() => linesOf('free').length === 2, PATIENCE_MS);
    expect(linesOf('o3')).toHaveLength(1);
  });

  test('sends and logs no secret and no conversation', () => {
    const sent = JSON.stringify([azure.envelopes, azure.strays]) + collector.log();
    const token = azure.writes[0]?.headers.authorization?.split(' ')[1] ?? 'no token';
    expect(sent).toContain('apisix_llm_prompt_tokens');
    for (const secret of [CLIENT_KEY, CONVERSATION, identity.secret, token, connectionString])
      expect(sent).not.toContain(secret);
  });
});
