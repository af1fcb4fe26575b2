/** What the gateway is, in the field's words: no YAML, no variables, no plugin names. Durations in milliseconds. */
import type { Secret } from '../settings/secret.ts';
import type { DeploymentName, ModelPrice } from '../settings/types.ts';

export interface GatewayModel {
  /** In the order of their index. */
  readonly backends: readonly Backend[];
  readonly clients: readonly Client[];
  readonly authentication: Authentication;
  readonly balancing: Balancing;
  readonly failover: Failover;
  readonly healthChecks?: HealthChecks;
  readonly affinity: Affinity;
  readonly limits: Limits;
  readonly cors?: Cors;
  readonly ipRestriction?: { readonly kind: 'allow' | 'deny'; readonly ranges: readonly string[] };
  readonly hardenResponses: boolean;
  readonly telemetry: Telemetry;
  readonly server: Server;
}

export interface Backend {
  readonly name: string;
  /** Scheme, host and port. */
  readonly origin: string;
  readonly priority: number;
  readonly weight: number;
  readonly credential: BackendCredential;
  /** What it serves; undefined: everything under the client's name. */
  readonly deployments?: readonly DeploymentName[];
  readonly region?: string;
}

export type BackendCredential =
  | { readonly kind: 'api-key'; readonly key: Secret }
  | { readonly kind: 'entra'; readonly resource: string; readonly clientId?: string };

export type Lane = 'high' | 'low';

export interface Client {
  readonly name: string;
  readonly key: Secret;
  readonly secondaryKey?: Secret;
  /** The highest lane it may use. */
  readonly lane: Lane;
  readonly models?: readonly string[];
  readonly tokensPerMinute?: number;
  readonly tokensPerDay?: number;
  readonly requestsPerMinute?: number;
}

export interface Authentication {
  readonly required: boolean;
  /** Whose bearer tokens are accepted beside keys. */
  readonly oidc?: {
    readonly discoveryUrl: string;
    /** For one of them a token must be. */
    readonly audiences: readonly string[];
  };
}

export interface Balancing {
  readonly algorithm: 'roundrobin' | 'chash' | 'latency';
  readonly hash?: {
    readonly on: 'consumer' | 'header' | 'cookie' | 'vars' | 'vars_combinations';
    readonly key?: string;
  };
}

export interface Failover {
  readonly retryStatuses: readonly number[];
  /** Undefined: every backend once. */
  readonly maxAttempts?: number;
  readonly deadline?: number;
  readonly cooldown: { readonly default: number; readonly max: number };
  readonly timeouts: { readonly connect: number; readonly send: number; readonly read: number };
  readonly streamHold: number;
}

export interface HealthChecks {
  /** Undefined: the endpoint's. */
  readonly scheme?: 'http' | 'https';
  readonly path: string;
  readonly timeout: number;
  readonly verifyCertificate: boolean;
  readonly healthyInterval: number;
  readonly unhealthyInterval: number;
}

export interface Redis {
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: Secret;
  readonly database: number;
  readonly tls: boolean;
}

export interface Affinity {
  /** Seconds. */
  readonly ttl: number;
  readonly redis?: Redis & { readonly timeout: number };
}

export interface Limits {
  /** Token budgets of the two lanes. */
  readonly lanes?: {
    readonly high: number;
    readonly low: number;
    /** Seconds. */
    readonly window: number;
    readonly scope: 'gateway' | 'client';
  };
  /** What lanes count; budgets of clients count it too. */
  readonly strategy: 'total_tokens' | 'prompt_tokens' | 'completion_tokens' | 'req';
  readonly rejection: { readonly status: number; readonly message: string };
  readonly requestRate?: { readonly perSecond: number; readonly burst: number };
  /** Window in seconds. */
  readonly requestQuota?: { readonly count: number; readonly window: number };
  /** Whom the last two count. */
  readonly requestKey: 'client' | 'ip';
  /** Undefined: each replica counts for itself. */
  readonly redis?: Redis;
}

export interface Cors {
  readonly origins: readonly string[];
  readonly methods: readonly string[];
  readonly requestHeaders: readonly string[];
  readonly exposedHeaders?: readonly string[];
  /** Seconds; -1: not remembered. */
  readonly maxAge: number;
  readonly credentials: boolean;
}

export interface Telemetry {
  readonly mode: 'prod' | 'test' | 'dev';
  readonly serviceName: string;
  readonly resource: {
    readonly version: string;
    readonly environment: string;
    readonly cloudPlatform: string;
  };
  readonly clusterName: string;
  readonly logSummaries: boolean;
  readonly traces?: { readonly collector: string; readonly sampleRate: number };
  /** JSON access log that the collector tails. */
  readonly accessLogPath?: string;
  readonly metrics: {
    readonly path: string;
    readonly target: string;
    readonly scrapeInterval: number;
    readonly scrapeTimeout: number;
    readonly prices: readonly ModelPrice[];
    /** Shared memory, in bytes. */
    readonly memory: number;
  };
  readonly collector: {
    readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
    readonly batch: { readonly timeout: number; readonly size: number };
    /** In MiB; undefined: as much of its container's as the collector should take. */
    readonly memory: { readonly limit?: number; readonly spike?: number };
    readonly debug: boolean;
    readonly applicationInsights?: Secret;
    readonly remoteWrite?: RemoteWrite;
  };
  readonly apimRecords?: ApimRecords;
}

export interface RemoteWrite {
  readonly endpoint: string;
  /** Undefined: the identity that the collector's own process finds. */
  readonly identityClientId?: string;
  readonly orgId: string;
  readonly timeout: number;
  readonly queue: { readonly enabled: boolean; readonly size: number; readonly consumers: number };
  readonly retry: {
    readonly enabled: boolean;
    readonly initial: number;
    readonly max: number;
    readonly maxElapsed: number;
  };
}

export interface ApimRecords {
  /** With the stream and the version of the API. */
  readonly ingestUri: string;
  readonly includeRequestBody: boolean;
  readonly batch: { readonly maxSize: number; readonly flushInterval: number; readonly maxRetry: number };
  readonly timeout: number;
  readonly gatewayId: string;
  readonly productId?: string;
  readonly identity: {
    /** What its tokens are for. */
    readonly resource: string;
    readonly clientId?: string;
    readonly endpoint?: string;
    readonly secret?: Secret;
  };
}

export interface Server {
  readonly logLevel: string;
  /** A number, or `auto`. */
  readonly workers: string;
  /** Bytes. */
  readonly maxBodySize: number;
  /** Bytes that request bodies may take over all workers. */
  readonly bodyMemory: number;
  /** Bytes of the longest body that is kept in memory; a longer one goes to a file. */
  readonly bodyBuffer: number;
  readonly trustedProxies: readonly string[];
  /** Undefined: those of the system. */
  readonly trustedCaFile?: string;
  readonly backendHeader: boolean;
  readonly e2eTestMode: boolean;
  readonly secrets: 'reference' | 'inline';
}
