/** The metrics page at increasing sizes, with real requests of all clients, models, backends and operations. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { PORTS } from '../../test/support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../../test/support/gateway.ts';
import { median, percentile, type Request, send } from './load.ts';

/** Clients, models, backends, operations. The default of GATEWAY_METRICS_MEMORY is for the sixth. */
const SIZES = [
  [10, 2, 3, 2],
  [12, 10, 3, 3],
  [25, 5, 5, 5],
  [50, 10, 5, 5],
  [75, 15, 8, 5],
  [100, 20, 10, 5],
  [150, 30, 15, 5],
  [200, 40, 20, 5],
] as const;

const OPERATIONS = ['chat/completions', 'responses', 'embeddings', 'completions', 'images/generations'];
const CONNECTIONS = 8;
const SCRAPES = 20;
const PINGS = 1000;
const WATCH_MS = 8000;

/** Backends in one thread. Each answers every tenth request with 429, so that all have failovers. */
const SOURCE = `
const http = require('node:http');
const { parentPort, workerData } = require('node:worker_threads');
const usage = { prompt_tokens: 12, completion_tokens: 34, total_tokens: 46, prompt_tokens_details: { cached_tokens: 5 },
  completion_tokens_details: { reasoning_tokens: 7 }, input_tokens: 12, output_tokens: 34,
  input_tokens_details: { cached_tokens: 5 }, output_tokens_details: { reasoning_tokens: 7 } };
const whole = JSON.stringify({ id: 'x', choices: [{ index: 0, message: { role: 'assistant', content: 'hello' } }], usage });
const events = [{ choices: [{ index: 0, delta: { content: 'hello' } }] }, { choices: [], usage }]
  .map((each) => 'data: ' + JSON.stringify(each) + '\\n\\n').join('') + 'data: [DONE]\\n\\n';
const servers = Array.from({ length: workerData.count }, () => {
  let count = 0;
  return http.createServer((request, response) => {
    let body = '';
    request.on('data', (bytes) => { body += bytes; });
    request.on('end', () => {
      if (++count % 10 === 0) { response.writeHead(429); return response.end('{}'); }
      const isStream = body.includes('"stream":true');
      response.writeHead(200, { 'content-type': isStream ? 'text/event-stream' : 'application/json' });
      response.end(isStream ? events : whole);
    });
  });
});
let ports = [];
for (const server of servers) server.listen(0, workerData.host, () => {
  ports = servers.map((each) => each.address()?.port);
  if (ports.every(Boolean)) parentPort.postMessage(ports);
});
`;

async function startBackends(host: string, count: number) {
  const worker = new Worker(SOURCE, { eval: true, workerData: { host, count } });
  const ports = await new Promise<number[]>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return { ports, stop: () => worker.terminate() };
}

const keyOf = (client: number) => `key-of-client-${client}-0123456789`;
const names = (count: number, name: string) =>
  Array.from({ length: count }, (_, index) => `${name}-${index}`);

function settingsFor(host: string, ports: readonly number[], clients: number, models: number) {
  const settings: Record<string, string> = {
    GATEWAY_SECRETS: 'inline',
    GATEWAY_WORKERS: '2',
    AI_PROXY_COOLDOWN: '0',
    AI_PROXY_COOLDOWN_MAX: '0',
    ENABLE_AI_RATE_LIMIT: 'true',
    AI_RATE_LIMIT_HIGH_LIMIT: '1000000000',
    AI_RATE_LIMIT_LOW_LIMIT: '1000000000',
    MODEL_PRICES: names(models, 'gpt-model')
      .map((name) => `${name}=1/1`)
      .join(','),
  };
  for (const [index, port] of ports.entries()) {
    settings[`AZURE_OPENAI_ENDPOINT_${index}`] = `http://${host}:${port}`;
    settings[`AZURE_OPENAI_KEY_${index}`] = `key-of-backend-${index}-0123456789`;
    settings[`AZURE_OPENAI_REGION_${index}`] = 'swedencentral';
  }
  for (let client = 0; client < clients; client++) {
    settings[`GATEWAY_CLIENT_NAME_${client}`] = `client-${client}`;
    settings[`GATEWAY_CLIENT_KEY_${client}`] = keyOf(client);
  }
  return settings;
}

const request = (gateway: Gateway, client: number, model: number, operation: number): Request => ({
  url: `${gateway.url}/openai/v1/${OPERATIONS[operation]}`,
  headers: {
    'content-type': 'application/json',
    'api-key': keyOf(client),
    // Each client uses one lane.
    'x-priority': client % 2 === 0 ? 'high' : 'low',
  },
  body: JSON.stringify({
    model: `gpt-model-${model}`,
    input: 'Hello',
    prompt: 'Hello',
    messages: [{ role: 'user', content: 'Hello' }],
    // Every second client streams.
    ...(operation === 0 && client % 4 < 2 ? { stream: true, stream_options: { include_usage: true } } : {}),
  }),
});

async function scrape(gateway: Gateway) {
  const started = performance.now();
  const answer = await gateway.apisix.request(PORTS.metrics, '/apisix/prometheus/metrics');
  const text = await answer.text();
  return { status: answer.status, text, ms: performance.now() - started };
}

