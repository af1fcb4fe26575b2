import { setting } from '../declaration.ts';
import { backendHeader } from '../effective.ts';
import { absolutePath, apiKey, boolean, cidr, duration, list, oneOf, size, text } from '../types.ts';
import { RECORDS } from './conditions.ts';

const section = 'Gateway';
const PROXY = 'apisix.yaml: services[].plugins.azure-openai-proxy';

const workers = text(
  'a whole number from 1 to 256, or auto',
  /^(?:[aA][uU][tT][oO]|[1-9]\d?|1\d\d|2[0-4]\d|25[0-6])$/,
);

export const gatewaySettings = {
  GATEWAY_REQUIRE_AUTH: setting(boolean(), {
    section,
    description:
      'Requests need a client key or a token. If this is false, anyone who reaches the gateway can use your backends.',
    default: true,
    example: 'true',
    output: ['apisix.yaml: services[].plugins.azure-openai-auth.required'],
  }),
  GATEWAY_CLIENT_KEY: setting(apiKey(), {
    section,
    description: 'Key of the only client, `gateway-client`, if you need no numbered clients.',
    defaultText: 'none',
    example: '<16 characters or more>',
    output: ['apisix.yaml: clients[].key'],
    sensitive: true,
    changed:
      'it always defines a client if it is set alone; in the accelerator it had an effect only by accident',
  }),
  GATEWAY_SECRETS: setting(oneOf(['reference', 'inline']), {
    section,
    description:
      'How rendered files contain secrets: `reference` writes the name of the variable or file, which APISIX reads; `inline` writes the secret itself (file mode 0640).',
    default: 'reference',
    example: 'reference',
    output: [],
    outputText: 'every sensitive value',
    isNew: true,
  }),
  GATEWAY_LOG_FORMAT: setting(oneOf(['text', 'json']), {
    section,
    description: 'Format of the diagnostics if --format is not given.',
    default: 'text',
    example: 'json',
    output: [],
    outputText: 'stderr',
    isNew: true,
  }),
  GATEWAY_STRICT: setting(boolean(), {
    section,
    description:
      'Treats warnings as errors, like `--strict`. In the image, a setting with a warning then prevents the start.',
    default: false,
    example: 'true',
    output: [],
    isNew: true,
  }),
  GATEWAY_ENV_FILES: setting(list(absolutePath()), {
    section,
    description:
      'Env files to read, before those of --env-file. In the image, APISIX gets their variables too. Set it in the environment of the process, not in an env file.',
    defaultText: 'none',
    example: '/etc/genai-gateway/gateway.env',
    output: [],
    outputText: 'none (read by every command, and by the image)',
    isNew: true,
  }),
  GATEWAY_SHARED_DIR: setting(absolutePath(), {
    section,
    description:
      'Folder with files that another container rendered. With it the image does not render, and starts APISIX with these files. Set it in the environment of the process, not in an env file.',
    defaultText: 'none',
    example: '/shared-configs/gateway',
    output: [],
    outputText: 'none (read by the image)',
  }),
  GATEWAY_WATCH: setting(boolean(), {
    section,
    description:
      'In the image: applies changes of env files and secret files at run time, like `genai-gateway watch`.',
    default: false,
    example: 'false',
    output: [],
    isNew: true,
  }),
  GATEWAY_LOG_MODE: setting(oneOf(['prod', 'test', 'dev']), {
    section,
    description:
      'Sets the detail of the access log, the default of OTEL_SAMPLE_RATE (0.1 in prod, 0.5 in test, 1 in dev), and turns the debug exporter on in dev.',
    default: 'prod',
    example: 'prod',
    output: [
      'config.yaml: nginx_config.http.access_log_format',
      'apisix.yaml: services[].plugins.file-logger.log_format',
      'apisix.yaml: services[].plugins.azure-openai-traces.sample_rate',
      'otel-collector.yaml: exporters.debug',
    ],
    changed: 'its default trace sampling has an effect; the accelerator exported no traces in any mode',
  }),
  APISIX_LOG_LEVEL: setting(oneOf(['debug', 'info', 'notice', 'warn', 'error', 'crit', 'alert', 'emerg']), {
    section,
    description: "Level of APISIX's error log.",
    default: 'warn',
    example: 'warn',
    output: ['config.yaml: nginx_config.error_log_level'],
  }),
  GATEWAY_WORKERS: setting(workers, {
    section,
    description: 'Number of worker processes. `auto` is one for each CPU that nginx sees.',
    default: 'auto',
    example: '2',
    output: ['config.yaml: nginx_config.worker_processes'],
    isNew: true,
  }),
  GATEWAY_MAX_BODY_SIZE: setting(size(1024, 10 * 1024 ** 3), {
    section,
    description: 'Largest request body. Larger bodies get 413.',
    default: 100 * 1024 ** 2,
    example: '100m',
    output: ['config.yaml: nginx_config.http.client_max_body_size'],
    isNew: true,
  }),
  GATEWAY_BODY_MEMORY: setting(size(1024 ** 2, 64 * 1024 ** 3), {
    section,
    description:
      'Memory for request bodies, over all workers. When most of it is used, bodies go to disk through a smaller buffer; when all of it is used, requests get 503 with Retry-After.',
    default: 128 * 1024 ** 2,
    example: '128m',
    output: ['config.yaml: plugin_attr.azure-openai-proxy.body_memory'],
    isNew: true,
  }),
  GATEWAY_CLIENT_SEND_TIMEOUT: setting(duration({ min: 1_000 }), {
    section,
    description:
      'Longest time for which a client may stop reading an answer. After it the gateway closes the connection.',
    default: 600_000,
    example: '10m',
    output: ['config.yaml: nginx_config.http.send_timeout'],
    isNew: true,
  }),
  GATEWAY_ALLOW_UNTESTED_APISIX: setting(boolean(), {
    section,
    description:
      'Allows an APISIX version that this gateway was not tested with; the error log has a warning. If this is false, the gateway never becomes ready on such a version. If APISIX lacks a function that the gateway needs, it never becomes ready in any case.',
    default: false,
    example: 'false',
    output: ['config.yaml: plugin_attr.azure-openai-proxy.allow_untested_apisix'],
    isNew: true,
  }),
  GATEWAY_TRUSTED_PROXIES: setting(list(cidr()), {
    section,
    description:
      'Proxies whose X-Forwarded-For header the gateway trusts, for IP rules and limits per IP address.',
    defaultText: 'none',
    example: '10.0.0.0/8',
    output: ['config.yaml: nginx_config.http.real_ip_from'],
    isNew: true,
  }),
  GATEWAY_TRUSTED_CA_FILE: setting(absolutePath(), {
    section,
    description:
      'PEM file with all CAs that the gateway trusts, for certificates of backends, Redis and the token issuer. It is a path where APISIX runs; APISIX does not start without the file.',
    defaultText: "the system's CAs",
    example: '/etc/ssl/certs/with-our-own.pem',
    output: ['config.yaml: apisix.ssl.ssl_trusted_certificate'],
    isNew: true,
  }),
  GATEWAY_PRODUCT_ID: setting(text('1 to 256 printable characters', /^[^\p{C}]{1,256}$/u), {
    section,
    description: 'Product id in APIM-style records.',
    defaultText: 'none',
    example: 'genai',
    output: ['apisix.yaml: services[].plugins.apim-gateway-logger.product_id'],
    needs: RECORDS,
  }),
  APIM_GATEWAY_ID: setting(text('1 to 256 printable characters', /^[^\p{C}]{1,256}$/u), {
    section,
    description: 'Gateway id in APIM-style records.',
    default: 'apisix-gateway',
    example: 'apisix-gateway',
    output: ['apisix.yaml: services[].plugins.apim-gateway-logger.gateway_id'],
    needs: RECORDS,
  }),
  GATEWAY_BACKEND_HEADER: setting(boolean(), {
    section,
    description: 'Adds x-gateway-backend and x-gateway-attempts to responses.',
    default: false,
    defaultText: 'false; true with GATEWAY_E2E_TEST_MODE',
    example: 'true',
    output: [`${PROXY}.backend_header`],
    effective: backendHeader,
    isNew: true,
  }),
  GATEWAY_E2E_TEST_MODE: setting(boolean(), {
    section,
    description:
      'Adds the pools of the APIM GenAI gateway toolkit, such as `/latency-routing`, over the backends ptu-backend-1, payg-backend-1 and payg-backend-2. Only for tests: never turn it on in production.',
    default: false,
    example: 'true',
    output: ['apisix.yaml: services[].id', 'otel-collector.yaml: service.pipelines.metrics/tokens'],
    changed:
      'each scenario has backends and rules of its own; in the accelerator all had the same backend list',
  }),
} as const;
