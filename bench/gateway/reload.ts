/** The cost of a reload: the longest CPU time of each worker, and the slowest request, compared with no reload. */
import { rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Documents } from '../../compiler/emit/emit.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../../test/support/gateway.ts';
import { compileVariables } from '../../test/support/scenarios.ts';
import { secretFolder } from '../../test/support/secret-folder.ts';
import { newFolder, replaceFile } from './folders.ts';
import { median } from './load.ts';

const STRETCHES = 5;
const PAIRS = 9;
/** Time from the change of the file until its effects are over, in milliseconds. */
const WINDOW_MS = 4_000;
const REQUESTS_PER_SECOND = 100;
/** Request rate while turns are measured. A worker can defer work of a reload to its next request, so there must be some. */
const FEW_PER_SECOND = 20;
const STORM = 100;
const STORM_EVERY_MS = 1_100;

interface Case {
  readonly name: string;
  readonly clients: number;
  readonly backends: number;
  readonly keysInFiles?: true;
  readonly pools?: number;
}

const CASES: readonly Case[] = [
  { name: '2 clients', clients: 2, backends: 2 },
  { name: '1,000 clients', clients: 1_000, backends: 2 },
  { name: '5,000 clients', clients: 5_000, backends: 2 },
  { name: '10,000 clients', clients: 10_000, backends: 2 },
  { name: '10,000 clients with keys in files', clients: 10_000, backends: 2, keysInFiles: true },
  { name: '1,000 backends', clients: 2, backends: 1_000 },
  { name: '1 pool', clients: 2, backends: 10, pools: 1 },
  { name: '50 pools', clients: 2, backends: 10, pools: 50 },
];

/**
 * A plugin that measures the CPU time of each turn of the worker's event loop: while one turn runs, all requests wait.
 * It is active only while a certain file exists, because a loop that never sleeps uses a whole CPU.
 */
const SAMPLER = `
local ffi = require("ffi")
local lfs = require("lfs")
ffi.cdef[[
typedef struct { long s; long ns; } bench_time;
int clock_gettime(int clock, bench_time *time);
]]
local time = ffi.new("bench_time[1]")
local function cpu_ms()
    ffi.C.clock_gettime(3, time)
    return tonumber(time[0].s) * 1e3 + tonumber(time[0].ns) / 1e6
end
local is_sampling = false
local function sample()
    is_sampling = true
    local longest, before, first = 0, cpu_ms(), cpu_ms()
    local turns = {}
    while true do
        ngx.sleep(0)
        local now = cpu_ms()
        if now - before > 2 then
            turns[#turns + 1] = string.format("%.1f", now - before)
        end
        longest = math.max(longest, now - before)
        before = now
        if not lfs.attributes("/sampling/on", "ino") then
            break
        end
    end
    local file = io.open("/sampling/" .. ngx.worker.pid(), "w")
    file:write(longest, "\\n", table.concat(turns, " "), "\\n")
    file:close()
    is_sampling = false
end
return {
    version = 0.1,
    priority = 1,
    name = "bench-sampler",
    schema = { type = "object" },
    check_schema = function() return true end,
    init = function()
        if require("ngx.process").type() == "worker" then
            ngx.timer.every(0.1, function(premature)
                if not premature and not is_sampling and lfs.attributes("/sampling/on", "ino") then
                    sample()
                end
            end)
        end
    end,
}
`;

const withSampler = (documents: Documents): Documents => ({
  ...documents,
  'config.yaml': documents['config.yaml'].replace('plugins:\n', 'plugins:\n  - "bench-sampler"\n'),
});

function settingsOf({ clients, backends, keysInFiles, pools = 0 }: Case, address: string) {
  const settings: Record<string, string> = {
    GATEWAY_WORKERS: '2',
    GATEWAY_CLIENT_TOKENS_PER_MINUTE_0: '1000000000',
  };
  const keys: Record<string, string> = {};
  for (let index = 0; index < clients; index++) {
    settings[`GATEWAY_CLIENT_NAME_${index}`] = `client-${index}`;
    keys[`GATEWAY_CLIENT_KEY_${index}`] = index === 0 ? CLIENT_KEY : `key-of-client-${index}-0123456789`;
  }
  for (let index = 0; index < backends; index++) {
    settings[`AZURE_OPENAI_ENDPOINT_${index}`] = `http://${address}`;
    settings[`AZURE_OPENAI_NAME_${index}`] = `backend-${index}`;
    settings[`AZURE_OPENAI_KEY_${index}`] = `key-of-the-backend-${index}-0123456789`;
  }
  for (let index = 0; index < pools; index++) settings[`GATEWAY_POOL_NAME_${index}`] = `pool-${index}`;
  const folder = keysInFiles ? secretFolder(keys) : undefined;
  return { settings: { ...settings, ...(folder?.settings ?? keys) }, remove: () => folder?.remove() };
}

