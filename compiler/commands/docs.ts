import { Argument } from 'commander';
import type { Command } from './command.ts';
import { EXIT } from './terminal.ts';

/** Each page is loaded only when it is printed. */
const PAGES = {
  reference: async () => (await import('../settings/reference.ts')).settingsReference(),
  'env-example': async () => (await import('../settings/reference.ts')).envExample(),
  'client-errors': async () => (await import('../client-errors.ts')).clientErrorsReference(),
  diagnostics: async () => (await import('../diagnostics/descriptions.ts')).diagnosticsReference(),
};

export const command: Command<unknown, keyof typeof PAGES> = {
  description:
    'Print a reference page: all settings as Markdown or as an env file, all diagnostics, or all errors that clients get.',
  examples: [
    'genai-gateway docs > settings.md',
    'genai-gateway docs diagnostics > diagnostics.md',
    'genai-gateway docs client-errors > client-errors.md',
    'genai-gateway docs env-example > .env.example',
  ],
  argument: new Argument('[page]', 'which page').choices(Object.keys(PAGES)).default('reference'),
  run: async ({ argument, terminal }) => {
    terminal.out(await PAGES[argument]());
    return EXIT.ok;
  },
};
