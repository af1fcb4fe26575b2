/** The mock of Azure OpenAI: it answers official clients as Azure does, and fails as tests script it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI, { AzureOpenAI, toFile } from 'openai';
import { afterEach, describe, expect, test, vi } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { type MockBackend, type MockOptions, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { cannotRun } from '../support/requirements.ts';

const KEY = 'key-of-the-mock';
const API_VERSION = '2024-10-21';
const MESSAGES = [{ role: 'user' as const, content: 'Once upon a time' }];

const running: MockBackend[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
});

async function mock(options: MockOptions = {}): Promise<MockBackend> {
  const started = await startMockAzureOpenAI({ keys: [KEY], ...options });
  running.push(started);
  return started;
}

const classic = ({ url }: MockBackend, deployment?: string) =>
  new AzureOpenAI({
    endpoint: url,
    apiKey: KEY,
    apiVersion: API_VERSION,
    maxRetries: 0,
    ...(deployment && { deployment }),
  });
const v1 = ({ url }: MockBackend) => new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: KEY, maxRetries: 0 });

const CHAT = `/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}`;
const post = ({ url }: MockBackend, path: string, body: unknown, init: RequestInit = {}) =>
  fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'api-key': KEY, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...init,
  });

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe.each([
  ['classic', (backend: MockBackend) => classic(backend)],
  ['v1', v1],
] as const)('the mock answers the official client, %s API,', (api, clientOf) => {
  test('with a whole chat completion', async () => {
    const backend = await mock({ name: 'West Europe' });
    const { data, response } = await clientOf(backend)
      .chat.completions.create({ model: 'gpt-4o', messages: MESSAGES, max_tokens: 5 })
      .withResponse();
    expect(data).toMatchObject({
      model: 'gpt-4o-2024-07-18',
      object: 'chat.completion',
      choices: [
        { finish_reason: 'length', message: { role: 'assistant', content: 'Once upon a time there' } },
      ],
      usage: { prompt_tokens: 4, completion_tokens: 5, total_tokens: 9 },
      prompt_filter_results: [{ prompt_index: 0 }],
    });
    expect(response.headers.get('x-ms-region')).toBe('West Europe');
    expect(response.headers.get('x-ms-deployment-name')).toBe('gpt-4o');
    expect(response.headers.get('apim-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    const [request] = backend.requests;
    expect(request?.target).toBe(api === 'classic' ? CHAT : '/openai/v1/chat/completions');
    expect(request).toMatchObject({ method: 'POST', state: 'finished', status: 200, connection: 1 });
  });

  test('with a streamed chat completion', async () => {
    const backend = await mock();
    const stream = await clientOf(backend).chat.completions.create({
      model: 'gpt-4o',
      messages: MESSAGES,
      max_tokens: 200,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await all(stream);
    expect(chunks[0]).toMatchObject({ choices: [], id: '', model: '', prompt_filter_results: [{}] });
    expect(chunks[1]?.choices[0]?.delta).toEqual({ content: '', refusal: null, role: 'assistant' });
    expect(chunks.filter(({ choices }) => choices[0]?.delta.content)).toHaveLength(200);
    expect(chunks.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: 4, completion_tokens: 200 } });
    expect(chunks.slice(1, -1).every(({ usage }) => usage === null)).toBe(true);
    const raw = await post(backend, CHAT, { messages: MESSAGES, stream: true });
    expect(raw.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const text = await raw.text();
    expect(text).toMatch(/^data: \{"choices":\[\],.*\n\ndata: [\s\S]*\n\ndata: \[DONE\]\n\n$/);
    expect(text).not.toContain('"usage"');
  });

  test('with legacy completions, whole and streamed', async () => {
    const client = clientOf(await mock());
    const whole = await client.completions.create({ model: 'i', prompt: 'Once upon a time', max_tokens: 3 });
    expect(whole).toMatchObject({
      object: 'text_completion',
      choices: [{ text: 'Once upon a', logprobs: null, finish_reason: 'length' }],
      usage: { prompt_tokens: 4, completion_tokens: 3, total_tokens: 7 },
    });
    const chunks = await all(await client.completions.create({ model: 'i', prompt: 'Hi', stream: true }));
    expect(chunks.filter(({ choices }) => choices[0]?.text)).toHaveLength(16);
  });

  test('with embeddings as numbers and as base64', async () => {
    const client = clientOf(await mock());
    const input = ['one', 'two and more'];
    const base64 = await client.embeddings.create({ model: 'e', input, dimensions: 8 });
    const float = await client.embeddings.create({
      model: 'e',
      input,
      dimensions: 8,
      encoding_format: 'float',
    });
    expect(base64.data.map(({ embedding }) => embedding)).toEqual(
      float.data.map(({ embedding }) => embedding),
    );
    expect(base64.data[0]?.embedding).not.toEqual(base64.data[1]?.embedding);
    expect(float).toMatchObject({ usage: { prompt_tokens: 4, total_tokens: 4 } });
    for (const tokens of [
      [1, 2, 3],
      [[1, 2, 3], [4]],
    ] as number[][]) {
      const { data } = await client.embeddings.create({ model: 'e', input: tokens });
      expect(data).toHaveLength(Array.isArray(tokens[0]) ? 2 : 1);
      expect(data[0]?.embedding).toHaveLength(1536);
    }
  });

  test('with responses that only the resource that made them knows', async () => {
    const backend = await mock();
    const client = clientOf(backend);
    const first = await client.responses.create({
      model: 'gpt-4o',
      input: 'Once upon a time',
      max_output_tokens: 4,
      include: ['reasoning.encrypted_content'],
    });
    expect(first).toMatchObject({
      id: expect.stringMatching(/^resp_/),
      status: 'completed',
      model: 'gpt-4o',
      output_text: 'Once upon a time',
      usage: { input_tokens: 4, output_tokens: 4, total_tokens: 8 },
    });
    const next = { model: 'gpt-4o', input: 'And?', previous_response_id: first.id };
    expect((await client.responses.create(next)).id).not.toBe(first.id);
    const input = first.output as OpenAI.Responses.ResponseInput;
    expect(await client.responses.create({ model: 'gpt-4o', input })).toMatchObject({ status: 'completed' });
    expect(await client.responses.retrieve(first.id)).toMatchObject({ id: first.id, status: 'completed' });
    expect((await client.responses.inputItems.list(first.id)).data).toMatchObject([
      { content: [{ text: 'Once upon a time' }] },
    ]);
    const other = clientOf(await mock());
    await expect(other.responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 });
    await expect(other.responses.create(next)).rejects.toMatchObject({
      status: 400,
      code: 'previous_response_not_found',
    });
    await expect(other.responses.create({ model: 'gpt-4o', input })).rejects.toMatchObject({
      status: 400,
      code: 'invalid_encrypted_content',
    });
    await client.responses.delete(first.id);
    await expect(client.responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 });
  });

  test("with streamed responses whose events have Azure's order", async () => {
    const backend = await mock();
    const stream = await clientOf(backend).responses.create({
      model: 'gpt-4o',
      input: 'Hi',
      max_output_tokens: 3,
      stream: true,
    });
    const events = await all(stream);
    expect(events.map(({ type }) => type)).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.output_item.done',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ]);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
    expect(events.at(-1)).toMatchObject({ response: { status: 'completed', usage: { output_tokens: 3 } } });
    const raw = await post(backend, '/openai/v1/responses', { model: 'gpt-4o', input: 'Hi', stream: true });
    expect(await raw.text()).toMatch(
      /^event: response\.created\ndata: \{[\s\S]*"response\.completed"[^\n]*\n\n$/,
    );
  });

  test('with background responses, which can be polled or cancelled', async () => {
    const client = clientOf(await mock());
    const body = { model: 'gpt-4o', input: 'Hi', background: true };
    const waiting = await client.responses.create(body);
    expect(waiting.status).toBe('queued');
    expect((await client.responses.retrieve(waiting.id)).status).toBe('completed');
    const { id } = await client.responses.create(body);
    expect((await client.responses.cancel(id)).status).toBe('cancelled');
  });

  test('with conversations and their items', async () => {
    const client = clientOf(await mock());
    const { id } = await client.conversations.create({ metadata: { topic: 'tests' } });
    await client.responses.create({ model: 'gpt-4o', input: 'Hi', conversation: id });
    const { data } = await client.conversations.items.list(id);
    expect(data.map(({ type }) => type)).toEqual(['message', 'reasoning', 'message']);
    expect(await client.conversations.retrieve(id)).toMatchObject({ id, metadata: { topic: 'tests' } });
    await client.conversations.delete(id);
    await expect(client.conversations.retrieve(id)).rejects.toMatchObject({ status: 404 });
  });

  test('with files byte for byte, batches and vector stores', async () => {
    const client = clientOf(await mock());
    const content = Buffer.from([0, 255, 13, 10, 45, 45, 13, 10, 13, 10, 1]);
    const { id, bytes } = await client.files.create({
      file: await toFile(content, 'a.jsonl'),
      purpose: 'batch',
    });
    expect(bytes).toBe(content.length);
    expect(Buffer.from(await (await client.files.content(id)).arrayBuffer())).toEqual(content);
    expect((await client.files.list()).data).toMatchObject([{ id, filename: 'a.jsonl', purpose: 'batch' }]);
    const batch = await client.batches.create({
      input_file_id: id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    });
    expect(await client.batches.retrieve(batch.id)).toMatchObject({ id: batch.id, status: 'validating' });
    expect((await client.batches.cancel(batch.id)).status).toBe('cancelling');
    const store = await client.vectorStores.create({ name: 'books' });
    expect(await client.vectorStores.retrieve(store.id)).toMatchObject({ name: 'books' });
    expect((await client.vectorStores.list()).data).toHaveLength(1);
    await client.files.delete(id);
    await expect(client.files.retrieve(id)).rejects.toMatchObject({ status: 404 });
  });

  test('with images and audio', async () => {
    const backend = await mock();
    const client = clientOf(backend);
    const images = await client.images.generate({ model: 'gpt-image-1', prompt: 'a cat', n: 2 });
    expect(images.data).toHaveLength(2);
    const file = await toFile(Buffer.from('sound or picture'), 'upload.bin');
    // The Azure client cannot read the deployment out of a multipart body, so it is given here.
    const editor = api === 'classic' ? classic(backend, 'gpt-image-1') : client;
    const edited = await editor.images.edit({ model: 'gpt-image-1', image: file, prompt: 'a dog' });
    expect(edited.data?.[0]?.b64_json).toMatch(/^iVBOR/);
    expect(await client.audio.transcriptions.create({ model: 'whisper', file })).toMatchObject({
      text: expect.stringMatching(/^Once upon/),
    });
    const text = await client.audio.translations.create({ model: 'whisper', file, response_format: 'text' });
    expect(text).toMatch(/^Once upon/);
    const speech = await client.audio.speech.create({ model: 'tts', voice: 'alloy', input: 'Hello there' });
    expect((await speech.arrayBuffer()).byteLength).toBeGreaterThan(400);
  });
});

describe('the mock answers a wrong request', () => {
  test("with Azure's own error messages", async () => {
    const backend = await mock({ deployments: ['gpt-4o'] });
    const status = async (answer: Promise<Response>) => {
      const { status, ...response } = await answer.then(async (each) => ({
        status: each.status,
        body: await each.json(),
      }));
      return [status, response.body];
    };
    const body = { messages: MESSAGES };
    const named = (behaviour: { status?: number; body?: unknown }) => [behaviour.status, behaviour.body];
    expect(await status(post(backend, CHAT, body, { headers: {} }))).toEqual(named(answers.badKey()));
    expect(await status(post(backend, CHAT, body, { headers: { 'api-key': 'x' } }))).toEqual(
      named(answers.badKey()),
    );
    expect(await status(post(backend, CHAT, body, { headers: { authorization: `Bearer ${KEY}` } }))).toEqual(
      named(answers.badToken()),
    );
    expect(await status(post(backend, CHAT.replace('gpt-4o', 'gpt-5'), body))).toEqual(
      named(answers.deploymentNotFound()),
    );
    expect(await status(post(backend, '/openai/v1/chat/completions', { ...body, model: 'gpt-5' }))).toEqual(
      named(answers.modelNotFound()),
    );
    for (const path of [CHAT.split('?')[0] ?? '', '/openai/v1/nonsense', '/nonsense', '/openai/v1']) {
      expect(await status(post(backend, path, body))).toEqual(named(answers.resourceNotFound()));
    }
    const old = CHAT.replace(API_VERSION, '2024-02-01');
    expect(await status(post(backend, old, { ...body, stream_options: {} }))).toEqual(
      named(answers.unknownParameter()),
    );
    expect(
      await status(
        post(backend, '/openai/v1/responses', { model: 'gpt-4o', stream_options: { include_usage: true } }),
      ),
    ).toEqual(named(answers.unknownParameter('stream_options.include_usage')));
    expect((await status(post(backend, CHAT, undefined, { body: '{"a":' })))[0]).toBe(400);
    expect((await status(post(backend, CHAT, {})))[1]).toMatchObject({ error: { param: 'messages' } });
  });

  test('with 401 only when it has no credential, if the mock has no keys', async () => {
    const backend = await startMockAzureOpenAI();
    running.push(backend);
    const withHeaders = async (headers: Record<string, string>) =>
      (await post(backend, CHAT, { messages: MESSAGES }, { headers })).status;
    expect(await withHeaders({ 'api-key': 'x' })).toBe(200);
    expect(await withHeaders({ authorization: 'Bearer x' })).toBe(200);
    expect(await withHeaders({})).toBe(401);
    expect(await withHeaders({ 'api-key': '' })).toBe(401);
  });

  test('with 401 for a wrong token, whether or not the mock has keys', async () => {
    const ask = async (options: MockOptions, headers: Record<string, string>) => {
      const backend = await startMockAzureOpenAI({ tokens: (token) => token === 'good', ...options });
      running.push(backend);
      return (await post(backend, CHAT, { messages: MESSAGES }, { headers })).status;
    };
    for (const options of [{}, { keys: [] }, { keys: [KEY] }]) {
      expect(await ask(options, { authorization: 'Bearer good' })).toBe(200);
      expect(await ask(options, { authorization: 'Bearer bad' })).toBe(401);
      expect(await ask(options, { authorization: `Bearer ${KEY}` })).toBe(401);
    }
    expect(await ask({ keys: [KEY] }, { 'api-key': KEY })).toBe(200);
    expect(await ask({ keys: [] }, { 'api-key': KEY })).toBe(401);
    expect(await ask({ keys: [KEY] }, { 'api-key': 'bad', authorization: 'Bearer good' })).toBe(401);
  });
});

const ASK = { messages: MESSAGES };
const V1_CHAT = '/openai/v1/chat/completions';

/** Sends raw bytes on a new connection. Returns everything received, and the error that ended the connection. */
async function raw(
  backend: MockBackend,
  text: string,
): Promise<{ received: string; error: string | undefined }> {
  const socket = connect(backend.port, '127.0.0.1');
  let received = '';
  let error: string | undefined;
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1');
  });
  socket.on('error', (each: NodeJS.ErrnoException) => {
    error = each.code;
  });
  socket.write(text);
  await new Promise((resolve) => {
    socket.once('close', resolve);
  });
  return { received, error };
}

