/** Starts the real APISIX with rendered files, and asks it what it made of them. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { parse } from 'yaml';
import type { Documents } from '../../compiler/emit/emit.ts';
import { APISIX_IMAGE } from '../../compiler/image.ts';

export { APISIX_IMAGE };
export const PORTS = {
  proxy: 9080,
  metrics: 9091,
  status: 7085,
  probes: 7086,
  control: 9090,
  admin: 9180,
} as const;

const CONF = '/usr/local/apisix/conf';
const LUA_IN_CONTAINER = '/opt/genai-gateway/lua-plugins';
const LUA_PLUGINS = fileURLToPath(new URL('../../lua-plugins', import.meta.url));
const START_TIMEOUT_MS = 40_000;
/** For hooks that start a container: longer than it gets to start, so that one that fails is cleared away. */
export const CONTAINER_TIMEOUT_MS = 90_000;

// Ryuk is a second image to pull, and every container here is stopped by the test that started it.
process.env.TESTCONTAINERS_RYUK_DISABLED ??= 'true';
// Ports are published on loopback; within a container testcontainers would look for them at Docker's gateway.
process.env.TESTCONTAINERS_HOST_OVERRIDE ??= '127.0.0.1';

export type Availability =
  | { readonly available: true }
  | { readonly available: false; readonly reason: string };

/** Whether containers can be started here; no image is pulled for tests. */
export const gatewayTestsAvailable = (): Availability => imageAvailable(APISIX_IMAGE);

/** Whether a container of this image can be started here. */
export function imageAvailable(image: string): Availability {
  const docker = (...args: string[]): string =>
    execFileSync('docker', args, { encoding: 'utf8', stdio: 'pipe' });
  try {
    docker('version', '--format', '{{.Server.Version}}');
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    return { available: false, reason: missing ? 'there is no docker command' : 'no Docker daemon answers' };
  }
  try {
    docker('image', 'inspect', '--format', '{{.Id}}', image);
  } catch {
    return { available: false, reason: `the image ${image} is not here: docker pull ${image}` };
  }
  return { available: true };
}

/** As above for `describe.skipIf`; says on stderr why tests are skipped. */
export function cannotRunGatewayTests(tests: string): boolean {
  const state = gatewayTestsAvailable();
  if (!state.available) process.stderr.write(`\nSKIPPED ${tests}: ${state.reason}\n`);
  return !state.available;
}

export interface ApisixOptions {
  readonly documents: Documents;
  /** The whole environment of the container, beside what the image itself needs. */
  readonly environment: Readonly<Record<string, string>>;
  /** Folders that a deployment would mount, for APISIX to write to. */
  readonly writableFolders?: readonly string[];
  /** Names of hosts that are there and refuse every connection; without this no name resolves, and that takes a while. */
  readonly refusingHosts?: readonly string[];
  /** Addresses of further hosts by name; `host-gateway` is this one. */
  readonly extraHosts?: Readonly<Record<string, string>>;
  /** Adds to the documents what `clientOf` reads: a log of whom each request was taken for. */
  readonly logsClients?: boolean;
  /** Further files that a deployment would mount, by their path. */
  readonly mountedFiles?: Readonly<Record<string, string>>;
  /** Folders of this host, by where the container has them: volumes that it shares with other containers. */
  readonly sharedFolders?: Readonly<Record<string, string>>;
  /** Ports of containers that run beside it, as in one pod or replica; only this container can publish them. */
  readonly sidecarPorts?: readonly number[];
  /** A folder of this host with the documents, mounted as a deployment would that changes them while APISIX runs. */
  readonly configFolder?: string | undefined;
}

