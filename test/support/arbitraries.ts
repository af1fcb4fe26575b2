/** fast-check arbitraries of environments: real names with good, doubtful and hostile values. */
import fc from 'fast-check';
import { listSettings } from '../../compiler/settings/declarations/index.ts';

/** Texts that YAML 1.1, shells and templates tend to misread. */
export const HOSTILE_TEXTS = [
  '"',
  "'",
  '\\',
  '`',
  '$',
  '$$',
  '${X}',
  '$X',
  '${{X}}',
  '{{x}}',
  '#',
  ' #',
  ': ',
  ':',
  '- a',
  '-',
  '*a',
  '&a',
  '!a',
  '!!str',
  '%a',
  '@a',
  '|',
  '>',
  '?',
  '? a',
  '[',
  ']',
  '{',
  '}',
  ',',
  'yes',
  'No',
  'ON',
  'off',
  'y',
  'n',
  'true',
  'null',
  '~',
  '',
  '0777',
  '0o17',
  '0x1F',
  '1_000',
  '12:30:45',
  '1.10',
  '1e3',
  '.5',
  '.inf',
  '.nan',
  '2026-11-22',
  '<<',
  '=',
  '---',
  '...',
  '#END',
  '\u0085',
  '\u2028',
  '\ufeff',
  '\u{1f422}',
  '\u{1f468}\u200d\u{1f469}',
  'é',
  '\u0000',
  'a\nb',
  'a\r',
  '\t',
  ' a ',
  '\u007f',
  '\u009f',
  '\ud800',
  '%ZZ',
  '$env://X',
  '$secret://a/b/c',
  '${env:HOME}',
  '__proto__',
  'constructor',
  'toString',
] as const;

const hostileText = fc.oneof(
  fc.constantFrom(...HOSTILE_TEXTS),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.array(fc.constantFrom(...HOSTILE_TEXTS), { minLength: 1, maxLength: 4 }).map((parts) => parts.join('')),
);

const names = listSettings().map((each) => each.name);
const indexedName = fc.tuple(
  fc.constantFrom(...names),
  fc.oneof(fc.nat(3), fc.constantFrom('00', '+1', '-1', '10000', 'x', '')),
);
const declaredName = indexedName.map(([name, index]) => name.replace(/_N$/, `_${index}`));
const anyName = fc.oneof(
  { weight: 8, arbitrary: declaredName },
  { weight: 1, arbitrary: declaredName.map((name) => `${name}_FILE`) },
  { weight: 1, arbitrary: declaredName.map((name) => name.toLowerCase()) },
  {
    weight: 1,
    arbitrary: fc.tuple(declaredName, fc.nat(20)).map(([name, at]) => name.slice(0, at) + name.slice(at + 1)),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '__proto__',
      'constructor',
      'ENV',
      'PATH',
      'AZURE_OPENAI_',
      'GATEWAY_CLIENT_',
      'ENABLE_',
    ),
  },
);

const examples = new Map(listSettings().map(({ name, declaration }) => [name, declaration.example]));
const goodValue = (name: string): string =>
  examples.get(name) ?? examples.get(name.replace(/_\d+$/, '_N')) ?? 'x';

/** Any environment. About half of the values are the examples of the reference. */
export const anyEnvironment = fc
  .array(fc.tuple(anyName, fc.option(hostileText, { nil: undefined, freq: 2 })), { maxLength: 25 })
  .map((pairs) => Object.fromEntries(pairs.map(([name, value]) => [name, value ?? goodValue(name)])));

