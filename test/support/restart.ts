/** Conversations that continue after a restart of the gateway. */
import { expect } from 'vitest';
import { type Gateway, sameBackends, startGateway } from './gateway.ts';
import { type Redis, startRedis } from './redis.ts';
import { calls, forgetRequests } from './traffic.ts';
import { eventually } from './until.ts';

const AT_ONCE = 50;
const MODEL = 'gpt-4o';
export const PASSWORD = 'password-of-the-affinity-redis';

/** The number of requests that all backends received. */
export const total = (gateway: Gateway): number => calls(gateway).reduce((sum, each) => sum + each);

export async function created(gateway: Gateway, path: string, body: object): Promise<string> {
  const answer = await gateway.fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as { id: string }).id;
}

export const respond = (gateway: Gateway, more: object = {}): Promise<string> =>
  created(gateway, '/openai/v1/responses', { model: MODEL, input: 'Hello', max_output_tokens: 4, ...more });

export const affinityIn = (redis: Redis, timeoutMs: string): Record<string, string> => ({
  RESPONSES_AFFINITY_REDIS_HOST: redis.host,
  RESPONSES_AFFINITY_REDIS_PORT: String(redis.port),
  RESPONSES_AFFINITY_REDIS_PASSWORD: PASSWORD,
  RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: timeoutMs,
  RESPONSES_AFFINITY_TTL_SECONDS: '3600',
});

/** Runs the task for each number below `count`, several at once. */
async function each(count: number, task: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < count; index = next++) await task(index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const quiet = { config: { recordBodies: false } };

async function conversations(gateway: Gateway, count: number): Promise<string[]> {
  const ids = new Array<string>(count);
  await each(count, async (index) => {
    ids[index] = await created(gateway, '/openai/v1/conversations', {});
  });
  return ids;
}

/** Makes one more turn in each conversation, and returns the number of backend calls by method. */
async function goOn(
  gateway: Gateway,
  backends: Gateway,
  ids: readonly string[],
): Promise<Record<string, number>> {
  await forgetRequests(backends);
  await each(ids.length, async (index) => {
    await respond(gateway, { conversation: ids[index], store: false });
  });
  const counts: Record<string, number> = {};
  for (const { requests } of backends.mocks) {
    for (const { method } of requests) counts[method] = (counts[method] ?? 0) + 1;
  }
  return counts;
}

/** Without Redis, the second gateway queries the backends once for the owner of each conversation. */
export async function goOnByAsking(count: number): Promise<void> {
  const first = await startGateway({ backends: [quiet, quiet] });
  try {
    const ids = await conversations(first, count);
    expect(await goOn(first, first, ids)).toEqual({ POST: count });
    await first.apisix.stop();
    const second = await startGateway({ backends: [], settings: sameBackends(first) });
    try {
      const found = await goOn(second, first, ids);
      expect(found.POST).toBe(count);
      expect(found.GET).toBeGreaterThanOrEqual(count);
      expect(found.GET).toBeLessThanOrEqual(2 * count);
      // From now on the owners are known.
      expect(await goOn(second, first, ids)).toEqual({ POST: count });
    } finally {
      await second.stop();
    }
  } finally {
    await first.stop();
  }
}

/** With Redis, the second gateway queries no backend. */
export async function goOnByRedis(count: number): Promise<void> {
  const redis = await startRedis({ password: PASSWORD });
  const settings = affinityIn(redis, '10000');
  const first = await startGateway({ backends: [quiet, quiet], settings });
  try {
    const ids = await conversations(first, count);
    await eventually(async () => Number(await redis.command('DBSIZE')) >= count);
    const keys = (await redis.command('KEYS', '*')) as string[];
    expect(keys.length).toBeGreaterThanOrEqual(count);
    for (const key of keys.slice(0, 100)) expect(key).toMatch(/^responses_affinity:[0-9a-f]{32}$/);
    expect(await redis.command('TTL', keys[0] ?? '')).toBeGreaterThan(3_000);
    await first.apisix.stop();
    const second = await startGateway({
      backends: [],
      settings: { ...sameBackends(first), ...settings },
    });
    try {
      expect(await goOn(second, first, ids)).toEqual({ POST: count });
      expect(await second.apisix.log()).not.toContain(PASSWORD);
    } finally {
      await second.stop();
    }
  } finally {
    await first.stop();
    await redis.stop();
  }
}
