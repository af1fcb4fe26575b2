/**
 * Golden tests. Each scenario has a folder, named after what it shows: `input.env`, and `expected/` with the diagnostics
 * and, when the settings have no errors, the three documents. `npx vitest run test/golden -u` rewrites `expected/`; read
 * the diff.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { hasErrors } from '../../compiler/diagnostics/diagnostic.ts';
import { report } from '../../compiler/diagnostics/report.ts';
import { DOCUMENT_NAMES } from '../../compiler/emit/emit.ts';
import { readYaml } from '../../compiler/output/check.ts';
import { readRendered } from '../../compiler/output/read-rendered.ts';
import { goldenEnvFile, goldenFolder, goldenScenarios, withoutPaths } from '../support/golden.ts';
import { goodScenarios } from '../support/scenarios.ts';

describe('golden scenarios', () => {
  test('has at least 25 scenarios without errors and 15 with errors', () => {
    const good = goodScenarios();
    expect(good.length).toBeGreaterThanOrEqual(25);
    expect(goldenScenarios().length - good.length).toBeGreaterThanOrEqual(15);
  });

  test.each(goldenScenarios())('%s', async (name) => {
    const folder = goldenFolder(name);
    const expected = join(folder, 'expected');
    const envFile = goldenEnvFile(name);
    const { diagnostics, documents } = await compile({ environment: {}, envFiles: [envFile] });
    const text = withoutPaths(
      name,
      envFile,
      report(diagnostics, { format: 'text', color: false, quiet: false }),
    );
    await expect(text).toMatchFileSnapshot(join(expected, 'diagnostics.txt'));
    for (const document of DOCUMENT_NAMES) {
      if (!documents) break;
      await expect(withoutPaths(name, envFile, documents[document])).toMatchFileSnapshot(
        join(expected, document),
      );
      expect(readRendered(documents[document])).toEqual(await readYaml(documents[document]));
    }
    if (documents) {
      const apisix = await readYaml(documents['apisix.yaml']);
      const config = await readYaml(documents['config.yaml']);
      // The plugins of services and routes must be exactly the plugins that config.yaml loads.
      expect(apisix).toHaveProperty('document.services.0.plugins');
      const { services, routes } = (apisix as { document: Record<string, { plugins?: object }[]> }).document;
      const plugins = [...(services ?? []), ...(routes ?? [])].flatMap((each) =>
        Object.keys(each.plugins ?? {}),
      );
      expect((config as { document: { plugins: string[] } }).document.plugins.toSorted()).toEqual(
        // `prometheus` is loaded to serve the metrics page. No service uses it.
        [...new Set([...plugins, 'prometheus'])].toSorted(),
      );
    }
    const files: string[] = documents ? [...DOCUMENT_NAMES, 'diagnostics.txt'] : ['diagnostics.txt'];
    const leftOver = existsSync(expected)
      ? readdirSync(expected).filter((file) => !files.includes(file))
      : [];
    expect(leftOver).toEqual([]);
    expect(documents === undefined).toBe(hasErrors(diagnostics));
  });
});
