import { setting } from '../declaration.ts';
import { apiKey, integer, list, oneOf, text } from '../types.ts';

const section = 'Clients';
const CONSUMER_AUTH = 'apisix.yaml: consumers[].plugins.azure-openai-auth';

/** `GATEWAY_CLIENT_<FIELD>_N`: one group of settings for each application or team. */
export const clientFields = {
  NAME: setting(text('1 to 100 of the characters A-Z a-z 0-9 _ -', /^[A-Za-z0-9_-]{1,100}$/), {
    section,
    description: 'Name of the client in metrics and logs; unique.',
    defaultText: 'required',
    example: 'team-search',
    output: 'apisix.yaml: consumers[].username',
  }),
  KEY: setting(apiKey(), {
    section,
    description: 'Key that the client sends to the gateway; unique, 16 characters or more.',
    defaultText: 'required',
    example: '<16 characters or more>',
    output: `${CONSUMER_AUTH}.key`,
    sensitive: true,
  }),
  KEY_SECONDARY: setting(apiKey(), {
    section,
    description: 'A second live key, for rotation without a gap.',
    defaultText: 'none',
    example: '<16 characters or more>',
    output: 'apisix.yaml: consumers[] NAME/credentials/secondary',
    sensitive: true,
    isNew: true,
  }),
  PRIORITY: setting(oneOf(['high', 'low']), {
    section,
    description: 'Highest lane this client may use; a request may only lower it.',
    default: 'high',
    example: 'low',
    output: `${CONSUMER_AUTH}.lane`,
    isNew: true,
  }),
  MODELS: setting(
    list(text('a model or deployment name, `*` as wildcard', /^[A-Za-z0-9*][A-Za-z0-9.*_-]{0,99}$/)),
    {
      section,
      description:
        'Deployments or models this client may call, `*` is a wildcard; 403 for others, and for batches, assistants and the like, which name theirs elsewhere.',
      defaultText: 'all',
      example: 'gpt-4o*,text-embedding-3-small',
      output: `${CONSUMER_AUTH}.models`,
      isNew: true,
    },
  ),
  TOKENS_PER_MINUTE: setting(integer(1), {
    section,
    description: 'Tokens a minute for this client, beside the limits of its lane.',
    defaultText: 'no limit',
    example: '50000',
    output: `${CONSUMER_AUTH}.tokens_per_minute; apisix.yaml: services[].plugins.ai-rate-limiting.rules[]`,
    isNew: true,
  }),
  REQUESTS_PER_MINUTE: setting(integer(1), {
    section,
    description: 'Requests a minute for this client.',
    defaultText: 'no limit',
    example: '600',
    output: `${CONSUMER_AUTH}.requests_per_minute; apisix.yaml: services[].plugins.limit-count.rules[]`,
    isNew: true,
  }),
  TOKENS_PER_DAY: setting(integer(1), {
    section,
    description: 'Tokens a day for this client; a day is 86,400 seconds from the first use.',
    defaultText: 'no limit',
    example: '5000000',
    output: `${CONSUMER_AUTH}.tokens_per_day; apisix.yaml: services[].plugins.ai-rate-limiting.rules[]`,
    isNew: true,
  }),
} as const;
