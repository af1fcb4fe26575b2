/** The real collector starts with every rendered file, keeps running and answers its health check. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS } from '../support/apisix.ts';
import {
  COLLECTOR_PORTS,
  type Collector,
  cannotRunCollectorTests,
  startCollector,
} from '../support/collector.ts';
import { COLLECTOR_IMAGE } from '../support/requirements.ts';
import { compileGolden, compileVariables, goodScenarios } from '../support/scenarios.ts';

const GATEWAY = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend-zero-4f1c',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero-9a2b',
  GATEWAY_REQUIRE_AUTH: 'true',
};
/** Nothing listens at these addresses: a collector starts without its destinations. */
const EXPORTERS = {
  'App Insights': {
    APPLICATIONINSIGHTS_CONNECTION_STRING:
      'InstrumentationKey=11111111-2222-3333-4444-555555555555;IngestionEndpoint=http://127.0.0.1:9/',
  },
  'an Azure Monitor workspace': {
    AZURE_MONITOR_WORKSPACE_ENDPOINT: 'http://127.0.0.1:9/dataCollectionRules/dcr-0/streams/metrics',
    MODEL_PRICES: 'gpt-4o=2.50/10',
    PROMETHEUS_SCRAPE_INTERVAL: '1s',
    PROMETHEUS_SCRAPE_TIMEOUT: '500ms',
  },
  'the debug exporter': { ENABLE_DEBUG_EXPORTER: 'true' },
};
type Exporter = keyof typeof EXPORTERS;

/** Every subset of the exporters, including none and all. */
const COMBINATIONS = (Object.keys(EXPORTERS) as Exporter[]).reduce<Exporter[][]>(
  (chosen, each) => chosen.flatMap((some) => [some, [...some, each]]),
  [[]],
);

describe.skipIf(cannotRunCollectorTests('the collector starts'))('the collector starts', () => {
  test.concurrent.each(
    COMBINATIONS.map((exporters) => ({ exporters, name: exporters.join(', ') || 'nothing' })),
  )(
    'with the exporters: $name',
    async ({ exporters }) => {
      const { documents, collectorEnvironment } = await compileVariables(
        Object.assign({ ...GATEWAY }, ...exporters.map((each) => EXPORTERS[each])),
      );
      const collector = await startCollector({
        file: documents['otel-collector.yaml'],
        environment: collectorEnvironment,
        memoryMiB: 256,
      });
      try {
        const health = async () => (await collector.request(COLLECTOR_PORTS.health, '/')).status;
        expect(await health()).toBe(200);
        expect(await acceptsSpans(collector)).toBe(200);
        await sleep(3_000);
        expect(collector.isRunning()).toBe(true);
        expect(await health()).toBe(200);
        // The log must not mention deprecated names or keys, or errors.
        expect(collector.log()).not.toMatch(/deprecat|alias|removed|\berror\t|panic/i);
        expect(collector.log()).toMatch(/"limit_mib": 192, "spike_limit_mib": 51/);
      } finally {
        await collector.stop();
      }
    },
    CONTAINER_TIMEOUT_MS,
  );

  test('with the configured memory limit', async () => {
    const { documents } = await compileVariables({ ...GATEWAY, OTEL_MEMORY_LIMIT_MIB: '100' });
    const collector = await startCollector({ file: documents['otel-collector.yaml'], memoryMiB: 256 });
    try {
      // The log arrives separately from the health check.
      await expect
        .poll(() => collector.log(), { timeout: 5_000 })
        .toMatch(/"limit_mib": 100, "spike_limit_mib": 20/);
    } finally {
      await collector.stop();
    }
  });

  test("the collector's validation accepts every file of the golden scenarios", async () => {
    const scenarios = await Promise.all(goodScenarios().map(compileGolden));
    const files = new Map(scenarios.map((each) => [each.documents['otel-collector.yaml'], each]));
    expect(files.size).toBeGreaterThan(8);
    for (const [file, { collectorEnvironment, collectorFiles }] of files) {
      const variables = Object.entries(collectorEnvironment).flatMap(([name, value]) => [
        '-e',
        `${name}=${value}`,
      ]);
      const secrets = Object.keys(collectorFiles).flatMap((path) => ['-v', `${path}:${path}:ro`]);
      const run = ['run', '--rm', '--network=none', ...variables, ...secrets, COLLECTOR_IMAGE];
      // Passed as an argument, the file need not be shared with Docker's machine.
      execFileSync('docker', [...run, 'validate', `--config=yaml:${file}`], { stdio: 'pipe' });
    }
  });
});

test('docs/collector.md names the tested image', () => {
  expect(readFileSync('docs/collector.md', 'utf8')).toContain(`\`${COLLECTOR_IMAGE}\``);
});

async function acceptsSpans(collector: Collector): Promise<number> {
  const span = {
    traceId: '5b8efff798038103d269b633813fc60c',
    spanId: 'eee19b7ec3c1b174',
    name: 'chat',
    kind: 2,
    startTimeUnixNano: `${Date.now()}000000`,
    endTimeUnixNano: `${Date.now() + 5}000000`,
  };
  const answer = await collector.request(COLLECTOR_PORTS.otlp, '/v1/traces', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ resourceSpans: [{ resource: {}, scopeSpans: [{ spans: [span] }] }] }),
  });
  return answer.status;
}
