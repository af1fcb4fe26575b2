/** The gateway in domain terms: no YAML, no variables, no plugin names. Durations are in milliseconds. */
import type { Algorithm, DeploymentName, ModelPrice } from '../settings/types.ts';
import type { ModelSecret } from './secret.ts';

export interface GatewayModel {
  /** In the order of their index. */
  readonly backends: readonly Backend[];
  /** The named pools in addition to the pool of the plain paths, in the order of their index. */
  readonly pools: readonly Pool[];
  readonly clients: readonly Client[];
  readonly authentication: Authentication;
  readonly balancing: Balancing;
  readonly failover: Failover;
  /** The endpoint that sets the order of backends; undefined: nothing follows such an order. */
  readonly preferred?: Preferred;
  readonly healthChecks?: HealthChecks;
  readonly affinity: Affinity;
  readonly limits: Limits;
  /** Undefined: answers are not cached. */
  readonly cache?: Cache;
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
  /** The deployments that the backend serves; undefined: all, with the names that clients use. */
  readonly deployments?: readonly DeploymentName[];
  readonly region?: string;
}

/** A group of backends with path prefix and rules of its own. */
export interface Pool {
  readonly name: string;
  /** The prefix of its paths, without a slash at the end. */
  readonly path: string;
  /** With the priorities and weights that they have in this pool. */
  readonly backends: readonly Backend[];
  /** The names of the clients that may use it; undefined: all. */
  readonly clients?: readonly string[];
  readonly balancing: Balancing;
  readonly failover: Failover;
  readonly budget?: TokenBudget;
}

/** The order of backends that a request sets. */
export interface Preferred {
  /** The value that the request must have, in addition to the key of a client. */
  readonly secret?: ModelSecret;
  /** Where replicas share the order; undefined: each replica has its own. */
  readonly redis?: Redis & { readonly timeout: number };
}

export type BackendCredential =
  | { readonly kind: 'api-key'; readonly key: ModelSecret }
  | { readonly kind: 'entra'; readonly resource: string; readonly clientId?: string };

export type Lane = 'high' | 'low';

export interface Client {
  readonly name: string;
  readonly key: ModelSecret;
  readonly secondaryKey?: ModelSecret;
  /** The highest lane that the client may use. */
  readonly lane: Lane;
  readonly models?: readonly string[];
  readonly tokensPerMinute?: number;
  readonly tokensPerDay?: number;
  readonly requestsPerMinute?: number;
}

export interface Authentication {
  readonly required: boolean;
  /** The issuer whose tokens are accepted in addition to keys. */
  readonly oidc?: {
    readonly discoveryUrl: string;
    /** Accepted audiences of tokens. */
    readonly audiences: readonly string[];
  };
}

export interface Balancing {
  readonly algorithm: Algorithm;
  readonly hash?: {
    readonly on: 'consumer' | 'header' | 'cookie' | 'vars' | 'vars_combinations';
    readonly key?: string;
  };
  /** The value by which soft affinity chooses a backend. */
  readonly affinity?: { readonly on: 'prompt_cache_key' | 'client' | 'header'; readonly header?: string };
}

export interface Failover {
  readonly retryStatuses: readonly number[];
  /** Undefined: one attempt at each backend. */
  readonly maxAttempts?: number;
  readonly deadline?: number;
  /** `fixed`: the length of cooldowns whatever delay an answer gives. */
  readonly cooldown: { readonly default: number; readonly max: number; readonly fixed?: number };
  readonly timeouts: {
    readonly connect: number;
    readonly send: number;
    readonly read: number;
    /** Undefined: `read`. */
    readonly firstByte?: number;
  };
  /** Longest lifetime of a kept-alive connection. */
  readonly keepaliveMaxAge: number;
  readonly streamHold: number;
  readonly streamHeartbeat?: number;
}

export interface HealthChecks {
  /** Undefined: probes use the scheme of the backend's endpoint. */
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
  readonly password?: ModelSecret;
  readonly database: number;
  readonly tls: boolean;
}

export interface Affinity {
  /** In seconds. */
  readonly ttl: number;
  readonly redis?: Redis & { readonly timeout: number };
}

