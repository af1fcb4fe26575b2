/**
 * APISIX_ACTIVE_HEALTH_CHECKS: backends are probed in the background and skipped while the probes fail.
 * health-checks.heavy.test.ts has every kind of failure, intervals, certificates, names and reloads.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import {
  backend,
  calls,
  changes,
  gateway,
  INTERVAL_MS,
  PATH,
  probed,
  probes,
  served,
  untilChanged,
} from '../support/health.ts';
import { inOrder, NO_COOLDOWN, resetMocks, until } from '../support/traffic.ts';

describe.skipIf(cannotRunGatewayTests('health checks'))('probes', () => {
  probed({ backends: [{}, {}, {}], settings: { AZURE_OPENAI_WEIGHT_2: '0' } });

  test('start without any request, at every backend including a drained one', async () => {
    await until(() => gateway.mocks.every((mock) => probes(mock).length >= 2), 10_000);
    expect(calls()).toEqual([0, 0, 0]);
  });

  test('carry no credential and nothing from a client', () => {
    for (const mock of gateway.mocks) {
      expect(probes(mock)).not.toEqual([]);
      for (const probe of probes(mock)) {
        expect([probe.method, probe.target, probe.status]).toEqual(['GET', PATH, 401]);
        expect(probe.body.length).toBe(0);
        expect(Object.fromEntries(probe.headers)).toEqual({
          host: `host.docker.internal:${mock.port}`,
          'user-agent': 'genai-gateway-health-check',
          accept: '*/*',
          connection: 'close',
        });
      }
    }
  });

  test('treat 401 as healthy and log nothing', async () => {
    expect(await served(4)).toEqual(expect.arrayContaining([expect.stringMatching(/^200 backend-[01] 1$/)]));
    expect(await gateway.apisix.log()).not.toMatch(/healthy|probe/);
  });
});

describe.skipIf(cannotRunGatewayTests('health of backends'))('a backend', () => {
  probed({ settings: { ...inOrder(2), ...NO_COOLDOWN } });

  let before: number;
  beforeEach(async () => {
    resetMocks(gateway);
    await until(() => probes(backend(0)).length >= 2);
    before = (await changes('backend-0')).length;
    resetMocks(gateway);
  });

  test('gets no requests while it is down, and gets them again within an interval after its return', async () => {
    await backend(0).stop();
    const told = await untilChanged('backend-0', before + 1);
    expect(told.at(-1)).toMatch(/^unhealthy; its probe failed: connection refused; it is skipped/);
    expect(await served(20)).toEqual(Array(20).fill('200 backend-1 1'));
    const upstreams = (await gateway.accessLog()).slice(-20).map(({ upstream }) => upstream);
    expect(upstreams).toEqual(Array(20).fill(`host.docker.internal:${backend(1).port}`));

    backend(0).reset();
    await backend(0).restart();
    await untilChanged('backend-0', before + 2, INTERVAL_MS + 1_500);
    expect(await served(4)).toEqual(Array(4).fill('200 backend-0 1'));
    expect((await changes('backend-0')).slice(before)).toEqual([
      expect.stringMatching(/^unhealthy; /),
      'healthy again; its probe returned status 401',
    ]);
  }, 40_000);

  test('still gets requests for objects that it owns while it is unhealthy', async () => {
    const openai = gateway.openai();
    const { id } = await openai.responses.create({ model: 'gpt-4o', input: 'Hello' });
    backend(0).always({ path: /models/, status: 500 });
    await untilChanged('backend-0', before + 1);
    await openai.responses.create({ model: 'gpt-4o', input: 'And?', previous_response_id: id });
    await openai.responses.retrieve(id);
    expect(calls()).toEqual([3, 0]);
    expect(await served(2)).toEqual(Array(2).fill('200 backend-1 1'));
    backend(0).always(undefined);
    await untilChanged('backend-0', before + 2);
  }, 30_000);
});
