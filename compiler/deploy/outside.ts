/** The real outside of a deployment: this package, Azure, the user. */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Outside } from './options.ts';
import { PATIENCE } from './terraform.ts';

const ANSWER_MS = 10_000;
/** How long a pipe may take to answer. A pipeline's job may have an input that never ends. */
const PIPE_MS = 10_000;

export const realOutside = (): Outside => ({
  source: join(__dirname, '..'),
  patience: PATIENCE,
  readVariables: async (path) => {
    const { readTfvars } = await import('./tfvars.ts');
    return readTfvars(path);
  },
  seed: async (request, tenantId) => {
    const { seedKeyVault } = await import('./key-vault.ts');
    const { azureCredential } = await import('./azure-credential.ts');
    const credential = await azureCredential({
      tenantId,
      environment: process.env,
      vaultUri: request.vaultUri,
    });
    return seedKeyVault({ ...request, credential });
  },
  ask,
  statusOf: async (url, signal) => {
    try {
      const response = await fetch(url, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
      });
      await response.body?.cancel();
      return response.status;
    } catch {
      return undefined;
    }
  },
});

/** Reads one line from standard input. At its end, and without a terminal after some seconds, nobody can answer. */
function ask(question: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    let answer: string | undefined;
    const timer = process.stdin.isTTY ? undefined : setTimeout(() => lines.close(), PIPE_MS);
    lines.once('close', () => {
      clearTimeout(timer);
      // The next message begins on a line of its own.
      if (answer === undefined) process.stderr.write('\n');
      resolve(answer);
    });
    // A terminal in which a line is edited does not turn Ctrl-C into a signal.
    lines.once('SIGINT', () => {
      process.kill(process.pid, 'SIGINT');
      lines.close();
    });
    lines.question(question, (line) => {
      answer = line.trim();
      lines.close();
    });
  });
}
