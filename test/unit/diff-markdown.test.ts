/** `diff --format markdown`: twenty typical changes, and names and values that must not become markup in the comment. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Marked, type Tokens } from 'marked';
import { describe, expect, test } from 'vitest';
import { WARNING_RULES } from '../../compiler/diff/warnings.ts';
import { runHere } from '../support/cli.ts';
import { GOOD, workspace } from '../support/workspace.ts';

const inFolder = workspace();
const GOLDENS = join(import.meta.dirname, '../golden-diff');

type Settings = Readonly<Record<string, string | undefined>>;

/** The gateway before each change: provisioned capacity first, two pay-as-you-go regions as overflow, three clients. */
const BASE: Settings = {
  AZURE_OPENAI_ENDPOINT_0: 'https://swe-ptu.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-swe-ptu-0123456789',
  AZURE_OPENAI_NAME_0: 'swe-ptu',
  AZURE_OPENAI_PRIORITY_0: '10',
  AZURE_OPENAI_ENDPOINT_1: 'https://swe-payg.openai.azure.com',
  AZURE_OPENAI_KEY_1: 'key-of-swe-payg-0123456789',
  AZURE_OPENAI_NAME_1: 'swe-payg',
  AZURE_OPENAI_ENDPOINT_2: 'https://fra-payg.openai.azure.com',
  AZURE_OPENAI_AUTH_MODE_2: 'entra',
  AZURE_OPENAI_NAME_2: 'fra-payg',
  AZURE_OPENAI_WEIGHT_2: '3',
  GATEWAY_REQUIRE_AUTH: 'true',
  GATEWAY_CLIENT_NAME_0: 'search',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-search-0123',
  GATEWAY_CLIENT_MODELS_0: 'gpt-4o,text-embedding-3-small',
  GATEWAY_CLIENT_NAME_1: 'chat',
  GATEWAY_CLIENT_KEY_1: 'key-of-client-chat-01234',
  GATEWAY_CLIENT_TOKENS_PER_MINUTE_1: '50000',
  GATEWAY_CLIENT_NAME_2: 'batch',
  GATEWAY_CLIENT_KEY_2: 'key-of-client-batch-0123',
  GATEWAY_CLIENT_KEY_SECONDARY_2: 'second-key-of-batch-0123',
  ENABLE_AI_RATE_LIMIT: 'true',
  AI_RATE_LIMIT_HIGH_LIMIT: '200000',
  AI_RATE_LIMIT_LOW_LIMIT: '20000',
  AI_RATE_LIMIT_REJECT_CODE: '429',
};

const OIDC: Settings = {
  ENABLE_OIDC: 'true',
  OIDC_CLIENT_ID: '11111111-2222-3333-4444-555555555555',
  OIDC_CLIENT_SECRET: 'secret-of-the-oidc-client',
  OIDC_DISCOVERY_URL:
    'https://login.microsoftonline.com/99999999-8888-7777-6666-555555555555/v2.0/.well-known/openid-configuration',
  OIDC_REDIRECT_URI: 'https://gateway.example.com/callback',
};

