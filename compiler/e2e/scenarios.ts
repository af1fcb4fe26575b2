/** The scenarios as data: load, latencies of the simulators, and the assertions about the result. */
import type { Lane } from '../model/model.ts';
import {
  allFromTheFaster,
  alone,
  type Budget,
  breakerHolds,
  type Check,
  followsTheOrder,
  helperAccepted,
  highGoesFirst,
  lanesAreNamed,
  lowLeavesTheReserve,
  metricsAgree,
  mostlyFrom,
  neverFrom,
  noneFailed,
  onlyHonestRejections,
  overflowServedBy,
  replicasWereAdded,
  requestsWereSent,
  sharesByBackend,
  slowerThan,
  usageOfEachClient,
  withinBudget,
} from './checks.ts';
import {
  type BackendName,
  BREAKER_SECONDS,
  BUDGET,
  DEPLOYMENTS,
  POOL_SCENARIOS,
  type ScenarioName,
} from './names.ts';
import type { Observation, Run, StageLane } from './observation.ts';

/** All times of a scenario are in its own seconds, which a run may shorten. */
export interface Stage {
  readonly seconds: number;
  readonly users: number;
  /** Users that start in a second. */
  readonly spawnRate: number;
  readonly lane: StageLane;
}

export interface Ask {
  /** Below the path of the pool. */
  readonly path: string;
  readonly body: object;
}

/** The name of a latency in the simulator's configuration. */
export type LatencyName = 'open_ai_completions' | 'open_ai_chat_completions';

export interface Latency {
  readonly backend: BackendName;
  readonly operation: LatencyName;
  /** Milliseconds: of a completion, or of a token of a chat. */
  readonly mean: number;
  /** Whether it becomes shorter when the run is shortened. */
  readonly scales: boolean;
}

/** What happens at a time of the run, in addition to the load. */
export interface Event {
  /** In seconds; 0 is before the load. */
  readonly at: number;
  /** Measure these backends, and set the preferred order by that. */
  readonly measure?: readonly BackendName[];
  /** After the measurement. */
  readonly latencies?: readonly Latency[];
}

export interface Toolkit {
  readonly file: string;
  /** Undefined: the file has a load shape. */
  readonly users?: number;
  readonly spawnRate?: number;
}

export interface Scenario {
  readonly name: ScenarioName;
  /** The name of its pool. */
  readonly pool: string;
  readonly stages: readonly Stage[];
  /** How long a user waits after an answer, in seconds. */
  readonly think: number;
  /** How many client keys it needs. */
  readonly clients: number;
  readonly latencies: readonly Latency[];
  readonly events: readonly Event[];
  readonly toolkit: Toolkit;
  /** The backend that has to answer before the run begins, so that no cooldown of an earlier run is left. */
  readonly startsAt?: BackendName;
  /** Whether it fills a budget of tokens, which has to be unused at its start. */
  readonly usesBudget: boolean;
  /** Whether its checks need the tokens that the gateway's metrics counted. */
  readonly readsMetrics: boolean;
  /** Whether it needs a platform that reports replicas. */
  readonly readsReplicas: boolean;
  /** @param random from 0 to 1 */
  ask(random: number): Ask;
  checks(run: Run): readonly Check[];
}

export const API_VERSION = '2023-05-15';
const [PTU, PAYG1, PAYG2] = ['ptu-backend-1', 'payg-backend-1', 'payg-backend-2'] as const;
const UNLIMITED = 'gpt-35-turbo-100m-token';
export const LIMITED_CHAT = 'gpt-35-turbo-100k-token';
export const LIMITED_EMBEDDING = 'embedding100k';
/** Shares of 340 answers and more: 5 points are about two standard deviations of a random choice. */
const SHARE_TOLERANCE = 0.05;

const path = (deployment: string, operation: string) =>
  `/openai/deployments/${deployment}/${operation}?api-version=${API_VERSION}`;

const completion =
  (maxTokens: (random: number) => number) =>
  (random: number): Ask => ({
    path: path(UNLIMITED, 'completions'),
    // Clients of the toolkit name a model that is not the deployment.
    body: { model: 'gpt-5-turbo-1', prompt: 'Once upon a time', max_tokens: maxTokens(random) },
  });

const fast = (...backends: readonly BackendName[]): readonly Latency[] =>
  backends.map((backend) => ({ backend, operation: 'open_ai_completions', mean: 10, scales: false }));
const slow = (...backends: readonly BackendName[]): readonly Latency[] =>
  fast(...backends).map((each) => ({ ...each, mean: 100 }));

/** The milliseconds of a request in a system with little load. */
const ANSWER_MS = 50;

