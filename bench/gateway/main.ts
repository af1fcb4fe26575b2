/** Prints one line for each figure. Compared variants are measured alternately, in one run, on one gateway. */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Documents } from '../../compiler/emit/emit.ts';
import { throttled } from '../../compiler/mock/answers.ts';
import { withItems } from '../../test/support/apisix.ts';
import { CLIENT_KEY, type Gateway, hostAddress, startGateway } from '../../test/support/gateway.ts';
import { startMockIdentity } from '../../test/support/mock-identity.ts';
import { RESOURCE, startMockIngestion } from '../../test/support/mock-ingestion.ts';
import { AUDIENCE, startMockIssuer } from '../../test/support/mock-issuer.ts';
import { startRedis } from '../../test/support/redis.ts';
import { isAvailable } from '../../test/support/requirements.ts';
import { secretFolder } from '../../test/support/secret-folder.ts';
import { startBackend } from './backend.ts';
import { answerCache } from './cache.ts';
import { chatBody, expectAll, median, percentile, type Request, send } from './load.ts';
import { metricsPage } from './metrics.ts';
import { mixedLoad } from './mixed.ts';
import { peers } from './peers.ts';
import { manyPools } from './pools.ts';
import { reloads } from './reload.ts';
import { coldStart } from './start.ts';

const CONNECTIONS = 8;
const ROUNDS = 7;

const print = (line: string) => process.stdout.write(`${line}\n`);
const ms = (value: number) => `${value.toFixed(value < 10 ? 2 : 0)} ms`;

/** A chat request with a body of about `bytes` bytes. The model is last, as SDKs write it. */
function chat(path: string, gateway: Gateway, size: number, more: Record<string, string> = {}): Request {
  const stream = more['x-bench'] === 'stream' ? { stream: true } : {};
  return {
    url: `${gateway.url}${path}`,
    headers: { 'content-type': 'application/json', 'api-key': CLIENT_KEY, 'user-agent': 'bench', ...more },
    body: chatBody(size, stream),
  };
}

/** Each variant with request-id and metrics (APISIX's, unless it is our gateway), and without. */
const PATHS = {
  ours: '/openai/v1/chat/completions',
  nginx: '/nginx/openai/v1/chat/completions',
  native: '/v1/chat/completions',
  oursBare: '/openai/deployments/gpt-4o/chat/completions',
  nginxBare: '/nginx-bare/openai/v1/chat/completions',
  nativeBare: '/bare/v1/chat/completions',
} as const;
type Path = keyof typeof PATHS;

/**
 * Adds the variants for comparison, with the same backend: nginx's own upstream, and ai-proxy-multi sending by itself.
 */
function withComparisons(address: string): (documents: Documents) => Documents {
  const upstream = { type: 'roundrobin', nodes: { [address]: 1 } };
  const instance = (name: string) => ({
    name,
    provider: 'openai',
    weight: 1,
    auth: { header: { Authorization: 'Bearer key' } },
    override: { endpoint: `http://${address}${PATHS.ours}` },
  });
  return (documents) => {
    type File = { routes: { uri?: string }[]; services: { plugins: Record<string, object> }[] };
    const added = (file: File) => {
      const { 'request-id': requestId, 'azure-openai-metrics': _, ...own } = file.services[0]?.plugins ?? {};
      const telemetry = { 'request-id': requestId, prometheus: { prefer_name: true } };
      const native = { 'ai-proxy-multi': { instances: [instance('a'), instance('b')] } };
      // A separate route for the same plugins without telemetry.
      file.routes = file.routes.filter(({ uri }) => uri !== '/openai/deployments/*');
      const routes = [
        { uri: PATHS.nginx, upstream, plugins: telemetry },
        { uri: PATHS.native, plugins: { ...native, ...telemetry } },
        { uri: PATHS.oursBare, plugins: own },
        { uri: PATHS.nginxBare, upstream },
        { uri: PATHS.nativeBare, plugins: native },
      ];
      file.routes.push(...routes.map((route, index) => ({ id: `bench-${index}`, ...route })));
    };
    return { ...documents, 'apisix.yaml': withItems(documents['apisix.yaml'], added) };
  };
}

