import { backendName, poolPath } from '../effective.ts';
import { TEST_BACKENDS, TEST_POOLS, testPools } from '../test-mode.ts';
import { isWithin } from './pools.ts';
import { poolVariable, type Rule } from './rule.ts';

const MODE = 'GATEWAY_E2E_TEST_MODE';

/** The pools let any client move the requests of others, and share budgets between clients. */
const isNotForProduction: Rule = ({ values, report }) => {
  if (values.GATEWAY_E2E_TEST_MODE) report('TEST_MODE', MODE, {});
};

const hasItsBackends: Rule = (context) => {
  const { values, backends, report } = context;
  if (!values.GATEWAY_E2E_TEST_MODE) return;
  const names = backends.map((each) => backendName(context, each).value.toLowerCase());
  const missing = TEST_BACKENDS.filter((name) => !names.includes(name));
  if (missing.length > 0) report('TEST_MODE_BACKENDS', MODE, { missing });
};

/** Reported at the setting of the pool, because the pools of the test mode have none. */
const ownPoolsAreOthers: Rule = (context) => {
  const presets = testPools(context).map((pool) => poolPath(context, pool).value ?? '');
  if (presets.length === 0) return;
  const names: readonly string[] = TEST_POOLS;
  for (const pool of context.pools) {
    const { NAME: name } = pool;
    if (name !== undefined && names.includes(name.toLowerCase())) {
      context.report('DUPLICATE_NAME', poolVariable('NAME', pool), { other: MODE, name });
      continue;
    }
    const path = poolPath(context, pool).value;
    const otherPath = presets.find(
      (preset) => path !== undefined && (isWithin(preset, path) || isWithin(path, preset)),
    );
    if (path !== undefined && otherPath !== undefined)
      context.report('POOL_PATHS_OVERLAP', poolVariable('PATH', pool), { path, other: MODE, otherPath });
  }
};

export const testModeRules: readonly Rule[] = [isNotForProduction, hasItsBackends, ownPoolsAreOthers];
