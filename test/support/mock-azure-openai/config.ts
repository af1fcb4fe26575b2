/** Milliseconds. Where the parts of one operation are given, they take the place of `perRequestMs` and `perTokenMs` there. */
export interface LatencyConfig {
  readonly perRequestMs?: number;
  /** For each token of a completion; in streams the gap between them. */
  readonly perTokenMs?: number;
  /** Of a normal distribution around the above; 0, the default, makes every answer take the same. */
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

/** Named as the Azure OpenAI API simulator names them, so that its clients can set them here. */
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
  /** Whose headers tell of limits, and whose 429 says that one is exceeded. Default azure-standard. */
  readonly profile?: (typeof PROFILES)[number];
  /** Which of the success headers there are: 2025 added some. Default 2025. */
  readonly successHeaders?: '2024' | '2025';
  readonly latency?: LatencyConfig;
  /** By deployment; `*` is for each of those that are not named. Null takes a limit away. */
  readonly limits?: Readonly<Record<string, LimitConfig | null>>;
  /** Default true. Without it `requests` stays empty. */
  readonly recordRequests?: boolean;
  /** Only the newest so many. Default: all. */
  readonly keepRequests?: number;
  /** Default true. Without it the bodies in `requests` are empty. */
  readonly recordBodies?: boolean;
}

export type Config = Required<MockConfig>;

export const DEFAULT_CONFIG: Config = {
  profile: 'azure-standard',
  successHeaders: '2025',
  latency: {},
  limits: {},
  recordRequests: true,
  keepRequests: Number.MAX_SAFE_INTEGER,
  recordBodies: true,
};

/** Latencies and limits are patched one by one. */
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

/** How long an answer takes before its headers, and for each of its tokens; the latter is spread over a stream. */
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