/** A key: printable ASCII without white space at its ends, and nothing that the rules reject. */
const key = fc
  .string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    minLength: 16,
    maxLength: 60,
  })
  .filter(
    (text) =>
      text.trim() === text &&
      !/^\$(?:env|secret):\/\//i.test(text) &&
      !/^(["'`]).*\1$/.test(text) &&
      !text.includes('${{'),
  );

/** Text for a label, including hostile pieces. */
const label = fc
  .array(fc.oneof(fc.constantFrom(...HOSTILE_TEXTS), fc.string({ unit: 'grapheme', maxLength: 8 })), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join(' ').trim())
  .filter(
    (text) =>
      /^[^\p{C}]{1,256}$/u.test(text) &&
      !text.includes('${{') &&
      !/^\$(?:env|secret):\/\//i.test(text) &&
      !/^(["'`]).*\1$/.test(text),
  );

const name = fc.stringMatching(/^[A-Za-z0-9_-]{1,20}$/);

const positive = fc.integer({ min: 1, max: 10_000_000 });
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const distinct = <T extends string | number>(arbitrary: fc.Arbitrary<T>) =>
  fc.uniqueArray(arbitrary, { minLength: 1, maxLength: 4 });

const backend = fc.record({
  NAME: name,
  KEY: key,
  WEIGHT: fc.integer({ min: 1, max: 10_000 }),
  PRIORITY: optional(fc.nat(1_000)),
  AUTH_MODE: optional(fc.constantFrom('entra', 'api-key')),
  TOKEN_RESOURCE: optional(
    fc.constantFrom('https://ai.azure.com/', 'HTTPS://A.example', 'https://a/.default'),
  ),
  MSI_CLIENT_ID: optional(fc.stringMatching(/^[A-Za-z0-9-]{1,100}$/)),
  REGION: optional(fc.constantFrom('swedencentral', 'West Europe', 'no', '0777')),
  DEPLOYMENTS: optional(
    distinct(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,9}(?:=[A-Za-z0-9][A-Za-z0-9._-]{0,9})?$/)),
  ),
});

const client = fc.record({
  NAME: name,
  KEY: key,
  KEY_SECONDARY: optional(key),
  PRIORITY: optional(fc.constantFrom('high', 'low')),
  TOKENS_PER_MINUTE: optional(positive),
  TOKENS_PER_DAY: optional(positive),
  REQUESTS_PER_MINUTE: optional(positive),
});

const pool = fc.record({
  // No other path begins so.
  NAME: fc.stringMatching(/^p-[A-Za-z0-9._-]{1,20}$/),
  LB_ALG: optional(fc.constantFrom('roundrobin', 'chash', 'latency', 'preferred')),
  RETRY_STATUSES: optional(distinct(fc.integer({ min: 400, max: 599 }))),
  MAX_ATTEMPTS: optional(fc.integer({ min: 1, max: 20 })),
  COOLDOWN: optional(fc.integer({ min: 0, max: 200 })),
  TOKENS_PER_MINUTE: optional(positive),
});

const wholeGateway = fc.record({
  AI_PROXY_READ_TIMEOUT: optional(fc.integer({ min: 1, max: 3_600 })),
  AI_PROXY_FIRST_BYTE_TIMEOUT: optional(fc.integer({ min: 1, max: 3_600 })),
  AI_PROXY_RETRY_STATUSES: optional(distinct(fc.integer({ min: 400, max: 599 }))),
  AI_PROXY_MAX_ATTEMPTS: optional(fc.integer({ min: 1, max: 20 })),
  AI_RATE_LIMIT_HIGH_LIMIT: optional(positive),
  AI_RATE_LIMIT_SHARED_LIMIT: optional(positive),
  AI_RATE_LIMIT_WINDOW_SECONDS: optional(fc.integer({ min: 1, max: 100_000 })),
  AI_RATE_LIMIT_SCOPE: optional(fc.constantFrom('gateway', 'client')),
  LB_ALG: optional(fc.constantFrom('roundrobin', 'chash')),
  OTEL_SAMPLE_RATE: optional(fc.constantFrom('0', '1', '0.000000000001', '0.5')),
  GATEWAY_LOG_MODE: optional(fc.constantFrom('prod', 'test', 'dev')),
});

/** The variables of a group's members. A list is joined with commas, and undefined values are omitted. */
const variables = (
  prefix: string,
  members: readonly Readonly<Record<string, unknown>>[],
): [string, string][] =>
  members.flatMap((fields, index) =>
    Object.entries(fields).flatMap(([field, value]): [string, string][] =>
      value === undefined ? [] : [[`${prefix}${field}${prefix === '' ? '' : `_${index}`}`, String(value)]],
    ),
  );

/** A valid environment, with hostile texts wherever a setting accepts free text. */
export const goodEnvironment = fc
  .record({
    backends: fc.uniqueArray(backend, {
      minLength: 1,
      maxLength: 4,
      selector: (each) => each.NAME.toLowerCase(),
    }),
    clients: fc.uniqueArray(client, { minLength: 1, maxLength: 4, selector: (each) => each.NAME }),
    pools: fc.uniqueArray(pool, { maxLength: 3, selector: (each) => each.NAME.toLowerCase() }),
    labels: fc.tuple(label, label, label, label),
    secrets: fc.constantFrom('reference', 'inline'),
    gateway: wholeGateway,
  })
  .filter(({ clients }) => {
    const keys = clients.flatMap((each) => [each.KEY, each.KEY_SECONDARY ?? []].flat());
    return new Set(keys).size === keys.length;
  })
  .filter(({ backends }) =>
    backends.every(
      ({ DEPLOYMENTS = [] }) =>
        new Set(DEPLOYMENTS.map((each) => each.split('=')[0]?.toLowerCase())).size === DEPLOYMENTS.length,
    ),
  )
  .map(({ backends, clients, pools, labels: [service, environment, cluster, message], secrets, gateway }) =>
    Object.fromEntries([
      ...variables('', [
        {
          GATEWAY_SECRETS: secrets,
          GATEWAY_REQUIRE_AUTH: 'true',
          OTEL_SERVICE_NAME: service,
          ENVIRONMENT: environment,
          CLUSTER_NAME: cluster,
          OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318',
          AZURE_MONITOR_WORKSPACE_ENDPOINT: 'https://workspace.example.com',
          ENABLE_AI_RATE_LIMIT: 'true',
          AI_RATE_LIMIT_REJECT_MESSAGE: message,
          ...gateway,
        },
      ]),
      ...variables('GATEWAY_POOL_', pools),
      ...variables(
        'AZURE_OPENAI_',
        backends.map((fields, index) => ({
          ENDPOINT: `https://resource-${index}.openai.azure.com`,
          ...fields,
        })),
      ),
      ...variables('GATEWAY_CLIENT_', clients),
    ]),
  );