/** The settings of each change; undefined removes a variable. `from` modifies BASE before the change. */
const CHANGES: Readonly<Record<string, { readonly from?: Settings; readonly set: Settings }>> = {
  'no-change': { set: {} },
  'a-backend-added': {
    set: {
      AZURE_OPENAI_ENDPOINT_3: 'https://weu-payg.openai.azure.com',
      AZURE_OPENAI_KEY_3: 'key-of-weu-payg-0123456789',
      AZURE_OPENAI_NAME_3: 'weu-payg',
    },
  },
  'the-provisioned-backend-removed': {
    set: {
      AZURE_OPENAI_ENDPOINT_0: undefined,
      AZURE_OPENAI_KEY_0: undefined,
      AZURE_OPENAI_NAME_0: undefined,
      AZURE_OPENAI_PRIORITY_0: undefined,
    },
  },
  'a-backend-drained': { set: { AZURE_OPENAI_WEIGHT_0: '0' } },
  'weights-changed': { set: { AZURE_OPENAI_WEIGHT_1: '5', AZURE_OPENAI_WEIGHT_2: '1' } },
  'priorities-swapped': { set: { AZURE_OPENAI_PRIORITY_0: '5', AZURE_OPENAI_PRIORITY_1: '10' } },
  'a-backend-renamed': { set: { AZURE_OPENAI_NAME_1: 'sweden-payg' } },
  'a-backend-repointed-without-tls': { set: { AZURE_OPENAI_ENDPOINT_1: 'http://proxy.internal:8080' } },
  'a-key-of-a-backend-replaced': { set: { AZURE_OPENAI_KEY_1: 'another-key-of-swe-payg-01' } },
  'one-backend-left': {
    from: {
      AZURE_OPENAI_ENDPOINT_2: undefined,
      AZURE_OPENAI_AUTH_MODE_2: undefined,
      AZURE_OPENAI_NAME_2: undefined,
      AZURE_OPENAI_WEIGHT_2: undefined,
    },
    set: { AZURE_OPENAI_WEIGHT_1: '0' },
  },
  'models-moved-between-backends': {
    from: {
      AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o,o3',
      AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o',
      AZURE_OPENAI_DEPLOYMENTS_2: 'gpt-4o',
    },
    set: { AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o', AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o,gpt-5=gpt-5-prod' },
  },
  'a-client-added': {
    set: {
      GATEWAY_CLIENT_NAME_3: 'reports',
      GATEWAY_CLIENT_KEY_3: 'key-of-client-reports-01',
      GATEWAY_CLIENT_TOKENS_PER_DAY_3: '1000000',
    },
  },
  'a-client-removed': {
    set: {
      GATEWAY_CLIENT_NAME_2: undefined,
      GATEWAY_CLIENT_KEY_2: undefined,
      GATEWAY_CLIENT_KEY_SECONDARY_2: undefined,
    },
  },
  'a-key-of-a-client-replaced': { set: { GATEWAY_CLIENT_KEY_0: 'another-key-of-search-01' } },
  'a-key-of-a-client-rotated': {
    set: {
      GATEWAY_CLIENT_KEY_0: 'another-key-of-search-01',
      GATEWAY_CLIENT_KEY_SECONDARY_0: BASE.GATEWAY_CLIENT_KEY_0,
    },
  },
  'the-old-key-of-a-client-removed': { set: { GATEWAY_CLIENT_KEY_SECONDARY_2: undefined } },
  'models-and-budgets-of-clients': {
    set: {
      GATEWAY_CLIENT_MODELS_0: 'gpt-4o',
      GATEWAY_CLIENT_TOKENS_PER_MINUTE_1: '10000',
      GATEWAY_CLIENT_REQUESTS_PER_MINUTE_2: '60',
    },
  },
  'authentication-off': { set: { GATEWAY_REQUIRE_AUTH: 'false' } },
  'limits-off-and-logs-on': {
    set: {
      ENABLE_AI_RATE_LIMIT: undefined,
      AI_RATE_LIMIT_HIGH_LIMIT: undefined,
      AI_RATE_LIMIT_LOW_LIMIT: undefined,
      AI_RATE_LIMIT_REJECT_CODE: undefined,
      GATEWAY_CLIENT_TOKENS_PER_MINUTE_1: undefined,
      APISIX_LOG_LEVEL: 'info',
      OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318',
    },
  },
  'shared-budgets-lowered-and-removed': {
    from: {
      AI_RATE_LIMIT_SHARED_LIMIT: '100000',
      GATEWAY_POOL_NAME_0: 'night',
      GATEWAY_POOL_TOKENS_PER_MINUTE_0: '80000',
    },
    set: { AI_RATE_LIMIT_SHARED_LIMIT: '90000', GATEWAY_POOL_TOKENS_PER_MINUTE_0: undefined },
  },
  'pools-removed-moved-and-narrowed': {
    from: {
      ...OIDC,
      GATEWAY_POOL_NAME_0: 'night',
      GATEWAY_POOL_NAME_1: 'rag',
      GATEWAY_POOL_BACKENDS_1: 'swe-payg,fra-payg',
      GATEWAY_POOL_CLIENTS_1: 'search,chat,oidc:*',
      GATEWAY_POOL_NAME_2: 'lab',
    },
    set: {
      GATEWAY_POOL_NAME_0: undefined,
      GATEWAY_POOL_BACKENDS_1: 'swe-payg,fra-payg:5:0',
      GATEWAY_POOL_CLIENTS_1: 'search,oidc:someone',
      GATEWAY_POOL_PATH_2: '/experiments',
      GATEWAY_POOL_CLIENTS_2: 'batch',
    },
  },
  'access-opened': {
    from: {
      ENABLE_IP_RESTRICTION: 'true',
      IP_WHITELIST: '10.0.0.0/8',
      ...OIDC,
    },
    set: {
      ENABLE_IP_RESTRICTION: undefined,
      IP_WHITELIST: undefined,
      ENABLE_OIDC: undefined,
      OIDC_CLIENT_ID: undefined,
      OIDC_CLIENT_SECRET: undefined,
      OIDC_DISCOVERY_URL: undefined,
      OIDC_REDIRECT_URI: undefined,
      ENABLE_CORS: 'true',
      CORS_ALLOW_ORIGINS: '*',
      GATEWAY_SECRETS: 'inline',
    },
  },
  'latency-and-fewer-attempts': {
    set: { LB_ALG: 'latency', AI_PROXY_MAX_ATTEMPTS: '1', AI_PROXY_RETRY_STATUSES: '429' },
  },
};

