import { randomBytes } from 'node:crypto';
import { invalidEncryptedContent, invalidRequest, unknownParameter } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, count, type Json, nowSeconds, Refused, required } from './call.ts';
import { listOf, notFound, page } from './collections.ts';
import { responseEvents } from './response-events.ts';
import type { StoredResponse } from './store.ts';
import {
  charactersOf,
  completionText,
  DEFAULT_COMPLETION_TOKENS,
  MAX_COMPLETION_TOKENS,
  tokensOf,
} from './text.ts';

const ID_BYTES = 24;
const newId = (prefix: string): string => `${prefix}_${randomBytes(ID_BYTES).toString('hex')}`;

/** Reasoning that only this resource can read again; others answer 400. */
const encrypted = (seal: string): string =>
  `gAAAAA${Buffer.from(`${seal}${randomBytes(48).toString('hex')}`).toString('base64url')}`;

export function createResponse(call: Call): Behaviour {
  const { json, stores } = call;
  const options = json.stream_options as Json | undefined;
  if (options?.include_usage !== undefined)
    throw new Refused(unknownParameter('stream_options.include_usage'));
  const input = inputItems(json.input);
  requireReadable(input, stores.seal);
  const previous = json.previous_response_id;
  if (typeof previous === 'string' && !stores.responses.get(previous)) {
    throw new Refused(
      invalidRequest(
        `Previous response with id '${previous}' not found.`,
        'previous_response_id',
        'previous_response_not_found',
      ),
    );
  }
  const conversation = conversationOf(call);
  const tokens = count(json, 'max_output_tokens', DEFAULT_COMPLETION_TOKENS, MAX_COMPLETION_TOKENS);
  const inputTokens = tokensOf(charactersOf(json.instructions) + charactersOf(json.input));
  const usage = {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + tokens,
  };
  const include = Array.isArray(json.include) ? json.include : [];
  const reasoning = {
    id: newId('rs'),
    type: 'reasoning',
    summary: [],
    ...(include.includes('reasoning.encrypted_content') ? { encrypted_content: encrypted(stores.seal) } : {}),
  };
  const message = {
    id: newId('msg'),
    type: 'message',
    status: 'completed',
    content: [{ type: 'output_text', annotations: [], logprobs: [], text: completionText(tokens) }],
    role: 'assistant',
  };
  const response = {
    ...skeleton(call, conversation?.id),
    status: 'completed',
    output: [reasoning, message],
    usage,
  };
  const waiting = json.background === true && json.stream !== true;
  if (json.store !== false) {
    stores.responses.set(response.id, {
      response: waiting ? { ...response, status: 'queued' } : response,
      input,
    });
  }
  conversation?.items.push(...input, reasoning, message);
  if (waiting) return { body: { ...response, status: 'queued', output: [], usage: null } };
  return json.stream === true
    ? { events: responseEvents({ response, reasoning, message, tokens }) }
    : { body: response };
}

/** What stands in a response from its beginning. */
function skeleton({ json, deployment }: Call, conversation: string | undefined) {
  return {
    id: newId('resp'),
    object: 'response',
    created_at: nowSeconds(),
    status: 'in_progress',
    background: json.background === true,
    content_filters: null,
    ...(conversation === undefined ? {} : { conversation: { id: conversation } }),
    error: null,
    incomplete_details: null,
    instructions: json.instructions ?? null,
    max_output_tokens: json.max_output_tokens ?? null,
    metadata: json.metadata ?? {},
    model: deployment,
    output: [] as readonly Json[],
    parallel_tool_calls: true,
    previous_response_id: json.previous_response_id ?? null,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: json.store !== false,
    temperature: json.temperature ?? 1,
    text: { format: { type: 'text' } },
    tool_choice: json.tool_choice ?? 'auto',
    tools: json.tools ?? [],
    top_p: json.top_p ?? 1,
    truncation: 'disabled',
    usage: null as Json | null,
    user: json.user ?? null,
  };
}

/** Text is one message. */
export function inputItems(input: unknown): Json[] {
  const items = Array.isArray(input)
    ? (input as Json[])
    : typeof input === 'string'
      ? [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: input }] }]
      : [];
  return items.map((item) => ({ id: newId('msg'), type: 'message', ...item }));
}

function requireReadable(input: readonly Json[], seal: string): void {
  for (const { encrypted_content: content } of input) {
    if (typeof content !== 'string') continue;
    const text = Buffer.from(content.slice('gAAAAA'.length), 'base64url').toString('latin1');
    if (!text.startsWith(seal)) throw new Refused(invalidEncryptedContent());
  }
}

/** The conversation that the response is to go on with, by its id or as an object that has it. */
function conversationOf({ json, stores }: Call): { readonly id: string; readonly items: Json[] } | undefined {
  const given = json.conversation;
  if (given === undefined || given === null) return undefined;
  const id = typeof given === 'object' ? String((given as Json).id) : String(given);
  const known = stores.conversations.get(id);
  if (!known) throw new Refused(notFound(`Conversation with id '${id}' not found.`));
  return { id, items: known.items };
}

const stored = ({ stores }: Call, id: string): StoredResponse => {
  const found = stores.responses.get(id);
  if (!found) throw new Refused(notFound(`Response with id '${id}' not found.`));
  return found;
};

/** A background response is completed when it is looked at. */
export function getResponse(call: Call, id: string): Behaviour {
  const { response, input } = stored(call, id);
  if (response.status !== 'queued') return { body: response };
  const completed = { ...response, status: 'completed' };
  call.stores.responses.set(id, { response: completed, input });
  return { body: completed };
}

export function deleteResponse(call: Call, id: string): Behaviour {
  stored(call, id);
  call.stores.responses.delete(id);
  return { body: { id, object: 'response', deleted: true } };
}

export function cancelResponse(call: Call, id: string): Behaviour {
  const { response, input } = stored(call, id);
  if (response.background !== true) {
    throw new Refused(invalidRequest('Cannot cancel a synchronous response.', null, null));
  }
  const cancelled =
    response.status === 'queued' ? { ...response, status: 'cancelled', output: [], usage: null } : response;
  call.stores.responses.set(id, { response: cancelled, input });
  return { body: cancelled };
}

export const responseInputItems = (call: Call, id: string): Behaviour => page(stored(call, id).input);

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
