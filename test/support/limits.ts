/** What tests of limits share: clients by the dozen, requests of a known cost, and what a refusal looks like. */
import { expect } from 'vitest';
import type { Gateway } from './gateway.ts';
import type { Behaviour } from './mock-azure-openai/server.ts';
import { calls } from './traffic.ts';

export const keyOf = (client: string): string => `key-of-${client}-0123456789`;

/** Settings for clients by these names, each with what further fields it has. */
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

/** A completion that says it cost so much: by default three tokens in and seven out. */
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

/** A chat of a client, and its answer with the body read. */
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

/** How many of so many requests, one after another, are let through. */
export async function admitted(gateway: Gateway, count: number, shot: Shot = {}): Promise<number> {
  let passed = 0;
  for (let index = 0; index < count; index++) if ((await shoot(gateway, shot)).status === 200) passed++;
  return passed;
}

export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly lane: 'high' | 'low';
  /** The longest that it can take until the limit lets a request pass. */
  readonly withinMs: number;
}

/** That the next request is refused so, in whole, and that no backend hears of it. Gives the milliseconds it is to wait. */
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

/** The limits that an answer tells of, by their names. */
export const limitsOf = (headers: Headers): string[] =>
  [...headers.keys()].flatMap((name) => /^x-(.+)-ratelimit-limit$/.exec(name)?.[1] ?? []).toSorted();
