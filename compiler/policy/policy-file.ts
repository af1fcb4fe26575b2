/** Reads a policy file: the enforced rules, their severity and their options. */
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { nearestOf } from '../diagnostics/nearest.ts';
import { readYaml } from '../output/check.ts';
import { readText } from '../settings/sources.ts';
import {
  POLICY_RULE_NAMES,
  POLICY_RULES,
  type PolicyRule,
  type PolicyRuleName,
  type RuleOptions,
} from './rules.ts';

const MAX_POLICY_BYTES = 256 * 1024;

export interface EnforcedRule {
  readonly severity: 'error' | 'warning';
  /** All options of the rule with their values or defaults, including `except`. */
  readonly options: RuleOptions;
}

type Enforced = ReadonlyMap<PolicyRuleName, EnforcedRule | 'off'>;

export interface Policy {
  readonly rules: Enforced;
  /** Rules that differ in one environment, by its name. */
  readonly environments: ReadonlyMap<string, Enforced>;
}

/**
 * Reads a policy file.
 * @returns the policy, or diagnostics about the file
 */
export async function readPolicy(
  path: string,
): Promise<{ readonly policy: Policy } | { readonly diagnostics: readonly Diagnostic[] }> {
  const content = readText(path, MAX_POLICY_BYTES);
  const unreadable = (reason: string) => ({
    diagnostics: [diagnostic('POLICY_FILE_UNREADABLE', { setting: path }, { reason })],
  });
  if ('reason' in content) return unreadable(content.reason);
  const read = await readYaml(content.text);
  if ('reason' in read) return unreadable(read.reason);
  const problems: Problem[] = [];
  const policy = policyOf(read.document, problems);
  if (problems.length === 0) return { policy };
  return {
    diagnostics: problems.map((each) => diagnostic('POLICY_FILE_INVALID', { setting: path }, each)),
  };
}

interface Problem {
  /** A path in the file, such as `rules.regions.least`. */
  readonly at: string;
  readonly problem: string;
  readonly expected: string;
}

/** The rules for one environment: the general rules, overridden by those of the environment. */
export function rulesFor({ rules, environments }: Policy, environment: string | undefined): Enforced {
  const others = environment === undefined ? undefined : environments.get(environment);
  return others ? new Map([...rules, ...others]) : rules;
}

function policyOf(document: unknown, problems: Problem[]): Policy {
  const top = mapping(document, 'the file', ['rules', 'environments'], problems);
  const environments = Object.entries(mapping(top.environments ?? {}, 'environments', undefined, problems));
  return {
    rules: rulesOf(top.rules ?? {}, 'rules', problems),
    environments: new Map(
      environments.map(([name, rules]) => [name, rulesOf(rules, `environments.${name}`, problems)]),
    ),
  };
}

function rulesOf(given: unknown, at: string, problems: Problem[]): Enforced {
  const named = Object.entries(mapping(given, at, POLICY_RULE_NAMES, problems));
  return new Map(
    named.flatMap(([name, value]) =>
      isRule(name) ? [[name, ruleOf(value, POLICY_RULES[name], `${at}.${name}`, problems)] as const] : [],
    ),
  );
}

const isRule = (name: string): name is PolicyRuleName => Object.hasOwn(POLICY_RULES, name);

const SEVERITIES = 'error, warning or off';

/** Accepts `error`, `warning`, `off` or a mapping with options. YAML 1.1 reads `off` as false. */
function severityOf(value: unknown): 'error' | 'warning' | 'off' | undefined {
  if (value === true) return 'error';
  if (value === false) return 'off';
  return value === 'error' || value === 'warning' || value === 'off' ? value : undefined;
}

function ruleOf(given: unknown, rule: PolicyRule, at: string, problems: Problem[]): EnforcedRule | 'off' {
  const isShort = typeof given === 'string' || typeof given === 'boolean';
  const names = ['severity', ...Object.keys(rule.options), ...(rule.except ? ['except'] : [])];
  const fields = isShort ? { severity: given } : mapping(given ?? {}, at, names, problems);
  const severity = severityOf(fields.severity ?? 'error');
  if (severity === undefined) {
    problems.push({ at: isShort ? at : `${at}.severity`, problem: 'unknown severity', expected: SEVERITIES });
    return 'off';
  }
  if (severity === 'off') return 'off';
  const options = Object.entries({ ...rule.options, except: [] }).map(([name, otherwise]) => [
    name,
    optionOf(fields[name], otherwise, `${at}.${name}`, problems),
  ]);
  return { severity, options: Object.fromEntries(options) };
}

function optionOf(
  given: unknown,
  otherwise: number | readonly string[] | undefined,
  at: string,
  problems: Problem[],
): number | readonly string[] {
  if (typeof otherwise === 'number') {
    if (given === undefined) return otherwise;
    if (typeof given === 'number' && Number.isInteger(given) && given > 0 && given <= 10_000) return given;
    problems.push({
      at,
      problem: 'the value is not such a number',
      expected: 'a whole number from 1 to 10000',
    });
    return otherwise;
  }
  const isList = Array.isArray(given) && given.every((each) => typeof each === 'string' && each !== '');
  if (isList && (given.length > 0 || otherwise !== undefined)) return given as string[];
  if (given === undefined && otherwise !== undefined) return otherwise;
  problems.push({
    at,
    problem: given === undefined ? 'the value is missing' : 'the value is not such a list',
    expected: otherwise === undefined ? 'a list with at least one text' : 'a list of texts',
  });
  return [];
}

/**
 * Returns a mapping and reports its unknown keys.
 * @returns an empty mapping for any other value
 */
function mapping(
  given: unknown,
  at: string,
  known: readonly string[] | undefined,
  problems: Problem[],
): Readonly<Record<string, unknown>> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    problems.push({ at, problem: 'the value is not a mapping', expected: known?.join(', ') ?? 'a mapping' });
    return {};
  }
  for (const key of known ? Object.keys(given).filter((each) => !known.includes(each)) : []) {
    const nearest = nearestOf([key], known ?? []);
    problems.push({
      at: at === 'the file' ? key : `${at}.${key}`,
      problem: `the key is unknown here${nearest === undefined ? '' : `; did you mean ${nearest}?`}`,
      expected: known?.join(', ') ?? '',
    });
  }
  return given as Record<string, unknown>;
}
