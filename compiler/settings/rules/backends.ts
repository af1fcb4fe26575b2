import { backendFields } from '../declarations/index.ts';
import {
  backendAuthMode,
  backendClientId,
  backendName,
  recordsClientId,
  usesTokenFile,
} from '../effective.ts';
import { backendVariable, firstWith, type Rule } from './rule.ts';

const atLeastOneBackend: Rule = ({ backends, hasVariable, report }) => {
  if (backends.length === 0)
    report('NO_BACKEND', 'AZURE_OPENAI_ENDPOINT_0', { unindexed: hasVariable('AZURE_OPENAI_ENDPOINT') });
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

const endpointsAreUsable: Rule = ({ backends, report }) => {
  for (const backend of backends) {
    if (!backend.ENDPOINT) continue;
    const variable = backendVariable('ENDPOINT', backend);
    const { insecure, dropped, origin } = backend.ENDPOINT;
    if (insecure) report('ENDPOINT_INSECURE', variable, {}, origin);
    if (dropped !== undefined) report('ENDPOINT_PATH_DROPPED', variable, { dropped, origin });
  }
};

const backendsHaveCredentials: Rule = (context) => {
  const { backends, given, report } = context;
  for (const backend of backends) {
    const key = backendVariable('KEY', backend);
    if (!given(backendVariable('ENDPOINT', backend))) continue;
    const mode = backendAuthMode(backend, context);
    if (mode === 'entra') {
      if (backend.KEY) report('KEY_UNUSED_WITH_ENTRA', key, { index: backend.index });
    } else if (mode === 'api-key') {
      for (const field of ['TOKEN_RESOURCE', 'MSI_CLIENT_ID'] as const) {
        const variable = backendVariable(field, backend);
        if (given(variable))
          report('SETTING_WITHOUT_EFFECT', variable, {
            needs: `${backendVariable('AUTH_MODE', backend)}=entra`,
          });
      }
      if (!given(key)) {
        report('REQUIRED_SETTING', key, {
          because: `backend ${backend.index} signs in with a key`,
          example: '<key of the resource>',
        });
      }
    } else if (![key, backendVariable('AUTH_MODE', backend), 'AZURE_OPENAI_AUTH_MODE'].some(given)) {
      report('BACKEND_WITHOUT_CREDENTIAL', key, { index: backend.index });
    }
  }
};

/** The token file alone says neither for whom nor where it is good. */
const workloadIdentityIsComplete: Rule = (context) => {
  const { backends, given, report } = context;
  const entra = backends.filter((each) => backendAuthMode(each, context) === 'entra');
  const { APIM_GATEWAY_LOGS_INGEST_URI: uri, APIM_GATEWAY_LOGS_MSI_ENDPOINT: endpoint } = context.values;
  const records = uri !== undefined && endpoint === undefined;
  if ((entra.length === 0 && !records) || !usesTokenFile(context)) return;
  const without = (needs: string) =>
    report('SETTING_WITHOUT_EFFECT', 'AZURE_FEDERATED_TOKEN_FILE', { needs });
  if (!given('AZURE_TENANT_ID')) without('AZURE_TENANT_ID');
  if (
    entra.some((each) => backendClientId(each, context) === undefined) ||
    (records && recordsClientId(context) === undefined)
  )
    without('AZURE_CLIENT_ID');
};

const backendNamesAreUnique: Rule = ({ backends, report }) => {
  const seen = new Map<string, string>();
  for (const backend of backends) {
    const name = backendName(backend);
    const variable = backendVariable('NAME', backend);
    const other = firstWith(seen, name.toLowerCase(), variable);
    if (other !== undefined) report('DUPLICATE_NAME', variable, { other, name });
  }
};

const backendsAreDifferentResources: Rule = (context) => {
  const { backends, report } = context;
  const seen = new Map<string, string>();
  for (const backend of backends) {
    if (!backend.ENDPOINT) continue;
    const variable = backendVariable('ENDPOINT', backend);
    const key = backendAuthMode(backend, context) === 'entra' ? undefined : backend.KEY;
    const identity = `${backend.ENDPOINT.origin} ${key?.reveal() ?? `entra ${backendClientId(backend, context) ?? ''}`}`;
    const other = firstWith(seen, identity, variable);
    if (other !== undefined) report('DUPLICATE_BACKEND', variable, { other });
  }
};

export const backendRules: readonly Rule[] = [
  atLeastOneBackend,
  backendFieldsNeedEndpoint,
  endpointsAreUsable,
  backendsHaveCredentials,
  workloadIdentityIsComplete,
  backendNamesAreUnique,
  backendsAreDifferentResources,
];
