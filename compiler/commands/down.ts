import { Option } from 'commander';
import type { Command } from './command.ts';
import { MAX_PORT, wholeNumber } from './options.ts';

interface DownOptions {
  /** Port of one gateway; undefined: all gateways. */
  readonly port?: number;
}

export const command: Command<DownOptions> = {
  description:
    'Remove the containers and folders of up: those left after a crash, and those still running, which are stopped.',
  examples: ['genai-gateway down', 'genai-gateway down --port 9081'],
  options: [new Option('--port <port>', 'only the gateway on this port').argParser(wholeNumber(1, MAX_PORT))],
  run: async ({ options, terminal }) => {
    const { removeLeftovers } = await import('./local/leftovers.ts');
    return removeLeftovers(options.port, terminal);
  },
};
