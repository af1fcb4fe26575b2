/** Limits that several gateways count together in one Redis. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, quickMetrics, startGateway } from '../support/gateway.ts';
import { admitted, clientSettings, costing, expectRefusal, type Shot, shoot } from '../support/limits.ts';
import { cannotRunRedisTests, type Redis, type RedisOptions, startRedis } from '../support/redis.ts';
import { eventually } from '../support/until.ts';

const skipped =
  cannotRunGatewayTests('limits in a shared Redis') || cannotRunRedisTests('limits in a shared Redis');

const PASSWORD = 'planted-password-of-redis-0123456789';
const HOUR_MS = 3_600_000;

const pem = (file: string) => readFileSync(new URL(`../support/tls/${file}`, import.meta.url), 'utf8');
const TLS = { key: pem('self-signed.key'), cert: pem('self-signed.crt') };
const CA_FILE = '/etc/ssl/certs/own-ca.pem';

const CLIENTS = clientSettings({
  app: {},
  minute: { TOKENS_PER_MINUTE: '40' },
  day: { TOKENS_PER_DAY: '60' },
  requests: { REQUESTS_PER_MINUTE: '6' },
  burst: {},
});

const redisSettings = (redis: Redis, options: RedisOptions = {}): Record<string, string> => ({
  AI_RATE_LIMIT_POLICY: 'redis',
  AI_RATE_LIMIT_REDIS_HOST: redis.host,
  AI_RATE_LIMIT_REDIS_PORT: String(redis.port),
  ...(options.username === undefined ? {} : { AI_RATE_LIMIT_REDIS_USERNAME: options.username }),
  ...(options.password === undefined ? {} : { AI_RATE_LIMIT_REDIS_PASSWORD: options.password }),
  ...(options.tls ? { AI_RATE_LIMIT_REDIS_TLS: 'true' } : {}),
});

const LANES = {
  ENABLE_AI_RATE_LIMIT: 'true',
  AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
  AI_RATE_LIMIT_HIGH_LIMIT: '100',
  AI_RATE_LIMIT_LOW_LIMIT: '50',
};

async function start(settings: Record<string, string>, options: GatewayOptions = {}): Promise<Gateway> {
  const gateway = await startGateway({ backends: [{}], ...options, settings: { ...CLIENTS, ...settings } });
  gateway.mocks[0]?.always(costing());
  return gateway;
}

/** Sends requests to the gateways in turn, one after another, because a charge reaches Redis only after the answer. */
async function admittedByTurns(gateways: readonly Gateway[], count: number, shot: Shot): Promise<number> {
  let passed = 0;
  for (let index = 0; index < count; index++) {
    const gateway = gateways[index % gateways.length];
    if (gateway) passed += await admitted(gateway, 1, shot);
    await sleep(20);
  }
  return passed;
}

const within = (budget: number) => (count: number) => count === budget || count === budget + 1;

describe.skipIf(skipped)('two gateways with one Redis', () => {
  let redis: Redis;
  let gateways: readonly Gateway[] = [];
  const options = { username: 'gateway', password: PASSWORD };

  beforeAll(async () => {
    redis = await startRedis(options);
    const settings = {
      ...LANES,
      ...redisSettings(redis, options),
      AI_RATE_LIMIT_REDIS_DATABASE: '3',
      APISIX_LOG_LEVEL: 'info',
      AI_RATE_LIMIT_SCOPE: 'client',
      ENABLE_QUOTA: 'true',
      QUOTA_COUNT: '30',
      QUOTA_TIME_WINDOW: '3600',
      ENABLE_RATE_LIMIT: 'true',
      RATE_LIMIT_RATE: '0.25',
      RATE_LIMIT_BURST: '40',
    };
    const quick = { adapt: quickMetrics };
    gateways = await Promise.all([start(settings, quick), start(settings, quick)]);
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    for (const gateway of gateways) await gateway.stop();
    await redis?.stop();
  });

  const lane = { status: 503, message: 'rate limited', lane: 'high' } as const;

  test.each<readonly [string, number, Shot, 'high' | 'low', number]>([
    ['the high lane', 10, { client: 'app' }, 'high', HOUR_MS],
    ['the low lane', 5, { client: 'app', headers: { 'x-priority': 'low' } }, 'low', HOUR_MS],
    ['tokens a minute', 4, { client: 'minute' }, 'high', 60_000],
    ['tokens a day', 6, { client: 'day' }, 'high', 24 * HOUR_MS],
  ])('share the budget of %s', async (_, budget, shot, of, window) => {
    expect(await admittedByTurns(gateways, budget + 4, shot)).toSatisfy(within(budget));
    for (const gateway of gateways)
      await expectRefusal(gateway, shot, { ...lane, lane: of, withinMs: window + 10 });
  });

  test('share requests a minute', async () => {
    expect(await admittedByTurns(gateways, 9, { client: 'requests' })).toBe(6);
    const message = 'Request quota exceeded. Please retry after some time.';
    for (const gateway of gateways)
      await expectRefusal(
        gateway,
        { client: 'requests' },
        { status: 429, message, lane: 'high', withinMs: 60_010 },
      );
  });

  test('share a rate and a quota', async () => {
    for (const gateway of gateways) gateway.mocks[0]?.always(costing(0, 0));
    const at = (gateway: Gateway, count: number) =>
      Promise.all(Array.from({ length: count }, () => shoot(gateway, { client: 'burst' })));
    const all = (await Promise.all(gateways.map((gateway) => at(gateway, 30)))).flat();
    for (const gateway of gateways) gateway.mocks[0]?.always(costing());
    // The rate lets forty-one through, and the quota thirty of those.
    expect(all.filter(({ status }) => status === 200)).toHaveLength(30);
    const messages = all.filter(({ status }) => status === 429).map(({ text }) => text);
    expect(messages.filter((text) => text.includes('quota')).length).toSatisfy(within(11));
    expect(messages.filter((text) => text.includes('Too many')).length).toSatisfy(
      (count) => count === 18 || count === 19,
    );
  });

  test('keep their counters in the configured database', async () => {
    const info = String(await redis.command('INFO', 'keyspace'));
    expect(info).toMatch(/^db3:keys=\d+/m);
    expect(info).not.toMatch(/^db0:/m);
  });

  test(
    'show no password at any log level',
    async () => {
      for (const gateway of gateways) {
        const log = await gateway.apisix.log();
        expect(log.split('\n').length).toBeGreaterThan(100);
        expect(log.split('\n').filter((line) => line.includes(PASSWORD))).toEqual([]);
        expect(log).not.toMatch(/failed to limit|failed to sync|rate limit rules/);
        expect(await gateway.metrics()).not.toContain(PASSWORD);
      }
    },
    CONTAINER_TIMEOUT_MS,
  );
});

