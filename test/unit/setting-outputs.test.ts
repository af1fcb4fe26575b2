/**
 * The `output` paths of the declarations: each path exists in the schema of its document, and a change of the setting
 * changes the value there in at least one scenario.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseDotenv } from 'dotenv';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import type { Documents } from '../../compiler/emit/emit.ts';
import { readDocument } from '../../compiler/output/check.ts';
import type { DocumentName, OutputPath } from '../../compiler/settings/declaration.ts';
import {
  type ListedSetting,
  listSettings,
  plainSettings,
} from '../../compiler/settings/declarations/index.ts';
import { goldenEnvFile } from '../support/golden.ts';
import { goodScenarios } from '../support/scenarios.ts';

const SCHEMAS = join(import.meta.dirname, '../../schemas');

interface Schema {
  readonly $ref?: string;
  readonly properties?: Readonly<Record<string, Schema | boolean>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema | boolean;
  readonly definitions?: Readonly<Record<string, Schema>>;
}

const schemas = new Map<string, Schema>(
  ['apisix.yaml', 'config.yaml', 'otel-collector.yaml'].map((document) => [
    document,
    JSON.parse(readFileSync(join(SCHEMAS, document.replace('.yaml', '.schema.json')), 'utf8')),
  ]),
);

/** All subschemas that apply to the same value. */
function parts(schema: unknown, root: Schema): Schema[] {
  if (Array.isArray(schema)) return schema.flatMap((each) => parts(each, root));
  if (typeof schema !== 'object' || schema === null) return [];
  const { $ref } = schema as Schema;
  const referred = $ref === undefined ? undefined : root.definitions?.[$ref.replace('#/definitions/', '')];
  const others = ['allOf', 'anyOf', 'oneOf', 'then', 'else'].map(
    (key) => (schema as Readonly<Record<string, unknown>>)[key],
  );
  return [schema, ...parts(referred, root), ...parts(others, root)];
}

/** The subschemas of a member. A schema that is only `true` does not count. */
const member = (schema: Schema, name: string): unknown[] =>
  [
    schema.properties?.[name],
    ...Object.entries(schema.patternProperties ?? {}).flatMap(([pattern, each]) =>
      new RegExp(pattern).test(name) ? [each] : [],
    ),
    schema.properties?.[name] === undefined ? schema.additionalProperties : undefined,
  ].filter((each) => typeof each === 'object');

/** Whether the schema of a document allows a value at a path. */
function isAllowed(document: string, path: string): boolean {
  const root = schemas.get(document);
  if (!root) return false;
  let at = parts(root, root);
  for (const step of path.split('.')) {
    const name = step.replace(/\[\]$/, '');
    at = parts(
      at.flatMap((each) => member(each, name)),
      root,
    );
    if (step.endsWith('[]')) {
      at = parts(
        at.flatMap((each) => (typeof each.items === 'object' ? [each.items] : [])),
        root,
      );
    }
  }
  return at.length > 0;
}

type Variables = Readonly<Record<string, string>>;

/** The values at a path in a document. `[]` stands for each item of a list. */
function valuesAt(values: readonly unknown[], path: readonly string[]): readonly unknown[] {
  const [step, ...rest] = path;
  if (step === undefined) return values;
  const next = values
    .flatMap((value) =>
      typeof value === 'object' && value !== null
        ? [(value as Readonly<Record<string, unknown>>)[step.replace(/\[\]$/, '')]]
        : [],
    )
    .flatMap((value) => (step.endsWith('[]') ? (Array.isArray(value) ? value : []) : [value]))
    .filter((value) => value !== undefined);
  return valuesAt(next, rest);
}

const known = new Map<string, Promise<Documents | undefined>>();

/** The documents for some settings, cached, because one path after the other asks for the same settings. */
function rendered(variables: Variables): Promise<Documents | undefined> {
  const key = JSON.stringify(variables);
  const documents =
    known.get(key) ?? compile({ environment: variables, envFiles: [] }).then((result) => result.documents);
  known.set(key, documents);
  return documents;
}

/** The values that settings render at a path, or undefined when they have errors. */
async function at(output: OutputPath, variables: Variables): Promise<string | undefined> {
  const [document, path = ''] = output.split(': ') as [DocumentName, string];
  const text = (await rendered(variables))?.[document];
  if (text === undefined) return undefined;
  const read = await readDocument(document, text);
  return JSON.stringify(valuesAt('document' in read ? [read.document] : [], path.split('.')));
}

