/** Starts the gateway in Docker on this machine, prints its log, and stops it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { startMocks } from '../../mock/start.ts';
import type { Backend } from '../../model/model.ts';
import { writeDocuments } from '../../output/write.ts';
import { EXIT, formatOf, type Terminal } from '../terminal.ts';
import { banner, summary } from './banner.ts';
import {
  containerName,
  labels,
  listContainers,
  makeFolder,
  removeContainer,
  removeFolder,
  renderedIn,
} from './containers.ts';
import { canListen, Docker, freePorts, HOST, hostAddress, LOOPBACK } from './docker.ts';
import { type Interruption, onInterruption } from './interruption.ts';
import { Failure, haveImage, launchArguments } from './launch.ts';
import { readableLines } from './log-lines.ts';
import { type Prepared, prepare, type UpOptions } from './prepare.ts';

/** Ports inside the container. */
export const PORTS = { proxy: 9080, metrics: 9091 } as const;

/** Returns 200 when the gateway is ready. */
const READINESS_PATH = '/readyz';

const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 100;
/** Time that running requests get to finish. */
const STOP_SECONDS = 10;
const LOG_END_MS = 2_000;

/** Runs the gateway until SIGINT, SIGTERM or SIGHUP, or until it stops by itself. */
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
    interruption.dispose();
  }
}

/** Runs all steps, and adds to `undo` what must be removed afterwards, in reverse order. */
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
  await removeOldContainer(docker, name, port);
  await requireFreePort(port, '--port');
  if (options.metricsPort !== 0) await requireFreePort(options.metricsPort, '--metrics-port');
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
  // The folder around it is private to this user, but the container's user must be able to read the files.
  const written = writeDocuments(renderedIn(folder), prepared.documents, 0o644);
  if (!written.ok) throw new Failure(`${written.path} cannot be written: ${written.reason}.`);

  if (interruption.signal.aborted) return EXIT.ok;
  undo.push(() => removeOurs(docker, port, folder, terminal));
  const args = runArguments({ name, port, folder, options, prepared });
  const { code, stderr } = await docker.run(args, prepared.variables);
  if (code !== 0) throw new Failure(startFailure(stderr, port));

  const format = formatOf(options, prepared.settings);
  const show = shownLines(
    prepared.model.backends,
    { raw: format === 'json', quiet: options.quiet },
    terminal,
  );
  const buffered: string[] = [];
  let handleLine = (line: string): unknown => buffered.push(line);
  const log = docker.follow(name, (line) => handleLine(line));
  undo.push(log.stop);

  const ports = await publishedPorts(docker, name);
  const state = await waitUntilReady(ports.get(PORTS.proxy) ?? port, log.ended, interruption.once);
  if (state === 'interrupted') return EXIT.ok;
  if (state !== 'ready') {
    for (const line of buffered) terminal.err(`${line}\n`);
    throw new Failure(
      state === 'ended'
        ? 'APISIX stopped before it was ready: see its log above.'
        : `APISIX is not ready after ${READY_TIMEOUT_MS / 1000} s: see its log above.`,
    );
  }
  for (const line of buffered) if (LEVELS_THAT_MATTER.test(line)) show(line);
  handleLine = show;
  const metricsPort = ports.get(PORTS.metrics) ?? options.metricsPort;
  const place = { name, port, metricsPort };
  if (format === 'json') terminal.out(`${JSON.stringify(summary(place, prepared))}\n`);
  else if (!options.quiet) terminal.out(banner(place, prepared));
  await warnOfFirewall(docker, name, prepared.mocks, terminal);

  const end = await Promise.race([
    log.ended.then(() => 'ended' as const),
    interruption.once.then(() => 'interrupted' as const),
  ]);
  if (end === 'ended') return reportEnd(docker, name, terminal);
  if (!options.quiet)
    terminal.err(
      `Stopping. Running requests get ${STOP_SECONDS} s to finish. Press Ctrl-C again to stop at once.\n`,
    );
  await Promise.race([docker.run(['stop', '-t', String(STOP_SECONDS), name]), interruption.twice]);
  // Wait for the last lines of the log.
  await Promise.race([log.ended, interruption.twice, sleep(LOG_END_MS, undefined, { ref: false })]);
  return EXIT.ok;
}

