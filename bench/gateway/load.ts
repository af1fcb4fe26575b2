/** Requests on kept-alive connections, and what they show. */
import http from 'node:http';

export interface Sample {
  readonly status: number;
  /** To the end of the answer. */
  readonly milliseconds: number;
}

export interface Request {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Sends `count` requests over `connections`; `request` gives the one of a number. */
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

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);
