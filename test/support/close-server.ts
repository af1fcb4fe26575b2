import { once } from 'node:events';
import type { Server, Socket } from 'node:net';

/** Like the end of a process: nothing listens any more, and open connections are gone. */
export async function closeServer(server: Server, open: Iterable<Socket>): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  for (const socket of open) socket.destroy();
  await closed;
}
