import { invalidRequest } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import type { Stores } from './store.ts';

export type Json = Readonly<Record<string, unknown>>;

/** A request as Azure understands it. */
export interface Call {
  readonly api: 'classic' | 'v1';
  readonly query: URLSearchParams;
  readonly apiVersion: string | undefined;
  readonly contentType: string;
  readonly body: Buffer;
  /** From the path of the classic API, else the `model` of the body. */
  readonly deployment: string;
  /** The body of a request with JSON, else nothing. */
  readonly json: Json;
  readonly stores: Stores;
  /** Deployments that there are; undefined for any. */
  readonly deployments: readonly string[] | undefined;
}

/** Thrown for a request that gets an error. */
export class Refused extends Error {
  readonly answer: Behaviour;

  constructor(answer: Behaviour) {
    super('the request is refused');
    this.answer = answer;
  }
}

/** The object that is the body; refused where it is none. */
export function parsedBody(body: Buffer): Json {
  if (body.length === 0) return {};
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  } catch {
    // Said below.
  }
  throw new Refused(
    invalidRequest(
      'We could not parse the JSON body of your request. (HINT: This likely means you aren’t using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)',
      null,
      null,
    ),
  );
}

/** Refused where it is missing. */
export function required(json: Json, name: string): unknown {
  const value = json[name];
  if (value !== undefined && value !== null) return value;
  throw new Refused(
    invalidRequest(`Missing required parameter: '${name}'.`, name, 'missing_required_parameter'),
  );
}

/** A positive whole number of the body, else the default; refused above `most`. */
export function count(json: Json, name: string, byDefault: number, most: number): number {
  const value = json[name];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1) return byDefault;
  if (value <= most) return value;
  throw new Refused(
    invalidRequest(`${name} is too large: ${value}. At most ${most} is supported.`, name, 'invalid_value'),
  );
}

/** Seconds since 1970, as Azure's objects have them. */
export const nowSeconds = (): number => Math.floor(Date.now() / 1000);
