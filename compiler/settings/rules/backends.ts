import { edits } from '../../diagnostics/nearest.ts';
import { type BackendValues, backendFields } from '../declarations/index.ts';
import {
  AUDIENCES,
  AUTHORITIES,
  backendAuthMode,
  backendClientId,
  backendName,
  cloudOf,
  cloudOfAuthority,
  tokenResource,
  usesTokenFile,
} from '../effective.ts';
import { ENDPOINT_NAMES } from '../synonyms.ts';
import { backendVariable, firstWith, type Rule } from './rule.ts';

const atLeastOneBackend: Rule = ({ backends, hasVariable, report }) => {
  if (backends.length === 0)
    report('NO_BACKEND', 'AZURE_OPENAI_ENDPOINT_0', { instead: ENDPOINT_NAMES.find(hasVariable) });
  else if (backends.every((each) => each.WEIGHT === 0)) {
    report('ALL_BACKENDS_DRAINED', `AZURE_OPENAI_WEIGHT_${backends[0]?.index}`, {});
  }
};

const BACKEND_FIELDS = Object.keys(backendFields) as (keyof typeof backendFields)[];

const backendFieldsNeedEndpoint: Rule = ({ backends, given, report }) => {
  for (const backend of backends) {
    const endpoint = backendVariable('ENDPOINT', backend);
    if (given(endpoint)) continue;
    for (const field of BACKEND_FIELDS) {
      const variable = backendVariable(field, backend);
      if (given(variable)) report('BACKEND_WITHOUT_ENDPOINT', variable, { endpoint });
    }
  }
};

/** Domains of Azure resources. */
const AZURE_HOSTS = [
  'openai.azure.com',
  'cognitiveservices.azure.com',
  'services.ai.azure.com',
  'openai.azure.us',
  'cognitiveservices.azure.us',
  'openai.azure.cn',
  'cognitiveservices.azure.cn',
];

/** The host of an Azure resource with nearly the same spelling; undefined if the host may be right. */
function azureHostLike(host: string): string | undefined {
  const [, resource = '', ending = ''] = /^([^.]+)\.(.+)$/.exec(host) ?? [];
  if (ending === '' || AZURE_HOSTS.includes(ending)) return undefined;
  // The end of the host is missing, or the dot after the resource.
  const cutOff = AZURE_HOSTS.find((each) => each.startsWith(`${ending}.`) && /\bazure$/.test(ending));
  const glued = AZURE_HOSTS.find(
    (each) => host.endsWith(each) && /[a-z0-9]$/.test(host.slice(0, -each.length)),
  );
  if (glued !== undefined) return `${host.slice(0, -glued.length)}.${glued}`;
  const nearest = cutOff ?? AZURE_HOSTS.find((each) => edits(ending, each) <= 2);
  return nearest && `${resource}.${nearest}`;
}

/** Identifies an Azure resource, which has several hosts, by its name and cloud; other endpoints by their origin. */
function resourceOf(origin: string): string {
  const { protocol, hostname, port } = new URL(origin);
  const ending = AZURE_HOSTS.find((each) => hostname.endsWith(`.${each}`));
  if (ending === undefined || protocol !== 'https:' || port !== '') return origin;
  return `${hostname.slice(0, -ending.length)}${ending.slice(ending.lastIndexOf('.'))}`;
}

const LOOPBACK = /^http:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?=:|$)/i;

const endpointsAreUsable: Rule = ({ backends, given, report }) => {
  for (const backend of backends) {
    if (!backend.ENDPOINT) continue;
    const variable = backendVariable('ENDPOINT', backend);
    const { insecure, dropped, deployment, origin } = backend.ENDPOINT;
    const meant = azureHostLike(new URL(origin).hostname);
    if (meant !== undefined) report('ENDPOINT_HOST', variable, { meant }, origin);
    // Loopback traffic cannot be read by others.
    if (insecure && !LOOPBACK.test(origin)) report('ENDPOINT_INSECURE', variable, {}, origin);
    if (dropped === undefined) continue;
    const deployments = backendVariable('DEPLOYMENTS', backend);
    const limit = deployment && !given(deployments) ? `${deployments}=${deployment}` : undefined;
    report('ENDPOINT_PATH_DROPPED', variable, { dropped, origin, limit });
  }
};

