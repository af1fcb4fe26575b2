/**
 * `genai-gateway.policy.yaml`: each rule with settings that break it and keep it, severities, exceptions, and errors in
 * the file itself.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { environmentOf } from '../../../compiler/policy/evaluate.ts';
import {
  matchesHost,
  POLICY_RULE_NAMES,
  POLICY_RULES,
  type PolicyRuleName,
} from '../../../compiler/policy/rules.ts';
import { runCli, runHere } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

type Settings = Readonly<Record<string, string>>;

const OIDC = {
  ENABLE_OIDC: 'true',
  OIDC_CLIENT_ID: '11111111-2222-3333-4444-555555555555',
  OIDC_CLIENT_SECRET: 'secret-of-the-oidc-client',
  OIDC_REDIRECT_URI: 'https://gateway.example.com/callback',
};
const SECOND = {
  AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
  AZURE_OPENAI_KEY_1: 'key-of-backend-one',
};
const INGEST =
  'https://my-dce.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef';

/** For each rule: settings that break it, the settings that the diagnostics name, and settings that keep it. */
const CASES: Readonly<
  Record<
    PolicyRuleName,
    {
      readonly options?: string;
      readonly broken: Settings;
      readonly at: readonly string[];
      readonly kept: Settings;
    }
  >
