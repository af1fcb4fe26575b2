/** Rules of token budgets that both lanes share. */
import { poolVariable, type Rule } from './rule.ts';

/** With more than the limit in reserve, no request of the low lane would ever pass. */
const reservesArePartOfTheLimit: Rule = ({ values, pools, report }) => {
  const check = (reserve: number, limit: number | undefined, name: string, of: string) => {
    if (limit !== undefined && reserve > limit)
      report('RESERVE_ABOVE_LIMIT', name, { limit: of }, String(reserve));
  };
  check(
    values.AI_RATE_LIMIT_HIGH_RESERVE,
    values.AI_RATE_LIMIT_SHARED_LIMIT,
    'AI_RATE_LIMIT_HIGH_RESERVE',
    'AI_RATE_LIMIT_SHARED_LIMIT',
  );
  for (const pool of pools)
    if (pool.BUDGET_SOURCE === 'count')
      check(
        pool.HIGH_RESERVE,
        pool.TOKENS_PER_MINUTE,
        poolVariable('HIGH_RESERVE', pool),
        poolVariable('TOKENS_PER_MINUTE', pool),
      );
};

/** The backends limit the high lane themselves, so without a reserve such a budget would limit nobody. */
const reportedBudgetsHaveAReserve: Rule = ({ pools, given, report }) => {
  for (const pool of pools) {
    const variable = poolVariable('HIGH_RESERVE', pool);
    if (pool.BUDGET_SOURCE === 'backend' && !given(variable))
      report('REQUIRED_SETTING', variable, {
        because: `${poolVariable('BUDGET_SOURCE', pool)}=backend needs it`,
        example: '30000',
      });
  }
};

export const budgetRules: readonly Rule[] = [reservesArePartOfTheLimit, reportedBudgetsHaveAReserve];
