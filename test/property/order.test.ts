import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { anyEnvironment, goodEnvironment } from '../support/arbitraries.ts';

const permuted = (environment: Record<string, string>, seed: number): Record<string, string> => {
  const [shuffled = []] = fc.sample(
    fc.shuffledSubarray(Object.entries(environment), { minLength: Object.keys(environment).length }),
    { seed, numRuns: 1 },
  );
  return Object.fromEntries(shuffled);
};

test('the order of the variables changes no byte of a document and no diagnostic', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(goodEnvironment, anyEnvironment), fc.integer(), async (environment, seed) => {
      const one = await compile({ environment, envFiles: [] });
      const other = await compile({ environment: permuted(environment, seed), envFiles: [] });
      expect(other.documents).toEqual(one.documents);
      expect(other.diagnostics).toEqual(one.diagnostics);
    }),
    { numRuns: 300 },
  );
});
