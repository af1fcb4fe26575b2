/** The HTTP interface below `/++/`, through which people and tests control a running mock. */
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { ANSWERS } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Config, type MockConfig, OPERATION_LATENCIES, PROFILES } from './config.ts';
import type { RecordedRequest } from './request-log.ts';
import { MAX_COMPLETION_TOKENS } from './text.ts';

export interface Controlled {
  readonly config: Config;
  readonly requests: readonly RecordedRequest[];
  readonly deployments: readonly string[] | undefined;
  configure(patch: MockConfig): void;
  script(...behaviours: Behaviour[]): void;
  clearRequests(): void;
  clearScripts(): void;
  reset(): void;
}

/** An invalid request; the message gives the reason. */
class Unusable extends Error {}

export function control(mock: Controlled, method: string, target: string, body: Buffer): Behaviour {
  try {
    const [path, query = ''] = target.split('?', 2);
    switch (`${method} ${path}`) {
      case 'GET /++/config':
        return { body: shownConfig(mock) };
      case 'PATCH /++/config':
        mock.configure(configPatch(parsed(body)));
        return { body: shownConfig(mock) };
      case 'POST /++/reset':
        reset(mock, query);
        return { status: 204 };
      case 'GET /++/requests':
        return { body: { requests: mock.requests.map(shownRequest) } };
      case 'DELETE /++/requests':
        mock.clearRequests();
        return { status: 204 };
      case 'POST /++/script': {
        const given = parsed(body);
        const behaviours = (Array.isArray(given) ? given : [given]).map(scripted);
        mock.script(...behaviours);
        return { body: { scripted: behaviours.length } };
      }
      default:
        return { status: 404, body: { error: `there is no ${method} ${path}` } };
    }
  } catch (error) {
    if (!(error instanceof Unusable || error instanceof RangeError)) throw error;
    return { status: 400, body: { error: error.message } };
  }
}

/** Resets everything, or only the scripts, which keeps stored objects, counts and recorded requests. */
function reset(mock: Controlled, query: string): void {
  if (query === '') mock.reset();
  else if (/^scripts(=(true|1)?)?$/.test(query)) mock.clearScripts();
  else throw new Unusable('reset takes no query, or ?scripts to remove only the scripts');
}

type Fields = Record<string, unknown>;
/** Returns the expectation in words if a value does not meet it. */
type Check = (value: unknown) => string | undefined;

const check =
  (expected: string, test: (value: unknown) => boolean): Check =>
  (value) =>
    test(value) ? undefined : expected;
const atLeast0 = check('a number of at least 0', (value) => typeof value === 'number' && value >= 0);
const positive = check(
  'a whole number of at least 1',
  (value) => Number.isInteger(value) && Number(value) >= 1,
);
const wholeFrom0 = check(
  'a whole number from 0 to 128000',
  (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MAX_COMPLETION_TOKENS,
);
const bool = check('true or false', (value) => typeof value === 'boolean');
const text = check('text', (value) => typeof value === 'string');
const oneOf = (...choices: readonly unknown[]): Check =>
  check(`one of ${choices.map((each) => JSON.stringify(each)).join(', ')}`, (value) =>
    choices.includes(value),
  );
const status = check(
  'a status from 200 to 599',
  (value) => Number.isInteger(value) && Number(value) >= 200 && Number(value) < 600,
);

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new Unusable('the body is not JSON');
  }
}

function fields(value: unknown, what: string, checks: Readonly<Record<string, Check>>): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Unusable(`${what} is not an object`);
  for (const [name, each] of Object.entries(value)) {
    const known = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (!known) throw new Unusable(`${what} has no ${name}; it has ${Object.keys(checks).join(', ')}`);
    const expected = known(each);
    if (expected !== undefined) throw new Unusable(`${name} of ${what} must be ${expected}`);
  }
  return value as Fields;
}

const anything: Check = () => undefined;
const LATENCY = { mean: atLeast0, std_dev: atLeast0 };
const LIMIT = { tpm: positive, windowMs: positive, rp: positive, rpWindowMs: positive };

function configPatch(value: unknown): MockConfig {
  const { simulator_mode: _, ...patch } = fields(value, 'the configuration', {
    simulator_mode: oneOf('generate'),
    profile: oneOf(...PROFILES),
    successHeaders: oneOf('2024', '2025'),
    latency: anything,
    limits: anything,
    answerTokens: wholeFrom0,
    recordRequests: bool,
    keepRequests: positive,
    recordBodies: bool,
  });
  if (patch.latency !== undefined) {
    const operations = Object.fromEntries(OPERATION_LATENCIES.map((name) => [name, anything]));
    const latency = fields(patch.latency, 'latency', {
      perRequestMs: atLeast0,
      perTokenMs: atLeast0,
      stdDev: atLeast0,
      ...operations,
    });
    for (const name of OPERATION_LATENCIES)
      if (latency[name] !== undefined) fields(latency[name], name, LATENCY);
  }
  if (patch.limits !== undefined) {
    if (typeof patch.limits !== 'object' || patch.limits === null)
      throw new Unusable('limits is not an object');
    for (const [deployment, limit] of Object.entries(patch.limits)) {
      if (limit === null) continue;
      const { tpm } = fields(limit, `the limit of ${deployment}`, LIMIT);
      if (tpm === undefined) throw new Unusable(`the limit of ${deployment} has no tpm`);
    }
  }
  return patch as MockConfig;
}

