import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Tests of the program as a user runs it need it built from the sources under test. */
export default function setup(): void {
  execFileSync(process.execPath, [fileURLToPath(new URL('../../compiler/build.mjs', import.meta.url))], {
    stdio: 'inherit',
  });
}
