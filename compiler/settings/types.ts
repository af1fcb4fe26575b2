/**
 * The value types of settings. A type parses the trimmed, non-empty text of a variable, and has the words after
 * "expected". Text is never coerced: a text that does not match is an issue.
 */
import * as z from 'zod/mini';
import { type Mistake, mistakeIn, mistakeInHost, mistakeInUrl } from './mistakes.ts';
import {
  bytesLike,
  decimalLike,
  hostLike,
  millisecondsLike,
  nameLike,
  partsLike,
  unusualCharacter,
  wholeNumberLike,
  wordLike,
} from './suggest.ts';

/** The result of parsing: a value, or an issue, with words if they say more than "expected …". */
export type Parsed<T> = { readonly value: T } | Issue;

interface Issue {
  readonly issue: string | undefined;
}

export interface ValueType<T> {
  /** Completes the sentence "expected …". */
  readonly expected: string;
  /** A pattern that valid texts match, for JSON Schema. Not every matching text is valid. */
  readonly schema: z.ZodMiniType<string, string>;
  parse(text: string): Parsed<T>;
  /** The value as a user would write it. */
  format(value: T): string;
  /** The mistake in an invalid text, and the probable value; undefined if unknown. */
  mistake(text: string): Mistake | undefined;
}

/**
 * A type of texts that match a pattern and that `read` converts. A render parses a dozen of several hundred settings, so
 * patterns and zod schemas are created only on demand, and the methods are shared.
 */
class CustomType<T> implements ValueType<T> {
  readonly expected: string;
  readonly format: (value: T) => string;
  readonly #read: (text: string) => T | Issue;
  readonly #pattern: RegExp | (() => RegExp) | undefined;
  readonly #mistake: (text: string) => Mistake | string | undefined;

  constructor(
    expected: string,
    read: (text: string) => T | Issue,
    pattern: RegExp | (() => RegExp) | undefined,
    format: (value: T) => string,
    mistake: (text: string) => Mistake | string | undefined,
  ) {
    this.expected = expected;
    this.format = format;
    this.#read = read;
    this.#pattern = pattern;
    this.#mistake = mistake;
  }

