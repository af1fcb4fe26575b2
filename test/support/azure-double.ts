/**
 * A double of Azure for Terraform: Resource Manager, Entra ID and the front doors of vaults and storage accounts, for one subscription, behind a
 * proxy that programs reach by HTTPS_PROXY, so that they use the names of the public cloud and no packet leaves this host.
 * It keeps what is put, adds what Azure itself decides (ids, keys, addresses), and checks nothing: whether Azure would take a
 * body, only Azure can tell.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Blobs } from './azure-blobs.ts';

export const TENANT = '11111111-1111-4111-8111-111111111111';
export const SUBSCRIPTION = '22222222-2222-4222-8222-222222222222';
const CALLER = '33333333-3333-4333-8333-333333333333';
const APPLICATION = '44444444-4444-4444-8444-444444444444';

/** Names that clients of Azure connect to; anything else is refused. */
const HOSTS = [
  'management.azure.com',
  'login.microsoftonline.com',
  'graph.microsoft.com',
  '*.vault.azure.net',
  '*.blob.core.windows.net',
];

type Json = Record<string, unknown>;

interface Resource extends Json {
  readonly id: string;
  readonly type: string;
}

export interface Call {
  readonly method: string;
  readonly host: string;
  /** Path and query. */
  readonly target: string;
  readonly status: number;
  readonly body: string;
}

