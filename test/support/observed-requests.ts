/** Requests to one gateway, one of each kind that an operator must be able to distinguish, each in a trace of its own. */
import { randomBytes } from 'node:crypto';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import type { Gateway, GatewayOptions } from './gateway.ts';
import { API_VERSION } from './gateway.ts';
import {
  backendOf,
  chatBody,
  chatPrelude,
  chatText,
  chatUsage,
  inOrder,
  NO_COOLDOWN,
  Wire,
} from './traffic.ts';

/** The beginning of every text that must not be in a log or a span. */
export const MARK = 'planted';
export const planted = (what: string): string => `${MARK}-${what}-0123456789`;

const LIMITED_KEY = planted('key-of-the-limited-client');
const PROMPT = planted('prompt');
const COMPLETION = planted('completion');
const backendKeys = [0, 1].map((index) => planted(`key-of-backend-${index}`));
const APP_KEY = planted('key-of-the-client-app');

/** The sample rate: half of all traces, and always those of `observe`. */
export const SAMPLE_RATE = 0.5;

export const observedGateway: GatewayOptions = {
  backends: backendKeys.map((key) => ({ keys: [key] })),
  settings: {
    ...inOrder(2),
    ...NO_COOLDOWN,
    // One worker, so that it is known which connections are reused.
    GATEWAY_WORKERS: '1',
    GATEWAY_CLIENT_KEY_0: APP_KEY,
    GATEWAY_CLIENT_NAME_1: 'limited',
    GATEWAY_CLIENT_KEY_1: LIMITED_KEY,
    GATEWAY_CLIENT_REQUESTS_PER_MINUTE_1: '1',
    GATEWAY_CLIENT_PRIORITY_1: 'low',
    AZURE_OPENAI_KEY_0: backendKeys[0] ?? '',
    AZURE_OPENAI_KEY_1: backendKeys[1] ?? '',
    AZURE_OPENAI_REGION_0: 'swedencentral',
    AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o,embedded',
    AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o=gpt-4o-west,embedded',
    AI_PROXY_READ_TIMEOUT: '1s',
    OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318',
    OTEL_SAMPLE_RATE: String(SAMPLE_RATE),
    OTEL_SERVICE_NAME: 'observed',
    SERVICE_VERSION: '1.2.3',
    ENVIRONMENT: 'test',
  },
};

export interface Observed {
  readonly traceId: string;
  /** The client's own span. */
  readonly parentId: string;
  /** The status that the client received, or 0 for none. */
  readonly status: number;
}

const CHAT = '/openai/v1/chat/completions';
const stream = { stream: true };
const withUsage = { stream: true, stream_options: { include_usage: true } };
const twoWords: Behaviour = { events: [chatPrelude, chatText(COMPLETION), chatText('b'), chatUsage(2, 9)] };
/** The first output comes late enough to show in the time to the first token. */
const slowly: Behaviour = { ...twoWords, gapMs: 60 };
const usage = {
  prompt_tokens: 20,
  completion_tokens: 10,
  total_tokens: 30,
  prompt_tokens_details: { cached_tokens: 16 },
  completion_tokens_details: { reasoning_tokens: 4 },
};
const completion = (more: object = {}): Behaviour => ({
  body: {
    id: 'chatcmpl-1',
    object: 'chat.completion',
    model: 'gpt-4o-2024-11-20',
    choices: [{ index: 0, message: { role: 'assistant', content: COMPLETION }, finish_reason: 'stop' }],
    usage,
    ...more,
  },
});

/** A trace that the gateway records at any rate except 0, or only at rate 1. */
export function newTrace(isChosen = true): { traceId: string; parentId: string } {
  const [first, last] = [randomBytes(8).toString('hex'), randomBytes(7).toString('hex')];
  return { traceId: `${first}${isChosen ? '00' : 'ff'}${last}`, parentId: randomBytes(8).toString('hex') };
}

