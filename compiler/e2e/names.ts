/** Names that the presets, the scenarios and the toolkit share. */

import {
  TEST_BACKENDS,
  TEST_BREAKER_MS,
  TEST_BUDGET,
  TEST_POOLS,
  type TestPool,
} from '../settings/test-mode.ts';

/** The backends that the scenarios need, in the order of `--simulator`. */
export const BACKENDS = TEST_BACKENDS;
export type BackendName = (typeof BACKENDS)[number];

/** The eleven scenarios, each of which is a pool with the same name. In the order in which they run. */
export const POOL_SCENARIOS = TEST_POOLS;

/** Many users on `round-robin-simple`, for a platform that adds replicas. They run only if they are named. */
export const SCALE_SCENARIOS = ['scalability', 'scalability-burst'] as const;

export type ScenarioName = TestPool | (typeof SCALE_SCENARIOS)[number];

/** The budget of the prioritization pools, in tokens per minute for each deployment. */
export const BUDGET = TEST_BUDGET;

/** How long the circuit breaker of `retry-with-payg-v2` stays open, in seconds. */
export const BREAKER_SECONDS = TEST_BREAKER_MS / 1000;

/** Deployments of the simulators, with their tokens per minute. */
export const DEPLOYMENTS = {
  deployment1: 60_000,
  'gpt-35-turbo-1k-token': 1_000,
  'gpt-35-turbo-2k-token': 2_000,
  'gpt-35-turbo-5k-token': 5_000,
  'gpt-35-turbo-10k-token': 10_000,
  'gpt-35-turbo-20k-token': 20_000,
  'gpt-35-turbo-50k-token': 50_000,
  'gpt-35-turbo-100k-token': 100_000,
  'gpt-35-turbo-100m-token': 100_000_000,
  embedding: 10_000,
  embedding100k: 100_000,
} as const;
