/** The lines that `diff` prints for each kind of change, in compiled settings and in files that were edited by hand. */
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { changesBetween, NotADocument } from '../../compiler/diff/changes.ts';
import { describe as inWords } from '../../compiler/diff/describe.ts';
import type { Documents } from '../../compiler/emit/emit.ts';
import { GOOD } from '../support/workspace.ts';

type Variables = Readonly<Record<string, string>>;

async function documentsOf(variables: Variables): Promise<Documents> {
  const { documents, diagnostics } = await compile({ environment: variables, envFiles: [] });
  if (!documents) throw new Error(JSON.stringify(diagnostics));
  return documents;
}

const lines = async (before: Variables, after: Variables): Promise<string[]> =>
  inWords(await changesBetween(await documentsOf(before), await documentsOf(after)));

const TWO = {
  ...GOOD,
  AZURE_OPENAI_NAME_0: 'swe-ptu',
  AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
  AZURE_OPENAI_KEY_1: 'key-of-backend-one',
  AZURE_OPENAI_NAME_1: 'frc',
};

const START = ' (takes effect at the next start)';

describe('diff names the object that a change of settings affects', () => {
  test.each<[string, Variables, Variables, string[]]>([
    ['nothing', TWO, TWO, []],
    [
      'numbers of a backend',
      TWO,
      { ...TWO, AZURE_OPENAI_WEIGHT_0: '3', AZURE_OPENAI_PRIORITY_0: '10' },
      ['backend swe-ptu: priority 5 → 10', 'backend swe-ptu: weight 1 → 3'],
    ],
    [
      'where a backend is',
      TWO,
      { ...TWO, AZURE_OPENAI_ENDPOINT_1: 'https://other.openai.azure.com' },
      ['backend frc: endpoint https://two.openai.azure.com → https://other.openai.azure.com'],
    ],
    [
      'a backend in front of the others, whose keys come from other variables then',
      {
        ...TWO,
        AZURE_OPENAI_NAME_2: 'x',
        AZURE_OPENAI_ENDPOINT_2: 'https://x.example',
        AZURE_OPENAI_KEY_2: 'key-of-x-0123456789',
      },
      {
        ...TWO,
        AZURE_OPENAI_NAME_0: 'new',
        AZURE_OPENAI_NAME_1: 'swe-ptu',
        AZURE_OPENAI_NAME_2: 'frc',
        AZURE_OPENAI_ENDPOINT_0: 'https://x.example',
        AZURE_OPENAI_ENDPOINT_1: 'https://one.openai.azure.com',
        AZURE_OPENAI_ENDPOINT_2: 'https://two.openai.azure.com',
        AZURE_OPENAI_KEY_2: 'key-of-backend-one',
      },
      [
        'backend swe-ptu: key $env://AZURE_OPENAI_KEY_0 → $env://AZURE_OPENAI_KEY_1',
        'backend frc: key $env://AZURE_OPENAI_KEY_1 → $env://AZURE_OPENAI_KEY_2',
        'backend x: removed',
        'backend new: added',
      ],
    ],
    [
      'what the gateway knows of a backend beyond the pool',
      TWO,
      { ...TWO, AZURE_OPENAI_REGION_1: 'westeurope', AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o=four' },
      ['backend swe-ptu: deployments added: {gpt-4o: four}', 'backend frc: region added: westeurope'],
    ],
    [
      'how a backend signs in',
      TWO,
      {
        ...GOOD,
        AZURE_OPENAI_NAME_0: 'swe-ptu',
        AZURE_OPENAI_NAME_1: 'frc',
        AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
        AZURE_OPENAI_AUTH_MODE_1: 'entra',
      },
      [
        'backend frc: auth.header removed, was {api-key: $env://AZURE_OPENAI_KEY_1}',
        'backend frc: identity added: {resource: https://cognitiveservices.azure.com/}',
      ],
    ],
    [
      'a backend less, with its details',
      { ...TWO, AZURE_OPENAI_REGION_1: 'a' },
      { ...GOOD, AZURE_OPENAI_NAME_0: 'swe-ptu' },
      ['backend frc: removed'],
    ],
    [
      'a name alone',
      { ...TWO, AZURE_OPENAI_REGION_1: 'a', GATEWAY_CLIENT_KEY_SECONDARY_0: 'another-key-of-client' },
      {
        ...TWO,
        AZURE_OPENAI_REGION_1: 'a',
        GATEWAY_CLIENT_KEY_SECONDARY_0: 'another-key-of-client',
        AZURE_OPENAI_NAME_1: 'paris',
        GATEWAY_CLIENT_NAME_0: 'web',
      },
      ['backend frc: renamed to paris', 'client app: renamed to web'],
    ],
    [
      'clients',
      { ...TWO, GATEWAY_CLIENT_MODELS_0: 'gpt-4o,gpt-5' },
      {
        ...TWO,
        GATEWAY_CLIENT_MODELS_0: 'o3,gpt-5',
        GATEWAY_CLIENT_PRIORITY_0: 'low',
        GATEWAY_CLIENT_KEY_SECONDARY_0: 'another-key-of-client',
        GATEWAY_CLIENT_NAME_1: 'team-a',
        GATEWAY_CLIENT_KEY_1: 'key-of-client-team-a',
      },
      [
        'client app: lane high → low',
        'client app: models: gpt-4o removed',
        'client app: models: o3 added',
        `client app: second key added${START}`,
        `client team-a: added${START}`,
      ],
    ],
    [
      'budgets of lanes',
      { ...GOOD, ENABLE_AI_RATE_LIMIT: 'true' },
      {
        ...GOOD,
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_HIGH_LIMIT: '123',
        GATEWAY_CLIENT_TOKENS_PER_MINUTE_0: '7',
      },
      [
        'token limit high: count 200 → 123',
        'token limit client-minute: added',
        'client app: tokens a minute added: 7',
      ],
    ],
    [
      'limits that are there or are not',
      { ...GOOD, ENABLE_QUOTA: 'true', QUOTA_COUNT: '9', QUOTA_TIME_WINDOW: '60' },
      { ...GOOD, ENABLE_RATE_LIMIT: 'true', RATE_LIMIT_RATE: '5', RATE_LIMIT_BURST: '5' },
      [
        'plugin limit-count: removed',
        'plugin limit-req: added',
        `setting of the gateway: plugins: limit-count removed${START}`,
        `setting of the gateway: plugins: limit-req added${START}`,
      ],
    ],
    [
      'failover',
      GOOD,
      { ...GOOD, AI_PROXY_RETRY_STATUSES: '429,500', AI_PROXY_COOLDOWN: '20s' },
      [
        'plugin azure-openai-proxy: retry_statuses: 408 removed',
        'plugin azure-openai-proxy: retry_statuses: 502 removed',
        'plugin azure-openai-proxy: retry_statuses: 503 removed',
        'plugin azure-openai-proxy: retry_statuses: 504 removed',
        'plugin azure-openai-proxy: retry_statuses: 529 removed',
        'plugin azure-openai-proxy: cooldown.default_ms 10000 → 20000',
      ],
    ],
    [
      'what APISIX reads at its start',
      GOOD,
      {
        ...GOOD,
        APISIX_LOG_LEVEL: 'info',
        GATEWAY_WORKERS: '2',
        GATEWAY_TRUSTED_PROXIES: '10.0.0.0/8',
        APISIX_METRICS_PATH: '/m',
      },
      [
        `setting of the gateway: metrics path /apisix/prometheus/metrics → /m${START}`,
        `setting of the gateway: workers auto → 2${START}`,
        `setting of the gateway: log level warn → info${START}`,
        `setting of the gateway: trusted proxies: unix: removed${START}`,
        `setting of the gateway: trusted proxies: 10.0.0.0/8 added${START}`,
        `setting of the gateway: nginx_config.http.real_ip_header added: X-Forwarded-For${START}`,
        `setting of the gateway: nginx_config.http.real_ip_recursive added: on${START}`,
      ],
    ],
    [
      'the collector: receivers, processors, exporters, pipelines',
      { ...GOOD, ENABLE_DEBUG_EXPORTER: 'true', MODEL_PRICES: 'gpt-4o=2.50/10' },
      {
        ...GOOD,
        ENABLE_DEBUG_EXPORTER: 'true',
        MODEL_PRICES: 'gpt-5=1/2,gpt-4o=2.50/20',
        APISIX_LOGS_PATH: '/var/log/gateway.log',
        OTEL_SERVICE_NAME: 'mine',
        APPLICATIONINSIGHTS_CONNECTION_STRING: 'InstrumentationKey=00000000-0000-0000-0000-000000000000',
      },
      [
        'plugin file-logger: added',
        `setting of the gateway: plugins: file-logger added${START}`,
        'collector receiver file_log: added',
        'collector processor resource: attributes.service.name.value apisix-gateway → mine',
        'collector price gpt-4o completion: USD a token 0.00001 → 0.00002',
        'collector price gpt-4o completion by who served it: USD a token 0.00001 → 0.00002',
        'collector price gpt-4o completion chosen by a router: USD a token 0.00001 → 0.00002',
        'plugin azure-openai-proxy: metrics.models: gpt-5 added',
        'collector price gpt-5 prompt: added',
        'collector price gpt-5 completion: added',
        'collector price gpt-5 prompt by who served it: added',
        'collector price gpt-5 completion by who served it: added',
        'collector price gpt-5 prompt chosen by a router: added',
        'collector price gpt-5 completion chosen by a router: added',
        'collector exporter azure_monitor: added',
        'collector pipeline traces: exporters: azure_monitor added',
        'collector pipeline logs: exporters: azure_monitor added',
        'collector pipeline logs: receivers: file_log added',
      ],
    ],
    [
      'plugins, and a secret written another way',
      { ...GOOD, OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318' },
      { ...GOOD, OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4319', GATEWAY_SECRETS: 'inline' },
      [
        'backend backend-0: key $env://AZURE_OPENAI_KEY_0 → [redacted]',
        'client app: key $env://GATEWAY_CLIENT_KEY_0 → [redacted]',
        'plugin azure-openai-traces: collector 127.0.0.1:4318 → 127.0.0.1:4319',
      ],
    ],
  ])('after a change of %s', async (_, before, after, expected) => {
    const said = await lines(before, after);
    expect(said.toSorted()).toEqual(expected.toSorted());
    expect((await lines(after, before)).length > 0).toBe(expected.length > 0);
  });

  test('and keeps the lines of one object together', async () => {
    const said = await lines(TWO, {
      ...TWO,
      AZURE_OPENAI_WEIGHT_0: '2',
      AZURE_OPENAI_WEIGHT_1: '2',
      AZURE_OPENAI_REGION_0: 'a',
      AZURE_OPENAI_REGION_1: 'b',
    });
    const names = said.map((line) => line.split(':')[0]);
    expect(names.filter((name, index) => name !== names[index - 1])).toEqual([
      'backend swe-ptu',
      'backend frc',
    ]);
    expect(said).toHaveLength(4);
  });
});

describe('diff of files that were edited by hand', () => {
  const edited = async (edit: (documents: Documents) => Partial<Documents>): Promise<string[]> => {
    const documents = await documentsOf({ ...TWO, GATEWAY_SECRETS: 'inline' });
    return inWords(await changesBetween(edit(documents), documents));
  };
  const apisix = (edit: (text: string) => string) =>
    edited((documents) => {
      const text = edit(documents['apisix.yaml']);
      expect(text).not.toBe(documents['apisix.yaml']);
      return { ...documents, 'apisix.yaml': text };
    });

  test('ignores comments, quotes, key order and the order of unordered lists', async () => {
    expect(
      await apisix((text) => {
        const [, one = '', two = ''] =
          /( {10}- name: "swe-ptu"[\s\S]*?)( {10}- name: "frc"[\s\S]*?)(?=routes:)/.exec(text) ?? [];
        return text
          .replace(one + two, `${two}# mine\n${one}`)
          .replace('weight: 1', 'weight: 0x1 # one')
          .replace('"azure-openai"', 'azure-openai')
          .replace('[408, 429, 500, 502, 503, 504, 529]', '[504, 408, 429, 500, 502, 503, 529]');
      }),
    ).toEqual([]);
  });

  test('reports a changed key without its value, even in a field that our files never have', async () => {
    const said = await apisix((text) =>
      text
        .replace('key-of-backend-one', 'pasted-key-of-somebody')
        .replace('key-of-client-zero', '987654321')
        .replace(
          '          - name: "frc"',
          '          - auth_token: pasted-token-1\n            name: "frc"',
        ),
    );
    expect(said).toEqual([
      'backend frc: auth_token removed',
      'backend frc: key changed',
      'client app: key changed',
    ]);
  });

  test('hides secrets in places where only files of others have secrets', async () => {
    const documents = await documentsOf(GOOD);
    const old = {
      'config.yaml': documents['config.yaml']
        .replace(
          '  role: "data_plane"',
          '  role: "data_plane"\n  admin: {admin_key: [{name: admin, key: pasted-1}]}',
        )
        .replace(
          'nginx_config:',
          'nginx_config:\n  envs: ["A=pasted-2", "B"]\n  main_configuration_snippet: "pasted-3"',
        ),
      'otel-collector.yaml': documents['otel-collector.yaml'].replace(
        'exporters:',
        'exporters:\n  otlphttp: {headers: {X-Any: pasted-4, X-Scope-OrgID: mine}, password: 12345678}',
      ),
      'apisix.yaml': documents['apisix.yaml']
        .replace(
          'routes:\n',
          'consumers:\n  - {username: a, plugins: {key-auth: {key: pasted-5, note: "12345678"}}}\nroutes:\n',
        )
        .replace('#END', 'secrets:\n  - {id: vault/1, uri: "http://vault", token: pasted-6}\n#END'),
    };
    const changes = await changesBetween(old, documents);
    expect(inWords(changes)).toEqual([
      'consumer a: removed',
      'secret manager vault/1: removed',
      `setting of the gateway: deployment.admin.admin_key removed${START}`,
      `setting of the gateway: nginx_config.envs removed, was [redacted], B${START}`,
      `setting of the gateway: nginx_config.main_configuration_snippet removed${START}`,
      'collector exporter otlphttp: removed',
    ]);
    expect(JSON.stringify(changes)).not.toMatch(/pasted|12345678/);
    expect(JSON.stringify(old)).toMatch(/(?:.*pasted-\d){6}/);
  });

  test('hides a known secret in names, keys and longer texts as well', async () => {
    const said = await apisix((text) =>
      text
        .replace(
          'routes:\n',
          'routes:\n  - {id: key-of-backend-zero, desc: "is key-of-client-zero!", labels: {key-of-backend-one: a}}\n',
        )
        .replace('X-Request-ID', 'X-key-of-client-zero'),
    );
    expect(said.join('\n')).not.toContain('key-of-');
    expect(said).toEqual([
      'plugin request-id: header_name X-[redacted] → X-Request-ID',
      'route [redacted]: removed',
    ]);
  });

  test('compares items that our templates never write', async () => {
    const said = await apisix((text) =>
      text
        .replace('routes:\n', 'routes:\n  - {id: mine, uri: /mine, service_id: azure-openai}\n')
        .replace('services:\n', 'services:\n  - {id: other, plugins: {cors: {}}}\n')
        .replace('#END', 'upstreams:\n  - {id: 1, nodes: {"a:80": 1}}\nmine: [1, {a: 2}]\nempty: []\n#END')
        .replace('  uri: "/openai/*"', '  uri: "/openai/*"\n    priority: 1.5'),
    );
    expect(said.toSorted()).toEqual([
      'document apisix.yaml: empty removed, was []',
      'document apisix.yaml: mine[0] removed, was 1',
      'document apisix.yaml: mine[1] removed, was {a: 2}',
      'route mine: removed',
      'route openai: priority removed, was 1.5',
      'service other: removed',
      'upstream 1: removed',
    ]);
  });

  test('reports a change of order when the order matters', async () => {
    const said = await edited((documents) => ({
      ...documents,
      'otel-collector.yaml': documents['otel-collector.yaml'].replaceAll(
        '["memory_limiter", "resource", "batch"]',
        '["batch", "memory_limiter", "resource"]',
      ),
    }));
    expect(said).toEqual([
      'collector pipeline traces: processors batch, memory_limiter, resource → memory_limiter, resource, batch',
    ]);
    const limits = await documentsOf({ ...GOOD, ENABLE_AI_RATE_LIMIT: 'true' });
    const text = limits['apisix.yaml'];
    const [, high = '', low = ''] = /( {10}- \{.*"high"\}\n)( {10}- \{.*"low"\}\n)/.exec(text) ?? [];
    const turned = { ...limits, 'apisix.yaml': text.replace(high + low, low + high) };
    expect(turned).not.toEqual(limits);
    expect(inWords(await changesBetween(turned, limits))).toEqual([
      'plugin ai-rate-limiting: rules order low, high → high, low',
    ]);
  });

  test('distinguishes a number from a text, and prints control characters escaped', async () => {
    const said = await apisix((text) =>
      text.replace('weight: 1', 'weight: "1"').replace('"X-Request-ID"', '"\\e[31m\\n→ \\u202e"'),
    );
    expect(said).toHaveLength(2);
    expect(said).toContain('backend swe-ptu: weight "1" → 1');
    expect(said.join('')).toMatch(/^[\P{C}]*$/u);
  });

  test('reports a change of credentials in a URL without showing them', async () => {
    const said = await apisix((text) =>
      text.replace('https://one.openai.azure.com', 'https://user:word@one.openai.azure.com?sig=abc'),
    );
    expect(said).toEqual([
      'backend swe-ptu: endpoint https://…@one.openai.azure.com?sig=… → https://one.openai.azure.com',
    ]);
  });

  test('reports a missing file as one difference', async () => {
    expect(
      await edited((documents) => ({
        'apisix.yaml': documents['apisix.yaml'],
        'config.yaml': documents['config.yaml'],
      })),
    ).toEqual(['file otel-collector.yaml: added']);
  });

  test.each([
    ['not YAML', 'services: [\n  key-of-somebody: "', /^line \d+ is not YAML/],
    ['a key twice', 'services: []\nservices: []\n', /repeats a key/],
    ['nested without end', `services: ${'['.repeat(100_000)}`, /nested|not YAML/],
    ['nested deeply', `services: ${'['.repeat(5_000)}${']'.repeat(5_000)}`, /nested/],
    [
      'aliases of aliases',
      `a: &a [x,x]\n${[...'bcdefghijklmnopq'].map((name, at) => `${name}: &${name} [${`*${'abcdefghijklmnop'[at]},`.repeat(9)}]\n`).join('')}`,
      /not YAML/,
    ],
  ])('rejects a file that has %s, without showing its content', async (_, text, reason) => {
    const documents = await documentsOf(GOOD);
    const failed = changesBetween({ ...documents, 'apisix.yaml': text }, documents);
    await expect(failed).rejects.toThrow(NotADocument);
    await expect(failed).rejects.toThrow(reason);
    await expect(failed).rejects.not.toThrow('key-of-somebody');
  });
});
