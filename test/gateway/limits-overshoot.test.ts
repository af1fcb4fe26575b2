/** How far fifty concurrent requests can exceed a budget, because all of them start before the first one is charged. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { clientSettings, costing, shoot } from '../support/limits.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';

const skipped = cannotRunGatewayTests('overshoot of limits');
const withoutRedis = skipped || cannotRunRedisTests('overshoot of limits in Redis');

const CONCURRENT = 50;
const BUDGET = 100;
const SETTINGS = {
  ENABLE_AI_RATE_LIMIT: 'true',
  AI_RATE_LIMIT_SCOPE: 'client',
  AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
  AI_RATE_LIMIT_HIGH_LIMIT: String(BUDGET),
  ENABLE_QUOTA: 'true',
  QUOTA_COUNT: '20000',
  QUOTA_TIME_WINDOW: '3600',
  ...clientSettings({ tokens: {}, again: {}, minute: { REQUESTS_PER_MINUTE: '10' } }),
};

describe.each([
  ['in memory', skipped],
  ['in Redis', withoutRedis],
] as const)('a budget %s', (place, isSkipped) => {
  describe.skipIf(isSkipped)('with fifty concurrent requests', () => {
    let gateway: Gateway;
    let redis: Redis | undefined;

    beforeAll(async () => {
      redis = place === 'in Redis' ? await startRedis() : undefined;
      gateway = await startGateway({
        settings: {
          ...SETTINGS,
          ...(redis
            ? {
                AI_RATE_LIMIT_POLICY: 'redis',
                AI_RATE_LIMIT_REDIS_HOST: redis.host,
                AI_RATE_LIMIT_REDIS_PORT: String(redis.port),
              }
            : {}),
        },
      });
    }, CONTAINER_TIMEOUT_MS);
    afterAll(async () => {
      await gateway?.stop();
      await redis?.stop();
    });
    beforeEach(() => {
      for (const mock of gateway.mocks) mock.always({ ...costing(), delayMs: 300 });
    });

    /** Sends this number of requests, fifty at a time, and counts the ones that pass. */
    async function passed(count: number, client: string): Promise<number> {
      let next = 0;
      let through = 0;
      const one = async () => {
        while (next++ < count) if ((await shoot(gateway, { client })).status === 200) through++;
      };
      await Promise.all(Array.from({ length: CONCURRENT }, one));
      return through;
    }

    test('of tokens is exceeded by at most the requests in flight', async () => {
      const through = await passed(4 * CONCURRENT, 'tokens');
      const cost = 10;
      process.stderr.write(
        `\novershoot ${place}: budget ${BUDGET}, ${CONCURRENT} at once of ${cost} each: ${through * cost} charged\n`,
      );
      expect(through).toBeGreaterThanOrEqual(BUDGET / cost);
      expect(through).toBeLessThanOrEqual(BUDGET / cost + CONCURRENT);
      expect(await passed(CONCURRENT, 'tokens')).toBe(0);
    });

    test('of requests is not exceeded', async () => {
      expect(await passed(4 * CONCURRENT, 'minute')).toBe(10);
    });
  });
});
