/** Checks settings against a policy. Pure. */
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { type Policy, rulesFor } from './policy-file.ts';
import { POLICY_RULES, type Report, type Subject } from './rules.ts';

/** The violations of the policy, with the severity that it gives each rule. */
export function violations(policy: Policy, subject: Subject, environment: string | undefined): Diagnostic[] {
  return [...rulesFor(policy, environment)].flatMap(([name, enforced]) => {
    if (enforced === 'off') return [];
    const found: Diagnostic[] = [];
    const report: Report = (code, setting, args) => {
      const { sources } = subject.settings;
      const source = sources.get(setting) ?? sources.get(`${setting}_FILE`);
      found.push({ ...diagnostic(code, { setting, source }, args), severity: enforced.severity });
    };
    POLICY_RULES[name].check(subject, enforced.options, report);
    return found;
  });
}

/** The name of an environment: `prod` for envs/prod.env and for .env.prod. */
export function environmentOf(envFile: string | undefined): string | undefined {
  const name = envFile?.split(/[\\/]/).at(-1) ?? '';
  const [, before, after] = /^(?:(.+)\.env|\.env\.(.+))$/.exec(name) ?? [];
  return before ?? after;
}