/** CPU time of the single worker for each request, in milliseconds. */
async function cpuPerRequest(gateway: Gateway, count: number, request: (index: number) => Request) {
  const before = await gateway.apisix.workers();
  expectAll(await send(count, CONNECTIONS, request), 200);
  const after = await gateway.apisix.workers();
  return (sum(after) - sum(before)) / count;
}
const sum = (workers: readonly { readonly cpuMs: number }[]) =>
  workers.reduce((total, each) => total + each.cpuMs, 0);

async function cpu(gateway: Gateway): Promise<void> {
  const all: readonly Path[] = ['nginxBare', 'oursBare', 'nativeBare', 'nginx', 'ours', 'native'];
  const withoutNative = all.filter((path) => !path.startsWith('native'));
  const cases: readonly {
    name: string;
    size: number;
    count: number;
    paths: readonly Path[];
    more: Record<string, string>;
  }[] = [
    { name: 'JSON 4 KB', size: 4096, count: 2000, paths: all, more: {} },
    { name: 'JSON 66 KB', size: 66_000, count: 1500, paths: all, more: {} },
    {
      name: 'JSON 4 KB, answer of 66 KB',
      size: 4096,
      count: 1500,
      paths: withoutNative,
      more: { 'x-bench': 'large' },
    },
    {
      name: 'stream of 200 events',
      size: 4096,
      count: 64,
      paths: withoutNative,
      more: { 'x-bench': 'stream' },
    },
  ];
  for (const { name, size, count, paths, more } of cases) {
    const times = new Map<Path, number[]>();
    for (let round = -1; round < ROUNDS; round++) {
      for (const path of paths) {
        const request = chat(PATHS[path], gateway, size, more);
        const time = await cpuPerRequest(gateway, round < 0 ? Math.ceil(count / 4) : count, () => request);
        if (round < 0) times.set(path, []);
        else times.get(path)?.push(time);
      }
    }
    const of = (path: Path) => median(times.get(path) ?? []);
    const compared = (ours: Path, nginx: Path, native: Path) =>
      `${(of(ours) / of(nginx)).toFixed(2)} × nginx's upstream` +
      (times.has(native) ? `, ai-proxy-multi ${(of(native) / of(ours)).toFixed(2)} × ours` : '') +
      ` (${of(ours).toFixed(3)} ms, ${of(nginx).toFixed(3)} ms)`;
    print(`CPU, ${name}: ${compared('oursBare', 'nginxBare', 'nativeBare')}`);
    print(`  with request-id and metrics on both: ${compared('ours', 'nginx', 'native')}`);
  }
}

async function memory(gateway: Gateway): Promise<void> {
  const request = chat(PATHS.ours, gateway, 4096);
  const resident = async () =>
    (await gateway.apisix.workers()).reduce((total, each) => total + each.residentBytes, 0) / 2 ** 20;
  const sizes: number[] = [];
  for (let tenth = 0; tenth < 10; tenth++) {
    expectAll(await send(10_000, CONNECTIONS, () => request), 200);
    sizes.push(await resident());
  }
  print(
    `memory of the worker after each 10,000 of 100,000 requests: ${sizes.map((each) => each.toFixed(0)).join(', ')} MiB`,
  );
}