/**
 * The part of the requests that its users could send which a load must at least bring. In a shorter run answers of a busy
 * machine take a larger part of the time.
 */
const LEAST = { full: 0.4, short: 0.15 } as const;

function least(run: Run, stages: readonly Stage[], think = THINK_SECONDS): Check {
  const each = think * run.second + ANSWER_MS;
  const possible = stages.reduce((sum, { seconds, users }) => sum + (seconds * run.second * users) / each, 0);
  return requestsWereSent(run, Math.floor((run.second < 1000 ? LEAST.short : LEAST.full) * possible));
}

const THINK_SECONDS = 1;

const common = {
  think: THINK_SECONDS,
  clients: 1,
  latencies: [],
  events: [],
  usesBudget: false,
  readsMetrics: false,
  readsReplicas: false,
} as const;

const constantLoad = (users: number, seconds: number, spawnRate = 1): readonly Stage[] => [
  { seconds, users, spawnRate, lane: 'high' },
];

function roundRobin(name: ScenarioName, users: number, weights: Readonly<Record<string, number>>): Scenario {
  const stages = constantLoad(users, 180);
  return {
    ...common,
    name,
    pool: name,
    stages,
    latencies: fast(PAYG1, PAYG2),
    toolkit: { file: 'scenario_round_robin.py', users },
    ask: completion(() => 10),
    checks: (run) => [
      least(run, stages),
      noneFailed(run),
      sharesByBackend(run, weights, SHARE_TOLERANCE),
      neverFrom(run, PTU),
    ],
  };
}

function latencyRouting(): Scenario {
  const stages = constantLoad(1, 300);
  const measure = [PAYG1, PAYG2] as const;
  /** Seconds after an event that belong to neither side: the measurement itself, and requests in flight. */
  const margin = 4;
  return {
    ...common,
    name: 'latency-routing',
    pool: 'latency-routing',
    stages,
    latencies: [...fast(PAYG1), ...slow(PAYG2)],
    events: [
      { at: 0, measure },
      { at: 60, measure },
      { at: 120, measure, latencies: [...slow(PAYG1), ...fast(PAYG2)] },
      { at: 180, measure },
      { at: 240, measure },
    ],
    // One user sends the load, the other one measures.
    toolkit: { file: 'scenario_latency_routing.py', users: 2 },
    ask: completion(() => 100),
    checks: (run) => {
      const part = (from: number, to: number): readonly Observation[] =>
        run.observations.filter(({ at }) => at >= from * run.second && at < to * run.second);
      const of = (backend: string, from: number, to: number) =>
        part(from, to).filter((each) => each.backend === backend);
      const before = of(PAYG1, 0, 120);
      const outdated = of(PAYG1, 120 + margin, 180);
      const after = of(PAYG2, 180 + margin, 300);
      const all = (what: string, from: number, to: number, backend: string) =>
        allFromTheFaster(what, run, [from * run.second, to * run.second], backend);
      return [
        least(run, stages),
        noneFailed(run),
        helperAccepted(run, 5),
        followsTheOrder(run, margin * run.second),
        all('before the change', 0, 120, PAYG1),
        all('after the change, before the next measurement', 120 + margin, 180, PAYG1),
        all('after the next measurement', 180 + margin, 300, PAYG2),
        slowerThan('latency with the outdated order', outdated, before, 'before the change'),
        slowerThan('latency with the outdated order', outdated, after, 'after the next measurement'),
        neverFrom(run, PTU),
      ];
    },
  };
}

/** Six users of the toolkit hardly exceed the limit of one backend; these do. */
const SPIKE: readonly Stage[] = [{ seconds: 180, users: 10, spawnRate: 1, lane: 'high' }];
/** What overflows must fit into the second backend alone, because the breaker closes the first one. */
const SPIKE_FOR_BREAKER: readonly Stage[] = [
  { seconds: 60, users: 8, spawnRate: 1, lane: 'high' },
  { seconds: 120, users: 5, spawnRate: 1, lane: 'high' },
];

