import type { Declaration } from '../declaration.ts';
import { indexedGroups, type PlainName, plainSettings } from '../declarations/index.ts';
import { isAcceleratorKey, isPendingKey } from './placeholders.ts';
import type { Rule, RuleContext } from './rule.ts';

/** Variables of the accelerator's pipelines and images, which this gateway does not read. */
const ITS_VARIABLES = [
  'KEY_VAULT_NAME',
  'KEY_VAULT_URI',
  'ACA_MANAGED_IDENTITY_CLIENT_ID',
  'SHARED_CONFIGS_ROOT',
];

const declarations = Object.entries(plainSettings) as [PlainName, Declaration][];
const newFields = Object.values(indexedGroups).flatMap(({ prefix, fields }) =>
  (Object.entries(fields) as [string, Declaration][])
    .filter(([, { isNew }]) => isNew)
    .map(([field]) => `${prefix}${field}_`),
);

/** Whether a name is a setting that the accelerator does not have. */
const isNew = (name: string): boolean =>
  (plainSettings as Readonly<Record<string, Declaration>>)[name]?.isNew === true ||
  newFields.some((start) => name.startsWith(start) && /^\d+$/.test(name.slice(start.length)));

/**
 * Whether the settings come from the accelerator: they contain something that only it has, or its GATEWAY_LOG_MODE,
 * which its Terraform always sets, and no setting that it does not have. Other users do not need to know its behaviour.
 */
function comeFromTheAccelerator({ sources, backends, clients, given, hasVariable }: RuleContext): boolean {
  const keys = [...backends.map((each) => each.KEY), ...clients.map((each) => each.KEY)];
  return (
    declarations.some(([name, { replacedBy }]) => replacedBy !== undefined && given(name)) ||
    given('GATEWAY_E2E_TEST_MODE') ||
    ITS_VARIABLES.some(hasVariable) ||
    keys.some((key) => key && (isAcceleratorKey(key.reveal()) || isPendingKey(key.reveal()))) ||
    (given('GATEWAY_LOG_MODE') && ![...sources.keys()].some(isNew))
  );
}

/** Reports settings that work differently from the accelerator. */
const changedMeaningsAreReported: Rule = (context) => {
  if (!comeFromTheAccelerator(context)) return;
  const { values, given, usable, report } = context;
  for (const [name, { changed }] of declarations) {
    // A feature that is off works the same in both.
    if (changed !== undefined && usable(name) && values[name] !== false)
      report('CHANGED_MEANING', name, { changed });
  }
  if (!given('GATEWAY_REQUIRE_AUTH')) report('AUTH_REQUIRED_BY_DEFAULT', 'GATEWAY_REQUIRE_AUTH', {});
};

export const acceleratorRules: readonly Rule[] = [changedMeaningsAreReported];
