import type { Behaviour } from './behaviour.ts';
import { type Call, nowSeconds, Refused, required } from './call.ts';
import { listOf, newId, notFound, page } from './collections.ts';
import { inputItems } from './response-input.ts';

const conversation = ({ stores }: Call, id: string) => {
  const found = stores.conversations.get(id);
  if (!found) throw new Refused(notFound(`Conversation with id '${id}' not found.`));
  return found;
};

export function createConversation({ json, stores }: Call): Behaviour {
  const id = newId('conv');
  const created = { id, object: 'conversation', created_at: nowSeconds(), metadata: json.metadata ?? {} };
  stores.conversations.set(id, { conversation: created, items: inputItems(json.items) });
  return { body: created };
}

export const getConversation = (call: Call, id: string): Behaviour => ({
  body: conversation(call, id).conversation,
});

export function updateConversation(call: Call, id: string): Behaviour {
  const known = conversation(call, id);
  const updated = { ...known.conversation, metadata: call.json.metadata ?? {} };
  call.stores.conversations.set(id, { ...known, conversation: updated });
  return { body: updated };
}

export function deleteConversation(call: Call, id: string): Behaviour {
  conversation(call, id);
  call.stores.conversations.delete(id);
  return { body: { id, object: 'conversation.deleted', deleted: true } };
}

export const conversationItems = (call: Call, id: string): Behaviour => page(conversation(call, id).items);

export function addConversationItems(call: Call, id: string): Behaviour {
  const added = inputItems(required(call.json, 'items'));
  conversation(call, id).items.push(...added);
  return { body: listOf(added) };
}

export function conversationItem(call: Call, id: string, itemId: string): Behaviour {
  const item = conversation(call, id).items.find((each) => each.id === itemId);
  if (!item) throw new Refused(notFound(`Item with id '${itemId}' not found.`));
  return { body: item };
}

export function deleteConversationItem(call: Call, id: string, itemId: string): Behaviour {
  const { conversation: known, items } = conversation(call, id);
  const index = items.findIndex((each) => each.id === itemId);
  if (index < 0) throw new Refused(notFound(`Item with id '${itemId}' not found.`));
  items.splice(index, 1);
  return { body: known };
}
