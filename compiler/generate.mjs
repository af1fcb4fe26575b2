/** Writes the files that are made from the settings' declarations. `npm run generate`, after a build. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const GENERATED = [
  ['docs/settings.md', ['docs']],
  ['.env.example', ['docs', 'env-example']],
  ['schemas/settings.schema.json', ['schema']],
];

for (const [file, args] of GENERATED) {
  writeFileSync(`${root}${file}`, execFileSync(process.execPath, [`${root}dist/genai-gateway.cjs`, ...args]));
}
