/**
 * Half an hour of mixed load: checks that memory does not grow, that a well-behaved client sees no errors, and that the
 * error log has no unexpected lines.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import http from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { failedStream, throttled, throttledStream } from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/behaviour.ts';
import type { MockBackend } from '../../compiler/mock/server.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../../test/support/gateway.ts';
import { compileVariables } from '../../test/support/scenarios.ts';
import { newFolder, replaceFile } from './folders.ts';

const DEFAULT_MINUTES = 30;
const CLIENTS = 100;
/** Start interval of each kind of traffic, in milliseconds. */
const CHAT_EVERY_MS = 25;
const STREAM_EVERY_MS = 200;
const UPLOAD_EVERY_MS = 3_000;
const FAULT_EVERY_MS = 4_000;
const HOSTILE_EVERY_MS = 50;
const RELOAD_EVERY_MS = 60_000;
const PATIENCE_MS = 60_000;

/** Faults of the mocks, in turn. The last backend always answers, so that clients see no errors. */
const FAULTS: readonly Behaviour[] = [
  throttled({ retryAfter: 1 }),
  throttledStream(),
  failedStream(),
  { status: 500 },
  { status: 503, headers: { 'Retry-After': '1' } },
  { reset: 'before-headers' },
];

interface Counts {
  sent: number;
  readonly failures: Map<string, number>;
}

