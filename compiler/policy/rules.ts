/** The policy rules that a team can enforce on its settings. Each has a name and a diagnostic. Pure. */
import type { CatalogArgs } from '../diagnostics/catalog.ts';
import type { Backend, Client, GatewayModel, Redis } from '../model/model.ts';
import type { Settings } from '../settings/parse.ts';
import { Secret } from '../settings/secret.ts';

export type PolicyCode =
  | 'POLICY_ADDRESSES'
  | 'POLICY_ALLOWED_HOSTS'
  | 'POLICY_ALLOWED_MODELS'
  | 'POLICY_ALLOWED_REGIONS'
  | 'POLICY_AUTHENTICATION'
  | 'POLICY_BACKENDS'
  | 'POLICY_CLIENT_BUDGETS'
  | 'POLICY_CLIENT_KEY_LENGTH'
  | 'POLICY_CLIENT_MODELS'
  | 'POLICY_LOG_LEVEL'
  | 'POLICY_MANAGED_IDENTITY'
  | 'POLICY_ORIGINS'
  | 'POLICY_PROMPTS'
  | 'POLICY_REGIONS'
  | 'POLICY_SECRETS_BY_REFERENCE'
  | 'POLICY_SECRETS_IN_ENV_FILES'
  | 'POLICY_TLS';

/** The options of a rule, without its severity. */
export type RuleOptions = Readonly<Record<string, number | readonly string[]>>;

export interface Subject {
  readonly settings: Settings;
  readonly model: GatewayModel;
}

export type Report = <C extends PolicyCode>(code: C, setting: string, args: CatalogArgs<C>) => void;

export interface PolicyRule {
  readonly code: PolicyCode;
  /** The requirement, as a sentence. */
  readonly about: string;
  /** Options with their defaults; undefined: the option is required. */
  readonly options: Readonly<Record<string, number | readonly string[] | undefined>>;
  /** Whether the names in `except` are of backends or of clients. */
  readonly except?: 'backends' | 'clients';
  check(subject: Subject, options: RuleOptions, report: Report): void;
}

const list = (options: RuleOptions, name: string) => options[name] as readonly string[];
const count = (options: RuleOptions, name: string) => options[name] as number;

/** Backends with the index of their variables, without those in `except`. */
function backends({ model, settings }: Subject, options: RuleOptions): { backend: Backend; index: number }[] {
  const excepted = new Set(list(options, 'except'));
  return model.backends
    .map((backend, position) => ({ backend, index: settings.backends[position]?.index ?? position }))
    .filter(({ backend }) => !excepted.has(backend.name));
}

/** Clients with the suffix of their variables, without those in `except`. The single client has no suffix. */
function clients({ model, settings }: Subject, options: RuleOptions): { client: Client; end: string }[] {
  const excepted = new Set(list(options, 'except'));
  return model.clients
    .map((client, position) => {
      const index = settings.clients[position]?.index;
      return { client, end: index === undefined ? '' : `_${index}` };
    })
    .filter(({ client }) => !excepted.has(client.name));
}

/** A diagnostic about all backends is reported at the first backend. */
const first = ({ backends }: Settings) => backends[0]?.index ?? 0;

const hostOf = (origin: string) => new URL(origin).hostname;
const isPlain = (url: string | undefined) => url !== undefined && /^http:/i.test(url);

/** `*.example.com` matches all its subdomains; any other pattern matches only itself. */
export const matchesHost = (pattern: string, host: string): boolean => {
  const [wanted, given] = [pattern.toLowerCase(), host.toLowerCase()];
  return wanted.startsWith('*.') ? given.endsWith(wanted.slice(1)) : given === wanted;
};

const sameRegion = (region: string) => region.toLowerCase().replaceAll(/[\s_-]/g, '');

