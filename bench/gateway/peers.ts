/**
 * The same load through this gateway and through LiteLLM's proxy, alternately, in one run: `npm run bench:peers`.
 * LiteLLM comes from PyPI: `python3 -m venv litellm && litellm/bin/pip install 'litellm[proxy]'`, then
 * `LITELLM=litellm/bin/litellm npm run bench:peers`.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../../compiler/commands/local/docker.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../../test/support/gateway.ts';
import { chatBody, expectAll, median, percentile, type Request, send } from './load.ts';

const ROUNDS = 5;
const CONNECTIONS = 8;
const START_MS = 120_000;
/** Milliseconds of a clock tick in /proc/PID/stat on Linux. */
const TICK_MS = 10;

/** A measured proxy: its address, and the resources that its processes have used. */
interface Peer {
  readonly name: string;
  /** The base URL for an OpenAI client, including the path of the API. */
  readonly baseUrl: string;
  cpuMs(): Promise<number>;
  /** Proportional set size of all its processes, in bytes. */
  memoryBytes(): Promise<number>;
}

interface Case {
  readonly name: string;
  readonly size: number;
  readonly count: number;
  readonly more: object;
}

const CASES: readonly Case[] = [
  { name: 'JSON 4 KB', size: 4096, count: 400, more: {} },
  { name: 'JSON 66 KB', size: 66_000, count: 300, more: {} },
  {
    name: 'stream of 200 events',
    size: 4096,
    count: 40,
    more: { stream: true },
  },
];

