/** Latencies in milliseconds. For an operation with specific fields, those replace `perRequestMs` and `perTokenMs`. */
export interface LatencyConfig {
  readonly perRequestMs?: number;
  /** For each token of a completion; in a stream, the gap between tokens. */
  readonly perTokenMs?: number;
  /** Standard deviation of a normal distribution; default 0: every answer takes the same time. */
  readonly stdDev?: number;
  /** Per request. */
  readonly open_ai_completions?: OperationLatency;
  /** Per token. */
  readonly open_ai_chat_completions?: OperationLatency;
  /** Per request. */
  readonly open_ai_embeddings?: OperationLatency;
  /** Per MiB of the upload. */
  readonly open_ai_translations?: OperationLatency;
}

/** The names are those of the Azure OpenAI API simulator, so that its clients can set them here. */
export interface OperationLatency {
  readonly mean?: number;
  readonly std_dev?: number;
}

export const OPERATION_LATENCIES = [
  'open_ai_completions',
  'open_ai_chat_completions',
  'open_ai_embeddings',
  'open_ai_translations',
] as const;

export interface LimitConfig {
  /** Tokens in `windowMs`. */
  readonly tpm: number;
  /** Default 60 000. */
  readonly windowMs?: number;
  /** Requests in `rpWindowMs`. Default 1 for each 1000 of `tpm`, rounded up. */
  readonly rp?: number;
  /** Default 10 000. */
  readonly rpWindowMs?: number;
}

export const PROFILES = ['simulator', 'azure-standard', 'azure-ptu'] as const;

export interface MockConfig {
  /** The style of limit headers and 429s. Default azure-standard. */
  readonly profile?: (typeof PROFILES)[number];
  /** The set of headers of successful answers; 2025 added some. Default 2025. */
  readonly successHeaders?: '2024' | '2025';
  readonly latency?: LatencyConfig;
  /** By deployment; `*` applies to each deployment that is not named. Null removes a limit. */
  readonly limits?: Readonly<Record<string, LimitConfig | null>>;
  /** Length of texts in tokens, if the request's limit allows it. Default 0: 16 without a limit, 256 with one. */
  readonly answerTokens?: number;
  /** Whether `requests` records requests. Default true. */
  readonly recordRequests?: boolean;
  /** The number of newest requests to keep. Default: all. */
  readonly keepRequests?: number;
  /** Whether `requests` records bodies. Default true. */
  readonly recordBodies?: boolean;
}

export type Config = Required<MockConfig>;

export const DEFAULT_CONFIG: Config = {
  profile: 'azure-standard',
  successHeaders: '2025',
  latency: {},
  limits: {},
  answerTokens: 0,
  recordRequests: true,
  keepRequests: Number.MAX_SAFE_INTEGER,
  recordBodies: true,
};

/** A patch can change single latencies and limits. */
export function patched(config: Config, patch: MockConfig): Config {
  const limits = Object.entries({ ...config.limits, ...patch.limits }).filter(([, limit]) => limit !== null);
  const latency = { ...config.latency, ...patch.latency };
  for (const name of OPERATION_LATENCIES) {
    const operation = patch.latency?.[name];
    if (operation) latency[name] = { ...config.latency[name], ...operation };
  }
  return { ...config, ...patch, latency, limits: Object.fromEntries(limits) };
}

export type LatencyKind = (typeof OPERATION_LATENCIES)[number] | undefined;

/** The latency before the headers, and for each token; a stream spreads the latter over its events. */
export function latencyOf(
  { latency }: Config,
  kind: LatencyKind,
  uploadBytes: number,
): { beforeMs: number; perTokenMs: number } {
  const own = kind === undefined ? undefined : latency[kind];
  if (own?.mean === undefined && own?.std_dev === undefined) {
    return {
      beforeMs: drawn(latency.perRequestMs ?? 0, latency.stdDev ?? 0),
      perTokenMs: kind === 'open_ai_embeddings' ? 0 : (latency.perTokenMs ?? 0),
    };
  }
  const value = drawn(own.mean ?? 0, own.std_dev ?? 0);
  if (kind === 'open_ai_chat_completions') return { beforeMs: 0, perTokenMs: value };
  const times = kind === 'open_ai_translations' ? uploadBytes / 2 ** 20 : 1;
  return { beforeMs: value * times, perTokenMs: 0 };
}

function drawn(mean: number, deviation: number): number {
  if (deviation === 0) return mean;
  const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Math.max(0, mean + deviation * normal);
}
