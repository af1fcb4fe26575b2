/**
 * The hooks of azure.yaml: runs `genai-gateway deploy` for the environment of azd, and gives azd the address of the gateway.
 * Subscription and region of azd are used where NAME.tfvars has none.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../../..');
const PROGRAM = join(ROOT, 'dist/genai-gateway.cjs');

/** Ends this process with the code of a failed command. */
function require(command, args) {
  const { status } = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

const name = process.env.AZURE_ENV_NAME;
if (!name) {
  process.stderr.write('AZURE_ENV_NAME is not set: run this by azd up, or use genai-gateway deploy NAME.\n');
  process.exit(64);
}
if (!existsSync(PROGRAM)) require('npm', ['ci']);

const child = spawn(process.execPath, [PROGRAM, 'deploy', name, ...process.argv.slice(2)], {
  cwd: ROOT,
  stdio: ['inherit', 'pipe', 'inherit'],
});
// Ctrl-C reaches this process too. It waits until the deployment has ended in order.
process.on('SIGINT', () => undefined);
let printed = '';
child.stdout.on('data', (chunk) => {
  printed += chunk;
  process.stdout.write(chunk);
});
child.once('close', (code) => {
  if (code !== 0) process.exit(code ?? 1);
  const [, url] = /^The gateway answers at (\S+)$/m.exec(printed) ?? [];
  if (url !== undefined) require('azd', ['env', 'set', 'GATEWAY_URL', url]);
});
