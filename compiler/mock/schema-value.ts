/** Generates the smallest value that a JSON Schema allows, for requests with a schema. */
import { invalidRequest } from './answers.ts';
import { type Json, Refused } from './call.ts';
import { textMatching } from './pattern-text.ts';

/** Limit of nesting: a schema that needs more is endless. */
const MAX_DEPTH = 64;
/** Keywords that OpenAI does not support. */
const UNSUPPORTED = ['not', 'if', 'contains', 'dependentRequired', 'dependentSchemas'];

const FORMATS: Readonly<Record<string, string>> = {
  'date-time': '2026-01-31T12:00:00Z',
  date: '2026-01-31',
  time: '12:00:00Z',
  duration: 'P1D',
  email: 'a@example.com',
  hostname: 'example.com',
  ipv4: '192.0.2.1',
  ipv6: '2001:db8::1',
  uri: 'https://example.com',
  'uri-reference': '/',
  uuid: '00000000-0000-4000-8000-000000000000',
  regex: '.',
};

type Schema = Json | boolean;
interface Merged {
  readonly whole?: Schema;
  readonly alternatives?: readonly Schema[];
}
type Found = { readonly value: unknown } | undefined;

/**
 * @param param the name of the schema in errors
 * @throws an error answer if there is no such value, or for a keyword that OpenAI does not support
 */
export function smallestValue(schema: unknown, param: string): unknown {
  const search = new Search(schema, param);
  for (let depth = 0; depth <= MAX_DEPTH; depth++) {
    const found = search.value(schema as Schema, depth, 0);
    if (found) return found.value;
  }
  throw invalid(param, 'no value is valid against it');
}

const invalid = (param: string, reason: string): Refused =>
  new Refused(invalidRequest(`Invalid schema for ${param}: ${reason}.`, param, 'invalid_json_schema'));

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const schemas = (value: unknown): readonly Schema[] => (Array.isArray(value) ? (value as Schema[]) : []);
const numberOf = (value: unknown, byDefault: number): number =>
  typeof value === 'number' ? value : byDefault;

/** Searches with increasing depth, so that the result is one of the shallowest values. */
class Search {
  readonly #root: unknown;
  readonly #param: string;
  /**
   * Values by schema, depth and number. Without this cache, the work doubles with each level of a schema that refers to
   * itself twice.
   */
  readonly #known = new Map<Schema, Map<string, Found>>();
  /** Resolved references and combinations, by schema: the same object for the same schema. */
  readonly #merged = new Map<Json, Merged>();

  constructor(root: unknown, param: string) {
    this.#root = root;
    this.#param = param;
  }

