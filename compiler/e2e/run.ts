/** Runs one scenario against a gateway, with our own load or with the toolkit's. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lane } from '../model/model.ts';
import { type Check, succeeded } from './checks.ts';
import { Failure, type GatewayAddress, post, setPreferred } from './gateway-client.ts';
import { runLoad, timesOf } from './load.ts';
import { type HelperCall, type Observation, observationOf, type Run } from './observation.ts';
import { replicasDuring } from './platform.ts';
import { startRecorder } from './recorder.ts';
import type { ScenarioResult } from './report.ts';
import type { Event, Scenario, Variant } from './scenarios.ts';
import { fastestFirst, resetLimits, type Simulator, setLatencies } from './simulators.ts';
import { tokensByClient } from './tokens-metric.ts';
import { locustArguments, runLocust, toolkitEnvironment } from './toolkit.ts';

export interface Target extends GatewayAddress {
  /** Names of the clients, as in metrics; undefined if they are not known. */
  readonly clientNames: readonly (string | undefined)[];
  /** The page of its metrics. */
  readonly metrics?: string | undefined;
  readonly simulators: readonly Simulator[];
  /** Resource id of its container app. */
  readonly containerApp?: string | undefined;
  /** Resets the limits of mocks; undefined: the simulators are not ours. */
  readonly resetMocks?: (() => void) | undefined;
}

export interface RunOptions {
  /** How many times faster than the scenario: 1 is its full length. */
  readonly timeScale: number;
  /** Seconds of the minute of the gateway's budgets: 60, unless it was started with a shorter one. */
  readonly budgetMinute: number;
  readonly variant: Variant;
  readonly toolkit?: { readonly folder: string; readonly locust: string; readonly logs: string } | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** Reports progress. */
  note(text: string): void;
}

const FULL_SECOND_MS = 1000;

/** @throws Failure if the gateway, a simulator or locust cannot be used */
export async function runScenario(
  scenario: Scenario,
  target: Target,
  options: RunOptions,
): Promise<ScenarioResult> {
  const begin = performance.now();
  const second = FULL_SECOND_MS / options.timeScale;
  await setLatencies(target.simulators, scenario.latencies, second);
  target.resetMocks?.();
  await resetLimits(target.simulators);
  await waitUntilUsable(scenario, target, options, second);
  const [startedAt, before] = [new Date(), await tokensBefore(scenario, target)];
  const load = options.toolkit
    ? await toolkitLoad(scenario, target, options)
    : await ownLoad(scenario, target, second, options.signal);
  const run: Run = {
    ...load,
    stages: timesOf(scenario.stages, second),
    second,
    minute: options.budgetMinute * FULL_SECOND_MS,
    counted: typeof before === 'string' ? before : await tokensSince(before, target),
    replicas: scenario.readsReplicas
      ? await replicasDuring(target.containerApp, startedAt, new Date(), options.environment)
      : 'the scenario needs none',
  };
  const checks: readonly Check[] = scenario.checks(run);
  return { scenario: scenario.name, checks, seconds: (performance.now() - begin) / FULL_SECOND_MS };
}

type LoadResult = Pick<Run, 'observations' | 'helpers'>;

