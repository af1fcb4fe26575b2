import { setting } from '../declaration.ts';
import { absolutePath, apiKey, boolean, cidr, list, oneOf, size, text } from '../types.ts';

const section = 'Gateway';
const PROXY = 'apisix.yaml: services[].plugins.azure-openai-proxy';

const workers = text(
  'a whole number from 1 to 256, or auto',
  /^(?:[aA][uU][tT][oO]|[1-9]\d?|1\d\d|2[0-4]\d|25[0-6])$/,
);

export const gatewaySettings = {
  GATEWAY_REQUIRE_AUTH: setting(boolean(), {
    section,
    description: 'Requests need a client key. Off, anyone who reaches the gateway spends your capacity.',
    default: true,
    example: 'true',
    output: 'apisix.yaml: services[].plugins.azure-openai-auth.required',
  }),
  GATEWAY_CLIENT_KEY: setting(apiKey(), {
    section,
    description: 'Key of the one client `gateway-client`, where indexed clients are not needed.',
    defaultText: 'none',
    example: '<16 characters or more>',
    output: 'apisix.yaml: consumers[].plugins.azure-openai-auth.key',
    sensitive: true,
    changed: 'makes a client wherever it is set alone; in the accelerator it acted only by accident',
  }),
  GATEWAY_SECRETS: setting(oneOf(['reference', 'inline']), {
    section,
    description:
      'How secrets are written: `reference` names the variable or file that holds it and APISIX reads it, `inline` writes the value (files 0640).',
    default: 'reference',
    example: 'reference',
    output: 'every sensitive value',
    isNew: true,
  }),
  GATEWAY_LOG_FORMAT: setting(oneOf(['text', 'json']), {
    section,
    description: 'Format of the diagnostics when --format is not given.',
    default: 'text',
    example: 'json',
    output: 'stderr',
    isNew: true,
  }),
  GATEWAY_ENV_FILES: setting(list(absolutePath()), {
    section,
    description:
      'Env files to read, before those of --env-file; in the image APISIX gets what they give. Only as a variable of the process itself.',
    defaultText: 'none',
    example: '/etc/genai-gateway/gateway.env',
    output: 'none (read by every command, and by the image)',
    isNew: true,
  }),
  GATEWAY_SHARED_DIR: setting(absolutePath(), {
    section,
    description:
      'Folder of files that another container has rendered: with it the image renders nothing, and starts APISIX from there. Only as a variable of the process itself.',
    defaultText: 'none',
    example: '/shared-configs/gateway',
    output: 'none (read by the image)',
  }),
  GATEWAY_WATCH: setting(boolean(), {
    section,
    description: 'In the image: follow env and secret files at run time, as `genai-gateway watch` does.',
    default: false,
    example: 'false',
    output: 'none',
    isNew: true,
  }),
  GATEWAY_LOG_MODE: setting(oneOf(['prod', 'test', 'dev']), {
    section,
    description:
      'Detail of the access log, default trace sampling (0.1, 0.5, 1), and the debug exporter in dev.',
    default: 'prod',
    example: 'prod',
    output: 'config.yaml: nginx_config.http.access_log_format; otel-collector.yaml: exporters',
    changed: 'its default trace sampling now acts; the accelerator exported no trace in any mode',
  }),
  APISIX_LOG_LEVEL: setting(oneOf(['debug', 'info', 'notice', 'warn', 'error', 'crit', 'alert', 'emerg']), {
    section,
    description: "Level of APISIX's error log.",
    default: 'warn',
    example: 'warn',
    output: 'config.yaml: nginx_config.error_log_level',
  }),
  GATEWAY_WORKERS: setting(workers, {
    section,
    description: 'Worker processes; `auto` is one for each CPU that nginx sees.',
    default: 'auto',
    example: '2',
    output: 'config.yaml: nginx_config.worker_processes',
    isNew: true,
  }),
  GATEWAY_MAX_BODY_SIZE: setting(size(1024, 10 * 1024 ** 3), {
    section,
    description: 'Largest request body; 413 above it.',
    default: 100 * 1024 ** 2,
    defaultText: '100m',
    example: '100m',
    output: 'config.yaml: nginx_config.http.client_max_body_size',
    isNew: true,
  }),
  GATEWAY_BODY_MEMORY: setting(size(1024 ** 2, 64 * 1024 ** 3), {
    section,
    description:
      'Memory for request bodies, over all workers. When most of it is used, bodies go to disk through a smaller buffer; when all of it is used, requests get 503 with Retry-After.',
    default: 128 * 1024 ** 2,
    defaultText: '128m',
    example: '128m',
    output: 'config.yaml: plugin_attr.azure-openai-proxy.body_memory',
    isNew: true,
  }),
  GATEWAY_TRUSTED_PROXIES: setting(list(cidr()), {
    section,
    description: 'Proxies whose X-Forwarded-For is believed, for IP rules and limits per IP.',
    defaultText: 'none',
    example: '10.0.0.0/8',
    output: 'config.yaml: nginx_config.http.real_ip_from',
    isNew: true,
  }),
  GATEWAY_TRUSTED_CA_FILE: setting(absolutePath(), {
    section,
    description:
      'PEM file with all the CAs that certificates of backends, of Redis and of the issuer of tokens are verified with; a path on the machine of APISIX, which does not start without the file.',
    defaultText: "the system's CAs",
    example: '/etc/ssl/certs/with-our-own.pem',
    output: 'config.yaml: apisix.ssl.ssl_trusted_certificate',
    isNew: true,
  }),
  GATEWAY_PRODUCT_ID: setting(text('1 to 256 printable characters', /^[^\p{C}]{1,256}$/u), {
    section,
    description: 'Product id in APIM-style records.',
    defaultText: 'none',
    example: 'genai',
    output: 'apisix.yaml: services[].plugins.apim-gateway-logger.product_id',
  }),
  APIM_GATEWAY_ID: setting(text('1 to 256 printable characters', /^[^\p{C}]{1,256}$/u), {
    section,
    description: 'Gateway id in APIM-style records.',
    default: 'apisix-gateway',
    example: 'apisix-gateway',
    output: 'apisix.yaml: services[].plugins.apim-gateway-logger.gateway_id',
  }),
  GATEWAY_BACKEND_HEADER: setting(boolean(), {
    section,
    description: 'Adds x-gateway-backend and x-gateway-attempts to responses.',
    default: false,
    example: 'true',
    output: `${PROXY}.backend_header`,
    isNew: true,
  }),
  GATEWAY_E2E_TEST_MODE: setting(boolean(), {
    section,
    description:
      "Path prefixes, header shim and preferred-backend endpoint of the APIM toolkit's scenarios. Not built yet: turning it on is an error.",
    default: false,
    example: 'false',
    output: `apisix.yaml: routes[]; ${PROXY}.e2e_test_mode`,
  }),
} as const;
