/** Code that files, batches and similar collections share. */
import { randomBytes } from 'node:crypto';
import { invalidRequest } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, Refused } from './call.ts';

/** The answer for an unknown id. */
export const notFound = (message: string): Behaviour => ({
  ...invalidRequest(message, null, null),
  status: 404,
});

const ID_BYTES = 24;

export const newId = (prefix: string): string => `${prefix}_${randomBytes(ID_BYTES).toString('hex')}`;

export const listOf = (data: readonly Json[]): Json => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: false,
});

export const page = (data: readonly Json[]): Behaviour => ({ body: listOf(data) });

type Ids = readonly string[];

export interface Collection {
  /** `parents` are the ids of the parent objects. */
  create(call: Call, ...parents: Ids): Behaviour;
  list(call: Call, ...parents: Ids): Behaviour;
  get(call: Call, ...ids: Ids): Behaviour;
  remove(call: Call, ...ids: Ids): Behaviour;
  /** @throws an error answer for an unknown id */
  known(call: Call, ...ids: Ids): Json;
  /** All of them, newest first. */
  all(call: Call, ...parents: Ids): readonly Json[];
  /** Stores a new object with these fields, and answers with it. */
  keep(call: Call, parents: Ids, fields: Json): Json;
  /** Changes an object, and answers with it. */
  change(call: Call, ids: Ids, fields: Json): Behaviour;
}

export interface CollectionOptions {
  /** The kind of the parent object. */
  readonly parent?: Collection;
  /** The separator between prefix and random part of an id; default `_`. */
  readonly separator?: '_' | '-';
  /** Default 200. */
  readonly createdStatus?: number;
  /** Members that answers omit for some kinds. */
  readonly metadata?: boolean;
}

/**
 * A collection of objects that are created from JSON and can be read again. `prefix` is for new ids; an id in the
 * fields has precedence.
 */
export function collection(
  object: string,
  prefix: string,
  fields: (call: Call, ...parents: Ids) => Json,
  { parent, separator = '_', createdStatus = 200, metadata = true }: CollectionOptions = {},
): Collection {
  const storeOf = ({ stores }: Call) => stores.objects(object);
  const keyOf = (ids: Ids): string => ids.join('/');
  const self: Collection = {
    known: (call, ...ids) => {
      parent?.known(call, ...ids.slice(0, -1));
      const found = storeOf(call).get(keyOf(ids));
      if (!found) throw new Refused(notFound(`No ${object} found with id '${ids.at(-1)}'.`));
      return found;
    },
    all: (call, ...parents) => {
      if (parent === undefined) return storeOf(call).all();
      parent.known(call, ...parents);
      return storeOf(call).below(`${keyOf(parents)}/`);
    },
    keep: (call, parents, own) => {
      const created = {
        id: `${prefix}${separator}${randomBytes(18).toString('base64url').replaceAll(/[-_]/g, '0')}`,
        object,
        created_at: nowSeconds(),
        ...(metadata ? { metadata: call.json.metadata ?? null } : {}),
        ...own,
      };
      return storeOf(call).set(keyOf([...parents, String(created.id)]), created);
    },
    create: (call, ...parents) => {
      parent?.known(call, ...parents);
      return { status: createdStatus, body: self.keep(call, parents, fields(call, ...parents)) };
    },
    list: (call, ...parents) => page(self.all(call, ...parents)),
    get: (call, ...ids) => ({ body: self.known(call, ...ids) }),
    remove: (call, ...ids) => {
      self.known(call, ...ids);
      storeOf(call).delete(keyOf(ids));
      return { body: { id: ids.at(-1), object: `${object}.deleted`, deleted: true } };
    },
    change: (call, ids, changed) => ({
      body: storeOf(call).set(keyOf(ids), { ...self.known(call, ...ids), ...changed }),
    }),
  };
  return self;
}