const envFile = (name: string, settings: Settings) =>
  inFolder(
    name,
    Object.entries(settings)
      .map(([variable, value]) => (value === undefined ? '' : `${variable}='${value}'\n`))
      .join(''),
  );

async function markdown(before: Settings, after: Settings, title = 'prod.env') {
  const args = ['diff', '--against', envFile('before.env', before), '-e', envFile('after.env', after)];
  return runHere([...args, '--format', 'markdown', '--title', title]);
}

const rendered = async ({ from = {}, set }: { readonly from?: Settings; readonly set: Settings }) =>
  markdown({ ...BASE, ...from }, { ...BASE, ...from, ...set });

/** All tables of a text, as GitHub's dialect of Markdown reads them. */
const tables = (text: string) =>
  new Marked({ gfm: true })
    .lexer(text.replace(/<\/?details>|<summary>.*<\/summary>/g, ''))
    .filter((token): token is Tokens.Table => token.type === 'table');

describe('the comment on each of twenty changes', () => {
  test.each(Object.entries(CHANGES))(
    'matches its golden file and shows no secret: %s',
    async (name, change) => {
      const { code, stdout } = await rendered(change);
      expect(code).toBe(name === 'no-change' ? 0 : 2);
      await expect(stdout).toMatchFileSnapshot(join(GOLDENS, `${name}.md`));
      // It contains no secret of either side.
      for (const value of Object.values({ ...BASE, ...change.from, ...change.set }))
        if (value !== undefined && /key|secret-of/.test(value)) expect(stdout).not.toContain(value);
      for (const { header, rows } of tables(stdout))
        for (const row of rows) expect(row).toHaveLength(header.length);
    },
  );

  test('together contain every warning', async () => {
    let all = '';
    for (const change of Object.values(CHANGES)) all += (await rendered(change)).stdout;
    for (const rule of WARNING_RULES) expect(all).toContain(`(\`${rule}\`)`);
  });
});

test('docs/ci.md lists every warning', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/ci.md'), 'utf8');
  for (const rule of WARNING_RULES) expect(page).toContain(`\`${rule}\``);
});