async function ownLoad(
  scenario: Scenario,
  target: Target,
  second: number,
  signal: AbortSignal,
): Promise<LoadResult> {
  const observations: Observation[] = [];
  const helpers: HelperCall[] = [];
  let begin: number | undefined;
  let turn = 0;
  const happen = async ({ measure, latencies }: Event) => {
    if (measure) {
      const order = await fastestFirst(target.simulators, measure);
      const status = await setPreferred(target, order);
      helpers.push({ at: begin === undefined ? -1 : performance.now() - begin, status, order });
    }
    if (latencies) await setLatencies(target.simulators, latencies, second);
  };
  for (const event of scenario.events) if (event.at === 0) await happen(event);
  const start = performance.now();
  begin = start;
  const send = async (lane: Lane) => {
    const client = scenario.clients === 1 ? 0 : turn++ % scenario.clients;
    observations.push(await ask(scenario, target, { lane, client, begin: start }));
  };
  const events = scenario.events
    .filter(({ at }) => at > 0)
    .map(async (event) => {
      await sleep(event.at * second, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await happen(event);
    });
  await Promise.all([
    runLoad({ stages: scenario.stages, think: scenario.think, second, send, signal }),
    ...events,
  ]);
  return { observations: observations.toSorted((a, b) => a.at - b.at), helpers };
}

async function ask(
  scenario: Scenario,
  { url, keys }: GatewayAddress,
  how: { readonly lane: Lane; readonly client: number; readonly begin: number },
): Promise<Observation> {
  const { path, body } = scenario.ask(Math.random());
  const started = performance.now();
  const sent = { at: started - how.begin, path, body, lane: how.lane, client: how.client };
  const answer = await post(`${url}/${scenario.pool}${path}`, JSON.stringify(body), {
    'api-key': keys[how.client] ?? '',
    ...(how.lane === 'low' ? { 'x-priority': 'low' } : {}),
  });
  return observationOf(sent, answer, performance.now() - started);
}

async function toolkitLoad(scenario: Scenario, target: Target, options: RunOptions): Promise<LoadResult> {
  const { toolkit, environment, variant, signal } = options;
  if (!toolkit) throw new Error('there is no toolkit');
  const recorder = await startRecorder(target);
  const log = join(toolkit.logs, `${scenario.name}.log`);
  try {
    const { simulators, keys } = target;
    const values = { simulators, keys, gatewayUrl: recorder.url, environment };
    await runLocust({
      program: toolkit.locust,
      args: locustArguments(toolkit.folder, scenario, recorder.url),
      environment: toolkitEnvironment(values, scenario, variant),
      log,
      signal,
    });
    const { observations, helpers } = recorder;
    if (observations.length === 0 && !signal.aborted)
      throw new Failure(`The toolkit's ${scenario.toolkit.file} sent no request: see ${log}.`);
    options.note(`The output of locust is in ${log}.`);
    return { observations, helpers };
  } finally {
    await recorder.stop();
  }
}

/** Cooldowns last at most this long. */
const PATIENCE_SECONDS = 75;
const POLL_MS = 500;

/**
 * Waits until the gateway answers, until no cooldown of an earlier run keeps the first backend away, and until the budget
 * is unused.
 * @throws Failure if it does not answer, or not as these scenarios need
 */
async function waitUntilUsable(
  scenario: Scenario,
  target: Target,
  { budgetMinute, signal }: RunOptions,
  second: number,
): Promise<void> {
  const deadline = performance.now() + PATIENCE_SECONDS * FULL_SECOND_MS;
  for (;;) {
    const begin = performance.now();
    const seen = await ask(scenario, target, { lane: 'high', client: 0, begin });
    const problem = problemOf(seen, scenario, target);
    if (problem !== undefined) throw new Failure(problem);
    if (succeeded(seen) && (scenario.startsAt ?? seen.backend) === seen.backend) break;
    if (performance.now() > deadline || signal.aborted)
      throw new Failure(
        `${target.url}/${scenario.pool} is not usable after ${PATIENCE_SECONDS} s: status ${seen.status}, backend ${seen.backend ?? 'none'}${scenario.startsAt === undefined ? '' : `, not ${scenario.startsAt}`}.`,
      );
    await sleep(POLL_MS);
  }
  // What an earlier run and this request used leaves the budget within its minute.
  if (scenario.usesBudget)
    await sleep(budgetMinute * FULL_SECOND_MS + second, undefined, { signal }).catch(() => undefined);
}

function problemOf(seen: Observation, { pool, name }: Scenario, { url }: GatewayAddress): string | undefined {
  const { status, backend } = seen;
  if (status === 0)
    return `The gateway does not answer at ${url}: start it, or name its address with --gateway.`;
  if (status === 401)
    return `The gateway at ${url} does not know the client key: check GATEWAY_CLIENT_KEY_0.`;
  if (status === 404)
    return `The gateway at ${url} has no path /${pool} for the scenario ${name}: start it with GATEWAY_E2E_TEST_MODE=true.`;
  if (succeeded(seen) && backend === undefined)
    return `The gateway at ${url} does not name its backends: start it with GATEWAY_BACKEND_HEADER=true.`;
  return undefined;
}

async function tokensBefore(
  { readsMetrics }: Scenario,
  { metrics, clientNames }: Target,
): Promise<ReadonlyMap<string, number> | string> {
  if (!readsMetrics) return 'the scenario needs none';
  if (metrics === undefined) return 'no page of metrics (--metrics)';
  if (clientNames.some((name) => name === undefined)) return 'the names of the clients are not known';
  return readTokens(metrics, Date.now());
}

async function tokensSince(
  before: ReadonlyMap<string, number>,
  { metrics = '', clientNames }: Target,
): Promise<readonly number[] | string> {
  const after = await readTokens(metrics, Date.now());
  if (typeof after === 'string') return after;
  return clientNames.map((name = '') => (after.get(name) ?? 0) - (before.get(name) ?? 0));
}

const WRITTEN = /^apisix_genai_metrics_written_timestamp_seconds (\S+)$/m;
/** Workers add their counts once a second, and the page is written every 15 seconds. */
const SETTLE_MS = 2_500;
const METRICS_PATIENCE_MS = 45_000;

/** The tokens on a page that was written after a time. */
async function readTokens(url: string, since: number): Promise<ReadonlyMap<string, number> | string> {
  const deadline = Date.now() + METRICS_PATIENCE_MS;
  let reason = `the page at ${url} is not up to date`;
  while (Date.now() < deadline) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(METRICS_PATIENCE_MS) });
      const text = await answer.text();
      const [, written = '0'] = WRITTEN.exec(text) ?? [];
      if (Number(written) * FULL_SECOND_MS > since + SETTLE_MS) return tokensByClient(text);
    } catch {
      reason = `there are no metrics at ${url}`;
    }
    await sleep(POLL_MS);
  }
  return reason;
}
