/** Answers that all clients share: each client still needs its permission, and budgets are charged if the settings say so. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { ask, CACHE, CHAT, callsOf, question } from '../support/cache.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { clientSettings, costing, keyOf } from '../support/limits.ts';
import { backendOf, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('shared answers through the stock APISIX image');

const by = (client: string) => ({ 'api-key': keyOf(client) });

describe.skipIf(skipped)('answers that all clients share', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        ...CACHE,
        CACHE_SCOPE: 'gateway',
        CACHE_OPERATIONS: 'chat_completions',
        CACHE_COUNTS_TOKENS: 'true',
        ...clientSettings({
          app: {},
          other: {},
          limited: { MODELS: 'gpt-4o-mini' },
          counted: { REQUESTS_PER_MINUTE: '2' },
          budgeted: { TOKENS_PER_DAY: '20' },
        }),
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test('are found by each of them', async () => {
    const body = question();
    const first = await ask(gateway, body, by('app'));
    const second = await ask(gateway, body, by('other'));
    expect([first.result, second.result]).toEqual(['miss', 'hit']);
    expect(second.text).toBe(first.text);
    expect(callsOf(gateway)).toBe(1);
  });

  test('are not for a client that may not call the model', async () => {
    const body = question();
    await ask(gateway, body, by('app'));
    const refused = await ask(gateway, body, by('limited'));
    expect([refused.status, refused.result]).toEqual([403, null]);
  });

  test('are not for someone without a key', async () => {
    const body = question();
    await ask(gateway, body, by('app'));
    expect((await ask(gateway, body, { 'api-key': '' })).status).toBe(401);
  });

  test('count as requests', async () => {
    const body = question();
    await ask(gateway, body, by('app'));
    const statuses: number[] = [];
    for (let count = 0; count < 3; count++) statuses.push((await ask(gateway, body, by('counted'))).status);
    expect(statuses).toEqual([200, 200, 429]);
  });

  test('are charged with CACHE_COUNTS_TOKENS', async () => {
    backendOf(gateway, 0).always(costing(3, 7));
    const body = question();
    await ask(gateway, body, by('app'));
    const seen: (readonly [number, string | null])[] = [];
    for (let count = 0; count < 3; count++) {
      const { status, result } = await ask(gateway, body, by('budgeted'));
      seen.push([status, result]);
    }
    expect(seen).toEqual([
      [200, 'hit'],
      [200, 'hit'],
      [503, null],
    ]);
  });

  test('are those of the listed operations only', async () => {
    const body = { model: 'text-embedding-3-small', input: 'Hello' };
    for (let count = 0; count < 2; count++)
      expect((await ask(gateway, body, by('app'), '/openai/v1/embeddings')).result).toBe('bypass');
    expect((await ask(gateway, question(), by('app'), CHAT)).result).toBe('miss');
  });
});