async function failover(): Promise<void> {
  const gateway = await startGateway({
    backends: [{}, {}],
    settings: { AZURE_OPENAI_PRIORITY_0: '10', AI_PROXY_COOLDOWN: '0', AI_PROXY_COOLDOWN_MAX: '0' },
  });
  try {
    const [first, second] = gateway.mocks;
    if (!first || !second) throw new Error('two mocks were asked for');
    const request = chat(PATHS.ours, gateway, 4096);
    await send(50, 1, () => request);
    first.always(throttled({ retryAfter: 1 }));
    for (const mock of gateway.mocks) mock.reset();
    first.always(throttled({ retryAfter: 1 }));
    expectAll(await send(300, 1, () => request), 200);
    const added = second.requests.map(
      (each, index) => each.startedAt - (first.requests[index]?.endedAt ?? Number.NaN),
    );
    print(
      `failover, from the end of the failed attempt to the next backend: median ${ms(median(added))}, p99 ${ms(percentile(added, 0.99))}`,
    );
    second.always(throttled({ retryAfter: 1 }));
    const all = await send(300, 1, () => request);
    expectAll(all, 429);
    const times = all.map((each) => each.milliseconds);
    print(
      `the answer when all are throttled: median ${ms(median(times))}, p99 ${ms(percentile(times, 0.99))}`,
    );
  } finally {
    await gateway.stop();
  }
}

async function cooling(): Promise<void> {
  const gateway = await startGateway();
  try {
    for (const mock of gateway.mocks) mock.always(throttled({ retryAfter: 100 }));
    const request = chat(PATHS.ours, gateway, 4096);
    await send(4, 1, () => request);
    const calls = gateway.mocks.reduce((total, each) => total + each.requests.length, 0);
    const times = (await send(500, 1, () => request)).map((each) => each.milliseconds);
    if (gateway.mocks.reduce((total, each) => total + each.requests.length, 0) !== calls)
      throw new Error('a cooling backend was called');
    print(`the answer when all cool: median ${ms(median(times))}, p99 ${ms(percentile(times, 0.99))}`);
  } finally {
    await gateway.stop();
  }
}

/** Events contain the time at which they were sent; sender and receiver are in this process. */
async function eventDelay(): Promise<void> {
  const gateway = await startGateway({ backends: [{}] });
  try {
    const [mock] = gateway.mocks;
    if (!mock) throw new Error('one mock was asked for');
    const stream = async function* () {
      for (let index = 0; index < 200; index++) {
        await new Promise((resolve) => setTimeout(resolve, 3));
        yield { data: { choices: [{ index: 0, delta: { content: 'x' } }], at: performance.now() } };
      }
    };
    const delays = async (url: string, key: string) => {
      const all: number[] = [];
      for (let run = 0; run < 5; run++) {
        mock.script({ events: stream() });
        all.push(...(await readDelays(`${url}/openai/v1/chat/completions`, key)));
      }
      return all;
    };
    const direct = await delays(
      mock.url,
      mock.requests[0]?.header('api-key') ?? 'key-of-backend-0-0123456789',
    );
    const through = await delays(gateway.url, CLIENT_KEY);
    print(
      `delay of an event: median ${ms(median(through))}, p99 ${ms(percentile(through, 0.99))}; ` +
        `without the gateway ${ms(median(direct))}, ${ms(percentile(direct, 0.99))}`,
    );
  } finally {
    await gateway.stop();
  }
}

function readDelays(url: string, key: string): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const delays: number[] = [];
    const request = http.request(
      url,
      { method: 'POST', headers: { 'content-type': 'application/json', 'api-key': key } },
      (response) => {
        response.on('data', (bytes: Buffer) => {
          const now = performance.now();
          for (const [, at] of bytes.toString().matchAll(/"at":([\d.]+)/g)) delays.push(now - Number(at));
        });
        response.on('end', () => resolve(delays));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(
      JSON.stringify({ model: 'gpt-4o', stream: true, messages: [{ role: 'user', content: 'Hello' }] }),
    );
  });
}

