/** Chat completions that were created with `store`. */
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, Refused } from './call.ts';
import { notFound, page } from './collections.ts';
import type { StoredCompletion } from './store.ts';

export function keepCompletion(
  { json, stores }: Call,
  completion: Json & { readonly choices: unknown },
): void {
  const messages = Array.isArray(json.messages) ? (json.messages as readonly Json[]) : [];
  const id = String(completion.id);
  stores.completions.set(id, {
    completion: { ...completion, object: 'chat.completion', metadata: json.metadata ?? {} },
    messages: messages.map((message, index) => ({ id: `${id}-${index}`, ...message })),
  });
}

const known = ({ stores }: Call, id: string): StoredCompletion => {
  const found = stores.completions.get(id);
  if (!found) throw new Refused(notFound(`Chat completion with id '${id}' not found.`));
  return found;
};

export const listCompletions = ({ stores }: Call): Behaviour =>
  page(stores.completions.all().map(({ completion }) => completion));

export const getCompletion = (call: Call, id: string): Behaviour => ({ body: known(call, id).completion });

export function updateCompletion(call: Call, id: string): Behaviour {
  const found = known(call, id);
  const completion = { ...found.completion, metadata: call.json.metadata ?? {} };
  call.stores.completions.set(id, { ...found, completion });
  return { body: completion };
}

export function deleteCompletion(call: Call, id: string): Behaviour {
  known(call, id);
  call.stores.completions.delete(id);
  return { body: { id, object: 'chat.completion.deleted', deleted: true } };
}

export const completionMessages = (call: Call, id: string): Behaviour => page(known(call, id).messages);
