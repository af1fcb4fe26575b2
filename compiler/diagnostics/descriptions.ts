/**
 * The general description of each diagnostic code, for SARIF rules, `explain` and the generated page. The catalogue has
 * the wording of one diagnostic, which names the setting and the value.
 */
import type { DiagnosticCode } from './catalog.ts';

export interface Description {
  /** Sentences: what is wrong, and why that matters. */
  readonly about: string;
  /** Sentences: what to do about it. */
  readonly remedy: string;
}

export const DESCRIPTIONS: Readonly<Record<DiagnosticCode, Description>> = {
  INVALID_VALUE: {
    about: 'The setting does not accept its value.',
    remedy: 'Write a value as the diagnostic describes it.',
  },
  CONTROL_CHARACTER: {
    about: 'The value of a setting contains a line break or a NUL character.',
    remedy: 'Set the value again on one line.',
  },
  WRAPPED_IN_QUOTES: {
    about: 'The value of a setting has quotes around it. They would become part of the value.',
    remedy: 'Remove the quotes. docker --env-file and lists in Compose files keep them.',
  },
  LOOKS_LIKE_KEY: {
    about:
      'A setting that is not secret has a value that looks like a key. Such values are written into files, logs and metrics.',
    remedy:
      'Give the key to the setting that is for it, and replace the key if others may have read it. If the value is a name and not a key, choose a shorter name, or one made of words.',
  },
  SECRET_IS_URL: {
    about:
      'A secret is a URL or the host of an Azure resource. Perhaps the endpoint and the key are swapped.',
    remedy: 'Write the key or password itself.',
  },
  KEY_WITH_SPACE: {
    about:
      'The key of a backend or a client contains white space, or begins with the name of a header or with Bearer. Clients, proxies and Azure do not accept such keys reliably.',
    remedy: 'Write the key alone. Give a client a random key, for example from openssl rand -hex 24.',
  },
  BLANK_SECRET: {
    about: 'A secret is set, but empty.',
    remedy: 'Give it a value, or do not set the variable.',
  },
  SECRET_SURROUNDED_BY_SPACE: {
    about: 'A secret begins or ends with white space, which APISIX would use as a part of the secret.',
    remedy: 'Set the secret again without the white space.',
  },
  REFERENCE_IN_VALUE: {
    about: "A value begins with $env:// or $secret://, which are APISIX's references to secrets.",
    remedy: 'Write the value itself. The gateway writes the references.',
  },
  TEMPLATE_IN_VALUE: {
    about: 'A value contains ${{, which APISIX replaces when it reads its configuration.',
    remedy: 'Choose a value without ${{.',
  },
  PLACEHOLDER: {
    about:
      'A value comes from an example, is a placeholder, or is a variable that was not expanded. It looks like a value but does not work, and a key from an example is public. render, watch and up reject it.',
    remedy:
      'Write your own value. Settings that are still a complete example, with no value replaced, can be rendered.',
  },
  EXAMPLE_SETTINGS: {
    about:
      'All endpoints and keys come from an example. check and render accept that, so that you can look at the files. up and the image reject it: the resources do not exist, and everybody knows the keys of the clients.',
    remedy:
      'Replace the endpoints and the keys. genai-gateway init writes an example with random keys for clients.',
  },
  ACCELERATOR_EXAMPLE_KEY: {
    about: "The key of a client is one of the accelerator's examples, which are public.",
    remedy: 'Give the client a random key.',
  },
  ACCELERATOR_PENDING_KEY: {
    about:
      "The key of a backend is pending-foundry, which the accelerator's deployment writes when it does not know the key of the resource. The backend returns 401 for every request.",
    remedy: 'Set the key of the resource, or let the gateway authenticate with its managed identity.',
  },
  UNKNOWN_SETTING: {
    about:
      'A variable has a name that looks like a setting of the gateway, but is not one. It has no effect.',
    remedy: 'Correct the name, or remove the variable. docs/settings.md lists all settings.',
  },
  NOT_A_SETTING: {
    about:
      'A variable in an env file has a name that SDKs, samples or other gateways use. The gateway has a setting for it under another name, or none, so the variable has no effect.',
    remedy:
      'Rename the variable to the setting that the diagnostic names, or remove it, unless another program reads it.',
  },
  WRONG_CASE: {
    about: 'The name of a setting is not in upper case. The variable has no effect.',
    remedy: 'Write the name in upper case.',
  },
  NON_CANONICAL_INDEX: {
    about: 'The number in the name of a setting is not a plain number from 0 to 9999.',
    remedy: 'Number backends and clients from 0, without leading zeros.',
  },
  REPLACED_SETTING: {
    about: 'A setting is accepted only for compatibility.',
    remedy: 'Use the setting that replaces it.',
  },
  REPLACED_VALUE: {
    about: 'A value is accepted only for compatibility.',
    remedy: 'Write the value that replaces it.',
  },
  CHANGED_MEANING: {
    about: 'A setting from the APISIX accelerator has a different effect in this gateway.',
    remedy: 'Read docs/migration.md. If the new effect is what you want, change nothing.',
  },
  AUTH_REQUIRED_BY_DEFAULT: {
    about:
      'Clients must authenticate, because GATEWAY_REQUIRE_AUTH is not set. The APISIX accelerator let everyone in by default.',
    remedy: 'Set GATEWAY_REQUIRE_AUTH=true to keep authentication on and to remove this message.',
  },
  SETTING_WITHOUT_EFFECT: {
    about: 'A setting has no effect, because another setting is missing.',
    remedy: 'Set the other setting, or remove this one.',
  },
  REQUIRED_SETTING: {
    about: 'Another setting needs this setting, and it is missing.',
    remedy: 'Set it to the value that the diagnostic suggests.',
  },
  NOT_FROM_ENV_FILE: {
    about: 'An env file sets a variable that is read only from the environment of the process.',
    remedy: 'Set the variable where the process or the container is started.',
  },
  ENV_FILE_UNREADABLE: {
    about: 'An env file cannot be read.',
    remedy: 'Check the path, the permissions and the size of the file.',
  },
  ENV_FILE_NOT_READ: {
    about:
      'No backend is configured. The current folder has a .env, but genai-gateway reads it only when you name it.',
    remedy: 'Add -e .env.',
  },
  ENV_FILE_NOT_TEXT: {
    about: 'An env file contains NUL bytes. Probably it is a UTF-16 file.',
    remedy: 'Save the file as text in UTF-8.',
  },
  ENV_FILE_FORMAT: {
    about:
      'A file that was given as an env file has another format: JSON, Terraform variables, YAML, a list of a Compose file, a PowerShell script or a Windows batch file. None of it is read.',
    remedy: 'Make a file with one NAME=value on each line. The diagnostic shows how.',
  },
  ENV_FILE_LINE_IGNORED: {
    about: 'A line of an env file is neither NAME=value nor a comment. It has no effect.',
    remedy: 'Correct the line, or remove it.',
  },
  ENV_FILE_NOT_FOR_DOCKER: {
    about:
      'Lines of an env file begin with export, have white space before the =, or have a colon instead of =. genai-gateway reads them, but docker --env-file rejects the whole file.',
    remedy:
      'Write NAME=value. If you used export so that a shell can source the file: after set -a a shell exports every variable that it reads.',
  },
  DUPLICATE_ASSIGNMENT: {
    about:
      'A setting is set more than once in one env file. The last value is used. Often a block was copied without changing its index.',
    remedy: 'Correct the index, or remove all but one.',
  },
  SECRET_PADDED: {
    about:
      'A secret in an env file has white space around it. genai-gateway removes the white space; docker --env-file keeps it, and then the secret is wrong.',
    remedy: 'Remove the white space.',
  },
  ENV_FILE_VALUE_AMBIGUOUS: {
    about:
      'Programs that read env files interpret a value differently, because it contains a quote, a #, a $ or a backslash, or because of the text after it. Some would use only part of the value, or too much.',
    remedy: 'Write the whole value on one line in single quotes, without a comment or a comma after it.',
  },
  SECRET_FILE_UNREADABLE: {
    about: 'The file that a NAME_FILE variable names cannot be read.',
    remedy: 'Correct the path, or make the file readable.',
  },
  SECRET_QUOTED: {
    about:
      'A secret in an env file has quotes around it. docker --env-file would keep them as part of the secret.',
    remedy: 'If docker --env-file reads the file too, write the secret without quotes.',
  },
  SECRET_GIVEN_TWICE: {
    about: 'A secret is set both as a value and by a file.',
    remedy: 'Unset one of the two variables.',
  },
  SECRET_FILE_PATH: {
    about:
      'The path of a secret file, which the running gateway reads, is not absolute, or contains .. or special characters.',
    remedy: "Write the absolute path that the file has in the gateway's container.",
  },
  SECRET_FILE_REFUSED: {
    about:
      'The gateway reads this secret only from its environment, where the platform sets it, so a file for it has no effect.',
    remedy: 'Remove the NAME_FILE variable.',
  },
  SECRETS_INLINE: {
    about: 'The rendered files contain secrets, because GATEWAY_SECRETS=inline is set.',
    remedy: 'Use GATEWAY_SECRETS=reference, or let only uid 636 read the files.',
  },
  NO_BACKEND: {
    about: 'No backend is configured.',
    remedy: 'Set AZURE_OPENAI_ENDPOINT_0 and AZURE_OPENAI_KEY_0.',
  },
  BACKEND_WITHOUT_ENDPOINT: {
    about: 'A setting belongs to a backend that has no endpoint.',
    remedy: 'Set AZURE_OPENAI_ENDPOINT_N with the same number, or remove the setting.',
  },
  BACKEND_WITHOUT_CREDENTIAL: {
    about: 'A backend has no credential: neither a key nor a managed identity.',
    remedy: 'Set AZURE_OPENAI_KEY_N, or AZURE_OPENAI_AUTH_MODE_N=entra.',
  },
  KEY_UNUSED_WITH_ENTRA: {
    about: 'A backend has a key, but authenticates with Microsoft Entra ID. The key is not used.',
    remedy: 'Remove the key, or set AZURE_OPENAI_AUTH_MODE_N=api-key.',
  },
  ENDPOINT_HOST: {
    about:
      'The host of a backend is spelt almost like the host of an Azure resource. Probably it has a typing mistake.',
    remedy: "Copy the endpoint from the resource's page in the portal.",
  },
  ENDPOINT_INSECURE: {
    about:
      'The gateway calls a backend without TLS, so anyone on the network path can read the key and every prompt.',
    remedy: 'Write the endpoint with https://.',
  },
  ENDPOINT_PATH_DROPPED: {
    about: 'An endpoint has a path or a query. Only scheme and host are used.',
    remedy: 'Write only the address of the resource.',
  },
  DUPLICATE_NAME: {
    about: 'Two backends, two clients or two pools have the same name.',
    remedy: 'Give each its own name. Upper and lower case make no difference.',
  },
  DUPLICATE_BACKEND: {
    about: 'Two backends are the same resource with the same credential. That adds no capacity.',
    remedy: 'Remove one of the two, or raise the weight of the other.',
  },
  SAME_RESOURCE: {
    about:
      'Two backends are the same resource with different credentials, such as its first and second key. They share one capacity, so failover from one to the other does not help.',
    remedy: 'Keep one of the two. A second key is for rotation.',
  },
  OTHER_CLOUD: {
    about:
      'The audience or the authority of Entra tokens belongs to another cloud than the endpoint of the backend.',
    remedy:
      'Remove the setting: its default matches the endpoint. Or write the value for the cloud of the endpoint.',
  },
  EMPTY_GROUP: {
    about:
      'The variables of a backend, a client or a pool are set, but empty, so the gateway does not have it. Templates with optional values often do this.',
    remedy: 'Do nothing if you want no such backend, client or pool. Otherwise give the variables a value.',
  },
  ALL_BACKENDS_DRAINED: {
    about: 'Every backend has weight 0, so none gets requests.',
    remedy: 'Give at least one backend a weight of 1 or more.',
  },
  CLIENT_INDEX_GAP: {
    about: 'The numbers of the clients have a gap.',
    remedy: 'Number the clients 0, 1, 2 and so on.',
  },
  CLIENT_INCOMPLETE: {
    about: 'A client has a name without a key, or a key without a name.',
    remedy: 'Set GATEWAY_CLIENT_NAME_N and GATEWAY_CLIENT_KEY_N, or neither.',
  },
  DUPLICATE_CLIENT_KEY: {
    about: 'Two clients have the same key, so the gateway cannot tell them apart.',
    remedy: 'Give each client its own key.',
  },
  SHORT_CLIENT_KEY: {
    about: 'The key of a client has fewer than 16 characters and is easy to guess.',
    remedy: 'Use a random key, for example from openssl rand -hex 24.',
  },
  SINGLE_AND_INDEXED_CLIENTS: {
    about: 'GATEWAY_CLIENT_KEY defines one client, and numbered settings define clients too.',
    remedy: 'Use only numbered settings: GATEWAY_CLIENT_NAME_N and GATEWAY_CLIENT_KEY_N.',
  },
  MODELS_NOT_SERVED: {
    about:
      'A client may call models that no backend serves: every backend lists its deployments, and no list has these models.',
    remedy: 'Correct the names, or add the deployments to a backend.',
  },
  NO_CLIENT: {
    about: 'Authentication is on, but no client is configured.',
    remedy: 'Set GATEWAY_CLIENT_NAME_0 and GATEWAY_CLIENT_KEY_0.',
  },
  AUTH_OFF: {
    about: 'Authentication is off. Anyone who reaches the gateway can use your capacity.',
    remedy: 'Set GATEWAY_REQUIRE_AUTH=true and give each client a key.',
  },
  POOL_WITHOUT_NAME: {
    about: 'A pool has settings, but no name.',
    remedy: 'Set GATEWAY_POOL_NAME_N, or remove the other settings of the pool.',
  },
  POOL_NAME_RESERVED: {
    about:
      'A pool is named default. That is the name of the pool of the plain paths in metrics, logs and records.',
    remedy: 'Choose another name.',
  },
  POOL_PATH_RESERVED: {
    about:
      "The path of a pool begins with a segment that the gateway serves itself: one of its APIs, such as /openai or /v1, an operation that it also serves without the API's prefix, such as /chat, or one of its own endpoints, such as /readyz. GATEWAY_POOL_PATH_N is / and the name of the pool if it is not set.",
    remedy: 'Set GATEWAY_POOL_PATH_N to another prefix.',
  },
  POOL_PATHS_OVERLAP: {
    about: 'Two pools have the same path, or the path of one is the beginning of the path of the other.',
    remedy: 'Give each pool a path of its own, such as /search and /web.',
  },
  UNKNOWN_BACKEND: {
    about: 'GATEWAY_POOL_BACKENDS_N names a backend that does not exist.',
    remedy: 'Write a name of AZURE_OPENAI_NAME_N. A backend without one is backend-N.',
  },
  POOL_DRAINED: {
    about: 'Every backend of a pool has weight 0 there, so none gets requests.',
    remedy:
      'Give at least one backend a weight of 1 or more, in GATEWAY_POOL_BACKENDS_N or AZURE_OPENAI_WEIGHT_N.',
  },
  UNKNOWN_CLIENT: {
    about: 'GATEWAY_POOL_CLIENTS_N names a client that does not exist.',
    remedy: 'Write a name of GATEWAY_CLIENT_NAME_N. The client of GATEWAY_CLIENT_KEY is gateway-client.',
  },
  POOL_TOKENS_WITHOUT_OIDC: {
    about: 'GATEWAY_POOL_CLIENTS_N names subjects of tokens, but the gateway accepts no tokens.',
    remedy: 'Set ENABLE_OIDC=true with its settings, or name clients only.',
  },
  PREFERRED_WITHOUT_SECRET: {
    about:
      'The order of backends is set by a request to /helpers/set-preferred-backends. Without a shared secret any client can send it, and so move the requests of all others to other backends.',
    remedy: 'Set CONFIG_API_SHARED_SECRET, and give it only to what sets the order.',
  },
  TEST_MODE: {
    about:
      'GATEWAY_E2E_TEST_MODE=true adds the pools of the toolkit, with an endpoint by which any client moves the requests of others to other backends.',
    remedy: 'Use it for tests only. With `--strict`, `--allow TEST_MODE` keeps it a warning.',
  },
  TEST_MODE_BACKENDS: {
    about:
      'The pools of the test mode use backends by their names: ptu-backend-1, payg-backend-1 and payg-backend-2. One of them does not exist.',
    remedy: 'Give the backends these names with AZURE_OPENAI_NAME_N, or remove GATEWAY_E2E_TEST_MODE.',
  },
  HASH_KEY_INVALID: {
    about: 'LB_HASH_KEY is not a key of the kind that LB_HASH_ON names.',
    remedy: 'Write a key of that kind.',
  },
  AFFINITY_WITH_CHASH: {
    about: 'LB_AFFINITY and LB_ALG=chash both choose a backend by a key, so they cannot be used together.',
    remedy: 'Use one of the two.',
  },
  AFFINITY_HEADER: {
    about: 'LB_AFFINITY names a header that the gateway removes or replaces before it chooses a backend.',
    remedy: 'Name a header that has the same value in all requests of one conversation or session.',
  },
  RETRY_STATUSES_CONFLICT: {
    about: 'AI_PROXY_RETRY_STATUSES and AI_PROXY_FALLBACK_STRATEGY name different statuses.',
    remedy: 'Use AI_PROXY_RETRY_STATUSES alone.',
  },
  ABOVE_LIMIT: {
    about: 'The value of a setting is above that of another setting, which limits it.',
    remedy: 'Lower the first setting, or raise the second.',
  },
  NOT_BELOW: {
    about: 'The value of a setting must be less than that of another setting, and is not.',
    remedy: 'Lower the first setting, or raise the second.',
  },
  RESERVE_ABOVE_LIMIT: {
    about:
      'A budget of tokens reserves more for the high lane than it has, so no request of the low lane would pass.',
    remedy: 'Reserve a part of the budget, such as 30 percent.',
  },
  LIMITS_BY_DEFAULT: {
    about:
      'The token limits of the lanes are on, but a lane has no limit of its own, so a default applies: 200 tokens per minute in the high lane, 20 in the low lane, for the whole gateway. One conversation uses them up.',
    remedy: 'Set AI_RATE_LIMIT_HIGH_LIMIT and AI_RATE_LIMIT_LOW_LIMIT to what your backends can take.',
  },
  CACHE_ENTRY_SIZE: {
    about: 'The largest stored answer is too large for the memory of the answer cache.',
    remedy: 'Set CACHE_MEMORY to at least four times CACHE_MAX_ENTRY_SIZE.',
  },
  CACHE_NOT_ENCRYPTED: {
    about: 'The answer cache stores answers of models in Redis without encryption.',
    remedy: 'Set CACHE_ENCRYPTION_KEY, the same secret for all replicas.',
  },
  CACHE_SAME_KEYS: {
    about: 'The secret of the answer cache and its previous secret are the same.',
    remedy:
      'For a rotation, set CACHE_ENCRYPTION_KEY_PREVIOUS to the old secret and CACHE_ENCRYPTION_KEY to a new one. Otherwise remove CACHE_ENCRYPTION_KEY_PREVIOUS.',
  },
  REQUESTS_AND_TOKENS: {
    about: 'A client has a budget of tokens, but the limiter counts requests.',
    remedy: 'Give the client a limit of requests, or let the limiter count tokens.',
  },
  SILENT_STATUS: {
    about: 'The value is a status that nginx does not send: it closes the connection instead.',
    remedy: 'Use 429 or 503.',
  },
  TLS_WITHOUT_NAME: {
    about:
      'A setting gives the IP address of a server, but TLS checks the certificate of the server against a host name.',
    remedy: 'Write the host name in the certificate.',
  },
  PER_CLIENT_WITHOUT_AUTH: {
    about: 'A limit counts per client, but authentication is off, so the gateway does not know the clients.',
    remedy: 'Set GATEWAY_REQUIRE_AUTH=true, or count by something else.',
  },
  CORS_WILDCARD: {
    about: 'A CORS setting contains *, which browsers do not accept together with credentials.',
    remedy: 'List each value.',
  },
  ISSUER_INSECURE: {
    about:
      "The gateway fetches the token issuer's keys without TLS, so anyone on the network path can forge valid tokens.",
    remedy: 'Write the URL with https://.',
  },
  ISSUER_WITHOUT_TENANT: {
    about: 'The discovery URL is for all tenants: its document names an issuer that no token has.',
    remedy: 'Write the tenant id into the URL.',
  },
  IP_LISTS: {
    about: 'The restriction by IP address is on, but both lists are set, or neither.',
    remedy: 'Set exactly one of IP_WHITELIST and IP_BLACKLIST.',
  },
  INGESTION_PATH: {
    about: 'The URI is not the logs ingestion URI of a data collection rule.',
    remedy: 'Copy the logs ingestion URI with its /dataCollectionRules/ part.',
  },
  INGESTION_INSECURE: {
    about: 'The gateway sends records of requests, and the token for them, without TLS.',
    remedy: 'Write the URI with https://.',
  },
  INGESTION_STREAM: {
    about: 'Two settings name different streams for the records.',
    remedy: 'Name the stream in one of them.',
  },
  REMOTE_WRITE_PATH: {
    about: 'The remote write endpoint ends with /api/v1/write, which genai-gateway adds itself.',
    remedy: 'Remove that path and its query.',
  },
  REMOTE_WRITE_QUERIES: {
    about: "The setting has the workspace's query endpoint, which does not accept metrics.",
    remedy: "Use the workspace's metrics ingestion endpoint.",
  },
  TEMPLATES_UNREADABLE: {
    about: 'The folder of templates cannot be read.',
    remedy: 'Check the path given with --templates.',
  },
  TEMPLATE_UNKNOWN: {
    about:
      'One of your templates does not have the name of a template of this version, so it does not override any.',
    remedy: 'Rename it to the name of a template in templates/.',
  },
  TEMPLATE_BROKEN: {
    about: 'A template is not valid, or uses a value that does not exist.',
    remedy: 'Compare it with the template of this version that it overrides.',
  },
  TEMPLATE_RAW_VALUE: {
    about:
      'A template writes a value without encoding it, which can break the document or change its meaning.',
    remedy: 'Write every value as {{json value}}.',
  },
  DOCUMENT_NOT_YAML: {
    about: 'A rendered document is not valid YAML.',
    remedy: 'Check your own templates.',
  },
  DOCUMENT_INVALID: {
    about: 'A rendered document contains a field or a value that APISIX or the collector does not support.',
    remedy: 'Check your own templates.',
  },
  APISIX_REJECTS: {
    about:
      'APISIX was started with the rendered files and did not load all of them. It would ignore that part and serve the rest.',
    remedy: "Check your own templates. The diagnostic quotes APISIX's error log.",
  },
  FILE_EXISTS: {
    about: 'The file to write already exists.',
    remedy: 'Choose another name, or remove the file.',
  },
  TFVARS_UNREADABLE: {
    about: 'A .tfvars file that is to be imported cannot be read.',
    remedy: 'Check the path, the permissions, the size and the encoding of the file, which must be UTF-8.',
  },
  TFVARS_INVALID: {
    about:
      'import cannot take over a line of a .tfvars file: Terraform would not read it either, it has an expression in place of a value, or its value fits into no env file. import writes nothing then.',
    remedy: 'Correct the line, and import the file again.',
  },
  AGAINST_UNREADABLE: {
    about: 'The settings or files given with --against cannot be read.',
    remedy: 'Give a folder with rendered files, one rendered file, or an env file.',
  },
  OUTPUT_UNWRITABLE: {
    about: 'A file cannot be written. Nothing was changed.',
    remedy: 'Give this user write access to the folder, or choose another --out.',
  },
  LOCALHOST_IN_CONTAINER: {
    about:
      "A setting has a loopback address. In the gateway's container it means the container itself, not your machine.",
    remedy: 'Write an address that the container can reach.',
  },
  FILE_NOT_FOR_CONTAINER: {
    about: "A file cannot be mounted into the gateway's container.",
    remedy: 'Correct the path.',
  },
  CHANGE_NEEDS_START: {
    about:
      'A change is deferred to the next start, because it affects settings that APISIX reads only when it starts.',
    remedy: 'Restart the gateway.',
  },
  CHANGE_NEEDS_PROCESS: {
    about:
      'A change is deferred to the next start, because the APISIX process reads the variable from its own environment, which a running process keeps.',
    remedy:
      'Restart the gateway. For a secret you can use a file (NAME_FILE): its changes take effect without a restart.',
  },
  CHANGE_NEEDS_OTHERS: {
    about: 'A change is deferred, because it depends on other deferred changes.',
    remedy: 'Follow the diagnostics about those settings.',
  },
  CONFIG_OF_OTHER_SETTINGS: {
    about:
      'config.yaml does not match the settings that the gateway was started with, so no change can take effect until the next start.',
    remedy: 'Restart the gateway.',
  },
  NOT_RENDERED: {
    about: 'The rendered files that APISIX was started with cannot be read.',
    remedy: 'Check the folder given with --out.',
  },
  POLICY_FILE_UNREADABLE: {
    about: 'The policy file cannot be read.',
    remedy: 'Check that the path is right and that the file is YAML.',
  },
  POLICY_FILE_INVALID: {
    about: 'The policy contains an unknown rule, an unknown option, or an invalid value.',
    remedy: 'Correct the policy. docs/ci.md lists the rules.',
  },
  POLICY_AUTHENTICATION: {
    about: 'The policy requires authentication (rule authentication), and it is off.',
    remedy: 'Set GATEWAY_REQUIRE_AUTH=true and give each client a key.',
  },
  POLICY_SECRETS_BY_REFERENCE: {
    about: 'The policy does not allow secrets in rendered files (rule secrets-by-reference).',
    remedy: 'Set GATEWAY_SECRETS=reference.',
  },
  POLICY_SECRETS_IN_ENV_FILES: {
    about: 'The policy does not allow secrets in env files (rule secrets-in-env-files).',
    remedy:
      'Remove the secret from the env file, replace it, and give it to the process in its environment or as a file.',
  },
  POLICY_MANAGED_IDENTITY: {
    about: 'The policy does not allow keys for backends (rule managed-identity).',
    remedy: 'Set AZURE_OPENAI_AUTH_MODE_N=entra and remove the key.',
  },
  POLICY_TLS: {
    about: 'The policy requires TLS (rule tls), and the gateway calls a server without TLS.',
    remedy: 'Write the URL with https://, or turn TLS on.',
  },
  POLICY_BACKENDS: {
    about: 'The policy requires more backends that get requests (rule backends).',
    remedy: 'Add backends, or give drained backends a weight above 0.',
  },
  POLICY_REGIONS: {
    about: 'The policy requires backends in more regions (rule regions).',
    remedy: 'Set AZURE_OPENAI_REGION_N for each backend, and add backends in other regions.',
  },
  POLICY_ALLOWED_REGIONS: {
    about: 'The policy does not allow the region of a backend (rule allowed-regions).',
    remedy: 'Use a resource in an allowed region.',
  },
  POLICY_ALLOWED_HOSTS: {
    about: 'The policy does not allow the host of a backend (rule allowed-hosts).',
    remedy: 'Use an endpoint on an allowed host.',
  },
  POLICY_ALLOWED_MODELS: {
    about: 'The policy does not allow a model that a backend serves (rule allowed-models).',
    remedy: 'List only allowed models in AZURE_OPENAI_DEPLOYMENTS_N.',
  },
  POLICY_CLIENT_KEY_LENGTH: {
    about: 'The key of a client is shorter than the policy requires (rule client-key-length).',
    remedy: 'Use a longer random key.',
  },
  POLICY_CLIENT_BUDGETS: {
    about: 'The policy requires a token budget for every client (rule client-budgets).',
    remedy: 'Set GATEWAY_CLIENT_TOKENS_PER_MINUTE_N or GATEWAY_CLIENT_TOKENS_PER_DAY_N.',
  },
  POLICY_CLIENT_MODELS: {
    about: 'The policy requires a list of models for every client (rule client-models).',
    remedy: 'Set GATEWAY_CLIENT_MODELS_N.',
  },
  POLICY_ORIGINS: {
    about: 'The policy allows only named origins, not * (rule origins).',
    remedy: 'List each origin in CORS_ALLOW_ORIGINS.',
  },
  POLICY_ADDRESSES: {
    about: 'The policy requires a list of the IP addresses that may reach the gateway (rule addresses).',
    remedy: 'Set ENABLE_IP_RESTRICTION=true and IP_WHITELIST.',
  },
  POLICY_PROMPTS: {
    about: 'The policy does not allow prompts in records (rule prompts).',
    remedy: 'Remove the setting that includes request bodies.',
  },
  POLICY_LOG_LEVEL: {
    about:
      'The policy does not allow the log levels info and debug (rule log-level), at which APISIX logs the query strings of requests.',
    remedy: 'Set APISIX_LOG_LEVEL=warn.',
  },
};

