/** The gateway in Docker on this machine: started, followed, stopped. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Backend } from '../model/model.ts';
import { writeDocuments } from '../output/write.ts';
import { banner, summary } from './local/banner.ts';
import {
  containerName,
  labels,
  listContainers,
  makeFolder,
  removeContainer,
  removeFolder,
  renderedIn,
} from './local/containers.ts';
import { canListen, Docker, freePorts, HOST, hostAddress, LOOPBACK } from './local/docker.ts';
import { type Interruption, onInterruption } from './local/interruption.ts';
import { readableLines } from './local/log-lines.ts';
import { type Prepared, prepare, type UpOptions } from './local/prepare.ts';
import { startMocks } from './mock.ts';
import { EXIT, formatOf, type Terminal } from './terminal.ts';

const PORTS = { proxy: 9080, metrics: 9091 } as const;

/** What answers 200 when the gateway is ready. */
const READINESS_PATH = '/readyz';

const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 100;
/** How long what is still running has to end. */
const STOP_SECONDS = 10;
const LOG_END_MS = 2_000;

const RENDERED_IN_CONTAINER = '/run/genai-gateway';
const LUA_IN_CONTAINER = '/opt/genai-gateway/lua-plugins';
/**
 * The folder is mounted whole, because a file that is replaced would not be seen through a mount of its own: what is
 * rendered into the folder while this runs reaches APISIX.
 */
const START = `ln -sf ${RENDERED_IN_CONTAINER}/config.yaml ${RENDERED_IN_CONTAINER}/apisix.yaml /usr/local/apisix/conf/ && exec /docker-entrypoint.sh docker-start`;

/** What went wrong outside the settings, as a message for the user. */
class Failure extends Error {}

/** Runs the gateway until it is told to end by SIGINT, SIGTERM or SIGHUP, or ends by itself. */
export async function up(options: UpOptions, terminal: Terminal): Promise<number> {
  const prepared = await prepare(options, terminal);
  if (typeof prepared === 'number') return prepared;
  const interruption = onInterruption();
  const undo: (() => unknown)[] = [];
  try {
    return await run(prepared, options, terminal, interruption, undo);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    terminal.err(`${error.message}\n`);
    return EXIT.unwritable;
  } finally {
    for (const each of undo.reverse()) await each();
    interruption.forget();
  }
}

/** From the first question to Docker to the end of the gateway; `undo` takes what is to be taken back, last first. */
async function run(
  prepared: Prepared,
  options: UpOptions,
  terminal: Terminal,
  interruption: Interruption,
  undo: (() => unknown)[],
): Promise<number> {
  const docker = new Docker(terminal.environment);
  const problem = await docker.problem();
  if (problem !== undefined) throw new Failure(problem);
  const [port = options.port] = options.port === 0 ? await freePorts(1) : [];
  const name = containerName(port);
  await clearTheWay(docker, name, port);
  await refuseTaken(port, '--port');
  if (options.metricsPort !== 0) await refuseTaken(options.metricsPort, '--metrics-port');
  if (!(await haveImage(docker, options.image, terminal, interruption.signal))) return EXIT.ok;

  if (prepared.mocks.length > 0) {
    const host = await hostAddress(docker);
    const started = await startMocks(prepared.mocks, {
      hosts: host === LOOPBACK ? [host] : [host, LOOPBACK],
    });
    if ('problem' in started) throw new Failure(`${started.problem.trimEnd()} Choose another --mock-port.`);
    undo.push(started.stop);
  }

  const folder = makeFolder();
  undo.push(() => removeFolder(folder));
  // Only this user gets into the folder around it; the container's user must be able to read.
  const written = writeDocuments(renderedIn(folder), prepared.documents, 0o644);
  if (!written.ok) throw new Failure(`${written.path} cannot be written: ${written.reason}.`);

  if (interruption.signal.aborted) return EXIT.ok;
  undo.push(() => removeOurs(docker, port, folder, terminal));
  const args = runArguments({ name, port, folder, options, prepared });
  const { code, stderr } = await docker.run(args, prepared.variables);
  if (code !== 0) throw new Failure(whyNotStarted(stderr, port));

  const format = formatOf(options, prepared.settings);
  const show = shownLines(
    prepared.model.backends,
    { raw: format === 'json', quiet: options.quiet },
    terminal,
  );
  const held: string[] = [];
  let take = (line: string): unknown => held.push(line);
  const log = docker.follow(name, (line) => take(line));
  undo.push(log.stop);

  const ports = await publishedPorts(docker, name);
  const state = await untilReady(ports.get(PORTS.proxy) ?? port, log.ended, interruption.once);
  if (state === 'interrupted') return EXIT.ok;
  if (state !== 'ready') {
    for (const line of held) terminal.err(`${line}\n`);
    throw new Failure(
      state === 'ended'
        ? 'APISIX ended before it was ready; what it wrote stands above.'
        : `APISIX is not ready after ${READY_TIMEOUT_MS / 1000} s; what it wrote stands above.`,
    );
  }
  for (const line of held) if (LEVELS_THAT_MATTER.test(line)) show(line);
  take = show;
  const metricsPort = ports.get(PORTS.metrics) ?? options.metricsPort;
  const place = { name, port, metricsPort };
  if (format === 'json') terminal.out(`${JSON.stringify(summary(place, prepared))}\n`);
  else if (!options.quiet) terminal.out(banner(place, prepared));
  await warnOfFirewall(docker, name, prepared.mocks, terminal);

  const end = await Promise.race([
    log.ended.then(() => 'ended' as const),
    interruption.once.then(() => 'interrupted' as const),
  ]);
  if (end === 'ended') return howItEnded(docker, name, terminal);
  if (!options.quiet)
    terminal.err(
      `Stopping: requests that still run get ${STOP_SECONDS} s. Once more Ctrl-C ends them at once.\n`,
    );
  await Promise.race([docker.run(['stop', '-t', String(STOP_SECONDS), name]), interruption.twice]);
  // The last lines of the log are on their way.
  await Promise.race([log.ended, interruption.twice, sleep(LOG_END_MS, undefined, { ref: false })]);
  return EXIT.ok;
}

