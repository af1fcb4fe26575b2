import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { hasErrors } from '../../compiler/diagnostics/diagnostic.ts';
import { REPORT_FORMATS } from '../../compiler/diagnostics/formats.ts';
import { report } from '../../compiler/diagnostics/report.ts';
import { checkDocuments } from '../../compiler/output/check.ts';
import { anyEnvironment, goodEnvironment } from '../support/arbitraries.ts';

/** Random environments, and random environments merged with good settings: the merged ones compile more often than not. */
const environments = fc.oneof(
  anyEnvironment,
  fc.tuple(anyEnvironment, goodEnvironment).map(([any, good]) => ({ ...any, ...good })),
  goodEnvironment,
);

test('any environment gives either diagnostics or valid documents, and never an exception', async () => {
  const given = { documents: 0, diagnostics: 0 };
  await fc.assert(
    fc.asyncProperty(environments, fc.boolean(), async (environment, strict) => {
      const { diagnostics, documents } = await compile({ environment, envFiles: [], strict });
      expect(documents === undefined).toBe(hasErrors(diagnostics));
      given[documents ? 'documents' : 'diagnostics']++;
      if (documents) expect(await checkDocuments(documents)).toMatchObject({ diagnostics: [] });
      for (const format of REPORT_FORMATS) report(diagnostics, { format, color: true, quiet: false });
    }),
    { numRuns: 900 },
  );
  expect(Math.min(given.documents, given.diagnostics)).toBeGreaterThan(100);
});

test('the schemas accept every document that the compiler renders without errors', async () => {
  await fc.assert(
    fc.asyncProperty(anyEnvironment, async (environment) => {
      const base = {
        AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
        AZURE_OPENAI_KEY_0: 'key-of-backend-zero',
        GATEWAY_CLIENT_NAME_0: 'app',
        GATEWAY_CLIENT_KEY_0: 'key-of-client-zero',
      };
      const { diagnostics } = await compile({ environment: { ...environment, ...base }, envFiles: [] });
      expect(
        diagnostics.filter(({ code }) => code.startsWith('DOCUMENT_') || code.startsWith('TEMPLATE_BROKEN')),
      ).toEqual([]);
    }),
    { numRuns: 600 },
  );
});