/** Diagnostics whose subject is a file or a folder, not a variable. */
const ABOUT_FILES: ReadonlySet<DiagnosticCode> = new Set<DiagnosticCode>([
  'ENV_FILE_UNREADABLE',
  'ENV_FILE_NOT_READ',
  'ENV_FILE_NOT_TEXT',
  'ENV_FILE_FORMAT',
  'ENV_FILE_LINE_IGNORED',
  'ENV_FILE_NOT_FOR_DOCKER',
  'TEMPLATES_UNREADABLE',
  'TEMPLATE_UNKNOWN',
  'TEMPLATE_BROKEN',
  'TEMPLATE_RAW_VALUE',
  'DOCUMENT_NOT_YAML',
  'DOCUMENT_INVALID',
  'APISIX_REJECTS',
  'FILE_EXISTS',
  'TFVARS_UNREADABLE',
  'AGAINST_UNREADABLE',
  'OUTPUT_UNWRITABLE',
  'CONFIG_OF_OTHER_SETTINGS',
  'NOT_RENDERED',
  'POLICY_FILE_UNREADABLE',
  'POLICY_FILE_INVALID',
]);

/** Whether the `setting` of a diagnostic is the name of a file. */
export const isAboutFile = (code: DiagnosticCode): boolean => ABOUT_FILES.has(code);

/** `DUPLICATE_NAME` as `DuplicateName`. */
export const ruleName = (code: string): string =>
  code
    .split('_')
    .map((word) => word.charAt(0) + word.slice(1).toLowerCase())
    .join('');

/** The page of all diagnostics, as Markdown. */
export function diagnosticsReference(): string {
  const entries = Object.entries(DESCRIPTIONS)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, { about, remedy }]) => `## ${code}\n\n${about}\n\n**What to do:** ${remedy}\n`);
  return `# Diagnostics

For everyone who runs \`genai-gateway\`: the diagnostics that its commands report, by code, and what to do about each.
Each diagnostic names the variable, the source of its value, the expected value, and what to write instead. Codes are
stable, so programs can rely on them. This page is generated by \`npm run generate\`.

${entries.join('\n')}`;
}