/** The same load by 100 clients and by 10,000, each with its own key. */
async function clients(address: string): Promise<void> {
  const start = (count: number) => {
    const settings: Record<string, string> = {
      GATEWAY_WORKERS: '1',
      GATEWAY_SECRETS: 'inline',
      AZURE_OPENAI_ENDPOINT_0: `http://${address}`,
    };
    for (let index = 1; index < count; index++) {
      settings[`GATEWAY_CLIENT_NAME_${index}`] = `client-${index}`;
      settings[`GATEWAY_CLIENT_KEY_${index}`] = `key-of-client-${index}-0123456789`;
    }
    return startGateway({ backends: [{}], settings });
  };
  const few = await start(100);
  const many = await start(10_000);
  try {
    const measure = async (gateway: Gateway, count: number) => {
      const request = chat(PATHS.ours, gateway, 4096);
      return cpuPerRequest(gateway, 5000, (index) => {
        const client = index % count;
        return client === 0
          ? request
          : { ...request, headers: { ...request.headers, 'api-key': `key-of-client-${client}-0123456789` } };
      });
    };
    const times: [number[], number[]] = [[], []];
    // The first round is a warm-up: the first request of each client creates its metrics series.
    await measure(few, 100);
    for (let round = 0; round < 2; round++) await measure(many, 10_000);
    for (let round = 0; round < 5; round++) {
      times[0].push(await measure(few, 100));
      times[1].push(await measure(many, 10_000));
    }
    const [low, high] = [median(times[0]), median(times[1])];
    print(
      `CPU with 10,000 active clients: ${(high / low).toFixed(2)} × that with 100 (${high.toFixed(3)} ms, ${low.toFixed(3)} ms)`,
    );
  } finally {
    await few.stop();
    await many.stop();
  }
}

interface Policy {
  readonly name: string;
  /** Starts the servers that the policy needs, and returns its settings. `host` is how containers reach this machine. */
  prepare(host: string): Prepared | Promise<Prepared>;
}

interface Prepared {
  readonly settings: Readonly<Record<string, string>>;
  /** Settings of the gateway for comparison; default: none. */
  readonly without?: Readonly<Record<string, string>>;
  readonly adaptWithout?: (documents: Documents) => Documents;
  /** Default: chat. */
  readonly path?: string;
  /** Additional request headers for the gateway with the policy. */
  readonly headers?: Readonly<Record<string, string>>;
  stop?(): Promise<void>;
}

const LANES = { ENABLE_AI_RATE_LIMIT: 'true', AI_RATE_LIMIT_HIGH_LIMIT: '1000000000' };
const QUOTA = { ENABLE_QUOTA: 'true', QUOTA_COUNT: '1000000000', QUOTA_TIME_WINDOW: '3600' };

const setTo = (name: string, settings: Readonly<Record<string, string>>): Policy => ({
  name,
  prepare: () => ({ settings }),
});

const traced = (rate: string): Policy => ({
  name: `traces at a rate of ${rate}`,
  // Any server that answers is enough to receive spans.
  prepare: (address) => ({ settings: { OTEL_COLLECTOR_ENDPOINT: address, OTEL_SAMPLE_RATE: rate } }),
});

const withoutAccessLog = (documents: Documents): Documents => ({
  ...documents,
  'config.yaml': documents['config.yaml'].replace(
    /^( *)access_log_format: .*$/m,
    '$1enable_access_log: false',
  ),
});

/** Metrics of requests, which are the majority of the metrics. */
const withoutMetrics = (documents: Documents): Documents => ({
  ...documents,
  'apisix.yaml': documents['apisix.yaml'].replaceAll(/^ *azure-openai-metrics: .*\n/gm, ''),
});

/** Settings for APIM-style records, with a server that receives them. */
async function recording(address: string) {
  const host = new URL(`http://${address}`).hostname;
  const identity = await startMockIdentity({ host, hostName: host });
  const accepts = (token: string) => identity.accepts(token, RESOURCE);
  const ingestion = await startMockIngestion({ host, hostName: host, accepts });
  const settings = {
    APIM_GATEWAY_LOGS_INGEST_URI: ingestion.uri,
    ...identity.environment('endpoint'),
  };
  const stop = async () => {
    await ingestion.stop();
    await identity.stop();
    // If no record arrived, the ratio would be that of a gateway that dropped its records.
    if (ingestion.records.length < 2000 * ROUNDS)
      throw new Error(`only ${ingestion.records.length} records have arrived`);
  };
  return { settings, stop };
}