export interface Cache {
  readonly ttl: number;
  readonly scope: 'client' | 'gateway';
  readonly operations: readonly string[];
  /** In bytes. */
  readonly maxEntry: number;
  /** Memory for stored and arriving answers of a replica, in bytes. */
  readonly memory: number;
  readonly countsTokens: boolean;
  /** Undefined: each replica stores answers in its memory. */
  readonly redis?: Redis & { readonly timeout: number };
  readonly encryption?: { readonly key: ModelSecret; readonly previous?: ModelSecret };
}

export interface Limits {
  /** Limits of the two lanes. */
  readonly lanes?: {
    readonly high: number;
    readonly low: number;
    /** In seconds. */
    readonly window: number;
    readonly scope: 'gateway' | 'client';
  };
  /** The budget for each deployment that both lanes share. */
  readonly shared?: TokenBudget;
  /** The unit that lanes and token budgets count. */
  readonly strategy: 'total_tokens' | 'prompt_tokens' | 'completion_tokens' | 'req';
  readonly rejection: { readonly status: number; readonly message: string };
  readonly requestRate?: { readonly perSecond: number; readonly burst: number };
  /** `window` is in seconds. */
  readonly requestQuota?: { readonly count: number; readonly window: number };
  /** Whether rate and quota count by client or by IP address. */
  readonly requestKey: 'client' | 'ip';
  /** Undefined: each replica counts separately. */
  readonly redis?: Redis;
}

/** A budget of tokens over a sliding minute, for each deployment. */
export interface TokenBudget {
  /** Undefined: the backends count, and report what they have left. */
  readonly tokensPerMinute?: number;
  /** Requests of the low lane are rejected while less than this is left. */
  readonly highReserve: number;
}

export interface Cors {
  readonly origins: readonly string[];
  readonly methods: readonly string[];
  readonly requestHeaders: readonly string[];
  readonly exposedHeaders?: readonly string[];
  /** In seconds; -1: browsers do not cache. */
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
  /** Path of the JSON access log that the collector reads. */
  readonly accessLogPath?: string;
  readonly metrics: {
    readonly path: string;
    readonly target: string;
    readonly scrapeInterval: number;
    readonly scrapeTimeout: number;
    readonly prices: readonly ModelPrice[];
    /** Shared memory in bytes. */
    readonly memory: number;
  };
  readonly collector: {
    readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
    readonly batch: { readonly timeout: number; readonly size: number };
    /** In MiB; undefined: a percentage of the container's memory. */
    readonly memory: { readonly limit?: number; readonly spike?: number };
    readonly debug: boolean;
    readonly applicationInsights?: ModelSecret;
    readonly remoteWrite?: RemoteWrite;
  };
  readonly apimRecords?: ApimRecords;
}

export interface RemoteWrite {
  readonly endpoint: string;
  /** Undefined: the default identity of the collector's process. */
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
  /** Including the stream and the API version. */
  readonly ingestUri: string;
  readonly includeRequestBody: boolean;
  readonly batch: { readonly maxSize: number; readonly flushInterval: number; readonly maxRetry: number };
  readonly timeout: number;
  readonly gatewayId: string;
  readonly productId?: string;
  readonly identity: {
    /** The audience of its tokens. */
    readonly resource: string;
    readonly clientId?: string;
    readonly endpoint?: string;
    readonly secret?: ModelSecret;
  };
}

export interface Server {
  readonly logLevel: string;
  /** A number, or `auto`. */
  readonly workers: string;
  /** In bytes. */
  readonly maxBodySize: number;
  /** Memory for request bodies over all workers, in bytes. */
  readonly bodyMemory: number;
  /** Longest body that is kept in memory, in bytes; longer bodies go to a file. */
  readonly bodyBuffer: number;
  /** Longest time for which a client may stop reading an answer. */
  readonly clientSendTimeout: number;
  /** Whether an untested version of APISIX is allowed. */
  readonly allowUntestedApisix: boolean;
  readonly trustedProxies: readonly string[];
  /** Undefined: the gateway trusts the CAs of the system. */
  readonly trustedCaFile?: string;
  readonly backendHeader: boolean;
  readonly e2eTestMode: boolean;
  /** The form of secrets in the rendered files. */
  readonly secrets: 'reference' | 'inline';
}
