/** Codex and opencode, set up as in docs/clients.md, complete their work although a backend fails. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { completionText } from '../../compiler/mock/text.ts';
import { installed } from '../support/client-packages.ts';
import {
  FAILURES,
  INSTALL_TIMEOUT_MS,
  inNewFolder,
  output,
  PROGRAM_TIMEOUT_MS,
  SAID,
  settingsOf,
  startWithFirst,
  throughFailover,
} from '../support/clients.ts';
import type { Gateway } from '../support/gateway.ts';
import { cannotRun } from '../support/requirements.ts';

const skipped = {
  codex: cannotRun('Codex', 'apisix', 'codex'),
  opencode: cannotRun('opencode', 'apisix', 'opencode'),
};

describe.skipIf(skipped.codex && skipped.opencode)('agents', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startWithFirst();
  }, INSTALL_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  describe.skipIf(skipped.codex)('Codex', () => {
    let codex: string;
    beforeAll(() => {
      codex = join(installed('codex'), 'node_modules/.bin/codex');
    }, INSTALL_TIMEOUT_MS);

    const execute = (prompt: string) =>
      inNewFolder((folder) => {
        writeFileSync(join(folder, 'config.toml'), settingsOf('codex', gateway.url));
        const work = join(folder, 'work');
        mkdirSync(work);
        return output(
          [codex, 'exec', '--json', '--skip-git-repo-check', prompt],
          { CODEX_HOME: folder },
          work,
        );
      });
    const events = (text: string) =>
      text
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as { readonly type: string; readonly item?: object });

    test.each(FAILURES)(
      'completes its turn while the first backend answers %i',
      async (...failure) => {
        const all = events(await throughFailover(gateway, failure, () => execute('Say hello')));
        expect(all.map(({ item }) => item)).toContainEqual(
          expect.objectContaining({ type: 'agent_message', text: SAID }),
        );
        expect(all.at(-1)?.type).toBe('turn.completed');
      },
      PROGRAM_TIMEOUT_MS,
    );

    test(
      'calls the tool that the prompt names, and completes its turn at the owner of its reasoning',
      async () => {
        const [first, second] = gateway.mocks;
        first?.reset();
        second?.reset();
        first?.always({ status: 429 });
        const all = events(await execute('Use exec_command, then stop'));
        expect(all.at(-1)?.type).toBe('turn.completed');
        const statuses = [first, second].map((mock) => mock?.requests.map(({ status }) => status));
        expect(statuses).toEqual([[429], [200, 200]]);
        const { input } = JSON.parse(second?.requests.at(-1)?.body.toString() ?? '{}');
        expect(input).toContainEqual(
          expect.objectContaining({ type: 'function_call', name: 'exec_command' }),
        );
        expect(input.at(-1)).toMatchObject({ type: 'function_call_output' });
      },
      PROGRAM_TIMEOUT_MS,
    );
  });

  describe.skipIf(skipped.opencode)('opencode', () => {
    let opencode: string;
    beforeAll(() => {
      opencode = join(installed('opencode'), 'node_modules/.bin/opencode');
    }, INSTALL_TIMEOUT_MS);

    test.each(FAILURES)(
      'answers while the first backend answers %i',
      async (...failure) => {
        const text = await throughFailover(gateway, failure, () =>
          inNewFolder((folder) => {
            const file = join(folder, 'opencode.json');
            writeFileSync(file, settingsOf('opencode', gateway.url));
            return output(
              [opencode, 'run', 'Say hello'],
              {
                HOME: folder,
                XDG_CONFIG_HOME: folder,
                XDG_DATA_HOME: folder,
                XDG_STATE_HOME: folder,
                XDG_CACHE_HOME: folder,
                OPENCODE_CONFIG: file,
                // Without these, opencode would download models and updates.
                OPENCODE_DISABLE_MODELS_FETCH: '1',
                OPENCODE_DISABLE_AUTOUPDATE: '1',
              },
              folder,
            );
          }),
        );
        // opencode asks for many tokens.
        expect(text).toContain(completionText(256));
      },
      PROGRAM_TIMEOUT_MS,
    );
  });
});
