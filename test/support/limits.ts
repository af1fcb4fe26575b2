/** Helpers for tests of limits: many clients, requests with a known cost, and the shape of an error. */
import { expect } from 'vitest';
import type { Behaviour } from '../../compiler/mock/server.ts';
import type { Gateway } from './gateway.ts';
import { calls } from './traffic.ts';

export const keyOf = (client: string): string => `key-of-${client}-0123456789`;

/** Settings for clients by name, each with its other fields. */
export const clientSettings = (
  clients: Readonly<Record<string, Readonly<Record<string, string>>>>,
): Record<string, string> =>
  Object.fromEntries(
    Object.entries(clients).flatMap(([name, fields], index) =>
      Object.entries({ NAME: name, KEY: keyOf(name), ...fields }).map(([field, value]) => [
        `GATEWAY_CLIENT_${field}_${index}`,
        value,
      ]),
    ),
  );

/** A completion that reports this usage: three prompt tokens and seven completion tokens by default. */
export const costing = (prompt = 3, completion = 7): Behaviour => ({
  body: {
    choices: [{ index: 0, message: { role: 'assistant', content: 'Hello' }, finish_reason: 'stop' }],
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  },
});

export interface Shot {
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly client?: string;
  readonly body?: object;
}

/** Sends a chat of a client, and returns the answer with its body. */
export async function shoot(
  gateway: Gateway,
  { path = '/openai/v1/chat/completions', headers = {}, client, body = {} }: Shot = {},
): Promise<{ readonly status: number; readonly headers: Headers; readonly text: string }> {
  const answer = await gateway.fetch(path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(client === undefined ? {} : { 'api-key': keyOf(client) }),
      ...headers,
    },
    body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }], ...body }),
  });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

/** The number of requests that pass, sent one after another. */
export async function admitted(gateway: Gateway, count: number, shot: Shot = {}): Promise<number> {
  let passed = 0;
  for (let index = 0; index < count; index++) if ((await shoot(gateway, shot)).status === 200) passed++;
  return passed;
}

export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly lane: 'high' | 'low';
  /** The longest time until the limit lets a request pass. */
  readonly withinMs: number;
}

/** Checks that the next request gets exactly this error and reaches no backend. Returns the delay in milliseconds. */
export async function expectRefusal(gateway: Gateway, shot: Shot, refusal: Refusal): Promise<number> {
  const before = calls(gateway);
  const { status, headers, text } = await shoot(gateway, shot);
  expect(status).toBe(refusal.status);
  expect(JSON.parse(text)).toEqual({
    error: { message: refusal.message, type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' },
  });
  expect(headers.get('content-type')).toBe('application/json');
  expect(headers.get('x-gateway-ratelimit-lane')).toBe(refusal.lane);
  const wait = Number(headers.get('retry-after-ms'));
  expect(wait).toBeGreaterThan(0);
  expect(wait).toBeLessThanOrEqual(refusal.withinMs);
  expect(headers.get('retry-after')).toBe(String(Math.ceil(wait / 1000)));
  expect([...headers.keys()].filter((name) => name.includes('-any-'))).toEqual([]);
  expect(calls(gateway)).toEqual(before);
  return wait;
}

/** The names of the limits in an answer's headers. */
export const limitsOf = (headers: Headers): string[] =>
  [...headers.keys()].flatMap((name) => /^x-(.+)-ratelimit-limit$/.exec(name)?.[1] ?? []).toSorted();