/** Sends all requests, and returns when the last one has ended. */
export async function observe(gateway: Gateway): Promise<ReadonlyMap<string, Observed>> {
  const seen = new Map<string, Observed>();
  const [first, second] = [backendOf(gateway, 0), backendOf(gateway, 1)];
  const post = async (
    name: string,
    body: string | object,
    { path = CHAT, headers = {} }: { readonly path?: string; readonly headers?: object } = {},
  ) => {
    const { traceId, parentId } = newTrace();
    const answer = await fetch(`${gateway.url}${path}`, {
      method: 'POST',
      headers: {
        'api-key': APP_KEY,
        'content-type': 'application/json',
        cookie: `session=${planted('cookie')}`,
        traceparent: `00-${traceId}-${parentId}-01`,
        tracestate: `vendor=${planted('tracestate')}`,
        ...headers,
      },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await answer.text().catch(() => '');
    seen.set(name, { traceId, parentId, status: answer.status });
    return text;
  };
  const chat = (name: string, more: object = {}, options: Parameters<typeof post>[2] = {}) =>
    post(
      name,
      chatBody('gpt-4o', { messages: [{ role: 'user', content: PROMPT }], user: PROMPT, ...more }),
      options,
    );
  const wire = (name: string, more: object): Wire => {
    const { traceId, parentId } = newTrace();
    seen.set(name, { traceId, parentId, status: 0 });
    return new Wire(gateway, CHAT, {
      headers: { 'api-key': APP_KEY, traceparent: `00-${traceId}-${parentId}-01` },
      body: chatBody('gpt-4o', more),
    });
  };

  first.script(completion());
  await chat('success');
  first.script(slowly);
  await chat('stream', withUsage);
  await chat('stream without usage', stream);

  const causes: Readonly<Record<string, Behaviour>> = {
    throttled: answers.throttled(),
    'server error': { status: 503, body: { error: { message: PROMPT } } },
    'stale connection': { reset: 'before-headers' },
    timeout: { hang: true },
    reset: { reset: 'before-headers' },
    credentials: answers.badKey(),
    'broken stream': { events: [chatPrelude, chatText('x')], gapMs: 20, cutAfter: 1 },
    'refused stream': answers.throttledStream({ api: 'chat' }),
  };
  for (const [cause, behaviour] of Object.entries(causes)) {
    first.script(behaviour);
    second.script(cause.endsWith('stream') ? twoWords : completion());
    await chat(`failover: ${cause}`, cause.endsWith('stream') ? withUsage : {});
  }
  await first.stop();
  second.script(completion());
  await chat('failover: no connection');
  await first.restart();

  for (const mock of gateway.mocks) mock.script(answers.throttled());
  await chat('throttled by all');
  for (const mock of gateway.mocks) mock.script({ status: 500 });
  await chat('failed by all');
  await chat('first of the limited client', {}, { headers: { 'api-key': LIMITED_KEY } });
  await chat('throttled by the gateway', {}, { headers: { 'api-key': LIMITED_KEY } });
  await chat(
    'wrong keys',
    {},
    {
      headers: {
        authorization: `Bearer ${planted('bearer')}`,
        'api-key': planted('api-key'),
        'ocp-apim-subscription-key': planted('subscription-key'),
      },
    },
  );
  await post('unknown model', chatBody(planted('model')));
  first.script(answers.contentFiltered());
  await chat('refused by the backend');
  await chat(
    'keys in the query',
    {},
    {
      path: `/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}&api-key=${planted('query')}`,
    },
  );
  await chat(
    'a key as version',
    {},
    {
      path: `/openai/deployments/gpt-4o/chat/completions?api-version=${planted('version')}`,
    },
  );
  await post('embeddings', { model: 'embedded', input: PROMPT }, { path: '/openai/v1/embeddings' });
  const made = await post('response', { model: 'gpt-4o', input: PROMPT }, { path: '/openai/v1/responses' });
  await post(
    'next response',
    { model: 'gpt-4o', input: PROMPT, previous_response_id: (JSON.parse(made) as { id: string }).id },
    { path: '/openai/v1/responses' },
  );

  first.script({ events: Array.from({ length: 100 }, () => chatText('x')), gapMs: 50 });
  const inStream = wire('left in the stream', stream);
  await inStream.waitFor('"x"');
  inStream.leave();
  const before = first.requests.length;
  first.script({ delayMs: 900 });
  const waiting = wire('left before an answer', {});
  await first.waitForRequests(before + 1);
  waiting.leave();
  first.script({ ...twoWords, gapMs: 20, cutAfter: 3 });
  await wire('cut stream', stream).waitForClose();
  return seen;
}
