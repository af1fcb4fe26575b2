import { invalidRequest } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import type { Stores } from './store.ts';

export type Json = Readonly<Record<string, unknown>>;

/** A parsed request. */
export interface Call {
  readonly api: 'classic' | 'v1';
  readonly query: URLSearchParams;
  readonly apiVersion: string | undefined;
  readonly contentType: string;
  readonly body: Buffer;
  /** The deployment, from the path of the classic API, else from `model` in the body. */
  readonly deployment: string;
  /** The parsed JSON body; empty for other bodies. */
  readonly json: Json;
  readonly stores: Stores;
  /** Names of existing deployments; undefined: all names exist. */
  readonly deployments: readonly string[] | undefined;
  /** Length of generated texts in tokens, from the configuration. */
  readonly answerTokens: number;
  /** The bearer token of the request. */
  readonly bearer: string | undefined;
}

/** Thrown to answer a request with an error. */
export class Refused extends Error {
  readonly answer: Behaviour;

  constructor(answer: Behaviour) {
    super('the request is refused');
    this.answer = answer;
  }
}

/**
 * The body as an object.
 * @throws an error answer for any other body
 */
export function parsedBody(body: Buffer): Json {
  if (body.length === 0) return {};
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  } catch {
    // The error follows below.
  }
  throw new Refused(
    invalidRequest(
      'We could not parse the JSON body of your request. (HINT: This likely means you aren’t using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)',
      null,
      null,
    ),
  );
}

/** @throws an error answer if the member is missing */
export function required(json: Json, name: string): unknown {
  const value = json[name];
  if (value !== undefined && value !== null) return value;
  throw new Refused(
    invalidRequest(`Missing required parameter: '${name}'.`, name, 'missing_required_parameter'),
  );
}

/**
 * A positive whole number in the body, else the default.
 * @throws an error answer above `most`
 */
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
