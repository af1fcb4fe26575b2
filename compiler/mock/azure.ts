/** Answers like an Azure OpenAI resource, for requests without a scripted answer. */
import {
  badKey,
  badToken,
  deploymentNotFound,
  modelNotFound,
  resourceNotFound,
  throttled,
  throttledPtu,
} from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, parsedBody, Refused } from './call.ts';
import { type Config, latencyOf } from './config.ts';
import { Limiter, type Standing } from './limiter.ts';
import { parseMultipart } from './multipart.ts';
import type { RequestRecord } from './request-log.ts';
import { type Operation, type Route, routeOf } from './routes.ts';
import { Stores } from './store.ts';

export interface AzureOptions {
  readonly keys: readonly string[] | undefined;
  readonly tokens: ((token: string) => boolean) | undefined;
  readonly deployments: readonly string[] | undefined;
}

/** The parts of a request target that can be determined without the body. */
export interface Address {
  readonly api: 'classic' | 'v1';
  /** The path below `/openai`, `/openai/v1` or the deployment, with a leading slash. */
  readonly path: string;
  readonly deployment: string | undefined;
  readonly query: URLSearchParams;
  readonly apiVersion: string | undefined;
}

export interface Answer {
  readonly behaviour: Behaviour;
  readonly deployment?: string;
  readonly standing?: Standing;
}

export class AzureOpenAI {
  readonly #options: AzureOptions;
  readonly #limiter = new Limiter();
  #stores = new Stores();

  constructor(options: AzureOptions) {
    this.#options = options;
  }

  /** Removes limit windows and all stored objects. */
  reset(): void {
    this.#limiter.reset();
    this.#stores = new Stores();
  }

  answer(request: RequestRecord, body: Buffer, config: Config): Answer {
    if (request.target === '/')
      return { behaviour: { body: { message: 'The mock Azure OpenAI is running' } } };
    const address = addressOf(request.target);
    try {
      if (!address) throw new Refused(resourceNotFound());
      const route = routeOf(request.method, address.path);
      if (!route?.operation.ephemeral) this.#authenticate(request, address);
      return this.#run(address, route, request, body, config);
    } catch (error) {
      if (error instanceof Refused) return { behaviour: error.answer };
      throw error;
    }
  }

  /** A key is accepted in any of the headers. A bearer token of the classic API must be one of Entra ID. */
  #authenticate(request: RequestRecord, { api }: Address): void {
    const { keys, tokens } = this.#options;
    const key = request.header('api-key');
    if (key !== undefined) {
      if (key === '' || (keys && !keys.includes(key))) throw new Refused(badKey());
      return;
    }
    const token = bearerOf(request);
    if (token === undefined) throw new Refused(badKey());
    const isKey = api === 'v1' && keys?.includes(token);
    if ((keys || tokens) && !isKey && !tokens?.(token)) throw new Refused(badToken());
  }

  #run(
    address: Address,
    route: Route | undefined,
    request: RequestRecord,
    body: Buffer,
    config: Config,
  ): Answer {
    const { api, query, apiVersion } = address;
    const versionMissing = api === 'classic' && !apiVersion;
    if (!route || versionMissing) throw new Refused(resourceNotFound());
    const { operation, ids } = route;
    if (operation.onlyOnV1 && api === 'classic') throw new Refused(resourceNotFound());
    if ((address.deployment !== undefined) !== (api === 'classic' && operation.ofDeployment)) {
      throw new Refused(resourceNotFound());
    }
    const contentType = request.header('content-type') ?? '';
    const multipart = /^multipart\//i.test(contentType);
    const json = multipart || /^application\/sdp\b/i.test(contentType) ? {} : parsedBody(body);
    const deployment = address.deployment ?? modelOf(json, multipart ? body : undefined, contentType);
    const { deployments } = this.#options;
    let standing: Standing | undefined;
    if (operation.cost) {
      if (deployment === '' || (deployments && !deployments.includes(deployment))) {
        throw new Refused(address.deployment === undefined ? modelNotFound() : deploymentNotFound());
      }
      const verdict = this.#limiter.admit(deployment, operation.cost(json), config);
      if (!verdict.allowed) {
        const about = { operation: operation.name, apiVersion: apiVersion ?? 'v1', deployment };
        return { behaviour: refusal(config, verdict, about), deployment };
      }
      standing = verdict.standing;
    }
    const call: Call = {
      api,
      query,
      apiVersion,
      contentType,
      body,
      deployment,
      json,
      stores: this.#stores,
      deployments,
      answerTokens: config.answerTokens,
      bearer: bearerOf(request),
    };
    const behaviour = delayed(operation.run(call, ...ids), operation, body.length, config);
    return { behaviour, ...(deployment === '' ? {} : { deployment }), ...(standing && { standing }) };
  }
}

