/**
 * The eleven scenarios of the toolkit on one gateway, twenty times faster than their full length: the minutes of the
 * backends and of the budgets are shorter too.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { simulatorConfig } from '../../compiler/e2e/mocks.ts';
import { BACKENDS, DEPLOYMENTS, POOL_SCENARIOS } from '../../compiler/e2e/names.ts';
import { scenarioTable } from '../../compiler/e2e/report.ts';
import { type RunOptions, runScenario, type Target } from '../../compiler/e2e/run.ts';
import { SHORT_VARIANT, scenariosFor } from '../../compiler/e2e/scenarios.ts';
import { simulatorsAt } from '../../compiler/e2e/simulators.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { PROGRAM } from '../support/cli.ts';
import { backendKey, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { clientSettings, keyOf } from '../support/limits.ts';

const TIME_SCALE = 20;
const SECOND_MS = 1000 / TIME_SCALE;
const CLIENTS = ['one', 'two', 'three'];
/** The longest scenario has ten minutes, and waits for its budget before it begins. */
const SCENARIO_TIMEOUT_MS = (3 * 600_000) / TIME_SCALE;

describe.skipIf(cannotRunGatewayTests("the toolkit's scenarios"))("the toolkit's scenarios", () => {
  let gateway: Gateway;
  let target: Target;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: BACKENDS.map((name) => ({
        name,
        deployments: Object.keys(DEPLOYMENTS),
        config: simulatorConfig(SECOND_MS),
      })),
      settings: {
        GATEWAY_E2E_TEST_MODE: 'true',
        ...Object.fromEntries(BACKENDS.map((name, index) => [`AZURE_OPENAI_NAME_${index}`, name])),
        // The accelerator's priorities, which the pools replace.
        AZURE_OPENAI_PRIORITY_0: '10',
        AZURE_OPENAI_PRIORITY_1: '5',
        AZURE_OPENAI_PRIORITY_2: '1',
        ...clientSettings(Object.fromEntries(CLIENTS.map((name) => [name, {}]))),
      },
      times: { budget_minute: 60 / TIME_SCALE },
      adapt: quickMetrics,
    });
    target = {
      url: gateway.url,
      keys: CLIENTS.map(keyOf),
      clientNames: CLIENTS,
      metrics: `http://127.0.0.1:${gateway.apisix.mappedPort(PORTS.metrics)}/apisix/prometheus/metrics`,
      simulators: simulatorsAt(
        gateway.mocks.map(({ url }) => url),
        gateway.mocks.map((_, index) => backendKey(index)),
      ),
      resetMocks: () => {
        for (const mock of gateway.mocks) mock.reset();
      },
    };
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const options = (): RunOptions => ({
    timeScale: TIME_SCALE,
    budgetMinute: 60 / TIME_SCALE,
    variant: SHORT_VARIANT,
    environment: {},
    signal: new AbortController().signal,
    note: () => undefined,
  });

  test.each(POOL_SCENARIOS)(
    '%s acts as intended, and everything is asserted',
    async (name) => {
      const scenario = scenariosFor(SHORT_VARIANT).find((each) => each.name === name);
      if (!scenario) throw new Error(`there is no scenario ${name}`);
      const result = await runScenario(scenario, target, options());
      const open = result.checks.filter(({ result: each }) => each !== 'passed');
      expect(open, scenarioTable(result)).toEqual([]);
    },
    SCENARIO_TIMEOUT_MS,
  );

  test(
    'a pool with other rules fails its assertions',
    async () => {
      const weighted = scenariosFor(SHORT_VARIANT).find(({ name }) => name === 'round-robin-weighted');
      if (!weighted) throw new Error('there is no such scenario');
      const { checks } = await runScenario({ ...weighted, pool: 'round-robin-simple' }, target, options());
      const failed = checks.filter(({ result }) => result === 'failed');
      expect(failed.map(({ what }) => what)).toContain('answers by backend');
    },
    SCENARIO_TIMEOUT_MS,
  );

  test('a client without the key of a gateway in test mode sets no order', async () => {
    const set = (headers: Record<string, string>) =>
      fetch(`${gateway.url}/helpers/set-preferred-backends`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ preferredBackends: ['payg-backend-1'] }),
      });
    expect((await set({})).status).toBe(401);
    expect((await set({ 'api-key': keyOf('one') })).status).toBe(200);
  });
});

describe.skipIf(cannotRunGatewayTests('genai-gateway e2e --mock'))('genai-gateway e2e --mock', () => {
  test(
    'starts gateway and mocks, asserts, and leaves nothing behind',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-test-'));
      const args = ['e2e', '--mock', '--time-scale', '30', '--scenario', 'round-robin-simple'];
      const child = spawn(PROGRAM, args, {
        env: { PATH: process.env.PATH ?? '', TMPDIR: folder, ...dockerHost() },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let [out, err] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (text) => {
        out += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text) => {
        err += text;
      });
      try {
        const [code] = await once(child, 'close');
        expect(err).toContain('Running round-robin-simple.');
        expect(out).toMatch(/^ok {2}round-robin-simple {2}4 of 4$/m);
        expect(code).toBe(0);
        expect(readdirSync(folder)).toEqual([]);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
    CONTAINER_TIMEOUT_MS,
  );
});

const dockerHost = (): Record<string, string> =>
  process.env.DOCKER_HOST ? { DOCKER_HOST: process.env.DOCKER_HOST } : {};
