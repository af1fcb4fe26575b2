/** Gateways with APISIX_ACTIVE_HEALTH_CHECKS, the probes of their backends, and the log lines about them. */
import { afterAll, beforeAll } from 'vitest';
import type { MockBackend, RecordedRequest } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS } from './apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from './gateway.ts';
import { backendOf } from './traffic.ts';

export const PATH = '/openai/v1/models';
export const INTERVAL_MS = 1_000;
/** A due probe waits for the next tick of its timer, and a second failed probe, a second later, makes a backend unhealthy. */
const NOTICED_MS = INTERVAL_MS + 1_000 + 1_000 + 2 * 500;
const EVERY_SECOND = {
  APISIX_ACTIVE_HEALTH_CHECKS: 'true',
  APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL: '1s',
  APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL: '1s',
};

/** The gateway of the current test group. */
export let gateway: Gateway;

export const start =
  ({ settings, ...options }: GatewayOptions = {}) =>
  async (): Promise<void> => {
    gateway = await startGateway({
      ...options,
      settings: { GATEWAY_BACKEND_HEADER: 'true', ...EVERY_SECOND, ...settings },
    });
  };
export const stop = async (): Promise<void> => gateway?.stop();

/** Starts a gateway for a test group that probes its backends every second. */
export function probed(options?: GatewayOptions): void {
  beforeAll(start(options), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
}

export const backend = (index: number): MockBackend => backendOf(gateway, index);

export const isProbe = (request: RecordedRequest): boolean =>
  request.header('user-agent') === 'genai-gateway-health-check';
export const probes = ({ requests }: MockBackend): RecordedRequest[] => requests.filter(isProbe);
/** The number of client requests that each backend received. */
export const calls = (): number[] =>
  gateway.mocks.map(({ requests }) => requests.filter((each) => !isProbe(each)).length);

/** The log lines about a backend's health, in order. */
export async function changes(name: string): Promise<string[]> {
  const lines = (await gateway.apisix.log()).split('\n');
  return lines.flatMap((line) => {
    const [, change] =
      new RegExp(`\\[warn\\].*: backend ${name} is ([^,]*healthy.*?), (?:context|client)`).exec(line) ?? [];
    return change === undefined ? [] : [change];
  });
}

/** Waits until there are this many log lines about a backend's health. */
export async function untilChanged(
  name: string,
  count: number,
  timeoutMs = NOTICED_MS + 5_000,
): Promise<string[]> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await changes(name);
    if (found.length >= count) return found;
    if (performance.now() > deadline) {
      throw new Error(`the log says of ${name} only ${JSON.stringify(found)}`);
    }
  }
}

/** Sends requests and returns the status, backend and number of attempts of each. */
export async function served(count = 6): Promise<string[]> {
  const found = [];
  for (let sent = 0; sent < count; sent++) {
    const answer = await gateway.chat('gpt-4o', {}, { connection: 'close' });
    found.push(
      `${answer.status} ${answer.headers.get('x-gateway-backend')} ${answer.headers.get('x-gateway-attempts')}`,
    );
  }
  return found;
}
