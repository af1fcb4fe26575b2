/** A real Redis for tests of shared state: from Docker's image when it is available, else this host's own program. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { GenericContainer, Wait } from 'testcontainers';
import { HOST, hostAddress } from './gateway.ts';
import { cannotRun, isHere, REDIS_IMAGE, REDIS_PROGRAM } from './requirements.ts';

/** For `describe.skipIf`. */
export const cannotRunRedisTests = (tests: string): boolean => cannotRun(tests, 'redis');

export interface RedisOptions {
  readonly password?: string;
  /** The only user, with the password. Without this, the password is the default user's. */
  readonly username?: string;
  /** PEM. Then the server accepts TLS only. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export type RedisReply = string | number | null | readonly RedisReply[];

export interface Redis {
  /** The name for containers. They need `extraHosts` for it, which `startGateway` sets. */
  readonly host: string;
  readonly port: number;
  /** Signs in and sends a command in database 0. Rejects with Redis's error. */
  command(...args: readonly string[]): Promise<RedisReply>;
  /** Stops answering, with every connection left open, until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the process: connections are refused, and stored data is lost. */
  stop(): Promise<void>;
  /** After `stop`: starts an empty Redis at the same address. */
  restart(): Promise<void>;
}

/** Starts Redis and waits until it answers. */
export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const address = await hostAddress();
  const port = await freePort(address);
  const start = isHere(REDIS_IMAGE) ? startContainer : startProgram;
  const command = async (...args: readonly string[]) => ask(address, port, options, args);
  let running: Running | undefined;
  const restart = async () => {
    running = await start(address, port, options);
    const deadline = Date.now() + START_PATIENCE_MS;
    for (;;) {
      try {
        await command('PING');
        return;
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await sleep(50);
      }
    }
  };
  await restart();
  return {
    host: HOST,
    port,
    command,
    pause: async () => running?.pause(),
    resume: async () => running?.resume(),
    stop: async () => {
      const ending = running;
      running = undefined;
      await ending?.stop();
    },
    restart,
  };
}

const START_PATIENCE_MS = 20_000;

interface Running {
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

/** Nothing is written to disk, because no test needs data from before a restart. */
function configuration(address: string, port: number, files: string, options: RedisOptions): string {
  const { password, username, tls } = options;
  const lines = [
    `bind ${address}`,
    'protected-mode no',
    'save ""',
    'appendonly no',
    'daemonize no',
    ...(tls
      ? [
          'port 0',
          `tls-port ${port}`,
          `tls-cert-file ${files}/redis.crt`,
          `tls-key-file ${files}/redis.key`,
          'tls-auth-clients no',
        ]
      : [`port ${port}`]),
    ...(password !== undefined && username === undefined ? [`requirepass ${password}`] : []),
    ...(username === undefined ? [] : [`user ${username} on >${password} ~* &* +@all`, 'user default off']),
  ];
  return `${lines.join('\n')}\n`;
}

const FILES_IN_CONTAINER = '/etc/redis-of-tests';
const PORT_IN_CONTAINER = 6379;

async function startContainer(address: string, port: number, options: RedisOptions): Promise<Running> {
  const files = {
    'redis.conf': configuration('0.0.0.0', PORT_IN_CONTAINER, FILES_IN_CONTAINER, options),
    ...(options.tls ? { 'redis.crt': options.tls.cert, 'redis.key': options.tls.key } : {}),
  };
  const container = await new PublishedAt(REDIS_IMAGE, address, port)
    .withExposedPorts(PORT_IN_CONTAINER)
    .withCopyContentToContainer(
      Object.entries(files).map(([name, content]) => ({
        content,
        target: `${FILES_IN_CONTAINER}/${name}`,
        mode: 0o644,
      })),
    )
    .withCommand(['redis-server', `${FILES_IN_CONTAINER}/redis.conf`])
    // By default testcontainers would check the port on loopback. `startRedis` waits for answers itself.
    .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
    .start();
  const docker = (verb: string) => execFileSync('docker', [verb, container.getId()], { stdio: 'pipe' });
  return {
    pause: () => docker('pause'),
    resume: () => docker('unpause'),
    stop: async () => {
      await container.stop({ timeout: 0 });
    },
  };
}

/** Publishes on one address and port, so that a restarted Redis has the same address, and only containers can reach it. */
class PublishedAt extends GenericContainer {
  readonly #address: string;
  readonly #port: number;

