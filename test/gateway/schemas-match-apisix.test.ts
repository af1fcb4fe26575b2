/** schemas/apisix.schema.json was written after APISIX's own schemas; this keeps it from knowing what APISIX does not. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Apisix,
  CONTAINER_TIMEOUT_MS,
  cannotRunGatewayTests,
  parseAsApisix,
  startApisix,
} from '../support/apisix.ts';
import { compileVariables } from '../support/scenarios.ts';

type Schema = boolean | SchemaObject;

interface SchemaObject {
  readonly $ref?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly items?: Schema | readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly if?: Schema;
  readonly then?: Schema;
  readonly else?: Schema;
  readonly dependencies?: Readonly<Record<string, Schema | readonly string[]>>;
}

interface OurSchema extends SchemaObject {
  readonly definitions: Readonly<Record<string, SchemaObject>>;
}

interface LiveSchemas {
  readonly main: { readonly route: SchemaObject; readonly service: SchemaObject };
  readonly plugins: Readonly<
    Record<
      string,
      {
        readonly schema: SchemaObject;
        readonly consumer_schema?: SchemaObject;
        readonly metadata_schema?: SchemaObject;
      }
    >
  >;
}

const ours = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../schemas/apisix.schema.json', import.meta.url)), 'utf8'),
) as OurSchema;

/** Those of this repository: what they accept is known to the last word. */
const OUR_PLUGINS = [
  'azure-openai-errors',
  'azure-openai-metrics',
  'azure-openai-auth',
  'azure-openai-proxy',
  'azure-openai-limits',
  'apim-gateway-logger',
];
const pluginSchemas = ours.definitions.plugins?.properties ?? {};
const stockPlugins = Object.keys(pluginSchemas).filter((name) => !OUR_PLUGINS.includes(name));

/** Of the plugins' metadata: `if` its id says which plugin it is of, `then` is its schema. */
const metadataSchemas = (ours.definitions.pluginMetadata?.allOf ?? []).flatMap((each) => {
  const branch = each as { if: { properties: { id: { const: string } } }; then: Schema };
  return [[branch.if.properties.id.const, branch.then] as const];
});

describe.skipIf(cannotRunGatewayTests("schemas against APISIX's own"))('schemas/apisix.schema.json', () => {
  let apisix: Apisix;
  let live: LiveSchemas;

  beforeAll(async () => {
    const { documents, environment } = await compileVariables({
      AZURE_OPENAI_ENDPOINT_0: 'https://a.openai.azure.com',
      AZURE_OPENAI_KEY_0: 'backend-key-0123456789',
      GATEWAY_CLIENT_KEY: 'client-key-0123456789',
    });
    // APISIX shows the schemas of the plugins that config.yaml lists, and this test wants all that ours knows.
    const config = {
      ...(parseAsApisix(documents['config.yaml']) as object),
      plugins: Object.keys(pluginSchemas),
    };
    apisix = await startApisix({
      documents: { ...documents, 'config.yaml': JSON.stringify(config) },
      environment,
    });
    live = (await apisix.control('/v1/schema')) as LiveSchemas;
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => apisix?.stop());

  test.each(stockPlugins)('knows no property of %s that APISIX does not have', (name) => {
    const schema = live.plugins[name]?.schema;
    expect(schema, `APISIX has a plugin ${name}`).toBeDefined();
    expect(unknownProperties(pluginSchemas[name] ?? false, schema ?? false)).toEqual([]);
  });

  test.each(OUR_PLUGINS)('says of %s exactly what the plugin accepts', (name) => {
    expect(essence(pluginSchemas[name] ?? false)).toEqual(essence(live.plugins[name]?.schema ?? false));
  });

  test('says of a client exactly what azure-openai-auth accepts', () => {
    const plugins = ours.definitions.consumer?.properties?.plugins as SchemaObject;
    expect(essence(plugins.properties?.['azure-openai-auth'] ?? false)).toEqual(
      essence(live.plugins['azure-openai-auth']?.consumer_schema ?? false),
    );
  });

  test.each(metadataSchemas)(
    'knows no property in the metadata of %s that APISIX does not have',
    (name, schema) => {
      const metadata = live.plugins[name]?.metadata_schema;
      expect(metadata, `the plugin ${name} has metadata`).toBeDefined();
      expect(unknownProperties(schema, withId(metadata ?? {}))).toEqual([]);
    },
  );

  test.each(['route', 'service'] as const)('knows no property of a %s that APISIX does not have', (kind) => {
    expect(unknownProperties(ours.definitions[kind] ?? false, withoutPlugins(live.main[kind]))).toEqual([]);
  });

  test('is about as large as expected, so that the tests above have something to compare', () => {
    expect(stockPlugins.length).toBeGreaterThanOrEqual(11);
    expect(metadataSchemas.length).toBeGreaterThanOrEqual(1);
    const names = stockPlugins.map(
      (name) => unknownProperties(pluginSchemas[name] ?? false, { properties: { _: true } }).length,
    );
    expect(Math.min(...names)).toBeGreaterThanOrEqual(1);
    expect(names.reduce((sum, each) => sum + each)).toBeGreaterThanOrEqual(80);
  });
});

/** Every item of APISIX's own files has an id, which the schemas of metadata leave out. */
const withId = (schema: SchemaObject): SchemaObject => ({
  ...schema,
  properties: { ...schema.properties, id: true },
});

/** Words of a schema that take or refuse nothing by themselves, or that APISIX puts into every plugin's. */
const WITHOUT_EFFECT = ['$comment', 'description', 'encrypt_fields', '_meta'];

/** A schema written in full, so that two that accept the same can be compared. */
function essence(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(essence);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { $ref, ...own } = schema as SchemaObject & Record<string, unknown>;
  if ($ref !== undefined) return essence(ours.definitions[$ref.replace('#/definitions/', '')]);
  const entries = Object.entries(own)
    .filter(([name]) => !WITHOUT_EFFECT.includes(name))
    // Beside the values themselves their type says nothing more.
    .filter(([name]) => name !== 'type' || own.enum === undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, essence(value)]));
}