/** CPU and memory of an nginx process, by its title. */
async function processes(gateway: Gateway, title: string) {
  const script = `for d in /proc/[0-9]*; do if grep -qs "^nginx: ${title}" "$d/cmdline"; then echo "$(cut -d " " -f 1 "$d/schedstat") $(cut -d " " -f 2 "$d/statm")"; fi; done`;
  const rows = (await gateway.apisix.asRoot(script))
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number));
  return rows.reduce<{ cpuMs: number; mib: number }>(
    (sum, [nanoseconds = 0, pages = 0]) => ({
      cpuMs: sum.cpuMs + nanoseconds / 1e6,
      mib: sum.mib + (pages * 4096) / 2 ** 20,
    }),
    { cpuMs: 0, mib: 0 },
  );
}

const value = (text: string, name: string) =>
  Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
const sumOf = (text: string, name: string) =>
  [...text.matchAll(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'gm'))].reduce(
    (sum, [, each]) => sum + Number(each),
    0,
  );

/** Prints one line for each size. */
export async function metricsPage(host: string, print: (line: string) => void): Promise<void> {
  const only = process.env.BENCH_SIZES?.split(',').map(Number);
  for (const [index, [clients, models, backends, operations]] of SIZES.entries()) {
    if (only && !only.includes(index)) continue;
    const { ports, stop } = await startBackends(host, backends);
    const gateway = await startGateway({
      backends: [],
      settings: settingsFor(host, ports, clients, models),
      adapt: quickMetrics,
    });
    try {
      const count = clients * models * operations;
      const started = performance.now();
      const before = await processes(gateway, 'worker process');
      const samples = await send(count, CONNECTIONS, (number) => {
        const client = number % clients;
        const rest = Math.floor(number / clients);
        return request(gateway, client, rest % models, Math.floor(rest / models));
      });
      const after = await processes(gateway, 'worker process');
      const served = samples.filter(({ status }) => status === 200).length;
      if (served < 0.95 * count) throw new Error(`only ${served} of ${count} requests were served`);
      const seconds = (performance.now() - started) / 1000;
      await sleep(4000);

      const scrapes: number[] = [];
      let page = await scrape(gateway);
      const idle = await processes(gateway, 'worker process');
      for (let round = 0; round < SCRAPES && page.status === 200; round++) {
        page = await scrape(gateway);
        scrapes.push(page.ms);
      }
      const scraped = await processes(gateway, 'worker process');
      const agent = await processes(gateway, 'privileged agent');
      await sleep(WATCH_MS);
      const later = await processes(gateway, 'privileged agent');

      // Latency of one connection, without scrapes and with ten scrapes a second.
      const pings = async () =>
        (await send(PINGS, 1, () => request(gateway, 0, 0, 2))).map(({ milliseconds }) => milliseconds);
      const alone = await pings();
      // A separate process scrapes, so that reading does not delay the measured requests.
      const url = `http://127.0.0.1:${gateway.apisix.mappedPort(PORTS.metrics)}/apisix/prometheus/metrics`;
      const reader = spawn('bash', [
        '-c',
        'while sleep 0.1; do curl --silent --output /dev/null "$0"; done',
        url,
      ]);
      const together = await pings();
      reader.kill();

      const { text } = page;
      const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
      const used = (name: string) => {
        const of = (what: string) => value(text, `apisix_shared_dict_${what}_bytes\\{name="${name}"\\}`);
        return ((of('capacity') - of('free_space')) / 2 ** 20).toFixed(1);
      };
      const times = (all: readonly number[]) =>
        `${median(all).toFixed(1)}/${percentile(all, 0.99).toFixed(1)}/${Math.max(...all).toFixed(1)}`;
      print(
        `${clients} clients × ${models} models × ${backends} backends × ${operations} operations, ${count} requests` +
          ` in ${seconds.toFixed(0)} s (${((after.cpuMs - before.cpuMs) / count).toFixed(2)} ms CPU each): page ${page.status}, ` +
          `${lines} lines, ${(text.length / 1e6).toFixed(2)} MB, scrape ${scrapes.length > 0 ? `${median(scrapes).toFixed(0)} ms (max ${Math.max(...scrapes).toFixed(0)})` : 'fails'}, ` +
          `${((scraped.cpuMs - idle.cpuMs) / SCRAPES).toFixed(1)} ms CPU of a worker, ` +
          `${((later.cpuMs - agent.cpuMs) / (WATCH_MS / 1000)).toFixed(0)} ms CPU to write a page, shared memory used ${used('prometheus-metrics')} MiB, ` +
          `agent ${later.mib.toFixed(0)} MiB, workers ${(await processes(gateway, 'worker process')).mib.toFixed(0)} MiB, ` +
          `left out ${sumOf(text, 'apisix_genai_metrics_left_out_total')}; ` +
          `a request median/p99/max ms: ${times(alone)} alone, ${times(together)} while scraped ten times a second`,
      );
    } finally {
      await gateway.stop();
      await stop();
    }
  }
}
