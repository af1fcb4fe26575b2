/** OpenAI's clients and LangChain for Python, set up as in docs/clients.md, get every answer although a backend fails. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installed } from '../support/client-packages.ts';
import {
  allSaid,
  FAILURES,
  INSTALL_TIMEOUT_MS,
  inNewFolder,
  output,
  PROGRAM_TIMEOUT_MS,
  programWith,
  startWithFirst,
  steps,
  throughFailover,
} from '../support/clients.ts';
import type { Gateway } from '../support/gateway.ts';
import { cannotRun } from '../support/requirements.ts';

const skipped = cannotRun("OpenAI's clients for Python and LangChain", 'apisix', 'python_clients');

describe.skipIf(skipped)('clients for Python', () => {
  let gateway: Gateway;
  let packages: string;

  beforeAll(async () => {
    packages = installed('python_clients');
    gateway = await startWithFirst();
  }, INSTALL_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each(FAILURES)(
    'are answered by the second backend, streamed and not, while the first answers %i',
    async (...failure) => {
      const said = await throughFailover(gateway, failure, () =>
        inNewFolder((folder) => {
          const file = join(folder, 'program.py');
          writeFileSync(file, programWith('openai_and_langchain.py', gateway.url));
          return output(['python3', file], { PYTHONPATH: packages });
        }),
      );
      expect(steps(said)).toEqual(allSaid(['openai'], ['azure'], ['langchain', 2], ['langchain azure', 2]));
    },
    PROGRAM_TIMEOUT_MS,
  );
});
