/** The examples that `init` knows, by name; apart from their texts, which only `init` needs. */
export const SCENARIO_NAMES = [
  'minimal',
  'multi-region',
  'observability',
  'priority-lanes',
  'ptu-spillover',
] as const;
export type ScenarioName = (typeof SCENARIO_NAMES)[number];