/** A running container with this name belongs to another `up`; a stopped one was left after a crash. */
async function removeOldContainer(docker: Docker, name: string, port: number): Promise<void> {
  for (const each of (await listContainers(docker, port)) ?? []) {
    if (each.name !== name) continue;
    if (each.running)
      throw new Failure(
        `The container ${name} is already running on port ${port}: stop it with genai-gateway down --port ${port}, or choose another --port.`,
      );
    await removeContainer(docker, each.name);
    removeFolder(each.folder);
  }
}

/** Finds the container by its folder, which is unique to this run: another container may have the same name. */
async function removeOurs(docker: Docker, port: number, folder: string, terminal: Terminal): Promise<void> {
  const all = await listContainers(docker, port);
  const ours = all?.filter((each) => each.folder === folder) ?? [];
  const removed = await Promise.all(ours.map((each) => removeContainer(docker, each.name)));
  if (all === undefined || removed.includes(false))
    terminal.err(`The container could not be removed: run genai-gateway down --port ${port} later.\n`);
}

const portTaken = (port: number, option: string) =>
  `Port ${port} of ${LOOPBACK} is in use: choose another ${option}, or 0 for any free port.`;

/** Checks the port before Docker does, for a clearer message. A missing permission for the port is left to Docker. */
async function requireFreePort(port: number, option: string): Promise<void> {
  if ((await canListen(port, LOOPBACK)) === 'EADDRINUSE') throw new Failure(portTaken(port, option));
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
  return [
    'run',
    '--detach',
    ...['--name', name],
    ...labels(port, folder),
    ...['--add-host', `${HOST}:host-gateway`],
    ...publish.flatMap(([outside, inside]) => [
      '--publish',
      `${LOOPBACK}:${outside === 0 ? '' : outside}:${inside}`,
    ]),
    ...launchArguments({
      rendered: renderedIn(folder),
      files: prepared.files,
      variables: prepared.variables,
      image: options.image,
    }),
  ];
}

function startFailure(stderr: string, port: number): string {
  if (/port is already allocated|address already in use|ports are not available/i.test(stderr)) {
    const taken = Number(/127\.0\.0\.1:(\d+)/.exec(stderr)?.[1] ?? port);
    return portTaken(taken, taken === port ? '--port' : '--metrics-port');
  }
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const reason = lines.find((line) => /error/i.test(line)) ?? lines[0] ?? 'nothing';
  return `Docker could not start the container: ${reason.trim()}`;
}

/** The published ports, by the port inside the container. */
export async function publishedPorts(docker: Docker, name: string): Promise<Map<number, number>> {
  const { stdout } = await docker.run(['port', name]);
  const lines = [...stdout.matchAll(/^(\d+)\/tcp -> \S+:(\d+)$/gm)];
  return new Map(lines.map(([, inside, outside]) => [Number(inside), Number(outside)]));
}

/** Waits for readiness, the end of the container, or an interruption. */
export async function waitUntilReady(
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
        // The port is not open yet.
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

/**
 * Levels of nginx's error log that `up` shows before the gateway is ready. The limits of the machine (setrlimit) are
 * not an error.
 */
const LEVELS_THAT_MATTER = /\[(?:error|crit|alert|emerg)\](?!.*setrlimit)/;

/** Prints the access log to stdout and the error log to stderr. */
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

/** If a firewall blocks the mocks, they would look like backends that are down, so the user gets a warning. */
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
      `warning: the container cannot reach the mocks on this machine (${HOST}:${mock.port}). Check for a firewall between them, or a rootless Docker. With ufw: sudo ufw allow in on docker0\n`,
    );
}

/** Explains why the container ended although this command did not stop it. */
async function reportEnd(docker: Docker, name: string, terminal: Terminal): Promise<number> {
  const deadline = Date.now() + REMOVAL_MS;
  for (;;) {
    const state = await docker.run(['inspect', '--format', '{{.State.ExitCode}} {{.State.OOMKilled}}', name]);
    const [exitCode, outOfMemory] = state.stdout.trim().split(' ');
    if (state.code !== 0 || exitCode === '0') {
      const what = state.code === 0 ? 'stopped' : 'removed';
      terminal.err(`The container ${name} was ${what} from outside this command.\n`);
      return EXIT.ok;
    }
    const memory = outOfMemory === 'true' ? ', out of memory' : '';
    // Removing a container kills it first, so exit code 137 can mean that it is being removed.
    if (exitCode !== KILLED || memory !== '' || Date.now() > deadline)
      throw new Failure(`APISIX stopped by itself with exit code ${exitCode}${memory}.`);
    await sleep(READY_POLL_MS);
  }
}

const KILLED = '137';
const REMOVAL_MS = 3_000;
