import { type Condition, setting } from '../declaration.ts';
import {
  debugExporter,
  identityClientId,
  recordsClientId,
  recordsStream,
  recordsTokenEndpoint,
  recordsTokenSecret,
  sampleRate,
} from '../effective.ts';
import {
  absolutePath,
  apiKey,
  boolean,
  duration,
  hostPort,
  integer,
  list,
  modelPrice,
  number,
  oneOf,
  size,
  text,
  url,
} from '../types.ts';
import { hasValue, RECORDS } from './conditions.ts';

const section = 'Telemetry';
const COLLECTOR = 'otel-collector.yaml';
const REMOTE_WRITE = `${COLLECTOR}: exporters.prometheus_remote_write/azure` as const;
const LOGGER = 'apisix.yaml: services[].plugins.apim-gateway-logger';
const RESOURCE = `${COLLECTOR}: processors.resource.attributes[].value` as const;
const SCRAPE = `${COLLECTOR}: receivers.prometheus.config.scrape_configs[]` as const;
const TRACING = 'apisix.yaml: services[].plugins.azure-openai-traces';
/** The places that contain the client id of the gateway's own identity. */
export const IDENTITY_OUTPUT = [
  `${COLLECTOR}: extensions.azure_auth.managed_identity.client_id`,
  'apisix.yaml: services[].plugins.azure-openai-proxy.backends[].identity.client_id',
  `${LOGGER}.msi_client_id`,
] as const;
const label = text('1 to 256 printable characters', /^[^\p{C}]{1,256}$/u);
const clientId = text('the client id of a managed identity', /^[A-Za-z0-9-]{1,100}$/);

const TRACES: Condition = hasValue('OTEL_COLLECTOR_ENDPOINT');
const REMOTE_WRITE_ON: Condition = hasValue('AZURE_MONITOR_WORKSPACE_ENDPOINT');
const METRICS_EXPORTED: Condition = {
  when: (settings) =>
    settings.values.AZURE_MONITOR_WORKSPACE_ENDPOINT !== undefined || debugExporter(settings).value,
  words: 'AZURE_MONITOR_WORKSPACE_ENDPOINT or ENABLE_DEBUG_EXPORTER=true',
  switches: ['AZURE_MONITOR_WORKSPACE_ENDPOINT', 'ENABLE_DEBUG_EXPORTER'],
};
const MEMORY_LIMIT: Condition = hasValue('OTEL_MEMORY_LIMIT_MIB');

