/** The simulators behind the gateway: their latencies, and a measurement of them. */
import { errnoText } from '../errno.ts';
import { Failure } from './gateway-client.ts';
import { BACKENDS, type BackendName } from './names.ts';
import { API_VERSION, type Latency, LIMITED_CHAT } from './scenarios.ts';

export interface Simulator {
  readonly name: BackendName;
  /** Without a slash at its end. */
  readonly url: string;
  readonly key: string;
}

const CONFIG_TIMEOUT_MS = 10_000;
/** A simulator that does not answer in this time counts as the slowest. */
const MEASURE_TIMEOUT_MS = 30_000;

/** Simulators from their addresses, in the order of `BACKENDS`. */
export const simulatorsAt = (urls: readonly string[], keys: readonly string[]): readonly Simulator[] =>
  BACKENDS.map((name, index) => ({ name, url: urls[index] ?? '', key: keys[index] ?? '' }));

/** @returns undefined if there is no answer in time */
async function request(
  { name, url, key }: Simulator,
  path: string,
  init: RequestInit & { readonly timeoutMs: number },
): Promise<Response | undefined> {
  try {
    return await fetch(`${url}${path}`, {
      ...init,
      headers: { 'api-key': key, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(init.timeoutMs),
    });
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError') return undefined;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new Failure(
      `The simulator of ${name} does not answer at ${url}: ${errnoText(cause)}. Start it, or name its address with --simulator.`,
    );
  }
}

/**
 * Changes its configuration. This also resets the rate-limit windows of the open simulator.
 * @throws Failure if the simulator does not accept it
 */
async function configure(simulator: Simulator, config: object): Promise<void> {
  const answer = await request(simulator, '/++/config', {
    method: 'PATCH',
    body: JSON.stringify(config),
    timeoutMs: CONFIG_TIMEOUT_MS,
  });
  await answer?.arrayBuffer();
  if (!answer)
    throw new Failure(
      `The simulator of ${simulator.name} does not answer at ${simulator.url} within ${CONFIG_TIMEOUT_MS / 1000} s.`,
    );
  if (!answer.ok)
    throw new Failure(
      `The simulator of ${simulator.name} answers a change of its configuration with ${answer.status}: check its key (AZURE_OPENAI_KEY_N of ${simulator.name}).`,
    );
}

/** Standard deviation of the latency of a chat's token, relative to its mean, as in the simulator's defaults. */
const CHAT_DEVIATION = 6;

/** @param second milliseconds of the run for one second of the scenario */
export async function setLatencies(
  simulators: readonly Simulator[],
  latencies: readonly Latency[],
  second: number,
): Promise<void> {
  await Promise.all(
    latencies.map(({ backend, operation, mean, scales }) => {
      const simulator = simulators.find(({ name }) => name === backend);
      const factor = scales ? second / 1000 : 1;
      const deviation = operation === 'open_ai_chat_completions' ? { std_dev: CHAT_DEVIATION * factor } : {};
      return (
        simulator && configure(simulator, { latency: { [operation]: { mean: mean * factor, ...deviation } } })
      );
    }),
  );
}

/** Resets the rate-limit windows of the open simulator. */
export const resetLimits = (simulators: readonly Simulator[]): Promise<unknown> =>
  Promise.all(simulators.map((simulator) => configure(simulator, {})));

/** The names of these backends, the fastest first, by a completion that goes directly to each simulator. */
export async function fastestFirst(
  simulators: readonly Simulator[],
  names: readonly BackendName[],
): Promise<readonly BackendName[]> {
  const measured: { name: BackendName; ms: number }[] = [];
  for (const simulator of simulators) {
    if (names.includes(simulator.name)) measured.push({ name: simulator.name, ms: await measure(simulator) });
  }
  return measured.sort((a, b) => a.ms - b.ms).map(({ name }) => name);
}

/** Lets each simulator answer once: the first answer of the open simulator takes seconds. */
export const warmUp = (simulators: readonly Simulator[]): Promise<unknown> =>
  Promise.all(simulators.map(measure));

async function measure(simulator: Simulator): Promise<number> {
  const begin = performance.now();
  const answer = await request(
    simulator,
    `/openai/deployments/${LIMITED_CHAT}/completions?api-version=${API_VERSION}`,
    {
      method: 'POST',
      body: JSON.stringify({ model: 'gpt-5-turbo-1', prompt: 'Once upon a time', max_tokens: 10 }),
      timeoutMs: MEASURE_TIMEOUT_MS,
    },
  );
  await answer?.arrayBuffer();
  return answer?.ok ? performance.now() - begin : Number.POSITIVE_INFINITY;
}
