/** The pools of the test mode: those of the APIM GenAI gateway toolkit, as settings of pools. Pure. */
import type { PoolValues } from './declarations/index.ts';
import type { Settings } from './parse.ts';

/** The backends that the pools need. */
export const TEST_BACKENDS = ['ptu-backend-1', 'payg-backend-1', 'payg-backend-2'] as const;

/** The budget of the prioritization pools, in tokens per minute for each deployment. */
export const TEST_BUDGET = { tokensPerMinute: 100_000, highReserve: 30_000 } as const;

/** How long the circuit breaker of `retry-with-payg-v2` stays open, in milliseconds. */
export const TEST_BREAKER_MS = 60_000;

type Fields = Partial<Omit<PoolValues, 'index' | 'NAME'>>;

const [PTU, PAYG1, PAYG2] = TEST_BACKENDS;
const PTU_ONLY = [{ name: PTU }] as const;
const BOTH_PAYG = [
  { name: PAYG1, priority: 5, weight: 1 },
  { name: PAYG2, priority: 5, weight: 1 },
] as const;
const TWO_TO_ONE = [
  { name: PAYG1, priority: 5, weight: 2 },
  { name: PAYG2, priority: 5, weight: 1 },
] as const;
const PTU_THEN_PAYG = [
  { name: PTU, priority: 10, weight: 1 },
  { name: PAYG1, priority: 5, weight: 1 },
] as const;
const THROTTLED = [429] as const;

const reserved = (source: 'count' | 'backend'): Fields => ({
  BACKENDS: PTU_ONLY,
  // With `backend` the backend's own limit applies.
  TOKENS_PER_MINUTE: source === 'count' ? TEST_BUDGET.tokensPerMinute : undefined,
  HIGH_RESERVE: TEST_BUDGET.highReserve,
  BUDGET_SOURCE: source,
});

/** The pools by name, with what differs from the defaults. The policies of round robin have no retry. */
const POOLS = {
  'round-robin-simple': { BACKENDS: BOTH_PAYG, LB_ALG: 'roundrobin', MAX_ATTEMPTS: 1 },
  'round-robin-simple-v2': { BACKENDS: BOTH_PAYG, LB_ALG: 'roundrobin', MAX_ATTEMPTS: 1 },
  'round-robin-weighted': { BACKENDS: TWO_TO_ONE, LB_ALG: 'roundrobin', MAX_ATTEMPTS: 1 },
  'round-robin-weighted-v2': { BACKENDS: TWO_TO_ONE, LB_ALG: 'roundrobin', MAX_ATTEMPTS: 1 },
  'latency-routing': { BACKENDS: BOTH_PAYG, LB_ALG: 'preferred', RETRY_STATUSES: THROTTLED },
  'retry-with-payg': { BACKENDS: PTU_THEN_PAYG, LB_ALG: 'roundrobin', RETRY_STATUSES: THROTTLED },
  'retry-with-payg-v2': {
    BACKENDS: PTU_THEN_PAYG,
    LB_ALG: 'roundrobin',
    RETRY_STATUSES: THROTTLED,
    COOLDOWN: TEST_BREAKER_MS,
  },
  'usage-tracking': { BACKENDS: [{ name: PAYG1 }] },
  'prioritization-token-calculating': reserved('count'),
  'prioritization-token-tracking': reserved('backend'),
  // The accelerator deployed token tracking by this name.
  'prioritization-simple': reserved('backend'),
} as const satisfies Readonly<Record<string, Fields>>;

export type TestPool = keyof typeof POOLS;
export const TEST_POOLS = Object.keys(POOLS) as readonly TestPool[];

/** Above all indexes that a setting can have. */
const FIRST_INDEX = 10_000;

const NO_FIELDS: Omit<PoolValues, 'index' | 'NAME'> = {
  PATH: undefined,
  BACKENDS: undefined,
  CLIENTS: undefined,
  LB_ALG: undefined,
  RETRY_STATUSES: undefined,
  MAX_ATTEMPTS: undefined,
  COOLDOWN: undefined,
  TOKENS_PER_MINUTE: undefined,
  HIGH_RESERVE: 0,
  BUDGET_SOURCE: 'count',
};

const ALL: readonly PoolValues[] = Object.entries(POOLS).map(([name, fields], position) => ({
  ...NO_FIELDS,
  ...fields,
  NAME: name,
  index: FIRST_INDEX + position,
}));

/** The pools that the test mode adds: none if it is off. */
export const testPools = ({ values }: Settings): readonly PoolValues[] =>
  values.GATEWAY_E2E_TEST_MODE ? ALL : [];
