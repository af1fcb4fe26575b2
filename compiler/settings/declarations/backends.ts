import { type Condition, setting } from '../declaration.ts';
import {
  backendAuthMode,
  backendClientId,
  backendName,
  backendsClientId,
  tokenResource,
  usesEntra,
} from '../effective.ts';
import { apiKey, deployment, endpoint, integer, list, oneOf, text, url } from '../types.ts';

const section = 'Backends';
const INSTANCE = 'apisix.yaml: services[].plugins.ai-proxy-multi.instances[]';
const BACKEND = 'apisix.yaml: services[].plugins.azure-openai-proxy.backends[]';

export const AUTH_MODES = ['api-key', 'entra'] as const;
const AUTH_MODE_ALIASES = {
  apikey: 'api-key',
  aad: 'entra',
  'entra-id': 'entra',
  entra_id: 'entra',
} as const;
export const authMode = () => oneOf(AUTH_MODES, AUTH_MODE_ALIASES);

/** A missing endpoint has its own diagnostic, so it does not count as a missing condition. */
const ITS_ENTRA: Condition = {
  when: (settings, backend) =>
    backend === undefined ||
    !settings.sources.has(`AZURE_OPENAI_ENDPOINT_${backend.index}`) ||
    backendAuthMode(settings, backend).value !== 'api-key',
  words: 'AZURE_OPENAI_AUTH_MODE_N=entra',
  switches: ['AZURE_OPENAI_AUTH_MODE_N'],
};

const ANY_ENTRA: Condition = {
  when: usesEntra,
  words: 'AZURE_OPENAI_AUTH_MODE_N=entra',
  switches: ['AZURE_OPENAI_AUTH_MODE', 'AZURE_OPENAI_AUTH_MODE_N'],
};

/** `AZURE_OPENAI_<FIELD>_N`: one group of settings for each backend. */
export const backendFields = {
  ENDPOINT: setting(endpoint(), {
    section,
    description: 'URL of the Azure OpenAI resource. Only scheme, host and port are used.',
    defaultText: 'required',
    example: 'https://my-ptu.openai.azure.com',
    output: [`${INSTANCE}.override.endpoint`],
  }),
  KEY: setting(apiKey(), {
    section,
    description: 'API key of the resource.',
    defaultText: 'required in api-key mode',
    example: '<key of the resource>',
    output: [`${INSTANCE}.auth.header.api-key`],
    sensitive: true,
  }),
  NAME: setting(text('1 to 100 of the characters A-Z a-z 0-9 . _ -', /^[A-Za-z0-9._-]{1,100}$/), {
    section,
    description: 'Name of the backend in metrics, logs and headers. Names must be unique.',
    defaultText: 'backend-N',
    example: 'swe-ptu',
    output: [`${INSTANCE}.name`, `${BACKEND}.name`],
    effective: backendName,
  }),
  PRIORITY: setting(integer(0, 1_000_000), {
    section,
    description:
      'Backends with a higher number get requests first; the others get the requests that these cannot take.',
    default: 5,
    example: '10',
    output: [`${INSTANCE}.priority`],
  }),
  WEIGHT: setting(integer(0, 10_000), {
    section,
    description:
      'Share of the requests among backends of equal priority. 0 drains the backend: it gets no new requests.',
    default: 1,
    example: '2',
    output: [`${INSTANCE}.weight`],
  }),
  AUTH_MODE: setting(authMode(), {
    section,
    description:
      'How the gateway authenticates to the backend: with the key (`api-key`), or with an Entra ID token of its managed identity (`entra`).',
    defaultText: 'api-key if AZURE_OPENAI_KEY_N is set, else AZURE_OPENAI_AUTH_MODE',
    example: 'api-key',
    output: [`${INSTANCE}.auth`, `${BACKEND}.identity`],
    effective: backendAuthMode,
  }),
  TOKEN_RESOURCE: setting(url(), {
    section,
    description: 'Audience of the Entra ID token for this backend.',
    defaultText: 'AZURE_OPENAI_TOKEN_RESOURCE',
    example: 'https://cognitiveservices.azure.com/',
    output: [`${BACKEND}.identity.resource`],
    needs: ITS_ENTRA,
    effective: tokenResource,
  }),
  MSI_CLIENT_ID: setting(text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/), {
    section,
    description: 'Client id of the user-assigned identity for this backend.',
    defaultText: 'AZURE_OPENAI_MSI_CLIENT_ID, then AZURE_CLIENT_ID',
    example: '00000000-0000-0000-0000-000000000000',
    output: [`${BACKEND}.identity.client_id`],
    needs: ITS_ENTRA,
    effective: backendClientId,
  }),
  DEPLOYMENTS: setting(
    // Azure ignores the case of names.
    list(deployment(), (each) => each.name.toLowerCase()),
    {
      section,
      description:
        'Deployments that this backend serves: `name`, or `name=backend-name` if the deployment has another name there.',
      defaultText: 'all deployments, with the names that clients use',
      example: 'gpt-4o,gpt-4o-mini=mini-eu',
      output: [`${BACKEND}.deployments`],
      isNew: true,
    },
  ),
  REGION: setting(text('1 to 100 letters, digits, spaces or hyphens', /^[A-Za-z0-9 -]{1,100}$/), {
    section,
    description: 'Region of the backend, a label in metrics and logs.',
    defaultText: 'none',
    example: 'swedencentral',
    output: [`${BACKEND}.region`],
    isNew: true,
  }),
} as const;

/** Defaults for backends that have no value of their own. */
export const backendDefaults = {
  AZURE_OPENAI_AUTH_MODE: setting(authMode(), {
    section,
    description: 'Auth mode of backends that have neither AZURE_OPENAI_KEY_N nor AZURE_OPENAI_AUTH_MODE_N.',
    defaultText: 'none',
    example: 'api-key',
    output: [`${INSTANCE}.auth`, `${BACKEND}.identity`],
    isNew: true,
  }),
  AZURE_OPENAI_TOKEN_RESOURCE: setting(url(), {
    section,
    description: 'Audience of Entra ID tokens for all backends.',
    default: 'https://cognitiveservices.azure.com/',
    defaultText: "https://cognitiveservices.azure.com/, or the same for the endpoint's cloud (.us, .cn)",
    example: 'https://cognitiveservices.azure.us/',
    output: [`${BACKEND}.identity.resource`],
    needs: ANY_ENTRA,
  }),
  AZURE_OPENAI_MSI_CLIENT_ID: setting(text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/), {
    section,
    description: 'Client id of the user-assigned identity for all backends.',
    defaultText: 'AZURE_CLIENT_ID',
    example: '00000000-0000-0000-0000-000000000000',
    output: [`${BACKEND}.identity.client_id`],
    needs: ANY_ENTRA,
    effective: backendsClientId,
  }),
} as const;