function retryWithPayg(
  name: ScenarioName,
  spike: readonly Stage[],
  further: (run: Run) => readonly Check[],
): Scenario {
  const stages: readonly Stage[] = [{ seconds: 180, users: 2, spawnRate: 0.1, lane: 'high' }, ...spike];
  const latencies = [PTU, PAYG1].map(
    (backend): Latency => ({ backend, operation: 'open_ai_chat_completions', mean: 1, scales: true }),
  );
  return {
    ...common,
    name,
    pool: name,
    stages,
    latencies,
    startsAt: PTU,
    toolkit: { file: 'scenario_manage_spikes_with_payg.py' },
    ask: () => ({
      path: path(LIMITED_CHAT, 'chat/completions'),
      body: { messages: CONVERSATION, model: 'gpt-5-turbo-1', max_tokens: 1000 },
    }),
    checks: (run) => {
      const begin = run.stages[1]?.from ?? 0;
      const quiet = run.observations.filter(({ at }) => at < begin);
      return [
        // A chat of 1000 tokens takes about three seconds.
        requestsWereSent(run, 150),
        noneFailed(run),
        mostlyFrom('before the spike', quiet, PTU, 0.95),
        overflowServedBy(run, run.observations, PAYG1, DEPLOYMENTS[LIMITED_CHAT]),
        neverFrom(run, PAYG2),
        ...further(run),
      ];
    },
  };
}

const CONVERSATION = Array.from({ length: 17 }, (_, turn) => ({
  role: turn % 2 === 0 ? 'user' : 'assistant',
  content:
    turn % 2 === 0 ? 'Once upon a time?' : 'There was a gateway, and it had three backends. '.repeat(9),
}));

const CLIENTS = 3;

function usageTracking(): Scenario {
  const stages = constantLoad(3, 180);
  return {
    ...common,
    name: 'usage-tracking',
    pool: 'usage-tracking',
    stages,
    clients: CLIENTS,
    latencies: fast(PAYG1),
    toolkit: { file: 'scenario_usage_tracking.py', users: 3 },
    readsMetrics: true,
    ask: completion((random) => 5 + Math.floor(random * 16)),
    checks: (run) => [
      least(run, stages),
      noneFailed(run),
      mostlyFrom('answers', run.observations, PAYG1, 1),
      usageOfEachClient(run, CLIENTS),
      metricsAgree(run, CLIENTS),
    ],
  };
}

export const LOAD_PATTERNS = ['cycle', 'low-priority', 'high-priority'] as const;
export const REQUEST_TYPES = ['embeddings', 'chat'] as const;

/** Variants of the prioritization scenarios, with the names that the toolkit has for them. */
export interface Variant {
  readonly loadPattern: (typeof LOAD_PATTERNS)[number];
  readonly requestType: (typeof REQUEST_TYPES)[number];
  /** Only for chats; undefined: the requests do not limit their answers. */
  readonly maxTokens?: number;
  readonly rampRate: number;
  /**
   * Requests of this many times the tokens, as many times less often. A shorter run then has no more requests a second
   * than a machine can send. Only for embeddings.
   */
  readonly coarseness: number;
}

export const DEFAULT_VARIANT: Variant = {
  loadPattern: 'cycle',
  requestType: 'embeddings',
  rampRate: 1,
  coarseness: 1,
};

/** For runs that are shorter than their full length. */
export const SHORT_VARIANT: Variant = { ...DEFAULT_VARIANT, coarseness: 5 };

function stagesOf({ loadPattern, rampRate }: Variant): readonly Stage[] {
  const stage = (lane: StageLane, seconds = 120): Stage => ({
    lane,
    seconds,
    users: lane === 'mixed' ? 18 : 9,
    spawnRate: rampRate,
  });
  if (loadPattern === 'cycle')
    return [stage('low'), stage('mixed'), stage('high'), stage('mixed'), stage('low')];
  const lane: Lane = loadPattern === 'low-priority' ? 'low' : 'high';
  return [stage(lane, 300)];
}

/** The part of their wait that users keep in a shorter run. */
const HURRY = 0.7;

/** 974 characters, like the input of the toolkit. */
const EMBEDDING_INPUT = 'Lorem ipsum dolor sit amet, consectetur adipiscing elit. '.repeat(18).slice(0, 974);

function askOf({ requestType, maxTokens, coarseness }: Variant): Ask {
  return requestType === 'embeddings'
    ? {
        path: path(LIMITED_EMBEDDING, 'embeddings'),
        body: { input: EMBEDDING_INPUT.repeat(coarseness), model: 'embedding' },
      }
    : {
        path: path(LIMITED_CHAT, 'chat/completions'),
        body: {
          messages: [{ role: 'user', content: 'Lorem ipsum dolor sit amet?' }],
          model: 'gpt-35-turbo',
          ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
        },
      };
}

/** In seconds that are milliseconds, a busy machine moves a few requests from one minute to the next. */
const SHORT_TOLERANCE = 0.05;
const HIGH_KEEPS = 0.9;
const HIGH_KEEPS_IN_SHORT = 0.75;

/** Times of this machine and of the gateway differ by less. */
const CLOCK_MS = 300;