class Bench {
  readonly #gateway: Gateway;
  readonly #folder: string;
  readonly #versions: readonly string[];
  readonly #sampling: string;
  #version = 0;

  constructor(gateway: Gateway, folder: string, sampling: string, versions: readonly string[]) {
    this.#gateway = gateway;
    this.#folder = folder;
    this.#sampling = sampling;
    this.#versions = versions;
  }

  #put(name: string): void {
    replaceFile(this.#folder, name, this.#versions[++this.#version % 2] ?? '');
  }

  reload(): void {
    this.#put('apisix.yaml');
  }

  /** CPU times of the longest turn of each worker while the file is replaced, in milliseconds. */
  async stretches(isReloaded: boolean): Promise<{ longest: number[]; turns: string[] }> {
    const pids = (await this.#gateway.apisix.workers()).map(({ pid }) => pid);
    const file = join(this.#sampling, 'on');
    writeFileSync(file, '');
    await sleep(400);
    if (isReloaded) this.reload();
    await steadily(this.#gateway, WINDOW_MS, FEW_PER_SECOND);
    rmSync(file);
    await sleep(500);
    const found = (
      await this.#gateway.apisix.asRoot(
        'cd /sampling && for pid in "$@"; do cat "$pid"; rm "$pid"; done',
        ...pids.map(String),
      )
    ).split('\n');
    return {
      longest: pids.map((_, index) => Number(found[2 * index])),
      turns: pids.map((_, index) => found[2 * index + 1] ?? ''),
    };
  }

  /** CPU time of all workers, in milliseconds. */
  async cpu(isReloaded: boolean): Promise<number> {
    const total = async () =>
      (await this.#gateway.apisix.workers()).reduce((sum, { cpuMs }) => sum + cpuMs, 0);
    const before = await total();
    if (isReloaded) this.reload();
    await sleep(WINDOW_MS);
    return (await total()) - before;
  }

  /** The slowest of the requests sent at a fixed rate while the file, or another file, is replaced. */
  async slowest(isReloaded: boolean): Promise<number> {
    const load = steadily(this.#gateway, WINDOW_MS);
    await sleep(300);
    this.#put(isReloaded ? 'apisix.yaml' : 'nothing.yaml');
    return slowestOf(await load);
  }
}

interface Outcome {
  readonly milliseconds: number;
  /** The reason why the answer was not a 200. */
  readonly failure?: string;
}

/** Sends requests at a fixed rate, without waiting for earlier answers. */
async function steadily(
  gateway: Gateway,
  milliseconds: number,
  perSecond = REQUESTS_PER_SECOND,
): Promise<Outcome[]> {
  const agent = new http.Agent({ keepAlive: true });
  const began = performance.now();
  const pending: Promise<Outcome>[] = [];
  for (let index = 0; index < (milliseconds / 1000) * perSecond; index++) {
    const wait = began + (index * 1000) / perSecond - performance.now();
    if (wait > 0) await sleep(wait);
    pending.push(exchange(agent, gateway));
  }
  const outcomes = await Promise.all(pending);
  agent.destroy();
  return outcomes;
}

function slowestOf(outcomes: readonly Outcome[]): number {
  const { failure } = outcomes.find((each) => each.failure !== undefined) ?? {};
  if (failure !== undefined) throw new Error(`a request failed: ${failure}`);
  return Math.max(...outcomes.map((each) => each.milliseconds));
}

const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] });

function exchange(agent: http.Agent, gateway: Gateway): Promise<Outcome> {
  return new Promise((resolve) => {
    const started = performance.now();
    const done = (failure?: string) =>
      resolve({ milliseconds: performance.now() - started, ...(failure === undefined ? {} : { failure }) });
    const request = http.request(
      `${gateway.url}/openai/v1/chat/completions`,
      { agent, method: 'POST', headers: { 'content-type': 'application/json', 'api-key': CLIENT_KEY } },
      (response) => {
        response.resume();
        response.on('end', () =>
          done(response.statusCode === 200 ? undefined : `status ${response.statusCode}`),
        );
        response.on('error', ({ message }) => done(message));
      },
    );
    request.on('error', ({ message }) => done(message));
    request.end(BODY);
  });
}

const ms = (value: number) => value.toFixed(value < 10 ? 1 : 0);

/**
 * @param address the address of the backends, as containers reach it
 * @param wanted parts of names of cases; empty for all cases
 */
export async function reloads(address: string, print: (line: string) => void, wanted: readonly string[]) {
  for (const each of CASES.filter(
    ({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
  )) {
    const folder = newFolder();
    // APISIX's user writes into this folder.
    const sampling = newFolder(0o777);
    const { settings, remove } = settingsOf(each, address);
    try {
      const gateway = await startGateway({
        backends: [{}],
        settings,
        adapt: withSampler,
        configFolder: folder,
        sharedFolders: { '/sampling': sampling },
        mountedFiles: { '/opt/genai-gateway/lua-plugins/apisix/plugins/bench-sampler.lua': SAMPLER },
      });
      try {
        await measure(each, gateway, folder, sampling, print);
      } finally {
        await gateway.stop();
      }
    } finally {
      remove();
      rmSync(folder, { recursive: true, force: true });
      rmSync(sampling, { recursive: true, force: true });
    }
  }
}

async function measure(
  each: Case,
  gateway: Gateway,
  folder: string,
  sampling: string,
  print: (line: string) => void,
): Promise<void> {
  const versions = await Promise.all(
    ['high', 'low'].map(async (lane, index) => {
      const { documents } = await compileVariables({
        ...gateway.variables,
        AZURE_OPENAI_WEIGHT_0: String(index + 2),
        [`GATEWAY_CLIENT_PRIORITY_${each.clients - 1}`]: lane,
      });
      return documents['apisix.yaml'];
    }),
  );
  const bench = new Bench(gateway, folder, sampling, versions);
  await sleep(2_000);
  slowestOf(await steadily(gateway, 3_000));

  const quiet = await bench.stretches(false);
  const longest: number[] = [];
  const turns: string[] = [];
  for (let round = 0; round < STRETCHES; round++) {
    const found = await bench.stretches(true);
    longest.push(...found.longest);
    turns.push(...found.turns);
  }
  print(
    `reload with ${each.name}: longest stretch of CPU in a worker, median ${ms(median(longest))} ms,` +
      ` largest ${ms(Math.max(...longest))} ms; without a reload ${ms(Math.max(...quiet.longest))} ms`,
  );
  if (process.env.BENCH_TURNS) print(turns.map((turn) => `  turns above 2 ms: ${turn}`).join('\n'));

  const idle = median([await bench.cpu(false), await bench.cpu(false), await bench.cpu(false)]);
  const busy = median([await bench.cpu(true), await bench.cpu(true), await bench.cpu(true)]);
  print(`  CPU of both workers for a reload: ${ms(busy - idle)} ms`);

  const pairs: { with: number; without: number }[] = [];
  for (let pair = 0; pair < PAIRS; pair++) {
    const first = pair % 2 === 0;
    const [a, b] = [await bench.slowest(first), await bench.slowest(!first)];
    pairs.push(first ? { with: a, without: b } : { with: b, without: a });
  }
  const [reloaded, without] = [
    median(pairs.map((pair) => pair.with)),
    median(pairs.map((pair) => pair.without)),
  ];
  const ratios = pairs.map((pair) => pair.with / pair.without);
  print(
    `  slowest request of ${(WINDOW_MS / 1000) * REQUESTS_PER_SECOND}, median of ${PAIRS} pairs:` +
      ` ${ms(reloaded)} ms with a reload, ${ms(without)} ms without, ratio ${median(ratios).toFixed(2)}`,
  );

  if (each.clients !== 10_000 || each.keysInFiles) return;
  // Each version needs a different second, by which APISIX distinguishes versions.
  const load = steadily(gateway, STORM * STORM_EVERY_MS);
  for (let reload = 0; reload < STORM; reload++) {
    bench.reload();
    await sleep(STORM_EVERY_MS);
  }
  const outcomes = await load;
  const failed = outcomes.flatMap(({ failure }) => failure ?? []);
  print(
    `  ${STORM} reloads under load: ${failed.length} of ${outcomes.length} requests failed` +
      ` (${[...new Set(failed)].join(', ')}), slowest ${ms(Math.max(...outcomes.map((each) => each.milliseconds)))} ms`,
  );
}
