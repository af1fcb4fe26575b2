/** What several settings come to together. */
import { type BackendValues, listSettings } from './declarations/index.ts';
import type { Settings } from './parse.ts';

const RETRY_PRESETS = { http_429: [408, 429], http_5xx: [500, 502, 503, 504, 529] } as const;

/** The name of a backend that was not given one: of its index, so that removing another backend renames nothing. */
export const backendName = (backend: BackendValues): string => backend.NAME ?? `backend-${backend.index}`;

/** How a backend signs in, or undefined where nothing says. */
export const backendAuthMode = (
  backend: BackendValues,
  settings: Settings,
): 'api-key' | 'entra' | undefined =>
  backend.AUTH_MODE ?? (backend.KEY ? 'api-key' : settings.values.AZURE_OPENAI_AUTH_MODE);

/** Whether any backend signs in with a token of the gateway's own identity. */
export const usesEntra = (settings: Settings): boolean =>
  settings.backends.some((each) => backendAuthMode(each, settings) === 'entra');

/** Whether the gateway asks for tokens of its own identity where its environment says. */
export const usesIdentity = (settings: Settings): boolean =>
  usesEntra(settings) || settings.values.APIM_GATEWAY_LOGS_INGEST_URI !== undefined;

/** The settings that were given and that the running gateway reads from its own process's environment. */
export const runTimeVariables = (settings: Settings): string[] =>
  usesIdentity(settings)
    ? listSettings()
        .filter(({ name, declaration }) => declaration.readAtRunTime && settings.sources.has(name))
        .map(({ name }) => name)
    : [];

/** The user-assigned identity where nothing more exact is set; its older names count after it. */
export const identityClientId = ({ values }: Settings): string | undefined =>
  values.AZURE_CLIENT_ID ?? values.IDENTITY_CLIENT_ID ?? values.MSI_CLIENT_ID;

/** Whether tokens come by workload identity, for its file: the platform has no token endpoint. */
export const usesTokenFile = ({ values }: Settings): boolean =>
  values.AZURE_FEDERATED_TOKEN_FILE !== undefined &&
  values.IDENTITY_ENDPOINT === undefined &&
  values.MSI_ENDPOINT === undefined;

/** Whose token is given to Azure Monitor. */
export const recordsClientId = (settings: Settings): string | undefined =>
  settings.values.APIM_GATEWAY_LOGS_MSI_CLIENT_ID ?? identityClientId(settings);

/** Where records are sent. */
export interface Ingestion {
  readonly uri: string;
  /** What the setting itself names; undefined where it ends before the stream. */
  readonly namedStream: string | undefined;
  /** What tokens are for. */
  readonly resource: string;
}

const STREAM_PATH = /^(.*\/dataCollectionRules\/[^/]+)(?:\/streams(?:\/([^/]+))?)?\/?$/i;
const INGESTION_VERSION = '2023-01-01';
/** Azure's sovereign clouds; all other names, private ones too, are taken to be of the public one. */
const SOVEREIGN_CLOUD = /\.monitor\.azure\.(us|cn)$/i;

/** Undefined where the URI is not that of a data collection rule. */
export function ingestion({ values }: Settings): Ingestion | undefined {
  const { APIM_GATEWAY_LOGS_INGEST_URI: uri, APIM_GATEWAY_LOGS_STREAM: stream } = values;
  if (uri === undefined) return undefined;
  const [address = '', query = ''] = uri.split('?');
  const [, rule, namedStream] = STREAM_PATH.exec(address) ?? [];
  if (rule === undefined) return undefined;
  const parameters = query.split('&').filter((each) => each !== '');
  if (!parameters.some((each) => /^api-version=./i.test(each)))
    parameters.push(`api-version=${INGESTION_VERSION}`);
  const [, cloud = 'com'] = SOVEREIGN_CLOUD.exec(new URL(uri).hostname) ?? [];
  return {
    uri: `${rule}/streams/${namedStream ?? stream}?${parameters.join('&')}`,
    namedStream,
    resource: `https://monitor.azure.${cloud.toLowerCase()}`,
  };
}

/** Whose token a backend is given that signs in with one. */
export const backendClientId = (backend: BackendValues, settings: Settings): string | undefined =>
  backend.MSI_CLIENT_ID ?? settings.values.AZURE_OPENAI_MSI_CLIENT_ID ?? identityClientId(settings);

/** The budget of the high lane; its older name counts where it is not set. */
export const highLaneLimit = ({ values, sources }: Settings): number =>
  sources.has('AI_RATE_LIMIT_HIGH_LIMIT')
    ? values.AI_RATE_LIMIT_HIGH_LIMIT
    : (values.AI_RATE_LIMIT_LIMIT ?? values.AI_RATE_LIMIT_HIGH_LIMIT);

/** The statuses on which the next backend is tried, ascending. */
export function retryStatuses({ values }: Settings): number[] {
  const strategies = values.AI_PROXY_FALLBACK_STRATEGY ?? ['http_429', 'http_5xx'];
  const presets = strategies.flatMap((each) =>
    each === 'instance_health_and_rate_limiting'
      ? [...RETRY_PRESETS.http_429, ...RETRY_PRESETS.http_5xx]
      : [...RETRY_PRESETS[each]],
  );
  return [...new Set(values.AI_PROXY_RETRY_STATUSES ?? presets)].sort((a, b) => a - b);
}
