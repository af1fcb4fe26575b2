/**
 * Owners are remembered over reloads and found again after a restart, with Redis without querying the backends.
 * affinity-over-changes.heavy.test.ts does the same with thousands of conversations.
 */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, HOST, sameBackends, startGateway } from '../support/gateway.ts';
import { cannotRunRedisTests, startRedis } from '../support/redis.ts';
import { affinityIn, goOnByAsking, goOnByRedis, PASSWORD, respond, total } from '../support/restart.ts';
import { compileVariables } from '../support/scenarios.ts';
import { backendOf, calls, logged, resetMocks } from '../support/traffic.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('affinity over changes and restarts');
const pem = (file: string) => readFileSync(new URL(`../support/tls/${file}`, import.meta.url), 'utf8');
const TLS = { key: pem('self-signed.key'), cert: pem('self-signed.crt') };
const CA_FILE = '/etc/ssl/certs/own-ca.pem';
const SOME = 300;

/** A stored response has three keys: its own id and those of its two items. */
const KEYS = 3;

describe.skipIf(skipped)('affinity over changes', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  /** Reloads apisix.yaml with more settings. */
  async function reload(settings: Record<string, string>): Promise<void> {
    const variables = {
      GATEWAY_CLIENT_NAME_0: 'app',
      GATEWAY_CLIENT_KEY_0: 'key-of-the-client-app-0123456789',
      ...sameBackends(gateway),
      ...settings,
    };
    const { documents } = await compileVariables(
      Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== '')),
    );
    // A running process keeps the variables of its start, so a new backend must use one of them.
    await gateway.apisix.reload(
      documents['apisix.yaml'].replaceAll('AZURE_OPENAI_KEY_2', 'AZURE_OPENAI_KEY_0'),
    );
  }

  test('a drained owner serves its stored responses and gets no new ones', async () => {
    await reload({});
    const chains: { id: string; owner: number }[] = [];
    for (let count = 0; count < 6; count++) {
      const before = calls(gateway);
      const id = await respond(gateway);
      chains.push({ id, owner: calls(gateway).findIndex((now, index) => now > (before[index] ?? 0)) });
    }
    await reload({ AZURE_OPENAI_WEIGHT_0: '0' });
    for (const chain of chains) {
      const before = calls(gateway);
      await respond(gateway, { previous_response_id: chain.id });
      expect(calls(gateway)[chain.owner]).toBe((before[chain.owner] ?? 0) + 1);
    }
    const before = calls(gateway);
    for (let count = 0; count < 6; count++) await respond(gateway);
    expect(calls(gateway)[0]).toBe(before[0]);
    expect(chains.some(({ owner }) => owner === 0)).toBe(true);
  }, 30_000);

  test('responses of a removed owner are not found, and are found again when it is back', async () => {
    await reload({ AZURE_OPENAI_PRIORITY_0: '9' });
    const id = await respond(gateway);
    expect(calls(gateway)).toEqual([1, 0]);
    await reload({ AZURE_OPENAI_ENDPOINT_0: '', AZURE_OPENAI_KEY_0: '' });
    expect((await gateway.fetch(`/openai/v1/responses/${id}`)).status).toBe(404);
    expect(calls(gateway)).toEqual([1, 1]);
    // The owner is remembered while its backend is removed.
    await reload({});
    expect((await gateway.fetch(`/openai/v1/responses/${id}`)).status).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
  }, 30_000);

  test('two backends of one resource both own its responses', async () => {
    const { AZURE_OPENAI_ENDPOINT_0 = '', AZURE_OPENAI_KEY_0 = '' } = sameBackends(gateway);
    await reload({
      AZURE_OPENAI_ENDPOINT_2: AZURE_OPENAI_ENDPOINT_0,
      AZURE_OPENAI_KEY_2: AZURE_OPENAI_KEY_0,
      AZURE_OPENAI_PRIORITY_0: '9',
      AZURE_OPENAI_PRIORITY_2: '7',
    });
    const id = await respond(gateway);
    backendOf(gateway, 0).script({ status: 429, headers: { 'retry-after': '60' } });
    await respond(gateway, { previous_response_id: id });
    expect(calls(gateway)).toEqual([3, 0]);
  }, 30_000);
});

describe.skipIf(skipped)('affinity over a restart', () => {
  test(
    `${SOME} conversations continue at their owners, which are found by querying the backends`,
    () => goOnByAsking(SOME),
    240_000,
  );

  describe.skipIf(cannotRunRedisTests('affinity in Redis'))('with Redis', () => {
    test(
      `${SOME} conversations continue at their owners, which Redis knows, without querying backends`,
      () => goOnByRedis(SOME),
      240_000,
    );

    test.each([
      ['a CA that is trusted', HOST, true],
      ['another name', 'redis.internal', false],
    ])(
      'uses a Redis with TLS only if its certificate is trusted: %s',
      async (_, host, isUsed) => {
        const redis = await startRedis({ password: PASSWORD, tls: TLS });
        const gateway = await startGateway({
          settings: {
            ...affinityIn(redis, '2000'),
            RESPONSES_AFFINITY_REDIS_HOST: host,
            RESPONSES_AFFINITY_REDIS_TLS: 'true',
            GATEWAY_TRUSTED_CA_FILE: CA_FILE,
          },
          namesOfThisHost: ['redis.internal'],
          mountedFiles: { [CA_FILE]: TLS.cert },
        });
        try {
          const id = await respond(gateway);
          if (isUsed) await eventually(async () => Number(await redis.command('DBSIZE')) === KEYS);
          else expect(await logged(gateway, 'warn', 'the Redis of affinity fails')).not.toEqual([]);
          expect(Number(await redis.command('DBSIZE'))).toBe(isUsed ? KEYS : 0);
          await respond(gateway, { previous_response_id: id });
          expect(total(gateway)).toBe(2);
        } finally {
          await gateway.stop();
          await redis.stop();
        }
      },
      60_000,
    );

    test('two gateways share owners, and both keep serving when Redis fails', async () => {
      const redis = await startRedis({ password: PASSWORD });
      const one = await startGateway({ settings: affinityIn(redis, '300') });
      const two = await startGateway({
        backends: [],
        settings: { ...sameBackends(one), ...affinityIn(redis, '300') },
      });
      try {
        const id = await respond(one);
        await eventually(async () => Number(await redis.command('DBSIZE')) === KEYS);
        await respond(two, { previous_response_id: id });
        expect(total(one)).toBe(2);

        // Redis is paused: only one request waits for the timeout.
        await redis.pause();
        const later = await respond(one);
        const begun = performance.now();
        await respond(two, { previous_response_id: later });
        for (let count = 0; count < 5; count++)
          await respond(two, { previous_response_id: await respond(one) });
        expect(performance.now() - begun).toBeLessThan(3_000);
        await redis.resume();

        await redis.stop();
        await respond(two, { previous_response_id: await respond(one) });
        const lines = await logged(two, 'warn', 'the Redis of affinity fails');
        expect(lines.length).toBeGreaterThan(0);
        expect(await two.apisix.log()).not.toContain(PASSWORD);
      } finally {
        await two.stop();
        await one.stop();
        await redis.stop();
      }
    }, 120_000);
  });
});