export const POLICY_RULES = {
  authentication: {
    code: 'POLICY_AUTHENTICATION',
    about: 'Clients must authenticate.',
    options: {},
    check: ({ model }, _, report) => {
      if (!model.authentication.required) report('POLICY_AUTHENTICATION', 'GATEWAY_REQUIRE_AUTH', {});
    },
  },
  'secrets-by-reference': {
    code: 'POLICY_SECRETS_BY_REFERENCE',
    about: 'The rendered files contain references to secrets, not the secrets.',
    options: {},
    check: ({ model }, _, report) => {
      if (model.server.secrets !== 'reference') report('POLICY_SECRETS_BY_REFERENCE', 'GATEWAY_SECRETS', {});
    },
  },
  'secrets-in-env-files': {
    code: 'POLICY_SECRETS_IN_ENV_FILES',
    about:
      'No env file contains a secret. Secrets come from the environment of the process or from files (NAME_FILE).',
    options: {},
    check: ({ settings }, _, report) => {
      const groups: readonly object[] = [settings.values, ...settings.backends, ...settings.clients];
      const secrets = groups.flatMap((group) =>
        Object.values(group).filter((value) => value instanceof Secret),
      );
      for (const { variable, file } of secrets) {
        if (file === undefined && settings.sources.get(variable)?.kind === 'file')
          report('POLICY_SECRETS_IN_ENV_FILES', variable, {});
      }
    },
  },
  'managed-identity': {
    code: 'POLICY_MANAGED_IDENTITY',
    about: 'The gateway authenticates to backends with its managed identity, not with a key.',
    options: {},
    except: 'backends',
    check: (subject, options, report) => {
      for (const { backend, index } of backends(subject, options))
        if (backend.credential.kind === 'api-key')
          report('POLICY_MANAGED_IDENTITY', `AZURE_OPENAI_KEY_${index}`, { index });
    },
  },
  tls: {
    code: 'POLICY_TLS',
    about: 'The gateway calls backends, issuers, Redis and Azure Monitor only over TLS.',
    options: {},
    except: 'backends',
    check: (subject, options, report) => {
      const { model } = subject;
      for (const { backend, index } of backends(subject, options))
        if (isPlain(backend.origin)) report('POLICY_TLS', `AZURE_OPENAI_ENDPOINT_${index}`, {});
      if (isPlain(model.authentication.oidc?.discoveryUrl)) report('POLICY_TLS', 'OIDC_DISCOVERY_URL', {});
      if (isPlain(model.telemetry.apimRecords?.ingestUri))
        report('POLICY_TLS', 'APIM_GATEWAY_LOGS_INGEST_URI', {});
      const redis: readonly [string, Redis | undefined][] = [
        ['AI_RATE_LIMIT_REDIS_TLS', model.limits.redis],
        ['RESPONSES_AFFINITY_REDIS_TLS', model.affinity.redis],
        ['CACHE_REDIS_TLS', model.cache?.redis],
      ];
      for (const [setting, server] of redis) if (server && !server.tls) report('POLICY_TLS', setting, {});
    },
  },
  backends: {
    code: 'POLICY_BACKENDS',
    about: 'At least `least` backends have a weight above 0.',
    options: { least: 2 },
    check: ({ model, settings }, options, report) => {
      const active = model.backends.filter(({ weight }) => weight > 0).length;
      const least = count(options, 'least');
      if (active < least)
        report('POLICY_BACKENDS', `AZURE_OPENAI_ENDPOINT_${first(settings)}`, { active, least });
    },
  },
  regions: {
    code: 'POLICY_REGIONS',
    about: 'The backends with a weight above 0 are in at least `least` regions (AZURE_OPENAI_REGION_N).',
    options: { least: 2 },
    check: ({ model, settings }, options, report) => {
      const active = model.backends.filter(({ weight }) => weight > 0);
      const regions = new Set(
        active.flatMap(({ region }) => (region === undefined ? [] : sameRegion(region))),
      );
      const least = count(options, 'least');
      if (regions.size < least)
        report('POLICY_REGIONS', `AZURE_OPENAI_REGION_${first(settings)}`, { regions: regions.size, least });
    },
  },
  'allowed-regions': {
    code: 'POLICY_ALLOWED_REGIONS',
    about: 'Every backend is in one of the listed `regions`.',
    options: { regions: undefined },
    except: 'backends',
    check: (subject, options, report) => {
      const allowed = list(options, 'regions');
      for (const { backend, index } of backends(subject, options)) {
        const { region } = backend;
        if (region === undefined || !allowed.some((each) => sameRegion(each) === sameRegion(region)))
          report('POLICY_ALLOWED_REGIONS', `AZURE_OPENAI_REGION_${index}`, { allowed, region });
      }
    },
  },
  'allowed-hosts': {
    code: 'POLICY_ALLOWED_HOSTS',
    about: 'Every endpoint is on one of the listed `hosts`; *.example.com stands for all its subdomains.',
    options: { hosts: undefined },
    except: 'backends',
    check: (subject, options, report) => {
      const allowed = list(options, 'hosts');
      for (const { backend, index } of backends(subject, options)) {
        if (!allowed.some((pattern) => matchesHost(pattern, hostOf(backend.origin))))
          report('POLICY_ALLOWED_HOSTS', `AZURE_OPENAI_ENDPOINT_${index}`, { allowed });
      }
    },
  },
  'allowed-models': {
    code: 'POLICY_ALLOWED_MODELS',
    about: 'Every backend lists its deployments, and all of them are among the listed `models`.',
    options: { models: undefined },
    except: 'backends',
    check: (subject, options, report) => {
      const allowed = list(options, 'models');
      for (const { backend, index } of backends(subject, options)) {
        const others = backend.deployments?.map(({ name }) => name).filter((name) => !allowed.includes(name));
        if (others?.length !== 0)
          report('POLICY_ALLOWED_MODELS', `AZURE_OPENAI_DEPLOYMENTS_${index}`, { allowed, others });
      }
    },
  },
  'client-key-length': {
    code: 'POLICY_CLIENT_KEY_LENGTH',
    about: 'Keys of clients have at least `least` characters.',
    options: { least: 32 },
    except: 'clients',
    check: (subject, options, report) => {
      const least = count(options, 'least');
      for (const { client } of clients(subject, options))
        for (const key of [client.key, client.secondaryKey])
          if (key && key.length < least)
            report('POLICY_CLIENT_KEY_LENGTH', key.variable, { length: key.length, least });
    },
  },
  'client-budgets': {
    code: 'POLICY_CLIENT_BUDGETS',
    about: 'Every client has a token budget per minute or per day.',
    options: {},
    except: 'clients',
    check: (subject, options, report) => {
      for (const { client, end } of clients(subject, options))
        if (client.tokensPerMinute === undefined && client.tokensPerDay === undefined)
          report('POLICY_CLIENT_BUDGETS', `GATEWAY_CLIENT_TOKENS_PER_MINUTE${end || '_0'}`, {
            client: client.name,
            isSingle: end === '',
          });
    },
  },
  'client-models': {
    code: 'POLICY_CLIENT_MODELS',
    about: 'Every client has a list of models that it may call, and the list is not just *.',
    options: {},
    except: 'clients',
    check: (subject, options, report) => {
      for (const { client, end } of clients(subject, options))
        if (client.models === undefined || client.models.includes('*'))
          report('POLICY_CLIENT_MODELS', `GATEWAY_CLIENT_MODELS${end || '_0'}`, {
            client: client.name,
            isSingle: end === '',
          });
    },
  },
  origins: {
    code: 'POLICY_ORIGINS',
    about: 'Only web pages of named origins may call the gateway.',
    options: {},
    check: ({ model }, _, report) => {
      if (model.cors?.origins.includes('*')) report('POLICY_ORIGINS', 'CORS_ALLOW_ORIGINS', {});
    },
  },
  addresses: {
    code: 'POLICY_ADDRESSES',
    about: 'Only listed IP addresses may call the gateway.',
    options: {},
    check: ({ model }, _, report) => {
      if (model.ipRestriction?.kind !== 'allow') report('POLICY_ADDRESSES', 'IP_WHITELIST', {});
    },
  },
  prompts: {
    code: 'POLICY_PROMPTS',
    about: 'Records contain no prompts.',
    options: {},
    check: ({ model }, _, report) => {
      if (model.telemetry.apimRecords?.includeRequestBody)
        report('POLICY_PROMPTS', 'APIM_GATEWAY_LOGS_INCLUDE_REQ_BODY', {});
    },
  },
  'log-level': {
    code: 'POLICY_LOG_LEVEL',
    about: 'The log level is not info or debug, at which APISIX logs the query strings of requests.',
    options: {},
    check: ({ model }, _, report) => {
      if (['info', 'debug'].includes(model.server.logLevel))
        report('POLICY_LOG_LEVEL', 'APISIX_LOG_LEVEL', {});
    },
  },
} satisfies Readonly<Record<string, PolicyRule>>;

export type PolicyRuleName = keyof typeof POLICY_RULES;
export const POLICY_RULE_NAMES = Object.keys(POLICY_RULES) as PolicyRuleName[];