export interface AzureDouble {
  /** Every call that was answered, in order. */
  readonly calls: readonly Call[];
  /** Makes a resource, and the groups that it is in, as if it had been there before. */
  put(id: string, properties?: Json): void;
  /** Ids of what there is. */
  resources(): readonly string[];
  /** The properties of what has this id, in any case. */
  properties(id: string): Json | undefined;
  /** The value of a vault's secret. */
  secret(vault: string, name: string): unknown;
  /** The content of each blob, by `account/container/name`. */
  blobs(): ReadonlyMap<string, string>;
  /** For a program that is to find Azure here. */
  readonly environment: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** The same id for the same words, as long as Azure's. */
function guid(...words: readonly string[]): string {
  const hex = createHash('sha256').update(words.join('/').toLowerCase()).digest('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

const hexOf = (...words: readonly string[]): string => guid(...words).replaceAll('-', '');

/** What Azure adds to the properties of a new resource, by its type. */
const DECIDED: Readonly<Record<string, (resource: Resource, name: string) => Json>> = {
  'microsoft.operationalinsights/workspaces': ({ id }) => ({ customerId: guid(id) }),
  'microsoft.insights/components': ({ id }, name) => ({
    AppId: guid(id, 'app'),
    InstrumentationKey: guid(id, 'key'),
    ConnectionString: `InstrumentationKey=${guid(id, 'key')};IngestionEndpoint=https://${name}.in.applicationinsights.azure.com/`,
  }),
  'microsoft.insights/datacollectionendpoints': (_, name) => ({
    immutableId: `dce-${hexOf(name)}`,
    configurationAccess: { endpoint: `https://${name}.eastus-1.handler.control.monitor.azure.com` },
    logsIngestion: { endpoint: `https://${name}.eastus-1.ingest.monitor.azure.com` },
    metricsIngestion: { endpoint: `https://${name}.eastus-1.metrics.ingest.monitor.azure.com` },
  }),
  'microsoft.insights/datacollectionrules': ({ id }) => ({ immutableId: `dcr-${hexOf(id)}` }),
  'microsoft.monitor/accounts': ({ id }, name) => {
    const managed = `/subscriptions/${SUBSCRIPTION}/resourceGroups/MA_${name}_eastus_managed/providers/Microsoft.Insights`;
    return {
      accountId: guid(id),
      metrics: {
        internalId: `mac_${guid(id)}`,
        prometheusQueryEndpoint: `https://${name}-ab12.eastus.prometheus.monitor.azure.com`,
      },
      defaultIngestionSettings: {
        dataCollectionEndpointResourceId: `${managed}/dataCollectionEndpoints/${name}`,
        dataCollectionRuleResourceId: `${managed}/dataCollectionRules/${name}`,
      },
    };
  },
  'microsoft.managedidentity/userassignedidentities': ({ id }) => ({
    tenantId: TENANT,
    principalId: guid(id, 'principal'),
    clientId: guid(id, 'client'),
  }),
  'microsoft.app/managedenvironments': (_, name) => ({
    defaultDomain: `${name}-ab12.eastus.azurecontainerapps.io`,
    staticIp: '10.0.0.4',
  }),
  'microsoft.app/containerapps': (_, name) => ({
    latestRevisionName: `${name}--1`,
    configuration: { ingress: { fqdn: `${name}.ab12.eastus.azurecontainerapps.io` } },
    outboundIpAddresses: ['198.51.100.4'],
  }),
  'microsoft.authorization/roleassignments': ({ id }) => ({
    scope: id.replace(/\/providers\/Microsoft\.Authorization\/roleAssignments\/[^/]+$/i, ''),
  }),
  'microsoft.cache/redisenterprise': (_, name) => ({ hostName: `${name}.eastus.redis.azure.net` }),
  'microsoft.cognitiveservices/accounts': (_, name) => ({
    endpoint: `https://${name}.openai.azure.com/`,
    endpoints: {},
  }),
  'microsoft.containerregistry/registries': (_, name) => ({ loginServer: `${name}.azurecr.io` }),
  'microsoft.keyvault/vaults': (_, name) => ({ vaultUri: `https://${name}.vault.azure.net/` }),
  'microsoft.storage/storageaccounts': (_, name) => ({
    primaryEndpoints: Object.fromEntries(
      ['blob', 'dfs', 'file', 'queue', 'table', 'web'].map((each) => [
        each,
        `https://${name}.${each}.core.windows.net/`,
      ]),
    ),
    primaryLocation: 'eastus',
    statusOfPrimary: 'available',
  }),
};

/** Resources that Azure makes together with another one, by the type of the other. They are in the group of that one or not. */
const MADE_ALONG: Readonly<Record<string, (resource: Resource) => readonly Resource[]>> = {
  // It stays when Application Insights is gone.
  'microsoft.insights/components': ({ id, location }) => {
    const name = `Failure Anomalies - ${nameOf(id)}`;
    const rule = id.replace(
      /\/providers\/.*/,
      `/providers/Microsoft.AlertsManagement/smartDetectorAlertRules/${name}`,
    );
    return [{ id: rule, type: typeOf(rule), location, properties: { state: 'Enabled', scope: [id] } }];
  },
  'microsoft.monitor/accounts': (resource) => {
    const { defaultIngestionSettings } = resource.properties as {
      defaultIngestionSettings: Record<string, string>;
    };
    const made = Object.values(defaultIngestionSettings);
    const groups = new Set(made.map((id) => id.replace(/\/providers\/.*/, '')));
    return [...groups, ...made].map((id) => ({
      id,
      type: typeOf(id),
      location: resource.location,
      properties: {},
    }));
  },
};

/** `Microsoft.X/a/b`, in lower case, of the last provider in an id. */
function typeOf(id: string): string {
  const [, last = ''] = /.*\/providers\/(.*)$/i.exec(id) ?? [];
  if (last === '') return 'microsoft.resources/resourcegroups';
  const [namespace = '', ...rest] = last.split('/');
  return [namespace, ...rest.filter((_, index) => index % 2 === 0)].join('/').toLowerCase();
}

const nameOf = (id: string): string => id.replace(/.*\//, '');

/** An id has a name for every type. */
function isItem(path: string): boolean {
  if (/\/currentBillingFeatures$/i.test(path)) return true;
  const [, last] = /.*\/providers\/(.*)$/i.exec(path) ?? [];
  return last === undefined ? /\/resourceGroups\/[^/]+$/i.test(path) : last.split('/').length % 2 === 1;
}

class ResourceManager {
  readonly resources = new Map<string, Resource>();
  private readonly roles = new Map<string, string>();

  answer(method: string, path: string, query: URLSearchParams, body: Json): readonly [number, unknown] {
    const key = path.toLowerCase();
    const roles = /\/providers\/Microsoft\.Authorization\/roleDefinitions(?:\/([^/]+))?$/i.exec(path);
    if (roles) return this.roleDefinitions(path, roles[1], query);
    if (method === 'POST') return this.action(key, body);
    if (key === `/subscriptions/${SUBSCRIPTION}`) return [200, subscription()];
    if (/^\/subscriptions\/[^/]+\/providers(?:\/[^/]+)?$/.test(key)) return [200, { value: [] }];
    if (/^\/subscriptions\/[^/]+\/locations$/.test(key)) return [200, { value: [] }];
    if (!isItem(path)) return [200, { value: this.list(key, query) }];
    switch (method) {
      case 'PUT':
        return this.put(path, body);
      case 'PATCH': {
        const before = this.resources.get(key);
        return before === undefined ? missing(path) : this.put(path, merged(before, body) as Json);
      }
      case 'DELETE':
        this.remove(key);
        return [typeOf(path) === 'microsoft.monitor/accounts' ? 204 : 200, {}];
      default: {
        const resource = this.resources.get(key) ?? DEFAULTS[typeOf(path)]?.(path);
        return resource === undefined ? missing(path) : [method === 'HEAD' ? 204 : 200, resource];
      }
    }
  }

  /** Whether there is a resource whose id, in lower case, matches. */
  has(id: RegExp): boolean {
    return [...this.resources.keys()].some((key) => id.test(key));
  }

  private put(path: string, body: Json): readonly [number, unknown] {
    const key = path.toLowerCase();
    const group = /^(\/subscriptions\/[^/]+\/resourcegroups\/[^/]+)\/providers\//.exec(key)?.[1];
    if (group !== undefined && !this.resources.has(group)) return missing(group);
    const before = this.resources.get(key);
    const resource = this.keep({ ...body, id: before?.id ?? path, type: typeOf(path) });
    if (before === undefined) for (const each of MADE_ALONG[resource.type]?.(resource) ?? []) this.keep(each);
    // Clients of roles insist on the one, many others on the other.
    return [resource.type === 'microsoft.authorization/roleassignments' ? 201 : 200, resource];
  }

  private keep(given: Resource): Resource {
    const name = nameOf(given.id);
    const decided = { ...DECIDED[given.type]?.(given, name), provisioningState: 'Succeeded' };
    const resource = { ...given, name, properties: merged(given.properties ?? {}, decided) };
    this.resources.set(given.id.toLowerCase(), resource);
    return resource;
  }

  private remove(key: string): void {
    const resource = this.resources.get(key);
    for (const { id } of (resource && MADE_ALONG[resource.type]?.(resource)) ?? [])
      if (!/smartDetectorAlertRules/.test(id)) this.remove(id.toLowerCase());
    for (const each of this.resources.keys())
      if (each === key || each.startsWith(`${key}/`)) this.resources.delete(each);
  }

  private list(key: string, query: URLSearchParams): Resource[] {
    const all = [...this.resources.values()];
    const within = (folder: string) => all.filter(({ id }) => id.toLowerCase().startsWith(`${folder}/`));
    const [, scope] = /^(.*)\/resources$/.exec(key) ?? [];
    if (scope === undefined) return within(key).filter(({ id }) => isItem(id));
    const filter = query.get('$filter') ?? '';
    const [, type] = /resourceType eq '([^']+)'/.exec(filter) ?? [];
    const [, name] = /\bname eq '([^']+)'/.exec(filter) ?? [];
    return within(scope).filter(
      (each) =>
        /\/providers\//i.test(each.id) &&
        (type === undefined || each.type === type.toLowerCase()) &&
        (name === undefined || nameOf(each.id) === name),
    );
  }