/** Plugins have tests of their own. */
const withoutPlugins = (schema: SchemaObject): SchemaObject => ({
  ...schema,
  properties: { ...schema.properties, plugins: true },
});

/**
 * Paths of properties that one schema names and the other one does not. Where the other one names none at all, as for
 * a map, any name will do; `_meta` is APISIX's own and put into every plugin.
 */
function unknownProperties(mine: Schema, theirs: Schema): string[] {
  const unknown = new Set<string>();
  const visit = (mineHere: readonly Schema[], theirsHere: readonly Schema[], path: string): void => {
    const everything = mineHere.flatMap((each) => parts(each));
    const my = mineHere.flatMap((each) => parts(each, (condition) => isPossible(condition, everything)));
    const their = theirsHere.flatMap((each) => parts(each));
    // Also where ours refers to itself: APISIX's schemas, which it hands out written in full, come to an end.
    if (their.length === 0) return;
    if (
      their.some(
        ({ properties, patternProperties }) => names(properties).length + names(patternProperties).length > 0,
      )
    ) {
      for (const name of new Set(my.flatMap(({ properties }) => names(properties)))) {
        if (name === '_meta') continue;
        const at = `${path}.${name}`;
        const found = their.flatMap((each) => lookUp(each, name));
        if (found.length === 0) unknown.add(at.slice(1));
        else
          visit(
            my.flatMap(({ properties }) => properties?.[name] ?? []),
            found,
            at,
          );
      }
    }
    const myItems = my.flatMap(({ items }) => items ?? []);
    if (myItems.length > 0)
      visit(
        myItems,
        their.flatMap(({ items }) => items ?? []),
        `${path}[]`,
      );
    const myMaps = my.flatMap(mapValues);
    if (myMaps.length > 0) visit(myMaps, their.flatMap(mapValues), `${path}.*`);
  };
  visit([mine], [theirs], '');
  return [...unknown];
}

/** A name whose schema is `false` is forbidden, not known. */
const names = (properties: Readonly<Record<string, Schema>> = {}): string[] =>
  Object.keys(properties).filter((name) => properties[name] !== false);

const mapValues = ({ patternProperties = {}, additionalProperties = false }: SchemaObject): Schema[] =>
  [...Object.values(patternProperties), additionalProperties].filter((each) => typeof each === 'object');

function lookUp(
  { properties = {}, patternProperties = {}, additionalProperties }: SchemaObject,
  name: string,
): Schema[] {
  const matching = Object.entries(patternProperties).flatMap(([pattern, each]) =>
    new RegExp(pattern).test(name) ? [each] : [],
  );
  return [
    ...(Object.hasOwn(properties, name) ? [properties[name] ?? false] : []),
    ...matching,
    ...(typeof additionalProperties === 'object' ? [additionalProperties] : []),
  ];
}

/** A schema and every other one that says something about the same value, but for branches that it never takes. */
function parts(schema: Schema, isTaken: (condition: Schema) => boolean = () => true): SchemaObject[] {
  if (typeof schema === 'boolean') return [];
  const { $ref, allOf = [], anyOf = [], oneOf = [], dependencies = {} } = schema;
  const taken = schema.if === undefined || isTaken(schema.if) ? [schema.if, schema.then] : [];
  const conditional = [...taken, schema.else].filter((each) => each !== undefined);
  const dependent = Object.values(dependencies).filter((each): each is Schema => !Array.isArray(each));
  const referred = $ref === undefined ? [] : [ours.definitions[$ref.replace('#/definitions/', '')] ?? false];
  const others = [...referred, ...allOf, ...anyOf, ...oneOf, ...conditional, ...dependent];
  return [schema, ...others.flatMap((each) => parts(each, isTaken))];
}

/** Whether a condition on the values of properties can hold where `schemas` say which values they may have. */
function isPossible(condition: Schema, schemas: readonly SchemaObject[]): boolean {
  if (typeof condition === 'boolean') return condition;
  return Object.entries(condition.properties ?? {}).every(([name, wanted]) => {
    if (typeof wanted === 'boolean' || wanted.const === undefined) return true;
    const allowed = schemas.flatMap(({ properties }) =>
      parts(properties?.[name] ?? true).flatMap((each) => each.enum ?? []),
    );
    return allowed.length === 0 || allowed.includes(wanted.const);
  });
}