/** The configuration as the simulator shows it, with this mock's own fields. */
function shownConfig({ config, deployments }: Controlled): object {
  const operations = OPERATION_LATENCIES.map((name) => [
    name,
    { mean: 0, std_dev: 0, ...config.latency[name] },
  ]);
  return {
    simulator_mode: 'generate',
    allow_undefined_openai_deployments: deployments === undefined,
    openai_deployments: deployments ?? [],
    ...config,
    latency: {
      perRequestMs: 0,
      perTokenMs: 0,
      stdDev: 0,
      ...config.latency,
      ...Object.fromEntries(operations),
    },
  };
}

/**
 * Parses a behaviour from JSON. `answer` names a predefined answer, `options` are its arguments, and further fields
 * override it.
 */
function scripted(value: unknown): Behaviour {
  const { answer, options, path, ...rest } = fields(value, 'a behaviour', {
    answer: oneOf(...Object.keys(ANSWERS)),
    options: anything,
    path: text,
    times: positive,
    delayMs: atLeast0,
    status,
    headers: check('an object of text, lists of text, or null, that can be sent', isHeaders),
    body: check(
      'text or an object',
      (given) => typeof given === 'string' || (typeof given === 'object' && given !== null),
    ),
    framing: oneOf('content-length', 'chunked', 'close'),
    events: check('a list of text, or of objects with event, data and comment', isEvents),
    gapMs: atLeast0,
    splitBytes: positive,
    lineEnd: oneOf('\n', '\r\n', '\r'),
    done: bool,
    cutAfter: atLeast0,
    reset: oneOf('before-request-read', 'before-headers', 'after-headers'),
    hang: bool,
    closeConnection: bool,
  });
  const named = answer === undefined ? {} : namedAnswer(answer as keyof typeof ANSWERS, options);
  return {
    ...named,
    ...(rest as Behaviour),
    ...(path === undefined ? {} : { path: pattern(path as string) }),
  };
}

function isHeaders(given: unknown): boolean {
  if (typeof given !== 'object' || given === null) return false;
  try {
    for (const [name, value] of Object.entries(given)) {
      validateHeaderName(name);
      for (const each of value === null ? [] : [value].flat()) {
        if (typeof each !== 'string') return false;
        validateHeaderValue(name, each);
      }
    }
    return true;
  } catch {
    return false;
  }
}

function isEvents(given: unknown): boolean {
  const isText = (each: unknown) => each === undefined || typeof each === 'string';
  return (
    Array.isArray(given) &&
    given.every(
      (each) =>
        typeof each === 'string' ||
        (typeof each === 'object' && each !== null && isText(each.event) && isText(each.comment)),
    )
  );
}

function namedAnswer(name: keyof typeof ANSWERS, options: unknown): Behaviour {
  const make: (options?: never) => Behaviour = ANSWERS[name];
  const behaviour = make((options ?? undefined) as never);
  if (!isHeaders(behaviour.headers ?? {})) throw new Unusable(`${name} cannot be sent with these options`);
  return behaviour;
}

function pattern(source: string): RegExp {
  try {
    return new RegExp(source);
  } catch {
    throw new Unusable(`path is not a regular expression: ${source}`);
  }
}

const CREDENTIALS = ['api-key', 'authorization', 'ocp-apim-subscription-key', 'subscription-key'];

/** A recorded request without the values of credentials. */
function shownRequest(request: RecordedRequest): object {
  const { method, target, httpVersion, headers, body, connection, startedAt, state, endedAt, status } =
    request;
  const isText = body.equals(Buffer.from(body.toString('utf8')));
  return {
    method,
    target: target.replace(/([?&](?:api-key|subscription-key)=)[^&]*/gi, '$1[redacted]'),
    httpVersion,
    headers: headers.map(([name, value]) =>
      CREDENTIALS.includes(name.toLowerCase()) ? [name, '[redacted]'] : [name, value],
    ),
    ...(isText ? { body: body.toString('utf8') } : { bodyBase64: body.toString('base64') }),
    connection,
    startedAt,
    state,
    endedAt,
    status,
  };
}