  /** By a name, which is then known by its id. */
  private roleDefinitions(
    path: string,
    id: string | undefined,
    query: URLSearchParams,
  ): readonly [number, unknown] {
    const [, asked] = /roleName eq '([^']+)'/.exec(query.get('$filter') ?? '') ?? [];
    if (asked !== undefined) this.roles.set(guid('role', asked), asked);
    const name = id ?? guid('role', asked ?? '');
    const roleName = this.roles.get(name);
    if (roleName === undefined) return missing(path);
    const [subscription = ''] = /^\/subscriptions\/[^/]+/.exec(path) ?? [];
    const definition = {
      id: `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${name}`,
      name,
      type: 'Microsoft.Authorization/roleDefinitions',
      properties: { roleName, type: 'BuiltInRole', assignableScopes: ['/'], permissions: [] },
    };
    return [200, id === undefined ? { value: [definition] } : definition];
  }

  private action(key: string, body: Json): readonly [number, unknown] {
    const [, of = '', verb = ''] = /^(.*)\/([^/]+)$/.exec(key) ?? [];
    if (verb === 'checknameavailability') return [200, { nameAvailable: true }];
    if (verb === 'register') return [200, { registrationState: 'Registered', ...body }];
    if (verb === 'purge') return [200, {}];
    const resource = this.resources.get(of);
    if (resource === undefined) return missing(of);
    if (verb === 'listkeys') return [200, keysOf(of)];
    if (verb === 'listsecrets') {
      const { configuration } = resource.properties as { configuration?: { secrets?: unknown } };
      return [200, { value: configuration?.secrets ?? [] }];
    }
    if (verb === 'sharedkeys')
      return [200, { primarySharedKey: hexOf(of, '1'), secondarySharedKey: hexOf(of, '2') }];
    return [404, { error: { code: 'NotFound', message: `the double has no action ${verb}` } }];
  }
}

/** The secrets of all vaults, as their own front doors show them. */
class Vaults {
  private readonly secrets = new Map<string, Json>();

