import { once } from 'node:events';
import { Option } from 'commander';
import {
  KEPT_REQUESTS,
  keyOf,
  MOCK_CLIENT,
  nameOf,
  portRangeProblem,
  startMocks,
  throttling,
} from '../mock/start.ts';
import type { Command } from './command.ts';
import { notEmpty, portNumber, wholeNumber } from './options.ts';
import { EXIT, type Terminal } from './terminal.ts';

interface MockCommandOptions {
  readonly backends: number;
  /** Port of the first mock; 0 for any free ports. */
  readonly port: number;
  readonly host: string;
  /** Tokens per minute of each deployment of each resource; undefined: no limit. */
  readonly tpm?: number;
}

export const command: Command<MockCommandOptions> = {
  description: 'Run mock Azure OpenAI resources, and print the settings for a gateway that uses them.',
  examples: [
    'genai-gateway mock --host 0.0.0.0 > mock.env',
    'genai-gateway mock --backends 3 --port 9000 --tpm 10000',
  ],
  options: [
    new Option('--backends <count>', 'number of mock resources').argParser(wholeNumber(1, 100)).default(2),
    new Option('--port <port>', 'port of the first mock; the others use the next ports; 0 for any free port')
      .argParser(portNumber)
      .default(8000),
    new Option('--host <host>', 'address to listen on; 0.0.0.0 for a gateway in a container')
      .argParser(notEmpty)
      .default('127.0.0.1'),
    new Option('--tpm <tokens>', 'tokens per minute of each deployment of each resource').argParser(
      wholeNumber(1),
    ),
  ],
  run: ({ options, terminal }) => mock(options, terminal),
};

const EVERYWHERE = ['0.0.0.0', '::'];

/** Runs the mock resources until SIGINT or SIGTERM. Each has its own state. */
async function mock(options: MockCommandOptions, terminal: Terminal): Promise<number> {
  const { backends: count, port, host, tpm } = options;
  const tooMany = portRangeProblem(count, port);
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
  // On stderr, because stdout is often redirected into an env file.
  terminal.err(`${count} mock resource${count === 1 ? '' : 's'} on ${host}. Press Ctrl-C to stop.\n`);
  const { HOST } = await import('./local/docker.ts');
  const { isOnLoopback } = await import('./local/settings.ts');
  const isEverywhere = EVERYWHERE.includes(host);
  const urlsAt = (name: string) =>
    started.backends.map(({ url, port }) => (isEverywhere ? `http://${name}:${port}` : url));
  const endpoints = urlsAt(HOST);
  const [ownUrl = ''] = urlsAt('localhost');
  let note = isOnLoopback(ownUrl) ? FOR_THIS_MACHINE : '';
  if (isEverywhere) note = forContainers(HOST);
  terminal.out(settings(endpoints, ownUrl, note));
  await Promise.race(['SIGINT', 'SIGTERM'].map((signal) => once(process, signal)));
  await started.stop();
  return EXIT.ok;
}

/** Why a gateway in a container cannot use the printed endpoints. */
const FOR_THIS_MACHINE = `# A gateway in a container (\`up\`, the image) cannot reach these loopback addresses. For it, run this command with --host 0.0.0.0.
`;

/** What makes the printed endpoints work. */
const forContainers = (name: string): string =>
  `# ${name} is this machine, for a gateway in a container. \`up\` and Docker Desktop define this name.
# For \`docker run\` on Linux, add --add-host ${name}:host-gateway.
`;

/**
 * An env file for a gateway in front of the mocks. Instructions for the user are comments in it.
 * @param ownUrl the first mock, as this machine reaches it
 * @param note comments about the endpoints
 */
function settings(endpoints: readonly string[], ownUrl: string, note: string): string {
  const lines = endpoints.map(
    (endpoint, index) =>
      `AZURE_OPENAI_ENDPOINT_${index}=${endpoint}\nAZURE_OPENAI_KEY_${index}=${keyOf(index)}\nAZURE_OPENAI_NAME_${index}=${nameOf(index)}\n`,
  );
  return `${note}${lines.join('')}GATEWAY_CLIENT_NAME_0=${MOCK_CLIENT.name}
GATEWAY_CLIENT_KEY_0=${MOCK_CLIENT.key}

# These resources accept every deployment name, and run until SIGINT (Ctrl-C) or SIGTERM.
# To make the first mock answer its next two chats with 429:
#   curl ${ownUrl}/++/script -d '${throttling(2, 5)}'
# To see the last ${KEPT_REQUESTS} requests that it received, without credentials:
#   curl ${ownUrl}/++/requests
# PATCH /++/config sets latency and limits. POST /++/reset removes all state, POST /++/reset?scripts only the scripts.
`;
}