/** A container of that port that runs belongs to somebody; one that does not was left behind. */
async function clearTheWay(docker: Docker, name: string, port: number): Promise<void> {
  for (const each of (await listContainers(docker, port)) ?? []) {
    if (each.name !== name) continue;
    if (each.running)
      throw new Failure(
        `The container ${name} runs already, and has port ${port}: end it with genai-gateway down --port ${port}, or choose another --port.`,
      );
    await removeContainer(docker, each.name);
    removeFolder(each.folder);
  }
}

/** By the folder, which is of this run alone: somebody else's container may have the name. */
async function removeOurs(docker: Docker, port: number, folder: string, terminal: Terminal): Promise<void> {
  const all = await listContainers(docker, port);
  const ours = all?.filter((each) => each.folder === folder) ?? [];
  const removed = await Promise.all(ours.map((each) => removeContainer(docker, each.name)));
  if (all === undefined || removed.includes(false))
    terminal.err(`The container could not be removed: run genai-gateway down --port ${port} later.\n`);
}

const portTaken = (port: number, option: string) =>
  `Port ${port} of ${LOOPBACK} is in use: choose another ${option}, or 0 for any that is free.`;

/** Ahead of Docker, which would say it less clearly. Whether a port needs rights to listen on is Docker's business. */
async function refuseTaken(port: number, option: string): Promise<void> {
  if ((await canListen(port, LOOPBACK)) === 'EADDRINUSE') throw new Failure(portTaken(port, option));
}