function rawPost(path: string, body: unknown): string {
  const text = JSON.stringify(body);
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nAPI-Key: ${KEY}\r\nConnection: close\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
}

/** The content of each chunk of an answer. */
function chunksOf(received: string): string[] {
  const chunks: string[] = [];
  let rest = received.slice(received.indexOf('\r\n\r\n') + 4);
  for (;;) {
    const [, length = '0'] = /^([0-9a-f]+)\r\n/i.exec(rest) ?? [];
    const size = Number.parseInt(length, 16);
    if (size === 0) return chunks;
    const start = length.length + 2;
    chunks.push(rest.slice(start, start + size));
    rest = rest.slice(start + size + 2);
  }
}

describe('the mock records a request', () => {
  test('with the order and case of its headers, every byte of its body, and its connection', async () => {
    const backend = await mock();
    const body = '{ "messages":[],\t"x": "\u00e9" }';
    const head = `POST ${CHAT}&x=%2f HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\napi-KEY: ${KEY}\r\n`;
    await raw(
      backend,
      `${head}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    );
    await raw(backend, 'GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n');
    const [request, second] = backend.requests;
    expect(request?.target).toBe(`${CHAT}&x=%2f`);
    expect(request?.headers.slice(0, 5)).toEqual([
      ['Host', 'h'],
      ['X-B', '1'],
      ['x-a', '2'],
      ['X-B', '3'],
      ['api-KEY', KEY],
    ]);
    expect(request?.header('x-b')).toBe('1');
    expect(request?.body.toString('utf8')).toBe(body);
    expect([request?.connection, second?.connection]).toEqual([1, 2]);
    expect(request?.endedAt).toBeGreaterThanOrEqual(request?.startedAt ?? Number.POSITIVE_INFINITY);
    await vi.waitFor(() => expect(backend.connections).toEqual({ opened: 2, open: 0 }));
  });

  test('as aborted when the peer disconnects while sending or while being answered', async () => {
    const backend = await mock();
    backend.script({ hang: true });
    const abort = new AbortController();
    const given = post(backend, CHAT, ASK, { signal: abort.signal });
    await backend.waitForRequests(1);
    await vi.waitFor(() => expect(backend.requests[0]?.state).toBe('answering'));
    abort.abort();
    await expect(given).rejects.toThrow();
    await vi.waitFor(() => expect(backend.requests[0]?.state).toBe('aborted'));
    const socket = connect(backend.port, '127.0.0.1');
    socket.write(`POST ${CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123`);
    await backend.waitForRequests(2);
    expect(backend.requests[1]?.state).toBe('receiving');
    socket.destroy();
    await vi.waitFor(() => expect(backend.requests[1]?.state).toBe('aborted'));
  });

  test('without its body, or not at all, when the configuration says so', async () => {
    const backend = await mock({ config: { recordBodies: false } });
    await post(backend, CHAT, ASK);
    expect(backend.requests[0]?.body).toHaveLength(0);
    backend.configure({ keepRequests: 1 });
    await post(backend, `${CHAT}&second`, ASK);
    expect(backend.requests.map(({ target }) => target)).toEqual([`${CHAT}&second`]);
    backend.configure({ recordRequests: false });
    await post(backend, CHAT, ASK);
    await backend.waitForRequests(3);
    expect(backend.requests).toHaveLength(0);
    await expect(backend.waitForRequests(4, 10)).rejects.toThrow('3 of 4 requests');
  });
});

describe('scripted answers', () => {
  test('apply to the paths they name, as often as they say, before permanent ones', async () => {
    const backend = await mock();
    const statusOf = async (path: string) =>
      (await post(backend, path, { ...ASK, model: 'gpt-4o', input: 'x' })).status;
    backend.script(
      { path: /embeddings/, status: 503 },
      { path: /chat/, status: 429, times: 2 },
      { status: 500 },
    );
    backend.always({ path: /chat/, status: 418 });
    const statuses = [];
    for (const path of [
      V1_CHAT,
      V1_CHAT,
      V1_CHAT,
      V1_CHAT,
      '/openai/v1/responses',
      '/openai/v1/embeddings',
    ]) {
      statuses.push(await statusOf(path));
    }
    expect(statuses).toEqual([429, 429, 500, 418, 200, 503]);
    backend.reset();
    expect(backend.requests).toHaveLength(0);
    expect(await statusOf(V1_CHAT)).toBe(200);
  });

  test("have Azure's body and headers for their status, unless the script overrides them", async () => {
    const backend = await mock();
    backend.script(
      { status: 429, headers: { 'retry-AFTER': null, 'x-more': ['1', '2'] } },
      { status: 502, body: '' },
    );
    const answer = await post(backend, CHAT, ASK);
    expect(await answer.json()).toMatchObject({ error: { code: '429' } });
    expect(answer.headers.get('retry-after')).toBeNull();
    expect(answer.headers.get('x-ratelimit-reset-tokens')).toBe('33');
    expect(answer.headers.get('x-more')).toBe('1, 2');
    const empty = await post(backend, CHAT, ASK);
    expect([empty.status, empty.headers.get('content-length'), await empty.text()]).toEqual([502, '0', '']);
  });

  test('without status, body and events only change how the usual answer is sent', async () => {
    const backend = await mock();
    backend.script({ delayMs: 60 }, { gapMs: 15, lineEnd: '\r\n', done: false });
    const before = performance.now();
    expect(await (await post(backend, CHAT, ASK)).json()).toMatchObject({ object: 'chat.completion' });
    expect(performance.now() - before).toBeGreaterThan(55);
    const begin = performance.now();
    const stream = await post(backend, CHAT, { ...ASK, max_tokens: 4, stream: true });
    const text = await stream.text();
    expect(performance.now() - begin).toBeGreaterThan(80);
    expect(text.split('\r\n\r\n')).toHaveLength(8);
    expect(text).not.toContain('[DONE]');
  });

  test('can frame bodies and streams in every way', async () => {
    const backend = await mock();
    const events = ['data: 1\n\n', { event: 'e', data: { two: 2 }, comment: 'c' }];
    const text = 'data: 1\n\n: c\nevent: e\ndata: {"two":2}\n\ndata: [DONE]\n\n';
    backend.script(
      { body: { a: 1 }, framing: 'content-length', closeConnection: true },
      { body: '{"a":1}', framing: 'chunked' },
      { body: Buffer.from('{"a":1}'), framing: 'close' },
      { events },
      { events, framing: 'content-length' },
      { events, framing: 'close' },
    );
    const answers = [];
    for (let index = 0; index < 6; index++) answers.push((await raw(backend, rawPost(CHAT, ASK))).received);
    const [whole, chunked, closed, streamed, measured, ended] = answers;
    expect(whole).toMatch(/Content-Length: 7\r\n[\s\S]*\r\n\r\n\{"a":1\}$/);
    expect(chunked).toMatch(/Transfer-Encoding: chunked\r\n\r\n7\r\n\{"a":1\}\r\n0\r\n\r\n$/);
    expect(closed).toMatch(/\r\n\r\n\{"a":1\}$/);
    expect(closed).not.toMatch(/content-length|transfer-encoding/i);
    expect(chunksOf(streamed ?? '').join('')).toBe(text);
    expect(measured).toContain(`Content-Length: ${text.length}\r\n`);
    expect(ended?.endsWith(`\r\n\r\n${text}`)).toBe(true);
    expect(ended).not.toMatch(/content-length|transfer-encoding/i);
  });

  test('can split what is sent into chunks of a given size', async () => {
    const backend = await mock();
    backend.script(
      { events: [{ data: 'abcdef' }], splitBytes: 5, done: false },
      { body: 'abcdef', splitBytes: 1 },
    );
    const { received } = await raw(backend, rawPost(CHAT, ASK));
    expect(chunksOf(received)).toEqual(['data:', ' abcd', 'ef\n\n']);
    const answer = await post(backend, CHAT, ASK);
    expect(await answer.text()).toBe('abcdef');
  });

  test('can cut streams and bodies off', async () => {
    const backend = await mock();
    backend.script({ cutAfter: 3 }, { body: 'abcdef', cutAfter: 2 }, { cutAfter: 0 });
    const stream = await raw(backend, rawPost(CHAT, { ...ASK, stream: true }));
    expect(chunksOf(stream.received).join('').split('\n\n')).toHaveLength(4);
    expect(stream.received).not.toMatch(/0\r\n\r\n$/);
    const body = await raw(backend, rawPost(CHAT, ASK));
    expect(body.received).toMatch(/Content-Length: 6\r\n[\s\S]*\r\n\r\nab$/);
    const nothing = await raw(backend, rawPost(CHAT, ASK));
    expect(nothing.received).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\n$/);
    expect(backend.requests.map(({ state }) => state)).toEqual(['finished', 'finished', 'finished']);
  });

  test('can reset the connection before or after the headers', async () => {
    const backend = await mock();
    backend.script({ reset: 'before-request-read' }, { reset: 'before-headers' }, { reset: 'after-headers' });
    for (const received of ['', '', expect.stringMatching(/^HTTP\/1\.1 200 /)]) {
      expect(await raw(backend, rawPost(CHAT, ASK))).toEqual({ received, error: 'ECONNRESET' });
    }
    expect(backend.requests.map(({ body }) => body.length > 0)).toEqual([false, true, true]);
  });

  test('can send events at the moment the test chooses', async () => {
    const backend = await mock();
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    async function* events() {
      yield { data: 'one' };
      await gate;
      yield { data: 'two' };
      await new Promise(() => undefined);
    }
    backend.script({ events: events() });
    const abort = new AbortController();
    const { body } = await post(backend, CHAT, ASK, { signal: abort.signal });
    const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader?.read())?.value).toBe('data: one\n\n');
    expect(backend.requests[0]?.state).toBe('answering');
    open();
    expect((await reader?.read())?.value).toBe('data: two\n\n');
    abort.abort();
    await vi.waitFor(() => expect(backend.requests[0]?.state).toBe('aborted'));
  });
});

describe('named answers', () => {
  const headersOf = async (...behaviours: Parameters<MockBackend['script']>) => {
    const backend = await mock();
    backend.script(...behaviours);
    const { headers } = await post(backend, CHAT, ASK);
    const names = ['retry-after', 'retry-after-ms', 'policy-id', 'content-length'];
    return Object.fromEntries(
      [...headers].filter(([name]) => names.includes(name) || name.startsWith('x-rate')),
    );
  };

  test.each([
    ['a', { 'retry-after': '33', 'x-ratelimit-reset-tokens': '33' }],
    [
      'b',
      {
        'x-rate-limit-reset-tokens': '33',
        'policy-id': 'DeploymentRatelimit-Token',
        'x-ratelimit-remaining-tokens': '0',
        'x-ratelimit-remaining-requests': '29',
      },
    ],
    ['c', { 'x-ratelimit-reset-tokens': '33', 'policy-id': 'DeploymentRatelimit-Token' }],
    [
      'd',
      {
        'x-ratelimit-limit-tokens': '-1',
        'x-ratelimit-remaining-tokens': '-1',
        'x-ratelimit-reset-tokens': '0',
      },
    ],
    [
      'e',
      {
        'retry-after': '33',
        'x-ratelimit-reset-tokens': '33',
        'x-ratelimit-remaining-tokens': '-1460',
        'x-ratelimit-remaining-requests': '29',
      },
    ],
  ] as const)("have the headers of Azure's 429 in era %s", async (era, expected) => {
    const { 'content-length': _, ...headers } = await headersOf(answers.throttled({ era }));
    expect(headers).toEqual(expected);
  });

  test('have the delay and the kind of limit that the options give', async () => {
    const headers = await headersOf(answers.throttled({ era: 'c', retryAfter: 4, kind: 'requests' }));
    expect(headers).toEqual({
      'x-ratelimit-reset-requests': '4',
      'policy-id': 'DeploymentRatelimit-Call',
      'content-length': '85',
    });
  });

  test("have the headers of a provisioned deployment's 429", async () => {
    const { 'content-length': _, ...headers } = await headersOf(answers.throttledPtu());
    expect(headers).toEqual({ 'retry-after': '1', 'retry-after-ms': '43' });
  });

  test('can be scripted by name', async () => {
    const backend = await mock();
    for (const [name, make] of Object.entries(answers.ANSWERS)) {
      backend.script(make());
      const { status } = await post(backend, CHAT, ASK);
      expect(status, name).toBe(make().status);
    }
    for (const variant of ['json', 'html', 'empty'] as const) {
      backend.script(answers.badGateway(variant));
      const answer = await post(backend, CHAT, ASK);
      const expected = { json: 'application/json', html: 'text/html', empty: null }[variant];
      expect(answer.headers.get('content-type')).toBe(expected);
    }
  });

  test('have status 200 when they refuse inside a stream', async () => {
    const backend = await mock();
    const types = async (behaviour: ReturnType<typeof answers.throttledStream>) => {
      backend.script(behaviour);
      const answer = await post(backend, '/openai/v1/responses', {
        model: 'gpt-4o',
        input: 'Hi',
        stream: true,
      });
      expect(answer.status).toBe(200);
      return (await answer.text())
        .split('\n\n')
        .filter((event) => event !== '')
        .map((event) => JSON.parse(event.slice(event.indexOf('data: ') + 6)));
    };
    const [created, error, failed, ...more] = await types(answers.throttledStream({ createdBytes: 20_000 }));
    expect(JSON.stringify(created).length).toBeGreaterThanOrEqual(20_000);
    expect(error).toMatchObject({
      type: 'error',
      error: { code: 'rate_limit_exceeded' },
      sequence_number: 1,
    });
    expect(failed).toMatchObject({
      type: 'response.failed',
      response: { error: { code: 'rate_limit_exceeded' } },
    });
    expect(more).toEqual([]);
    const late = await types(answers.throttledStream({ order: 'created-failed-error', nested: false }));
    expect(late.map(({ type }) => type)).toEqual(['response.created', 'response.failed', 'error']);
    expect(late[1]).toMatchObject({ response: { error: null } });
    expect(late[2]).toMatchObject({ code: 'rate_limit_exceeded' });
    expect(await types(answers.throttledStream({ order: 'error-only' }))).toHaveLength(1);
    expect(await types(answers.throttledStream({ api: 'chat' }))).toMatchObject([{ error: {} }]);
    backend.script(answers.throttledStream({ retryAfter: 7 }));
    expect((await post(backend, CHAT, ASK)).headers.get('retry-after')).toBe('7');
    expect((await types(answers.failedStream())).at(-1)).toMatchObject({
      response: { error: { code: 'server_error' } },
    });
  });
});

describe('limits', () => {
  test('count the tokens that may be generated, in sliding windows that a new configuration does not reset', async () => {
    const limits = { 'gpt-4o': { tpm: 100, windowMs: 400, rp: 50 } };
    const backend = await mock({ config: { limits } });
    const ask = (more: object) => post(backend, CHAT, { ...ASK, ...more });
    const first = await ask({ max_tokens: 40 });
    expect(Object.fromEntries(first.headers)).toMatchObject({
      'x-ratelimit-remaining-tokens': '60',
      'x-ratelimit-remaining-requests': '49',
      'x-ratelimit-limit-tokens': '100',
      'x-ratelimit-limit-requests': '50',
    });
    expect(
      (await ask({ max_completion_tokens: 20, best_of: 2 })).headers.get('x-ratelimit-remaining-tokens'),
    ).toBe('20');
    expect((await ask({})).headers.get('x-ratelimit-remaining-tokens')).toBe('4');
    backend.configure({ limits: { 'gpt-4o': { tpm: 100, windowMs: 400, rp: 50 } } });
    const refused = await ask({ max_tokens: 5 });
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({
      error: {
        message: expect.stringContaining(
          'ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21',
        ),
      },
    });
    expect(refused.headers.get('x-ratelimit-reset-tokens')).toBe('1');
    expect((await ask({ max_tokens: 4 })).status).toBe(200);
    const other = await post(backend, CHAT.replace('gpt-4o', 'other'), ASK);
    expect([other.status, other.headers.get('x-ratelimit-remaining-tokens')]).toEqual([200, null]);
    await vi.waitFor(async () => expect((await ask({ max_tokens: 100 })).status).toBe(200), {
      timeout: 2000,
    });
    backend.reset();
    expect((await ask({ max_tokens: 100 })).status).toBe(200);
    backend.configure({ limits: { 'gpt-4o': null } });
    expect((await ask({ max_tokens: 100 })).status).toBe(200);
  });

  test('count requests as well, and count a deployment across both APIs', async () => {
    const backend = await mock({ config: { limits: { '*': { tpm: 2000 } } } });
    const body = { ...ASK, model: 'gpt-4o', max_tokens: 1 };
    const statuses = [];
    for (const path of [CHAT, V1_CHAT, CHAT]) statuses.push((await post(backend, path, body)).status);
    expect(statuses).toEqual([200, 200, 429]);
    const embed = { input: ['x'.repeat(8000)], model: 'e' };
    expect(
      (await post(backend, '/openai/v1/embeddings', embed)).headers.get('x-ratelimit-remaining-tokens'),
    ).toBe('0');
  });

  test('are reported in headers as the profile defines', async () => {
    const limits = { '*': { tpm: 10, rp: 5 } };
    const backend = await mock({ config: { limits, profile: 'azure-ptu' } });
    const ask = () => post(backend, CHAT, { ...ASK, max_tokens: 10 });
    expect([...(await ask()).headers.keys()].filter((name) => name.startsWith('x-ratelimit'))).toEqual([]);
    const provisioned = await ask();
    expect(Number(provisioned.headers.get('retry-after-ms'))).toBeGreaterThan(50_000);
    backend.configure({ profile: 'simulator' });
    const simulated = await ask();
    expect(simulated.status).toBe(429);
    expect(simulated.headers.get('content-type')).toBeNull();
    expect(simulated.headers.get('retry-after')).toBe(simulated.headers.get('x-ratelimit-reset-tokens'));
  });

  test('delay an answer by a time per request and a time per token', async () => {
    const backend = await mock({ config: { latency: { perRequestMs: 30, perTokenMs: 5 } } });
    const timed = async (max_tokens: number) => {
      const begin = performance.now();
      await (await post(backend, CHAT, { ...ASK, max_tokens })).text();
      return performance.now() - begin;
    };
    expect(await timed(10)).toBeGreaterThan(75);
    backend.configure({ latency: { open_ai_chat_completions: { mean: 1, std_dev: 0 } } });
    expect(await timed(10)).toBeLessThan(75);
  });
});

describe('stop and restart', () => {
  test('behave as the end and the start of a process on the same port', async () => {
    const backend = await mock();
    backend.script({ hang: true });
    const hanging = post(backend, CHAT, ASK);
    await backend.waitForRequests(1);
    await Promise.all([backend.stop(), expect(hanging).rejects.toThrow()]);
    await expect(post(backend, CHAT, ASK)).rejects.toThrow();
    expect(backend.requests[0]?.state).toBe('aborted');
    const { url } = backend;
    await backend.restart();
    expect(backend.url).toBe(url);
    expect((await post(backend, CHAT, ASK)).status).toBe(200);
  });

  test('fail with EADDRINUSE when the port is in use', async () => {
    const { port } = await mock();
    await expect(startMockAzureOpenAI({ port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });
});

const noOpenssl = cannotRun('the mock over TLS', 'openssl');
test.skipIf(noOpenssl)(
  'the mock serves TLS and can reset TLS connections (skipped without openssl)',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mock-azure-openai-'));
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=localhost'];
    execFileSync('openssl', [...args, '-keyout', keyFile, '-out', certFile], { stdio: 'ignore' });
    const tls = { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(certFile, 'utf8') };
    rmSync(folder, { recursive: true });
    const backend = await mock({ tls });
    const status = () =>
      new Promise((resolve, reject) => {
        const options = {
          method: 'POST',
          headers: { 'api-key': KEY },
          rejectUnauthorized: false,
          agent: false,
        };
        const sent = request(`${backend.url}${CHAT}`, options as RequestOptions, (answer) => {
          answer.resume().once('error', reject);
          answer.once('end', () => resolve(answer.statusCode));
        });
        sent.once('error', reject).end(JSON.stringify(ASK));
      });
    expect(await status()).toBe(200);
    backend.script({ reset: 'before-headers' });
    await expect(status()).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(backend.requests.map(({ connection }) => connection)).toEqual([1, 2]);
  },
);

describe("the mock's control API", () => {
  const ask = async ({ url }: MockBackend, method: string, path: string, body?: unknown) => {
    const init = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const answer = await fetch(`${url}${path}`, init);
    const text = await answer.text();
    return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) };
  };

  test('reports that the mock is running', async () => {
    expect(await ask(await mock(), 'GET', '/')).toMatchObject({
      status: 200,
      body: { message: expect.stringContaining('running') },
    });
  });

  test('shows no credential in its log', async () => {
    const backend = await mock();
    await fetch(`${backend.url}${CHAT}&api-key=${KEY}`, {
      method: 'POST',
      headers: { 'API-key': KEY, authorization: `Bearer ${KEY}`, 'Ocp-Apim-Subscription-Key': KEY },
      body: JSON.stringify(ASK),
    });
    await post(backend, CHAT, undefined, { body: Buffer.from([255, 254]) });
    const { body } = await ask(backend, 'GET', '/++/requests');
    expect(JSON.stringify(body)).not.toContain(KEY);
    expect(body.requests).toMatchObject([
      {
        method: 'POST',
        target: `${CHAT}&api-key=[redacted]`,
        body: JSON.stringify(ASK),
        status: 200,
        state: 'finished',
      },
      { bodyBase64: '//4=', status: 400 },
    ]);
    expect((await ask(backend, 'DELETE', '/++/requests')).status).toBe(204);
    expect(backend.requests).toHaveLength(0);
  });

  test('shows and patches the configuration', async () => {
    const backend = await mock();
    const limits = { 'gpt-4o': { tpm: 10 } };
    const patch = { latency: { open_ai_completions: { mean: 10 } }, limits, profile: 'azure-ptu' };
    expect((await ask(backend, 'PATCH', '/++/config', patch)).status).toBe(200);
    expect((await ask(backend, 'GET', '/++/config')).body).toMatchObject({
      simulator_mode: 'generate',
      profile: 'azure-ptu',
      limits,
      latency: { open_ai_completions: { mean: 10, std_dev: 0 }, open_ai_embeddings: { mean: 0 } },
    });
    expect((await post(backend, CHAT, { ...ASK, max_tokens: 11 })).status).toBe(429);
  });

  test('scripts answers by name or in full', async () => {
    const backend = await mock();
    const script = [
      { answer: 'throttled', options: { era: 'e', retryAfter: 9 }, path: '/chat/', times: 2 },
      { answer: 'unavailable', options: 'html' },
      { status: 200, events: [{ event: 'x', data: { a: 1 } }], done: false },
    ];
    expect((await ask(backend, 'POST', '/++/script', script)).body).toEqual({ scripted: 3 });
    const seen = [];
    for (let index = 0; index < 4; index++) {
      const answer = await post(backend, CHAT, ASK);
      seen.push([answer.status, answer.headers.get('retry-after'), (await answer.text()).slice(0, 9)]);
    }
    expect(seen).toEqual([
      [429, '9', '{"error":'],
      [429, '9', '{"error":'],
      [503, null, '<html><he'],
      [200, null, 'event: x\n'],
    ]);
    await ask(backend, 'POST', '/++/script', { status: 500 });
    expect((await ask(backend, 'POST', '/++/reset')).status).toBe(204);
    expect((await post(backend, CHAT, ASK)).status).toBe(200);
  });

  test.each([
    ['POST', '/++/script', { statsu: 500 }, 'a behaviour has no statsu'],
    ['POST', '/++/script', { path: '(' }, 'path is not a regular expression'],
    ['POST', '/++/script', { answer: 'toString' }, 'answer of a behaviour must be one of "throttled"'],
    ['POST', '/++/script', { answer: 'throttled', options: { era: 'z' } }, 'era is z'],
    ['POST', '/++/script', { headers: { 'a b': 'x' } }, 'headers of a behaviour must be'],
    ['POST', '/++/script', { events: [null] }, 'events of a behaviour must be'],
    ['POST', '/++/script', 5, 'a behaviour is not an object'],
    ['PATCH', '/++/config', { latency: { perRequestMs: 'x' } }, 'perRequestMs of latency must be a number'],
    ['PATCH', '/++/config', { limits: { d: {} } }, 'the limit of d has no tpm'],
    ['PATCH', '/++/config', { simulator_mode: 'record' }, 'simulator_mode of the configuration must be'],
  ])('explains what is wrong with %s %s and %j', async (method, path, body, message) => {
    const answer = await ask(await mock(), method, path, body);
    expect(answer).toMatchObject({ status: 400, body: { error: expect.stringContaining(message) } });
  });

  test('answers any other path with 404', async () => {
    expect((await ask(await mock(), 'GET', '/++/nonsense')).status).toBe(404);
  });
});