test('the shares of one priority add up to 100 %', async () => {
  const { stdout } = await rendered({ set: { AZURE_OPENAI_WEIGHT_1: '2', AZURE_OPENAI_WEIGHT_2: '1' } });
  expect(stdout).toContain('| `swe-payg` | 5 | 25 % of the overflow | 66.7 % of the overflow |');
  expect(stdout).toContain('| `fra-payg` | 5 | 75 % of the overflow | 33.3 % of the overflow |');
  expect(stdout).toContain('| `swe-ptu` | 10 | 100 % | 100 % |');
});

test('compares a rendered folder, or one rendered file alone', async () => {
  const folder = inFolder('rendered');
  const before = envFile('before.env', BASE);
  await runHere(['render', '-e', before, '-o', folder]);
  const after = envFile('after.env', { ...BASE, AZURE_OPENAI_WEIGHT_0: '0', APISIX_LOG_LEVEL: 'info' });
  const against = async (path: string) =>
    (await runHere(['diff', '--against', path, '-e', after, '--format', 'markdown'])).stdout;
  expect(await against(folder)).toContain(
    'drains the last backend of priority `10`: `swe-ptu` (`last-of-priority`)',
  );
  expect(await against(join(folder, 'apisix.yaml'))).toContain('drains the last backend');
  const config = await against(join(folder, 'config.yaml'));
  expect(config).toContain(
    '| setting of the gateway | log level `warn` → `info` | when the gateway restarts |',
  );
  expect(config).not.toContain('Share of traffic');
});

test('reports wrong settings in the comment', async () => {
  const { code, stdout, stderr } = await markdown(BASE, {
    ...BASE,
    LB_ALG: 'x|y',
    GATEWAY_REQUIRE_AUTH: 'false',
  });
  expect(code).toBe(1);
  expect(stdout).toMatch(/^## Settings: 1 error\n\n- \*\*error\*\* `LB_ALG` in `.*after\.env:\d+`: /);
  expect(stderr).toContain('warning GATEWAY_REQUIRE_AUTH');
});

test('names and values become no link, mention, table cell, comment or HTML element', async () => {
  const hostile = '@admin [x](javascript:1) <img src=x> | `` ` --> $x';
  const apisix = (weight: number, name: string) => `services:
  - id: azure-openai
    plugins:
      "${name.replaceAll('"', '')}": {}
      ai-proxy-multi:
        instances:
          - {name: ${JSON.stringify(name)}, priority: 5, weight: ${weight}, override: {endpoint: "https://a"}}
#END
`;
  const before = inFolder('apisix.yaml', apisix(1, hostile));
  const { stdout } = await runHere(
    ['diff', '--against', before, '--format', 'markdown', '--title', `${hostile}\n# title`],
    { env: GOOD },
  );
  for (const { header, rows } of tables(stdout)) {
    for (const row of rows) expect(row).toHaveLength(header.length);
  }
  const html = await new Marked({ gfm: true }).parse(stdout.replace(/^<!--.*?-->\n/, ''));
  expect(html).not.toMatch(/<img|<a /);
  expect(html.match(/<h2/g)).toHaveLength(1);
  // GitHub notifies nobody for a name inside of code.
  expect(html.replace(/<code>.*?<\/code>/gs, '')).not.toContain('@admin');
  expect(html).toContain('&lt;img src=x&gt; |');
});

test("the comment on thousands of changes stays below GitHub's size limit", async () => {
  const many = Object.fromEntries(
    Array.from({ length: 2_000 }, (_, index) => [
      [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`],
      [`GATEWAY_CLIENT_KEY_${index}`, `key-of-client-number-${index}`],
    ]).flat(),
  );
  const { stdout } = await markdown(BASE, { ...BASE, ...many });
  expect(stdout.length).toBeLessThan(60_000);
  expect(stdout).toContain('more: `genai-gateway diff` lists all');
});
