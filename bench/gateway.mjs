/**
 * Measures the cost of the gateway as ratios within one run: `npm run bench:gateway`. Needs Docker and the APISIX
 * image.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bundle } from '../compiler/build.mjs';

// Uses the tests' support code, which is TypeScript and must be transpiled for Node 20.
const file = fileURLToPath(new URL('../node_modules/.bench-gateway.mjs', import.meta.url));
await bundle({
  entryPoints: [fileURLToPath(new URL('gateway/main.ts', import.meta.url))],
  outfile: file,
  format: 'esm',
  packages: 'external',
  alias: {},
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
  define: {
    PACKAGE_VERSION: '"bench"',
    'import.meta.url': JSON.stringify(new URL('../test/support/bundled.js', import.meta.url).href),
  },
});
try {
  process.exitCode =
    spawnSync(process.execPath, [file, ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1;
} finally {
  rmSync(file, { force: true });
}
