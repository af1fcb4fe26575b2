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
  if (port + count - 1 > MAX_PORT) {
    terminal.err(`There are no ${count} ports from ${port} on.\n`);
    return EXIT.usage;
  }
  const backends: MockBackend[] = [];
  const stop = () => Promise.all(backends.map((backend) => backend.stop()));
  for (let index = 0; index < count; index++) {
    const backendPort = port === 0 ? 0 : port + index;
    try {
      const backend = await startMockAzureOpenAI({
        name: nameOf(index),
        host,
        port: backendPort,
        keys: [keyOf(index)],
        config: {
          // All that ever came would fill the memory of a mock that runs for days.
          keepRequests: KEPT_REQUESTS,
          limits: tpm === undefined ? {} : { '*': { tpm } },
        },
      });
      backends.push(backend);
    } catch (error) {
      await stop();
      terminal.err(`The mock cannot listen on port ${backendPort} of ${host}: ${reasonOf(error)}.\n`);
      return EXIT.unwritable;
    }
  }
  terminal.out(settings(backends.map((backend) => endpointOf(backend, host))));
  await Promise.race(['SIGINT', 'SIGTERM'].map((signal) => once(process, signal)));
  await stop();
  return EXIT.ok;
}

const nameOf = (index: number): string => `mock-${index}`;
const keyOf = (index: number): string => `key-of-mock-backend-${index}`;

/** Where a client on this machine finds it. */
const endpointOf = ({ url, port }: MockBackend, host: string): string =>
  EVERYWHERE.includes(host) ? `http://localhost:${port}` : url;

function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return 'it is in use';
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return 'this machine has no such address';
  return errnoText(error);
}

const CLIENT_NAME = 'app';
const CLIENT_KEY = 'key-of-the-client-app';

/** An env file of a whole gateway in front of the mocks: what is to be said besides stands in its comments. */
function settings(endpoints: readonly string[]): string {
  const [first = ''] = endpoints;
  const lines = endpoints.map(
    (endpoint, index) =>
      `AZURE_OPENAI_ENDPOINT_${index}=${endpoint}\nAZURE_OPENAI_KEY_${index}=${keyOf(index)}\nAZURE_OPENAI_NAME_${index}=${nameOf(index)}\n`,
  );
  return `${lines.join('')}GATEWAY_CLIENT_NAME_0=${CLIENT_NAME}
GATEWAY_CLIENT_KEY_0=${CLIENT_KEY}

# These resources answer every deployment until SIGINT (Ctrl-C) or SIGTERM. The next two chats of the first are throttled by:
#   curl ${first}/++/script -d '{"answer": "throttled", "options": {"retryAfter": 5}, "path": "/chat/", "times": 2}'
# And this shows the last ${KEPT_REQUESTS} requests that have reached it, without credentials:
#   curl ${first}/++/requests
# PATCH /++/config sets latency and limits, POST /++/reset forgets everything.
`;
}
