import { Option } from 'commander';
import type { Command } from './command.ts';
import type { UpOptions } from './local/prepare.ts';
import { IMAGE, portNumber, settingsOptions } from './options.ts';

export const command: Command<UpOptions> = {
  description: 'Run the gateway in Docker on this machine, and print its log until Ctrl-C.',
  examples: [
    'genai-gateway up --mock',
    'genai-gateway up -e .env',
    'genai-gateway up -e .env --mock --port 9081 --mock-port 8100',
  ],
  options: [
    new Option('--mock', 'replace the backends by mock Azure OpenAI resources; without backends, start two'),
    new Option('--port <port>', 'port of the gateway on 127.0.0.1; 0 for any free port')
      .argParser(portNumber)
      .default(9080),
    new Option('--metrics-port <port>', 'port of its metrics on 127.0.0.1; 0 for any free port')
      .argParser(portNumber)
      .default(0),
    new Option(
      '--mock-port <port>',
      'port of the first mock; the others use the next ports; 0 for any free port',
    )
      .argParser(portNumber)
      .default(8000),
    IMAGE,
    ...settingsOptions(),
  ],
  run: async ({ options, terminal }) => {
    const { up } = await import('./local/gateway.ts');
    return up(options, terminal);
  },
};