export interface Apisix {
  /** For containers that join its network. */
  readonly containerId: string;
  /** A request from the host to one of the published ports. */
  request(port: number, path: string, init?: RequestInit): Promise<Response>;
  /** The port of the host that leads to one of the published ports. */
  mappedPort(port: number): number;
  /** The client that a request with this header `x-test-request` was taken for, or null for none; needs `logsClients`. */
  clientOf(request: string): Promise<string | null>;
  /** What the control API answers to GET. */
  control(path: string): Promise<unknown>;
  /** Addresses with a listening TCP socket, `127.0.0.1:9090`, in order. */
  listening(): Promise<string[]>;
  /** The processes that serve requests: what they have used of the CPU, and hold of memory. */
  workers(): Promise<
    readonly { readonly pid: number; readonly cpuMs: number; readonly residentBytes: number }[]
  >;
  /** Ends one of them as a crash would; nginx starts another one. */
  killWorker(pid: number): Promise<void>;
  /** Sends a signal to a process; 1 is nginx's master. */
  signal(pid: number, name: string): Promise<void>;
  /** The address that requests from the host come from. */
  hostAddress(): Promise<string>;
  /** Everything APISIX wrote since its start: its access log and its error log. */
  log(): Promise<string>;
  /** Runs a script of bash in the container as root, for what a platform does there; answers its output. */
  asRoot(script: string, ...args: string[]): Promise<string>;
  /** Puts a file in the place of the one that is there, if any. */
  write(path: string, content: string): Promise<void>;
  /** Puts another apisix.yaml in the place of the one that is there; answers when every worker has it. */
  reload(apisixYaml: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts APISIX on rendered files as they are; answers when every worker has its configuration. */
export async function startApisix(options: ApisixOptions): Promise<Apisix> {
  const {
    documents,
    environment,
    writableFolders = [],
    refusingHosts = [],
    extraHosts = {},
    logsClients = false,
    mountedFiles = {},
    sharedFolders = {},
    sidecarPorts = [],
    configFolder,
  } = options;
  return start({
    // The collector's file is nothing to APISIX, and must not disturb it.
    files: {
      ...(configFolder === undefined
        ? inConf(logsClients ? withClientLog(documents) : documents)
        : inConf({ 'config.yaml': documents['config.yaml'] })),
      ...mountedFiles,
    },
    environment,
    writableFolders,
    refusingHosts,
    extraHosts,
    sharedFolders: {
      ...sharedFolders,
      ...(configFolder === undefined ? {} : { [CONFIG_FOLDER]: configFolder }),
    },
    publish: [PORTS.proxy, PORTS.metrics, PORTS.status, PORTS.probes, ...sidecarPorts],
    readyPath: '/status/ready',
  });
}

export interface ValidationFinding {
  readonly resource_type: string;
  readonly resource_id?: string;
  readonly error: string;
}

export interface Validator {
  /** What APISIX's own validation has against an apisix.yaml. Takes up to 1.5 MiB. */
  validate(apisixYaml: string): Promise<readonly ValidationFinding[]>;
  stop(): Promise<void>;
}

/** A throw-away APISIX with an Admin API, which the gateway itself never has, for its validation of whole files. */
export async function startValidator(plugins: readonly string[]): Promise<Validator> {
  const key = randomUUID();
  const config = {
    deployment: {
      role: 'traditional',
      role_traditional: { config_provider: 'yaml' },
      admin: { admin_key: [{ name: 'admin', key, role: 'admin' }], allow_admin: ['0.0.0.0/0'] },
    },
    apisix: {
      node_listen: [PORTS.proxy],
      enable_admin: true,
      status: { ip: '0.0.0.0', port: PORTS.status },
      extra_lua_path: `${LUA_IN_CONTAINER}/?.lua`,
    },
    plugins,
    stream_plugins: [],
    nginx_config: { worker_processes: 1 },
  };
  const apisix = await start({
    files: inConf({ 'config.yaml': JSON.stringify(config) }),
    environment: {},
    writableFolders: [],
    refusingHosts: [],
    extraHosts: {},
    sharedFolders: {},
    publish: [PORTS.admin, PORTS.status],
    // Never ready: that takes a configuration, and this one is only asked for its opinion.
    readyPath: '/status',
  });
  return {
    stop: apisix.stop,
    validate: async (apisixYaml) => {
      const answer = await apisix.request(PORTS.admin, '/apisix/admin/configs/validate', {
        method: 'POST',
        headers: { 'X-API-KEY': key, 'Content-Type': 'application/json' },
        body: JSON.stringify(parseAsApisix(apisixYaml)),
      });
      if (answer.status === 200) return [];
      const { error_msg, errors } = (await answer.json()) as {
        error_msg?: string;
        errors?: ValidationFinding[];
      };
      return errors ?? [{ resource_type: 'document', error: error_msg ?? `status ${answer.status}` }];
    },
  };
}

/** Parses as APISIX's YAML 1.1 reader does. */
export function parseAsApisix(yaml: string): unknown {
  return parse(yaml, { version: '1.1' });
}

const inConf = (files: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(files).map(([name, content]) => [`${CONF}/${name}`, content]));

interface StartOptions {
  /** By their path. */
  readonly files: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  readonly writableFolders: readonly string[];
  readonly refusingHosts: readonly string[];
  readonly extraHosts: Readonly<Record<string, string>>;
  readonly sharedFolders: Readonly<Record<string, string>>;
  readonly publish: readonly number[];
  /** On the status port. */
  readonly readyPath: string;
}

/** Where apisix.yaml is when it may change; APISIX's own folder has a link to it. */
const CONFIG_FOLDER = '/rendered';

async function start(options: StartOptions): Promise<Apisix> {
  const {
    files,
    environment,
    writableFolders,
    refusingHosts,
    extraHosts,
    sharedFolders,
    publish,
    readyPath,
  } = options;
  const log = { text: '', changed: 0 };
  const container = new IsolatedContainer(APISIX_IMAGE)
    .withEnvironment({ ...environment, APISIX_STAND_ALONE: 'true' })
    .withExposedPorts(...publish)
    .withCopyContentToContainer(
      Object.entries(files).map(([target, content]) => ({ content, target, mode: 0o644 })),
    )
    .withCopyDirectoriesToContainer([{ source: LUA_PLUGINS, target: LUA_IN_CONTAINER, mode: 0o755 }])
    .withExtraHosts([
      ...refusingHosts.map((host) => ({ host, ipAddress: '127.0.0.1' })),
      ...Object.entries(extraHosts).map(([host, ipAddress]) => ({ host, ipAddress })),
    ])
    .withBindMounts(Object.entries(sharedFolders).map(([target, source]) => ({ source, target, mode: 'rw' })))
    .withTmpFs(Object.fromEntries(writableFolders.map((folder) => [folder, 'mode=1777'])))
    .withLogConsumer((stream) => {
      stream.on('data', (chunk: Buffer | string) => {
        log.text += chunk.toString();
        log.changed = Date.now();
      });
    })
    .withStartupTimeout(START_TIMEOUT_MS)
    .withWaitStrategy(
      Wait.forHttp(readyPath, PORTS.status, { abortOnContainerExit: true })
        .forStatusCode(200)
        .withReadTimeout(200),
    );
  if (CONFIG_FOLDER in sharedFolders) {
    const link = `ln -s ${CONFIG_FOLDER}/apisix.yaml ${CONF}/apisix.yaml && exec /docker-entrypoint.sh docker-start`;
    container.withEntrypoint(['sh', '-c', link]);
  }
  let started: StartedTestContainer;
  try {
    started = await container.start();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const message = `APISIX did not get ready: ${reason}\nIts log begins:\n${log.text.slice(0, 4000)}`;
    throw new Error(message, { cause: error });
  }
  const runAs = async (user: string | undefined, script: string, args: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await started.exec(
      ['bash', '-c', script, 'bash', ...args],
      user === undefined ? {} : { user },
    );
    if (exitCode !== 0) throw new Error(`in the container: ${stderr || `exit ${exitCode}`}`);
    return stdout;
  };
  const run = (script: string, ...args: string[]) => runAs(undefined, script, args);
  return {
    containerId: started.getId(),
    request: (port, path, init) => fetch(`http://127.0.0.1:${started.getMappedPort(port)}${path}`, init),
    mappedPort: (port) => started.getMappedPort(port),
    clientOf: async (request) => {
      for (let patience = 40; patience > 0; patience--) {
        const lines = (await run('cat "$1" 2>/dev/null || true', CLIENT_LOG)).split('\n');
        const found = lines
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line) as ClientLogLine)
          .find((line) => line.request === request);
        if (found) return found.client ?? null;
        await sleep(50);
      }
      throw new Error(`APISIX logged no request ${request}`);
    },
    control: async (path) => JSON.parse(await get(run, PORTS.control, path)),
    listening: async () => listeningSockets(await run('cat /proc/net/tcp /proc/net/tcp6')),
    workers: async () => {
      const script =
        'for d in /proc/[0-9]*; do if grep -qs "^nginx: worker process" "$d/cmdline"; then' +
        ' echo "${d#/proc/} $(cut -d " " -f 1 "$d/schedstat") $(cut -d " " -f 2 "$d/statm")"; fi; done';
      return (await run(script))
        .trim()
        .split('\n')
        .map((line) => line.split(' ').map(Number))
        .map(([pid = 0, nanoseconds = 0, pages = 0]) => ({
          pid,
          cpuMs: nanoseconds / 1e6,
          residentBytes: pages * 4096,
        }));
    },
    killWorker: async (pid) => {
      await run('kill -KILL "$1"', String(pid));
    },
    signal: async (pid, name) => {
      await run('kill -s "$1" "$2"', name, String(pid));
    },
    hostAddress: async () => defaultGateway(await run('cat /proc/net/route')),
    log: async () => {
      // nginx holds lines of its access log back; it hands them out when told to open its logs again.
      await run('kill -USR1 1');
      // Log lines arrive on their own way; when nothing more comes for a while all are here.
      const before = Date.now();
      while (
        Date.now() - Math.max(before, log.changed) < LOG_QUIET_MS &&
        Date.now() - before < LOG_PATIENCE_MS
      ) {
        await sleep(50);
      }
      return log.text;
    },
    asRoot: (script, ...args) => runAs('root', script, args),
    write: (target, content) => started.copyContentToContainer([{ content, target, mode: 0o644 }]),
    reload: async (apisixYaml) => {
      const next = '/tmp/apisix.yaml.next';
      await started.copyContentToContainer([{ content: apisixYaml, target: next, mode: 0o644 }]);
      // Workers compare the whole second of the file's time, and look at it once a second.
      const script =
        'cd "$1" && while [ "$(stat -c %Y apisix.yaml)" -ge "$(date +%s)" ]; do sleep 0.1; done' +
        ' && cat "$2" > apisix.yaml.next && mv apisix.yaml.next apisix.yaml';
      await run(script, CONF, next);
      await sleep(RELOAD_MS);
    },
    stop: async () => {
      await started.stop({ timeout: 0 });
    },
  };
}

