import { isatty } from 'node:tty';
import { run } from './cli.ts';

/** NO_COLOR and FORCE_COLOR, else whether the stream is a terminal. */
function wantsColor(stream: number): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR) return false;
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0';
  return isatty(stream) && TERM !== 'dumb';
}

// A reader that has seen enough (`| head`) is no error.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

run(process.argv.slice(2), {
  environment: process.env,
  colorOut: wantsColor(1),
  colorErr: wantsColor(2),
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
}).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    // Only a defect gets here. Its message could hold anything, so the place is all that is shown.
    const at = error instanceof Error ? (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)).slice(0, 5) : [];
    process.stderr.write(`genai-gateway has a defect and stopped; please report this:\n${at.join('\n')}\n`);
    process.exitCode = 70;
  },
);
