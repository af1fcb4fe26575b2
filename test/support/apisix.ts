/** Starts the real APISIX with rendered files, and reads its state. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { parse } from 'yaml';
import type { Documents } from '../../compiler/emit/emit.ts';
import { APISIX_IMAGE, cannotRun } from './requirements.ts';

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
/**
 * The timeout of hooks that start a container: longer than the start itself may take, so that a failed container is
 * removed.
 */
export const CONTAINER_TIMEOUT_MS = 90_000;

// Ryuk would be one more image to pull, and every test stops the containers that it started.
process.env.TESTCONTAINERS_RYUK_DISABLED ??= 'true';
// Ports are published on loopback. Inside a container, testcontainers would look for them at Docker's gateway.
process.env.TESTCONTAINERS_HOST_OVERRIDE ??= '127.0.0.1';

/** For `describe.skipIf`. */
export const cannotRunGatewayTests = (tests: string): boolean => cannotRun(tests, 'apisix');

export interface ApisixOptions {
  readonly documents: Documents;
  /** The whole environment of the container, in addition to what the image needs. */
  readonly environment: Readonly<Record<string, string>>;
  /** Folders that APISIX may write to, as a deployment would mount them. */
  readonly writableFolders?: readonly string[];
  /** Host names that resolve and refuse every connection. Without this no name resolves, which takes a while. */
  readonly refusingHosts?: readonly string[];
  /** Addresses of more hosts by name; `host-gateway` is this machine. */
  readonly extraHosts?: Readonly<Record<string, string>>;
  /** Adds a log of the identified client of each request to the documents, which `clientOf` reads. */
  readonly logsClients?: boolean;
  /** More files that a deployment would mount, by path. */
  readonly mountedFiles?: Readonly<Record<string, string>>;
  /** Folders of this host, by their path in the container: volumes shared with other containers. */
  readonly sharedFolders?: Readonly<Record<string, string>>;
  /** Ports of containers in the same network, as in one pod or replica. Only this container can publish them. */
  readonly sidecarPorts?: readonly number[];
  /** A folder of this host with the documents, mounted as in a deployment that changes them while APISIX runs. */
  readonly configFolder?: string | undefined;
  /**
   * The address of a name server on port 53. Without it no name resolves. The container then has IPv6 on its loopback
   * interface.
   */
  readonly nameServer?: string | undefined;
}

export interface Apisix {
  /** For containers that join its network. */
  readonly containerId: string;
  /** Sends a request from the host to a published port. */
  request(port: number, path: string, init?: RequestInit): Promise<Response>;
  /** The host's port for a published port. */
  mappedPort(port: number): number;
  /** The client identified for the request with this header `x-test-request`, or null; needs `logsClients`. */
  clientOf(request: string): Promise<string | null>;
  /** The answer of the control API to GET. */
  control(path: string): Promise<unknown>;
  /** Addresses with a listening TCP socket, such as `127.0.0.1:9090`, in order. */
  listening(): Promise<string[]>;
  /** The worker processes, with the CPU time they used and the memory they hold. */
  workers(): Promise<
    readonly { readonly pid: number; readonly cpuMs: number; readonly residentBytes: number }[]
  >;
  /** Kills a worker, as a crash would. nginx starts a new one. */
  killWorker(pid: number): Promise<void>;
  /** Sends a signal to a process; 1 is nginx's master. */
  signal(pid: number, name: string): Promise<void>;
  /** The source address of requests from the host. */
  hostAddress(): Promise<string>;
  /** Everything that APISIX has written since its start: access log and error log. */
  log(): Promise<string>;
  /** The same without waiting for pending lines. Also works when the container has stopped. */
  logSoFar(): string;
  /** Runs a bash script in the container as root, for actions of a platform, and returns its output. */
  asRoot(script: string, ...args: string[]): Promise<string>;
  /** Writes a file, replacing an existing one. */
  write(path: string, content: string): Promise<void>;
  /** Replaces apisix.yaml, and waits until every worker has loaded it. */
  reload(apisixYaml: string): Promise<void>;
  /** Begins to watch for a new apisix.yaml. The returned function waits until every worker has loaded it. */
  nextReload(): Promise<() => Promise<void>>;
  stop(): Promise<void>;
}

/** Starts APISIX with rendered files, and waits until every worker has its configuration. */
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
    nameServer,
  } = options;
  return start({
    // APISIX ignores the collector's file, which must not disturb it.
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
    nameServer,
  });
}

export interface ValidationFinding {
  readonly resource_type: string;
  readonly resource_id?: string;
  readonly error: string;
}

export interface Validator {
  /** What APISIX's own validation finds in an apisix.yaml of up to 1.5 MiB. */
  validate(apisixYaml: string): Promise<readonly ValidationFinding[]>;
  stop(): Promise<void>;
}

/** Starts a temporary APISIX with an Admin API, which the gateway never has, to validate whole files. */
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
    // It never becomes ready, because it has no configuration. It only validates.
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

/** Changes items of a rendered apisix.yaml. Its comments stay as rendered: the manifest and the clients. */
export function withItems<File>(apisixYaml: string, change: (file: File) => void): string {
  const file = parseAsApisix(apisixYaml) as File;
  change(file);
  const comments = apisixYaml.split('\n').filter((line) => line.startsWith('# '));
  return [...comments, JSON.stringify(file), '#END', ''].join('\n');
}