> = {
  authentication: { broken: { GATEWAY_REQUIRE_AUTH: 'false' }, at: ['GATEWAY_REQUIRE_AUTH'], kept: {} },
  'secrets-by-reference': { broken: { GATEWAY_SECRETS: 'inline' }, at: ['GATEWAY_SECRETS'], kept: {} },
  // The secrets of GOOD come from the environment, so this rule has a test of its own.
  'secrets-in-env-files': { broken: {}, at: [], kept: {} },
  'managed-identity': {
    broken: SECOND,
    at: ['AZURE_OPENAI_KEY_0', 'AZURE_OPENAI_KEY_1'],
    kept: { AZURE_OPENAI_AUTH_MODE_0: 'entra' },
  },
  tls: {
    broken: {
      ...OIDC,
      AZURE_OPENAI_ENDPOINT_0: 'http://one.internal:8080',
      OIDC_DISCOVERY_URL: 'http://issuer.example.com/.well-known/openid-configuration',
      RESPONSES_AFFINITY_REDIS_HOST: 'redis.internal',
      ENABLE_AI_RATE_LIMIT: 'true',
      AI_RATE_LIMIT_HIGH_LIMIT: '1000',
      AI_RATE_LIMIT_POLICY: 'redis',
      AI_RATE_LIMIT_REDIS_HOST: 'redis.internal',
      APIM_GATEWAY_LOGS_INGEST_URI: INGEST.replace('https', 'http'),
      APIM_GATEWAY_ID: 'prod',
    },
    at: [
      'AI_RATE_LIMIT_REDIS_TLS',
      'APIM_GATEWAY_LOGS_INGEST_URI',
      'AZURE_OPENAI_ENDPOINT_0',
      'OIDC_DISCOVERY_URL',
      'RESPONSES_AFFINITY_REDIS_TLS',
    ],
    kept: { RESPONSES_AFFINITY_REDIS_HOST: 'redis.internal', RESPONSES_AFFINITY_REDIS_TLS: 'true' },
  },
  backends: {
    broken: { ...SECOND, AZURE_OPENAI_WEIGHT_1: '0' },
    at: ['AZURE_OPENAI_ENDPOINT_0'],
    kept: SECOND,
  },
  regions: {
    broken: { ...SECOND, AZURE_OPENAI_REGION_0: 'Sweden Central', AZURE_OPENAI_REGION_1: 'swedencentral' },
    at: ['AZURE_OPENAI_REGION_0'],
    kept: { ...SECOND, AZURE_OPENAI_REGION_0: 'swedencentral', AZURE_OPENAI_REGION_1: 'francecentral' },
  },
  'allowed-regions': {
    options: 'regions: [swedencentral, West Europe]',
    broken: { ...SECOND, AZURE_OPENAI_REGION_0: 'eastus' },
    at: ['AZURE_OPENAI_REGION_0', 'AZURE_OPENAI_REGION_1'],
    kept: { AZURE_OPENAI_REGION_0: 'westeurope' },
  },
  'allowed-hosts': {
    options: "hosts: ['*.openai.azure.com']",
    broken: { AZURE_OPENAI_ENDPOINT_0: 'https://openai.azure.com.example.com' },
    at: ['AZURE_OPENAI_ENDPOINT_0'],
    kept: {},
  },
  'allowed-models': {
    options: 'models: [gpt-4o, o3]',
    broken: { ...SECOND, AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o,gpt-5=mine' },
    at: ['AZURE_OPENAI_DEPLOYMENTS_0', 'AZURE_OPENAI_DEPLOYMENTS_1'],
    kept: { AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o=mine' },
  },
  'client-key-length': {
    broken: { GATEWAY_CLIENT_KEY_SECONDARY_0: 'second-key-of-client-0' },
    at: ['GATEWAY_CLIENT_KEY_0', 'GATEWAY_CLIENT_KEY_SECONDARY_0'],
    kept: { GATEWAY_CLIENT_KEY_0: 'a'.repeat(16).concat('b'.repeat(16)) },
  },
  'client-budgets': {
    broken: { GATEWAY_CLIENT_REQUESTS_PER_MINUTE_0: '10' },
    at: ['GATEWAY_CLIENT_TOKENS_PER_MINUTE_0'],
    kept: { GATEWAY_CLIENT_TOKENS_PER_DAY_0: '100000' },
  },
  'client-models': {
    broken: { GATEWAY_CLIENT_MODELS_0: '*' },
    at: ['GATEWAY_CLIENT_MODELS_0'],
    kept: { GATEWAY_CLIENT_MODELS_0: 'gpt-4o*' },
  },
  origins: {
    broken: { ENABLE_CORS: 'true', CORS_ALLOW_ORIGINS: '*' },
    at: ['CORS_ALLOW_ORIGINS'],
    kept: { ENABLE_CORS: 'true', CORS_ALLOW_ORIGINS: 'https://app.example.com' },
  },
  addresses: {
    broken: { ENABLE_IP_RESTRICTION: 'true', IP_BLACKLIST: '203.0.113.0/24' },
    at: ['IP_WHITELIST'],
    kept: { ENABLE_IP_RESTRICTION: 'true', IP_WHITELIST: '10.0.0.0/8' },
  },
  prompts: {
    broken: {
      APIM_GATEWAY_LOGS_INGEST_URI: INGEST,
      APIM_GATEWAY_ID: 'prod',
      APIM_GATEWAY_LOGS_INCLUDE_REQ_BODY: 'true',
    },
    at: ['APIM_GATEWAY_LOGS_INCLUDE_REQ_BODY'],
    kept: { APIM_GATEWAY_LOGS_INGEST_URI: INGEST, APIM_GATEWAY_ID: 'prod' },
  },
  'log-level': {
    broken: { APISIX_LOG_LEVEL: 'info' },
    at: ['APISIX_LOG_LEVEL'],
    kept: { APISIX_LOG_LEVEL: 'warn' },
  },
};

interface Found {
  readonly code: string;
  readonly severity: string;
  readonly setting: string;
}

async function check(policy: string, env: Settings, ...args: string[]) {
  const file = inFolder('policy.yaml', policy);
  const { code, stdout } = await runHere(['check', '--policy', file, '--format', 'json', ...args], { env });
  const { diagnostics } = JSON.parse(stdout) as { diagnostics: Found[] };
  return { code, found: diagnostics.filter((each) => each.code.startsWith('POLICY_')), stdout };
}

describe.each(POLICY_RULE_NAMES.filter((name) => name !== 'secrets-in-env-files'))('the rule %s', (name) => {
  const { options = '', broken, at, kept } = CASES[name];
  const policy = (more: string) =>
    `rules: {${name}: {${[more, options].filter((each) => each !== '').join(', ')}}}\n`;

  test('reports the settings that break it', async () => {
    const { code, found } = await check(policy(''), { ...GOOD, ...broken });
    expect(code).toBe(1);
    expect(found.map(({ setting }) => setting).sort()).toEqual([...at].sort());
    for (const each of found)
      expect(each).toMatchObject({ code: POLICY_RULES[name].code, severity: 'error' });
  });

  test('reports nothing for settings that keep it', async () => {
    expect((await check(policy(''), { ...GOOD, ...kept })).found).toEqual([]);
  });

  test('is a warning with severity warning, an error under --strict, and off with severity off', async () => {
    const env = { ...GOOD, ...broken };
    const warned = await check(policy('severity: warning'), env);
    expect(warned.found.map(({ severity }) => severity)).toEqual(at.map(() => 'warning'));
    const strict = await check(policy('severity: warning'), env, '--strict');
    expect(strict.found.map(({ severity }) => severity)).toEqual(at.map(() => 'error'));
    expect((await check(policy('severity: off'), env)).found).toEqual([]);
    expect((await check(`rules: {${name}: off}\n`, env)).found).toEqual([]);
  });

  test('does not report what the policy excepts', async () => {
    const { except } = POLICY_RULES[name] as { except?: string };
    const env = { ...GOOD, ...broken };
    if (except === undefined) {
      const { code, stdout } = await check(policy('except: [app]'), env);
      expect(code).toBe(1);
      expect(stdout).toContain('POLICY_FILE_INVALID');
      return;
    }
    const named = except === 'clients' ? '[app]' : '[backend-0, backend-1]';
    const left = (await check(policy(`except: ${named}`), env)).found;
    expect(left.filter(({ setting }) => /^(?:AZURE_OPENAI|GATEWAY_CLIENT)_/.test(setting))).toEqual([]);
  });
});

test('the rule secrets-in-env-files reports the line of each secret', async () => {
  const file = inFolder(
    'prod.env',
    `GATEWAY_CLIENT_NAME_0=app\nGATEWAY_CLIENT_KEY_0=${GOOD.GATEWAY_CLIENT_KEY_0}\n`,
  );
  const key = inFolder('key', GOOD.AZURE_OPENAI_KEY_0);
  const env = { AZURE_OPENAI_ENDPOINT_0: GOOD.AZURE_OPENAI_ENDPOINT_0, AZURE_OPENAI_KEY_0_FILE: key };
  const { found, stdout } = await check('rules: {secrets-in-env-files: error}\n', env, '-e', file);
  expect(found).toMatchObject([
    { code: 'POLICY_SECRETS_IN_ENV_FILES', setting: 'GATEWAY_CLIENT_KEY_0', source: file, line: 2 },
  ]);
  expect(stdout).not.toContain(GOOD.GATEWAY_CLIENT_KEY_0);
});

describe('the policy file', () => {
  test('in the current folder is used by check, unless --policy or --no-policy is given', () => {
    const policy = 'rules: {client-budgets: error}\n';
    inFolder('genai-gateway.policy.yaml', policy);
    const run = (...args: string[]) => runCli(['check', ...args], { env: GOOD, cwd: inFolder('.') });
    expect(run().stdout).toContain('POLICY_CLIENT_BUDGETS');
    expect(run().code).toBe(1);
    expect(run('--no-policy')).toMatchObject({ code: 0, stdout: '' });
    expect(run('--policy', inFolder('other.yaml', 'rules: {}\n'))).toMatchObject({ code: 0, stdout: '' });
    expect(runCli(['check'], { env: GOOD, cwd: '/' }).code).toBe(0);
  });

  test.each([
    [
      'rules: {client-budget: error}',
      'rules.client-budget is not valid: the key is unknown here; did you mean client-budgets?',
    ],
    ['rules: {tls: fatal}', 'rules.tls is not valid: unknown severity'],
    ['rules: {regions: {least: none}}', 'rules.regions.least is not valid: the value is not such a number'],
    ['rules: {regions: {least: 0}}', 'rules.regions.least is not valid'],
    ['rules: {regions: {lest: 2}}', 'rules.regions.lest is not valid: the key is unknown here'],
    ['rules: {allowed-hosts: error}', 'rules.allowed-hosts.hosts is not valid: the value is missing'],
    [
      'rules: {allowed-hosts: {hosts: []}}',
      'rules.allowed-hosts.hosts is not valid: the value is not such a list',
    ],
    ['rules: {tls: {except: app}}', 'rules.tls.except is not valid'],
    ['rules: [tls]', 'rules is not valid: the value is not a mapping'],
    ['rule: {tls: error}', 'rule is not valid: the key is unknown here'],
    ['- tls', 'the file is not valid: the value is not a mapping'],
    ['environments: {prod: {tsl: error}}', 'environments.prod.tsl is not valid'],
    ['rules: {tls: error', 'the policy file cannot be read'],
    ['rules: {tls: error, tls: off}', 'the policy file cannot be read'],
  ])('with %j is rejected', async (text, message) => {
    const file = inFolder('policy.yaml', `${text}\n`);
    const { code, stdout } = await runHere(['check', '--policy', file], { env: GOOD });
    expect(code).toBe(1);
    expect(stdout).toContain(`error ${file}: ${message}`);
  });

  test('is an error when it does not exist', async () => {
    const { code, stdout } = await runHere(['check', '--policy', inFolder('nope.yaml')], { env: GOOD });
    expect(code).toBe(1);
    expect(stdout).toContain('POLICY_FILE_UNREADABLE');
  });

  test('can override rules for an environment, named after its env file', async () => {
    const policy =
      'rules: {client-budgets: error, log-level: error}\nenvironments: {dev: {client-budgets: off, log-level: warning}}\n';
    const env = { ...GOOD, APISIX_LOG_LEVEL: 'debug' };
    const codes = async (name: string) =>
      (await check(policy, env, '-e', inFolder(name, 'LB_ALG=roundrobin\n'))).found.map(
        ({ code, severity }) => `${severity} ${code}`,
      );
    expect(await codes('dev.env')).toEqual(['warning POLICY_LOG_LEVEL']);
    expect(await codes('.env.dev')).toEqual(['warning POLICY_LOG_LEVEL']);
    expect(await codes('prod.env')).toHaveLength(2);
  });
});

test('the name of an environment is derived from the name of its env file', () => {
  expect(
    ['envs/prod.env', '.env.prod', 'C:\\envs\\prod.env', '.env', 'prod', undefined].map(environmentOf),
  ).toEqual(['prod', 'prod', 'prod', undefined, undefined, undefined]);
});

test('a host pattern is no prefix and does not match the domain itself', () => {
  expect(matchesHost('*.openai.azure.com', 'x.OpenAI.azure.com')).toBe(true);
  expect(matchesHost('*.openai.azure.com', 'openai.azure.com')).toBe(false);
  expect(matchesHost('*.openai.azure.com', 'x.openai.azure.com.evil.example')).toBe(false);
  expect(matchesHost('one.example', 'two.one.example')).toBe(false);
});

test('docs/ci.md has a row for every rule', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/ci.md'), 'utf8');
  for (const name of POLICY_RULE_NAMES)
    expect(page).toContain(`| \`${name}\` | ${POLICY_RULES[name].about} | \`${POLICY_RULES[name].code}\` |`);
});