/** @param address the address of the backends, as containers reach it */
export async function peers(address: string, print: (line: string) => void): Promise<void> {
  const program = process.env.LITELLM ?? 'litellm';
  const version = versionOf(program);
  const gateway = await startGateway({
    backends: [{}, {}],
    settings: {
      GATEWAY_WORKERS: '1',
      AZURE_OPENAI_ENDPOINT_0: `http://${address}`,
      AZURE_OPENAI_ENDPOINT_1: `http://${address}`,
    },
  });
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-bench-'));
  let litellm: ChildProcess | undefined;
  try {
    const [port = 0] = await freePorts(1);
    litellm = startLitellm(program, folder, address, port);
    const others = [ofGateway(gateway), ofProcess(`LiteLLM ${version}`, port, litellm.pid ?? 0)] as const;
    await ready(others[1], litellm);
    for (const each of CASES) await compare(each, others, address, print);
    for (const { name, memoryBytes } of others)
      print(`memory after that, ${name}: ${((await memoryBytes()) / 2 ** 20).toFixed(0)} MiB`);
  } finally {
    litellm?.kill('SIGTERM');
    await gateway.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function versionOf(program: string): string {
  try {
    return /\d+\.\d+\.\d+\S*/.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[0] ?? '';
  } catch {
    throw new Error(
      `LiteLLM's proxy is not at ${program}: install it with pip install 'litellm[proxy]', and set LITELLM to its program`,
    );
  }
}

/** Two deployments of one model, with keys, as in the gateway. Nothing leaves this machine. */
function startLitellm(program: string, folder: string, address: string, port: number): ChildProcess {
  const model = (index: number) => `  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o
      api_base: http://${address}
      api_key: key-of-backend-${index}-0123456789
      api_version: "2024-10-21"
`;
  const file = join(folder, 'litellm.yaml');
  writeFileSync(
    file,
    `model_list:
${model(0)}${model(1)}litellm_settings:
  telemetry: false
general_settings:
  master_key: ${CLIENT_KEY}
router_settings:
  num_retries: 1
`,
    { mode: 0o600 },
  );
  return spawn(
    program,
    ['--config', file, '--host', '127.0.0.1', '--port', String(port), '--num_workers', '1'],
    {
      stdio: 'ignore',
      env: {
        ...process.env,
        LITELLM_LOCAL_MODEL_COST_MAP: 'True',
        LITELLM_TELEMETRY: 'False',
        LITELLM_LOG: 'ERROR',
      },
    },
  );
}

const ofGateway = (gateway: Gateway): Peer => ({
  name: 'genai-gateway',
  baseUrl: `${gateway.url}/openai/v1`,
  cpuMs: async () => (await gateway.apisix.workers()).reduce((sum, { cpuMs }) => sum + cpuMs, 0),
  memoryBytes: async () => {
    const format = '{{.MemUsage}}';
    const id = gateway.apisix.containerId;
    const [, number = '', unit = ''] =
      /^([\d.]+)([KMG])iB/.exec(
        execFileSync('docker', ['stats', '--no-stream', '--format', format, id], { encoding: 'utf8' }),
      ) ?? [];
    return Number(number) * 1024 ** ('KMG'.indexOf(unit) + 1);
  },
});

const ofProcess = (name: string, port: number, pid: number): Peer => ({
  name,
  baseUrl: `http://127.0.0.1:${port}/v1`,
  cpuMs: async () => tree(pid).reduce((sum, each) => sum + cpuOf(each), 0),
  memoryBytes: async () =>
    tree(pid).reduce((sum, each) => {
      const [, kib = '0'] = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${each}/smaps_rollup`, 'utf8')) ?? [];
      return sum + Number(kib) * 1024;
    }, 0),
});

/** A process and all its descendants. */
function tree(root: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((each) => /^\d+$/.test(each))) {
    const stat = statOf(Number(name));
    if (stat) parents.set(Number(name), Number(stat[1]));
  }
  const isBelow = (pid: number): boolean =>
    pid === root || (parents.has(pid) && isBelow(parents.get(pid) ?? 0));
  return [...parents.keys()].filter(isBelow);
}

/** Fields of /proc/PID/stat, starting with the state; undefined: the process has ended. */
function statOf(pid: number): string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
  } catch {
    return undefined;
  }
}

function cpuOf(pid: number): number {
  const stat = statOf(pid);
  return stat ? (Number(stat[11]) + Number(stat[12])) * TICK_MS : 0;
}

async function ready({ baseUrl, name }: Peer, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + START_MS;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`${name} ended with exit code ${child.exitCode}`);
    const answer = await fetch(new URL('/health/liveliness', baseUrl)).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(200);
  }
  throw new Error(`${name} is not ready after ${START_MS / 1000} seconds`);
}

function requestTo(baseUrl: string, { size, more }: Case): Request {
  return {
    url: `${baseUrl}/chat/completions`,
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${CLIENT_KEY}`,
      'user-agent': 'bench',
    },
    body: chatBody(size, more),
  };
}

interface Figures {
  cpuMs: number[];
  /** With one connection no request waits for another. */
  alone: number[];
  /** All connections. */
  busy: number[];
}

/** The peers alternate in every round. The backend without a peer is the baseline of the latency. */
async function compare(
  each: Case,
  all: readonly Peer[],
  address: string,
  print: (line: string) => void,
): Promise<void> {
  const direct: number[] = [];
  const figures = new Map(all.map((peer): [Peer, Figures] => [peer, { cpuMs: [], alone: [], busy: [] }]));
  const few = Math.ceil(each.count / 8);
  for (let round = -1; round < ROUNDS; round++) {
    const bare = await measured(few, 1, requestTo(`http://${address}/v1`, each));
    if (round >= 0) direct.push(...bare);
    for (const [peer, { cpuMs, alone, busy }] of figures) {
      const request = requestTo(peer.baseUrl, each);
      const one = await measured(few, 1, request);
      const before = await peer.cpuMs();
      const many = await measured(each.count, CONNECTIONS, request);
      const used = ((await peer.cpuMs()) - before) / each.count;
      if (round < 0) continue;
      cpuMs.push(used);
      alone.push(...one);
      busy.push(...many);
    }
  }
  const base = median(direct);
  for (const [{ name }, { cpuMs, alone, busy }] of figures)
    print(
      `${each.name}, ${name}: CPU ${median(cpuMs).toFixed(2)} ms a request; latency added ${(median(alone) - base).toFixed(1)} ms` +
        ` (median); with ${CONNECTIONS} connections ${median(busy).toFixed(0)} ms, p99 ${percentile(busy, 0.99).toFixed(0)} ms`,
    );
  const [ours, theirs] = [...figures.values()].map(({ cpuMs }) => median(cpuMs));
  if (ours !== undefined && theirs !== undefined)
    print(`${each.name}: CPU of LiteLLM ${(theirs / ours).toFixed(1)} × ours`);
}

async function measured(count: number, connections: number, request: Request): Promise<number[]> {
  const samples = await send(count, connections, () => request);
  expectAll(samples, 200);
  return samples.map(({ milliseconds }) => milliseconds);
}
