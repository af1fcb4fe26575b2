/** The mocks that replace the simulators: the same deployments, limits and latencies. */
import type { MockConfig } from '../mock/config.ts';
import type { MockBackend } from '../mock/server.ts';
import { keyOf } from '../mock/start.ts';
import { BACKENDS, DEPLOYMENTS } from './names.ts';

const MINUTE_SECONDS = 60;
const REQUEST_WINDOW_SECONDS = 10;
/** Text of the simulator reaches `max_tokens`. */
const ANSWER_TOKENS = 1000;

/**
 * The configuration of a mock that limits like a simulator.
 * @param second milliseconds of the run for one second of the scenario, by which the limits' windows become shorter
 */
export const simulatorConfig = (second: number): MockConfig => ({
  profile: 'simulator',
  answerTokens: ANSWER_TOKENS,
  recordRequests: false,
  recordBodies: false,
  limits: Object.fromEntries(
    Object.entries(DEPLOYMENTS).map(([name, tpm]) => [
      name,
      { tpm, windowMs: MINUTE_SECONDS * second, rpWindowMs: REQUEST_WINDOW_SECONDS * second },
    ]),
  ),
});

/** The mocks to start, the first of them on `port`; 0: on any free ports. */
export const mocksToStart = (port: number) =>
  BACKENDS.map((name, index) => ({ name, key: keyOf(index), port: port === 0 ? 0 : port + index }));

/** Starts the mocks of the backends. Rejects if a port is in use. */
export async function startMocksOf(second: number, host: string): Promise<readonly MockBackend[]> {
  const { startMockAzureOpenAI } = await import('../mock/server.ts');
  return Promise.all(
    mocksToStart(0).map(({ name, key }) =>
      startMockAzureOpenAI({
        name,
        host,
        keys: [key],
        deployments: Object.keys(DEPLOYMENTS),
        config: simulatorConfig(second),
      }),
    ),
  );
}
