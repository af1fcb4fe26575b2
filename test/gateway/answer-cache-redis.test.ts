/** The answer cache in Redis: replicas share answers, nothing in Redis is readable, and a failing Redis costs nothing but hits. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { ask, CACHE, callsOf, numbered, question, resultOf, sample, wire } from '../support/cache.ts';
import {
  backendKey,
  CLIENT_KEY,
  type Gateway,
  quickMetrics,
  sameBackends,
  startGateway,
} from '../support/gateway.ts';
import { documentedMetrics, samplesIn } from '../support/metrics-text.ts';
import { cannotRunRedisTests, type Redis, type RedisReply, startRedis } from '../support/redis.ts';
import { type SecretFolder, secretFolder } from '../support/secret-folder.ts';
import { backendOf, resetMocks, until } from '../support/traffic.ts';
import { eventually } from '../support/until.ts';

const skipped =
  cannotRunGatewayTests('the answer cache in Redis') || cannotRunRedisTests('the answer cache in Redis');

const PASSWORD = 'password-of-the-cache-0123456789';
const KEY = 'a-secret-for-the-answers-in-redis-0123456789';
const NEXT_KEY = 'the-secret-after-that-one-in-redis-9876543210';
const TIMEOUT_MS = 300;
/** The gateway does not call a failing Redis for this time. */
const PAUSE_MS = 5_000;

