/** Operations of the mock other than model answers, called with the official client. */
import { createHash } from 'node:crypto';
import OpenAI, { AzureOpenAI, toFile } from 'openai';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';

const KEY = 'key-of-the-mock';
const MODEL = 'gpt-4o';
const MISSING = { status: 404 };

let backend: MockBackend;
let other: MockBackend;
let openai: OpenAI;
let elsewhere: OpenAI;
const clientOf = ({ url }: MockBackend) =>
  new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: KEY, maxRetries: 0 });
beforeAll(async () => {
  backend = await startMockAzureOpenAI({ keys: [KEY] });
  other = await startMockAzureOpenAI({ keys: [KEY] });
  openai = clientOf(backend);
  elsewhere = clientOf(other);
});
afterAll(() => Promise.all([backend.stop(), other.stop()]));
beforeEach(() => backend.reset());

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const uploaded = async (text: string, name = 'notes.txt') =>
  openai.files.create({ file: await toFile(Buffer.from(text), name), purpose: 'assistants' });

const fetched = (path: string, init: RequestInit = {}) =>
  fetch(`${backend.url}/openai/v1${path}`, {
    ...init,
    headers: { 'api-key': KEY, ...(init.headers as Record<string, string>) },
  });

test("the mock's vector stores hold files, alone and in batches, and can be searched", async () => {
  const first = await uploaded('The gateway is open.');
  const second = await uploaded('Nothing of that kind.', 'other.txt');
  const store = await openai.vectorStores.create({ name: 'kept', file_ids: [first.id] });
  expect(store.file_counts).toMatchObject({ completed: 1, total: 1 });
  const batch = await openai.vectorStores.fileBatches.create(store.id, { file_ids: [second.id] });
  expect(batch).toMatchObject({ object: 'vector_store.files_batch', status: 'completed' });
  expect(await openai.vectorStores.fileBatches.retrieve(batch.id, { vector_store_id: store.id })).toEqual(
    batch,
  );
  const inBatch = await all(
    openai.vectorStores.fileBatches.listFiles(batch.id, { vector_store_id: store.id }),
  );
  expect(inBatch.map(({ id }) => id)).toEqual([second.id]);
  expect((await all(openai.vectorStores.files.list(store.id))).map(({ id }) => id)).toEqual([
    second.id,
    first.id,
  ]);
  const hits = await all(openai.vectorStores.search(store.id, { query: 'Is the gateway there?' }));
  expect(hits).toMatchObject([
    { file_id: first.id, filename: 'notes.txt', content: [{ type: 'text', text: 'The gateway is open.' }] },
  ]);
  const changed = await openai.vectorStores.files.update(first.id, {
    vector_store_id: store.id,
    attributes: { topic: 'doors' },
  });
  expect(changed.attributes).toEqual({ topic: 'doors' });
  const content = await all(openai.vectorStores.files.content(second.id, { vector_store_id: store.id }));
  expect(content).toEqual([{ type: 'text', text: 'Nothing of that kind.' }]);
  await openai.vectorStores.files.delete(first.id, { vector_store_id: store.id });
  await expect(
    openai.vectorStores.files.retrieve(first.id, { vector_store_id: store.id }),
  ).rejects.toMatchObject(MISSING);
  expect((await openai.vectorStores.update(store.id, { name: 'renamed' })).name).toBe('renamed');
  expect((await openai.vectorStores.retrieve(store.id)).file_counts.total).toBe(1);
  await expect(elsewhere.vectorStores.retrieve(store.id)).rejects.toMatchObject(MISSING);
  await expect(
    openai.vectorStores.files.create(store.id, { file_id: 'file-of-another' }),
  ).rejects.toMatchObject(MISSING);
});

test("the mock's uploads become a file when all parts are completed", async () => {
  const about = { filename: 'parts.jsonl', purpose: 'batch' as const, mime_type: 'application/jsonl' };
  const upload = await openai.uploads.create({ ...about, bytes: 6 });
  expect(upload.status).toBe('pending');
  const part = async (text: string) =>
    (await openai.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(text), 'part') })).id;
  const [two, one] = [await part('def'), await part('abc')];
  await expect(openai.uploads.complete(upload.id, { part_ids: [one] })).rejects.toMatchObject({
    status: 400,
  });
  const md5 = createHash('md5').update('abcdef').digest('hex');
  const { status, file } = await openai.uploads.complete(upload.id, { part_ids: [one, two], md5 });
  expect([status, file?.bytes, file?.filename]).toEqual(['completed', 6, 'parts.jsonl']);
  expect(await (await openai.files.content(file?.id ?? '')).text()).toBe('abcdef');
  await expect(openai.uploads.cancel(upload.id)).rejects.toMatchObject({ status: 400 });
  const given = await openai.uploads.create({ ...about, bytes: 1 });
  expect((await openai.uploads.cancel(given.id)).status).toBe('cancelled');
  await expect(
    elsewhere.uploads.parts.create(given.id, { data: await toFile(Buffer.from('x'), 'part') }),
  ).rejects.toMatchObject(MISSING);
});