  /** The value that was put last. */
  valueOf(host: string, name: string): unknown {
    return this.secrets.get(`${host}/${name}`)?.value;
  }

  answer(method: string, host: string, path: string, body: Json): readonly [number, unknown] {
    const [, kind = '', name = ''] = path.split('/');
    if (name === '') return [200, {}];
    const key = `${host}/${name}`;
    const before = this.secrets.get(key);
    if (method === 'PUT') {
      const id = `https://${host}/secrets/${name}/${hexOf(key)}`;
      this.secrets.set(key, { ...body, id, attributes: { enabled: true, recoveryLevel: 'Purgeable' } });
      return [200, this.secrets.get(key)];
    }
    if (kind !== 'secrets' || before === undefined)
      return [404, { error: { code: 'SecretNotFound', message: `${name} is not there` } }];
    if (method === 'DELETE') this.secrets.delete(key);
    return [200, before];
  }
}

/** Of the record that every zone has; to all other resources it says nothing. */
const SOA: Json = {
  ttl: 3600,
  soaRecord: {
    email: 'azureprivatedns-host.microsoft.com',
    host: 'azureprivatedns.net',
    serialNumber: 1,
    refreshTime: 3600,
    retryTime: 300,
    expireTime: 2419200,
    minimumTtl: 10,
  },
};

/** Resources that are there with another one, and never put. */
const DEFAULTS: Readonly<Record<string, (id: string) => Resource>> = Object.fromEntries(
  [
    'microsoft.network/privatednszones/soa',
    'microsoft.storage/storageaccounts/blobservices',
    'microsoft.storage/storageaccounts/fileservices',
    'microsoft.storage/storageaccounts/queueservices',
    'microsoft.storage/storageaccounts/managementpolicies',
    'microsoft.insights/components/currentbillingfeatures',
  ].map((type) => [type, (id: string) => ({ id, type, name: nameOf(id), properties: SOA })]),
);

const subscription = (): Json => ({
  id: `/subscriptions/${SUBSCRIPTION}`,
  subscriptionId: SUBSCRIPTION,
  tenantId: TENANT,
  displayName: 'a double',
  state: 'Enabled',
});

/** A key that Azure makes, by what it is the key of: in the forms in which one service or another lists it. */
export const keyOf = (id: string, index = 1): string =>
  Buffer.from(`${hexOf('key', id, String(index))}${hexOf(id)}`).toString('base64');

const keysOf = (id: string): Json => ({
  keys: [1, 2].map((index) => ({ keyName: `key${index}`, permissions: 'FULL', value: keyOf(id, index) })),
  key1: keyOf(id, 1),
  key2: keyOf(id, 2),
  primaryKey: keyOf(id, 1),
  secondaryKey: keyOf(id, 2),
});

const missing = (id: string): readonly [number, unknown] => [
  404,
  { error: { code: 'ResourceNotFound', message: `${id} is not there` } },
];

function merged(before: unknown, after: unknown): unknown {
  if (!isObject(before) || !isObject(after)) return after === undefined ? before : after;
  const names = [...Object.keys(before), ...Object.keys(after)];
  return Object.fromEntries(names.map((name) => [name, merged(before[name], after[name])]));
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A token that is signed by nobody, with what clients read in it. */
function token(host: string): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    aud: host,
    tid: TENANT,
    oid: CALLER,
    appid: APPLICATION,
    sub: CALLER,
    iat: now,
    nbf: now,
    exp: now + 3600,
  };
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.c2lnbmF0dXJl`;
}

function entra(path: string): readonly [number, unknown] {
  const authority = `https://login.microsoftonline.com/${TENANT}`;
  if (path.endsWith('/token'))
    return [
      200,
      { access_token: token('https://management.azure.com'), token_type: 'Bearer', expires_in: 3600 },
    ];
  if (path.endsWith('/discovery/instance'))
    return [
      200,
      {
        tenant_discovery_endpoint: `${authority}/v2.0/.well-known/openid-configuration`,
        metadata: [
          {
            preferred_network: 'login.microsoftonline.com',
            preferred_cache: 'login.windows.net',
            aliases: ['login.microsoftonline.com'],
          },
        ],
      },
    ];
  return [
    200,
    {
      issuer: `${authority}/v2.0`,
      token_endpoint: `${authority}/oauth2/v2.0/token`,
      authorization_endpoint: `${authority}/oauth2/v2.0/authorize`,
      jwks_uri: `${authority}/discovery/v2.0/keys`,
    },
  ];
}

