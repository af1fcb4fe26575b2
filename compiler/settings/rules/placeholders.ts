import { listSettings } from '../declarations/index.ts';
import { backendAuthMode } from '../effective.ts';
import { isUnexpanded } from '../mistakes.ts';
import { Secret } from '../secret.ts';
import { backendVariable, clientVariable, type Rule, type RuleContext } from './rule.ts';

/** Resources in examples/ and README.md, which do not exist. */
const EXAMPLE_RESOURCE =
  /^my-(?:resource|ptu|payg|payg-[12]|swe|frc|eus2|keyless|other|other-region)\.openai\.azure\.com$/i;
/** Placeholder host names in samples. */
const UNNAMED_RESOURCE =
  /^(?:your\b|your(?=resource)|(?:replace|change|insert|enter)-|(?:x{3,}|resource-?name|placeholder|example|todo)\.)[^/]*\.azure\.(?:com|us|cn)$/i;

/** Placeholder keys in our examples. */
const OF_OURS = /^replace-with-/i;
/** Placeholder keys of other software: a value in brackets, an instruction, or a filler. */
const UNSET_SECRET =
  /^<.*>$|^\[[^[\]]*\]$|^(?:your|insert|enter|put|add|paste|fill|replace|change)[-_ ]?(?:with|me|this|in|it|the|your|my|a|an|here|own|api|azure|open-?ai|key|secret|client|gateway|resource|password)?(?:[-_ ].*)?$|(?:^|[-_ ])(?:key|secret|token|password|goes)[-_ ]here$|^(?:x{3,}|\*{3,}|\.{3,}|…|-+|_+)$|^(?:todo|tbd|fixme|placeholder|null|undefined|none|nil|n\/a|string|secret-value)$/i;
