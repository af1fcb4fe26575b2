import { type Condition, setting } from '../declaration.ts';
import { tokenFileUse } from '../effective.ts';
import { absolutePath, apiKey, integer, text, url } from '../types.ts';
import { LANES } from './conditions.ts';
import { IDENTITY_OUTPUT } from './telemetry.ts';

const clientId = text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/);

const identity = 'Managed identity';
const fromPlatform = {
  section: identity,
  output: [],
  outputText: 'none (read by the gateway at run time)',
  readAtRunTime: true,
} as const;

/** A token file works only together with a tenant id and a client id. */
const FILE_OF_A_TENANT: Condition = {
  when: (settings) => tokenFileUse(settings) === undefined || settings.sources.has('AZURE_TENANT_ID'),
  words: 'AZURE_TENANT_ID',
  switches: [],
};
const FILE_OF_A_CLIENT: Condition = {
  when: (settings) => tokenFileUse(settings)?.lacksClient !== true,
  words: 'AZURE_CLIENT_ID',
  switches: [],
};

/** Variables that the platform sets. They are validated here, but never written to a file. */
export const identitySettings = {
  IDENTITY_ENDPOINT: setting(url(), {
    ...fromPlatform,
    description: 'Token endpoint of the platform (Container Apps, App Service).',
    defaultText: 'from the platform',
    example: 'http://127.0.0.1:42356/msi/token',
  }),
  IDENTITY_HEADER: setting(apiKey(), {
    ...fromPlatform,
    description: 'Header value for that endpoint.',
    defaultText: 'from the platform',
    example: '<from the platform>',
    sensitive: true,
  }),
  MSI_ENDPOINT: setting(url(), {
    ...fromPlatform,
    description: 'Older name of IDENTITY_ENDPOINT. If both are set, MSI_ENDPOINT is used.',
    defaultText: 'from the platform',
    example: 'http://127.0.0.1:42356/msi/token',
  }),
  MSI_SECRET: setting(apiKey(), {
    ...fromPlatform,
    description: 'Older name of IDENTITY_HEADER. If both are set, IDENTITY_HEADER is used.',
    defaultText: 'from the platform',
    example: '<from the platform>',
    sensitive: true,
  }),
  AZURE_FEDERATED_TOKEN_FILE: setting(absolutePath(), {
    ...fromPlatform,
    description: 'Token file of workload identity. It is used if the platform has no token endpoint.',
    needs: [FILE_OF_A_TENANT, FILE_OF_A_CLIENT],
    defaultText: 'from the platform',
    example: '/var/run/secrets/azure/tokens/azure-identity-token',
  }),
  AZURE_TENANT_ID: setting(text('a tenant id or domain', /^[A-Za-z0-9.-]{1,253}$/), {
    ...fromPlatform,
    description: 'Tenant of workload identity.',
    defaultText: 'from the platform',
    example: '00000000-0000-0000-0000-000000000000',
  }),
  AZURE_AUTHORITY_HOST: setting(
    text(
      'a host such as login.microsoftonline.us, or the https URL of one',
      /^(?:https?:\/\/)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?\/?$/,
    ),
    {
      ...fromPlatform,
      description: 'Host of the authority for workload identity. Sovereign clouds have their own.',
      defaultText: "https://login.microsoftonline.com, or the authority of the token's cloud (.us, .cn)",
      example: 'https://login.microsoftonline.us',
      isNew: true,
    },
  ),
  AZURE_POD_IDENTITY_AUTHORITY_HOST: setting(url(), {
    ...fromPlatform,
    description:
      'Address of the instance metadata service. It is used if there is neither a token endpoint nor a token file.',
    defaultText: 'http://169.254.169.254',
    example: 'http://169.254.169.254',
    isNew: true,
  }),
} as const;

const compatibility = 'Accepted for compatibility';
const anyText = text('any text');

/** Settings of the accelerator that are accepted with a warning, which names the replacement. */
export const compatibilitySettings = {
  AI_RATE_LIMIT_LIMIT: setting(integer(1), {
    section: compatibility,
    description: 'Tokens that the high lane may use per time window, if AI_RATE_LIMIT_HIGH_LIMIT is not set.',
    defaultText: 'none',
    example: '200',
    output: ['apisix.yaml: services[].plugins.ai-rate-limiting.rules[].count'],
    needs: LANES,
    replacedBy: 'AI_RATE_LIMIT_HIGH_LIMIT',
  }),
  IDENTITY_CLIENT_ID: setting(clientId, {
    section: compatibility,
    description: 'Client id of the managed identity, if AZURE_CLIENT_ID is not set.',
    defaultText: 'none',
    example: '00000000-0000-0000-0000-000000000000',
    output: IDENTITY_OUTPUT,
    replacedBy: 'AZURE_CLIENT_ID',
  }),
  MSI_CLIENT_ID: setting(clientId, {
    section: compatibility,
    description:
      'Client id of the managed identity, if neither AZURE_CLIENT_ID nor IDENTITY_CLIENT_ID is set.',
    defaultText: 'none',
    example: '00000000-0000-0000-0000-000000000000',
    output: IDENTITY_OUTPUT,
    replacedBy: 'AZURE_CLIENT_ID',
  }),
  APIM_GATEWAY_PRODUCT_ID: setting(anyText, {
    section: compatibility,
    description: 'Has no effect, and had none in the accelerator.',
    defaultText: 'none',
    example: 'genai',
    output: [],
    replacedBy: 'GATEWAY_PRODUCT_ID',
  }),
  APIM_GATEWAY_API_ID: setting(anyText, {
    section: compatibility,
    description: 'Has no effect, and had none in the accelerator: records have the API of each request.',
    defaultText: 'none',
    example: 'openai-chat',
    output: [],
    replacedBy: 'nothing (the gateway derives it from each request)',
  }),
  APIM_GATEWAY_OPERATION_NAME: setting(anyText, {
    section: compatibility,
    description:
      'Has no effect, and had none in the accelerator: records have the operation of each request.',
    defaultText: 'none',
    example: 'chat_completions',
    output: [],
    replacedBy: 'nothing (the gateway derives it from each request)',
  }),
  SHARED_ROOT: setting(anyText, {
    section: compatibility,
    description: 'Root folder of the rendered files in the accelerator.',
    defaultText: 'none',
    example: '/shared-configs',
    output: [],
    replacedBy: 'the option --out DIR of render',
  }),
} as const;
