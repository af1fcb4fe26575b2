/** The JSON access log: its fields, and the nginx variables that they show. */
import type { GatewayModel } from '../../model/model.ts';

/**
 * Fields of the access log. There is no query string and no credential header, because clients put keys in both. Values
 * that only Lua knows are nginx variables that azure-openai-proxy sets.
 */
const LOG_FIELDS = {
  time: '$time_iso8601',
  request_id: '$apisix_request_id',
  trace_id: '$genai_trace_id',
  method: '$request_method',
  path: '$uri',
  api_version: '$genai_api_version',
  status: '$status',
  duration_s: '$request_time',
  client_ip: '$remote_addr',
  client: '$genai_client',
  lane: '$genai_lane',
  pool: '$genai_pool',
  operation: '$genai_operation',
  requested_model: '$genai_requested_model',
  model: '$genai_model',
  backend: '$genai_backend',
  region: '$genai_region',
  attempts: '$genai_attempts',
  failover: '$genai_failover',
  affinity: '$genai_affinity',
  limiter: '$genai_limiter',
  error: '$genai_error',
  error_source: '$genai_error_source',
  bytes_in: '$request_length',
  bytes_out: '$bytes_sent',
  upstream: '$upstream_addr',
  upstream_status: '$upstream_status',
  request_type: '$request_type',
  time_to_first_token_ms: '$llm_time_to_first_token',
  prompt_tokens: '$llm_prompt_tokens',
  completion_tokens: '$llm_completion_tokens',
  cached_tokens: '$llm_cache_read_input_tokens',
  reasoning_tokens: '$llm_reasoning_tokens',
  estimated_tokens: '$genai_estimated_tokens',
  answer_model: '$genai_answer_model',
  service_tier: '$genai_service_tier',
  spilled: '$genai_spilled',
  audio_seconds: '$genai_audio_seconds',
} as const;

const DETAILED_LOG_FIELDS = {
  host: '$host',
  protocol: '$server_protocol',
  user_agent: '$http_user_agent',
  upstream_time_ms: '$apisix_upstream_response_time',
  stream: '$llm_stream',
  route: '$genai_route',
} as const;

/** Fields that only a gateway with the answer cache has. */
const CACHE_LOG_FIELDS = {
  cache: '$genai_cache',
  cache_age_s: '$genai_cache_age',
  saved_prompt_tokens: '$genai_saved_prompt_tokens',
  saved_completion_tokens: '$genai_saved_completion_tokens',
} as const;

/** The fields of the access log, with their nginx variables. */
export const accessLogFields = ({ telemetry, cache }: GatewayModel): Record<string, string> => ({
  ...LOG_FIELDS,
  ...(cache === undefined ? {} : CACHE_LOG_FIELDS),
  ...(telemetry.mode === 'prod' ? {} : DETAILED_LOG_FIELDS),
});

/** nginx inserts the variables with JSON escaping, so the template is JSON text around them. */
export function accessLogFormat(model: GatewayModel): string {
  return `{${Object.entries(accessLogFields(model))
    .map(([name, value]) => `"${name}":"${value}"`)
    .join(',')}}`;
}

/** nginx variables that only Lua sets. */
const luaLogVariables = ({ cache }: GatewayModel): string[] =>
  Object.values({
    ...LOG_FIELDS,
    ...DETAILED_LOG_FIELDS,
    ...(cache === undefined ? {} : CACHE_LOG_FIELDS),
  })
    .filter((variable) => variable.startsWith('$genai_'))
    .map((variable) => variable.slice(1));

/**
 * Defines these variables as empty, for requests in which no Lua code sets them. Lua can set only variables that the
 * configuration uses, and not every log format uses all of them; so the unused variable `$genai_all` refers to them
 * all.
 */
export function luaVariables(model: GatewayModel): string {
  const all = luaLogVariables(model).map((name) => `$${name}`);
  return [...all.map((name) => [`""`, name]), [`"${all.join('')}"`, '$genai_all']]
    .map(([source, name]) => `map ${source} ${name} { default ""; }\n`)
    .join('');
}
