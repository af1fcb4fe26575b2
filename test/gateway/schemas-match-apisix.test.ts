/**
 * schemas/apisix.schema.json repeats parts of APISIX's own schemas. This test finds properties in it that APISIX does not
 * have.
 */
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
        readonly metadata_schema?: SchemaObject;
      }
    >
  >;
}

const ours = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../schemas/apisix.schema.json', import.meta.url)), 'utf8'),
) as OurSchema;

/** The plugins of this repository, whose schemas must be equal. */
const OUR_PLUGINS = [
  'azure-openai-errors',
  'azure-openai-metrics',
  'azure-openai-auth',
  'azure-openai-proxy',
  'azure-openai-preferred',
  'azure-openai-limits',
  'apim-gateway-logger',
];
const pluginSchemas = ours.definitions.plugins?.properties ?? {};
const stockPlugins = Object.keys(pluginSchemas).filter((name) => !OUR_PLUGINS.includes(name));

/** The schemas of plugin metadata: the `if` names the plugin, the `then` is its schema. */
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
    // APISIX only shows the schemas of plugins listed in config.yaml, so list every plugin in our schema.
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

  test.each(stockPlugins)('has no property of %s that APISIX does not have', (name) => {
    const schema = live.plugins[name]?.schema;
    expect(schema, `APISIX has a plugin ${name}`).toBeDefined();
    expect(unknownProperties(pluginSchemas[name] ?? false, schema ?? false)).toEqual([]);
  });

  test.each(OUR_PLUGINS)('accepts for %s exactly what the plugin accepts', (name) => {
    expect(essence(pluginSchemas[name] ?? false)).toEqual(essence(live.plugins[name]?.schema ?? false));
  });

  test.each(metadataSchemas)(
    'has no property in the metadata of %s that APISIX does not have',
    (name, schema) => {
      const metadata = live.plugins[name]?.metadata_schema;
      expect(metadata, `the plugin ${name} has metadata`).toBeDefined();
      expect(unknownProperties(schema, withId(metadata ?? {}))).toEqual([]);
    },
  );

  test.each(['route', 'service'] as const)('has no property of a %s that APISIX does not have', (kind) => {
    expect(unknownProperties(ours.definitions[kind] ?? false, withoutPlugins(live.main[kind]))).toEqual([]);
  });

  test('covers enough plugins and properties for the tests above', () => {
    expect(stockPlugins.length).toBeGreaterThanOrEqual(11);
    expect(metadataSchemas.length).toBeGreaterThanOrEqual(1);
    const names = stockPlugins.map(
      (name) => unknownProperties(pluginSchemas[name] ?? false, { properties: { _: true } }).length,
    );
    expect(Math.min(...names)).toBeGreaterThanOrEqual(1);
    expect(names.reduce((sum, each) => sum + each)).toBeGreaterThanOrEqual(80);
  });
});

/** Every item in the file has an id, which APISIX's schemas of metadata omit. */
const withId = (schema: SchemaObject): SchemaObject => ({
  ...schema,
  properties: { ...schema.properties, id: true },
});

/** Keywords that accept or reject nothing, or that APISIX adds to every plugin's schema. */
const WITHOUT_EFFECT = ['$comment', 'description', 'encrypt_fields', '_meta'];

/** A schema with its references resolved, so that two equivalent schemas can be compared. */
function essence(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(essence);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { $ref, ...own } = schema as SchemaObject & Record<string, unknown>;
  if ($ref !== undefined) return essence(ours.definitions[$ref.replace('#/definitions/', '')]);
  const entries = Object.entries(own)
    .filter(([name]) => !WITHOUT_EFFECT.includes(name))
    // With an enum, the type adds nothing.
    .filter(([name]) => name !== 'type' || own.enum === undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, essence(value)]));
}

/** The plugins are compared by the tests above. */
const withoutPlugins = (schema: SchemaObject): SchemaObject => ({
  ...schema,
  properties: { ...schema.properties, plugins: true },
});

/**
 * Paths of properties that one schema names and the other does not. When the other names none at all, as for a map, every
 * name is allowed. `_meta` is added by APISIX to every plugin.
 */
function unknownProperties(mine: Schema, theirs: Schema): string[] {
  const unknown = new Set<string>();
  const visit = (mineHere: readonly Schema[], theirsHere: readonly Schema[], path: string): void => {
    const everything = mineHere.flatMap((each) => parts(each));
    const my = mineHere.flatMap((each) => parts(each, (condition) => isPossible(condition, everything)));
    const their = theirsHere.flatMap((each) => parts(each));
    // This also ends the recursion when our schema refers to itself: APISIX's schemas are written out and finite.
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

/** A name whose schema is `false` is forbidden, so it does not count as a property. */
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

/** A schema and all its subschemas for the same value, without branches that are never taken. */
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

/** Whether a condition on property values can hold, given the values that `schemas` allow. */
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