/** A certificate for all names of Azure, which is its own authority. */
function certificateIn(folder: string): {
  readonly key: Buffer;
  readonly cert: Buffer;
  readonly file: string;
} {
  const file = (name: string) => join(folder, name);
  execFileSync(
    'openssl',
    [
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ],
      ...['-subj', '/CN=double of Azure', '-keyout', file('key.pem'), '-out', file('cert.pem')],
      ...['-addext', `subjectAltName=${HOSTS.map((name) => `DNS:${name}`).join(',')}`],
    ],
    { stdio: 'pipe' },
  );
  return { key: readFileSync(file('key.pem')), cert: readFileSync(file('cert.pem')), file: file('cert.pem') };
}

const isKnown = (host: string): boolean =>
  HOSTS.some((name) => (name.startsWith('*.') ? host.endsWith(name.slice(1)) : host === name));

/** Needs openssl. */
export async function startAzureDouble(): Promise<AzureDouble> {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-azure-'));
  const { key, cert, file } = certificateIn(folder);
  const manager = new ResourceManager();
  const vaults = new Vaults();
  const blobs = new Blobs((account, container) =>
    manager.has(new RegExp(`/storageaccounts/${account}/blobservices/default/containers/${container}$`)),
  );
  const calls: Call[] = [];
  const open = new Set<Socket>();

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const content = Buffer.concat(chunks);
    const text = content.toString('utf8');
    const { method = '', url: target = '', headers } = request;
    const host = headers.host?.replace(/:.*/, '') ?? '';
    const { pathname, searchParams } = new URL(target, `https://${host}`);
    const path = decodeURIComponent(pathname).replace(/\/$/, '');
    if (host.endsWith('.blob.core.windows.net')) {
      const [account = ''] = host.split('.');
      const answer = blobs.answer({ method, account, path, query: searchParams, headers, content });
      calls.push({ method, host, target, status: answer.status, body: text });
      response.writeHead(answer.status, answer.headers);
      response.end(method === 'HEAD' ? undefined : answer.content);
      return;
    }
    const json = headers['content-type']?.includes('json') && text !== '' ? (JSON.parse(text) as Json) : {};
    const [status, body] =
      host === 'login.microsoftonline.com'
        ? entra(path)
        : host === 'management.azure.com'
          ? manager.answer(method, path, searchParams, json)
          : host.endsWith('.vault.azure.net')
            ? vaults.answer(method, host, path, json)
            : [404, { error: { code: 'NotFound', message: `the double plays no ${host}` } }];
    calls.push({ method, host, target, status, body: text });
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
    response.end(status === 204 || method === 'HEAD' ? undefined : JSON.stringify(body));
  }

  const azure = createTlsServer({ key, cert }, (request, response) => void handle(request, response));
  azure.listen(0, '127.0.0.1');
  await once(azure, 'listening');
  const proxy = createServer((_, response) => response.writeHead(405).end());
  const keep = (socket: Socket) => {
    open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => open.delete(socket));
  };
  proxy.on('connection', keep);
  proxy.on('connect', (request: IncomingMessage, client: Socket, head: Buffer) => {
    const host = request.url?.replace(/:443$/, '') ?? '';
    if (!isKnown(host)) {
      calls.push({ method: 'CONNECT', host, target: '', status: 403, body: '' });
      client.end('HTTP/1.1 403 Forbidden\r\n\r\n');
      return;
    }
    const server = connect((azure.address() as AddressInfo).port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      server.write(head);
      client.pipe(server).pipe(client);
    });
    keep(server);
    client.once('close', () => server.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    calls,
    put: (id, properties = {}) => {
      const [group = ''] = /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+/.exec(id) ?? [];
      manager.answer('PUT', group, new URLSearchParams(), { location: 'eastus' });
      manager.answer('PUT', id, new URLSearchParams(), { location: 'eastus', properties });
    },
    resources: () => [...manager.resources.values()].map(({ id }) => id),
    properties: (id) => manager.resources.get(id.toLowerCase())?.properties as Json | undefined,
    blobs: () => blobs.texts(),
    secret: (vault, name) => vaults.valueOf(`${vault}.vault.azure.net`, name),
    environment: {
      HTTPS_PROXY: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
      NO_PROXY: '127.0.0.1',
      SSL_CERT_FILE: file,
      ARM_CLIENT_ID: APPLICATION,
      ARM_CLIENT_SECRET: 'secret-of-the-deployer',
      ARM_TENANT_ID: TENANT,
      ARM_SUBSCRIPTION_ID: SUBSCRIPTION,
      ARM_USE_CLI: 'false',
    },
    stop: async () => {
      for (const server of [proxy, azure]) {
        server.close();
        server.closeAllConnections();
      }
      for (const socket of open) socket.destroy();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