describe.skipIf(skipped)('the answer cache in Redis', () => {
  let redis: Redis;
  let folder: SecretFolder;
  let first: Gateway;
  let second: Gateway;
  /** Without encryption, and in another database. */
  let plain: Gateway;

  const settings = (more: Readonly<Record<string, string>> = {}) => ({
    ...CACHE,
    CACHE_POLICY: 'redis',
    CACHE_REDIS_HOST: redis.host,
    CACHE_REDIS_PORT: String(redis.port),
    CACHE_REDIS_TIMEOUT_MS: String(TIMEOUT_MS),
    CACHE_REDIS_PASSWORD: PASSWORD,
    CACHE_ENCRYPTION_KEY: KEY,
    ...more,
  });

  beforeAll(async () => {
    redis = await startRedis({ password: PASSWORD });
    first = await startGateway({ backends: [{}], adapt: quickMetrics, settings: settings() });
    folder = secretFolder({ CACHE_REDIS_PASSWORD: PASSWORD, CACHE_ENCRYPTION_KEY: KEY });
    const { CACHE_REDIS_PASSWORD: _, CACHE_ENCRYPTION_KEY: __, ...rest } = settings();
    second = await startGateway({
      backends: [],
      settings: { ...rest, ...folder.settings, ...sameBackends(first) },
    });
    plain = await startGateway({
      backends: [],
      settings: {
        ...settings({ CACHE_ENCRYPTION_KEY: '', CACHE_REDIS_DATABASE: '1' }),
        ...sameBackends(first),
      },
    });
  }, 3 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    folder?.remove();
    await Promise.all([first?.stop(), second?.stop(), plain?.stop()]);
    await redis?.stop();
  });
  beforeEach(() => resetMocks(first));
  const mock = () => backendOf(first, 0);

  /** Asks until an answer is stored, which happens after the client has it. */
  const hit = async (gateway: Gateway, body: object) => {
    let asked = await ask(gateway, body);
    await eventually(async () => {
      asked = await ask(gateway, body);
      return asked.result === 'hit';
    });
    return asked;
  };
  /** Everything in Redis as text. */
  const contents = async (): Promise<string> => {
    const keys = (await redis.command('KEYS', '*')) as readonly string[];
    const values: RedisReply[] = [];
    for (const key of keys)
      values.push(
        key.includes(':parts:')
          ? await redis.command('LRANGE', key, '0', '-1')
          : await redis.command('GET', key),
      );
    return JSON.stringify([keys, values]);
  };

  test('gives the answer of one replica to clients of another', async () => {
    const body = question();
    const { text } = await ask(first, body);
    const found = await hit(second, body);
    expect(found.text).toBe(text);
    expect(callsOf(first)).toBe(1);
  });

  test('stores nothing readable, and no key', async () => {
    mock().always({ body: { choices: [{ message: { content: 'planted-answer' } }] } });
    const body = question({ user: 'planted-prompt' });
    await hit(first, body);
    await hit(first, { ...body, stream: false });
    const all = await contents();
    expect(all).toContain('genai-gateway:cache:entry:');
    for (const text of [
      'planted',
      'choices',
      'gpt-4o',
      'app',
      CLIENT_KEY,
      backendKey(0),
      KEY,
      'application/json',
    ])
      expect(all).not.toContain(text);
  });

  test('stores no key and no prompt without encryption either', async () => {
    mock().always({
      body: { choices: [{ message: { content: 'planted-answer' } }] },
      headers: { 'x-key': CLIENT_KEY },
    });
    await hit(plain, question({ user: 'planted-prompt' }));
    const [key = ''] = (await redis.command('EVAL', PLAIN_KEYS, '0')) as readonly string[];
    const value = String(await redis.command('EVAL', PLAIN_VALUE, '1', key));
    expect(value).toContain('planted-answer');
    for (const text of ['planted-prompt', CLIENT_KEY, backendKey(0), PASSWORD])
      expect(value).not.toContain(text);
  });

  test('does not read entries that it did not write', async () => {
    const body = question();
    await hit(first, body);
    const [name = ''] = (await redis.command('KEYS', '*:entry:*')) as readonly string[];
    for (const value of ['', 'x', 'pGC1', 's'.repeat(200)]) {
      for (const key of (await redis.command('KEYS', '*:entry:*')) as readonly string[])
        await redis.command('SET', key, value);
      const asked = await ask(first, body);
      expect([asked.status, asked.result]).toEqual([200, 'miss']);
      await sleep(100);
    }
    expect(name).not.toBe('');
  });

  test('does not believe arriving answers that it did not write', { timeout: 60_000 }, async () => {
    const body = question();
    const inPlain = (script: string, ...values: string[]) =>
      redis.command('EVAL', `redis.call('SELECT', 1) ${script}`, '0', ...values);
    await inPlain("return redis.call('FLUSHDB')");
    await hit(plain, body);
    const [entry = ''] = (await inPlain("return redis.call('KEYS', '*:entry:*')")) as readonly string[];
    for (const [index, part] of ['5', '{}', '{"created":1,"headers":[{}]}', 'x'].entries()) {
      await inPlain(
        `redis.call('DEL', ARGV[1]) redis.call('SET', ARGV[2], ARGV[3])
        return redis.call('RPUSH', ARGV[4], ARGV[5])`,
        entry,
        entry.replace(':entry:', ':lease:'),
        `planted${index}`,
        `genai-gateway:cache:parts:planted${index}`,
        `ph${part}`,
      );
      const asked = await ask(plain, body);
      expect([asked.status, asked.result]).toEqual([200, 'miss']);
      await sleep(100);
    }
  });

  test('makes one call for identical requests at once, over all replicas', { timeout: 60_000 }, async () => {
    mock().always({ delayMs: 800 });
    const body = question();
    const all = Array.from({ length: 100 }, (_, index) => wire(index % 2 ? first : second, body));
    const answers = await Promise.all(all.map((each) => each.end(20_000)));
    expect(answers.map(({ status }) => status)).toEqual(Array(100).fill(200));
    expect(new Set(answers.map((each) => each.body.toString())).size).toBe(1);
    expect(answers.filter((each) => resultOf(each) === 'miss')).toHaveLength(1);
    expect(callsOf(first)).toBe(1);
  });

  test('lets clients of all replicas follow a stream live', { timeout: 60_000 }, async () => {
    mock().always({ events: numbered(40), gapMs: 100 });
    const body = question({ stream: true, user: 'planted-prompt' });
    const all = Array.from({ length: 12 }, (_, index) => wire(index % 2 ? first : second, body));
    await until(() => all.every((each) => each.text.includes('<8>')), 20_000);
    expect(all.every((each) => !each.text.includes('<39>'))).toBe(true);
    const during = await contents();
    expect(during).toContain(':parts:');
    expect(during).not.toMatch(/<8>|choices|planted/);
    const answers = await Promise.all(all.map((each) => each.end(20_000)));
    expect(new Set(answers.map((each) => each.body.toString())).size).toBe(1);
    expect(answers.every((each) => each.isWhole && each.body.toString().includes('[DONE]'))).toBe(true);
    expect(callsOf(first)).toBe(1);
    expect((await hit(first, body)).text).toBe(answers[0]?.body.toString());
  });

  test('finds answers after a change of the secret, with the previous one', {
    timeout: 120_000,
  }, async () => {
    const body = question();
    const { text } = await ask(first, body);
    await hit(second, body);
    const changed = await startGateway({
      backends: [],
      settings: {
        ...settings({ CACHE_ENCRYPTION_KEY: NEXT_KEY, CACHE_ENCRYPTION_KEY_PREVIOUS: KEY }),
        ...sameBackends(first),
      },
    });
    try {
      const found = await ask(changed, body);
      expect([found.result, found.text]).toEqual(['hit', text]);
      const other = question();
      await hit(changed, other);
      expect((await ask(first, other)).result).toBe('miss');
    } finally {
      await changed.stop();
    }
  });

  const failures = async () => sample(await first.metrics(), 'apisix_genai_cache_redis_failures_total');

  test('waits for a hung Redis once, and not again', { timeout: 60_000 }, async () => {
    const body = question();
    await hit(first, body);
    const before = await failures();
    await redis.pause();
    try {
      const took: number[] = [];
      for (let count = 0; count < 20; count++) {
        const began = performance.now();
        const asked = await ask(first, count === 0 ? body : question());
        took.push(performance.now() - began);
        expect([asked.status, asked.result]).toEqual([200, 'miss']);
      }
      // Each of the two workers waits once, and again after the pause.
      expect(took.filter((each) => each >= TIMEOUT_MS).length).toBeLessThanOrEqual(2);
      expect(Math.max(...took)).toBeLessThan(TIMEOUT_MS + 1_000);
      const began = performance.now();
      const many = await Promise.all(Array.from({ length: 100 }, () => ask(first, question())));
      expect(many.every(({ status }) => status === 200)).toBe(true);
      expect(performance.now() - began).toBeLessThan(10_000);
      expect(await failures()).toBeGreaterThan(before);
    } finally {
      await redis.resume();
    }
    await sleep(PAUSE_MS);
    await eventually(async () => (await ask(first, body)).result === 'hit', { timeoutMs: 20_000 });
  });

  test('lets followers go on when Redis hangs while they wait', { timeout: 60_000 }, async () => {
    mock().always({ delayMs: 2_000 });
    const body = question();
    const leading = ask(first, body);
    await mock().waitForRequests(1);
    const following = Array.from({ length: 4 }, () => wire(second, body));
    await sleep(500);
    await redis.pause();
    try {
      const answers = await Promise.all(following.map((each) => each.end(20_000)));
      expect(answers.map(({ status }) => status)).toEqual(Array(4).fill(200));
      expect((await leading).status).toBe(200);
    } finally {
      await redis.resume();
    }
    await sleep(PAUSE_MS);
  });

  test('answers without a Redis, and stores again when it is back', { timeout: 60_000 }, async () => {
    await redis.stop();
    const load = await Promise.all(Array.from({ length: 100 }, () => ask(first, question())));
    expect(load.every(({ status, result }) => status === 200 && result === 'miss')).toBe(true);
    await redis.restart();
    await sleep(PAUSE_MS);
    const body = question();
    await eventually(async () => (await ask(first, body)).result === 'hit', { timeoutMs: 20_000 });
    const log = await first.apisix.log();
    expect(log).toMatch(/the Redis of the answer cache at \S+ fails/);
    expect(log).toMatch(/the Redis of the answer cache at \S+ works again/);
    expect(log).not.toContain(PASSWORD);
  });

  test('answers while Redis is full, and still finds what is stored', { timeout: 60_000 }, async () => {
    const body = question();
    await hit(first, body);
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    await redis.command('CONFIG', 'SET', 'maxmemory', '1');
    try {
      expect((await ask(first, body)).result).toBe('hit');
      const load = await Promise.all(Array.from({ length: 50 }, () => ask(first, question())));
      expect(load.every(({ status, result }) => status === 200 && result === 'miss')).toBe(true);
      expect((await ask(first, body)).result).toBe('hit');
    } finally {
      await redis.command('CONFIG', 'SET', 'maxmemory', '0');
    }
    const next = question();
    await eventually(async () => (await ask(first, next)).result === 'hit', { timeoutMs: 20_000 });
  });

  test('logs what its user may not do, and works when it may', { timeout: 60_000 }, async () => {
    const before = await failures();
    await redis.command('ACL', 'SETUSER', 'default', '-eval');
    try {
      expect(await ask(first, question())).toMatchObject({ status: 200, result: 'miss' });
      expect(await first.apisix.log()).toMatch(/the Redis of the answer cache at \S+ fails: NOPERM .*'eval'/);
      await eventually(async () => (await failures()) > before);
    } finally {
      await redis.command('ACL', 'SETUSER', 'default', '+eval');
    }
    await sleep(PAUSE_MS);
    const body = question();
    await eventually(async () => (await ask(first, body)).result === 'hit', { timeoutMs: 20_000 });
  });

  test('counts in the metrics of docs/metrics.md, with their labels', async () => {
    const samples = samplesIn(await first.metrics()).filter(({ name }) =>
      name.startsWith('apisix_genai_cache_'),
    );
    const shown = Object.fromEntries(samples.map(({ name, labels }) => [name, Object.keys(labels).sort()]));
    const documented = documentedMetrics().filter(({ name }) => name.startsWith('apisix_genai_cache_'));
    expect(shown).toEqual(
      Object.fromEntries(documented.map(({ name, labels }) => [name, [...labels].sort()])),
    );
  });

  test('takes over when the replica of the first request is killed', { timeout: 120_000 }, async () => {
    mock().script({ hang: true });
    mock().always({ delayMs: 100 });
    const body = question();
    const leading = wire(first, body);
    await mock().waitForRequests(1);
    const following = Array.from({ length: 6 }, () => wire(second, body));
    await sleep(1_000);
    for (const { pid } of await first.apisix.workers()) await first.apisix.killWorker(pid);
    const answers = await Promise.all(following.map((each) => each.end(30_000)));
    expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(200));
    expect(callsOf(first)).toBe(2);
    leading.leave();
  });
});

const PLAIN_KEYS = `redis.call('SELECT', 1) return redis.call('KEYS', '*:entry:*')`;
const PLAIN_VALUE = `redis.call('SELECT', 1) return redis.call('GET', KEYS[1])`;
