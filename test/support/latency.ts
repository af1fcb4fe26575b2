/** Gateways with LB_ALG=latency, and the requests that their backends receive. */
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll } from 'vitest';
import type { MockBackend } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS } from './apisix.ts';
import { CLIENT_KEY, type Gateway, type GatewayOptions, startGateway } from './gateway.ts';
import { backendOf, chatBody, resetMocks } from './traffic.ts';

/** The gateway of the current test group. */
export let gateway: Gateway;

/** Starts a gateway with LB_ALG=latency for a test group, and resets the mocks after each test. */
export function balanced({ settings, ...options }: GatewayOptions = {}): void {
  beforeAll(async () => {
    gateway = await startGateway({ ...options, settings: { LB_ALG: 'latency', ...settings } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(reset);
}

export const reset = (): void => resetMocks(gateway);
export const backend = (index: number): MockBackend => backendOf(gateway, index);
export const V1 = '/openai/v1/chat/completions';

/** Sets the time that each backend takes to answer. */
export function take(...milliseconds: number[]): void {
  for (const [index, perRequestMs] of milliseconds.entries())
    backend(index).configure({ latency: { perRequestMs } });
}

/** The status of a request on a new connection, which any worker may accept. */
export const status = (path: string, body: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const headers = {
      'api-key': CLIENT_KEY,
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
    };
    request(`${gateway.url}${path}`, { agent: false, method: 'POST', headers }, (answer) => {
      answer.resume().once('end', () => resolve(answer.statusCode ?? 0));
    })
      .once('error', reject)
      .end(body);
  });

/** Sends requests at regular intervals, and returns all statuses. */
export async function steadily(
  rate: number,
  seconds: number,
  { model = 'gpt-4o', path = V1 }: { readonly model?: string; readonly path?: string } = {},
): Promise<number[]> {
  const began = performance.now();
  const sent: Promise<number>[] = [];
  for (let count = 0; count < rate * seconds; count++) {
    await sleep(began + (count * 1_000) / rate - performance.now());
    sent.push(status(path, chatBody(model)));
  }
  return Promise.all(sent);
}

/** A backend's share of the requests between two times, in milliseconds of `performance.now()`. */
export function share(index: number, from = 0, to = Number.POSITIVE_INFINITY): number {
  const counts = gateway.mocks.map(
    ({ requests }) => requests.filter(({ startedAt }) => startedAt >= from && startedAt < to).length,
  );
  return (counts[index] ?? 0) / counts.reduce((sum, each) => sum + each, 0);
}
