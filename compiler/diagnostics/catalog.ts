/**
 * The wording of every finding, in one place. A code is stable; what stands here may be reworded. Each entry gets
 * its arguments and the variable's name. No entry may take the value of a sensitive setting.
 */
import type { Severity } from './diagnostic.ts';

export interface Wording {
  readonly severity: Severity;
  readonly message: string;
  readonly expected: string;
  readonly hint: string;
}

const error = (message: string, expected: string, hint: string): Wording => ({
  severity: 'error',
  message,
  expected,
  hint,
});
const warning = (message: string, expected: string, hint: string): Wording => ({
  severity: 'warning',
  message,
  expected,
  hint,
});
const info = (message: string, expected: string, hint: string): Wording => ({
  severity: 'info',
  message,
  expected,
  hint,
});

const names = (list: readonly string[]) => list.join(', ');

export const catalog = {
  // ── one value ────────────────────────────────────────────────────────────────────────────────────────────────
  INVALID_VALUE: (a: { expected: string; issue?: string; example: string }, name) =>
    error(
      a.issue ? `the value is not usable: ${a.issue}` : 'the value is not usable',
      a.expected,
      `write for example ${name}=${a.example}`,
    ),
  CONTROL_CHARACTER: (_: object, name) =>
    error(
      'the value holds a line break or NUL',
      'one line of text',
      `set ${name} again without the line break; a secret file may end with one`,
    ),
  WRAPPED_IN_QUOTES: (_: object, name) =>
    error(
      'the value is wrapped in quotes',
      'the bare value',
      `remove the quotes around the value of ${name}: docker --env-file and Compose lists keep them as part of it`,
    ),
  BLANK_SECRET: (_: object, name) =>
    error(
      'the secret is set but empty',
      'a value, or no variable at all',
      `give ${name} its value, or unset it; an empty key is never a key`,
    ),
  SECRET_SURROUNDED_BY_SPACE: (_: object, name) =>
    error(
      'the secret has white space at its ends, which APISIX would read as part of it',
      'a value without white space at its ends',
      `set ${name} again without the white space (often a final line break of the file it came from)`,
    ),
  REFERENCE_IN_VALUE: (_: object, name) =>
    error(
      'the value starts with $env:// or $secret://',
      'the value itself',
      `write the value into ${name}; references are written by genai-gateway only`,
    ),
  TEMPLATE_IN_VALUE: (_: object, name) =>
    error(
      'the value holds ${{, which APISIX would replace',
      'a value without ${{',
      `change ${name} so that it holds no \${{`,
    ),
  UNKNOWN_SETTING: (a: { nearest?: string | undefined; note?: string | undefined }, name) =>
    warning(
      `${name} is not a setting${a.note ? `: ${a.note}` : ''}`,
      'a declared name',
      a.nearest ? `did you mean ${a.nearest}?` : `unset ${name}, or see the settings reference for its name`,
    ),
  WRONG_CASE: (a: { declared: string }, name) =>
    warning(`${name} is ignored: names are upper case`, a.declared, `rename ${name} to ${a.declared}`),
  NON_CANONICAL_INDEX: (a: { canonical?: string | undefined }, name) =>
    error(
      'the index is not a plain number from 0 to 9999',
      a.canonical ?? 'an index from 0 to 9999',
      a.canonical ? `rename ${name} to ${a.canonical}` : `number ${name} from 0 to 9999`,
    ),
  REPLACED_SETTING: (a: { replacedBy: string }, name) =>
    warning(
      `${name} is accepted for compatibility`,
      a.replacedBy,
      a.replacedBy.startsWith('nothing') ? `remove ${name}` : `use ${a.replacedBy} instead`,
    ),
  REPLACED_VALUE: (a: { value: string; replacedBy: string }, name) =>
    warning(
      `the value ${a.value} is accepted for compatibility`,
      a.replacedBy,
      `write ${name}=${a.replacedBy}`,
    ),
  CHANGED_MEANING: (a: { changed: string }, name) =>
    info(
      `otherwise than in the accelerator: ${a.changed}`,
      'nothing to do if that is what you want',
      `see ${name} in docs/settings.md and docs/migration.md`,
    ),
  AUTH_REQUIRED_BY_DEFAULT: () =>
    info(
      'otherwise than in the accelerator: clients must authenticate unless this is false',
      'nothing to do if that is what you want',
      'set GATEWAY_REQUIRE_AUTH=true to keep it and end this message',
    ),
  NOT_BUILT_YET: (a: { feature: string; instead?: string | undefined }, name) =>
    error(
      `not built yet: ${a.feature}`,
      a.instead ?? `${name} unset`,
      a.instead ? `use ${a.instead}, or remove ${name}` : `remove ${name}`,
    ),
  SETTING_WITHOUT_EFFECT: (a: { needs: string }, name) =>
    warning(`${name} has no effect without ${a.needs}`, a.needs, `set ${a.needs}, or remove ${name}`),
  REQUIRED_SETTING: (a: { because: string; example: string }, name) =>
    error(`${name} is missing: ${a.because}`, 'a value', `set ${name}=${a.example}`),

  NOT_FROM_ENV_FILE: (_: object, name) =>
    warning(
      `${name} has no effect in an env file`,
      "a variable of the process's own environment",
      `set ${name} where the process or container is started, and remove it here`,
    ),

  // ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────
  ENV_FILE_UNREADABLE: (a: { reason: string }, name) =>
    error(
      `the env file cannot be read: ${a.reason}`,
      'a readable text file of at most 4 MiB',
      `check the path ${name}`,
    ),
  ENV_FILE_NOT_TEXT: (_: object, name) =>
    error(
      'the env file holds a NUL byte',
      'a text file in UTF-8',
      `save ${name} as UTF-8 text; UTF-16 files hold NUL bytes`,
    ),
  ENV_FILE_LINE_IGNORED: (a: { line: number }, name) =>
    warning(
      `line ${a.line} is neither NAME=value nor a comment`,
      'NAME=value',
      `correct or remove line ${a.line} of ${name}`,
    ),
  ENV_FILE_VALUE_AMBIGUOUS: (_: object, name) =>
    error(
      'readers of env files do not agree on this value: it holds a #, a quote or a $',
      "a value with such characters in it stands in 'single quotes'",
      `write ${name}='…' with the whole value in single quotes, and no comment behind it`,
    ),
  SECRET_FILE_UNREADABLE: (a: { reason: string }, name) =>
    error(
      `the file that ${name} names cannot be read: ${a.reason}`,
      'the path of a readable file of at most 64 KiB',
      `correct the path in ${name}`,
    ),
  SECRET_QUOTED: (_: object, name) =>
    info(
      'the quotes are taken off here, but docker --env-file would keep them as part of the secret',
      'the same value in the process that reads it',
      `give ${name} to that process without the quotes`,
    ),
  SECRET_GIVEN_TWICE: (a: { file: string }, name) =>
    error(`${name} and ${a.file} are both set`, 'one of the two', `unset ${name} or ${a.file}`),
  SECRET_FILE_PATH: (_: object, name) =>
    error(
      'the running gateway reads this file too, and its path is not one that means the same everywhere',
      'an absolute path without .. in it, and without control characters, $, { and }',
      `write the whole path into ${name}, as the gateway's container has it`,
    ),
  SECRET_FILE_REFUSED: (a: { variable: string }, name) =>
    error(
      `${name} would have no effect: the platform gives the gateway ${a.variable} itself`,
      `${a.variable} in the environment of the gateway's process`,
      `remove ${name}`,
    ),
  SECRETS_INLINE: (_: object) =>
    warning(
      'secrets are written into the rendered files (mode 0640)',
      'GATEWAY_SECRETS=reference',
      'make the files readable by uid 636 and gid 636, the user of the APISIX image, and by nobody else',
    ),

  // ── backends ─────────────────────────────────────────────────────────────────────────────────────────────────
  NO_BACKEND: (a: { unindexed: boolean }) =>
    error(
      a.unindexed ? 'there is no backend: AZURE_OPENAI_ENDPOINT has no index' : 'there is no backend',
      'at least one AZURE_OPENAI_ENDPOINT_N',
      'set AZURE_OPENAI_ENDPOINT_0=https://name.openai.azure.com and AZURE_OPENAI_KEY_0',
    ),
  BACKEND_WITHOUT_ENDPOINT: (a: { endpoint: string }, name) =>
    error(`${name} is set but ${a.endpoint} is not`, a.endpoint, `set ${a.endpoint}, or remove ${name}`),
  BACKEND_WITHOUT_CREDENTIAL: (a: { index: number }, name) =>
    error(
      `backend ${a.index} has neither a key nor an auth mode`,
      `AZURE_OPENAI_KEY_${a.index}`,
      `set ${name}`,
    ),
  KEY_UNUSED_WITH_ENTRA: (a: { index: number }, name) =>
    warning(
      `${name} is not used: backend ${a.index} signs in with Entra`,
      'no key in Entra mode',
      `remove ${name}, or set AZURE_OPENAI_AUTH_MODE_${a.index}=api-key`,
    ),
  ENDPOINT_INSECURE: (_: object, name) =>
    warning('the key and every prompt travel unencrypted', 'an https URL', `write ${name} with https://`),
  ENDPOINT_PATH_DROPPED: (a: { dropped: string; origin: string }, name) =>
    info(
      `only ${a.origin} is used; ${a.dropped} is dropped`,
      'the URL of the resource',
      `write ${name}=${a.origin}`,
    ),
  DUPLICATE_NAME: (a: { other: string; name: string }, name) =>
    error(
      `the name ${a.name} is also that of ${a.other}`,
      'a name of its own, whatever the case',
      `give ${name} another name`,
    ),
  DUPLICATE_BACKEND: (a: { other: string }, name) =>
    warning(
      `${name} and ${a.other} are the same resource with the same credential`,
      'one backend for each pool of capacity',
      `remove one of the two, or give ${a.other.replace('ENDPOINT', 'WEIGHT')} a larger weight`,
    ),
  ALL_BACKENDS_DRAINED: () =>
    error(
      'every backend has weight 0',
      'at least one weight above 0',
      'give one AZURE_OPENAI_WEIGHT_N a value of 1 or more',
    ),

  // ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────
  CLIENT_INDEX_GAP: (a: { missing: readonly number[]; highest: number }, name) =>
    error(
      `clients are numbered up to ${a.highest}, but ${missingIndexes(a.missing)}`,
      'clients numbered 0, 1, 2, … without a gap',
      `add ${name.replace(/\d+$/, String(a.missing[0]))}, or renumber the clients`,
    ),
  CLIENT_INCOMPLETE: (a: { present: string }, name) =>
    error(
      `${a.present} is set but ${name} is not`,
      'NAME and KEY for every client',
      `set ${name}, or remove ${a.present}`,
    ),
  DUPLICATE_CLIENT_KEY: (a: { other: string }, name) =>
    error(
      `${name} and ${a.other} are the same key`,
      'a key of its own for every client',
      `give ${name} another key`,
    ),
  SHORT_CLIENT_KEY: (a: { length: number }, name) =>
    warning(
      `the key has ${a.length} characters and could be guessed`,
      '16 characters or more',
      `give ${name} a random key, for example of: openssl rand -hex 24`,
    ),
  SINGLE_AND_INDEXED_CLIENTS: (a: { indexed: string }, name) =>
    error(
      `${name} makes a client of its own, but ${a.indexed} is set too`,
      'one way of naming clients',
      `move the key to the next free GATEWAY_CLIENT_KEY_N with a GATEWAY_CLIENT_NAME_N, and unset ${name}`,
    ),
  NO_CLIENT: () =>
    error(
      'authentication is on but there is no client',
      'at least one GATEWAY_CLIENT_NAME_N with GATEWAY_CLIENT_KEY_N',
      'set GATEWAY_CLIENT_NAME_0 and GATEWAY_CLIENT_KEY_0',
    ),
  AUTH_OFF: () =>
    warning(
      'authentication is off: anyone who reaches the gateway spends your capacity',
      'GATEWAY_REQUIRE_AUTH=true',
      'set GATEWAY_REQUIRE_AUTH=true and give each client a key',
    ),

  // ── settings that belong together ────────────────────────────────────────────────────────────────────────────
  HASH_KEY_INVALID: (a: { hashOn: string; expected: string; example: string }, name) =>
    error(
      `the key does not fit LB_HASH_ON=${a.hashOn}`,
      a.expected,
      `write for example ${name}=${a.example}`,
    ),
  RETRY_STATUSES_CONFLICT: (a: { strategy: string; preset: readonly number[] }, name) =>
    error(
      `${name} and AI_PROXY_FALLBACK_STRATEGY=${a.strategy} name different statuses`,
      `one of the two, or ${names(a.preset.map(String))}`,
      `unset AI_PROXY_FALLBACK_STRATEGY; ${name} is the exact set`,
    ),
  ABOVE_LIMIT: (a: { low: string; high: string; effect: string }) =>
    warning(
      `${a.low} is above ${a.high}: ${a.effect}`,
      `${a.low} at most ${a.high}`,
      `lower ${a.low} or raise ${a.high}`,
    ),
  NOT_BELOW: (a: { low: string; high: string }) =>
    error(
      `${a.low} is not less than ${a.high}`,
      `${a.low} less than ${a.high}`,
      `lower ${a.low} or raise ${a.high}`,
    ),
  REQUESTS_AND_TOKENS: (a: { budget: string }, name) =>
    error(
      `${a.budget} counts tokens, but with ${name}=req the limiter counts requests`,
      'a token strategy, or no token budgets of clients',
      `use GATEWAY_CLIENT_REQUESTS_PER_MINUTE_N instead of ${a.budget}, or ${name}=total_tokens`,
    ),
  SILENT_STATUS: (a: { statuses: readonly number[] }, name) =>
    error(
      'nginx closes the connection instead of answering with this status',
      `a status from 400 to 599, none of ${a.statuses.join(', ')}`,
      `write ${name}=429 or ${name}=503`,
    ),
  TLS_WITHOUT_NAME: (a: { tls: string }, name) =>
    error(
      `${name} is an address, but ${a.tls} verifies the certificate by name`,
      'the name of the host, as its certificate has it',
      `write the name into ${name}, or remove ${a.tls}`,
    ),
  PER_CLIENT_WITHOUT_AUTH: (_: object, name) =>
    error(
      `${name}=client, but nobody has to say who they are`,
      'GATEWAY_REQUIRE_AUTH=true',
      `set GATEWAY_REQUIRE_AUTH=true, or remove ${name}`,
    ),
  CORS_WILDCARD: (a: { reason: string }, name) =>
    error(`* cannot be used here: ${a.reason}`, 'a list without *', `name each value in ${name}`),
  ISSUER_INSECURE: (_: object, name) =>
    warning(
      "the issuer's keys travel unencrypted: whoever is on the way can make valid tokens",
      'an https URL',
      `write ${name} with https://`,
    ),
  ISSUER_WITHOUT_TENANT: (_: object, name) =>
    error(
      'the document is not that of one tenant: no token can be of the issuer that it names',
      'the discovery document of one tenant',
      `write the id of the tenant into ${name}`,
    ),
  IP_LISTS: (a: { both: boolean }) =>
    error(
      a.both ? 'IP_WHITELIST and IP_BLACKLIST are both set' : 'neither IP_WHITELIST nor IP_BLACKLIST is set',
      'exactly one of the two lists',
      a.both ? 'unset one of the two' : 'set IP_WHITELIST or IP_BLACKLIST',
    ),
  INGESTION_PATH: (_: object, name) =>
    error(
      'the URI is not that of a data collection rule',
      'https://<endpoint>/dataCollectionRules/<immutable id of the rule>/streams/<stream>?api-version=2023-01-01',
      `copy the logs ingestion URI into ${name}: the endpoint with /dataCollectionRules/dcr-… behind it`,
    ),
  INGESTION_INSECURE: (_: object, name) =>
    warning(
      "the gateway's token and every record travel unencrypted",
      'an https URL',
      `write ${name} with https://`,
    ),
  INGESTION_STREAM: (a: { named: string }, name) =>
    error(
      `APIM_GATEWAY_LOGS_INGEST_URI names the stream ${a.named}, and ${name} another one`,
      'one stream',
      `remove ${name}, or the stream from APIM_GATEWAY_LOGS_INGEST_URI`,
    ),
  REMOTE_WRITE_PATH: (_: object, name) =>
    error(
      'the path /api/v1/write and its query are added when rendering',
      'the endpoint without path /api/v1/write and query',
      `remove /api/v1/write and what follows it from ${name}`,
    ),
  REMOTE_WRITE_QUERIES: (_: object, name) =>
    warning(
      'this is where the workspace answers queries; it takes no metrics',
      "the workspace's metrics ingestion endpoint",
      `set ${name} to that endpoint, without /api/v1/write: it has /dataCollectionRules/ in it`,
    ),

  // ── templates and documents ──────────────────────────────────────────────────────────────────────────────────
  TEMPLATES_UNREADABLE: (a: { reason: string }, name) =>
    error(
      `the templates cannot be read: ${a.reason}`,
      'a readable folder of templates',
      `check --templates ${name}`,
    ),
  TEMPLATE_UNKNOWN: (a: { nearest?: string | undefined }, name) =>
    error(
      `${name} overrides nothing`,
      'the name of a template of this version',
      a.nearest ? `did you mean ${a.nearest}?` : 'see templates/ for the names',
    ),
  TEMPLATE_BROKEN: (a: { reason: string }) =>
    error(
      `the template is broken: ${a.reason}`,
      'a Handlebars template',
      'compare it with the template of this version that it overrides',
    ),
  TEMPLATE_RAW_VALUE: (a: { expression: string }) =>
    error(
      `${a.expression} writes a value as it is, which can break the document or inject into it`,
      '{{json value}}',
      `write {{json ${a.expression.replace(/[{}]/g, '').trim()}}}`,
    ),
  DOCUMENT_NOT_YAML: (a: { reason: string; overridden: readonly string[] }, name) =>
    error(
      `${name} is not valid YAML: ${a.reason}`,
      'a document that APISIX can read',
      overridden(a.overridden),
    ),
  DOCUMENT_INVALID: (a: { path: string; problem: string; overridden: readonly string[] }, name) =>
    error(
      `${name} is not valid at ${a.path || '/'}: ${a.problem}`,
      'only what APISIX 3.18 and the collector know',
      overridden(a.overridden),
    ),
  FILE_EXISTS: (_: object, name) =>
    error(
      `${name} exists already`,
      'a file that does not exist yet',
      'give another name, or remove the file',
    ),
  AGAINST_UNREADABLE: (a: { reason: string }, name) =>
    error(
      `${name} cannot be compared: ${a.reason}`,
      'a folder with rendered files, one of them, or an env file',
      'check the path given with --against',
    ),
  OUTPUT_UNWRITABLE: (a: { reason: string }, name) =>
    error(
      `${name} cannot be written: ${a.reason}`,
      'a folder that can be written',
      'let this user write there (in a container: mount a volume there), or give another --out; nothing was changed',
    ),

  // ── up ───────────────────────────────────────────────────────────────────────────────────────────────────────
  LOCALHOST_IN_CONTAINER: (a: { instead: string }, name) =>
    warning(
      `${name} names the loopback of this machine, which in the gateway's container is the container itself`,
      'an address that the container reaches',
      `write ${name}=${a.instead}: that is this machine; on Linux what listens on loopback alone stays out of reach`,
    ),
  FILE_NOT_FOR_CONTAINER: (a: { reason: string }, name) =>
    error(
      `the file that ${name} names cannot be given to the gateway's container: ${a.reason}`,
      'the path of a file on this machine',
      `correct the path in ${name}`,
    ),

  // ── while APISIX runs ────────────────────────────────────────────────────────────────────────────────────────
  CHANGE_NEEDS_START: (_: object, name) =>
    error(
      'the change is held back: APISIX reads what it leads to only when it starts',
      'the value that the gateway was started with',
      `start the gateway again to apply ${name}`,
    ),
  CHANGE_NEEDS_PROCESS: (a: { isGone: boolean; isFollowed: boolean }, name) =>
    error(
      a.isGone
        ? "that it is gone is held back: APISIX's own process still has it"
        : "the change is held back: APISIX's own process, which reads it by its name, has another value or none",
      'the value that the gateway was started with',
      a.isFollowed && !a.isGone
        ? `start the gateway again, or give it as ${name}_FILE: files are followed`
        : `start the gateway again to apply ${name}`,
    ),
  CHANGE_NEEDS_OTHERS: (a: { others: readonly string[] }, name) =>
    error(
      'the change is held back with others, without which it cannot take effect',
      `to take effect together with ${names(a.others)}`,
      `see what is said of ${a.others.length === 1 ? a.others[0] : 'these'}; ${name} follows`,
    ),
  CONFIG_OF_OTHER_SETTINGS: (_: object, name) =>
    error(
      `${name} is not what the settings of the start give, so nothing is changed while APISIX runs`,
      `the ${name} that APISIX was started with`,
      'start the gateway again',
    ),
  NOT_RENDERED: (a: { reason: string }, name) =>
    error(
      `${name} cannot be read: ${a.reason}`,
      'the folder with the files that APISIX was started with',
      'check the folder given with --out',
    ),
} satisfies Record<string, (args: never, setting: string) => Wording>;

export type DiagnosticCode = keyof typeof catalog;
export type CatalogArgs<C extends DiagnosticCode> =
  Parameters<(typeof catalog)[C]> extends [infer A, ...unknown[]] ? A : object;

const overridden = (list: readonly string[]) =>
  list.length > 0
    ? `check your own templates: ${names(list)}`
    : 'this is a defect of genai-gateway: please report it with the diagnostic';

function missingIndexes(missing: readonly number[]): string {
  const shown = missing.slice(0, 10).join(', ');
  return `${missing.length === 1 ? 'index' : 'indexes'} ${shown}${missing.length > 10 ? ', …' : ''} ${missing.length === 1 ? 'is' : 'are'} missing`;
}
