/** Docker, by its own command line. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { createInterface } from 'node:readline';

export const LOOPBACK = '127.0.0.1';
/** How containers call this machine; Docker on Linux knows it by `--add-host`. */
export const HOST = 'host.docker.internal';

export interface DockerResult {
  /** Undefined where there is no docker command. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Ctrl-C goes to every program of the terminal's foreground; those that are started here are ended by `up`, in its order. */
const APART = { detached: process.platform !== 'win32', windowsHide: true } as const;

export class Docker {
  readonly #environment: Environment;

  /** @param environment That of this process: docker finds its engine by it. */
  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Runs one command to its end. `secrets` are variables for it that stand in no argument. */
  run(args: readonly string[], secrets: Environment = {}): Promise<DockerResult> {
    return new Promise((resolve) => {
      const options = {
        env: { ...this.#environment, ...secrets },
        encoding: 'utf8',
        maxBuffer: MAX_OUTPUT_BYTES,
        ...APART,
      } as const;
      execFile('docker', args, options, (error, stdout, stderr) => {
        const code = error === null ? 0 : error.code;
        if (error !== null && code === 'ENOENT') resolve({ code: undefined, stdout, stderr });
        else resolve({ code: typeof code === 'number' ? code : 1, stdout, stderr });
      });
    });
  }

  /** Runs one command whose progress is shown on stderr; whether it was good. Ends it when `signal` says so. */
  async show(args: readonly string[], signal: AbortSignal): Promise<boolean> {
    const child = spawn('docker', args, {
      env: this.#environment,
      stdio: ['ignore', 2, 2],
      signal,
      ...APART,
    });
    try {
      const [code] = await once(child, 'close');
      return code === 0;
    } catch {
      return false;
    }
  }

  /** What a container writes, line by line, from its start to its end. */
  follow(container: string, onLine: (line: string) => void): { readonly ended: Promise<void>; stop(): void } {
    const child: ChildProcess = spawn('docker', ['logs', '--follow', container], {
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...APART,
    });
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', onLine);
    }
    const ended = new Promise<void>((resolve) => {
      child.once('close', () => resolve());
      child.once('error', () => resolve());
    });
    return { ended, stop: () => child.kill() };
  }

  /** Why containers cannot be started here; undefined where they can. */
  async problem(): Promise<string | undefined> {
    const { code, stderr } = await this.run(['version', '--format', '{{.Server.Version}}']);
    if (code === 0) return undefined;
    return code === undefined
      ? 'There is no docker command: install Docker, or see the README for other ways to run the gateway.'
      : `Docker does not answer; is it running? It says: ${lastLine(stderr)}`;
  }
}

export const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1)?.trim() ?? '';

/**
 * The address of this host on Docker's bridge, where it is one of this host: there nothing but containers can call.
 * Otherwise Docker runs in a machine of its own, and leads containers to the loopback of this one.
 */
export async function hostAddress(docker: Docker): Promise<string> {
  const format = '{{with index .IPAM.Config 0}}{{.Gateway}} {{.Subnet}}{{end}}';
  const { stdout } = await docker.run(['network', 'inspect', 'bridge', '--format', format]);
  const [named = '', subnet = ''] = stdout.trimEnd().split(' ');
  // Before its first restart Docker 20 does not say which address of the subnet it took: the first.
  const gateway = named || subnet.replace(/\.0\/\d+$/, '.1');
  // Node lists no interface that is idle, as the bridge is without containers; listening on it works.
  return gateway !== '' && (await canListen(0, gateway)) === true ? gateway : LOOPBACK;
}

/** Whether a port can be listened on, or the code of why not. */
export async function canListen(port: number, host: string): Promise<true | string> {
  const server = createServer().listen(port, host);
  try {
    await once(server, 'listening');
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? '';
  } finally {
    server.close();
  }
}

/** Ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  try {
    for (let index = 0; index < count; index++) {
      const server = createServer().listen(0, LOOPBACK);
      servers.push(server);
      await once(server, 'listening');
    }
    return servers.map((server) => {
      const address = server.address();
      return typeof address === 'object' && address !== null ? address.port : 0;
    });
  } finally {
    for (const server of servers) server.close();
  }
}