  constructor(image: string, address: string, port: number) {
    super(image);
    this.#address = address;
    this.#port = port;
  }

  protected override async beforeContainerCreated(): Promise<void> {
    const binding = [{ HostIp: this.#address, HostPort: String(this.#port) }];
    this.hostConfig.PortBindings = { [`${PORT_IN_CONTAINER}/tcp`]: binding };
  }
}

async function startProgram(address: string, port: number, options: RedisOptions): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'redis-of-tests-'));
  const write = (name: string, content: string) =>
    writeFileSync(join(folder, name), content, { mode: 0o600 });
  write('redis.conf', configuration(address, port, folder, options));
  if (options.tls) {
    write('redis.crt', options.tls.cert);
    write('redis.key', options.tls.key);
  }
  const child: ChildProcess = spawn(REDIS_PROGRAM, [join(folder, 'redis.conf')], {
    cwd: folder,
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  return {
    pause: () => {
      child.kill('SIGSTOP');
    },
    resume: () => {
      child.kill('SIGCONT');
    },
    stop: async () => {
      child.kill('SIGKILL');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(address: string): Promise<number> {
  const server = createServer();
  server.listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const COMMAND_TIMEOUT_MS = 5_000;

/** Sends one command on a new connection. Tests send few commands and need no Redis client. */
async function ask(
  address: string,
  port: number,
  { password, username, tls }: RedisOptions,
  args: readonly string[],
): Promise<RedisReply> {
  const socket = tls
    ? connectTls({ host: address, port, rejectUnauthorized: false })
    : connect({ host: address, port });
  socket.setTimeout(COMMAND_TIMEOUT_MS, () => socket.destroy(new Error('Redis does not answer')));
  const signIn =
    password === undefined ? [] : [['AUTH', ...(username === undefined ? [] : [username]), password]];
  try {
    await once(socket, tls ? 'secureConnect' : 'connect');
    const commands = [...signIn, args];
    socket.write(commands.map(encoded).join(''));
    const replies = await readReplies(socket, commands.length);
    return replies.at(-1) ?? null;
  } finally {
    socket.destroy();
  }
}

const encoded = (args: readonly string[]): string =>
  `*${args.length}\r\n${args.map((each) => `$${Buffer.byteLength(each)}\r\n${each}\r\n`).join('')}`;

async function readReplies(socket: Socket, count: number): Promise<RedisReply[]> {
  let received = Buffer.alloc(0);
  for await (const bytes of socket as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, bytes]);
    const replies: RedisReply[] = [];
    let position: number | undefined = 0;
    while (replies.length < count && position !== undefined) {
      const reply = readReply(received, position);
      position = reply?.end;
      if (reply) replies.push(reply.value);
    }
    if (replies.length === count) return replies;
  }
  throw new Error('Redis closed the connection');
}

interface ReadReply {
  readonly value: RedisReply;
  readonly end: number;
}

/** Parses Redis's protocol: a letter for the kind, then a line. Strings and lists have their length in that line. */
function readReply(bytes: Buffer, start: number): ReadReply | undefined {
  const lineEnd = bytes.indexOf('\r\n', start);
  if (lineEnd < 0) return undefined;
  const kind = String.fromCharCode(bytes[start] ?? 0);
  const line = bytes.toString('utf8', start + 1, lineEnd);
  const next = lineEnd + 2;
  const length = Number(line);
  switch (kind) {
    case '-':
      throw new Error(`Redis: ${line}`);
    case ':':
      return { value: length, end: next };
    case '$': {
      if (length < 0) return { value: null, end: next };
      const end = next + length + 2;
      return bytes.length < end ? undefined : { value: bytes.toString('utf8', next, end - 2), end };
    }
    case '*': {
      const items: RedisReply[] = [];
      let position = next;
      for (let index = 0; index < length; index++) {
        const item = readReply(bytes, position);
        if (!item) return undefined;
        items.push(item.value);
        position = item.end;
      }
      return { value: length < 0 ? null : items, end: position };
    }
    default:
      return { value: line, end: next };
  }
}
