import { once } from 'node:events';
import { type MockBackend, startMockAzureOpenAI } from '../../test/support/mock-azure-openai/server.ts';
import { errnoText } from '../errno.ts';
import { EXIT, type Terminal } from './terminal.ts';

export interface MockCommandOptions {
  readonly backends: number;
  /** Of the first one; 0 for any that are free. */
  readonly port: number;
  readonly host: string;
  /** Of each deployment of each resource; undefined for no limit. */
  readonly tpm?: number;
}

const MAX_PORT = 65_535;
const KEPT_REQUESTS = 1000;
const EVERYWHERE = ['0.0.0.0', '::'];

/** Runs mock resources, each with a state of its own, until it is told to end by SIGINT or SIGTERM. */
export async function mock(options: MockCommandOptions, terminal: Terminal): Promise<number> {
  const { backends: count, port, host, tpm } = options;
  const tooMany = lackOfPorts(count, port);
  if (tooMany !== undefined) {
    terminal.err(tooMany);
    return EXIT.usage;
  }
  const mocks = Array.from({ length: count }, (_, index) => ({
    name: nameOf(index),
    key: keyOf(index),
    port: port === 0 ? 0 : port + index,
  }));
  const started = await startMocks(mocks, { hosts: [host], tpm });
  if ('problem' in started) {
    terminal.err(started.problem);
    return EXIT.unwritable;
  }
  terminal.out(settings(started.backends.map((backend) => endpointOf(backend, host))));
  await Promise.race(['SIGINT', 'SIGTERM'].map((signal) => once(process, signal)));
  await started.stop();
  return EXIT.ok;
}

/** That so many do not fit from this port on; undefined where they do. */
export const lackOfPorts = (count: number, port: number): string | undefined =>
  port + count - 1 > MAX_PORT ? `There are no ${count} ports from ${port} on.\n` : undefined;

interface StartedMocks {
  readonly backends: readonly MockBackend[];
  stop(): Promise<unknown>;
}

/** Starts all of them, or none and says why. */
export async function startMocks(
  mocks: readonly { readonly name: string; readonly key: string; readonly port: number }[],
  { hosts, tpm }: { readonly hosts: readonly [string, ...string[]]; readonly tpm?: number | undefined },
): Promise<StartedMocks | { readonly problem: string }> {
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
          // All that ever came would fill the memory of a mock that runs for days.
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

/** Where a client on this machine finds it. */
const endpointOf = ({ url, port }: MockBackend, host: string): string =>
  EVERYWHERE.includes(host) ? `http://localhost:${port}` : url;

function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return 'it is in use';
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return 'this machine has no such address';
  return errnoText(error);
}

/** Who may call a gateway in front of mocks. */
export const MOCK_CLIENT = { name: 'app', key: 'key-of-the-client-app' } as const;

/** For curl, as a body of `/++/script`: the next chats of a mock are throttled. */
export const throttling = (chats: number, seconds: number): string =>
  `{"answer": "throttled", "options": {"retryAfter": ${seconds}}, "path": "/chat/", "times": ${chats}}`;

/** An env file of a whole gateway in front of the mocks: what is to be said besides stands in its comments. */
function settings(endpoints: readonly string[]): string {
  const [first = ''] = endpoints;
  const lines = endpoints.map(
    (endpoint, index) =>
      `AZURE_OPENAI_ENDPOINT_${index}=${endpoint}\nAZURE_OPENAI_KEY_${index}=${keyOf(index)}\nAZURE_OPENAI_NAME_${index}=${nameOf(index)}\n`,
  );
  return `${lines.join('')}GATEWAY_CLIENT_NAME_0=${MOCK_CLIENT.name}
GATEWAY_CLIENT_KEY_0=${MOCK_CLIENT.key}

# These resources answer every deployment until SIGINT (Ctrl-C) or SIGTERM. The next two chats of the first are throttled by:
#   curl ${first}/++/script -d '${throttling(2, 5)}'
# And this shows the last ${KEPT_REQUESTS} requests that have reached it, without credentials:
#   curl ${first}/++/requests
# PATCH /++/config sets latency and limits, POST /++/reset forgets everything.
`;
}
