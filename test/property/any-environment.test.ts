import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { hasErrors } from '../../compiler/diagnostics/diagnostic.ts';
import { REPORT_FORMATS } from '../../compiler/diagnostics/formats.ts';
import { report } from '../../compiler/diagnostics/report.ts';
import { checkDocuments } from '../../compiler/output/check.ts';
import { anyEnvironment } from '../support/arbitraries.ts';

test('any environment gives diagnostics or valid documents, never an exception', async () => {
  await fc.assert(
    fc.asyncProperty(anyEnvironment, fc.boolean(), async (environment, strict) => {
      const { diagnostics, documents } = await compile({ environment, envFiles: [], strict });
      expect(documents === undefined).toBe(hasErrors(diagnostics));
      if (documents) expect(await checkDocuments(documents)).toEqual([]);
      for (const format of REPORT_FORMATS) report(diagnostics, { format, color: true, quiet: false });
    }),
    { numRuns: 600 },
  );
});

test('a document is never the reason: what the settings let through, the schemas take', async () => {
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
