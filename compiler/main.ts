import { writeSync } from 'node:fs';
import { run } from './cli.ts';
import { EXIT } from './commands/terminal.ts';

/** NO_COLOR and FORCE_COLOR, else whether the stream is a terminal. Checked only when text is coloured. */
function wantsColor(stream: number): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR) return false;
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0';
  return TERM !== 'dumb' && (stream === 1 ? process.stdout : process.stderr).isTTY;
}

/** Writes a text synchronously. Creating Node's output streams would take a tenth of the start time. */
function write(stream: number, text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(stream, bytes, written);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The reader closed the pipe (`| head`), which is not an error.
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN') throw error;
      // The pipe is full: wait a moment.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

run(process.argv.slice(2), {
  environment: process.env,
  wantsColor: (stream) => wantsColor(stream === 'out' ? 1 : 2),
  out: (text) => write(1, text),
  err: (text) => write(2, text),
}).then(
  // All output is written. Exiting at once saves the time of cleaning up the heap.
  (code) => process.exit(code),
  (error: unknown) => {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === 'write') {
      process.exitCode = EXIT.unwritable;
      write(2, `the output cannot be written: ${code}\n`);
      return;
    }
    // Only a bug reaches this. The message could contain secrets, so only the stack is printed.
    const at =
      error instanceof Error
        ? (error.stack ?? '')
            .split('\n')
            .filter((line) => /^\s+at /.test(line))
            .slice(0, 5)
        : [];
    write(2, `genai-gateway stopped because of a bug; please report this:\n${at.join('\n')}\n`);
    process.exitCode = 70;
  },
);
