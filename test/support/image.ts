/** Builds the gateway's own image as its users do, and runs containers of it with the docker command. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { baseImages, cannotRun, isHere, withoutDigest } from './requirements.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

/**
 * Options of `docker build` for this machine. An image that was not pulled from a registry has no digest, so a local image
 * is used by its tag. Builds may use the network as this machine does.
 */
export function buildOptions(): string[] {
  const unpinned = [...baseImages()].filter(([, image]) => !isHere(image) && isHere(withoutDigest(image)));
  return [
    '--network=host',
    ...unpinned.map(([name, image]) => `--build-arg=${name}=${withoutDigest(image)}`),
  ];
}

/** For `describe.skipIf`. */
export const cannotRunImageTests = (tests: string): boolean => cannotRun(tests, 'image');

/** The timeout of hooks that build the image. */
export const BUILD_TIMEOUT_MS = 300_000;

/** Builds the image from the work tree. */
export async function buildImage(tag: string, options: readonly string[] = []): Promise<void> {
  const { code, output } = await run('docker', [
    'build',
    ...buildOptions(),
    ...options,
    `--tag=${tag}`,
    '--file=docker/Dockerfile',
    '.',
  ]);
  if (code !== 0) throw new Error(`docker build failed:\n${output.slice(-4000)}`);
}

interface Ran {
  readonly code: number | null;
  readonly output: string;
}

const run = (command: string, args: readonly string[], environment = {}): Promise<Ran> =>
  new Promise((resolve) => {
    const options = { cwd: ROOT, maxBuffer: 2 ** 26, env: { ...process.env, ...environment } };
    const child = execFile(command, args, options, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, output: stdout + stderr }),
    );
  });

export interface ContainerOptions {
  readonly image: string;
  /** Arguments after the image's name. */
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** More options of `docker run`. */
  readonly options?: readonly string[];
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Container {
  readonly name: string;
  /** The URL `http://127.0.0.1:PORT` of a published port. */
  url(port: number): string;
  /** The output of `docker inspect` for a template. */
  inspect(format: string): string;
  /** Runs a command in the container, and returns its exit code and output. */
  exec(...command: string[]): { readonly code: number | null; readonly output: string };
  kill(signal: string): void;
  output(): { readonly stdout: string; readonly stderr: string };
  /** Waits until the container ends, by itself or by a signal. */
  ended(): Promise<Ended>;
  remove(): void;
}

/** Starts a container. Values of its environment appear in no argument, and may contain every character except NUL. */
export function startContainer({
  image,
  command = [],
  environment = {},
  options = [],
}: ContainerOptions): Container {
  const name = `genai-gateway-test-${randomUUID()}`;
  const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8', stdio: 'pipe' });
  execFileSync(
    'docker',
    [
      'run',
      '--detach',
      `--name=${name}`,
      ...Object.keys(environment).map((each) => `--env=${each}`),
      ...options,
      image,
      ...command,
    ],
    { env: { ...process.env, ...environment }, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const output = () => {
    const { stdout, stderr } = spawnSync('docker', ['logs', name], { encoding: 'utf8' });
    return { stdout, stderr };
  };
  const container: Container = {
    name,
    url: (port) => `http://${docker('port', name, String(port)).split('\n')[0]}`,
    inspect: (format) => docker('inspect', '--format', format, name).trim(),
    exec: (...args) => {
      const { status, stdout, stderr } = spawnSync('docker', ['exec', name, ...args], { encoding: 'utf8' });
      return { code: status, output: stdout + stderr };
    },
    kill: (signal) => void docker('kill', `--signal=${signal}`, name),
    output,
    ended: async () => {
      const { output: code } = await run('docker', ['wait', name]);
      return { code: Number(code), ...output() };
    },
    remove: () => void docker('rm', '--force', '--volumes', name),
  };
  return container;
}

/** Options that let a container reach mocks on this host, and this host reach its ports. */
export const reachable = (...ports: readonly number[]): string[] => [
  '--add-host=host.docker.internal:host-gateway',
  ...ports.map((port) => `--publish=127.0.0.1::${port}`),
];

/** Repeats a request until it has this status. The error includes the container's output. */
export async function answered(
  container: Container,
  request: () => Promise<Response>,
  status = 200,
): Promise<Response> {
  const deadline = Date.now() + 30_000;
  let last = 'nothing';
  while (Date.now() < deadline) {
    try {
      const answer = await request();
      if (answer.status === status) return answer;
      last = `status ${answer.status}`;
      await answer.body?.cancel();
    } catch (error) {
      last = String(error);
    }
    if (container.inspect('{{.State.Running}}') !== 'true') break;
    await sleep(20);
  }
  const { stdout, stderr } = container.output();
  throw new Error(`the gateway did not answer ${status} but ${last}:\n${stderr}\n${stdout}`);
}
