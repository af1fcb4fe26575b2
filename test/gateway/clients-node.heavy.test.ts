/**
 * The newest OpenAI clients for Node, and LangChain, set up as in docs/clients.md, get every answer although a backend
 * fails.
 */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installed } from '../support/client-packages.ts';
import {
  allSaid,
  FAILURES,
  INSTALL_TIMEOUT_MS,
  inNewFolder,
  NODE_SNIPPETS,
  output,
  PROGRAM_TIMEOUT_MS,
  programWith,
  settingsOf,
  startWithFirst,
  steps,
  throughFailover,
} from '../support/clients.ts';
import type { Gateway } from '../support/gateway.ts';
import { cannotRun } from '../support/requirements.ts';

const skipped = cannotRun("OpenAI's clients for Node and LangChain", 'apisix', 'node_clients');

describe.skipIf(skipped)('clients for Node', () => {
  let gateway: Gateway;
  let packages: string;

  beforeAll(async () => {
    packages = installed('node_clients');
    gateway = await startWithFirst();
  }, INSTALL_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each(FAILURES)(
    'are answered by the second backend, streamed and not, while the first answers %i',
    async (...failure) => {
      const said = await throughFailover(gateway, failure, () =>
        inNewFolder((folder) => {
          symlinkSync(join(packages, 'node_modules'), join(folder, 'node_modules'));
          for (const [name, exported] of Object.entries(NODE_SNIPPETS)) {
            const settings = `${settingsOf(name, gateway.url)}\nexport { ${exported} };\n`;
            writeFileSync(join(folder, `${name}.mjs`), settings);
          }
          const file = join(folder, 'program.mjs');
          writeFileSync(file, programWith('openai-and-langchain.mjs', gateway.url));
          return output([process.execPath, file]);
        }),
      );
      expect(steps(said)).toEqual(allSaid(['openai'], ['azure'], ['langchain', 2], ['langchain azure', 2]));
    },
    PROGRAM_TIMEOUT_MS,
  );
});
