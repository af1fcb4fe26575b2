/** Azure OpenAI resources that only know the objects they created: a request for any other object is an error. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { HOST, hostAddress } from './gateway.ts';

type Json = Record<string, unknown>;

/** A request as a resource received it. */
export interface Asked {
  readonly method: string;
  readonly path: string;
}

/** Path segments in the place of an id that are no ids. */
const NO_ID = new Set(['compact', 'input_tokens', 'edits', 'jobs', 'generations']);

/** The kinds of objects that a path may name, with the prefixes of their ids. */
const KINDS: Readonly<Record<string, string>> = {
  responses: 'resp_',
  conversations: 'conv_',
  files: 'assistant-',
  uploads: 'upload_',
  batches: 'batch_',
  vector_stores: 'vs_',
  containers: 'cntr_',
  evals: 'eval_',
  videos: 'video_',
  jobs: 'ftjob-',
  completions: 'chatcmpl-',
  assistants: 'asst_',
  threads: 'thread_',
};

/** Members of a body whose strings are ids, wherever they occur. */
const NAMES = new Set([
  'previous_response_id',
  'conversation',
  'file_id',
  'file_ids',
  'vector_store_ids',
  'input_file_id',
  'training_file',
  'validation_file',
  'assistant_id',
  'approval_request_id',
  'container_id',
]);

export class OwningBackend {
  readonly asked: Asked[] = [];
  /** While set, answers everything with 429 and this delay in seconds. */
  throttledFor: number | undefined;
  /** While set, answers everything with this status. */
  failsWith: number | undefined;
  /** The error for encrypted reasoning of another resource. */
  refusal: Json = {
    code: 'invalid_encrypted_content',
    message: 'The encrypted content could not be verified.',
  };
  readonly #server: Server;
  readonly #ids = new Set<string>();
  readonly #seal = `gAAAAA${crypto.randomUUID()}`;

  constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  async start(): Promise<void> {
    this.#server.listen(0, await hostAddress());
    await once(this.#server, 'listening');
  }

  get endpoint(): string {
    return `http://${HOST}:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #make(prefix: string): string {
    const id = prefix + crypto.randomUUID().replaceAll('-', '');
    this.#ids.add(id);
    return id;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = ''] = (request.url ?? '').split('?');
    this.asked.push({ method: request.method ?? '', path });
    const sent = await text(request);
    const isJson = request.headers['content-type']?.includes('json') && sent !== '';
    const body = isJson ? (JSON.parse(sent) as Json) : {};
    const answer = (status: number, json: Json, headers: Record<string, string> = {}) => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(json));
    };
    if (this.throttledFor !== undefined) {
      const error = { code: '429', message: 'Too many requests.' };
      return answer(429, { error }, { 'retry-after': String(this.throttledFor) });
    }
    if (this.failsWith !== undefined)
      return answer(this.failsWith, { error: { code: 'failed', message: 'x' } });
    const missing = [...namedByPath(path), ...namedByBody(body)].find((id) => !this.#ids.has(id));
    if (missing !== undefined) {
      const message = /^(?:rs|msg|fc|ws|ig|cu|mcp|mcpr|ci)_/.test(missing)
        ? `Item with id '${missing}' not found.`
        : `No such object: ${missing}`;
      return answer(404, { error: { message, type: 'invalid_request_error', param: null, code: null } });
    }
    if (sealsIn(body).some((seal) => !seal.startsWith(this.#seal))) {
      return answer(400, { error: { type: 'invalid_request_error', param: null, ...this.refusal } });
    }
    const made = this.#answer(request.method ?? '', path, body);
    if (body.stream !== true) return answer(200, made);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(eventsOf(path, made));
  }

  #answer(method: string, path: string, body: Json): Json {
    const segments = path.split('/').filter((each) => each !== '');
    const last = segments.at(-1) ?? '';
    if (method !== 'POST') return { id: last, object: 'list', data: [] };
    if (path.endsWith('/chat/completions')) return this.#chat(body);
    if (last === 'responses' || last === 'compact') return this.#response(body);
    if (last === 'complete') return { id: segments.at(-2), file: { id: this.#make('file-') } };
    if (last === 'items') return { object: 'list', data: [{ id: this.#make('msg_') }] };
    const prefix = KINDS[last];
    return { id: prefix === undefined ? last : this.#make(prefix) };
  }

  #chat(body: Json): Json {
    const audio = body.audio === undefined ? {} : { audio: { id: this.#make('audio_'), data: 'AA==' } };
    const id = body.store === true ? this.#make('chatcmpl-') : 'chatcmpl-not-stored';
    return { id, choices: [{ index: 0, message: { role: 'assistant', content: 'x', ...audio } }] };
  }

  #response(body: Json): Json {
    const made = (prefix: string) =>
      body.store === false ? `${prefix}${crypto.randomUUID()}` : this.#make(prefix);
    const prefixes = ['msg_', 'fc_', 'ws_', 'ig_', 'cu_', 'mcp_', 'mcpr_', 'ci_'];
    const reasoning = {
      type: 'reasoning',
      id: made('rs_'),
      encrypted_content: `${this.#seal}${'x'.repeat(100)}`,
    };
    const others = prefixes.map((prefix) => ({ type: 'item', id: made(prefix), container_id: 'none' }));
    const container = this.#make('cntr_');
    return {
      id: made('resp_'),
      object: 'response',
      status: 'completed',
      output: [reasoning, ...others.map((item) => ({ ...item, container_id: container }))],
    };
  }
}

function namedByPath(path: string): string[] {
  const segments = path.split('/').filter((each) => each !== '');
  return segments.filter((each, index) => {
    const kind = segments[index - 1] ?? '';
    return kind in KINDS && !NO_ID.has(each) && index > 1;
  });
}

function namedByBody(value: unknown, name = ''): string[] {
  if (typeof value === 'string') return NAMES.has(name) ? [value] : [];
  if (Array.isArray(value)) {
    const items = ['input', 'items'].includes(name)
      ? value.flatMap((item: Json) =>
          typeof item?.id === 'string' && !item.encrypted_content ? [item.id] : [],
        )
      : [];
    return [...items, ...value.flatMap((item) => namedByBody(item, name))];
  }
  if (typeof value !== 'object' || value === null) return [];
  const { id } = value as Json;
  const own = ['conversation', 'audio', 'video'].includes(name) && typeof id === 'string' ? [id] : [];
  return [...own, ...Object.entries(value).flatMap(([each, inner]) => namedByBody(inner, each))];
}

function sealsIn(body: Json): string[] {
  const input = Array.isArray(body.input) ? (body.input as Json[]) : [];
  return input.flatMap(({ encrypted_content: seal }) => (typeof seal === 'string' ? [seal] : []));
}

function eventsOf(path: string, made: Json): string {
  const event = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
  if (path.endsWith('/chat/completions')) {
    const [choice] = made.choices as { message: Json }[];
    return `${event({ id: '', choices: [] })}${event({
      id: made.id,
      choices: [{ index: 0, delta: choice?.message }],
    })}data: [DONE]\n\n`;
  }
  const items = (made.output as Json[]).map((item) => event({ type: 'response.output_item.done', item }));
  return [
    event({ type: 'response.created', response: { id: made.id, output: [] } }),
    ...items,
    event({ type: 'response.completed', response: made }),
  ].join('');
}

/** Starts this number of resources. */
export async function startOwningBackends(count: number): Promise<OwningBackend[]> {
  const backends = Array.from({ length: count }, () => new OwningBackend());
  await Promise.all(backends.map((each) => each.start()));
  return backends;
}

/** Settings that replace a gateway's mocks by these backends. */
export const endpointsOf = (backends: readonly OwningBackend[]): Record<string, string> =>
  Object.fromEntries(backends.map(({ endpoint }, index) => [`AZURE_OPENAI_ENDPOINT_${index}`, endpoint]));
