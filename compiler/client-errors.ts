/**
 * The errors that the gateway itself returns, by `code`, for the generated page and for `explain`. A test compares this
 * table with the Lua code that returns them. Errors of a backend keep the backend's own codes.
 */
export interface ClientError {
  readonly statuses: readonly number[];
  /** Sentences: what happened. */
  readonly about: string;
  /** What the caller can change; undefined: it can only send the request again. */
  readonly client?: string;
  /** What the operator of the gateway should check. */
  readonly operator?: string;
}

const PATH =
  'Set the base URL of an OpenAI client to `https://<gateway>/openai/v1`, or the endpoint of an Azure OpenAI client to `https://<gateway>`.';
const FREE_SPACE =
  'Give `/tmp` of the container more space, or lower `GATEWAY_MAX_BODY_SIZE`. [deployment.md](deployment.md#memory-and-disk) explains which data is written to files.';

export const CLIENT_ERRORS: Readonly<Record<string, ClientError>> = {
  bad_request: {
    statuses: [400],
    about: 'nginx could not read the request: its first line or a header is malformed.',
    client: 'Send a valid HTTP request.',
  },
  invalid_request: {
    statuses: [400],
    about:
      'The request has a header that cannot be sent to a backend, or the list of preferred backends in its body is not valid.',
    client: 'Remove or correct what the message names.',
  },
  unknown_backend: {
    statuses: [400],
    about: 'A request that sets the order of backends names one that does not exist.',
    client:
      'Use names of `AZURE_OPENAI_NAME_N`, or endpoints of backends ([pools.md](pools.md#the-order-of-backends)).',
  },
  invalid_request_target: {
    statuses: [400],
    about:
      'The path of the request has no single meaning: a wrong percent-encoding, or an encoded slash or dot.',
    client: `Write the path without encoded separators. ${PATH}`,
  },
  invalid_content_encoding: {
    statuses: [400],
    about: 'The body is not what its `Content-Encoding` header names, or the compressed data ends early.',
    client: 'Compress the whole body with the coding that the header names, or send it uncompressed.',
  },
  duplicate_member: {
    statuses: [400],
    about:
      'The JSON or the form has a member such as `model` twice. Backends differ in which one they use, so the gateway uses neither.',
    client: 'Send the member once.',
  },
  nesting_too_deep: {
    statuses: [400],
    about: 'The JSON nests objects and arrays deeper than the gateway reads.',
    client: 'Send JSON with less nesting.',
  },
  name_too_long: {
    statuses: [400],
    about: 'A name in the JSON, the headers of a form part, or the boundary of the form is too long.',
    client: 'Use shorter names.',
  },
  invalid_api_key: {
    statuses: [401],
    about: 'The request has no key, or a key that belongs to no client.',
    client:
      'Send the key as `Authorization: Bearer`, `api-key`, `x-api-key` or `ocp-apim-subscription-key`. A key in the query is not accepted.',
    operator:
      'Compare the key with `GATEWAY_CLIENT_KEY_N`. A key from a file that cannot be read is disabled; the error log names that file.',
  },
  invalid_token: {
    statuses: [401],
    about: 'The bearer token is not valid; the header `WWW-Authenticate` gives the reason.',
    client: 'Request a new token for the audience that the gateway accepts.',
    operator:
      'Compare the audience and the issuer with `OIDC_AUDIENCES`, `OIDC_CLIENT_ID` and `OIDC_DISCOVERY_URL` ([oidc.md](oidc.md)).',
  },
  forbidden: {
    statuses: [403],
    about: 'The address of the caller is not allowed.',
    operator:
      'See `IP_WHITELIST` and `IP_BLACKLIST`. Behind a proxy set `GATEWAY_TRUSTED_PROXIES`, else every request has the address of the proxy.',
  },
  model_not_allowed: {
    statuses: [403],
    about: 'The client may not call this model, or not this operation.',
    client: 'Use a model that `GET /openai/v1/models` lists.',
    operator: 'Add the model to `GATEWAY_CLIENT_MODELS_N`.',
  },
  pool_not_allowed: {
    statuses: [403],
    about: 'The path belongs to a pool of backends that this client may not use.',
    client: 'Use a path that your client may use, such as `/openai/v1` without a prefix.',
    operator: 'Add the client to `GATEWAY_POOL_CLIENTS_N` ([pools.md](pools.md)).',
  },
  invalid_shared_secret: {
    statuses: [403],
    about: 'A request that sets the order of backends does not have the shared secret of the gateway.',
    client: 'Send the secret in the header `x-config-api-secret`.',
    operator:
      'Compare the secret with `CONFIG_API_SHARED_SECRET`. If its file cannot be read, every request gets this error ([pools.md](pools.md#the-order-of-backends)).',
  },
  upstream_refused: {
    statuses: [401, 403],
    about:
      'The backends reject this request, although they accept the credentials of the gateway for other requests: they do not allow this operation.',
    client: 'Use an operation or a deployment that the resource allows.',
    operator: 'Give the identity of the gateway the role for this operation, or allow it on the resource.',
  },
  not_found: {
    statuses: [404],
    about: 'The gateway serves nothing at this path.',
    client: PATH,
  },
  DeploymentNotFound: {
    statuses: [404],
    about:
      'No backend serves this deployment, or the backend that owns the stored object has no such deployment.',
    client: 'Use a name that `GET /openai/v1/models` lists.',
    operator: 'Compare the name with `AZURE_OPENAI_DEPLOYMENTS_N`, or with the deployments of the resources.',
  },
  model_not_found: {
    statuses: [404],
    about: '`GET /models/NAME` names a model that does not exist or that this client may not call.',
    client: 'Use a name that `GET /openai/v1/models` lists.',
  },
  method_not_allowed: {
    statuses: [405],
    about:
      'The path does not support this method. `/healthz` and `/readyz` support GET and HEAD, `/helpers/set-preferred-backends` supports POST.',
    client: 'Use a method that the `Allow` header names.',
  },
  request_timeout: {
    statuses: [408],
    about: 'The body of the request arrived too slowly.',
    client: 'Send the request again.',
  },
  request_too_large: {
    statuses: [413],
    about: 'The body is larger than the gateway accepts, as it arrived or after decompression.',
    client: 'Send a smaller body.',
    operator: 'Raise `GATEWAY_MAX_BODY_SIZE`.',
  },
  request_target_too_long: {
    statuses: [414],
    about: 'The path and the query together are too long.',
    client: 'Send a shorter path and query.',
  },
  unsupported_content_encoding: {
    statuses: [415],
    about: 'The gateway cannot decompress the body.',
    client: 'Use a coding that `Accept-Encoding` of the answer lists, or send the body uncompressed.',
  },
  websocket_not_supported: {
    statuses: [426],
    about: 'The request asks for a WebSocket, which the gateway does not serve.',
    client: 'Use HTTP. A stream arrives as server-sent events.',
  },
  rate_limit_exceeded: {
    statuses: [429, 503],
    about:
      'A limit of the gateway rejects the request, or all backends that serve it are throttled. `Retry-After` and `retry-after-ms` contain the time after which a retry can succeed. A limit of tokens answers with the status of `AI_RATE_LIMIT_REJECT_CODE`, 503 by default.',
    client: 'Wait for the time in the header. The official SDKs do so.',
    operator:
      'The access log names the limit in `limiter`. Without one the backends are throttled: add capacity, or see [failover.md](failover.md).',
  },
  too_many_failed_authentications: {
    statuses: [429],
    about: 'Too many requests without a valid key came from this address. A valid key is still accepted.',
    client: 'Correct the key.',
    operator:
      'Find the caller by `client_ip` in the access log. Behind a proxy set `GATEWAY_TRUSTED_PROXIES`.',
  },
  request_headers_too_large: {
    statuses: [431],
    about: 'The headers of the request are too large.',
    client: 'Send fewer or shorter headers.',
  },
  gateway_error: {
    statuses: [500],
    about: 'The gateway failed. This is a bug.',
    operator: 'Report it with the lines of the error log about this request.',
  },
  upstream_unreachable: {
    statuses: [502],
    about: 'No backend could be connected to, or the connection broke before an answer.',
    operator: 'The error log names the backend and the reason: name resolution, TLS, a refused connection.',
  },
  upstream_empty: {
    statuses: [502],
    about: 'The answers of the backends ended before they contained any output.',
    operator: 'The field `attempts` of the access log names the backends.',
  },
  upstream_redirect: {
    statuses: [502],
    about:
      'A backend redirects to another server. The gateway does not follow, because the key would go there too.',
    operator: 'Set `AZURE_OPENAI_ENDPOINT_N` to the address of the resource.',
  },
  upstream_credentials: {
    statuses: [502],
    about: 'The backends do not accept the credentials of the gateway.',
    operator: 'The error log names the backend. Check its key, or the role of the identity of the gateway.',
  },
  unavailable: {
    statuses: [503],
    about: 'The gateway cannot handle the request now.',
    operator: 'See the error log and [`/readyz`](readiness.md).',
  },
  upstream_unavailable: {
    statuses: [503],
    about:
      'Every backend that serves the request is cooling down after failures, or the backend that may own the stored object cannot be queried now.',
    operator:
      'The field `attempts` of the access log shows the earlier answers of the backends. [failover.md](failover.md) explains cooldowns.',
  },
  clients_not_loaded: {
    statuses: [503],
    about: 'A worker that has just started has not read its clients yet.',
    operator: 'If the error persists, see the error log: apisix.yaml cannot be read.',
  },
  token_issuer_unavailable: {
    statuses: [503],
    about: 'The keys of the token issuer cannot be fetched, so no token can be checked.',
    operator: 'Check that the gateway can reach `OIDC_DISCOVERY_URL`.',
  },
  body_memory_exhausted: {
    statuses: [503],
    about: 'The gateway has no memory left for another request body.',
    operator: 'Raise `GATEWAY_BODY_MEMORY`, or add replicas.',
  },
  body_storage_full: {
    statuses: [503],
    about: 'There is no disk space for the body of the request.',
    operator: FREE_SPACE,
  },
  upstream_timeout: {
    statuses: [504],
    about: 'No backend answered within the time-outs and the deadline.',
    operator:
      'See `AI_PROXY_READ_TIMEOUT`, `AI_PROXY_FIRST_BYTE_TIMEOUT` and `AI_PROXY_DEADLINE`; reasoning models may need minutes before their first token.',
  },
};

