import { setting } from '../declaration.ts';
import { absolutePath, apiKey, integer, text, url } from '../types.ts';

const clientId = text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/);

const identity = 'Managed identity';
const fromPlatform = {
  section: identity,
  output: 'none (read by the gateway at run time)',
  readAtRunTime: true,
} as const;

/** What the platform provides; checked here, and never written into a file. */
export const identitySettings = {
  IDENTITY_ENDPOINT: setting(url(), {
    ...fromPlatform,
    description: 'Token endpoint of Container Apps and App Service.',
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
    description: 'Older name of IDENTITY_ENDPOINT; wins over it.',
    defaultText: 'from the platform',
    example: 'http://127.0.0.1:42356/msi/token',
  }),
  MSI_SECRET: setting(apiKey(), {
    ...fromPlatform,
    description: 'Older name of IDENTITY_HEADER, which wins over it.',
    defaultText: 'from the platform',
    example: '<from the platform>',
    sensitive: true,
  }),
  AZURE_FEDERATED_TOKEN_FILE: setting(absolutePath(), {
    ...fromPlatform,
    description: 'Token file of workload identity; used where there is no token endpoint.',
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
      description: 'Where workload identity signs in; sovereign clouds have their own.',
      defaultText: 'https://login.microsoftonline.com',
      example: 'https://login.microsoftonline.us',
      isNew: true,
    },
  ),
  AZURE_POD_IDENTITY_AUTHORITY_HOST: setting(url(), {
    ...fromPlatform,
    description:
      'Address of the instance metadata service, which is asked where there is neither a token endpoint nor a token file.',
    defaultText: 'http://169.254.169.254',
    example: 'http://169.254.169.254',
    isNew: true,
  }),
} as const;

const compatibility = 'Accepted for compatibility';
const anyText = text('any text');

/** Other names of the accelerator: accepted, with a warning that says what replaces each. */
export const compatibilitySettings = {
  AI_RATE_LIMIT_LIMIT: setting(integer(1), {
    section: compatibility,
    description: 'Budget of the high lane, where AI_RATE_LIMIT_HIGH_LIMIT is unset.',
    defaultText: 'none',
    example: '200',
    output: 'apisix.yaml: services[].plugins.ai-rate-limiting.rules[].count',
    replacedBy: 'AI_RATE_LIMIT_HIGH_LIMIT',
  }),
  IDENTITY_CLIENT_ID: setting(clientId, {
    section: compatibility,
    description: 'Client id of the managed identity, where AZURE_CLIENT_ID is unset.',
    defaultText: 'none',
    example: '00000000-0000-0000-0000-000000000000',
    output: 'as AZURE_CLIENT_ID',
    replacedBy: 'AZURE_CLIENT_ID',
  }),
  MSI_CLIENT_ID: setting(clientId, {
    section: compatibility,
    description: 'Client id of the managed identity, where AZURE_CLIENT_ID and IDENTITY_CLIENT_ID are unset.',
    defaultText: 'none',
    example: '00000000-0000-0000-0000-000000000000',
    output: 'as AZURE_CLIENT_ID',
    replacedBy: 'AZURE_CLIENT_ID',
  }),
  APIM_GATEWAY_PRODUCT_ID: setting(anyText, {
    section: compatibility,
    description: 'Never took effect.',
    defaultText: 'none',
    example: 'genai',
    output: 'none',
    replacedBy: 'GATEWAY_PRODUCT_ID',
  }),
  APIM_GATEWAY_API_ID: setting(anyText, {
    section: compatibility,
    description: 'Never took effect: records name the API of each request themselves.',
    defaultText: 'none',
    example: 'openai-chat',
    output: 'none',
    replacedBy: 'nothing (the gateway derives it from each request)',
  }),
  APIM_GATEWAY_OPERATION_NAME: setting(anyText, {
    section: compatibility,
    description: 'Never took effect: records name the operation of each request themselves.',
    defaultText: 'none',
    example: 'chat_completions',
    output: 'none',
    replacedBy: 'nothing (the gateway derives it from each request)',
  }),
  SHARED_ROOT: setting(anyText, {
    section: compatibility,
    description: 'Root of the rendered files in the accelerator.',
    defaultText: 'none',
    example: '/shared-configs',
    output: 'none',
    replacedBy: 'the option --out DIR of render',
  }),
} as const;
