/** What the gateway costs, as ratios in one run: `npm run bench:gateway`. Needs Docker and the APISIX image. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bundle } from '../compiler/build.mjs';

// The tests' own support starts gateway and mocks; it is TypeScript, which Node 20 does not read.
const file = fileURLToPath(new URL('../node_modules/.bench-gateway.mjs', import.meta.url));
await bundle({
  entryPoints: [fileURLToPath(new URL('gateway/main.ts', import.meta.url))],
  outfile: file,
  format: 'esm',
  packages: 'external',
  alias: {},
  banner: {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
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
