/** What files, batches and the like have in common. */
import { randomBytes } from 'node:crypto';
import { invalidRequest } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, Refused } from './call.ts';
import type { Store } from './store.ts';

/** Nothing of this id here. */
export const notFound = (message: string): Behaviour => ({
  ...invalidRequest(message, null, null),
  status: 404,
});

export const listOf = (data: readonly Json[]): Json => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: false,
});

export const page = (data: readonly Json[]): Behaviour => ({ body: listOf(data) });

interface Collection {
  create(call: Call): Behaviour;
  list(call: Call): Behaviour;
  get(call: Call, id: string): Behaviour;
  remove(call: Call, id: string): Behaviour;
  /** Answers with the object after a change. */
  change(call: Call, id: string, fields: Json): Behaviour;
}

/** Objects that are made from JSON, kept, and shown again. `prefix` is that of their ids. */
export function collection(
  storeOf: (call: Call) => Store<Json>,
  object: string,
  prefix: string,
  fields: (call: Call) => Json,
): Collection {
  const known = (call: Call, id: string): Json => {
    const found = storeOf(call).get(id);
    if (!found) throw new Refused(notFound(`No ${object} found with id '${id}'.`));
    return found;
  };
  return {
    create: (call) => {
      const id = `${prefix}_${randomBytes(18).toString('base64url')}`;
      const created = {
        id,
        object,
        created_at: nowSeconds(),
        metadata: call.json.metadata ?? null,
        ...fields(call),
      };
      return { body: storeOf(call).set(id, created) };
    },
    list: (call) => page(storeOf(call).all()),
    get: (call, id) => ({ body: known(call, id) }),
    remove: (call, id) => {
      known(call, id);
      storeOf(call).delete(id);
      return { body: { id, object: `${object}.deleted`, deleted: true } };
    },
    change: (call, id, changed) => ({ body: storeOf(call).set(id, { ...known(call, id), ...changed }) }),
  };
}
