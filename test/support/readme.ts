import { textOf } from './repository.ts';

export const README = textOf('README.md');

/** README.md and the other pages whose commands and settings are run, in the order in which they run. */
const PAGES = [README, textOf('docs/commands.md'), textOf('docs/recipes.md')];

/** The code blocks of a page with exactly this info string, in order. */
export const blocksOf = (page: string, info: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${info}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text);

/** The code blocks of README.md, docs/commands.md and docs/recipes.md. */
export const blocks = (info: string): string[] => PAGES.flatMap((page) => blocksOf(page, info));

/** The text of an example with endpoints and keys as a reader fills them in. */
export const withBackends = (
  example: string,
  backend: (index: number) => { readonly endpoint: string; readonly key: string },
): string =>
  example
    .replace(
      /^(AZURE_OPENAI_ENDPOINT_(\d+)=).*$/gm,
      (_, name, index) => name + backend(Number(index)).endpoint,
    )
    .replace(/^(AZURE_OPENAI_KEY_(\d+)=).*$/gm, (_, name, index) => name + backend(Number(index)).key);