test('the mock counts input tokens, and only the resource that compacted an input can read it', async () => {
  const counted = await openai.responses.inputTokens.count({ model: MODEL, input: 'x'.repeat(40) });
  expect(counted).toEqual({ object: 'response.input_tokens', input_tokens: 10 });
  const compacted = await openai.responses.compact({
    model: MODEL,
    input: [
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'Once upon a time' },
    ],
  });
  expect(compacted).toMatchObject({
    object: 'response.compaction',
    output: [
      { type: 'message', role: 'user' },
      { type: 'compaction', encrypted_content: expect.stringMatching(/^gAAAAA/) },
    ],
  });
  const input = [...compacted.output, { role: 'user', content: 'Go on' }] as OpenAI.Responses.ResponseInput;
  expect((await openai.responses.create({ model: MODEL, input })).status).toBe('completed');
  await expect(elsewhere.responses.create({ model: MODEL, input })).rejects.toMatchObject({
    status: 400,
    code: 'invalid_encrypted_content',
  });
  const managed = await openai.responses.create({
    model: MODEL,
    input: 'x'.repeat(400),
    context_management: [{ type: 'compaction', compact_threshold: 50 }],
  });
  expect(managed.output.map(({ type }) => type)).toEqual(['compaction', 'reasoning', 'message']);
  const classic = new AzureOpenAI({
    endpoint: backend.url,
    apiKey: KEY,
    apiVersion: '2025-04-01-preview',
    maxRetries: 0,
  });
  await expect(classic.responses.compact({ model: MODEL, input: 'x' })).rejects.toMatchObject(MISSING);
});