const inConf = (files: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(files).map(([name, content]) => [`${CONF}/${name}`, content]));

interface StartOptions {
  /** Contents by path. */
  readonly files: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  readonly writableFolders: readonly string[];
  readonly refusingHosts: readonly string[];
  readonly extraHosts: Readonly<Record<string, string>>;
  readonly sharedFolders: Readonly<Record<string, string>>;
  readonly publish: readonly number[];
  /** The path on the status port. */
  readonly readyPath: string;
  readonly nameServer?: string | undefined;
}

/** The folder of an apisix.yaml that may change. APISIX's own folder has a link to it. */
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
    .withNameServer(options.nameServer)
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
  const reloads = () => log.text.split(RELOADED).length - 1;
  const nextReload = async () => {
    const processes = Number(await run(COUNT_PROCESSES));
    const before = reloads();
    return async () => {
      // The longest time for a reload, when the file is rejected or the log level hides the message.
      const deadline = performance.now() + RELOAD_MS;
      while (reloads() < before + processes && performance.now() < deadline) await sleep(20);
      await sleep(Math.min(SETTLE_MS, Math.max(0, deadline - performance.now())));
    };
  };
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
      let lines: string[] = [];
      // On a busy machine the first command in a new container may end without its output having arrived.
      for (let patience = 20; lines.length === 0 && patience > 0; patience--) {
        if (patience < 20) await sleep(100);
        lines = (await run(script)).split('\n').filter((line) => line !== '');
      }
      if (lines.length === 0) throw new Error('no worker of nginx was found in the container');
      return lines
        .map((line) => line.split(' ').map(Number))
        .map(([pid = 0, nanoseconds = 0, pages = 0]) => ({
          pid,
          cpuMs: nanoseconds / 1e6,
          residentBytes: pages * 4096,
        }));
    },
    killWorker: async (pid) => {
      // 0 would be the process group of the shell that runs kill.
      if (!(pid > 1)) throw new Error(`${pid} is no worker`);
      await run('kill -KILL "$1"', String(pid));
    },
    signal: async (pid, name) => {
      await run('kill -s "$1" "$2"', name, String(pid));
    },
    hostAddress: async () => defaultGateway(await run('cat /proc/net/route')),
    log: async () => {
      // nginx buffers the lines of its access log, and writes them when told to reopen its logs.
      await run('kill -USR1 1');
      // Log lines arrive with a delay. They are complete when no more come for a while.
      const before = Date.now();
      while (
        Date.now() - Math.max(before, log.changed) < LOG_QUIET_MS &&
        Date.now() - before < LOG_PATIENCE_MS
      ) {
        await sleep(50);
      }
      return log.text;
    },
    logSoFar: () => log.text,
    asRoot: (script, ...args) => runAs('root', script, args),
    write: (target, content) => started.copyContentToContainer([{ content, target, mode: 0o644 }]),
    reload: async (apisixYaml) => {
      const isThere = await nextReload();
      const next = '/tmp/apisix.yaml.next';
      await started.copyContentToContainer([{ content: apisixYaml, target: next, mode: 0o644 }]);
      // Workers check the file once a second and compare its time in whole seconds.
      const script =
        'cd "$1" && while [ "$(stat -c %Y apisix.yaml)" -ge "$(date +%s)" ]; do sleep 0.1; done' +
        ' && cat "$2" > apisix.yaml.next && mv apisix.yaml.next apisix.yaml';
      await run(script, CONF, next);
      await isThere();
    },
    nextReload,
    stop: async () => {
      await started.stop({ timeout: 0 });
    },
  };
}

/** Every nginx process except the master writes this when it has read the file. */
const RELOADED = 'apisix.yaml reloaded.';
const COUNT_PROCESSES = `grep -lsE '^nginx: (worker process|privileged agent)' /proc/[0-9]*/cmdline | wc -l`;
/** Processes check for a new file once a second, and for its items ten times a second. */
const RELOAD_MS = 2_500;
const SETTLE_MS = 400;
const CLIENT_LOG = '/tmp/clients.json';

interface ClientLogLine {
  readonly request?: string;
  readonly client?: string;
}

/**
 * The documents with one addition: a file with a line for each request. The gateway itself logs no client at once; its
 * metrics show it after half a minute.
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

/** Publishes on loopback only, whereas testcontainers publishes on every interface, and resolves no host name. */
export class IsolatedContainer extends GenericContainer {
  #nameServer: string | undefined;

  withNameServer(address: string | undefined): this {
    this.#nameServer = address;
    return this;
  }

  protected override async beforeContainerCreated(): Promise<void> {
    this.hostConfig.Dns = [this.#nameServer ?? '127.0.0.1'];
    if (this.#nameServer !== undefined) this.hostConfig.Sysctls = { 'net.ipv6.conf.all.disable_ipv6': '0' };
    const bindings = Object.entries(this.hostConfig.PortBindings ?? {}) as [string, { HostPort: string }[]][];
    this.hostConfig.PortBindings = Object.fromEntries(
      bindings.map(([port, list]) => [port, list.map((each) => ({ ...each, HostIp: '127.0.0.1' }))]),
    );
  }
}

/**
 * Sends GET from inside the container, because the control API listens on loopback only. The image has no HTTP client, but
 * bash opens sockets. HTTP/1.0 avoids chunks, and base64 keeps every byte intact.
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

/** The kernel writes addresses as hexadecimal words in the machine's byte order, and 0A for a listening socket. */
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
