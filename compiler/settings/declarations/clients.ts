import { setting } from '../declaration.ts';
import { apiKey, integer, list, oneOf, text } from '../types.ts';

const section = 'Clients';
const CLIENT = 'apisix.yaml: clients[]';

/** `GATEWAY_CLIENT_<FIELD>_N`: one group of settings for each application or team. */
export const clientFields = {
  NAME: setting(text('1 to 100 of the characters A-Z a-z 0-9 _ -', /^[A-Za-z0-9_-]{1,100}$/), {
    section,
    description: 'Name of the client in metrics and logs. Names must be unique.',
    defaultText: 'required',
    example: 'team-search',
    output: [`${CLIENT}.name`],
  }),
  KEY: setting(apiKey(), {
    section,
    description:
      'Key that the client sends to the gateway. Keys must be unique and should have at least 16 characters.',
    defaultText: 'required',
    example: '<16 characters or more>',
    output: [`${CLIENT}.key`],
    sensitive: true,
  }),
  KEY_SECONDARY: setting(apiKey(), {
    section,
    description: 'A second key that is valid too, to rotate keys without downtime.',
    defaultText: 'none',
    example: '<16 characters or more>',
    output: [`${CLIENT}.secondary_key`],
    sensitive: true,
    isNew: true,
  }),
  PRIORITY: setting(oneOf(['high', 'low']), {
    section,
    description:
      "Lane (priority class) of this client's requests. A request can ask for the low lane with the header x-priority, but not for a higher lane than this.",
    default: 'high',
    example: 'low',
    output: [`${CLIENT}.lane`],
    isNew: true,
  }),
  MODELS: setting(
    list(text('a model or deployment name, `*` as wildcard', /^[A-Za-z0-9*][A-Za-z0-9.*_-]{0,99}$/)),
    {
      section,
      description:
        'Deployments or models that this client may call; `*` is a wildcard. Other models get 403, and so do operations such as batches and assistants whose requests do not name the model.',
      defaultText: 'all',
      example: 'gpt-4o*,text-embedding-3-small',
      output: [`${CLIENT}.models`],
      isNew: true,
    },
  ),
  TOKENS_PER_MINUTE: setting(integer(1), {
    section,
    description: 'Tokens per minute for this client, in addition to the limit of its lane.',
    defaultText: 'no limit',
    example: '50000',
    output: [`${CLIENT}.tokens_per_minute`, 'apisix.yaml: services[].plugins.ai-rate-limiting.rules[]'],
    isNew: true,
  }),
  REQUESTS_PER_MINUTE: setting(integer(1), {
    section,
    description: 'Requests per minute for this client.',
    defaultText: 'no limit',
    example: '600',
    output: [`${CLIENT}.requests_per_minute`, 'apisix.yaml: services[].plugins.limit-count.rules[]'],
    isNew: true,
  }),
  TOKENS_PER_DAY: setting(integer(1), {
    section,
    description: 'Tokens per day for this client. A day is 86,400 seconds from the first request.',
    defaultText: 'no limit',
    example: '5000000',
    output: [`${CLIENT}.tokens_per_day`, 'apisix.yaml: services[].plugins.ai-rate-limiting.rules[]'],
    isNew: true,
  }),
} as const;
