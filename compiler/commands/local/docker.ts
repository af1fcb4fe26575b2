/** Runs the docker command line. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { createInterface } from 'node:readline';

export const LOOPBACK = '127.0.0.1';
/** The name by which containers reach this machine. On Linux, `--add-host` defines it. */
export const HOST = 'host.docker.internal';

export interface DockerResult {
  /** Undefined if the docker command does not exist. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/**
 * Ctrl-C reaches all processes of the terminal's foreground group. `up` stops its processes in order, so they run
 * detached.
 */
const APART = { detached: process.platform !== 'win32', windowsHide: true } as const;

export class Docker {
  readonly #environment: Environment;

  /** @param environment the environment of this process, by which docker finds its engine */
  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Runs one command and waits for its end. `secrets` are variables in its environment, not in its arguments. */
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

  /**
   * Runs one command with its progress on stderr, until its end or until `signal` aborts.
   * @returns whether it succeeded
   */
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

  /** Reads the output of a container line by line, from its start to its end. */
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

  /** The reason why docker cannot start containers; undefined if it can. */
  async problem(): Promise<string | undefined> {
    const { code, stderr } = await this.run(['version', '--format', '{{.Server.Version}}']);
    if (code === 0) return undefined;
    return code === undefined
      ? 'The docker command is missing: install Docker, or see the README for other ways to run the gateway.'
      : `Docker does not answer. Is it running? Its message: ${lastLine(stderr)}`;
  }
}

export const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1)?.trim() ?? '';

/**
 * The address of this machine on Docker's bridge, which only containers can reach. If the bridge is not on this
 * machine, Docker runs in a virtual machine, which forwards to this machine's loopback.
 */
export async function hostAddress(docker: Docker): Promise<string> {
  const format = '{{with index .IPAM.Config 0}}{{.Gateway}} {{.Subnet}}{{end}}';
  const { stdout } = await docker.run(['network', 'inspect', 'bridge', '--format', format]);
  const [named = '', subnet = ''] = stdout.trimEnd().split(' ');
  // Until its first restart, Docker 20 does not report the gateway address: it is the first of the subnet.
  const gateway = named || subnet.replace(/\.0\/\d+$/, '.1');
  // Node does not list an idle interface, such as a bridge without containers; listening on it works.
  return gateway !== '' && (await canListen(0, gateway)) === true ? gateway : LOOPBACK;
}

/**
 * Tries to listen on a port.
 * @returns true, or the error code
 */
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

/** Finds free ports. Another process could still take one before it is used. */
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
