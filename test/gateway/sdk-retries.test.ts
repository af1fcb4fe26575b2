/**
 * An official client with default retries succeeds through the gateway whenever it would succeed directly, and not much
 * later.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Behaviour, MockBackend } from '../../compiler/mock/server.ts';
import { startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, CLIENT_KEY, type Gateway, hostAddress, startGateway } from '../support/gateway.ts';

let gateway: Gateway;
let direct: MockBackend;

const STATUSES = [429, 500, 503];
const DELAYS: readonly (readonly [what: string, headers: () => Record<string, string>])[] = [
  ['no delay', () => ({})],
  ['a delay of 2 s', () => ({ 'Retry-After': '2' })],
  ['a date', () => ({ 'Retry-After': new Date(Date.now() + 2_500).toUTCString() })],
];
/** How much later the answer may come than directly: a second, and some time for a busy machine. */
const LATER_MS = 1_500;

/** Sends one request with retries while the backends fail for some time. Returns its duration, or null for an error. */
async function ask(
  client: OpenAI,
  mocks: readonly MockBackend[],
  behaviour: Behaviour,
  downMs: number,
  model: string,
): Promise<number | null> {
  for (const mock of mocks) mock.always(behaviour);
  const began = performance.now();
  const answered = client.chat.completions
    .create({ model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4 })
    .then(
      () => performance.now() - began,
      () => null,
    );
  await sleep(downMs);
  for (const mock of mocks) mock.reset();
  return answered;
}

describe.skipIf(cannotRunGatewayTests('retries of official clients'))('a client with default retries', () => {
  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}, {}] });
    direct = await startMockAzureOpenAI({
      host: await hostAddress(),
      keys: [backendKey(9)],
      name: 'direct',
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    await direct?.stop();
  });

  const situations = STATUSES.flatMap((status) =>
    DELAYS.flatMap(([what, headers]) =>
      [300, 1_000].map((downMs) => [status, what, downMs, headers] as const),
    ),
  );
  test.each(situations)('succeeds after %i with %s for %i ms', async (status, what, downMs, headers) => {
    const behaviour: Behaviour = {
      status,
      headers: headers(),
      body: { error: { code: String(status), message: 'Not now.' } },
    };
    const model = `${status}-${what}-${downMs}`.replace(/\W/g, '-');
    const [alone, through] = await Promise.all([
      ask(
        new OpenAI({ apiKey: backendKey(9), baseURL: `${direct.url}/openai/v1` }),
        [direct],
        behaviour,
        downMs,
        model,
      ),
      ask(
        new OpenAI({ apiKey: CLIENT_KEY, baseURL: `${gateway.url}/openai/v1` }),
        gateway.mocks,
        behaviour,
        downMs,
        model,
      ),
    ]);
    expect(alone).not.toBeNull();
    expect(through).not.toBeNull();
    expect(through ?? 0).toBeLessThanOrEqual((alone ?? 0) + LATER_MS);
  });

  test('succeeds after connections were refused for a second', async () => {
    const client = new OpenAI({ apiKey: CLIENT_KEY, baseURL: `${gateway.url}/openai/v1` });
    for (const mock of gateway.mocks) await mock.stop();
    const answered = client.chat.completions.create({
      model: 'refused',
      messages: [{ role: 'user', content: 'Hello' }],
    });
    await sleep(1_000);
    for (const mock of gateway.mocks) await mock.restart();
    await expect(answered).resolves.toMatchObject({ object: 'chat.completion' });
  });
});
