import { once } from 'node:events';
import type { Server, Socket } from 'node:net';

/** Stops like a process that ends: the port is closed, and open connections are cut. */
export async function closeServer(server: Server, open: Iterable<Socket>): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  for (const socket of open) socket.destroy();
  await closed;
}
