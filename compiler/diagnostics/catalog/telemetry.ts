/** Diagnostics about records and metrics that the gateway sends. */
import { error, warning } from './entry.ts';

export const telemetry = {
  INGESTION_PATH: error((_, name) => ({
    message: 'the URI is not the logs ingestion URI of a data collection rule',
    expected:
      'https://<endpoint>/dataCollectionRules/<immutable id of the rule>/streams/<stream>?api-version=2023-01-01',
    hint: `copy the logs ingestion URI into ${name}: the endpoint, followed by /dataCollectionRules/dcr-…`,
  })),
  INGESTION_INSECURE: warning((_, name) => ({
    message: 'the gateway sends its token and every record unencrypted',
    expected: 'an https URL',
    hint: `write ${name} with https://`,
  })),
  INGESTION_STREAM: error((a: { named: string }, name) => ({
    message: `APIM_GATEWAY_LOGS_INGEST_URI names the stream ${a.named}, but ${name} names another stream`,
    expected: 'the same stream in both, or only one of them',
    hint: `remove ${name}, or the stream from APIM_GATEWAY_LOGS_INGEST_URI`,
  })),
  REMOTE_WRITE_PATH: error((_, name) => ({
    message: 'the endpoint must not end with /api/v1/write or a query: genai-gateway adds them',
    expected: 'the endpoint without /api/v1/write and without a query',
    hint: `remove /api/v1/write and everything after it from ${name}`,
  })),
  REMOTE_WRITE_QUERIES: warning((_, name) => ({
    message: "this is the workspace's query endpoint, which does not accept metrics",
    expected: "the workspace's metrics ingestion endpoint",
    hint: `set ${name} to the endpoint that contains /dataCollectionRules/, without /api/v1/write`,
  })),
};