/** Whether the official SDKs retry this status by themselves, after the delay in the response. */
const isRetried = (status: number): boolean => status === 408 || status === 429 || status >= 500;

/** The page of all codes, as Markdown. */
export function clientErrorsReference(): string {
  const statuses = [...new Set(Object.values(CLIENT_ERRORS).flatMap((each) => each.statuses))].sort(
    (a, b) => a - b,
  );
  const sections = statuses.map((status) => {
    const entries = Object.entries(CLIENT_ERRORS).filter(([, { statuses: own }]) => own[0] === status);
    return entries.map(([code, error]) => section(code, error)).join('\n');
  });
  return `# Errors that clients see

For callers of the gateway and for its operators: each \`code\` of an error that the gateway itself returns, its meaning, and
what to do. This page is generated by \`npm run generate\`.

An error has the form that OpenAI's SDKs expect:

\`\`\`json
{ "error": { "message": "…", "type": "rate_limit_error", "param": null, "code": "rate_limit_exceeded" } }
\`\`\`

When a backend answered the last attempt, you get the backend's own error, with the backend's own code: those are not
listed here. The access log has the same \`code\` in \`error\`, and \`error_source\` names its source
([access-log.md](access-log.md)).

An error after the start of a stream is the stream's last event, with the same \`code\`.

${sections.filter((each) => each !== '').join('\n')}
## Others

An error with \`"code": "error"\` has a status for which there is no specific code.
`;
}

/** The advice for the caller; undefined: only the operator can solve the error. */
export function clientRemedy({ client, statuses }: ClientError): string | undefined {
  return (
    client ??
    (statuses.some(isRetried)
      ? 'Send the request again later; the official SDKs do so by themselves.'
      : undefined)
  );
}

function section(code: string, error: ClientError): string {
  const { statuses, about, operator } = error;
  const client = clientRemedy(error);
  return [
    `## ${code}\n`,
    `Status ${statuses.join(' or ')}. ${about}\n`,
    ...(client === undefined ? [] : [`**Client:** ${client}\n`]),
    ...(operator === undefined ? [] : [`**Operator:** ${operator}\n`]),
  ].join('\n');
}
