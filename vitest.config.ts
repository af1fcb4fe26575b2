import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { defineConfig, type Plugin } from 'vitest/config';
import { bundleVirtualModule, homepage } from './compiler/build.mjs';

/** What esbuild puts into the bundle, for tests that import the TypeScript itself. */
const bundled: Plugin = {
  name: 'bundled-modules',
  enforce: 'pre',
  resolveId: (id) => (id.startsWith('virtual:') || id.endsWith('.wasm') ? `\0${id}` : undefined),
  load: (id) => {
    if (id.startsWith('\0virtual:')) return bundleVirtualModule(id.slice(1));
    if (id.endsWith('.wasm')) {
      const bytes = readFileSync(createRequire(import.meta.url).resolve(id.slice(1)), 'base64');
      return `export default Uint8Array.from(Buffer.from('${bytes}', 'base64'));`;
    }
    return id.endsWith('.env') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))}` : undefined;
  },
};

export default defineConfig({
  plugins: [bundled],
  define: {
    PACKAGE_VERSION: JSON.stringify(JSON.parse(readFileSync('package.json', 'utf8')).version),
    PACKAGE_HOMEPAGE: JSON.stringify(homepage()),
  },
  test: {
    include: ['test/**/*.test.ts'],
    // Tests of the gateway wait most of their time: one file at a time would leave two cores idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    globalSetup: ['test/support/build-once.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
  },
});