const bearerOf = (request: RequestRecord): string | undefined =>
  /^bearer\s+(\S+)\s*$/i.exec(request.header('authorization') ?? '')?.[1];

/** Undefined for a path outside `/openai`. */
export function addressOf(target: string): Address | undefined {
  const [path = '', search = ''] = target.split('?', 2);
  const [, v1, rest = ''] = /^\/openai(\/v1)?(\/.*)$/.exec(path) ?? [];
  if (rest === '') return undefined;
  const query = new URLSearchParams(search);
  const apiVersion = query.get('api-version') ?? undefined;
  if (v1 !== undefined) return { api: 'v1', path: rest, deployment: undefined, query, apiVersion };
  const [, deployment, operation] = /^\/deployments\/([^/]+)(\/.*)$/.exec(rest) ?? [];
  return {
    api: 'classic',
    path: operation ?? rest,
    deployment: deployment === undefined ? undefined : decoded(deployment),
    query,
    apiVersion,
  };
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function modelOf(json: Json, multipart: Buffer | undefined, contentType: string): string {
  if (multipart === undefined) return typeof json.model === 'string' ? json.model : '';
  const parts = parseMultipart(multipart, contentType);
  return parts?.find(({ name }) => name === 'model')?.content.toString('utf8') ?? '';
}

function refusal(
  { profile, limits }: Config,
  { kind, retryAfterMs }: { readonly kind: 'tokens' | 'requests'; readonly retryAfterMs: number },
  about: { readonly operation: string; readonly apiVersion: string; readonly deployment: string },
): Behaviour {
  if (profile === 'azure-ptu') return throttledPtu({ retryAfterMs: Math.ceil(retryAfterMs) });
  const retryAfter = Math.ceil(retryAfterMs / 1000);
  if (profile === 'azure-standard') return throttled({ era: 'a', kind, retryAfter, ...about });
  const { windowMs } = limits[about.deployment] ?? limits['*'] ?? {};
  const message = `Requests to the OpenAI API Simulator have exceeded call rate limit. Please retry after ${retryAfter} seconds.`;
  return {
    status: 429,
    headers: {
      'Content-Type': null,
      'Retry-After': String(retryAfter),
      [`x-ratelimit-reset-${kind}`]: String(retryAfter),
      // The simulator reports whole seconds, which may be longer than a whole window that is shorter than a minute.
      ...(windowMs === undefined ? {} : { 'retry-after-ms': String(Math.ceil(retryAfterMs)) }),
    },
    body: { error: { code: '429', message } },
  };
}

/** Adds the latency. A whole answer has all of it before its headers; a stream spreads the token time over its events. */
function delayed(answer: Behaviour, { latency }: Operation, uploadBytes: number, config: Config): Behaviour {
  const { beforeMs, perTokenMs } = latencyOf(config, latency, uploadBytes);
  if (beforeMs === 0 && perTokenMs === 0) return answer;
  if (answer.events !== undefined) return { ...answer, delayMs: beforeMs, gapMs: perTokenMs };
  const { usage } = (answer.body ?? {}) as { usage?: { completion_tokens?: number; output_tokens?: number } };
  return {
    ...answer,
    delayMs: beforeMs + perTokenMs * (usage?.completion_tokens ?? usage?.output_tokens ?? 0),
  };
}
