/** Writes the files that are generated from the declarations: `npm run generate`, after a build. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const GENERATED = [
  ['docs/settings.md', ['docs']],
  ['docs/diagnostics.md', ['docs', 'diagnostics']],
  ['docs/client-errors.md', ['docs', 'client-errors']],
  ['.env.example', ['docs', 'env-example']],
  ['schemas/settings.schema.json', ['schema']],
];

for (const [file, args] of GENERATED) {
  writeFileSync(`${root}${file}`, execFileSync(process.execPath, [`${root}dist/genai-gateway.cjs`, ...args]));
}