const BACKEND = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero-9a2b',
};
const scenarios: readonly Variables[] = [
  // An identity that every feature can use.
  {
    ...BACKEND,
    AZURE_OPENAI_AUTH_MODE_0: 'entra',
    AZURE_MONITOR_WORKSPACE_ENDPOINT:
      'https://name.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0/streams/Microsoft-PrometheusMetrics',
    APIM_GATEWAY_LOGS_INGEST_URI:
      'https://dce.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0',
  },
  // Thousands of clients take long to render, and the scenario adds no setting.
  ...goodScenarios()
    .filter((name) => name !== 'many-clients')
    .map((name) => parseDotenv(readFileSync(goldenEnvFile(name), 'utf8'))),
];

/**
 * Values of a setting to try: its example, those of the scenarios, the words of its type, and one value that no scenario
 * uses.
 */
function candidates({ declaration }: ListedSetting, variable: string): string[] {
  const { example, type } = declaration;
  const used = scenarios.flatMap((each) => each[variable] ?? []);
  const others = [`${example}x`, String(Number.parseInt(example, 10) + 1)];
  return [...new Set([example, ...used, ...type.expected.split(/, | or /), ...others])].filter(
    (each) => 'value' in type.parse(each),
  );
}

/** Whether a setting changes the values at a path in at least one scenario. Scenarios with the setting are tried first. */
async function changes(listed: ListedSetting, output: OutputPath): Promise<boolean> {
  const variable = listed.name.replace(/_N$/, '_0');
  const having = scenarios.filter((each) => variable in each);
  for (const variables of [...having, ...scenarios.filter((each) => !having.includes(each))]) {
    const { [variable]: value, [`${variable}_FILE`]: _, ...without } = variables;
    const before = await at(output, variables);
    const others = candidates(listed, variable).filter((each) => each !== value);
    for (const other of [undefined, ...others]) {
      const after = await at(output, other === undefined ? without : { ...without, [variable]: other });
      if (before !== undefined && after !== undefined && before !== after) return true;
    }
  }
  return false;
}

const outputs = listSettings().flatMap(({ name, declaration }) =>
  declaration.output.map((output) => ({ name, declaration, output })),
);

test('most settings have an output path', () => {
  expect(outputs.length).toBeGreaterThan(150);
});

test.each(outputs)('$name: $output is allowed by the schema', ({ output }) => {
  const [document = '', path = ''] = output.split(': ');
  expect(isAllowed(document, path)).toBe(true);
});

test.each([
  'apisix.yaml: services[].plugins.azure-openai-proxy.affinity.ttl_seconds',
  'apisix.yaml: services.plugins.azure-openai-proxy.affinity.ttl_s',
  'config.yaml: nginx_config.http.no_such_thing',
  'otel-collector.yaml: exporters.debug.level',
])('%s is not allowed by the schema', (output) => {
  const [document = '', path = ''] = output.split(': ');
  expect(isAllowed(document, path)).toBe(false);
});

/** Its other value is not valid without more settings, so there is no document to compare with. */
const WITHOUT_OTHER_VALUE = ['AZURE_OPENAI_AUTH_MODE'];

describe('a setting changes the value at its declared path', () => {
  test.each(outputs.filter(({ name }) => !WITHOUT_OTHER_VALUE.includes(name)))(
    '$name: $output',
    async ({ output, ...listed }) => {
      expect(await changes(listed, output), 'correct the path, or add a scenario').toBe(true);
    },
  );

  test('AZURE_OPENAI_AUTH_MODE changes how a backend authenticates', async () => {
    const { output } = plainSettings.AZURE_OPENAI_AUTH_MODE;
    for (const each of output)
      expect(await at(each, { ...BACKEND, AZURE_OPENAI_AUTH_MODE: 'entra' }), each).not.toBe('[]');
  });

  test('a wrong path is detected', async () => {
    const [listed] = listSettings().filter(({ name }) => name === 'RESPONSES_AFFINITY_TTL_SECONDS');
    const place = 'apisix.yaml: services[].plugins.azure-openai-proxy.cooldown.max_ms';
    expect(listed && (await changes(listed, place))).toBe(false);
  });
});