/** Whether the requests of a variant can use up the budget: chats of 16 tokens cannot. */
const exhausts = ({ requestType, maxTokens = 0 }: Variant) =>
  requestType === 'embeddings' || maxTokens >= 250;

function prioritization(
  name: ScenarioName,
  source: Pick<Budget, 'tolerance' | 'counts' | 'probes'> & { readonly staleSeconds: number },
  variant: Variant,
): Scenario {
  const stages = stagesOf(variant);
  const isShort = variant.coarseness > 1;
  // In a shorter run answers take a larger part of the time, so that users with the same wait would ask for less.
  const think = THINK_SECONDS * (isShort ? variant.coarseness * HURRY : 1);
  return {
    ...common,
    name,
    pool: name,
    stages,
    think,
    latencies: [{ backend: PTU, operation: 'open_ai_chat_completions', mean: 1, scales: true }],
    startsAt: PTU,
    usesBudget: true,
    toolkit: { file: 'scenario_prioritization.py' },
    ask: () => askOf(variant),
    checks: (run) => {
      const budget: Budget = {
        limit: BUDGET.tokensPerMinute,
        reserve: BUDGET.highReserve,
        tolerance: source.tolerance + (isShort ? SHORT_TOLERANCE : 0),
        probes: source.probes,
        highKeeps: isShort ? HIGH_KEEPS_IN_SHORT : HIGH_KEEPS,
        counts: source.counts,
        staleMs: source.staleSeconds * run.second + CLOCK_MS,
      };
      return [
        least(run, stages, think),
        onlyHonestRejections(run, budget),
        lanesAreNamed(run, budget),
        ...(exhausts(variant)
          ? [
              withinBudget(run, budget),
              ...alone(run, 'low', budget),
              ...alone(run, 'high', budget),
              ...(stages.some(({ lane }) => lane !== 'high') ? [lowLeavesTheReserve(run, budget)] : []),
              ...highGoesFirst(run, budget),
            ]
          : []),
        mostlyFrom('answers', run.observations, PTU, 1),
      ];
    },
  };
}

function scalability(
  name: ScenarioName,
  users: number,
  spawnRate: number,
  minutes: number,
  more: number,
): Scenario {
  const stages = constantLoad(users, minutes * 60, spawnRate);
  return {
    ...roundRobin('round-robin-simple', users, { [PAYG1]: 1, [PAYG2]: 1 }),
    name,
    pool: 'round-robin-simple',
    stages,
    toolkit: { file: 'scenario_round_robin.py', users, spawnRate },
    readsReplicas: true,
    checks: (run) => [
      least(run, stages),
      noneFailed(run),
      sharesByBackend(run, { [PAYG1]: 1, [PAYG2]: 1 }, SHARE_TOLERANCE),
      replicasWereAdded(run, more),
    ],
  };
}

/** All scenarios, in the order in which they run. */
export function scenariosFor(variant: Variant = DEFAULT_VARIANT): readonly Scenario[] {
  const simple = { [PAYG1]: 1, [PAYG2]: 1 };
  const weighted = { [PAYG1]: 2, [PAYG2]: 1 };
  // Buckets of one second: a token counts for a second more than a minute at most.
  const counted = { counts: 'usage', tolerance: 0.05, probes: 0, staleSeconds: 1 } as const;
  // Without an answer for five seconds, one request may find out whether the backend has more.
  const reported = { counts: 'cost', tolerance: 0.1, probes: 0.05, staleSeconds: 6 } as const;
  return [
    roundRobin('round-robin-simple', 2, simple),
    roundRobin('round-robin-simple-v2', 2, simple),
    roundRobin('round-robin-weighted', 3, weighted),
    roundRobin('round-robin-weighted-v2', 3, weighted),
    latencyRouting(),
    retryWithPayg('retry-with-payg', SPIKE, () => []),
    retryWithPayg('retry-with-payg-v2', SPIKE_FOR_BREAKER, (run) => [
      breakerHolds(run, {
        first: PTU,
        second: PAYG1,
        openMs: BREAKER_SECONDS * 1000,
        limit: DEPLOYMENTS[LIMITED_CHAT],
      }),
    ]),
    usageTracking(),
    prioritization('prioritization-token-calculating', counted, variant),
    prioritization('prioritization-token-tracking', reported, variant),
    prioritization('prioritization-simple', reported, variant),
    scalability('scalability', 180, 20, 15, 1),
    scalability('scalability-burst', 260, 40, 20, 2),
  ];
}

/** The scenarios that run if none is named. */
export const isDefault = ({ name }: Scenario): boolean =>
  (POOL_SCENARIOS as readonly string[]).includes(name);
