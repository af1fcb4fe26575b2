import type { Command } from './command.ts';
import { EXIT } from './terminal.ts';

export const command: Command = {
  description: 'Print the JSON Schema of the settings.',
  examples: ['genai-gateway schema > settings.schema.json'],
  run: async ({ terminal }) => {
    const { settingsJsonSchema } = await import('../settings/json-schema.ts');
    terminal.out(`${JSON.stringify(settingsJsonSchema(), null, 2)}\n`);
    return EXIT.ok;
  },
};