describe.skipIf(skipped)('limits in a Redis', () => {
  const started: { stop(): Promise<void> }[] = [];
  afterAll(async () => {
    for (const each of started) await each.stop();
  });

  async function startBoth(
    options: RedisOptions,
    more: GatewayOptions = {},
    settings: Record<string, string> = {},
  ) {
    const redis = await startRedis(options);
    started.push(redis);
    const gateway = await start({ ...LANES, ...redisSettings(redis, options), ...settings }, more);
    started.unshift(gateway);
    return { redis, gateway };
  }
  const refusal = { status: 503, message: 'rate limited', lane: 'high', withinMs: HOUR_MS + 10 } as const;
  const keys = (redis: Redis) => redis.command('KEYS', '*');

  test(
    'without a password or TLS are counted',
    async () => {
      const { redis, gateway } = await startBoth({});
      expect(await admittedByTurns([gateway], 13, { client: 'app' })).toSatisfy(within(10));
      await expectRefusal(gateway, { client: 'app' }, refusal);
      expect(await keys(redis)).toEqual([expect.stringMatching(/:high$/)]);
    },
    CONTAINER_TIMEOUT_MS,
  );

  test(
    'count a rate below one request a second',
    async () => {
      const rate = { ENABLE_RATE_LIMIT: 'true', RATE_LIMIT_RATE: '0.4', RATE_LIMIT_BURST: '0' };
      const { gateway } = await startBoth({}, {}, rate);
      expect(await admitted(gateway, 2, { client: 'app' })).toBe(1);
      await sleep(1_000);
      const message = 'Too many requests. Please retry after some time.';
      const wait = await expectRefusal(
        gateway,
        { client: 'app' },
        { status: 429, message, lane: 'high', withinMs: 2_500 },
      );
      await sleep(wait);
      expect(await admitted(gateway, 2, { client: 'app' })).toBe(1);
    },
    CONTAINER_TIMEOUT_MS,
  );

  test(
    'with a password and a trusted certificate are counted',
    async () => {
      const { redis, gateway } = await startBoth(
        { password: PASSWORD, tls: TLS },
        { mountedFiles: { [CA_FILE]: TLS.cert } },
        { GATEWAY_TRUSTED_CA_FILE: CA_FILE },
      );
      expect(await admittedByTurns([gateway], 13, { client: 'app' })).toSatisfy(within(10));
      await expectRefusal(gateway, { client: 'app' }, refusal);
      expect(await keys(redis)).toEqual([expect.stringMatching(/:high$/)]);
    },
    CONTAINER_TIMEOUT_MS,
  );

  test.each<readonly [string, RedisOptions, GatewayOptions, Record<string, string>]>([
    ['a certificate that nobody trusts', { tls: TLS }, {}, {}],
    [
      'a certificate of somebody else',
      { tls: TLS },
      { mountedFiles: { [CA_FILE]: TLS.cert }, namesOfThisHost: ['redis.internal'] },
      { GATEWAY_TRUSTED_CA_FILE: CA_FILE, AI_RATE_LIMIT_REDIS_HOST: 'redis.internal' },
    ],
    ['another password', { password: PASSWORD }, {}, { AI_RATE_LIMIT_REDIS_PASSWORD: `${PASSWORD}-else` }],
  ])(
    'are not counted with %s',
    async (_, options, more, settings) => {
      const { redis, gateway } = await startBoth(options, more, settings);
      expect(await admittedByTurns([gateway], 13, { client: 'app' })).toBe(13);
      expect(await keys(redis)).toEqual([]);
      const log = await gateway.apisix.log();
      expect(log).toMatch(/the Redis of the limits at \S+ fails: .+; requests are not counted/);
      expect(log).not.toContain(PASSWORD);
    },
    CONTAINER_TIMEOUT_MS,
  );
});

