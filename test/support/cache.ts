/** Helpers for tests of the answer cache. */
import type { StreamEvent } from '../../compiler/mock/server.ts';
import type { Gateway } from './gateway.ts';
import { calls, chatText, chatUsage, Wire } from './traffic.ts';

/** The settings of most tests: a small cache with answers that outlive a test. */
export const CACHE = {
  ENABLE_CACHE: 'true',
  CACHE_TTL: '10m',
  CACHE_MEMORY: '8m',
  CACHE_MAX_ENTRY_SIZE: '256k',
};

/** The number of calls of all backends. */
export const callsOf = (gateway: Gateway): number => calls(gateway).reduce((sum, each) => sum + each, 0);

let questions = 0;

/** A body of a chat that no other test has sent. */
export const question = (more: object = {}) => ({
  model: 'gpt-4o',
  messages: [{ role: 'user', content: `question ${++questions} of ${process.pid}` }],
  ...more,
});

export interface Asked {
  readonly status: number;
  /** `x-gateway-cache` */
  readonly result: string | null;
  readonly text: string;
  readonly headers: Headers;
}

export const CHAT = '/openai/v1/chat/completions';

/** Sends a request and reads its answer. */
export async function ask(
  gateway: Gateway,
  body: object | string,
  headers: Readonly<Record<string, string>> = {},
  path = CHAT,
): Promise<Asked> {
  const response = await gateway.fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return {
    status: response.status,
    result: response.headers.get('x-gateway-cache'),
    text: await response.text(),
    headers: response.headers,
  };
}

/** A request on a connection of its own, whose answer can be read while it arrives. */
export const wire = (gateway: Gateway, body: object, headers: Readonly<Record<string, string>> = {}): Wire =>
  new Wire(gateway, CHAT, { body: JSON.stringify(body), headers });

export const resultOf = ({ head }: { readonly head: string }): string | undefined =>
  /^x-gateway-cache: (\w+)/im.exec(head)?.[1];

/** Events with numbers, then usage. */
export function numbered(count: number, length = 0): StreamEvent[] {
  const words = Array.from({ length: count }, (_, index) => chatText(`<${index}>${'x'.repeat(length)}`));
  return [...words, chatUsage(11, 7)];
}

/** The most bytes that a container's processes have used of a shared memory, by its metric. */
export function sample(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  let sum = 0;
  for (const line of text.split('\n')) {
    const [, found = '', list = '', value = ''] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (found === name && Object.entries(labels).every(([key, each]) => list.includes(`${key}="${each}"`)))
      sum += Number(value);
  }
  return sum;
}
