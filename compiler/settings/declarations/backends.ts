import { setting } from '../declaration.ts';
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

/** `AZURE_OPENAI_<FIELD>_N`: one group of settings for each pool of capacity. */
export const backendFields = {
  ENDPOINT: setting(endpoint(), {
    section,
    description: 'URL of the Azure OpenAI resource; a path behind the host is dropped.',
    defaultText: 'required',
    example: 'https://my-ptu.openai.azure.com',
    output: `${INSTANCE}.override.endpoint`,
  }),
  KEY: setting(apiKey(), {
    section,
    description: 'API key of the resource.',
    defaultText: 'required in api-key mode',
    example: '<key of the resource>',
    output: `${INSTANCE}.auth.header.api-key`,
    sensitive: true,
  }),
  NAME: setting(text('1 to 100 of the characters A-Z a-z 0-9 . _ -', /^[A-Za-z0-9._-]{1,100}$/), {
    section,
    description: 'Name in metrics, logs and headers; unique.',
    defaultText: 'backend-N',
    example: 'swe-ptu',
    output: `${INSTANCE}.name`,
  }),
  PRIORITY: setting(integer(0, 1_000_000), {
    section,
    description: 'Backends with a higher number are tried first.',
    default: 5,
    example: '10',
    output: `${INSTANCE}.priority`,
  }),
  WEIGHT: setting(integer(0, 10_000), {
    section,
    description: 'Share of the requests among backends of equal priority; 0 drains the backend.',
    default: 1,
    example: '2',
    output: `${INSTANCE}.weight`,
  }),
  AUTH_MODE: setting(authMode(), {
    section,
    description: 'How the gateway signs in: with KEY, or with an Entra token of its managed identity.',
    defaultText: 'api-key when KEY is set, else AZURE_OPENAI_AUTH_MODE',
    example: 'api-key',
    output: `${INSTANCE}.auth; ${BACKEND}.identity`,
  }),
  TOKEN_RESOURCE: setting(url(), {
    section,
    description: 'Audience of the Entra token.',
    defaultText: 'AZURE_OPENAI_TOKEN_RESOURCE',
    example: 'https://cognitiveservices.azure.com/',
    output: `${BACKEND}.identity.resource`,
  }),
  MSI_CLIENT_ID: setting(text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/), {
    section,
    description: 'Client id of the user-assigned identity for this backend.',
    defaultText: 'AZURE_OPENAI_MSI_CLIENT_ID, then AZURE_CLIENT_ID',
    example: '00000000-0000-0000-0000-000000000000',
    output: `${BACKEND}.identity.client_id`,
  }),
  DEPLOYMENTS: setting(
    // Azure takes names in any case.
    list(deployment(), (each) => each.name.toLowerCase()),
    {
      section,
      description: 'What this backend serves, and under which name there: `name` or `name=backend-name`.',
      defaultText: "everything, under the client's name",
      example: 'gpt-4o,gpt-4o-mini=mini-eu',
      output: `${BACKEND}.deployments`,
      isNew: true,
    },
  ),
  REGION: setting(text('1 to 100 letters, digits, spaces or hyphens', /^[A-Za-z0-9 -]{1,100}$/), {
    section,
    description: 'A label for metrics and logs.',
    defaultText: 'none',
    example: 'swedencentral',
    output: `${BACKEND}.region`,
    isNew: true,
  }),
} as const;

/** Settings that hold for every backend that does not say otherwise. */
export const backendDefaults = {
  AZURE_OPENAI_AUTH_MODE: setting(authMode(), {
    section,
    description: 'Auth mode of backends that have neither KEY nor AUTH_MODE.',
    defaultText: 'none',
    example: 'api-key',
    output: `${INSTANCE}.auth; ${BACKEND}.identity`,
    isNew: true,
  }),
  AZURE_OPENAI_TOKEN_RESOURCE: setting(url(), {
    section,
    description: 'Audience of Entra tokens.',
    default: 'https://cognitiveservices.azure.com/',
    example: 'https://cognitiveservices.azure.us/',
    output: `${BACKEND}.identity.resource`,
  }),
  AZURE_OPENAI_MSI_CLIENT_ID: setting(text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/), {
    section,
    description: 'Client id of the user-assigned identity for all backends.',
    defaultText: 'AZURE_CLIENT_ID',
    example: '00000000-0000-0000-0000-000000000000',
    output: `${BACKEND}.identity.client_id`,
  }),
} as const;
