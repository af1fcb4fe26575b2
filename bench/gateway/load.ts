/** Sends requests over kept-alive connections and measures them. */
import http from 'node:http';

export interface Sample {
  readonly status: number;
  /** Milliseconds to the end of the answer. */
  readonly milliseconds: number;
}

export interface Request {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Sends `count` requests over `connections`; `request` returns the request with a given number. */
export async function send(
  count: number,
  connections: number,
  request: (index: number) => Request,
): Promise<Sample[]> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  const samples: Sample[] = [];
  let next = 0;
  const one = async () => {
    while (next < count) samples.push(await exchange(agent, request(next++)));
  };
  await Promise.all(Array.from({ length: connections }, one));
  agent.destroy();
  return samples;
}

function exchange(agent: http.Agent, { url, headers, body }: Request): Promise<Sample> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const request = http.request(url, { agent, method: 'POST', headers }, (response) => {
      response.resume();
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, milliseconds: performance.now() - started }),
      );
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** A chat request of about `size` bytes, its model last, as SDKs write it. */
export function chatBody(size: number, more: object = {}): string {
  const content = 'lorem ipsum dolor '.repeat(Math.ceil(size / 18)).slice(0, Math.max(0, size - 90));
  return JSON.stringify({ messages: [{ role: 'user', content }], ...more, model: 'gpt-4o' });
}

/** @throws if any request had another status */
export function expectAll(samples: readonly Sample[], status: number): void {
  const other = samples.find((each) => each.status !== status);
  if (other) throw new Error(`an answer with status ${other.status} instead of ${status}`);
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);
