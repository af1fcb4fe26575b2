import { invalidRequest, unknownParameter } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, count, type Json, nowSeconds, Refused, required } from './call.ts';
import { newId, notFound, page } from './collections.ts';
import { type Ask, choiceOf, formatOf, type Generated, generated, textOf, toolsOf } from './generation.ts';
import { type OutputItem, responseEvents } from './response-events.ts';
import { encrypted, inputItems, requireReadable } from './response-input.ts';
import type { StoredResponse } from './store.ts';
import {
  charactersOf,
  DEFAULT_COMPLETION_TOKENS,
  MAX_COMPLETION_TOKENS,
  ROUTED_MODEL,
  ROUTER,
  tokensOf,
} from './text.ts';

/** The model in responses: the deployment, or the model that a router chose. */
const modelOf = (deployment: string): string => (deployment === ROUTER ? ROUTED_MODEL : deployment);

export function createResponse(call: Call): Behaviour {
  const { json, stores } = call;
  const options = json.stream_options as Json | undefined;
  if (options?.include_usage !== undefined)
    throw new Refused(unknownParameter('stream_options.include_usage'));
  const input = inputItems(json.input);
  requireReadable(input, stores.seal);
  requirePrevious(call);
  const conversation = conversationOf(call);
  const answer = generated(askOf(call, input));
  const inputTokens = inputTokensOf(json);
  const usage = {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: answer.tokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + answer.tokens,
  };
  const items = outputOf(call, answer, inputTokens);
  const output = items.map(({ item }) => item);
  // Text can be shortened to its limit; other output cannot.
  const isCut = answer.cut && (answer.calls.length > 0 || formatOfText(json) !== undefined);
  const response = {
    ...skeleton(call, conversation?.id),
    status: isCut ? 'incomplete' : 'completed',
    incomplete_details: isCut ? { reason: 'max_output_tokens' } : null,
    output,
    usage,
  };
  const waiting = json.background === true && json.stream !== true;
  if (json.store !== false) {
    stores.responses.set(response.id, {
      response: waiting ? { ...response, status: 'queued' } : response,
      input,
    });
  }
  conversation?.items.push(...input, ...output);
  if (waiting) return { body: { ...response, status: 'queued', output: [], usage: null } };
  return json.stream === true ? { events: responseEvents(response, items) } : { body: response };
}

/** The kind of answer: depends on the last item, the tools and the format. */
function askOf(call: Call, input: readonly Json[]): Ask {
  const { json } = call;
  const last = input.findLast(({ type, role }) =>
    type === 'message' ? role === 'user' : String(type).endsWith('_output'),
  );
  return {
    userText: last?.type === 'message' ? textOf(last.content) : '',
    ...choiceOf(json.tool_choice, toolsOf(json.tools)),
    parallel: json.parallel_tool_calls !== false,
    format: formatOfText(json),
    limit: count(json, 'max_output_tokens', 0, MAX_COMPLETION_TOKENS),
    answerTokens: call.answerTokens,
  };
}

const formatOfText = ({ text }: Json) => formatOf((text as Json | undefined)?.format, 'text.format');

const inputTokensOf = ({ instructions, input }: Json): number =>
  tokensOf(charactersOf(instructions) + charactersOf(input));

/** Output items: a compaction if the context is too large, then reasoning, then calls or a message. */
function outputOf({ json, stores }: Call, answer: Generated, inputTokens: number): readonly OutputItem[] {
  const managed = Array.isArray(json.context_management) ? (json.context_management as readonly Json[]) : [];
  const isLarge = managed.some(
    ({ type, compact_threshold: threshold }) =>
      type === 'compaction' && typeof threshold === 'number' && inputTokens >= threshold,
  );
  const include = Array.isArray(json.include) ? json.include : [];
  const reasoning = {
    id: newId('rs'),
    type: 'reasoning',
    summary: [],
    ...(include.includes('reasoning.encrypted_content') ? { encrypted_content: encrypted(stores.seal) } : {}),
  };
  const status = answer.cut && answer.calls.length > 0 ? 'incomplete' : 'completed';
  const calls = answer.calls.map(({ id, tool, input: pieces }) => ({
    item: {
      ...(tool.kind === 'custom'
        ? { id: newId('ctc'), type: 'custom_tool_call', input: pieces.join('') }
        : { id: newId('fc'), type: 'function_call', arguments: pieces.join('') }),
      status,
      call_id: id,
      name: tool.name,
    },
    pieces,
  }));
  const message = () => ({
    item: {
      id: newId('msg'),
      type: 'message',
      status: 'completed',
      content: [{ type: 'output_text', annotations: [], logprobs: [], text: answer.text.join('') }],
      role: 'assistant',
    },
    pieces: answer.text,
  });
  return [
    ...(isLarge ? [{ item: compaction(stores.seal), pieces: [] }] : []),
    { item: reasoning, pieces: [] },
    ...(calls.length > 0 ? calls : [message()]),
  ];
}

const compaction = (seal: string) => ({
  id: newId('cmp'),
  type: 'compaction',
  encrypted_content: encrypted(seal),
});

/** The user's messages, and all other items in one item that only this resource can read. */
export function compactResponse(call: Call): Behaviour {
  const { json, stores } = call;
  required(json, 'model');
  const input = inputItems(json.input);
  requireReadable(input, stores.seal);
  const previous = requirePrevious(call);
  const kept = [...(previous?.input ?? []), ...input].filter(({ role }) => role === 'user');
  const inputTokens = inputTokensOf(json);
  return {
    body: {
      id: newId('resp'),
      object: 'response.compaction',
      created_at: nowSeconds(),
      output: [...kept.map((item) => ({ status: 'completed', ...item })), compaction(stores.seal)],
      usage: {
        input_tokens: inputTokens,
        input_tokens_details: { cached_tokens: 0 },
        output_tokens: DEFAULT_COMPLETION_TOKENS,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: inputTokens + DEFAULT_COMPLETION_TOKENS,
      },
    },
  };
}

/** The number of input tokens of a response. */
export function countInputTokens(call: Call): Behaviour {
  const { json, stores } = call;
  requireReadable(inputItems(json.input), stores.seal);
  requirePrevious(call);
  conversationOf(call);
  return { body: { object: 'response.input_tokens', input_tokens: inputTokensOf(json) } };
}

function requirePrevious({ json, stores }: Call): StoredResponse | undefined {
  const previous = json.previous_response_id;
  if (typeof previous !== 'string') return undefined;
  const known = stores.responses.get(previous);
  if (known) return known;
  throw new Refused(
    invalidRequest(
      `Previous response with id '${previous}' not found.`,
      'previous_response_id',
      'previous_response_not_found',
    ),
  );
}

/** The fields that a response has from its start. */
function skeleton({ json, deployment }: Call, conversation: string | undefined) {
  const tier = json.service_tier;
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
    model: modelOf(deployment),
    output: [] as readonly Json[],
    parallel_tool_calls: true,
    previous_response_id: json.previous_response_id ?? null,
    reasoning: { effort: null, summary: null },
    service_tier: typeof tier === 'string' && tier !== 'auto' ? tier : 'default',
    store: json.store !== false,
    temperature: json.temperature ?? 1,
    text: json.text ?? { format: { type: 'text' } },
    tool_choice: json.tool_choice ?? 'auto',
    tools: json.tools ?? [],
    top_p: json.top_p ?? 1,
    truncation: 'disabled',
    usage: null as Json | null,
    user: json.user ?? null,
  };
}

/** The conversation that the response continues, by its id or as an object with it. */
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

/** A background response completes when it is read. */
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
