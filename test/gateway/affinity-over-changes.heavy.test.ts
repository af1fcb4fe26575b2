/** Thousands of conversations continue after a restart: no owner is dropped for lack of space, and all are found in time. */
import { describe, test } from 'vitest';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import { cannotRunRedisTests } from '../support/redis.ts';
import { goOnByAsking, goOnByRedis } from '../support/restart.ts';

const MANY = 10_000;

describe.skipIf(cannotRunGatewayTests('many conversations over a restart'))('affinity over a restart', () => {
  test(
    `${MANY} conversations continue at their owners, which are found by querying the backends`,
    () => goOnByAsking(MANY),
    240_000,
  );

  test.skipIf(cannotRunRedisTests('many conversations in Redis'))(
    `${MANY} conversations continue at their owners, which Redis knows, without querying backends`,
    () => goOnByRedis(MANY),
    240_000,
  );
});
