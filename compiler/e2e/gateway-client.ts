/** Requests to the gateway. */
import type { Answered } from './observation.ts';

/** An error that does not come from the gateway's behaviour; its message is shown to the user. */
export class Failure extends Error {}

export interface GatewayAddress {
  /** Without a slash at its end. */
  readonly url: string;
  /** Keys of clients. */
  readonly keys: readonly string[];
  /** CONFIG_API_SHARED_SECRET, if the gateway has one. */
  readonly helperSecret?: string | undefined;
}

/** Longer than the gateway needs for its own time-outs. */
const PATIENCE_MS = 150_000;

/**
 * Sends a POST request.
 * @returns undefined if there was no answer
 */
export async function post(
  url: string,
  body: string,
  headers: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<Answered | undefined> {
  try {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
      signal: AbortSignal.any([AbortSignal.timeout(PATIENCE_MS), ...(signal ? [signal] : [])]),
    });
    return { status: answer.status, headers: answer.headers, text: await answer.text() };
  } catch {
    return undefined;
  }
}

/** The endpoint with which the latency scenario sets the order of the backends. */
export const PREFERRED_PATH = '/helpers/set-preferred-backends';

/** The header that the toolkit's own client does not send. */
export const helperHeaders = ({ helperSecret }: GatewayAddress): Record<string, string> =>
  helperSecret === undefined ? {} : { 'x-config-api-secret': helperSecret };

/** @returns the status; 0 without an answer */
export async function setPreferred(gateway: GatewayAddress, order: readonly string[]): Promise<number> {
  const { url, keys } = gateway;
  const body = JSON.stringify({ preferredBackends: order });
  const answer = await post(`${url}${PREFERRED_PATH}`, body, {
    'api-key': keys[0] ?? '',
    ...helperHeaders(gateway),
  });
  return answer?.status ?? 0;
}