const RELOAD_MS = 2_500;
const CLIENT_LOG = '/tmp/clients.json';

interface ClientLogLine {
  readonly request?: string;
  readonly client?: string;
}

/**
 * The documents with one thing more: a line a request in a file. Nothing that the gateway itself writes says at once
 * who a client was; its metrics do so after half a minute.
 */
function withClientLog(documents: Documents): Documents {
  const plugin = '  - "file-logger"\n';
  const config = documents['config.yaml'];
  const rule = {
    id: 'client-log',
    plugins: {
      'file-logger': {
        path: CLIENT_LOG,
        log_format: { request: '$http_x_test_request', client: '$genai_client' },
      },
    },
  };
  return {
    ...documents,
    'config.yaml': config.includes(plugin) ? config : config.replace('plugins:\n', `plugins:\n${plugin}`),
    'apisix.yaml': documents['apisix.yaml'].replace(
      /#END\n?$/,
      `global_rules: ${JSON.stringify([rule])}\n#END\n`,
    ),
  };
}

const LOG_QUIET_MS = 400;
const LOG_PATIENCE_MS = 5_000;

/** Publishes on loopback only, where testcontainers publishes on every interface, and finds no host by its name. */
export class IsolatedContainer extends GenericContainer {
  protected override async beforeContainerCreated(): Promise<void> {
    this.hostConfig.Dns = ['127.0.0.1'];
    const bindings = Object.entries(this.hostConfig.PortBindings ?? {}) as [string, { HostPort: string }[]][];
    this.hostConfig.PortBindings = Object.fromEntries(
      bindings.map(([port, list]) => [port, list.map((each) => ({ ...each, HostIp: '127.0.0.1' }))]),
    );
  }
}

