/** Diagnostics about the rules of a team's own policy. */
import { error, list } from './entry.ts';

export const policy = {
  POLICY_FILE_UNREADABLE: error((a: { reason: string }, name) => ({
    message: `the policy file cannot be read: ${a.reason}`,
    expected: 'a YAML file that lists the rules to enforce',
    hint: `check the file ${name}`,
  })),
  POLICY_FILE_INVALID: error((a: { at: string; problem: string; expected: string }, name) => ({
    message: `${a.at} is not valid: ${a.problem}`,
    expected: a.expected,
    hint: `correct ${a.at} in ${name}`,
  })),
  POLICY_AUTHENTICATION: error(() => ({
    message: 'the policy requires authentication',
    expected: 'GATEWAY_REQUIRE_AUTH=true',
    hint: 'set GATEWAY_REQUIRE_AUTH=true and give each client a key',
  })),
  POLICY_SECRETS_BY_REFERENCE: error(() => ({
    message: 'the policy does not allow secrets in rendered files',
    expected: 'GATEWAY_SECRETS=reference',
    hint: 'set GATEWAY_SECRETS=reference, or remove GATEWAY_SECRETS',
  })),
  POLICY_SECRETS_IN_ENV_FILES: error((_, name) => ({
    message: 'the policy does not allow secrets in env files',
    expected: `${name} in the environment of the process, or ${name}_FILE`,
    hint: `remove ${name} from the env file and replace the secret: everyone who can read the file knows it`,
  })),
  POLICY_MANAGED_IDENTITY: error((a: { index: number }) => ({
    message: `the policy does not allow keys for backends, and backend ${a.index} uses a key`,
    expected: `AZURE_OPENAI_AUTH_MODE_${a.index}=entra`,
    hint: `set AZURE_OPENAI_AUTH_MODE_${a.index}=entra and remove the key`,
  })),
  POLICY_TLS: error((_, name) => ({
    message: 'the policy requires TLS',
    expected: name.endsWith('_TLS') ? `${name}=true` : 'an https URL',
    hint: name.endsWith('_TLS') ? `set ${name}=true` : `write ${name} with https://`,
  })),
  POLICY_BACKENDS: error((a: { active: number; least: number }) => ({
    message: `the policy requires ${a.least} backends that get requests, and there ${a.active === 1 ? 'is' : 'are'} ${a.active}`,
    expected: `at least ${a.least} backends with a weight above 0`,
    hint: 'add backends with AZURE_OPENAI_ENDPOINT_N, or raise AZURE_OPENAI_WEIGHT_N',
  })),
  POLICY_REGIONS: error((a: { regions: number; least: number }) => ({
    message: `the policy requires backends in ${a.least} regions, and the backends are in ${a.regions}`,
    expected: `backends with a weight above 0 in at least ${a.least} regions`,
    hint: 'set AZURE_OPENAI_REGION_N for each backend, and add a backend in another region',
  })),
  POLICY_ALLOWED_REGIONS: error((a: { allowed: readonly string[]; region?: string | undefined }, name) => ({
    message:
      a.region === undefined
        ? 'the policy allows only some regions, and this backend has no region'
        : `the policy does not allow the region ${a.region}`,
    expected: `one of ${list(a.allowed)}`,
    hint: `set ${name} to an allowed region, or remove the backend`,
  })),
  POLICY_ALLOWED_HOSTS: error((a: { allowed: readonly string[] }, name) => ({
    message: 'the policy does not allow this host',
    expected: `one of the hosts ${list(a.allowed)}`,
    hint: `set ${name} to an endpoint on an allowed host`,
  })),
  POLICY_ALLOWED_MODELS: error(
    (a: { allowed: readonly string[]; others?: readonly string[] | undefined }, name) => ({
      message:
        a.others === undefined
          ? 'the policy allows only some models, and this backend serves all models'
          : `the policy does not allow the models ${list(a.others)}`,
      expected: `some of ${list(a.allowed)}`,
      hint: `list only allowed models in ${name}`,
    }),
  ),
  POLICY_CLIENT_KEY_LENGTH: error((a: { length: number; least: number }, name) => ({
    message: `the policy requires keys of at least ${a.least} characters, and this key has ${a.length}`,
    expected: `at least ${a.least} characters`,
    hint: `give ${name} a random key, for example from openssl rand -hex ${Math.ceil(a.least / 2)}`,
  })),
  POLICY_CLIENT_BUDGETS: error((a: { client: string; isSingle: boolean }, name) => ({
    message: `the policy requires a token budget for every client, and client ${a.client} has none`,
    expected: 'a limit of tokens per minute or per day',
    hint: a.isSingle ? numbered(name) : `set ${name}=100000, or ${name.replace('MINUTE', 'DAY')}`,
  })),
  POLICY_CLIENT_MODELS: error((a: { client: string; isSingle: boolean }, name) => ({
    message: `the policy requires a list of models for every client, and client ${a.client} may call all models`,
    expected: 'a list of models that is not just *',
    hint: a.isSingle ? numbered(name) : `set ${name}, for example to gpt-4o*`,
  })),
  POLICY_ORIGINS: error((_, name) => ({
    message: 'the policy allows only named origins, not *',
    expected: 'a list of origins without *',
    hint: `list each origin in ${name}`,
  })),
  POLICY_ADDRESSES: error((_, name) => ({
    message: 'the policy requires a list of the IP addresses that may reach the gateway',
    expected: 'ENABLE_IP_RESTRICTION=true with IP_WHITELIST',
    hint: `set ENABLE_IP_RESTRICTION=true and ${name}`,
  })),
  POLICY_PROMPTS: error((_, name) => ({
    message: 'the policy does not allow prompts in records',
    expected: `${name}=false`,
    hint: `remove ${name}`,
  })),
  POLICY_LOG_LEVEL: error((_, name) => ({
    message: 'the policy does not allow a log level at which APISIX logs the query strings of requests',
    expected: 'notice or a higher level',
    hint: `set ${name}=warn`,
  })),
};

const numbered = (name: string) =>
  `use GATEWAY_CLIENT_NAME_0 and GATEWAY_CLIENT_KEY_0 instead of GATEWAY_CLIENT_KEY, and set ${name}`;
