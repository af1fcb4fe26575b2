import type { PlainName } from '../declarations/index.ts';
import { ingestion, recordsStream } from '../effective.ts';
import { settingsWithoutEffect } from '../without-effect.ts';
import type { Rule } from './rule.ts';

const inlineSecretsAreReported: Rule = ({ values, report }) => {
  if (values.GATEWAY_SECRETS === 'inline') report('SECRETS_INLINE', 'GATEWAY_SECRETS', {});
};

/** These are read before any env file, or only by the image's entrypoint. */
const ofTheProcessOnly: Rule = ({ sources, report }) => {
  for (const name of ['GATEWAY_ENV_FILES', 'GATEWAY_SHARED_DIR'] as const)
    if (sources.get(name)?.kind === 'file') report('NOT_FROM_ENV_FILE', name, {});
};

/** Checks the destination of records, and that APIM_GATEWAY_LOGS_STREAM agrees with it. */
const recordsHaveAPlace: Rule = (context) => {
  const { values, given, report } = context;
  const uri = values.APIM_GATEWAY_LOGS_INGEST_URI;
  if (uri === undefined) return;
  if (ingestion(context) === undefined) {
    report('INGESTION_PATH', 'APIM_GATEWAY_LOGS_INGEST_URI', {}, uri);
    return;
  }
  if (/^http:/i.test(uri)) report('INGESTION_INSECURE', 'APIM_GATEWAY_LOGS_INGEST_URI', {}, uri);
  const { APIM_GATEWAY_LOGS_STREAM: stream } = values;
  const { value: named, follows } = recordsStream(context);
  if (follows !== undefined && given('APIM_GATEWAY_LOGS_STREAM') && named !== stream)
    report('INGESTION_STREAM', 'APIM_GATEWAY_LOGS_STREAM', { named }, stream);
};

const telemetryIsConsistent: Rule = ({ values, given, report }) => {
  const below = (low: PlainName, high: PlainName) => {
    if (Number(values[low]) >= Number(values[high]))
      report('NOT_BELOW', given(low) ? low : high, { low, high });
  };
  below('PROMETHEUS_SCRAPE_TIMEOUT', 'PROMETHEUS_SCRAPE_INTERVAL');
  if (values.OTEL_MEMORY_LIMIT_MIB !== undefined) below('OTEL_MEMORY_SPIKE_MIB', 'OTEL_MEMORY_LIMIT_MIB');
  const endpoint = values.AZURE_MONITOR_WORKSPACE_ENDPOINT;
  if (endpoint !== undefined && /\/api\/v1\/write\/?(?:\?|$)|\?/.test(endpoint)) {
    report('REMOTE_WRITE_PATH', 'AZURE_MONITOR_WORKSPACE_ENDPOINT', {}, endpoint);
  } else if (
    endpoint !== undefined &&
    /\.prometheus\.monitor\.azure\.(?:com|us|cn)$/i.test(new URL(endpoint).hostname)
  ) {
    report('REMOTE_WRITE_QUERIES', 'AZURE_MONITOR_WORKSPACE_ENDPOINT', {}, endpoint);
  }
};

/** Reports settings without an effect: often the user believes that a guardrail is on. */
const settingsHaveAnEffect: Rule = (context) => {
  for (const { name, lacking } of settingsWithoutEffect(context))
    context.report('SETTING_WITHOUT_EFFECT', name, { needs: lacking });
};

export const gatewayRules: readonly Rule[] = [
  inlineSecretsAreReported,
  ofTheProcessOnly,
  recordsHaveAPlace,
  telemetryIsConsistent,
  settingsHaveAnEffect,
];