test("the mock's realtime calls accept a client secret of the same resource, and no key", async () => {
  const secret = await openai.realtime.clientSecrets.create({ session: { type: 'realtime', model: MODEL } });
  expect(secret.value).toMatch(/^ek_/);
  const call = (url: string, token: string) =>
    fetch(`${url}/openai/v1/realtime/calls?model=${MODEL}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/sdp' },
      body: 'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n',
    });
  const answer = await call(backend.url, secret.value);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([201, 'application/sdp']);
  expect(answer.headers.get('location')).toMatch(/^\/openai\/v1\/realtime\/calls\/rtc_/);
  expect(await answer.text()).toMatch(/^v=0/);
  for (const refused of [await call(backend.url, KEY), await call(other.url, secret.value)]) {
    expect([refused.status, await refused.json()]).toEqual([
      401,
      { error: { code: 'Unauthorized', message: 'This operation requires ephemeral authentication.' } },
    ]);
  }
});

test("the mock's fine-tuning jobs stay pending, with events and checkpoints, until they are cancelled", async () => {
  const { id: file } = await uploaded('{}', 'training.jsonl');
  const job = await openai.fineTuning.jobs.create({ model: 'gpt-4o-mini', training_file: file });
  expect(job).toMatchObject({ status: 'pending', organization_id: null, result_files: null });
  expect(await all(openai.fineTuning.jobs.listEvents(job.id))).toHaveLength(1);
  expect(await all(openai.fineTuning.jobs.checkpoints.list(job.id))).toMatchObject([
    { fine_tuning_job_id: job.id },
  ]);
  expect((await openai.fineTuning.jobs.cancel(job.id)).status).toBe('cancelled');
  expect((await all(openai.fineTuning.jobs.list())).map(({ id }) => id)).toEqual([job.id]);
  await expect(elsewhere.fineTuning.jobs.retrieve(job.id)).rejects.toMatchObject(MISSING);
});

test("the mock's evals have runs with output items", async () => {
  const evaluation = await openai.evals.create({
    name: 'it works',
    data_source_config: { type: 'custom', item_schema: {} },
    testing_criteria: [],
  });
  const run = await openai.evals.runs.create(evaluation.id, {
    data_source: { type: 'jsonl', source: { type: 'file_id', id: 'file-1' } },
  });
  expect(run).toMatchObject({ eval_id: evaluation.id, status: 'completed' });
  const about = { eval_id: evaluation.id };
  const items = await all(openai.evals.runs.outputItems.list(run.id, about));
  expect(items).toMatchObject([{ run_id: run.id, status: 'pass' }]);
  const item = items[0]?.id ?? '';
  const again = await openai.evals.runs.outputItems.retrieve(item, { ...about, run_id: run.id });
  expect(again).toEqual(items[0]);
  expect((await openai.evals.runs.cancel(run.id, about)).status).toBe('canceled');
  await openai.evals.runs.delete(run.id, about);
  await expect(openai.evals.runs.retrieve(run.id, about)).rejects.toMatchObject(MISSING);
  expect(await openai.evals.delete(evaluation.id)).toMatchObject({ deleted: true, eval_id: evaluation.id });
});

test("the mock's containers keep files byte for byte", async () => {
  const { id: file } = await uploaded('from a file');
  const container = await openai.containers.create({ name: 'work', file_ids: [file] });
  expect(container.id).toMatch(/^cntr_/);
  expect(container.id.length).toBeLessThanOrEqual(64);
  const made = await openai.containers.files.create(container.id, {
    file: await toFile(Buffer.from([0, 255, 1]), 'raw.bin'),
  });
  expect(made.path).toBe('/mnt/data/raw.bin');
  const about = { container_id: container.id };
  const content = await openai.containers.files.content.retrieve(made.id, about);
  expect([...new Uint8Array(await content.arrayBuffer())]).toEqual([0, 255, 1]);
  expect(await all(openai.containers.files.list(container.id))).toHaveLength(2);
  await openai.containers.files.delete(made.id, about);
  await openai.containers.delete(container.id);
  await expect(openai.containers.retrieve(container.id)).rejects.toMatchObject(MISSING);
});

test("the mock's videos are completed when they are retrieved", async () => {
  const video = await openai.videos.create({ model: 'sora-2', prompt: 'a door' });
  expect(video.status).toBe('queued');
  expect((await openai.videos.retrieve(video.id)).status).toBe('completed');
  expect((await openai.videos.downloadContent(video.id)).headers.get('content-type')).toBe('video/mp4');
  const remix = await openai.videos.remix(video.id, { prompt: 'two doors' });
  expect(remix).toMatchObject({ remixed_from_video_id: video.id, status: 'queued' });
  expect(await all(openai.videos.list())).toHaveLength(2);
  await openai.videos.delete(video.id);
  await expect(openai.videos.retrieve(video.id)).rejects.toMatchObject(MISSING);
});

test("the mock's moderations flag nothing", async () => {
  const { results } = await openai.moderations.create({ input: ['one', 'two'] });
  expect(results.map(({ flagged }) => flagged)).toEqual([false, false]);
});

test("the mock's transcriptions have usage and can be streamed", async () => {
  const file = await toFile(Buffer.alloc(4_000), 'speech.wav');
  const request = { model: 'gpt-4o-transcribe', file };
  const whole = await openai.audio.transcriptions.create(request);
  const usage = { type: 'tokens', input_tokens: 4, output_tokens: 16, total_tokens: 20 };
  expect(whole.usage).toMatchObject(usage);
  const events = await all(await openai.audio.transcriptions.create({ ...request, stream: true }));
  const text = events.map((event) => (event.type === 'transcript.text.delta' ? event.delta : '')).join('');
  expect(text).toBe(whole.text);
  expect(events.at(-1)).toMatchObject({ type: 'transcript.text.done', text, usage });
  const whisper = await openai.audio.transcriptions.create({ file, model: 'whisper' });
  expect(whisper.usage).toEqual({ type: 'duration', seconds: 2 });
});

test("the mock's stored chats keep their messages", async () => {
  const { id } = await openai.chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content: 'Keep this' }],
    store: true,
    metadata: { topic: 'test' },
  });
  expect(await openai.chat.completions.retrieve(id)).toMatchObject({ id, metadata: { topic: 'test' } });
  expect(await all(openai.chat.completions.messages.list(id))).toMatchObject([{ content: 'Keep this' }]);
  expect(await all(openai.chat.completions.list())).toHaveLength(1);
  await openai.chat.completions.delete(id);
  await expect(openai.chat.completions.retrieve(id)).rejects.toMatchObject(MISSING);
  const { id: passed } = await openai.chat.completions.create({ model: MODEL, messages: [] });
  await expect(openai.chat.completions.retrieve(passed)).rejects.toMatchObject(MISSING);
});

test("the mock's models have a creation time, and its model router names the model it chose", async () => {
  const [model] = await all(openai.models.list());
  expect(model).toMatchObject({ object: 'model', created: expect.any(Number), owned_by: expect.any(String) });
  const routed = await openai.chat.completions.create({ model: 'model-router', messages: [] });
  expect(routed.model).toBe('gpt-5-mini-2025-08-07');
  const tier = { model: MODEL, service_tier: 'priority' as const };
  expect((await openai.chat.completions.create({ ...tier, messages: [] })).service_tier).toBe('priority');
  expect((await openai.responses.create({ ...tier, input: 'x' })).service_tier).toBe('priority');
});

test('the mock answers paths of the retired Assistants API with 404', async () => {
  for (const path of ['/assistants', '/threads', '/threads/thread_1/messages', '/threads/runs']) {
    expect((await fetched(path, { method: 'POST', body: '{}' })).status).toBe(404);
  }
});

test("a reset of the mock's scripts keeps stored objects and recorded requests", async () => {
  const { id } = await uploaded('kept');
  backend.script({ status: 503, times: 5 });
  backend.always({ status: 500 });
  const reset = (query: string) => fetch(`${backend.url}/++/reset${query}`, { method: 'POST' });
  expect((await reset('?script')).status).toBe(400);
  expect((await fetched('/models')).status).toBe(503);
  expect((await reset('?scripts')).status).toBe(204);
  expect((await openai.files.retrieve(id)).id).toBe(id);
  expect(backend.requests).toHaveLength(3);
  expect((await reset('')).status).toBe(204);
  await expect(openai.files.retrieve(id)).rejects.toMatchObject(MISSING);
});