  get #made(): RegExp | undefined {
    return typeof this.#pattern === 'function' ? this.#pattern() : this.#pattern;
  }

  get schema(): z.ZodMiniType<string, string> {
    return matching(this.#made);
  }

  parse(text: string): Parsed<T> {
    if (this.#made?.test(text) === false) return { issue: undefined };
    const result = this.#read(text);
    return isIssue(result) ? result : { value: result };
  }

  mistake(text: string): Mistake | undefined {
    return mistakeIn(text) ?? usable(this.#mistake(text), this);
  }
}

const nothing = () => undefined;

const custom = <T>(
  expected: string,
  read: (text: string) => T | Issue,
  pattern?: RegExp | (() => RegExp),
  format: (value: T) => string = String,
  mistake: (text: string) => Mistake | string | undefined = nothing,
): ValueType<T> => new CustomType(expected, read, pattern, format, mistake);

/** Removes a suggestion that is not valid itself. */
function usable(found: Mistake | string | undefined, type: ValueType<unknown>): Mistake | undefined {
  const mistake = typeof found === 'string' ? { suggestion: found } : found;
  if (mistake?.suggestion === undefined) return mistake;
  const { suggestion, ...rest } = mistake;
  if (!('issue' in type.parse(suggestion))) return mistake;
  return Object.keys(rest).length > 0 ? rest : undefined;
}

/** A type whose valid texts are those of a zod schema. */
class KnownType extends CustomType<string> {
  readonly #schema: () => z.ZodMiniType<string, string>;

  constructor(
    expected: string,
    schema: () => z.ZodMiniType<string, string>,
    mistake: (text: string) => Mistake | string | undefined,
  ) {
    const read = (text: string) => (schema().safeParse(text).success ? text : { issue: undefined });
    super(expected, read, undefined, String, mistake);
    this.#schema = schema;
  }

  override get schema(): z.ZodMiniType<string, string> {
    return this.#schema();
  }
}

const known = (
  expected: string,
  schema: () => z.ZodMiniType<string, string>,
  mistake: (text: string) => Mistake | string | undefined = nothing,
): ValueType<string> => new KnownType(expected, schema, mistake);

function isIssue(value: unknown): value is Issue {
  return typeof value === 'object' && value !== null && 'issue' in value;
}

const matching = (pattern: RegExp | undefined) => (pattern ? z.string().check(z.regex(pattern)) : z.string());

/** Any text, or text that matches a pattern. */
export function text(expected: string, pattern?: RegExp): ValueType<string> {
  return custom(
    expected,
    (value) => value,
    pattern,
    String,
    (value) => {
      const unusual = unusualCharacter(value);
      return {
        ...(unusual === undefined ? {} : { issue: `it contains the character ${unusual}` }),
        ...(pattern?.test(nameLike(value)) ? { suggestion: nameLike(value) } : {}),
      };
    },
  );
}

/** Matches one of several words in any case. JSON Schema has no flag to ignore case. */
function anyCase(words: readonly string[]): RegExp {
  const letters = (word: string) =>
    word.replace(/[a-z]/gi, (each) => `[${each.toLowerCase()}${each.toUpperCase()}]`);
  return new RegExp(`^(?:${words.map(letters).join('|')})$`);
}

/** The words of a boolean, in any case. docker/entrypoint.sh has the words for false too; a test compares them. */
export const TRUE_WORDS = ['true', '1', 'yes', 'on'] as const;
export const FALSE_WORDS = ['false', '0', 'no', 'off'] as const;
const IS_TRUE = anyCase(TRUE_WORDS);
const IS_BOOLEAN = anyCase(TRUE_WORDS.flatMap((word, index) => [word, FALSE_WORDS[index] ?? '']));

/** A boolean. */
export function boolean(): ValueType<boolean> {
  return custom(
    'true, false, 1, 0, yes, no, on or off',
    (value) => IS_TRUE.test(value),
    () => IS_BOOLEAN,
    String,
    (value) => wordLike(value, ['true', 'false']),
  );
}

/** A decimal integer within a range; no sign but a minus, no leading zero, no fraction, no exponent. */
export function integer(min: number, max = Number.MAX_SAFE_INTEGER): ValueType<number> {
  const expected =
    max === Number.MAX_SAFE_INTEGER
      ? `a whole number, ${min} or more`
      : `a whole number from ${min} to ${max}`;
  return custom<number>(
    expected,
    (value) => {
      const number = Number(value);
      return number >= min && number <= max ? number : { issue: 'it is out of range' };
    },
    /^(?:0|-?[1-9]\d*)$/,
    String,
    wholeNumberLike,
  );
}

/** A decimal number; `exclusiveMin` is not itself allowed. */
export function number(range: { min?: number; exclusiveMin?: number; max?: number }): ValueType<number> {
  const { min = Number.NEGATIVE_INFINITY, exclusiveMin = Number.NEGATIVE_INFINITY, max = 1e12 } = range;
  const lower = range.exclusiveMin === undefined ? `${min} or more` : `more than ${exclusiveMin}`;
  return custom<number>(
    `a decimal number, ${lower}${range.max === undefined ? '' : `, at most ${max}`}`,
    (value) => {
      const parsed = Number(value);
      return parsed >= min && parsed > exclusiveMin && parsed <= max
        ? parsed
        : { issue: 'it is out of range' };
    },
    // Twelve decimals are enough for any rate or price, and numbers with up to twelve are written without exponents.
    /^(?:0|[1-9]\d{0,11})(?:\.\d{1,12})?$/,
    String,
    (value) => decimalLike(value, range.max === 1),
  );
}

const DURATION_UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** A duration in milliseconds: whole seconds without a unit, or a whole number of ms, s, m or h. */
export function duration(range: { min?: number; max?: number } = {}): ValueType<number> {
  const { min = 1, max = 24 * 3_600_000 } = range;
  const least = min > 1 ? `, at least ${formatDuration(min)}` : min === 0 ? ', or 0' : ', more than 0';
  return custom<number>(
    `a duration such as 30 (seconds), 500ms, 30s, 5m or 1h${least}, at most ${formatDuration(max)}`,
    (value) => {
      const [, digits = '', unit = 's'] = /^(\d+)(ms|s|m|h)?$/.exec(value) ?? [];
      const milliseconds = Number(digits) * DURATION_UNITS[unit as keyof typeof DURATION_UNITS];
      return milliseconds >= min && milliseconds <= max ? milliseconds : { issue: 'it is out of range' };
    },
    /^(?:0|[1-9]\d{0,9})(?:ms|s|m|h)?$/,
    formatDuration,
    (value) => {
      const milliseconds = millisecondsLike(value);
      return milliseconds === undefined ? undefined : formatDuration(milliseconds);
    },
  );
}

/** The shortest of `500ms`, `30s`, `5m`, `1h` for a number of milliseconds. Go and this program can both read it. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds === 0) return '0s';
  for (const unit of ['h', 'm', 's'] as const) {
    if (milliseconds % DURATION_UNITS[unit] === 0) return `${milliseconds / DURATION_UNITS[unit]}${unit}`;
  }
  return `${milliseconds}ms`;
}

/** A size in bytes: `512k`, `100m`, `1g`, or plain bytes. */
export function size(min: number, max: number): ValueType<number> {
  const units = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 } as const;
  const format = (bytes: number) => {
    const unit = (['g', 'm', 'k'] as const).find((each) => bytes % units[each] === 0) ?? '';
    return `${bytes / units[unit]}${unit}`;
  };
  return custom<number>(
    `a size such as 512k, 100m or 1g, from ${min} to ${max} bytes`,
    (value) => {
      const unit = /[kmg]$/i.exec(value)?.[0].toLowerCase() ?? '';
      const bytes = Number.parseInt(value, 10) * units[unit as keyof typeof units];
      return bytes >= min && bytes <= max ? bytes : { issue: 'it is out of range' };
    },
    /^[1-9]\d{0,14}[kmgKMG]?$/,
    format,
    (value) => {
      const bytes = bytesLike(value);
      return bytes === undefined ? undefined : format(bytes);
    },
  );
}

/** One of a fixed set of words, in any case; `aliases` maps other spellings to one of them. */
export function oneOf<const T extends string>(
  values: readonly T[],
  aliases: Readonly<Record<string, T>> = {},
): ValueType<T> {
  const expected = values.length === 2 ? values.join(' or ') : `one of ${values.join(', ')}`;
  return custom<T>(
    expected,
    (value) => {
      const lower = value.toLowerCase();
      return (
        values.find((candidate) => candidate.toLowerCase() === lower) ??
        aliases[lower] ?? { issue: 'it is an unknown value' }
      );
    },
    () => anyCase([...values, ...Object.keys(aliases)]),
    String,
    (value) => ({
      fix: `write one of ${values.join(', ')}`,
      ...optional('suggestion', wordLike(value, values)),
    }),
  );
}

const optional = <K extends string>(key: K, value: string | undefined): { readonly [P in K]?: string } =>
  value === undefined ? {} : ({ [key]: value } as { readonly [P in K]: string });

/** The ways to choose a backend among several. */
export const ALGORITHMS = ['roundrobin', 'chash', 'latency', 'preferred'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** The value by which soft affinity chooses a backend. */
export interface AffinityKey {
  readonly on: 'prompt_cache_key' | 'client' | 'header';
  /** The name in lower case. */
  readonly header?: string;
}

/** `prompt_cache_key`, `client` or `header:NAME`, in any case. */
export function affinityKey(): ValueType<AffinityKey> {
  const PATTERN = /^(?:(prompt_cache_key)|(client)|header:\s*([A-Za-z0-9_-]{1,128}))$/i;
  return custom<AffinityKey>(
    'prompt_cache_key, client, or header:NAME with the name of a header',
    (value) => {
      const [, cacheKey, client, header] = PATTERN.exec(value) ?? [];
      if (cacheKey !== undefined) return { on: 'prompt_cache_key' };
      if (client !== undefined) return { on: 'client' };
      if (header === undefined) return { issue: undefined };
      return { on: 'header', header: header.toLowerCase() };
    },
    /^(?:[Pp][Rr][Oo][Mm][Pp][Tt]_[Cc][Aa][Cc][Hh][Ee]_[Kk][Ee][Yy]|[Cc][Ll][Ii][Ee][Nn][Tt]|[Hh][Ee][Aa][Dd][Ee][Rr]:\s*[A-Za-z0-9_-]{1,128})$/,
    ({ on, header }) => (header === undefined ? on : `${on}:${header}`),
  );
}

/** A comma-separated list; items are trimmed, and empty or repeated ones are issues. */
export function list<T>(
  item: ValueType<T>,
  identity: (value: T) => string = String,
): ValueType<readonly T[]> {
  const parse = (value: string): readonly T[] | Issue => {
    const items: T[] = [];
    const seen = new Set<string>();
    for (const part of value.split(',').map((each) => each.trim())) {
      if (part === '') return { issue: 'an item of the list is empty' };
      const parsed = item.parse(part);
      // Names the item by its position: its text could contain a password in a URL.
      if (isIssue(parsed)) return { issue: `item ${items.length + 1} is not ${item.expected}` };
      const key = identity(parsed.value);
      if (seen.has(key)) return { issue: `item ${items.length + 1} is in the list twice` };
      seen.add(key);
      items.push(parsed.value);
    }
    return items;
  };
  const format = (items: readonly T[]) => items.map((each) => item.format(each)).join(',');
  const meant = (text: string) =>
    partsLike(text)
      .map((part) => ('value' in item.parse(part) ? part : (item.mistake(part)?.suggestion ?? part)))
      .join(',');
  return custom(`a comma-separated list, each item ${item.expected}`, parse, undefined, format, meant);
}

/** An IP address or a CIDR range, v4 or v6. */
export function cidr(): ValueType<string> {
  return known('an IP address or CIDR range such as 10.0.0.0/8', () =>
    // APISIX does not support IPv4 addresses within IPv6.
    z.union([z.ipv4(), z.cidrv4(), z.ipv6().check(z.regex(/^[^.]*$/)), z.cidrv6().check(z.regex(/^[^.]*$/))]),
  );
}

/** An absolute http(s) URL without credentials or fragment, kept as written. */
export function url(options: { query?: boolean } = {}): ValueType<string> {
  const query = options.query ? '' : ', query';
  const read = (value: string) => {
    const parsed = parseHttpUrl(value);
    if (!parsed) return { issue: 'it is not a full URL' };
    if (hasUserInfo(value) || value.includes('#'))
      return { issue: 'the URL contains credentials or a fragment' };
    if (!options.query && value.includes('?')) return { issue: 'the URL contains a query' };
    return value;
  };
  return custom<string>(
    `a full http or https URL without credentials${query} or fragment`,
    read,
    undefined,
    String,
    (value) => (parseHttpUrl(value) ? undefined : mistakeInUrl(value, (text) => !isIssue(read(text)))),
  );
}

/** WHATWG parsing repairs too much (spaces, backslashes, a missing slash, odd hosts), so this is stricter. */
export function parseHttpUrl(value: string): URL | undefined {
  const authority =
    /^https?:\/\/(?:[^/?#@]*@)?(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:[/?#]|$)/i;
  if (!authority.test(value) || /[\s\\<>"`{}|^]/.test(value)) return undefined;
  return URL.canParse(value) ? new URL(value) : undefined;
}

/** Whether a URL has user information, even an empty user name. */
const hasUserInfo = (value: string) => /^\w+:\/\/[^/?#]*@/.test(value);

/** `host:port`, the host a name, an IPv4 address or a bracketed IPv6 address. */
export function hostPort(): ValueType<string> {
  return custom<string>(
    'host:port, such as 127.0.0.1:4318',
    (value) =>
      Number(value.slice(value.lastIndexOf(':') + 1)) <= 65535
        ? value
        : { issue: 'the port is out of range' },
    /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[1-9]\d{0,4}$/,
    String,
    (value) => {
      const meant = hostLike(value);
      if (meant === undefined) return undefined;
      const issue = /:\/\//.test(value)
        ? 'it is a URL'
        : meant.port === undefined
          ? 'the port is missing'
          : undefined;
      return {
        ...optional('issue', issue),
        ...optional('suggestion', meant.port && `${meant.host}:${meant.port}`),
      };
    },
  );
}

/** A host name or IP address. */
export function host(): ValueType<string> {
  return known(
    'a host name or IP address',
    () => z.union([matching(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])$/), z.ipv6()]),
    (value) => {
      const meant = hostLike(value);
      return (
        meant && { issue: 'it contains more than a host', suggestion: meant.host.replace(/^\[|\]$/g, '') }
      );
    },
  );
}

/** An absolute path without characters that nginx or a shell would interpret. */
export function absolutePath(): ValueType<string> {
  return text('an absolute path of letters, digits and . _ - /', /^(?:\/[A-Za-z0-9._-]+)+$/);
}

/** A path prefix: segments that no client or proxy would normalize away, without a slash at the end. */
export function pathPrefix(): ValueType<string> {
  const PATTERN = /^(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){1,5}$/;
  return custom<string>(
    'a path of one to five segments such as /search, each of letters, digits and . _ -, without a dot at its beginning and a slash at the end',
    (value) => value,
    PATTERN,
    String,
    (value) => `/${value.replace(/^\/+|\/+$/g, '')}`,
  );
}

/** Printable ASCII, 1 to 512 characters, so that it fits into one HTTP header value. */
export function apiKey(): ValueType<string> {
  return text('1 to 512 printable ASCII characters', /^[\x20-\x7e]{1,512}$/);
}

export interface Endpoint {
  /** Scheme, host and port, as in `https://name.openai.azure.com`. */
  readonly origin: string;
  /** The ignored part after the origin, without the values of the query. */
  readonly dropped?: string;
  /** The deployment in the ignored path. */
  readonly deployment?: string;
  readonly insecure: boolean;
}

const DEPLOYMENT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

const ENDPOINT_PATHS = /^\/?$|^\/openai\/?$|^\/openai\/v1\/?$|^\/openai\/deployments\/[^/]+(?:\/[^?#]*)?$/;

/** An Azure OpenAI endpoint in any form that the portal, SDKs and older samples show. */
export function endpoint(): ValueType<Endpoint> {
  const read = (value: string): Endpoint | Issue => {
    const parsed = parseHttpUrl(value);
    if (!parsed) return { issue: 'it is not a full URL with scheme and host' };
    if (mistakeInHost(parsed.hostname)) return { issue: 'the host is not one of an Azure OpenAI resource' };
    if (hasUserInfo(value)) return { issue: 'the URL holds a user name or password' };
    if (value.includes('#')) return { issue: 'the URL holds a fragment' };
    if (parsed.search !== '' && [...parsed.searchParams.keys()].some((name) => name !== 'api-version')) {
      return { issue: 'the URL holds a query other than api-version' };
    }
    if (!ENDPOINT_PATHS.test(parsed.pathname))
      return { issue: 'the path is not one of an Azure OpenAI resource' };
    const path = parsed.pathname.replace(/^\/$/, '');
    const dropped = `${path}${parsed.search ? '?api-version=…' : ''}`;
    const [, deployment = ''] = /^\/openai\/deployments\/([^/]+)/.exec(path) ?? [];
    return {
      origin: parsed.origin,
      insecure: parsed.protocol === 'http:',
      ...(dropped ? { dropped } : {}),
      ...(DEPLOYMENT_NAME.test(deployment) ? { deployment } : {}),
    };
  };
  return custom<Endpoint>(
    'the URL of an Azure OpenAI resource, such as https://name.openai.azure.com (also with /openai, /openai/v1 or a deployment path)',
    read,
    undefined,
    ({ origin }) => origin,
    (value) => {
      const parsed = parseHttpUrl(value);
      if (!parsed) {
        if (/^[a-z0-9][a-z0-9-]+$/i.test(value) && value.toLowerCase() !== 'localhost')
          return {
            issue: 'it is a name, not a URL',
            suggestion: `https://${value.toLowerCase()}.openai.azure.com`,
          };
        return mistakeInUrl(value, (text) => !isIssue(read(text)));
      }
      const elsewhere = mistakeInHost(parsed.hostname);
      if (elsewhere) return elsewhere;
      const suggestion = parsed.origin;
      const isProject = /^\/api\/projects\b/i.test(parsed.pathname);
      if (isProject) return { issue: 'it is the URL of a Foundry project, not of its resource', suggestion };
      if (/^\/models\b/i.test(parsed.pathname))
        return { issue: "it is the URL of Foundry's model inference, not of its resource", suggestion };
      return { suggestion };
    },
  );
}

export interface DeploymentName {
  /** The name that clients use. */
  readonly name: string;
  /** The name on the backend. */
  readonly backendName: string;
}

/** `name` or `name=backend-name`. */
export function deployment(): ValueType<DeploymentName> {
  return custom<DeploymentName>(
    'name or name=backend-name',
    (value) => {
      const [name = '', backendName = name] = value.split('=');
      return { name, backendName };
    },
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:=[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$/,
    ({ name, backendName }) => (name === backendName ? name : `${name}=${backendName}`),
  );
}

export interface PoolBackend {
  readonly name: string;
  /** Undefined: the priority of the backend. */
  readonly priority?: number;
  /** Undefined: the weight of the backend. */
  readonly weight?: number;
}

/** `name`, `name:priority` or `name:priority:weight`. */
export function poolBackend(): ValueType<PoolBackend> {
  return custom<PoolBackend>(
    'name, name:priority or name:priority:weight, with a priority up to 1000000 and a weight up to 10000',
    (value) => {
      const [name = '', priority, weight] = value.split(':');
      if (Number(priority ?? 0) > 1_000_000 || Number(weight ?? 0) > 10_000)
        return { issue: 'it is out of range' };
      return {
        name,
        ...(priority === undefined ? {} : { priority: Number(priority) }),
        ...(weight === undefined ? {} : { weight: Number(weight) }),
      };
    },
    /^[A-Za-z0-9._-]{1,100}(?::(?:0|[1-9]\d{0,6})(?::(?:0|[1-9]\d{0,4}))?)?$/,
    ({ name, priority, weight }) =>
      [name, ...(priority === undefined ? [] : [priority]), ...(weight === undefined ? [] : [weight])].join(
        ':',
      ),
  );
}

export interface ModelPrice {
  readonly model: string;
  /** USD per million tokens. */
  readonly prompt: number;
  readonly completion: number;
}

/** `model=prompt/completion`, in USD per million tokens. */
export function modelPrice(): ValueType<ModelPrice> {
  const amount = /(?:0|[1-9]\d{0,5})(?:\.\d{1,6})?/.source;
  return custom<ModelPrice>(
    'model=prompt/completion in USD per million tokens, such as gpt-4o=2.50/10',
    (value) => {
      const [model = '', prices = ''] = value.split('=');
      const [prompt, completion] = prices.split('/').map(Number);
      return { model, prompt: prompt ?? 0, completion: completion ?? 0 };
    },
    new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}=${amount}/${amount}$`),
    ({ model, prompt, completion }) => `${model}=${prompt}/${completion}`,
  );
}
