/** Passwords of Redis in files: counters and owners in Redis survive a change of the password. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { admitted, costing } from '../support/limits.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';
import { publish, type SecretFolder, secretFolder } from '../support/secret-folder.ts';

const skipped =
  cannotRunGatewayTests('passwords of Redis in files') || cannotRunRedisTests('passwords of Redis in files');

const FIRST = 'planted-first-password-0123456789';
const SECOND = 'planted-second-password-0123456789';
const SETTINGS = ['AI_RATE_LIMIT_REDIS', 'RESPONSES_AFFINITY_REDIS'] as const;
/** The file is read every second, and a new value is used when it was read twice. */
const PROMISE_MS = 3_000;

const both = (field: string, value: string) =>
  Object.fromEntries(SETTINGS.map((name) => [`${name}_${field}`, value]));

describe.skipIf(skipped)('the password of Redis in a file', () => {
  let redis: Redis;
  let folder: SecretFolder;
  let gateway: Gateway;

  beforeAll(async () => {
    redis = await startRedis({ username: 'admin', password: 'password-of-the-admin' });
    await redis.command('ACL', 'SETUSER', 'gateway', 'on', `>${FIRST}`, '~*', '&*', '+@all');
    folder = secretFolder(both('PASSWORD', FIRST));
    gateway = await startGateway({
      backends: [{}, {}],
      settings: {
        AI_RATE_LIMIT_POLICY: 'redis',
        ...both('HOST', redis.host),
        ...both('PORT', String(redis.port)),
        ...both('USERNAME', 'gateway'),
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
        AI_RATE_LIMIT_HIGH_LIMIT: '100000',
        ...folder.settings,
      },
    });
    for (const mock of gateway.mocks) mock.always({ ...costing(), path: /\/chat\// });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    folder?.remove();
    await gateway?.stop();
    await redis?.stop();
  });

  /** Sends a request that is counted, one that stores an owner, and one that looks up an owner. */
  const use = async () => {
    expect(await admitted(gateway, 1)).toBe(1);
    await gateway.openai().responses.create({ model: 'gpt-4o', input: 'Hello' });
    await (await gateway.fetch('/openai/v1/responses/resp_of_nobody')).arrayBuffer();
    await sleep(200);
  };
  /** The value of the budget's counter. */
  const counted = async () => {
    const keys = ((await redis.command('KEYS', '*')) as readonly string[]).filter(
      (key) => !key.startsWith('responses_affinity:'),
    );
    expect(keys).toHaveLength(1);
    return redis.command('GET', keys[0] ?? '');
  };
  /** Failed logins with a wrong password. */
  const refusals = async () => redis.command('ACL', 'LOG');
  const sessions = async () =>
    String(await redis.command('CLIENT', 'LIST')).match(/user=gateway/g)?.length ?? 0;

  test('is used from the start, and a changed one is used while the gateway runs', {
    timeout: 60_000,
  }, async () => {
    expect(JSON.stringify(gateway.documents)).not.toContain('planted');
    for (let count = 0; count < 4; count++) await use();
    expect(await redis.command('KEYS', 'responses_affinity:*')).not.toEqual([]);
    expect(await sessions()).toBeGreaterThan(0);
    const before = Number(await redis.command('DBSIZE'));

    await redis.command('ACL', 'SETUSER', 'gateway', `>${SECOND}`);
    await publish(gateway, folder, both('PASSWORD', SECOND));
    await sleep(PROMISE_MS);
    await redis.command('CLIENT', 'KILL', 'USER', 'gateway');
    await redis.command('ACL', 'SETUSER', 'gateway', `<${FIRST}`);
    expect(await sessions()).toBe(0);
    const countedBefore = await counted();
    for (let count = 0; count < 4; count++) await use();
    expect(await refusals()).toEqual([]);
    expect(await sessions()).toBeGreaterThan(0);
    expect(Number(await redis.command('DBSIZE'))).toBeGreaterThan(before);
    expect(await counted()).not.toBe(countedBefore);
    expect(await gateway.apisix.log()).not.toMatch(/Redis of \S+.* fails|planted/);
  });

  test('causes failed logins when Redis does not accept it', { timeout: 30_000 }, async () => {
    await redis.command('ACL', 'SETUSER', 'gateway', `<${SECOND}`, '>another-password');
    await redis.command('CLIENT', 'KILL', 'USER', 'gateway');
    await use();
    expect(await refusals()).not.toEqual([]);
  });
});
