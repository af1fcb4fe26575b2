/** Chat completions and legacy completions. */
import { randomBytes } from 'node:crypto';
import { unknownParameter } from './answers.ts';
import type { Behaviour, StreamEvent } from './behaviour.ts';
import { type Call, count, type Json, nowSeconds, Refused, required } from './call.ts';
import {
  type Ask,
  choiceOf,
  formatOf,
  type Generated,
  generated,
  type ToolCall,
  textOf,
  toolsOf,
} from './generation.ts';
import { keepCompletion } from './stored-completions.ts';
import {
  CONTENT_FILTER_RESULTS,
  charactersOf,
  MAX_COMPLETION_TOKENS,
  PROMPT_FILTER_RESULTS,
  ROUTED_MODEL,
  ROUTER,
  tokensOf,
} from './text.ts';

/** The first version of the classic API that supports `stream_options`. */
const STREAM_OPTIONS_SINCE = '2024-09-01';
const ID_BYTES = 15;
const MAX_CHOICES = 128;

/** The tokens and the content of a completion of any kind. */
interface Plan {
  readonly choices: number;
  readonly output: Generated;
  readonly finishReason: 'length' | 'stop' | 'tool_calls';
  readonly usage: Json;
  readonly includeUsage: boolean;
  readonly common: Json;
}

/** The model in answers: the model and version of the deployment, or the model that a router chose. */
const modelOf = (deployment: string): string =>
  deployment === ROUTER ? ROUTED_MODEL : `${deployment}-2024-07-18`;

function planOf(call: Call, prompt: unknown, ask: Partial<Ask>, object: string, idPrefix: string): Plan {
  const { json, apiVersion, api } = call;
  const oldVersion = api === 'classic' && (apiVersion ?? '') < STREAM_OPTIONS_SINCE;
  if (json.stream_options !== undefined && oldVersion) throw new Refused(unknownParameter());
  const most = (name: string, byDefault: number) => count(json, name, byDefault, MAX_COMPLETION_TOKENS);
  const output = generated({
    userText: '',
    tools: [],
    choice: 'none',
    parallel: true,
    format: undefined,
    limit: most('max_completion_tokens', most('max_tokens', 0)),
    answerTokens: call.answerTokens,
    ...ask,
  });
  const choices = count(json, 'n', 1, MAX_CHOICES);
  const promptTokens = tokensOf(charactersOf(prompt));
  const completionTokens = output.tokens * choices;
  const chat = object === 'chat.completion';
  const tier = json.service_tier;
  return {
    choices,
    output,
    finishReason: output.cut ? 'length' : output.calls.length > 0 ? 'tool_calls' : 'stop',
    usage: {
      completion_tokens: completionTokens,
      ...(chat
        ? {
            completion_tokens_details: {
              accepted_prediction_tokens: 0,
              audio_tokens: 0,
              reasoning_tokens: 0,
              rejected_prediction_tokens: 0,
            },
          }
        : {}),
      prompt_tokens: promptTokens,
      ...(chat ? { prompt_tokens_details: { audio_tokens: 0, cached_tokens: 0 } } : {}),
      total_tokens: promptTokens + completionTokens,
    },
    includeUsage: (json.stream_options as Json | undefined)?.include_usage === true,
    common: {
      created: nowSeconds(),
      id: `${idPrefix}-${randomBytes(ID_BYTES).toString('base64url')}`,
      model: modelOf(call.deployment),
      ...(chat ? { system_fingerprint: 'fp_b705f0c291' } : {}),
      ...(chat && typeof tier === 'string' ? { service_tier: tier === 'auto' ? 'default' : tier } : {}),
      object: chat && json.stream === true ? 'chat.completion.chunk' : object,
    },
  };
}

/** The kind of answer: depends on the last message, the tools and the format. */
function askOf({ json }: Call): Partial<Ask> {
  const messages = Array.isArray(json.messages) ? (json.messages as readonly Json[]) : [];
  const last = messages.findLast(({ role }) => role === 'user' || role === 'tool' || role === 'function');
  return {
    userText: last?.role === 'user' ? textOf(last.content) : '',
    ...choiceOf(json.tool_choice, toolsOf(json.tools)),
    parallel: json.parallel_tool_calls !== false,
    format: formatOf(json.response_format, 'response_format'),
  };
}

const inputMember = ({ kind }: ToolCall['tool']): string => (kind === 'custom' ? 'input' : 'arguments');

const callOf = ({ id, tool }: ToolCall, input: string): Json => ({
  id,
  type: tool.kind,
  [tool.kind]: { name: tool.name, [inputMember(tool)]: input },
});

