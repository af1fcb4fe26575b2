/** A port whose connections are never accepted: once its queue is full, the kernel answers no connection. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const SERVER = `
const server = require('node:net').createServer().listen({ host: process.argv[1], port: Number(process.argv[2]), backlog: 1 }, () => {
  process.stdout.write(String(server.address().port), () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
});`;

export interface SilentPort {
  readonly port: number;
  stop(): void;
}

/** Port 0 selects a free port. */
export async function startSilentPort(host: string, wanted = 0): Promise<SilentPort> {
  const server = spawn(process.execPath, ['-e', SERVER, host, String(wanted)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text] = (await once(server.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  const port = Number(text);
  const waiting: Socket[] = Array.from({ length: 6 }, () => connect(port, host).on('error', () => undefined));
  return {
    port,
    stop: () => {
      for (const socket of waiting) socket.destroy();
      server.kill('SIGKILL');
    },
  };
}
