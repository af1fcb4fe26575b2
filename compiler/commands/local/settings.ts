/** Adapts the settings to a gateway in a local container. Pure. */
import { type Diagnostic, diagnostic } from '../../diagnostics/diagnostic.ts';
import { keyOf, MOCK_CLIENT, nameOf } from '../../mock/start.ts';
import { writesInline } from '../../settings/parse.ts';
import type { RawSettings, RawValue } from '../../settings/sources.ts';
import { HOST } from './docker.ts';

/**
 * Passes all secrets through the environment of APISIX: secrets from files become variables, and rendered files contain
 * only references, whatever GATEWAY_SECRETS is.
 */
export function withSecretsAsVariables(raw: RawSettings): RawSettings {
  const variables = new Map(raw.variables);
  const secretFiles = new Map(raw.secretFiles);
  for (const [name, { value }] of raw.secretFiles) {
    const file = variables.get(`${name}_FILE`);
    // If both are set, the compiler reports the error.
    if (!file || variables.has(name)) continue;
    variables.set(name, { value, source: file.source });
    variables.delete(`${name}_FILE`);
    secretFiles.delete(name);
  }
  const secrets = variables.get('GATEWAY_SECRETS');
  if (secrets && writesInline(raw)) variables.set('GATEWAY_SECRETS', { ...secrets, value: 'reference' });
  return { ...raw, variables, secretFiles };
}

export interface MockedBackend {
  readonly index: number;
  readonly name: string;
  readonly key: string;
}

const ENDPOINT = /^AZURE_OPENAI_ENDPOINT_(\d{1,4})$/;

/** The mocks to start: one for each backend in the settings, or two if there are none. */
export function backendsToMock({ variables }: RawSettings): MockedBackend[] {
  const given = [...variables]
    .filter(([, { value }]) => value.trim() !== '')
    .map(([name]) => ENDPOINT.exec(name)?.[1])
    .filter((index) => index !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
  const named = (index: number, otherwise: string) =>
    variables.get(`AZURE_OPENAI_NAME_${index}`)?.value.trim() || otherwise;
  const mocked = (index: number, name: string) => ({ index, name, key: keyOf(index) });
  return given.length > 0
    ? given.map((index) => mocked(index, named(index, `backend-${index}`)))
    : [0, 1].map((index) => mocked(index, named(index, nameOf(index))));
}

/**
 * Replaces all backends by mocks, and adds what a gateway needs in addition to backends (a client). Without backends in
 * the settings, the first mock has priority, so that a failover can be seen.
 */
export function withMocks(
  raw: RawSettings,
  mocks: readonly MockedBackend[],
  ports: readonly number[],
): RawSettings {
  const variables = new Map(raw.variables);
  const secretFiles = new Map(raw.secretFiles);
  const had = [...variables.keys()].some((name) => ENDPOINT.test(name));
  const set = (name: string, value: string) =>
    variables.set(name, { value, source: { kind: 'environment' } } satisfies RawValue);
  const setDefault = (name: string, value: string) => {
    if (!variables.get(name)?.value.trim()) set(name, value);
  };
  for (const [position, { index, name, key }] of mocks.entries()) {
    set(`AZURE_OPENAI_ENDPOINT_${index}`, `http://${HOST}:${ports[position]}`);
    set(`AZURE_OPENAI_KEY_${index}`, key);
    set(`AZURE_OPENAI_AUTH_MODE_${index}`, 'api-key');
    for (const unused of [`AZURE_OPENAI_KEY_${index}_FILE`, `AZURE_OPENAI_MSI_CLIENT_ID_${index}`])
      variables.delete(unused);
    secretFiles.delete(`AZURE_OPENAI_KEY_${index}`);
    setDefault(`AZURE_OPENAI_NAME_${index}`, name);
    if (!had) setDefault(`AZURE_OPENAI_PRIORITY_${index}`, index === 0 ? '10' : '5');
  }
  if (![...variables.keys()].some((name) => /^GATEWAY_CLIENT_(?:NAME|KEY)(?:_\d+)?(?:_FILE)?$/.test(name))) {
    set('GATEWAY_CLIENT_NAME_0', MOCK_CLIENT.name);
    set('GATEWAY_CLIENT_KEY_0', MOCK_CLIENT.key);
    setDefault('GATEWAY_REQUIRE_AUTH', 'true');
  }
  setDefault('GATEWAY_BACKEND_HEADER', 'true');
  return { ...raw, variables, secretFiles };
}

/** Diagnostics that do not apply to mocks: mocks are called without TLS, and their keys may come from examples. */
export const isAboutMocks = ({ code, setting }: Diagnostic): boolean =>
  code === 'PLACEHOLDER' || (code === 'ENDPOINT_INSECURE' && ENDPOINT.test(setting));

/** Settings with an address that APISIX itself calls. */
export const CALLED_BY_APISIX = [
  'OTEL_COLLECTOR_ENDPOINT',
  'AI_RATE_LIMIT_REDIS_HOST',
  'RESPONSES_AFFINITY_REDIS_HOST',
  'CACHE_REDIS_HOST',
  'OIDC_DISCOVERY_URL',
  'IDENTITY_ENDPOINT',
  'MSI_ENDPOINT',
  'AZURE_AUTHORITY_HOST',
  'AZURE_POD_IDENTITY_AUTHORITY_HOST',
] as const;

const ON_LOOPBACK =
  /^((?:[a-z]+:\/\/)?)(?:localhost|127(?:\.\d{1,3}){3}|0\.0\.0\.0|\[::1?\]|::1?)(?=[:/?]|$)/i;

/** Whether an address, with or without a scheme, is this machine for this machine only. */
export const isOnLoopback = (address: string): boolean => ON_LOOPBACK.test(address);

/** Warns about loopback addresses, which inside the container mean the container. */
export function loopbackWarnings({ variables }: RawSettings): Diagnostic[] {
  const called: readonly string[] = CALLED_BY_APISIX;
  return [...variables].flatMap(([name, { value, source }]) => {
    const given = value.trim();
    if (!(ENDPOINT.test(name) || called.includes(name)) || !isOnLoopback(given)) return [];
    const instead = given.replace(ON_LOOPBACK, `$1${HOST}`);
    return [diagnostic('LOCALHOST_IN_CONTAINER', { setting: name, source, received: given }, { instead })];
  });
}