/** @param minutes the command-line argument */
export async function mixedLoad(print: (line: string) => void, minutes = String(DEFAULT_MINUTES)) {
  const length = Number(minutes);
  if (!(length > 0 && length <= 240)) throw new Error(`minutes are a number from 1 to 240, not ${minutes}`);
  const folder = newFolder();
  const keyOf = (index: number) => (index === 0 ? CLIENT_KEY : `key-of-client-${index}-0123456789`);
  const clients = Array.from({ length: CLIENTS }, (_, index) => [
    [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`],
    [`GATEWAY_CLIENT_KEY_${index}`, keyOf(index)],
  ]).flat();
  const gateway = await startGateway({
    backends: [{}, {}, {}],
    configFolder: folder,
    settings: { ...Object.fromEntries(clients), AZURE_OPENAI_PRIORITY_2: '1', AI_PROXY_COOLDOWN: '1s' },
  });
  try {
    for (const mock of gateway.mocks) mock.configure({ recordBodies: false });
    await run({ gateway, folder, print, until: Date.now() + length * 60_000, keyOf });
  } finally {
    await gateway.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Run {
  readonly gateway: Gateway;
  readonly folder: string;
  readonly print: (line: string) => void;
  readonly until: number;
  readonly keyOf: (index: number) => string;
}

async function run({ gateway, folder, print, until, keyOf }: Run): Promise<void> {
  const agent = new http.Agent({ keepAlive: true });
  const counts: Counts = { sent: 0, failures: new Map() };
  const file = randomBytes(2 ** 20).toString('hex');
  const of = (kind: string, request: () => Promise<string | undefined>) => async () => {
    counts.sent += 1;
    const failure = await request().catch((error: Error) => error.message);
    if (failure !== undefined)
      counts.failures.set(`${kind}: ${failure}`, (counts.failures.get(`${kind}: ${failure}`) ?? 0) + 1);
  };
  const chat = (index: number, body: object, size = 4_000) =>
    exchange(agent, gateway, keyOf(index % CLIENTS), '/openai/v1/chat/completions', {
      model: `model-${index % 5}`,
      messages: [{ role: 'user', content: 'lorem ipsum '.repeat(size / 12) }],
      max_tokens: 40,
      ...body,
    });
  let index = 0;
  const samples: { requests: number; bytes: number }[] = [];
  await Promise.all([
    repeat(
      until,
      CHAT_EVERY_MS,
      of('chat', () => chat(index++, {})),
    ),
    repeat(
      until,
      STREAM_EVERY_MS,
      of('stream', () => chat(index++, { stream: true })),
    ),
    repeat(
      until,
      UPLOAD_EVERY_MS,
      of('long body', () => chat(index++, {}, 2_000_000)),
    ),
    repeat(
      until,
      UPLOAD_EVERY_MS,
      of('upload', () => upload(agent, gateway, file)),
    ),
    repeat(until, FAULT_EVERY_MS, fault(gateway.mocks)),
    repeat(until, HOSTILE_EVERY_MS, hostile(gateway)),
    repeat(until, RELOAD_EVERY_MS, reload(gateway, folder)),
    repeat(until, 60_000, async () => {
      const bytes = await ownMemory(gateway);
      samples.push({ requests: counts.sent, bytes });
      print(
        `${counts.sent} requests, ${(bytes / 2 ** 20).toFixed(0)} MiB, ${counts.failures.size} kinds of failures`,
      );
    }),
  ]);
  agent.destroy();

  // One-time growth is over after a third of the time.
  const slope = slopeOf(samples.slice(Math.floor(samples.length / 3)));
  print(`memory of the workers: ${((slope * 10_000) / 1024).toFixed(0)} KiB for each 10,000 requests`);
  print(`${counts.sent} requests of well-behaved clients, failed: ${asText(counts.failures)}`);
  const answers = new Map<string, number>();
  for (const { status } of await gateway.accessLog()) add(answers, String(status));
  print(`answers, with those to the hostile client: ${asText(answers)}`);
  print(`error lines: ${asText(errorLines(gateway.apisix.logSoFar()))}`);
}

/** Private memory of the workers in bytes. Shared memory is excluded, because its pages are touched over time. */
async function ownMemory({ apisix }: Gateway): Promise<number> {
  const pids = (await apisix.workers()).map(({ pid }) => String(pid));
  const script = 'for pid in "$@"; do grep RssAnon "/proc/$pid/status"; done';
  const lines = await apisix.asRoot(script, ...pids);
  return [...lines.matchAll(/(\d+) kB/g)].reduce((sum, [, kilobytes]) => sum + Number(kilobytes) * 1024, 0);
}

const add = (counts: Map<string, number>, key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);
const asText = (counts: ReadonlyMap<string, number>) =>
  counts.size === 0 ? 'none' : [...counts].map(([key, count]) => `\n  ${count} × ${key}`).join('');

/** Slope by least squares, in bytes for each request. */
function slopeOf(samples: readonly { readonly requests: number; readonly bytes: number }[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, each) => sum + each, 0) / values.length;
  const [x, y] = [mean(samples.map((each) => each.requests)), mean(samples.map((each) => each.bytes))];
  const over = samples.reduce((sum, each) => sum + (each.requests - x) * (each.bytes - y), 0);
  return over / samples.reduce((sum, each) => sum + (each.requests - x) ** 2, 0);
}

/** Lines of the error log at level `error` and above, with numbers and quoted text removed. */
function errorLines(log: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of log.split('\n')) {
    const found = /\[(?:error|crit|alert|emerg)\] (.*)/.exec(line)?.[1];
    if (found !== undefined)
      add(
        counts,
        found
          .replace(/, request_id: .*/, '')
          .replace(/"[^"]*"/g, '"…"')
          .replace(/\d+/g, 'N'),
      );
  }
  return counts;
}

/** Starts an action at a fixed rate, and waits for the last one. */
async function repeat(until: number, everyMs: number, work: () => Promise<void>): Promise<void> {
  const began = performance.now();
  const pending = new Set<Promise<void>>();
  for (let round = 0; Date.now() < until; round++) {
    const each = work().finally(() => pending.delete(each));
    pending.add(each);
    await sleep(Math.max(0, began + (round + 1) * everyMs - performance.now()));
  }
  await Promise.all(pending);
}

function fault(mocks: readonly MockBackend[]): () => Promise<void> {
  let round = 0;
  return async () => {
    const [first, second] = mocks;
    const behaviour = FAULTS[round++ % FAULTS.length];
    if (!first || !second || !behaviour) throw new Error('three mocks were asked for');
    // The requests that the mocks record are not needed.
    for (const mock of mocks) mock.reset();
    first.always(behaviour);
    if (round % 3 === 0) second.always(behaviour);
    await sleep(FAULT_EVERY_MS / 2);
    for (const mock of [first, second]) mock.reset();
  };
}

function reload(gateway: Gateway, folder: string): () => Promise<void> {
  let round = 0;
  return async () => {
    round += 1;
    const { documents } = await compileVariables({
      ...gateway.variables,
      AZURE_OPENAI_WEIGHT_0: String((round % 5) + 1),
      [`GATEWAY_CLIENT_PRIORITY_${CLIENTS - 1}`]: round % 2 === 0 ? 'high' : 'low',
    });
    replaceFile(folder, 'apisix.yaml', documents['apisix.yaml']);
  };
}

/** @returns the error; undefined if the answer was complete */
function exchange(
  agent: http.Agent,
  gateway: Gateway,
  key: string,
  path: string,
  body: object | Buffer,
  type = 'application/json',
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = http.request(
      `${gateway.url}${path}`,
      { agent, method: 'POST', timeout: PATIENCE_MS, headers: { 'content-type': type, 'api-key': key } },
      (response) => {
        let last = '';
        response.setEncoding('utf8').on('data', (text: string) => {
          last = (last + text).slice(-200);
        });
        response.on('error', ({ message }) => resolve(`broke off: ${message}`));
        response.on('end', () => {
          const isStream = response.headers['content-type']?.includes('event-stream');
          if (Math.floor((response.statusCode ?? 0) / 100) !== 2) resolve(`status ${response.statusCode}`);
          else resolve(isStream && !last.includes('[DONE]') ? 'a stream without its end' : undefined);
        });
      },
    );
    request.on('timeout', () => request.destroy(new Error('no answer in a minute')));
    request.on('error', ({ message }) => resolve(message));
    request.end(Buffer.isBuffer(body) ? body : JSON.stringify(body));
  });
}

function upload(agent: http.Agent, gateway: Gateway, file: string): Promise<string | undefined> {
  const boundary = 'bench-boundary';
  const part = (disposition: string, content: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n${content}\r\n`;
  const body = `${part('name="purpose"', 'batch')}${part('name="file"; filename="a.jsonl"', file)}--${boundary}--\r\n`;
  return exchange(
    agent,
    gateway,
    CLIENT_KEY,
    '/openai/v1/files',
    Buffer.from(body),
    `multipart/form-data; boundary=${boundary}`,
  );
}

/** Requests of a hostile client, one at a time. Each connection is closed after two seconds. */
function hostile({ url }: Gateway): () => Promise<void> {
  const { hostname, port } = new URL(url);
  const request = (more: string, body = '{}', path = '/openai/v1/chat/completions') =>
    `POST ${path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n${more}\r\n${body}`;
  const valid = `api-key: ${CLIENT_KEY}\r\n`;
  const length = (bytes: number) => `Content-Length: ${bytes}\r\n`;
  const random = () => randomBytes(9).toString('hex');
  const requests = [
    () => request(`api-key: ${random()}\r\n${length(2)}`),
    () => request(`api-key: ${random()}\r\n${length(1_000_000)}`),
    () => request(valid + length(5_000_000), '{"model":"'),
    () => request(`${valid}${length(27)}Transfer-Encoding: chunked\r\n`),
    () => request(`${valid}X-Long: ${'x'.repeat(40_000)}\r\n${length(2)}`),
    () => request(valid + length(30), `{"model":"${random()}"}`),
    () => request(valid + length(2), '{}', `/openai/v1/../../${random()}`),
    () => request(valid + length(2), '{}', `/openai/v1/responses/resp_${random()}/cancel`),
    () => randomBytes(200).toString('latin1'),
  ];
  let round = 0;
  return () =>
    new Promise((resolve) => {
      const bytes = requests[round++ % requests.length]?.() ?? '';
      const socket = connect(Number(port), hostname, () => socket.write(Buffer.from(bytes, 'latin1')));
      // Answers are ignored.
      socket.pause();
      socket.on('error', () => {}).on('close', () => resolve());
      setTimeout(() => socket.destroy(), 2_000);
    });
}
