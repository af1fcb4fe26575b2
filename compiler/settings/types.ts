/**
 * The value types that settings are declared with: from the trimmed, non-empty text of a variable to its value, with
 * the words for "what was expected". Text is never coerced: what does not match is an issue.
 */
import * as z from 'zod/mini';

/** What a text comes to: a value, or an issue, in words where they say more than "expected …". */
export type Parsed<T> = { readonly value: T } | Issue;

interface Issue {
  readonly issue: string | undefined;
}

export interface ValueType<T> {
  /** Completes the sentence "expected …". */
  readonly expected: string;
  /** The texts that may be values, as far as a pattern can tell; for JSON Schema. */
  readonly schema: z.ZodMiniType<string, string>;
  parse(text: string): Parsed<T>;
  /** The value as a user would write it. */
  format(value: T): string;
}

/**
 * A type of texts that match a pattern, which `read` takes apart. A render parses a dozen of hundreds of settings:
 * patterns are made, and zod's schemas beside them, when they are asked for.
 */
function custom<T>(
  expected: string,
  read: (text: string) => T | Issue,
  pattern?: RegExp | (() => RegExp),
  format: (value: T) => string = String,
): ValueType<T> {
  const made = () => (typeof pattern === 'function' ? pattern() : pattern);
  return {
    expected,
    format,
    get schema() {
      return matching(made());
    },
    parse: (text) => {
      if (made()?.test(text) === false) return { issue: undefined };
      const result = read(text);
      return isIssue(result) ? result : { value: result };
    },
  };
}

/** A type of texts that one of zod's own schemas takes. */
function known(expected: string, schema: () => z.ZodMiniType<string, string>): ValueType<string> {
  return {
    expected,
    format: String,
    get schema() {
      return schema();
    },
    parse: (text) => (schema().safeParse(text).success ? { value: text } : { issue: undefined }),
  };
}

function isIssue(value: unknown): value is Issue {
  return typeof value === 'object' && value !== null && 'issue' in value;
}

const matching = (pattern: RegExp | undefined) => (pattern ? z.string().check(z.regex(pattern)) : z.string());

/** Free text, or text of a pattern. */
export function text(expected: string, pattern?: RegExp): ValueType<string> {
  return custom(expected, (value) => value, pattern);
}

/** Exactly one of some words, in any case; JSON Schema knows no flag for that. */
function anyCase(words: readonly string[]): RegExp {
  const letters = (word: string) =>
    word.replace(/[a-z]/gi, (each) => `[${each.toLowerCase()}${each.toUpperCase()}]`);
  return new RegExp(`^(?:${words.map(letters).join('|')})$`);
}

/** A switch. */
export function boolean(): ValueType<boolean> {
  return custom(
    'true, false, 1, 0, yes, no, on or off',
    (value) => /^(?:true|1|yes|on)$/i.test(value),
    () => anyCase(['true', 'false', '1', '0', 'yes', 'no', 'on', 'off']),
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
      return number >= min && number <= max ? number : { issue: 'out of range' };
    },
    /^(?:0|-?[1-9]\d*)$/,
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
      return parsed >= min && parsed > exclusiveMin && parsed <= max ? parsed : { issue: 'out of range' };
    },
    // Twelve decimals are more than any rate or price needs, and keep the number free of exponents when written.
    /^(?:0|[1-9]\d{0,11})(?:\.\d{1,12})?$/,
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
      return milliseconds >= min && milliseconds <= max ? milliseconds : { issue: 'out of range' };
    },
    /^(?:0|[1-9]\d{0,9})(?:ms|s|m|h)?$/,
    formatDuration,
  );
}

/** The shortest of `500ms`, `30s`, `5m`, `1h` for a number of milliseconds; both Go and this program read it. */
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
  return custom<number>(
    `a size such as 512k, 100m or 1g, from ${min} to ${max} bytes`,
    (value) => {
      const unit = /[kmg]$/i.exec(value)?.[0].toLowerCase() ?? '';
      const bytes = Number.parseInt(value, 10) * units[unit as keyof typeof units];
      return bytes >= min && bytes <= max ? bytes : { issue: 'out of range' };
    },
    /^[1-9]\d{0,14}[kmgKMG]?$/,
    (bytes) => {
      const unit = (['g', 'm', 'k'] as const).find((each) => bytes % units[each] === 0) ?? '';
      return `${bytes / units[unit]}${unit}`;
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
        aliases[lower] ?? { issue: 'unknown value' }
      );
    },
    () => anyCase([...values, ...Object.keys(aliases)]),
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
      // By its place: the text of an item may hold what must not be shown, a password in a URL say.
      if (isIssue(parsed)) return { issue: `item ${items.length + 1} is not ${item.expected}` };
      const key = identity(parsed.value);
      if (seen.has(key)) return { issue: `item ${items.length + 1} stands in the list twice` };
      seen.add(key);
      items.push(parsed.value);
    }
    return items;
  };
  const format = (items: readonly T[]) => items.map((each) => item.format(each)).join(',');
  return custom(`a comma-separated list, each item ${item.expected}`, parse, undefined, format);
}

