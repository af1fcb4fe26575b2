/** Starts the real OpenTelemetry Collector with a rendered file. */
import { randomUUID } from 'node:crypto';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { IsolatedContainer } from './apisix.ts';
import { COLLECTOR_IMAGE, cannotRun } from './requirements.ts';

export const COLLECTOR_PORTS = { otlp: 4318, health: 13133 } as const;

const CONFIG = '/etc/otelcol-contrib/config.yaml';

/** For `describe.skipIf`. */
export const cannotRunCollectorTests = (tests: string): boolean => cannotRun(tests, 'collector');

export interface CollectorOptions {
  /** The content of otel-collector.yaml. */
  readonly file: string;
  /** The whole environment of its process. */
  readonly environment?: Readonly<Record<string, string>>;
  /** The memory limit of the container in MiB. */
  readonly memoryMiB?: number;
  /** The container whose network it joins, as in one replica. That container publishes its ports. */
  readonly beside?: string;
  /** Folders of this host that it may read, by their path in the container. */
  readonly sharedFolders?: Readonly<Record<string, string>>;
}

export interface Collector {
  /** Sends a request from the host. Not available in another container's network. */
  request(port: number, path: string, init?: RequestInit): Promise<Response>;
  /** Everything that it has written since its start. */
  log(): string;
  isRunning(): boolean;
  stop(): Promise<void>;
}

/** Starts the collector and waits until it is ready. */
export async function startCollector(options: CollectorOptions): Promise<Collector> {
  const { file, environment = {}, memoryMiB, beside, sharedFolders = {} } = options;
  const log = { text: '', ended: false };
  const Container = beside === undefined ? IsolatedContainer : GenericContainer;
  const container = new Container(COLLECTOR_IMAGE)
    .withName(`genai-gateway-collector-${randomUUID()}`)
    .withEnvironment(environment)
    // As `render` leaves it: owned by another user than the image's.
    .withCopyContentToContainer([{ content: file, target: CONFIG, mode: 0o644 }])
    .withBindMounts(Object.entries(sharedFolders).map(([target, source]) => ({ source, target, mode: 'ro' })))
    .withLogConsumer((stream) => {
      stream.on('data', (chunk: Buffer | string) => {
        log.text += chunk.toString();
      });
      stream.on('end', () => {
        log.ended = true;
      });
    })
    .withStartupTimeout(30_000)
    .withWaitStrategy(Wait.forLogMessage(/Everything is ready/));
  if (memoryMiB !== undefined) container.withResourcesQuota({ memory: memoryMiB / 1024 });
  if (beside === undefined) container.withExposedPorts(COLLECTOR_PORTS.otlp, COLLECTOR_PORTS.health);
  else container.withNetworkMode(`container:${beside}`);
  let started: StartedTestContainer;
  try {
    started = await container.start();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the collector did not get ready: ${reason}\nIts log ends:\n${log.text.slice(-4000)}`, {
      cause: error,
    });
  }
  return {
    request: (port, path, init) => fetch(`http://127.0.0.1:${started.getMappedPort(port)}${path}`, init),
    log: () => log.text,
    isRunning: () => !log.ended,
    stop: async () => {
      await started.stop({ timeout: 0 });
    },
  };
}