/** Pulls it where it is not there, and shows the progress; false where that was interrupted. */
async function haveImage(
  docker: Docker,
  image: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<boolean> {
  const { code } = await docker.run(['image', 'inspect', '--format', '{{.Id}}', image]);
  if (code === 0) return true;
  terminal.err(`The image ${image} is not here yet: pulling it.\n`);
  if (await docker.show(['pull', image], signal)) return true;
  if (signal.aborted) return false;
  throw new Failure(`The image ${image} could not be pulled; what Docker says stands above.`);
}

function runArguments({
  name,
  port,
  folder,
  options,
  prepared,
}: {
  readonly name: string;
  readonly port: number;
  readonly folder: string;
  readonly options: UpOptions;
  readonly prepared: Prepared;
}): string[] {
  const publish = [
    [port, PORTS.proxy],
    [options.metricsPort, PORTS.metrics],
  ] as const;
  const mounts = [
    [luaPlugins(), LUA_IN_CONTAINER],
    [renderedIn(folder), RENDERED_IN_CONTAINER],
    ...prepared.files.map((path) => [path, path] as const),
  ] as const;
  return [
    'run',
    '--detach',
    ...['--name', name],
    ...labels(port, folder),
    ...['--stop-signal', 'SIGQUIT'],
    // With SELinux the container could not read what is mounted; giving the files another label would be worse.
    ...['--security-opt', 'label=disable'],
    ...['--add-host', `${HOST}:host-gateway`],
    ...publish.flatMap(([outside, inside]) => [
      '--publish',
      `${LOOPBACK}:${outside === 0 ? '' : outside}:${inside}`,
    ]),
    ...mounts.flatMap(([source, target]) => [
      '--mount',
      ['type=bind', `source=${source}`, `target=${target}`, 'readonly'].map(inCsv).join(','),
    ]),
    ...['--env', 'APISIX_STAND_ALONE=true'],
    // By name alone: docker takes the values from its own environment.
    ...Object.keys(prepared.variables).flatMap((variable) => ['--env', variable]),
    ...['--entrypoint', 'bash', options.image, '-c', START],
  ];
}

const inCsv = (field: string) => (/[",]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field);

/** Beside the bundle, in the package. */
function luaPlugins(): string {
  const folder = join(__dirname, '..', 'lua-plugins');
  if (!existsSync(folder))
    throw new Failure(`The Lua plugins are not at ${folder}: install the package anew.`);
  return folder;
}

function whyNotStarted(stderr: string, port: number): string {
  if (/port is already allocated|address already in use|ports are not available/i.test(stderr)) {
    const taken = Number(/127\.0\.0\.1:(\d+)/.exec(stderr)?.[1] ?? port);
    return portTaken(taken, taken === port ? '--port' : '--metrics-port');
  }
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const said = lines.find((line) => /error/i.test(line)) ?? lines[0] ?? 'nothing';
  return `Docker could not start the container. It says: ${said.trim()}`;
}

/** Ports of the container by those inside. */
async function publishedPorts(docker: Docker, name: string): Promise<Map<number, number>> {
  const { stdout } = await docker.run(['port', name]);
  const lines = [...stdout.matchAll(/^(\d+)\/tcp -> \S+:(\d+)$/gm)];
  return new Map(lines.map(([, inside, outside]) => [Number(inside), Number(outside)]));
}

async function untilReady(
  port: number,
  ended: Promise<void>,
  interrupted: Promise<void>,
): Promise<'ready' | 'ended' | 'interrupted' | 'late'> {
  const polling = new AbortController();
  const poll = async () => {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    while (Date.now() < deadline && !polling.signal.aborted) {
      try {
        const signal = AbortSignal.timeout(1000);
        const answer = await fetch(`http://${LOOPBACK}:${port}${READINESS_PATH}`, { signal });
        await answer.arrayBuffer();
        if (answer.ok) return 'ready' as const;
      } catch {
        // Nothing listens yet.
      }
      await sleep(READY_POLL_MS);
    }
    return 'late' as const;
  };
  try {
    return await Promise.race([
      poll(),
      ended.then(() => 'ended' as const),
      interrupted.then(() => 'interrupted' as const),
    ]);
  } finally {
    polling.abort();
  }
}

/** Of nginx's error log; what the sizes of a machine are is nothing to act on. */
const LEVELS_THAT_MATTER = /\[(?:error|crit|alert|emerg)\](?!.*setrlimit)/;

/** Access log to stdout, error log to stderr. */
function shownLines(
  backends: readonly Backend[],
  { raw, quiet = false }: { readonly raw: boolean; readonly quiet?: boolean | undefined },
  terminal: Terminal,
): (line: string) => void {
  const readable = readableLines(backends);
  return (line) => {
    if (quiet && !LEVELS_THAT_MATTER.test(line)) return;
    terminal[line.startsWith('{') ? 'out' : 'err'](`${raw ? line : readable(line)}\n`);
  };
}

/** A packet filter between containers and this machine would look like mocks that are down. */
async function warnOfFirewall(
  docker: Docker,
  name: string,
  [mock]: Prepared['mocks'],
  terminal: Terminal,
): Promise<void> {
  if (!mock) return;
  const script = 'exec 3<>"/dev/tcp/$0/$1"';
  const { code } = await docker.run([
    'exec',
    name,
    ...['timeout', '3', 'bash', '-c', script, HOST, String(mock.port)],
  ]);
  if (code !== 0)
    terminal.err(
      `warning: the container does not reach the mocks on this machine (${HOST}:${mock.port}). A packet filter between them, or a rootless Docker? With ufw: sudo ufw allow in on docker0\n`,
    );
}

/** Without having been told to by us. */
async function howItEnded(docker: Docker, name: string, terminal: Terminal): Promise<number> {
  const deadline = Date.now() + REMOVAL_MS;
  for (;;) {
    const state = await docker.run(['inspect', '--format', '{{.State.ExitCode}} {{.State.OOMKilled}}', name]);
    const [exitCode, outOfMemory] = state.stdout.trim().split(' ');
    if (state.code !== 0 || exitCode === '0') {
      const what = state.code === 0 ? 'stopped' : 'removed';
      terminal.err(`The container ${name} was ${what} by somebody else.\n`);
      return EXIT.ok;
    }
    const memory = outOfMemory === 'true' ? ', out of memory' : '';
    // Who removes a container kills it first.
    if (exitCode !== KILLED || memory !== '' || Date.now() > deadline)
      throw new Failure(`APISIX ended by itself, exit code ${exitCode}${memory}.`);
    await sleep(READY_POLL_MS);
  }
}

const KILLED = '137';
const REMOVAL_MS = 3_000;
