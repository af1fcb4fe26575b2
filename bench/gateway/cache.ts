/** The CPU time of an answer from the cache, compared with an answer of a backend and with nginx's own cache. */
import type { Documents } from '../../compiler/emit/emit.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../../test/support/gateway.ts';
import { chatBody, expectAll, median, type Request, send } from './load.ts';

const CONNECTIONS = 8;
const ROUNDS = 5;
const COUNT = 1000;
const SIZE = 4096;

const PATH = '/openai/v1/chat/completions';
const NGINX = '/nginx-cache';

/** A location with nginx's cache in front of the same backend, keyed by path and body. */
function withNginxCache(address: string): (documents: Documents) => Documents {
  const before = {
    http_configuration_snippet: 'proxy_cache_path /tmp/nginx-cache keys_zone=bench:10m;',
    http_server_configuration_snippet: `location ${NGINX}/ {
      client_body_in_single_buffer on; proxy_pass http://${address}/; proxy_http_version 1.1; proxy_set_header Connection '';
      proxy_cache bench; proxy_cache_methods POST; proxy_cache_key $uri$request_body; proxy_cache_valid 200 10m;
      proxy_ignore_headers Cache-Control; }`,
  };
  return (documents) => {
    let config = documents['config.yaml'];
    for (const [name, text] of Object.entries(before)) {
      const place = `${name}: "`;
      if (!config.includes(place)) throw new Error(`config.yaml has no ${name}`);
      config = config.replace(place, `${place}${JSON.stringify(`${text}\n`).slice(1, -1)}`);
    }
    return { ...documents, 'config.yaml': config };
  };
}

interface Variant {
  readonly name: string;
  readonly request: (index: number) => Request;
}

export async function answerCache(address: string, print: (line: string) => void): Promise<void> {
  const start = (settings: Readonly<Record<string, string>>) =>
    startGateway({
      backends: [{}],
      settings: { GATEWAY_WORKERS: '1', AZURE_OPENAI_ENDPOINT_0: `http://${address}`, ...settings },
      adapt: withNginxCache(address),
    });
  const cached = await start({ ENABLE_CACHE: 'true', CACHE_TTL: '1h' });
  const without = await start({}).catch(async (error) => {
    await cached.stop();
    throw error;
  });
  try {
    for (const [name, more] of [
      ['an answer of 1 KB', {}],
      ['an answer of 66 KB', { 'x-bench': 'large' }],
    ] as const)
      await compare(name, cached, without, more, print);
  } finally {
    await cached.stop();
    await without.stop();
  }
}

async function compare(
  name: string,
  cached: Gateway,
  without: Gateway,
  more: Readonly<Record<string, string>>,
  print: (line: string) => void,
): Promise<void> {
  const headers = {
    'content-type': 'application/json',
    'api-key': CLIENT_KEY,
    'user-agent': 'bench',
    ...more,
  };
  const same = chatBody(SIZE);
  const sent = (gateway: Gateway, path: string, body: string): Request => ({
    url: `${gateway.url}${path}`,
    headers,
    body,
  });
  let fresh = 0;
  const variants: readonly (Variant & { readonly gateway: Gateway })[] = [
    { name: 'hit', gateway: cached, request: () => sent(cached, PATH, same) },
    {
      name: 'miss',
      gateway: cached,
      request: () => sent(cached, PATH, chatBody(SIZE, { user: `u${++fresh}` })),
    },
    { name: 'off', gateway: without, request: () => sent(without, PATH, same) },
    { name: 'nginx', gateway: cached, request: () => sent(cached, `${NGINX}${PATH}`, same) },
  ];
  const times = new Map<string, number[]>(variants.map((each) => [each.name, []]));
  for (let round = -1; round < ROUNDS; round++) {
    for (const { name: variant, gateway, request } of variants) {
      const before = await cpuMs(gateway);
      const count = round < 0 ? COUNT / 4 : COUNT;
      expectAll(await send(count, CONNECTIONS, request), 200);
      const each = ((await cpuMs(gateway)) - before) / count;
      if (round >= 0) times.get(variant)?.push(each);
    }
  }
  const of = (variant: string) => median(times.get(variant) ?? []);
  const ratio = (variant: string) => `${(of('hit') / of(variant)).toFixed(2)} × ${variant}`;
  print(
    `CPU of a hit, ${name}: ${ratio('miss')}, ${ratio('off')}, ${ratio('nginx')} (hit ${of('hit').toFixed(3)} ms, ` +
      `miss ${of('miss').toFixed(3)} ms, without a cache ${of('off').toFixed(3)} ms, hit of nginx's proxy_cache ${of('nginx').toFixed(3)} ms)`,
  );
}

const cpuMs = async (gateway: Gateway): Promise<number> =>
  (await gateway.apisix.workers()).reduce((total, each) => total + each.cpuMs, 0);