/** Policies that are measured against a gateway without them. */
const POLICIES: readonly Policy[] = [
  setTo('lanes', LANES),
  {
    name: 'lanes in Redis',
    prepare: async () => {
      const redis = await startRedis();
      const place = {
        AI_RATE_LIMIT_POLICY: 'redis',
        AI_RATE_LIMIT_REDIS_HOST: redis.host,
        AI_RATE_LIMIT_REDIS_PORT: String(redis.port),
      };
      return { settings: { ...LANES, ...place }, stop: redis.stop };
    },
  },
  setTo('quota', QUOTA),
  setTo('model lists', { GATEWAY_CLIENT_MODELS_0: 'text-*,gpt-4o*' }),
  setTo('balancing by latency', { LB_ALG: 'latency' }),
  setTo('health checks', { APISIX_ACTIVE_HEALTH_CHECKS: 'true' }),
  {
    // With one resource nothing needs to be remembered; with two, the owner of each response is.
    name: 'affinity of responses',
    prepare: (address) => ({
      settings: {},
      without: { AZURE_OPENAI_ENDPOINT_1: `http://${address}` },
      path: '/openai/v1/responses',
    }),
  },
  {
    name: 'an OIDC token',
    prepare: async (address) => {
      const issuer = await startMockIssuer({ host: new URL(`http://${address}`).hostname });
      const settings = {
        ENABLE_OIDC: 'true',
        OIDC_CLIENT_ID: AUDIENCE,
        OIDC_CLIENT_SECRET: 'secret-of-the-oidc-client',
        OIDC_DISCOVERY_URL: issuer.discoveryUrl,
        OIDC_REDIRECT_URI: 'https://gateway.example.com/callback',
      };
      const headers = { authorization: `Bearer ${issuer.token()}`, 'api-key': '' };
      return { settings, headers, stop: () => issuer.stop() };
    },
  },
  {
    name: 'managed identity',
    prepare: async (address) => {
      const host = new URL(`http://${address}`).hostname;
      const identity = await startMockIdentity({ host, hostName: host });
      const settings = {
        AZURE_OPENAI_AUTH_MODE_0: 'entra',
        AZURE_OPENAI_AUTH_MODE_1: 'entra',
        ...identity.environment('endpoint'),
      };
      return { settings, stop: () => identity.stop() };
    },
  },
  traced('0.1'),
  traced('1'),
  { name: 'the access log', prepare: () => ({ settings: {}, adaptWithout: withoutAccessLog }) },
  setTo('the access log in a file too', { APISIX_LOGS_PATH: '/tmp/access.json' }),
  { name: 'APIM-style records', prepare: recording },
  {
    name: 'all telemetry: metrics, access log, traces at a rate of 0.1, records',
    prepare: async (address) => {
      const { settings, stop } = await recording(address);
      return {
        settings: { ...settings, OTEL_COLLECTOR_ENDPOINT: address, OTEL_SAMPLE_RATE: '0.1' },
        without: {},
        adaptWithout: (documents) => withoutMetrics(withoutAccessLog(documents)),
        stop,
      };
    },
  },
];

/** The CPU cost of each policy, as a ratio to the gateway without it. */
async function policies(address: string): Promise<void> {
  // The same backend under two names, so that balancing and affinity have work to do.
  const start = (settings: Readonly<Record<string, string>> = {}, adapt = (each: Documents) => each) =>
    startGateway({
      adapt,
      backends: [{}],
      namesOfThisHost: [SECOND_NAME],
      settings: {
        GATEWAY_WORKERS: '1',
        AZURE_OPENAI_ENDPOINT_0: `http://${address}`,
        AZURE_OPENAI_ENDPOINT_1: `http://${SECOND_NAME}:${new URL(`http://${address}`).port}`,
        AZURE_OPENAI_KEY_1: 'key-of-the-second-name-0123456789',
        ...settings,
      },
    });
  for (const { name, prepare } of POLICIES) {
    const { settings, without, adaptWithout, path = PATHS.ours, headers = {}, stop } = await prepare(address);
    const plain = await start(without, adaptWithout);
    const gateway = await start(settings);
    try {
      const [base, added] = await inTurn([
        [plain, chat(path, plain, 4096)],
        [gateway, chat(path, gateway, 4096, headers)],
      ]);
      print(
        `CPU with ${name}: ${(added / base).toFixed(2)} × that without (${added.toFixed(3)} ms, ${base.toFixed(3)} ms)`,
      );
    } finally {
      await gateway.stop();
      await plain.stop();
      await stop?.();
    }
  }
}

