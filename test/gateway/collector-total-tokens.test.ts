/** In the test mode, a collector next to the gateway sends the tokens of each client to Application Insights. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Envelope, type MockAzureMonitor, startMockAzureMonitor } from '../support/azure-monitor.ts';
import {
  COLLECTOR_PORTS,
  type Collector,
  cannotRunCollectorTests,
  startCollector,
} from '../support/collector.ts';
import { type Gateway, HOST, hostAddress, quickMetrics, startGateway } from '../support/gateway.ts';
import { backendOf } from '../support/traffic.ts';

const NAME = 'the metric Total Tokens';
const SERVICE = 'gateway-in-test-mode';
const PATIENCE_MS = 20_000;
const OTHER_KEY = 'key-of-the-client-other-0123456789';

const cannotRun = cannotRunGatewayTests(NAME) || cannotRunCollectorTests(NAME);

describe.skipIf(cannotRun)(NAME, () => {
  let azure: MockAzureMonitor;
  let gateway: Gateway;
  let collector: Collector;

  const startOne = async () => {
    collector = await startCollector({
      file: gateway.documents['otel-collector.yaml'],
      environment: { APPLICATIONINSIGHTS_CONNECTION_STRING: connectionString() },
      beside: gateway.apisix.containerId,
    });
  };
  const connectionString = () =>
    `InstrumentationKey=11111111-2222-3333-4444-555555555555;IngestionEndpoint=http://${HOST}:${azure.port}/`;

  beforeAll(async () => {
    azure = await startMockAzureMonitor({ host: await hostAddress() });
    gateway = await startGateway({
      backends: [{}, {}, {}],
      settings: {
        GATEWAY_E2E_TEST_MODE: 'true',
        AZURE_OPENAI_NAME_0: 'ptu-backend-1',
        AZURE_OPENAI_NAME_1: 'payg-backend-1',
        AZURE_OPENAI_NAME_2: 'payg-backend-2',
        GATEWAY_CLIENT_NAME_1: 'other',
        GATEWAY_CLIENT_KEY_1: OTHER_KEY,
        APPLICATIONINSIGHTS_CONNECTION_STRING: connectionString(),
        OTEL_SERVICE_NAME: SERVICE,
        PROMETHEUS_SCRAPE_INTERVAL: '1s',
        PROMETHEUS_SCRAPE_TIMEOUT: '900ms',
        OTEL_BATCH_TIMEOUT: '200ms',
      },
      adapt: quickMetrics,
      sidecarPorts: Object.values(COLLECTOR_PORTS),
    });
    await startOne();
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await collector?.stop();
    await gateway?.stop();
    await azure?.stop();
  });

  /** A chat completion in the pool `usage-tracking`, whose only backend reports this usage. */
  async function use(key: string | undefined, model: string, prompt: number, completion: number) {
    backendOf(gateway, 1).script({
      path: /chat/,
      body: {
        choices: [{ index: 0, message: { role: 'assistant', content: 'a' }, finish_reason: 'stop' }],
        usage: {
          prompt_tokens: prompt,
          completion_tokens: completion,
          total_tokens: prompt + completion,
        },
      },
    });
    const answer = await gateway.fetch('/usage-tracking/openai/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { 'api-key': key }) },
      body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }] }),
    });
    await answer.text();
    expect(answer.status).toBe(200);
  }

  const metricsOf = ({ data: { baseType, baseData } }: Envelope) =>
    baseType === 'MetricData' ? (baseData.metrics as { name: string; value: number }[]) : [];

  /** The result of the page's query, for the whole time. */
  function tokens(): Record<string, number> {
    const sums: Record<string, number> = {};
    for (const envelope of azure.envelopes) {
      const client = envelope.data.baseData.properties?.['Subscription ID'] ?? 'no client';
      for (const { name, value } of metricsOf(envelope))
        if (name === 'Total Tokens') sums[client] = (sums[client] ?? 0) + value;
    }
    return sums;
  }

  test('adds up to the prompt and completion tokens of each client, for all its models', async () => {
    await use(undefined, 'gpt-4o', 10, 3);
    await use(undefined, 'gpt-4o-mini', 100, 20);
    await use(OTHER_KEY, 'gpt-4o', 7, 1);
    await expect.poll(tokens, { timeout: PATIENCE_MS }).toEqual({ app: 133, other: 8 });
    await use(undefined, 'gpt-4o', 1_000, 500);
    await expect.poll(tokens, { timeout: PATIENCE_MS }).toEqual({ app: 1_633, other: 8 });
    expect(collector.log()).not.toMatch(/\t(?:warn|error)\t/);
  });

  test('is the only metric there, with the name of the service', () => {
    const sent = azure.envelopes.filter((each) => metricsOf(each).length > 0);
    expect([...new Set(sent.flatMap(metricsOf).map(({ name }) => name))]).toEqual(['Total Tokens']);
    for (const { tags } of sent) expect(tags['ai.cloud.role']).toBe(SERVICE);
  });

  test(
    'is sent once more, since the start of the gateway, by a new collector',
    async () => {
      await collector.stop();
      await startOne();
      await expect.poll(tokens, { timeout: PATIENCE_MS }).toEqual({ app: 2 * 1_633, other: 2 * 8 });
    },
    CONTAINER_TIMEOUT_MS,
  );
});