/**
 * GET from inside the container, where the control API listens on loopback only. The image has no HTTP client, but
 * bash opens sockets; HTTP/1.0 keeps the answer free of chunks, base64 keeps characters whole on their way out.
 */
async function get(run: (script: string, ...args: string[]) => Promise<string>, port: number, path: string) {
  const script = [
    'exec 3<>"/dev/tcp/127.0.0.1/$1"',
    `printf 'GET %s HTTP/1.0\\r\\nHost: 127.0.0.1\\r\\n\\r\\n' "$2" >&3`,
    'base64 -w0 <&3',
  ].join(' && ');
  const answer = Buffer.from(await run(script, String(port), path), 'base64').toString('utf8');
  const end = answer.indexOf('\r\n\r\n');
  const status = answer.slice(0, answer.indexOf('\r\n'));
  if (!/^HTTP\/1\.\d 200 /.test(status)) throw new Error(`GET :${port}${path} in the container: ${status}`);
  return answer.slice(end + 4);
}

/** The kernel writes addresses as hexadecimal words of the machine's byte order, and 0A for a listening socket. */
function listeningSockets(table: string): string[] {
  const sockets = table
    .split('\n')
    .map((line) => /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ 0A /.exec(line))
    .filter((match) => match !== null)
    .map(([, address = '', port = '']) => ({ host: hostOf(address), port: Number.parseInt(port, 16) }));
  const unique = new Map(sockets.map((each) => [`${each.host}:${each.port}`, each.port]));
  return [...unique]
    .sort(([a, portA], [b, portB]) => portA - portB || a.localeCompare(b))
    .map(([socket]) => socket);
}

function hostOf(hexadecimal: string): string {
  if (hexadecimal.length === 8) return dotted(hexadecimal);
  return /^0+$/.test(hexadecimal) ? '[::]' : `[${hexadecimal}]`;
}

const dotted = (word: string): string => [...Buffer.from(word, 'hex')].reverse().join('.');

function defaultGateway(table: string): string {
  const [, word] = /^\S+\t00000000\t([0-9A-F]{8})\t/m.exec(table) ?? [];
  if (word === undefined) throw new Error('the container has no default route');
  return dotted(word);
}
