/** A gateway in Docker with mocks behind it, for scenarios that are shorter than their full length. */
import { randomBytes } from 'node:crypto';
import {
  containerName,
  labels,
  makeFolder,
  removeContainer,
  removeFolder,
  renderedIn,
} from '../commands/local/containers.ts';
import { Docker, freePorts, HOST, hostAddress } from '../commands/local/docker.ts';
import { PORTS, publishedPorts, waitUntilReady } from '../commands/local/gateway.ts';
import { haveImage, launchArguments } from '../commands/local/launch.ts';
import type { Terminal } from '../commands/terminal.ts';
import { compile } from '../compile.ts';
import type { Documents } from '../emit/emit.ts';
import type { MockBackend } from '../mock/server.ts';
import { keyOf } from '../mock/start.ts';
import { writeDocuments } from '../output/write.ts';
import { Failure } from './gateway-client.ts';
import { startMocksOf } from './mocks.ts';
import { BACKENDS } from './names.ts';
import type { Target } from './run.ts';
import { simulatorsAt } from './simulators.ts';

const CLIENTS = ['one', 'two', 'three'] as const;
const MINUTE_SECONDS = 60;
const PRIORITIES = [10, 5, 1] as const;

/** Settings of a gateway for the scenarios, with backends on these ports of this machine. */
export function settingsFor(ports: readonly number[], keys: readonly string[]): Record<string, string> {
  const backends = BACKENDS.flatMap((name, index) => [
    [`AZURE_OPENAI_NAME_${index}`, name],
    [`AZURE_OPENAI_ENDPOINT_${index}`, `http://${HOST}:${ports[index]}`],
    [`AZURE_OPENAI_KEY_${index}`, keyOf(index)],
    [`AZURE_OPENAI_PRIORITY_${index}`, String(PRIORITIES[index])],
  ]);
  const clients = CLIENTS.flatMap((name, index) => [
    [`GATEWAY_CLIENT_NAME_${index}`, name],
    [`GATEWAY_CLIENT_KEY_${index}`, keys[index] ?? ''],
  ]);
  return {
    GATEWAY_E2E_TEST_MODE: 'true',
    GATEWAY_WORKERS: '2',
    ...Object.fromEntries([...backends, ...clients]),
  };
}

/**
 * The minute of the gateway's budgets becomes shorter with the scenario. Only here: there is no setting for it.
 * @param seconds its length
 */
export function withBudgetMinute(documents: Documents, seconds: number): Documents {
  const place = '  azure-openai-proxy: {';
  const config = documents['config.yaml'];
  if (!config.includes(place)) throw new Error(`config.yaml has no line "${place}"`);
  const testing = JSON.stringify({ times: { budget_minute: seconds } });
  return { ...documents, 'config.yaml': config.replace(place, `${place}"testing": ${testing}, `) };
}

export interface LocalGateway {
  readonly target: Target;
  /** Seconds of the minute of its budgets. */
  readonly budgetMinute: number;
  stop(): Promise<void>;
}

/**
 * Starts the mocks and the gateway.
 * @returns undefined if interrupted
 * @throws Failure if Docker fails
 */
export async function startLocalGateway(
  { image, timeScale }: { readonly image: string; readonly timeScale: number },
  terminal: Terminal,
  interruption: { readonly signal: AbortSignal; readonly once: Promise<void> },
): Promise<LocalGateway | undefined> {
  const docker = new Docker(terminal.environment);
  const problem = await docker.problem();
  if (problem !== undefined) throw new Failure(problem);
  if (!(await haveImage(docker, image, terminal, interruption.signal))) return undefined;
  const undo: (() => unknown)[] = [];
  const stop = async () => {
    for (const each of undo.splice(0).reverse()) await each();
  };
  try {
    const mocks = await startMocksOf(1000 / timeScale, await hostAddress(docker));
    undo.push(() => Promise.all(mocks.map((mock) => mock.stop())));
    const keys = CLIENTS.map(() => randomBytes(24).toString('base64url'));
    const environment = settingsFor(
      mocks.map(({ port }) => port),
      keys,
    );
    const { documents, diagnostics } = await compile({ environment, envFiles: [] });
    if (!documents)
      throw new Error(`the settings of the scenarios have errors: ${JSON.stringify(diagnostics)}`);
    const budgetMinute = MINUTE_SECONDS / timeScale;
    const folder = makeFolder();
    undo.push(() => removeFolder(folder));
    const rendered = timeScale === 1 ? documents : withBudgetMinute(documents, budgetMinute);
    const written = writeDocuments(renderedIn(folder), rendered, 0o644);
    if (!written.ok) throw new Failure(`${written.path} cannot be written: ${written.reason}.`);
    const [port = 0] = await freePorts(1);
    const name = containerName(port);
    undo.push(() => removeContainer(docker, name));
    const { code, stderr } = await docker.run(
      [
        ...['run', '--detach', '--name', name, ...labels(port, folder)],
        ...['--add-host', `${HOST}:host-gateway`],
        ...['--publish', `127.0.0.1:${port}:${PORTS.proxy}`, '--publish', `127.0.0.1::${PORTS.metrics}`],
        ...launchArguments({ rendered: renderedIn(folder), files: [], variables: environment, image }),
      ],
      environment,
    );
    if (code !== 0) throw new Failure(`Docker could not start the container: ${stderr.trim()}`);
    const ended = docker.run(['wait', name]).then(() => undefined);
    const state = await waitUntilReady(port, ended, interruption.once);
    if (state === 'interrupted') {
      await stop();
      return undefined;
    }
    if (state !== 'ready') {
      const { stdout, stderr: errors } = await docker.run(['logs', '--tail', '20', name]);
      throw new Failure(`The gateway did not get ready. Its log ends:\n${stdout}${errors}`.trimEnd());
    }
    const metrics = (await publishedPorts(docker, name)).get(PORTS.metrics);
    return {
      target: targetOf(port, metrics, keys, mocks),
      budgetMinute,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function targetOf(
  port: number,
  metrics: number | undefined,
  keys: readonly string[],
  mocks: readonly MockBackend[],
): Target {
  return {
    url: `http://127.0.0.1:${port}`,
    keys,
    clientNames: CLIENTS,
    metrics: `http://127.0.0.1:${metrics}/apisix/prometheus/metrics`,
    simulators: simulatorsAt(
      mocks.map(({ url }) => url),
      mocks.map((_, index) => keyOf(index)),
    ),
    resetMocks: () => {
      for (const mock of mocks) mock.reset();
    },
  };
}