  /** Values with different `nth` differ, as far as the schema allows. */
  value(schema: Schema, depth: number, nth: number): Found {
    if (schema === true) return { value: nth === 0 ? '' : String(nth) };
    if (schema === false || depth < 0) return undefined;
    if (!isObject(schema)) throw invalid(this.#param, 'a schema is an object or a boolean');
    const place = `${depth} ${nth}`;
    const known = this.#known.get(schema) ?? new Map<string, Found>();
    this.#known.set(schema, known);
    if (known.has(place)) return known.get(place);
    const found = this.#ofObject(schema, depth, nth);
    known.set(place, found);
    return found;
  }

  #ofObject(schema: Json, depth: number, nth: number): Found {
    const keyword = UNSUPPORTED.find((each) => schema[each] !== undefined);
    if (keyword !== undefined) throw invalid(this.#param, `'${keyword}' is not permitted`);
    const { whole, alternatives } = this.#mergedOf(schema);
    if (whole !== undefined) return this.value(whole, depth - 1, nth);
    if (alternatives !== undefined) {
      for (const each of alternatives) {
        const found = this.value(each, depth - 1, nth);
        if (found) return found;
      }
      return undefined;
    }
    if (schema.const !== undefined) return nth === 0 ? { value: schema.const } : undefined;
    if (Array.isArray(schema.enum)) return nth < schema.enum.length ? { value: schema.enum[nth] } : undefined;
    for (const type of typesOf(schema)) {
      const found = this.#ofType(type, schema, depth, nth);
      if (found) return found;
    }
    return undefined;
  }

  #mergedOf(schema: Json): Merged {
    const known = this.#merged.get(schema);
    if (known) return known;
    const { $ref, allOf, anyOf, oneOf, ...own } = schema;
    const parts = [...($ref === undefined ? [] : [this.#referred($ref)]), ...schemas(allOf)];
    const alternatives = [...schemas(anyOf), ...schemas(oneOf)];
    let merged: Merged = {};
    if (parts.length > 0) {
      const rest: Json = {
        ...own,
        ...(anyOf === undefined ? {} : { anyOf }),
        ...(oneOf === undefined ? {} : { oneOf }),
      };
      merged = { whole: parts.reduce<Schema>((sum, part) => merge(sum, part), rest) };
    } else if (alternatives.length > 0) {
      merged = { alternatives: alternatives.map((each) => merge(own, each)) };
    }
    this.#merged.set(schema, merged);
    return merged;
  }

  #ofType(type: string, schema: Json, depth: number, nth: number): Found {
    switch (type) {
      case 'null':
        return nth === 0 ? { value: null } : undefined;
      case 'boolean':
        return nth < 2 ? { value: nth === 1 } : undefined;
      case 'integer':
      case 'number':
        return numberValue(schema, type === 'integer', nth);
      case 'string':
        return stringValue(schema, nth);
      case 'array':
        return this.#array(schema, depth, nth);
      case 'object':
        return this.#object(schema, depth, nth);
      default:
        throw invalid(this.#param, `there is no type '${type}'`);
    }
  }

  #array(schema: Json, depth: number, nth: number): Found {
    const least = numberOf(schema.minItems, 0);
    const length = nth > 0 && least === 0 ? 1 : least;
    const prefix = schemas(schema.prefixItems);
    const items: unknown[] = [];
    for (let index = 0; index < length; index++) {
      const item = prefix[index] ?? (schema.items as Schema | undefined) ?? true;
      const differing = schema.uniqueItems === true ? index : 0;
      const found = this.value(item, depth - 1, differing + (index === 0 ? nth : 0));
      if (!found) return undefined;
      items.push(found.value);
    }
    if (items.length > numberOf(schema.maxItems, Number.POSITIVE_INFINITY)) return undefined;
    return { value: items };
  }

  #object(schema: Json, depth: number, nth: number): Found {
    const properties = isObject(schema.properties) ? schema.properties : {};
    const required = Array.isArray(schema.required) ? schema.required.map(String) : [];
    const names = [...new Set(required)];
    const wanted = Math.max(numberOf(schema.minProperties, 0), nth > 0 ? 1 : 0);
    for (const name of Object.keys(properties)) {
      if (names.length < wanted && !names.includes(name)) names.push(name);
    }
    while (names.length < wanted && schema.additionalProperties !== false)
      names.push(`property_${names.length}`);
    if (names.length < wanted) return undefined;
    const value: Record<string, unknown> = {};
    for (const [index, name] of names.entries()) {
      const additional = schema.additionalProperties as Schema | undefined;
      const of = Object.hasOwn(properties, name) ? (properties[name] as Schema) : (additional ?? true);
      const found = this.value(of, depth - 1, index === 0 ? nth : 0);
      if (!found) return undefined;
      Object.defineProperty(value, name, {
        value: found.value,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return { value };
  }

  /** Resolves a JSON pointer in the whole schema. */
  #referred(reference: unknown): Schema {
    const [, pointer] = /^#(\/.*)?$/.exec(String(reference)) ?? [];
    let found: unknown = String(reference).startsWith('#') ? this.#root : undefined;
    for (const segment of pointer?.split('/').slice(1) ?? []) {
      const name = decodeURIComponent(segment).replaceAll('~1', '/').replaceAll('~0', '~');
      found =
        typeof found === 'object' && found !== null && Object.hasOwn(found, name)
          ? (found as Json)[name]
          : undefined;
    }
    const isSchema = isObject(found) || typeof found === 'boolean';
    if (!isSchema || (pointer === undefined && reference !== '#'))
      throw invalid(this.#param, `reference '${String(reference)}' leads nowhere`);
    return found as Schema;
  }
}

/** The types in order; without a type, those that the other keywords imply. */
function typesOf(schema: Json): readonly string[] {
  if (Array.isArray(schema.type)) return schema.type.map(String);
  if (schema.type !== undefined) return [String(schema.type)];
  if (['properties', 'required', 'minProperties'].some((each) => schema[each] !== undefined))
    return ['object'];
  if (['items', 'prefixItems', 'minItems'].some((each) => schema[each] !== undefined)) return ['array'];
  if (
    ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'].some(
      (each) => schema[each] !== undefined,
    )
  )
    return ['number'];
  return ['string'];
}

/** A schema for values that are valid against both; most keywords of the second one have precedence. */
function merge(one: Schema, other: Schema): Schema {
  if (one === false || other === false) return false;
  if (one === true) return other;
  if (other === true) return one;
  const merged: Record<string, unknown> = { ...one, ...other };
  if (isObject(one.properties) && isObject(other.properties)) {
    const properties: Record<string, unknown> = { ...one.properties };
    for (const [name, each] of Object.entries(other.properties)) {
      properties[name] = Object.hasOwn(properties, name)
        ? merge(properties[name] as Schema, each as Schema)
        : each;
    }
    merged.properties = properties;
  }
  if (Array.isArray(one.required) && Array.isArray(other.required))
    merged.required = [...one.required, ...other.required];
  if (one.type !== undefined && other.type !== undefined) {
    const types = [one.type].flat();
    merged.type = [other.type]
      .flat()
      .filter((each) => types.includes(each) || (each === 'integer' && types.includes('number')));
  }
  if (Array.isArray(one.enum) && Array.isArray(other.enum)) {
    const values = one.enum;
    merged.enum = other.enum.filter((each) => values.includes(each));
  }
  for (const name of ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties']) {
    if (typeof one[name] === 'number' && typeof other[name] === 'number')
      merged[name] = Math.max(one[name], other[name]);
  }
  for (const name of ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties']) {
    if (typeof one[name] === 'number' && typeof other[name] === 'number')
      merged[name] = Math.min(one[name], other[name]);
  }
  for (const name of ['anyOf', 'oneOf', '$ref']) {
    if (one[name] === undefined || other[name] === undefined) continue;
    // Both must hold, so the second one moves below `allOf`.
    merged[name] = one[name];
    merged.allOf = [...schemas(one.allOf), ...schemas(other.allOf), { [name]: other[name] }];
  }
  if (merged.allOf === other.allOf && one.allOf !== undefined && other.allOf !== undefined)
    merged.allOf = [...schemas(one.allOf), ...schemas(other.allOf)];
  return merged;
}

/** The integer nearest to 0, then the next ones. */
function numberValue(schema: Json, isInteger: boolean, nth: number): Found {
  const step = numberOf(schema.multipleOf, 1);
  const least = numberOf(schema.minimum, Number.NEGATIVE_INFINITY);
  const above = numberOf(schema.exclusiveMinimum, Number.NEGATIVE_INFINITY);
  const most = numberOf(schema.maximum, Number.POSITIVE_INFINITY);
  const below = numberOf(schema.exclusiveMaximum, Number.POSITIVE_INFINITY);
  const fits = (value: number) => value >= least && value > above && value <= most && value < below;
  const low = Math.max(least, above);
  const high = Math.min(most, below);
  let begin = 0;
  let direction = 1;
  if (low > 0 || (low === 0 && !fits(0))) begin = Math.ceil(low / step);
  else if (high < 0 || (high === 0 && !fits(0))) {
    begin = Math.floor(high / step);
    direction = -1;
  }
  const found: number[] = [];
  for (let tries = 0; tries <= nth + 2 && found.length <= nth; tries++) {
    const value = (begin + direction * tries) * step;
    if (fits(value) && (!isInteger || Number.isInteger(value))) found.push(value);
  }
  if (found.length > nth) return { value: found[nth] };
  // There may be no multiple of 1 between two close bounds.
  if (nth > 0 || isInteger || schema.multipleOf !== undefined) return undefined;
  const between = [low, high, (low + high) / 2].find((value) => Number.isFinite(value) && fits(value));
  return between === undefined ? undefined : { value: between };
}

function stringValue(schema: Json, nth: number): Found {
  const least = numberOf(schema.minLength, 0);
  const most = numberOf(schema.maxLength, Number.POSITIVE_INFINITY);
  if (typeof schema.pattern === 'string') {
    const text = nth === 0 ? textMatching(schema.pattern, least) : undefined;
    return text !== undefined && [...text].length <= most ? { value: text } : undefined;
  }
  const format = typeof schema.format === 'string' ? FORMATS[schema.format] : undefined;
  if (format !== undefined) return nth === 0 ? { value: format } : undefined;
  const text = nth === 0 ? 'x'.repeat(least) : String(nth).padStart(least, 'x');
  return text.length <= most ? { value: text } : undefined;
}
