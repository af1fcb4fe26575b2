/** What one request of a scenario saw, and a run of many of them. */
import type { Lane } from '../model/model.ts';

export interface Observation {
  /** Milliseconds from the start of the run to the sending of the request. */
  readonly at: number;
  /** Milliseconds to the end of the answer. */
  readonly ms: number;
  /** 0: no answer. */
  readonly status: number;
  /** The backend that answered (`x-gateway-backend`); undefined if the gateway itself did. */
  readonly backend: string | undefined;
  readonly lane: Lane;
  /** Which of the client keys was used, from 0. */
  readonly client: number;
  /** The tokens by which Azure's rate limits count the request. */
  readonly cost: number;
  /** `usage.total_tokens` of the answer; 0 if it has none. */
  readonly tokens: number;
  /** `x-gw-priority` of the answer. */
  readonly priority: string | undefined;
  /** `x-gw-ratelimit-reason` of the answer. */
  readonly reason: string | undefined;
}

export type StageLane = Lane | 'mixed';

export interface RunStage {
  readonly lane: StageLane;
  /** In milliseconds from the start of the run. */
  readonly from: number;
  readonly to: number;
}

export interface Run {
  /** In the order in which the requests were sent. */
  readonly observations: readonly Observation[];
  readonly stages: readonly RunStage[];
  /** Milliseconds of the run for one second of the scenario. */
  readonly second: number;
  /** Length of the minute that token budgets count, in milliseconds of the run. */
  readonly minute: number;
  /** Calls of the helper that sets the preferred backends, in their order. */
  readonly helpers: readonly HelperCall[];
  /** Tokens by client, as the gateway's metrics counted them during the run; or the reason why they are not known. */
  readonly counted: readonly number[] | string;
  /** Replicas during the run; or the reason why they are not known. */
  readonly replicas: Replicas | string;
}

export interface HelperCall {
  /** Milliseconds from the start of the run to the answer; below 0 before the load. */
  readonly at: number;
  /** 0: no answer. */
  readonly status: number;
  /** The backends that it set, the preferred one first. */
  readonly order: readonly string[];
}

export interface Replicas {
  /** The configured minimum. */
  readonly least: number;
  /** The most at any time. */
  readonly most: number;
}

const EMBEDDING_CHARACTERS = 4;
const DEFAULT_COMPLETION = 16;

/**
 * The tokens by which Azure's rate limits count a request: a quarter of the characters of an embedding's input, else
 * `max_tokens`, else 16.
 */
export function costOf(path: string, body: unknown): number {
  const { input, max_tokens: maximum } = (body ?? {}) as { input?: unknown; max_tokens?: unknown };
  if (typeof maximum === 'number' && maximum > 0) return maximum;
  if (!/\/embeddings(?:\?|$)/.test(path)) return DEFAULT_COMPLETION;
  return [input ?? '']
    .flat()
    .reduce<number>((sum, each) => sum + Math.ceil(String(each).length / EMBEDDING_CHARACTERS), 0);
}

export interface Sent {
  readonly at: number;
  readonly path: string;
  readonly lane: Lane;
  readonly client: number;
  readonly body: unknown;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** @param answer undefined if there was none */
export function observationOf(sent: Sent, answer: Answered | undefined, ms: number): Observation {
  const header = (name: string) => answer?.headers.get(name) ?? undefined;
  return {
    at: sent.at,
    ms,
    status: answer?.status ?? 0,
    backend: header('x-gateway-backend'),
    lane: sent.lane,
    client: sent.client,
    cost: costOf(sent.path, sent.body),
    tokens: totalTokens(answer?.text),
    priority: header('x-gw-priority'),
    reason: header('x-gw-ratelimit-reason'),
  };
}

function totalTokens(text = ''): number {
  try {
    const { usage } = JSON.parse(text) as { usage?: { total_tokens?: unknown } };
    return typeof usage?.total_tokens === 'number' ? usage.total_tokens : 0;
  } catch {
    return 0;
  }
}
