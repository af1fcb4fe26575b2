/** Describes the errors of a rendered document by its schema. Loads ajv, so it is for invalid documents only. */
import Ajv, { type ErrorObject } from 'ajv';
import apisix from '../../schemas/apisix.schema.json';
import config from '../../schemas/config.schema.json';
import collector from '../../schemas/otel-collector.schema.json';
import type { DocumentName } from '../emit/emit.ts';

const SCHEMAS = { 'config.yaml': config, 'otel-collector.yaml': collector, 'apisix.yaml': apisix } as const;

/**
 * The schemas refer only to definitions of their own, so a URI has only a path and a fragment. ajv does not load the schema of
 * schemas, whose URI has more: the build has checked them against it.
 */
const uriResolver = {
  parse: (uri: string) => {
    const [path = '', fragment] = uri.split('#');
    return fragment === undefined ? { path } : { path, fragment };
  },
  serialize: ({ path = '', fragment }: { path?: string; fragment?: string }) =>
    fragment === undefined ? path : `${path}#${fragment}`,
  resolve: (base: string, uri: string) => `${base.replace(/#.*/, '')}${uri}`,
};

const ajv = new Ajv({
  allErrors: true,
  allowUnionTypes: true,
  meta: false,
  validateSchema: false,
  uriResolver,
});
for (const [name, schema] of Object.entries(SCHEMAS)) ajv.addSchema(schema, name);

/** Every error of a document; none if it is valid. */
export function errorsOf(name: DocumentName, document: unknown): readonly ErrorObject[] {
  ajv.validate(name, document);
  return ajv.errors ?? [];
}