describe.skipIf(skipped)('a Redis that fails', () => {
  let redis: Redis;
  let gateway: Gateway;

  beforeAll(async () => {
    redis = await startRedis();
    gateway = await start(
      {
        ...LANES,
        ...redisSettings(redis),
        AI_RATE_LIMIT_SCOPE: 'client',
        ENABLE_QUOTA: 'true',
        QUOTA_COUNT: '1000',
        QUOTA_TIME_WINDOW: '3600',
        ENABLE_RATE_LIMIT: 'true',
        RATE_LIMIT_RATE: '1000',
        RATE_LIMIT_BURST: '1000',
      },
      {
        adapt: quickMetrics,
      },
    );
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    await redis?.stop();
  });

  const degraded = async () => {
    const text = await gateway.metrics();
    return Object.fromEntries(
      [...text.matchAll(/^apisix_genai_limiter_degraded_total\{limiter="([^"]+)"\} (\d+)$/gm)].map(
        ([, limiter = '', count]) => [limiter, Number(count)],
      ),
    );
  };
  /** The durations of this number of requests in milliseconds. All of them must succeed. */
  async function times(count: number): Promise<number[]> {
    const list: number[] = [];
    for (let index = 0; index < count; index++) {
      const began = performance.now();
      expect((await shoot(gateway, { client: 'app' })).status).toBe(200);
      list.push(performance.now() - began);
    }
    return list;
  }
  const linesAbout = async (text: string) =>
    (await gateway.apisix.log()).split('\n').filter((line) => line.includes(text));

  test(
    'has a metric from the start',
    async () => {
      await shoot(gateway, { client: 'minute' });
      expect(await degraded()).toEqual({ 'ai-rate-limiting': 0, 'limit-count': 0, 'limit-req': 0 });
    },
    CONTAINER_TIMEOUT_MS,
  );

  test(
    'and refuses connections lets requests pass without delay, is logged once and counted',
    async () => {
      await redis.stop();
      const list = await times(40);
      expect(Math.max(...list)).toBeLessThan(200);
      const counts = await degraded();
      // Each request counts at least its checks. The charges of the first requests were still tried.
      for (const limiter of ['ai-rate-limiting', 'limit-count', 'limit-req'])
        expect(counts[limiter]).toBeGreaterThanOrEqual(40);
      expect(await linesAbout('fails: ')).toHaveLength(1);
      expect((await linesAbout('Connection refused')).length).toBeLessThan(25);
      expect((await linesAbout('failed to limit')).length).toBe(0);
      const { headers } = await shoot(gateway, { client: 'app' });
      expect(headers.get('x-ai-high-ratelimit-limit')).toBe('100');
      expect(headers.get('x-ai-high-ratelimit-remaining')).toBeNull();
    },
    CONTAINER_TIMEOUT_MS,
  );

  test(
    'is used again when it is back',
    async () => {
      await redis.restart();
      await eventually(
        async () => {
          await shoot(gateway, { client: 'minute' });
          return (await linesAbout('works again')).length > 0;
        },
        { intervalMs: 500 },
      );
      expect(await linesAbout('works again')).toHaveLength(1);
      expect(await admittedByTurns([gateway], 13, { client: 'app' })).toSatisfy(within(10));
      const before = await degraded();
      await shoot(gateway, { client: 'minute' });
      expect(await degraded()).toEqual(before);
    },
    CONTAINER_TIMEOUT_MS,
  );

  test(
    'and stops answering delays only the first requests',
    async () => {
      await redis.pause();
      const [first = 0, ...rest] = await times(30);
      expect(first).toBeLessThan(1_200);
      expect(Math.max(...rest)).toBeLessThan(200);
      await redis.resume();
      await eventually(async () => (await shoot(gateway, { client: 'app' })).status === 503, {
        intervalMs: 200,
      });
      await expectRefusal(
        gateway,
        { client: 'app' },
        { status: 503, message: 'rate limited', lane: 'high', withinMs: HOUR_MS },
      );
    },
    CONTAINER_TIMEOUT_MS,
  );
});
