/** Encrypted reasoning and items without a known owner, as after a restart or at a replica without Redis. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { endpointsOf, type OwningBackend, startOwningBackends } from '../support/owning-backends.ts';
import { NO_COOLDOWN } from '../support/traffic.ts';

type Json = Record<string, unknown>;

const RESPONSES = '/openai/v1/responses';
const BACKENDS = 3;

describe.skipIf(cannotRunGatewayTests('owners that nobody remembers'))('input without a known owner', () => {
  let backends: OwningBackend[];
  let gateway: Gateway;
  /** Another replica, which knows no owner. */
  let replica: Gateway;

  beforeAll(async () => {
    backends = await startOwningBackends(BACKENDS);
    const options = {
      backends: Array.from({ length: BACKENDS }, () => ({})),
      settings: { ...NO_COOLDOWN, ...endpointsOf(backends), GATEWAY_BACKEND_HEADER: 'true' },
    };
    [gateway, replica] = await Promise.all([startGateway(options), startGateway(options)]);
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await Promise.all([gateway?.stop(), replica?.stop()]);
    await Promise.all(backends.map((each) => each.stop()));
  });
  afterEach(() => {
    for (const each of backends) {
      each.throttledFor = undefined;
      each.refusal = {
        code: 'invalid_encrypted_content',
        message: 'The encrypted content could not be verified.',
      };
      each.asked.length = 0;
    }
  });

  const send = (to: Gateway, body: Json) =>
    to.fetch(RESPONSES, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'm', ...body }),
    });
  const forget = () => {
    for (const each of backends) each.asked.length = 0;
  };
  const askedInAll = () => backends.reduce((sum, { asked }) => sum + asked.length, 0);

  /** Makes two turns at one backend, and returns the reasoning to send back and the backend. */
  async function twoTurns(more: Json = {}) {
    const first = (await (await send(gateway, { input: 'x', ...more })).json()) as { output: Json[] };
    const owner = backends.find(({ asked }) => asked.length > 0);
    if (!owner) throw new Error('no backend was asked');
    const second = (await (await send(gateway, { input: [first.output[0]], ...more })).json()) as {
      output: Json[];
    };
    forget();
    return { owner, items: [first.output[0], second.output[0]] };
  }

  const REFUSALS: readonly Json[] = [
    { code: 'invalid_encrypted_content', message: 'The encrypted content gAAA could not be verified.' },
    { code: null, message: 'The encrypted content gAAA... could not be verified.' },
    { code: null, message: 'The encrypted content gAAA... could not be decrypted.' },
    { code: null, message: 'Encrypted content was encrypted by another resource.' },
    { code: 'invalid_encrypted_content', message: 'Encrypted content organization_id did not match.' },
  ];

  test.each(REFUSALS)(
    'is found by trying each backend, and its owner is remembered for all items: $code, $message',
    async (refusal) => {
      for (let round = 0; round < 5; round++) {
        for (const each of backends) each.refusal = refusal;
        const { items } = await twoTurns({ store: false });
        const found = await send(replica, { store: false, input: items });
        expect(found.status, await found.text()).toBe(200);
        expect(askedInAll()).toBeLessThanOrEqual(BACKENDS);
        for (const item of items) {
          forget();
          expect((await send(replica, { store: false, input: [item] })).status).toBe(200);
          expect(askedInAll()).toBe(1);
        }
        forget();
      }
    },
  );

  test('gets 429 with the delay of a backend that may own it', async () => {
    for (let round = 0; round < 6; round++) {
      const { owner, items } = await twoTurns({ store: false });
      owner.throttledFor = 5;
      const answer = await send(replica, { store: false, input: items });
      expect(answer.status).toBe(429);
      expect(answer.headers.get('retry-after')).toBe('5');
      owner.throttledFor = undefined;
      expect((await send(replica, { store: false, input: items })).status).toBe(200);
      forget();
    }
  });

  test("gets the first backend's refusal after each was called once when none owns it", async () => {
    const input = [{ type: 'reasoning', summary: [], encrypted_content: `gAAAAA${'z'.repeat(80)}` }];
    const answer = await send(replica, { input });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: 'invalid_encrypted_content' } });
    expect(answer.headers.get('retry-after')).toBeNull();
    expect(answer.headers.get('x-gateway-attempts')).toBe(String(BACKENDS));
    expect(backends.map(({ asked }) => asked.length)).toEqual([1, 1, 1]);
  });

  test('gets the answer after one call when the model cannot read it at all', async () => {
    for (let round = 0; round < 6; round++) {
      const { items } = await twoTurns({ store: false });
      for (const each of backends) {
        each.refusal = {
          code: null,
          param: 'include',
          message: 'Encrypted content is not supported with this model.',
        };
      }
      expect([200, 400]).toContain((await send(replica, { store: false, input: items })).status);
      expect(askedInAll()).toBe(1);
      forget();
    }
  });

  test('can be an item that a backend has stored', async () => {
    for (let round = 0; round < 6; round++) {
      const made = (await (await send(gateway, { input: 'x' })).json()) as { output: Json[] };
      forget();
      const input = [{ type: 'item_reference', id: made.output[1]?.id }];
      expect((await send(replica, { input })).status).toBe(200);
      forget();
      expect((await send(replica, { input })).status).toBe(200);
      expect(askedInAll()).toBe(1);
      forget();
    }
  });
});
