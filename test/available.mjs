/**
 * Prints the needs of tests that are available here, as a value of GENAI_GATEWAY_TESTS, and on stderr the others with the
 * reason. With the name of a need, prints why that need is missing, or nothing when it is available. With --images, prints
 * the images of all tests. support/requirements.ts defines all needs and image names.
 */
import { bundle } from '../compiler/build.mjs';

const source = new URL('support/requirements.ts', import.meta.url);
const { outputFiles } = await bundle({
  entryPoints: [source.pathname],
  format: 'esm',
  write: false,
  define: { 'import.meta.url': JSON.stringify(source.href) },
});
const [{ text }] = outputFiles;
const { isAvailable, NEEDS, testImages } = await import(
  `data:text/javascript;base64,${Buffer.from(text).toString('base64')}`
);

const [asked] = process.argv.slice(2);
if (asked === '--images') {
  process.stdout.write(`${testImages().join('\n')}\n`);
  process.exit();
}
if (asked !== undefined) {
  const state = isAvailable(asked);
  process.stdout.write(state.available ? '' : `${state.reason}\n`);
  process.exit();
}

const states = NEEDS.map((need) => ({ need, state: isAvailable(need) }));
for (const { need, state } of states) {
  if (!state.available) process.stderr.write(`Tests that need ${need} do not run: ${state.reason}.\n`);
}
process.stdout.write(
  `${states
    .filter(({ state }) => state.available)
    .map(({ need }) => need)
    .join(',')}\n`,
);