export const telemetrySettings = {
  OTEL_COLLECTOR_ENDPOINT: setting(hostPort(), {
    section,
    description: 'Turns traces on, and sends them to this collector (host:port of OTLP over HTTP).',
    defaultText: 'none',
    example: '127.0.0.1:4318',
    output: [`${TRACING}.collector`],
    changed: 'traces are exported; the accelerator sampled none',
  }),
  OTEL_SERVICE_NAME: setting(label, {
    section,
    description: 'Name of the service in traces and metrics.',
    default: 'apisix-gateway',
    example: 'genai-gateway',
    output: [`${TRACING}.resource`, RESOURCE],
  }),
  OTEL_SAMPLE_RATE: setting(number({ min: 0, max: 1 }), {
    section,
    description:
      'Share of traces that the gateway records. With its trace flags a caller can prevent the recording of its own traces, but cannot cause more.',
    defaultText: '0.1 in prod, 0.5 in test, 1 in dev',
    example: '0.1',
    output: [`${TRACING}.sample_rate`],
    needs: TRACES,
    effective: sampleRate,
    changed: 'this setting has an effect; in the accelerator it had none',
  }),
  SERVICE_VERSION: setting(label, {
    section,
    description: 'Resource attribute service.version.',
    default: 'unknown',
    example: '1.10.0',
    output: [`${TRACING}.resource`, RESOURCE],
    // A commit id is allowed.
    mayLookLikeKey: /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/,
  }),
  ENVIRONMENT: setting(label, {
    section,
    description: 'Resource attribute deployment.environment and label of metrics.',
    default: 'dev',
    example: 'prod',
    output: [`${TRACING}.resource`, RESOURCE, `${REMOTE_WRITE}.external_labels.environment`],
  }),
  CLOUD_PLATFORM: setting(label, {
    section,
    description: 'Resource attribute cloud.platform.',
    default: 'azure_container_apps',
    example: 'azure_aks',
    output: [RESOURCE],
  }),
  CLUSTER_NAME: setting(label, {
    section,
    description: 'Label `cluster` of exported metrics.',
    default: 'apisix-gateway',
    example: 'apisix-gateway',
    output: [`${REMOTE_WRITE}.external_labels.cluster`],
  }),
  APPLICATIONINSIGHTS_CONNECTION_STRING: setting(text('a connection string', /^[\x20-\x7e]{1,4096}$/), {
    section,
    description: 'Turns on the export of traces and logs to this Application Insights.',
    defaultText: 'none',
    example: '<connection string>',
    output: [`${COLLECTOR}: exporters.azure_monitor.connection_string`],
    sensitive: true,
  }),
  AZURE_MONITOR_WORKSPACE_ENDPOINT: setting(url({ query: true }), {
    section,
    description:
      'Turns on remote write of metrics to this Azure Monitor workspace: its metrics ingestion endpoint, without /api/v1/write.',
    defaultText: 'none',
    example:
      'https://name.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0/streams/Microsoft-PrometheusMetrics',
    output: [`${REMOTE_WRITE}.http.endpoint`],
  }),
  AZURE_CLIENT_ID: setting(clientId, {
    section,
    description:
      'Client id of the user-assigned managed identity, for uses that have no more specific setting.',
    defaultText: 'none (the system-assigned identity)',
    example: '00000000-0000-0000-0000-000000000000',
    output: IDENTITY_OUTPUT,
    effective: identityClientId,
  }),
  PROMETHEUS_REMOTE_WRITE_ORG_ID: setting(
    text('1 to 256 printable ASCII characters', /^[\x21-\x7e]{1,256}$/),
    {
      section,
      description: 'X-Scope-OrgID of remote write.',
      default: 'anonymous',
      example: 'anonymous',
      output: [`${REMOTE_WRITE}.http.headers.X-Scope-OrgID`],
      needs: REMOTE_WRITE_ON,
    },
  ),
  PROMETHEUS_REMOTE_WRITE_QUEUE_ENABLED: setting(boolean(), {
    section,
    description: 'Queues metrics before remote write.',
    default: true,
    example: 'true',
    output: [`${REMOTE_WRITE}.remote_write_queue.enabled`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_QUEUE_SIZE: setting(integer(1, 10_000_000), {
    section,
    description: 'Size of that queue.',
    default: 10_000,
    example: '10000',
    output: [`${REMOTE_WRITE}.remote_write_queue.queue_size`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_QUEUE_CONSUMERS: setting(integer(1, 1_000), {
    section,
    description: 'Consumers of that queue.',
    default: 5,
    example: '5',
    output: [`${REMOTE_WRITE}.remote_write_queue.num_consumers`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_RETRY_ENABLED: setting(boolean(), {
    section,
    description: 'Retries failed remote writes.',
    default: true,
    example: 'true',
    output: [`${REMOTE_WRITE}.retry_on_failure.enabled`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_RETRY_INITIAL: setting(duration(), {
    section,
    description: 'First pause before a retry.',
    default: 5_000,
    example: '5s',
    output: [`${REMOTE_WRITE}.retry_on_failure.initial_interval`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_RETRY_MAX: setting(duration(), {
    section,
    description: 'Longest pause before a retry.',
    default: 30_000,
    example: '30s',
    output: [`${REMOTE_WRITE}.retry_on_failure.max_interval`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_RETRY_MAX_ELAPSED: setting(duration(), {
    section,
    description: 'Time after which the collector stops retrying a remote write.',
    default: 300_000,
    example: '5m',
    output: [`${REMOTE_WRITE}.retry_on_failure.max_elapsed_time`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_REMOTE_WRITE_TIMEOUT: setting(duration(), {
    section,
    description: 'Longest wait for one remote write.',
    default: 30_000,
    example: '30s',
    output: [`${REMOTE_WRITE}.http.timeout`],
    needs: REMOTE_WRITE_ON,
  }),
  PROMETHEUS_SCRAPE_INTERVAL: setting(duration({ min: 1_000 }), {
    section,
    description: "Time between scrapes of the gateway's metrics.",
    default: 30_000,
    example: '30s',
    output: [`${SCRAPE}.scrape_interval`],
    needs: METRICS_EXPORTED,
  }),
  PROMETHEUS_SCRAPE_TIMEOUT: setting(duration(), {
    section,
    description: 'Longest wait for one scrape; less than the interval.',
    default: 10_000,
    example: '10s',
    output: [`${SCRAPE}.scrape_timeout`],
    needs: METRICS_EXPORTED,
  }),
  APISIX_GATEWAY_ENDPOINT: setting(hostPort(), {
    section,
    description: "Host and port at which the collector reads the gateway's metrics.",
    default: '127.0.0.1:9091',
    example: 'gateway:9091',
    output: [`${SCRAPE}.static_configs[].targets[]`],
    needs: METRICS_EXPORTED,
  }),
  APISIX_METRICS_PATH: setting(absolutePath(), {
    section,
    description: "Path of the gateway's metrics.",
    default: '/apisix/prometheus/metrics',
    example: '/apisix/prometheus/metrics',
    output: ['config.yaml: plugin_attr.prometheus.export_uri', `${SCRAPE}.metrics_path`],
    changed: 'it changes the path on the gateway too, not only in the collector',
  }),
  GATEWAY_METRICS_MEMORY: setting(size(8 * 1024 ** 2, 1024 ** 3), {
    section,
    description:
      'Shared memory for metrics. The default has room for 25,000 lines and 5 MB of text. When it is full, new series get the label value `other`.',
    default: 40 * 1024 ** 2,
    example: '40m',
    output: [
      'config.yaml: nginx_config.http.lua_shared_dict.prometheus-metrics',
      'config.yaml: nginx_config.meta.lua_shared_dict.prometheus-cache',
      'config.yaml: plugin_attr.azure-openai-metrics',
    ],
    isNew: true,
  }),
  OTEL_LOG_LEVEL: setting(oneOf(['debug', 'info', 'warn', 'error']), {
    section,
    description: "Level of the collector's own log.",
    default: 'info',
    example: 'info',
    output: [`${COLLECTOR}: service.telemetry.logs.level`],
  }),
  OTEL_BATCH_TIMEOUT: setting(duration(), {
    section,
    description: 'Longest time for which the collector collects a batch before it sends it.',
    default: 10_000,
    example: '10s',
    output: [`${COLLECTOR}: processors.batch.timeout`],
  }),
  OTEL_BATCH_SIZE: setting(integer(1, 1_000_000), {
    section,
    description: 'Number of items in a batch.',
    default: 1024,
    example: '1024',
    output: [`${COLLECTOR}: processors.batch.send_batch_size`],
  }),
  OTEL_MEMORY_LIMIT_MIB: setting(integer(16, 1_048_576), {
    section,
    description:
      "Memory limit of the collector in MiB. Keep it below the limit of the collector's container.",
    defaultText: "75 % of the memory of the collector's container",
    example: '400',
    output: [`${COLLECTOR}: processors.memory_limiter.limit_mib`],
  }),
  OTEL_MEMORY_SPIKE_MIB: setting(integer(1, 1_048_576), {
    section,
    description: 'Part of that limit that is reserved for spikes. It must be less than the limit.',
    defaultText: 'a fifth of that limit',
    example: '100',
    output: [`${COLLECTOR}: processors.memory_limiter.spike_limit_mib`],
    needs: MEMORY_LIMIT,
  }),
  ENABLE_DEBUG_EXPORTER: setting(boolean(), {
    section,
    description: 'Prints all telemetry to the log of the collector.',
    defaultText: 'true in dev, else false',
    example: 'false',
    output: [`${COLLECTOR}: exporters.debug`],
    effective: debugExporter,
  }),
  APISIX_LOGS_PATH: setting(absolutePath(), {
    section,
    description:
      'File for a JSON access log that the collector reads. It must be on a volume that both containers share.',
    defaultText: 'none',
    example: '/var/log/genai-gateway/access.json',
    output: [
      'apisix.yaml: services[].plugins.file-logger.path',
      `${COLLECTOR}: receivers.file_log.include[]`,
    ],
    changed:
      'the gateway writes the file and the collector reads it in every mode; if it is not set, neither happens',
  }),
  MODEL_PRICES: setting(
    list(modelPrice(), (each) => each.model.toLowerCase()),
    {
      section,
      description:
        'Prices in USD per million tokens, for cost metrics: `model=prompt/completion`, with the name of the model that clients or the backend use. Metrics show a model as `other` if neither this setting nor AZURE_OPENAI_DEPLOYMENTS_N names it.',
      defaultText: 'none',
      example: 'gpt-4o=2.50/10,gpt-4o-mini=0.15/0.60',
      output: [
        `${COLLECTOR}: processors.metrics_transform`,
        'apisix.yaml: services[].plugins.azure-openai-proxy.metrics.models',
      ],
      needs: METRICS_EXPORTED,
      isNew: true,
    },
  ),
  APIM_GATEWAY_LOGS_INGEST_URI: setting(url({ query: true }), {
    section,
    description:
      'Turns APIM-style records on, and sends them to this logs ingestion URI of a data collection rule, with or without its stream.',
    defaultText: 'none',
    example:
      'https://dce.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01',
    output: [`${LOGGER}.dcr_ingest_uri`],
  }),
  APIM_GATEWAY_LOGS_STREAM: setting(text('1 to 100 letters, digits, _ or -', /^[A-Za-z0-9_-]{1,100}$/), {
    section,
    description: 'Stream of the data collection rule, if the URI has none.',
    default: 'Custom-APISIXGatewayLogs',
    example: 'Custom-APISIXGatewayLogs',
    output: [`${LOGGER}.dcr_ingest_uri`],
    needs: RECORDS,
    effective: recordsStream,
    changed: 'it is used if the URI ends before the stream',
  }),
  APIM_GATEWAY_LOGS_INCLUDE_REQ_BODY: setting(boolean(), {
    section,
    description: 'Adds the first 32 KiB of JSON request bodies to records. These contain prompts.',
    default: false,
    example: 'false',
    output: [`${LOGGER}.include_req_body`],
    needs: RECORDS,
    changed: 'it works; in the accelerator it ended all logging of a request',
  }),
  APIM_GATEWAY_LOGS_BATCH_MAX_SIZE: setting(integer(1, 1_000), {
    section,
    description: 'Records in a batch.',
    default: 100,
    example: '100',
    output: [`${LOGGER}.batch_max_size`],
    needs: RECORDS,
  }),
  APIM_GATEWAY_LOGS_BATCH_FLUSH_INTERVAL: setting(integer(1, 3_600), {
    section,
    description: 'Seconds after which a batch is sent even if it is not full.',
    default: 5,
    example: '5',
    output: [`${LOGGER}.batch_flush_interval`],
    needs: RECORDS,
  }),
  APIM_GATEWAY_LOGS_BATCH_MAX_RETRY: setting(integer(0, 100), {
    section,
    description:
      'Most retries of a batch. They follow after 1, 2, 4, … up to 60 seconds, or after the delay that the API gives.',
    default: 5,
    example: '5',
    output: [`${LOGGER}.batch_max_retry`],
    needs: RECORDS,
  }),
  APIM_GATEWAY_LOGS_TIMEOUT_MS: setting(integer(500, 600_000), {
    section,
    description: 'Longest wait for the ingestion API, in milliseconds.',
    default: 10_000,
    example: '10000',
    output: [`${LOGGER}.timeout_ms`],
    needs: RECORDS,
  }),
  APIM_GATEWAY_LOGS_MSI_CLIENT_ID: setting(clientId, {
    section,
    description: 'Client id of the identity that sends records.',
    defaultText: 'AZURE_CLIENT_ID',
    example: '00000000-0000-0000-0000-000000000000',
    output: [`${LOGGER}.msi_client_id`],
    needs: RECORDS,
    effective: recordsClientId,
  }),
  APIM_GATEWAY_LOGS_MSI_ENDPOINT: setting(url(), {
    section,
    description: 'Token endpoint for that identity.',
    defaultText: 'MSI_ENDPOINT, then IDENTITY_ENDPOINT, read at run time',
    example: 'http://127.0.0.1:42356/msi/token',
    output: [`${LOGGER}.msi_endpoint`],
    needs: RECORDS,
    effective: recordsTokenEndpoint,
  }),
  APIM_GATEWAY_LOGS_MSI_SECRET: setting(apiKey(), {
    section,
    description: 'Header value for that endpoint.',
    defaultText: 'IDENTITY_HEADER, then MSI_SECRET, read at run time',
    example: '<secret>',
    output: [`${LOGGER}.msi_secret`],
    needs: RECORDS,
    effective: recordsTokenSecret,
    sensitive: true,
  }),
} as const;
