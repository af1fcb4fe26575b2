/** Mock resources for `genai-gateway mock` and `up --mock`, and their names and keys in settings. */
import { errnoText } from '../errno.ts';
import type { MockBackend } from './server.ts';

const MAX_PORT = 65_535;
/** The number of requests that each mock keeps. Keeping all would fill the memory of a mock that runs for days. */
export const KEPT_REQUESTS = 1000;

/** An error message if there are fewer than `count` ports from `port` upwards; else undefined. */
export const portRangeProblem = (count: number, port: number): string | undefined =>
  port + count - 1 > MAX_PORT ? `There are no ${count} ports left from port ${port} upwards.\n` : undefined;

interface StartedMocks {
  readonly backends: readonly MockBackend[];
  stop(): Promise<unknown>;
}

/**
 * Starts all mocks, or none.
 * @returns the running mocks, or a message for the user
 */
export async function startMocks(
  mocks: readonly { readonly name: string; readonly key: string; readonly port: number }[],
  { hosts, tpm }: { readonly hosts: readonly [string, ...string[]]; readonly tpm?: number | undefined },
): Promise<StartedMocks | { readonly problem: string }> {
  // A dynamic import, because the help and `up` without mocks use this file but need no server.
  const { startMockAzureOpenAI } = await import('./server.ts');
  const [host, ...alsoOn] = hosts;
  const backends: MockBackend[] = [];
  const stop = () => Promise.all(backends.map((backend) => backend.stop()));
  for (const { name, key, port } of mocks) {
    try {
      const backend = await startMockAzureOpenAI({
        name,
        host,
        alsoOn,
        port,
        keys: [key],
        config: {
          keepRequests: KEPT_REQUESTS,
          limits: tpm === undefined ? {} : { '*': { tpm } },
        },
      });
      backends.push(backend);
    } catch (error) {
      await stop();
      const { address = host } = error as NodeJS.ErrnoException & { readonly address?: string };
      return { problem: `The mock cannot listen on port ${port} of ${address}: ${reasonOf(error)}.\n` };
    }
  }
  return { backends, stop };
}

export const nameOf = (index: number): string => `mock-${index}`;
export const keyOf = (index: number): string => `key-of-mock-backend-${index}`;

function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return 'it is in use';
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return 'this machine does not have this address';
  return errnoText(error);
}

/** The client of a gateway in front of mocks. */
export const MOCK_CLIENT = { name: 'app', key: 'key-of-the-client-app' } as const;

/** The body for `/++/script` that throttles the next chats of a mock. */
export const throttling = (chats: number, seconds: number): string =>
  `{"answer": "throttled", "options": {"retryAfter": ${seconds}}, "path": "/chat/", "times": ${chats}}`;