/** The cost of key files: for a request, and for an idle worker that polls them. */
async function secrets(address: string): Promise<void> {
  for (const count of [100, 10_000]) {
    const named = Object.fromEntries(
      Array.from({ length: count }, (_, index) => [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`]),
    );
    const keys = Object.fromEntries(
      Array.from({ length: count }, (_, index) => [
        `GATEWAY_CLIENT_KEY_${index}`,
        index === 0 ? CLIENT_KEY : `key-of-client-${index}-0123456789`,
      ]),
    );
    const all = { ...keys, AZURE_OPENAI_KEY_0: 'key-of-the-backend-0123456789' };
    const folder = secretFolder(all);
    const settings = { GATEWAY_WORKERS: '1', AZURE_OPENAI_ENDPOINT_0: `http://${address}`, ...named };
    const inVariables = await startGateway({ backends: [{}], settings: { ...settings, ...all } });
    const inFiles = await startGateway({
      backends: [{}],
      settings: { ...settings, ...folder.settings },
    });
    try {
      const first = async (gateway: Gateway) => {
        const from = performance.now();
        expectAll(await send(1, 1, () => chat(PATHS.ours, gateway, 4096)), 200);
        return performance.now() - from;
      };
      const [firstOfVariables, firstOfFiles] = [await first(inVariables), await first(inFiles)];
      // Rounds are long, because the cost of a larger heap appears only at garbage collections.
      const [base, added] = await inTurn(
        [
          [inVariables, chat(PATHS.ours, inVariables, 4096)],
          [inFiles, chat(PATHS.ours, inFiles, 4096)],
        ],
        4000,
      );
      const idle = async (gateway: Gateway) => {
        const before = sum(await gateway.apisix.workers());
        await sleep(IDLE_S * 1000);
        return (sum(await gateway.apisix.workers()) - before) / IDLE_S;
      };
      const [quiet, looking] = [await idle(inVariables), await idle(inFiles)];
      print(
        `CPU with ${count} keys in files: ${(added / base).toFixed(2)} × that in variables` +
          ` (${added.toFixed(3)} ms, ${base.toFixed(3)} ms); an idle worker takes ${ms(looking)} in a second,` +
          ` ${ms(quiet)} without files; the first request took ${ms(firstOfFiles)} and ${ms(firstOfVariables)}`,
      );
    } finally {
      await inFiles.stop();
      await inVariables.stop();
      folder.remove();
    }
  }
}

/** The cost of choosing a backend: the same backend under 4 and under 1,000 names. */
async function backends(address: string): Promise<void> {
  const start = (count: number, settings: Readonly<Record<string, string>>) =>
    startGateway({
      backends: [{}],
      settings: {
        GATEWAY_WORKERS: '1',
        ...Object.fromEntries(
          Array.from({ length: count }, (_, index) => [
            [`AZURE_OPENAI_ENDPOINT_${index}`, `http://${address}`],
            [`AZURE_OPENAI_NAME_${index}`, `backend-${index}`],
            [`AZURE_OPENAI_KEY_${index}`, `key-of-the-backend-${index}-0123456789`],
          ]).flat(),
        ),
        ...settings,
      },
    });
  for (const [name, settings, headers] of [
    ['round robin', {}, {}],
    ['by latency', { LB_ALG: 'latency' }, {}],
    ['a consistent hash', { LB_ALG: 'chash', LB_HASH_ON: 'header', LB_HASH_KEY: 'x-session' }, HASHED],
    ['health checks', { APISIX_ACTIVE_HEALTH_CHECKS: 'true' }, {}],
  ] as const) {
    const [few, many] = [await start(4, settings), await start(1000, settings)];
    try {
      const request = (gateway: Gateway, more = {}) =>
        chat(PATHS.ours, gateway, 4096, { ...headers, ...more });
      const [base, added] = await inTurn([
        [few, request(few)],
        [many, request(many)],
      ]);
      print(
        `CPU with 1,000 backends, ${name}: ${(added / base).toFixed(2)} × that with 4` +
          ` (${added.toFixed(3)} ms, ${base.toFixed(3)} ms)`,
      );
    } finally {
      await few.stop();
      await many.stop();
    }
  }
}

const HASHED = { 'x-session': '0f8b2c5e-7f0a-4f6e-9a58-3b1a5d1c0001' };

const IDLE_S = 10;

const SECOND_NAME = 'second-name.host.internal';

/** CPU milliseconds for a request of two gateways: medians of alternating rounds. */
async function inTurn(
  sides: readonly [readonly [Gateway, Request], readonly [Gateway, Request]],
  requests = 2000,
): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let round = -1; round < ROUNDS; round++) {
    for (const [index, [gateway, request]] of sides.entries()) {
      const time = await cpuPerRequest(gateway, round < 0 ? requests / 4 : requests, () => request);
      if (round >= 0) times[index]?.push(time);
    }
  }
  return [median(times[0]), median(times[1])];
}

const SECTIONS = [
  'cpu',
  'memory',
  'failover',
  'cooling',
  'delay',
  'clients',
  'policies',
  'secrets',
  'backends',
  'cache',
  'start',
  'metrics',
  'reload',
  'pools',
  'mixed',
  'peers',
] as const;
const wanted = process.argv.slice(2);
/** Not part of the default run: the mixed load takes half an hour, and peers must be installed. */
const ONLY_WHERE_NAMED: readonly string[] = ['mixed', 'peers'];
const isWanted = (section: (typeof SECTIONS)[number]) =>
  wanted.includes(section) || (wanted.length === 0 && !ONLY_WHERE_NAMED.includes(section));
/** Arguments after the name of a section: cases of `reload`, the minutes of `mixed`. */
const argumentsOf = () => wanted.filter((each) => !SECTIONS.some((section) => section === each));

const availability = isAvailable('apisix');
if (!availability.available)
  throw new Error(`the bench needs Docker and the APISIX image: ${availability.reason}`);
const host = await hostAddress();
const backend = await startBackend(host);
const address = `${host}:${backend.port}`;
try {
  if (isWanted('cpu') || isWanted('memory')) {
    const gateway = await startGateway({
      backends: [{}],
      settings: { GATEWAY_WORKERS: '1', AZURE_OPENAI_ENDPOINT_0: `http://${address}` },
      adapt: withComparisons(address),
    });
    try {
      if (isWanted('cpu')) await cpu(gateway);
      if (isWanted('memory')) await memory(gateway);
    } finally {
      await gateway.stop();
    }
  }
  if (isWanted('failover')) await failover();
  if (isWanted('cooling')) await cooling();
  if (isWanted('delay')) await eventDelay();
  if (isWanted('clients')) await clients(address);
  if (isWanted('policies')) await policies(address);
  if (isWanted('secrets')) await secrets(address);
  if (isWanted('backends')) await backends(address);
  if (isWanted('cache')) await answerCache(address, print);
  if (isWanted('start')) await coldStart(address, print);
  if (isWanted('metrics')) await metricsPage(host, print);
  if (isWanted('reload')) await reloads(address, print, argumentsOf());
  if (isWanted('pools'))
    await manyPools(
      address,
      print,
      (gateway, count, paths) =>
        cpuPerRequest(gateway, count, (index) => chat(paths[index % paths.length] ?? '', gateway, 4096)),
      argumentsOf(),
    );
  if (isWanted('peers')) await peers(address, print);
  if (isWanted('mixed')) await mixedLoad(print, argumentsOf()[0]);
} finally {
  await backend.stop();
}