/** An IP address or a CIDR range, v4 or v6. */
export function cidr(): ValueType<string> {
  return known('an IP address or CIDR range such as 10.0.0.0/8', () =>
    // APISIX takes no IPv4 within IPv6.
    z.union([z.ipv4(), z.cidrv4(), z.ipv6().check(z.regex(/^[^.]*$/)), z.cidrv6().check(z.regex(/^[^.]*$/))]),
  );
}

/** An absolute http(s) URL without credentials or fragment, kept as written. */
export function url(options: { query?: boolean } = {}): ValueType<string> {
  const query = options.query ? '' : ', query';
  return custom<string>(`a full http or https URL without credentials${query} or fragment`, (value) => {
    const parsed = parseHttpUrl(value);
    if (!parsed) return { issue: 'not a full URL' };
    if (hasUserInfo(value) || value.includes('#')) return { issue: 'credentials or a fragment in the URL' };
    if (!options.query && value.includes('?')) return { issue: 'a query in the URL' };
    return value;
  });
}

/** WHATWG parsing repairs too much (spaces, backslashes, a missing slash, odd hosts); this takes what was meant as a URL. */
export function parseHttpUrl(value: string): URL | undefined {
  const authority =
    /^https?:\/\/(?:[^/?#@]*@)?(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:[/?#]|$)/i;
  if (!authority.test(value) || /[\s\\<>"`{}|^]/.test(value)) return undefined;
  return URL.canParse(value) ? new URL(value) : undefined;
}

/** Whether a URL names a user, be it with an empty name. */
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
  );
}

/** A host name or IP address. */
export function host(): ValueType<string> {
  return known('a host name or IP address', () =>
    z.union([matching(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])$/), z.ipv6()]),
  );
}

/** An absolute path of characters that neither nginx nor a shell reads as anything else. */
export function absolutePath(): ValueType<string> {
  return text('an absolute path of letters, digits and . _ - /', /^(?:\/[A-Za-z0-9._-]+)+$/);
}

/** Printable ASCII, 1 to 512 characters: what fits into one HTTP header value. */
export function apiKey(): ValueType<string> {
  return text('1 to 512 printable ASCII characters', /^[\x20-\x7e]{1,512}$/);
}

export interface Endpoint {
  /** Scheme, host and port, as in `https://name.openai.azure.com`. */
  readonly origin: string;
  /** What was written behind the origin and is not used, without the query's values. */
  readonly dropped?: string;
  readonly insecure: boolean;
}

const ENDPOINT_PATHS = /^\/?$|^\/openai\/?$|^\/openai\/v1\/?$|^\/openai\/deployments\/[^/]+(?:\/[^?#]*)?$/;

/** An Azure OpenAI endpoint in any shape that the portal, the SDKs and the older samples show. */
export function endpoint(): ValueType<Endpoint> {
  return custom<Endpoint>(
    'the URL of an Azure OpenAI resource, such as https://name.openai.azure.com (also with /openai, /openai/v1 or a deployment path)',
    (value) => {
      const parsed = parseHttpUrl(value);
      if (!parsed) return { issue: 'not a full URL with scheme and host' };
      if (hasUserInfo(value)) return { issue: 'the URL holds a user name or password' };
      if (value.includes('#')) return { issue: 'the URL holds a fragment' };
      if ([...parsed.searchParams.keys()].some((name) => name !== 'api-version')) {
        return { issue: 'the URL holds a query other than api-version' };
      }
      if (!ENDPOINT_PATHS.test(parsed.pathname))
        return { issue: 'the path is not one of an Azure OpenAI resource' };
      const path = parsed.pathname.replace(/^\/$/, '');
      const dropped = `${path}${parsed.search ? '?api-version=…' : ''}`;
      return {
        origin: parsed.origin,
        insecure: parsed.protocol === 'http:',
        ...(dropped ? { dropped } : {}),
      };
    },
    undefined,
    ({ origin }) => origin,
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
