/** Diagnostics about backends. */
import { error, info, list, warning } from './entry.ts';

export const backends = {
  NO_BACKEND: error((a: { instead?: string | undefined }) => ({
    message:
      a.instead === undefined
        ? 'there is no backend'
        : `there is no backend: ${a.instead} is set, but it ${a.instead === 'AZURE_OPENAI_ENDPOINT' ? 'has no index' : 'is not a setting'}`,
    expected: 'at least one AZURE_OPENAI_ENDPOINT_N',
    hint:
      a.instead === undefined
        ? 'set AZURE_OPENAI_ENDPOINT_0=https://name.openai.azure.com and AZURE_OPENAI_KEY_0'
        : `set AZURE_OPENAI_ENDPOINT_0 to the value of ${a.instead}, and AZURE_OPENAI_KEY_0`,
  })),
  BACKEND_WITHOUT_ENDPOINT: error((a: { endpoint: string }, name) => ({
    message: `${name} is set but ${a.endpoint} is not`,
    expected: a.endpoint,
    hint: `set ${a.endpoint}, or remove ${name}`,
  })),
  BACKEND_WITHOUT_CREDENTIAL: error((a: { index: number }, name) => ({
    message: `backend ${a.index} has neither a key nor an auth mode`,
    expected: `AZURE_OPENAI_KEY_${a.index} or AZURE_OPENAI_AUTH_MODE_${a.index}`,
    hint: `set ${name}, or AZURE_OPENAI_AUTH_MODE_${a.index}=entra`,
  })),
  KEY_UNUSED_WITH_ENTRA: warning((a: { index: number }, name) => ({
    message: `${name} is not used: backend ${a.index} authenticates with Entra ID`,
    expected: 'no key in Entra mode',
    hint: `remove ${name}, or set AZURE_OPENAI_AUTH_MODE_${a.index}=api-key`,
  })),
  ENDPOINT_HOST: warning((a: { meant: string }, name) => ({
    message: 'the host is spelt almost like that of an Azure resource, and is probably a typing mistake',
    expected: 'the host that the Azure portal shows',
    hint: `write ${name}=https://${a.meant}`,
  })),
  ENDPOINT_INSECURE: warning((_, name) => ({
    message: 'the gateway sends the key and every prompt unencrypted',
    expected: 'an https URL',
    hint: `write ${name} with https://`,
  })),
  ENDPOINT_PATH_DROPPED: info((a: { dropped: string; origin: string; limit?: string | undefined }, name) => ({
    message: `the gateway uses only ${a.origin} and ignores ${a.dropped}${a.limit === undefined ? '' : `; the backend serves all deployments unless you set ${a.limit}`}`,
    expected: 'the URL of the resource',
    hint: `write ${name}=${a.origin}${a.limit === undefined ? '' : `, and ${a.limit} if the backend serves only this deployment`}`,
  })),
  DUPLICATE_NAME: error((a: { other: string; name: string }, name) => ({
    message: `${a.other} has the name ${a.name} too`,
    expected: 'a unique name; upper and lower case count as the same',
    hint: `give ${name} another name`,
  })),
  DUPLICATE_BACKEND: warning((a: { other: string }, name) => ({
    message: `${name} and ${a.other} are the same resource with the same credential`,
    expected: 'one backend for each pool of capacity',
    hint: `remove one of the two, or give ${a.other.replace('ENDPOINT', 'WEIGHT')} a larger weight`,
  })),
  SAME_RESOURCE: warning((a: { other: string }, name) => ({
    message: `${name} and ${a.other} are the same resource with two credentials; both share one capacity`,
    expected: 'one backend for each pool of capacity',
    hint: `remove one of the two: the second key of a resource is for rotation and adds no capacity`,
  })),
  OTHER_CLOUD: warning((a: { endpoint: string; example: string }, name) => ({
    message: `${name} belongs to another cloud than ${a.endpoint}, so the backend will return 401`,
    expected: a.example,
    hint: `remove ${name}: its default matches the endpoint. Or write ${name}=${a.example}`,
  })),
  EMPTY_GROUP: info(
    (a: {
      what: 'backend' | 'client' | 'pool';
      index: number;
      empty: readonly string[];
      ignored: readonly string[];
    }) => ({
      message: `${a.what} ${a.index} is not configured, because ${list(a.empty)} ${a.empty.length === 1 ? 'is' : 'are'} empty${a.ignored.length === 0 ? '' : `; ${list(a.ignored)} ${a.ignored.length === 1 ? 'is' : 'are'} ignored`}`,
      expected: 'a value in each of these variables, or no variables',
      hint: `do nothing if you want no such ${a.what}; otherwise give ${list(a.empty)} a value`,
    }),
  ),
  ALL_BACKENDS_DRAINED: error(() => ({
    message: 'every backend has weight 0',
    expected: 'at least one weight above 0',
    hint: 'give one AZURE_OPENAI_WEIGHT_N a value of 1 or more',
  })),
};
