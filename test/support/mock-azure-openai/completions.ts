/** Chat completions, and the legacy ones. */
import { randomBytes } from 'node:crypto';
import { unknownParameter } from './answers.ts';
import type { Behaviour, StreamEvent } from './behaviour.ts';
import { type Call, count, type Json, nowSeconds, Refused, required } from './call.ts';
import {
  CONTENT_FILTER_RESULTS,
  charactersOf,
  completionText,
  DEFAULT_COMPLETION_TOKENS,
  MAX_COMPLETION_TOKENS,
  PROMPT_FILTER_RESULTS,
  tokenAt,
  tokensOf,
} from './text.ts';

/** The first version of the classic API that knows `stream_options`. */
const STREAM_OPTIONS_SINCE = '2024-09-01';
const ID_BYTES = 15;
const MAX_CHOICES = 128;

/** What a completion costs and says, whichever kind it is. */
interface Plan {
  readonly choices: number;
  readonly tokens: number;
  readonly finishReason: 'length' | 'stop';
  readonly usage: Json;
  readonly includeUsage: boolean;
  readonly common: Json;
}

/** `gpt-4o` is a deployment; answers name the model and version below it. */
const modelOf = (deployment: string): string => `${deployment}-2024-07-18`;

function planOf(call: Call, prompt: unknown, object: string, idPrefix: string): Plan {
  const { json, apiVersion, api } = call;
  const oldVersion = api === 'classic' && (apiVersion ?? '') < STREAM_OPTIONS_SINCE;
  if (json.stream_options !== undefined && oldVersion) throw new Refused(unknownParameter());
  const most = (name: string, byDefault: number) => count(json, name, byDefault, MAX_COMPLETION_TOKENS);
  const asked = most('max_completion_tokens', most('max_tokens', 0));
  const tokens = asked || DEFAULT_COMPLETION_TOKENS;
  const choices = count(json, 'n', 1, MAX_CHOICES);
  const promptTokens = tokensOf(charactersOf(prompt));
  const completionTokens = tokens * choices;
  const chat = object === 'chat.completion';
  return {
    choices,
    tokens,
    finishReason: asked ? 'length' : 'stop',
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
      object: chat && json.stream === true ? 'chat.completion.chunk' : object,
    },
  };
}

export function chatCompletions(call: Call): Behaviour {
  const plan = planOf(call, required(call.json, 'messages'), 'chat.completion', 'chatcmpl');
  if (call.json.stream === true) {
    return { events: streamOf(plan, chatChunks(plan)) };
  }
  const content = completionText(plan.tokens);
  return {
    body: {
      choices: Array.from({ length: plan.choices }, (_, index) => ({
        content_filter_results: CONTENT_FILTER_RESULTS,
        finish_reason: plan.finishReason,
        index,
        logprobs: null,
        message: { annotations: [], content, refusal: null, role: 'assistant' },
      })),
      ...plan.common,
      prompt_filter_results: PROMPT_FILTER_RESULTS,
      usage: plan.usage,
    },
  };
}

export function legacyCompletions(call: Call): Behaviour {
  const plan = planOf(call, call.json.prompt ?? '', 'text_completion', 'cmpl');
  if (call.json.stream === true) return { events: streamOf(plan, textChunks(plan)) };
  const text = completionText(plan.tokens);
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

/** The first event tells of the prompt and has no id or model; the last one, where it was asked for, of the usage. */
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
/** Some of it is at the end of each chunk, so that nobody learns the length of a token from that of a packet. */
const OBFUSCATION = randomBytes(48).toString('base64url');

/** Written together from text: a load test has a great many of these. */
function* chatChunks(plan: Plan): Generator<StreamEvent> {
  const usage = plan.includeUsage ? ',"usage":null' : '';
  const common = `${JSON.stringify(plan.common).slice(1, -1)}${usage}`;
  const chunk = (choice: string, index = 0) => ({
    data: `{"choices":[{${choice}}],"obfuscation":"${OBFUSCATION.slice(index % 32, 32)}",${common}}`,
  });
  for (let choice = 0; choice < plan.choices; choice++) {
    const at = `"index":${choice},"logprobs":null`;
    yield chunk(
      `"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},${NO_FINISH},${at}`,
    );
    for (let index = 0; index < plan.tokens; index++) {
      yield chunk(`${FILTERED},"delta":{"content":"${tokenAt(index)}"},${NO_FINISH},${at}`, index);
    }
    yield chunk(`"content_filter_results":{},"delta":{},"finish_reason":"${plan.finishReason}",${at}`);
  }
}

function* textChunks(plan: Plan): Generator<StreamEvent> {
  const common = JSON.stringify(plan.common).slice(1, -1);
  for (let choice = 0; choice < plan.choices; choice++) {
    const at = `"index":${choice},"logprobs":null`;
    for (let index = 0; index < plan.tokens; index++) {
      yield { data: `{"choices":[{${FILTERED},"text":"${tokenAt(index)}",${NO_FINISH},${at}}],${common}}` };
    }
    yield { data: `{"choices":[{"text":"","finish_reason":"${plan.finishReason}",${at}}],${common}}` };
  }
}