/** The whole value must be a variable, because a random key can contain a $. */
const WHOLE_VARIABLE =
  /^(?:\$\{.*\}|\$\(.*\)|\$[A-Z_][A-Z0-9_]{2,}|\$env:\w+|\{\{.*\}\}|%[A-Za-z_]\w*%|#\{.*\}#?|__[A-Za-z]\w*__|<%.*%>|@Microsoft\.KeyVault\(.*\)|(?:var|local|module|data)\.[a-z_.]+)$/;

/** Keys in the accelerator's public example settings. */
const ACCELERATOR_CLIENT_KEY = /^(?:dev|test|prod|stg|staging|local)-key-\d+$/i;
/** Values that the accelerator writes if it does not know the key of a resource. */
const ACCELERATOR_BACKEND_KEY = /^pending-(?:foundry|openai|azure-openai|key)$/i;

/** Placeholders in one word, such as `YourKeyHere`, are read as words. A random key has digits. */
const inWords = (value: string) =>
  /^[A-Za-z]+$/.test(value) ? value.replace(/([a-z])(?=[A-Z])/g, '$1-') : value;

function placeholderKind(value: string): Kind | undefined {
  if (OF_OURS.test(value)) return 'example';
  const words = inWords(value);
  if (UNSET_SECRET.test(value) || (words !== value && UNSET_SECRET.test(words))) return 'placeholder';
  return WHOLE_VARIABLE.test(value) && isUnexpanded(value) ? 'variable' : undefined;
}

/**
 * Whether one of the values may be a placeholder. All are tested as lines of one text: V8 compiles a pattern when it is used
 * the second time, which takes a millisecond of each start for these.
 */
function mayHoldPlaceholders(values: readonly string[]): boolean {
  const lines = values.flatMap((value) => [value, inWords(value)]).join('\n');
  return [OF_OURS, UNSET_SECRET, WHOLE_VARIABLE].some(({ source, flags }) =>
    new RegExp(source, `${flags}m`).test(lines),
  );
}

export const isPlaceholderKey = (value: string): boolean => placeholderKind(value) !== undefined;

export const isAcceleratorKey = (key: string): boolean => ACCELERATOR_CLIENT_KEY.test(key);

export const isPendingKey = (key: string): boolean => ACCELERATOR_BACKEND_KEY.test(key);

type Kind = 'placeholder' | 'variable' | 'example';

interface Found {
  readonly variable: string;
  readonly kind: Kind;
}

/** Reports placeholders, which look like a key or a resource but do not work. */
const nothingIsAPlaceholder: Rule = (context) => {
  const found = [...inEndpoints(context), ...inSecrets(context)];
  const [first] = found;
  if (first && isExample(context, found)) {
    const ofClient = found.find(({ variable }) => variable.startsWith('GATEWAY_CLIENT_KEY'));
    context.report('EXAMPLE_SETTINGS', (ofClient ?? first).variable, {});
    return;
  }
  for (const { variable, kind } of found) context.report('PLACEHOLDER', variable, { kind });
};

function inEndpoints({ backends }: RuleContext): Found[] {
  return backends.flatMap((backend): Found[] => {
    const host = backend.ENDPOINT && new URL(backend.ENDPOINT.origin).hostname;
    if (host === undefined) return [];
    const variable = backendVariable('ENDPOINT', backend);
    if (EXAMPLE_RESOURCE.test(host)) return [{ variable, kind: 'example' }];
    return UNNAMED_RESOURCE.test(host) ? [{ variable, kind: 'placeholder' }] : [];
  });
}

const plainSecrets = () =>
  listSettings().filter(({ name, declaration }) => declaration.sensitive && !name.endsWith('_N'));

function secretsOf(context: RuleContext): Secret[] {
  const { values, backends, clients } = context;
  const plain = new Map<string, unknown>(Object.entries(values));
  return [
    // An unused key has its own diagnostic.
    ...backends.map((each) => (backendAuthMode(context, each).value === 'entra' ? undefined : each.KEY)),
    ...clients.flatMap((each) => [each.KEY, each.KEY_SECONDARY]),
    ...plainSecrets().map(({ name }) => plain.get(name)),
  ].filter((each) => each instanceof Secret);
}

function inSecrets(context: RuleContext): Found[] {
  const secrets = secretsOf(context);
  if (!mayHoldPlaceholders(secrets.map((secret) => secret.reveal()))) return [];
  return secrets.flatMap((secret): Found[] => {
    const value = secret.reveal();
    const variable = secret.file === undefined ? secret.variable : `${secret.variable}_FILE`;
    const kind = placeholderKind(value);
    return kind === undefined ? [] : [{ variable, kind }];
  });
}

/** Whether every resource and every key comes from our examples. */
function isExample({ backends, clients, values }: RuleContext, found: readonly Found[]): boolean {
  const ofOurs = new Set(found.filter(({ kind }) => kind === 'example').map(({ variable }) => variable));
  const named = [
    ...backends.map((each) => backendVariable('ENDPOINT', each)),
    ...backends.flatMap((each) => (each.KEY ? [backendVariable('KEY', each)] : [])),
    ...clients.flatMap((each) => [
      ...(each.KEY ? [clientVariable('KEY', each)] : []),
      ...(each.KEY_SECONDARY ? [clientVariable('KEY_SECONDARY', each)] : []),
    ]),
    ...(values.GATEWAY_CLIENT_KEY ? ['GATEWAY_CLIENT_KEY'] : []),
  ];
  return ofOurs.size === found.length && named.every((variable) => ofOurs.has(variable));
}

/** Reports keys that come from the accelerator's files and pipelines. */
const acceleratorKeysAreReplaced: Rule = ({ backends, clients, values, report }) => {
  for (const backend of backends) {
    if (backend.KEY && isPendingKey(backend.KEY.reveal()))
      report('ACCELERATOR_PENDING_KEY', backendVariable('KEY', backend), { index: backend.index });
  }
  const keys = [...clients.flatMap((each) => [each.KEY, each.KEY_SECONDARY]), values.GATEWAY_CLIENT_KEY];
  for (const key of keys)
    if (key && isAcceleratorKey(key.reveal())) report('ACCELERATOR_EXAMPLE_KEY', key.variable, {});
};

export const placeholderRules: readonly Rule[] = [nothingIsAPlaceholder, acceleratorKeysAreReplaced];