const backendsHaveCredentials: Rule = (context) => {
  const { backends, given, report } = context;
  for (const backend of backends) {
    const key = backendVariable('KEY', backend);
    if (!given(backendVariable('ENDPOINT', backend))) continue;
    const mode = backendAuthMode(context, backend).value;
    if (mode === 'entra') {
      if (backend.KEY) report('KEY_UNUSED_WITH_ENTRA', key, { index: backend.index });
    } else if (mode === 'api-key') {
      if (!given(key)) {
        report('REQUIRED_SETTING', key, {
          because: `backend ${backend.index} authenticates with a key`,
          example: '<key of the resource>',
        });
      }
    } else if (![key, backendVariable('AUTH_MODE', backend), 'AZURE_OPENAI_AUTH_MODE'].some(given)) {
      report('BACKEND_WITHOUT_CREDENTIAL', key, { index: backend.index });
    }
  }
};

const backendNamesAreUnique: Rule = (context) => {
  const { backends, report } = context;
  const seen = new Map<string, string>();
  for (const backend of backends) {
    const name = backendName(context, backend).value;
    const variable = backendVariable('NAME', backend);
    const other = firstWith(seen, name.toLowerCase(), variable);
    if (other !== undefined) report('DUPLICATE_NAME', variable, { other, name });
  }
};

const backendsAreDifferentResources: Rule = (context) => {
  const { backends, report } = context;
  const seen = new Map<string, string>();
  const byResource = new Map<string, BackendValues[]>();
  for (const backend of backends) {
    if (!backend.ENDPOINT) continue;
    const variable = backendVariable('ENDPOINT', backend);
    const resource = resourceOf(backend.ENDPOINT.origin);
    const earlier = byResource.get(resource) ?? [];
    byResource.set(resource, earlier);
    const key = backendAuthMode(context, backend).value === 'entra' ? undefined : backend.KEY;
    const identity = `${resource} ${key?.reveal() ?? `entra ${backendClientId(context, backend).value ?? ''}`}`;
    const other = firstWith(seen, identity, variable);
    if (other !== undefined) report('DUPLICATE_BACKEND', variable, { other });
    else if (cloudOf(backend.ENDPOINT.origin) !== undefined) {
      const same = earlier.find((before) => shareDeployments(before, backend));
      if (same) report('SAME_RESOURCE', variable, { other: backendVariable('ENDPOINT', same) });
    }
    earlier.push(backend);
  }
};

/**
 * Whether two backends of one resource use the same capacity. Both keys of an Azure resource, or a key and a token, share it,
 * but the resource may be listed twice with different deployments. Servers other than Azure may choose the tenant by key.
 */
function shareDeployments(a: BackendValues, b: BackendValues): boolean {
  if (a.DEPLOYMENTS === undefined || b.DEPLOYMENTS === undefined) return true;
  const names = new Set(a.DEPLOYMENTS.map(({ name }) => name.toLowerCase()));
  return b.DEPLOYMENTS.some(({ name }) => names.has(name.toLowerCase()));
}

/** A token for one cloud is not valid in another. */
const tokensAreOfTheCloud: Rule = (context) => {
  const { backends, values, given, report } = context;
  const authority = usesTokenFile(context) ? values.AZURE_AUTHORITY_HOST : undefined;
  const authorityCloud = authority === undefined ? undefined : cloudOfAuthority(authority);
  const reported = new Set<string>();
  const reportOnce = (variable: string, endpoint: string, example: string) => {
    if (!reported.has(variable)) report('OTHER_CLOUD', variable, { endpoint, example });
    reported.add(variable);
  };
  for (const backend of backends) {
    if (!backend.ENDPOINT || backendAuthMode(context, backend).value !== 'entra') continue;
    const cloud = cloudOf(backend.ENDPOINT.origin);
    if (cloud === undefined) continue;
    const endpoint = backendVariable('ENDPOINT', backend);
    const named = [backendVariable('TOKEN_RESOURCE', backend), 'AZURE_OPENAI_TOKEN_RESOURCE'].find(given);
    const audience = cloudOf(tokenResource(context, backend).value);
    if (named !== undefined && audience !== undefined && audience !== cloud)
      reportOnce(named, endpoint, AUDIENCES[cloud]);
    if (authorityCloud !== undefined && authorityCloud !== cloud)
      reportOnce('AZURE_AUTHORITY_HOST', endpoint, AUTHORITIES[cloud]);
  }
};

export const backendRules: readonly Rule[] = [
  atLeastOneBackend,
  backendFieldsNeedEndpoint,
  endpointsAreUsable,
  backendsHaveCredentials,
  backendNamesAreUnique,
  backendsAreDifferentResources,
  tokensAreOfTheCloud,
];
