/**
 * One folder a scenario, named after what it shows: `input.env`, and in `expected/` the diagnostics and, where the
 * settings are good, the three documents. `npx vitest run test/golden -u` writes what is there now; read the diff.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { hasErrors } from '../../compiler/diagnostics/diagnostic.ts';
import { report } from '../../compiler/diagnostics/report.ts';
import { DOCUMENT_NAMES } from '../../compiler/emit/emit.ts';
import { goldenFolder, goldenScenarios } from '../support/golden.ts';

describe('golden scenarios', () => {
  test('there are good and bad ones', () => {
    const good = goldenScenarios().filter((name) => existsSync(join(goldenFolder(name), 'expected', 'apisix.yaml')));
    expect(good.length).toBeGreaterThanOrEqual(25);
    expect(goldenScenarios().length - good.length).toBeGreaterThanOrEqual(15);
  });

  test.each(goldenScenarios())('%s', async (name) => {
    const folder = goldenFolder(name);
    const expected = join(folder, 'expected');
    const { diagnostics, documents } = await compile({ environment: {}, envFiles: [join(folder, 'input.env')] });
    const text = report(diagnostics, { format: 'text', color: false, quiet: false }).replaceAll(`${folder}/`, '');
    await expect(text).toMatchFileSnapshot(join(expected, 'diagnostics.txt'));
    for (const document of DOCUMENT_NAMES) {
      if (documents) await expect(documents[document]).toMatchFileSnapshot(join(expected, document));
    }
    const files: string[] = documents ? [...DOCUMENT_NAMES, 'diagnostics.txt'] : ['diagnostics.txt'];
    const leftOver = existsSync(expected) ? readdirSync(expected).filter((file) => !files.includes(file)) : [];
    expect(leftOver).toEqual([]);
    expect(documents === undefined).toBe(hasErrors(diagnostics));
  });
});