export function chatCompletions(call: Call): Behaviour {
  const messages = required(call.json, 'messages');
  const plan = planOf(call, messages, askOf(call), 'chat.completion', 'chatcmpl');
  const { text, calls } = plan.output;
  const message = {
    annotations: [],
    content: calls.length > 0 ? null : text.join(''),
    refusal: null,
    role: 'assistant',
    ...(calls.length > 0 ? { tool_calls: calls.map((each) => callOf(each, each.input.join(''))) } : {}),
  };
  const completion = {
    choices: Array.from({ length: plan.choices }, (_, index) => ({
      content_filter_results: CONTENT_FILTER_RESULTS,
      finish_reason: plan.finishReason,
      index,
      logprobs: null,
      message,
    })),
    ...plan.common,
    prompt_filter_results: PROMPT_FILTER_RESULTS,
    usage: plan.usage,
  };
  if (call.json.store === true) keepCompletion(call, completion);
  return call.json.stream === true ? { events: streamOf(plan, chatChunks(plan)) } : { body: completion };
}

export function legacyCompletions(call: Call): Behaviour {
  const plan = planOf(call, call.json.prompt ?? '', {}, 'text_completion', 'cmpl');
  if (call.json.stream === true) return { events: streamOf(plan, textChunks(plan)) };
  const text = plan.output.text.join('');
  return {
    body: {
      choices: Array.from({ length: plan.choices }, (_, index) => ({
        text,
        index,
        logprobs: null,
        finish_reason: plan.finishReason,
        content_filter_results: CONTENT_FILTER_RESULTS,
      })),
      ...plan.common,
      prompt_filter_results: PROMPT_FILTER_RESULTS,
      usage: plan.usage,
    },
  };
}

/** The first event is about the prompt and has no id or model. The last one contains the usage, if requested. */
function* streamOf(plan: Plan, chunks: Iterable<StreamEvent>): Generator<StreamEvent> {
  yield PROMPT_FILTER_EVENT;
  yield* chunks;
  if (plan.includeUsage) yield { data: { choices: [], ...plan.common, usage: plan.usage } };
}

const PROMPT_FILTER_EVENT: StreamEvent = {
  data: JSON.stringify({
    choices: [],
    created: 0,
    id: '',
    model: '',
    object: '',
    prompt_filter_results: PROMPT_FILTER_RESULTS,
  }),
};

const NO_FINISH = '"finish_reason":null';
const FILTERED = `"content_filter_results":${JSON.stringify(CONTENT_FILTER_RESULTS)}`;
/** Padding at the end of each chunk, which hides the length of tokens from observers of packets. */
const OBFUSCATION = randomBytes(48).toString('base64url');

/** Concatenated from text, because load tests create many of these. */
function* chatChunks(plan: Plan): Generator<StreamEvent> {
  const usage = plan.includeUsage ? ',"usage":null' : '';
  const common = `${JSON.stringify(plan.common).slice(1, -1)}${usage}`;
  const chunk = (choice: string, index = 0) => ({
    data: `{"choices":[{${choice}}],"obfuscation":"${OBFUSCATION.slice(index % 32, 32)}",${common}}`,
  });
  const { text, calls } = plan.output;
  const none = '"content_filter_results":{}';
  for (let choice = 0; choice < plan.choices; choice++) {
    const at = `"index":${choice},"logprobs":null`;
    const content = calls.length > 0 ? 'null' : '""';
    yield chunk(
      `${none},"delta":{"content":${content},"refusal":null,"role":"assistant"},${NO_FINISH},${at}`,
    );
    for (const [index, token] of text.entries()) {
      yield chunk(`${FILTERED},"delta":{"content":${JSON.stringify(token)}},${NO_FINISH},${at}`, index);
    }
    for (const delta of callDeltas(calls)) {
      yield chunk(`${none},"delta":${JSON.stringify({ tool_calls: [delta] })},${NO_FINISH},${at}`);
    }
    yield chunk(`${none},"delta":{},"finish_reason":"${plan.finishReason}",${at}`);
  }
}

/** The events of a tool call: its name first, then pieces of its arguments. */
function* callDeltas(calls: readonly ToolCall[]): Generator<Json> {
  for (const [index, call] of calls.entries()) {
    yield { index, ...callOf(call, '') };
    const { kind } = call.tool;
    for (const piece of call.input) yield { index, [kind]: { [inputMember(call.tool)]: piece } };
  }
}

function* textChunks(plan: Plan): Generator<StreamEvent> {
  const common = JSON.stringify(plan.common).slice(1, -1);
  for (let choice = 0; choice < plan.choices; choice++) {
    const at = `"index":${choice},"logprobs":null`;
    for (const token of plan.output.text) {
      yield {
        data: `{"choices":[{${FILTERED},"text":${JSON.stringify(token)},${NO_FINISH},${at}}],${common}}`,
      };
    }
    yield { data: `{"choices":[{"text":"","finish_reason":"${plan.finishReason}",${at}}],${common}}` };
  }
}
