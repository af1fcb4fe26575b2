/** OpenAI's client for Java, set up as in docs/clients.md, gets every answer although a backend fails. */
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

const skipped = cannotRun("OpenAI's client for Java", 'apisix', 'java_clients');

describe.skipIf(skipped)('the client for Java', () => {
  let gateway: Gateway;
  let jars: string;

  beforeAll(async () => {
    jars = join(installed('java_clients'), 'lib', '*');
    gateway = await startWithFirst();
  }, INSTALL_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each(FAILURES)(
    'is answered by the second backend, streamed and not, while the first answers %i',
    async (...failure) => {
      await inNewFolder(async (folder) => {
        writeFileSync(join(folder, 'Main.java'), programWith('Main.java', gateway.url));
        await output(['javac', '-cp', jars, '-d', folder, join(folder, 'Main.java')]);
        const said = await throughFailover(gateway, failure, () =>
          output(['java', '-cp', `${jars}:${folder}`, 'Main']),
        );
        expect(steps(said)).toEqual(allSaid(['openai']));
      });
    },
    2 * PROGRAM_TIMEOUT_MS,
  );
});
