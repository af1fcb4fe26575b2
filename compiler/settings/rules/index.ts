/** Rules over several settings. All rules always run, whatever the others report. */
import { type Diagnostic, diagnostic } from '../../diagnostics/diagnostic.ts';
import type { Settings } from '../parse.ts';
import { acceleratorRules } from './accelerator.ts';
import { backendRules } from './backends.ts';
import { balancingRules } from './balancing.ts';
import { budgetRules } from './budgets.ts';
import { cacheRules } from './cache.ts';
import { clientRules } from './clients.ts';
import { gatewayRules } from './gateway.ts';
import { guardrailRules } from './guardrails.ts';
import { placeholderRules } from './placeholders.ts';
import { poolRules } from './pools.ts';
import { redisRules } from './redis.ts';
import type { RuleContext } from './rule.ts';
import { testModeRules } from './test-mode.ts';

const RULES = [
  ...backendRules,
  ...clientRules,
  ...poolRules,
  ...testModeRules,
  ...balancingRules,
  ...guardrailRules,
  ...budgetRules,
  ...cacheRules,
  ...redisRules,
  ...gatewayRules,
  ...placeholderRules,
  ...acceleratorRules,
];

/**
 * Runs every rule.
 * @param hasVariable whether a variable is set, also one that is not a setting; some hints need it
 */
export function checkRules(settings: Settings, hasVariable: (name: string) => boolean): Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  const context: RuleContext = {
    ...settings,
    given: (name) => settings.sources.has(name),
    usable: (name) => settings.sources.has(name) && !settings.unusable.has(name),
    hasVariable,
    report: (code, setting, args, received) =>
      diagnostics.push(diagnostic(code, { setting, source: settings.sources.get(setting), received }, args)),
  };
  for (const rule of RULES) rule(context);
  return diagnostics;
}
