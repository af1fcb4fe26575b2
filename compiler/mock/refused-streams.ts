/** Streams that fail after status 200. */
import { randomBytes } from 'node:crypto';
import type { Behaviour, StreamEvent } from './behaviour.ts';

export interface ThrottledStream {
  readonly api?: 'chat' | 'responses';
  /** The order of error events of responses; both orders occur. Chat has only one event. */
  readonly order?: 'created-error-failed' | 'created-failed-error' | 'error-only';
  /** Whether the error is in `error`, as Azure sends it, or directly in the event, as OpenAI documents it. */
  readonly nested?: boolean;
  /** Minimum size of response.created in bytes; the real event repeats instructions and tools. */
  readonly createdBytes?: number;
  /** In seconds, as the Retry-After header of the 200. */
  readonly retryAfter?: number;
  readonly deployment?: string;
  readonly region?: string;
}

/** The limit is exhausted, but Azure reports it only in the stream, after status 200. */
export function throttledStream({
  api = 'responses',
  order = 'created-error-failed',
  nested = true,
  createdBytes = 0,
  retryAfter,
  deployment = 'gpt-4o-mini',
  region = 'Sweden Central',
}: ThrottledStream = {}): Behaviour {
  const message = `Your requests to ${deployment} for ${deployment} in ${region} have exceeded rate limit.`;
  const headers = {
    'x-ratelimit-remaining-tokens': '-1460',
    ...(retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) }),
  };
  const details = { code: 'rate_limit_exceeded', message, param: null };
  const nestedError = { type: 'too_many_requests', headers: { 'x-ms-fe-error': 'true' }, ...details };
  if (api === 'chat') {
    const error = nested ? { error: nestedError } : { type: 'error', ...details };
    return { status: 200, headers, events: [{ data: error }], done: false };
  }
  const error = (number: number): StreamEvent => ({
    event: 'error',
    data: {
      type: 'error',
      ...(nested ? { error: nestedError } : details),
      sequence_number: number,
    },
  });
  const response = refusedResponse(deployment);
  const created = createdEvent(response, createdBytes);
  const failed = (number: number, reason: object | null) => failedEvent(response, number, reason);
  const orders: Record<NonNullable<ThrottledStream['order']>, readonly StreamEvent[]> = {
    'created-error-failed': [created, error(1), failed(2, { code: details.code, message })],
    'created-failed-error': [created, failed(1, null), error(2)],
    'error-only': [error(0)],
  };
  const events = orders[order];
  if (!events)
    throw new RangeError(`order is ${String(order)}, not one of ${Object.keys(orders).join(', ')}`);
  return { status: 200, headers, events, done: false };
}

/** A response ends early because of an error of the service. */
export function failedStream({
  deployment = 'gpt-4o-mini',
}: {
  readonly deployment?: string;
} = {}): Behaviour {
  const response = refusedResponse(deployment);
  const reason = {
    code: 'server_error',
    message: 'An error occurred while processing your request. You can retry your request.',
  };
  return {
    status: 200,
    events: [createdEvent(response, 0), failedEvent(response, 1, reason)],
    done: false,
  };
}

const refusedResponse = (deployment: string) => ({
  id: `resp_${randomBytes(24).toString('hex')}`,
  object: 'response',
  created_at: Math.floor(Date.now() / 1000),
  status: 'in_progress',
  background: false,
  content_filters: null,
  error: null,
  incomplete_details: null,
  instructions: '',
  model: deployment,
  output: [],
  usage: null,
});

type RefusedResponse = ReturnType<typeof refusedResponse>;

function createdEvent(response: RefusedResponse, bytes: number): StreamEvent {
  const data = (instructions: string) =>
    JSON.stringify({ type: 'response.created', sequence_number: 0, response: { ...response, instructions } });
  return { event: 'response.created', data: data('x'.repeat(Math.max(0, bytes - data('').length))) };
}

const failedEvent = (response: RefusedResponse, number: number, error: object | null): StreamEvent => ({
  event: 'response.failed',
  data: {
    type: 'response.failed',
    sequence_number: number,
    response: { ...response, status: 'failed', error },
  },
});
