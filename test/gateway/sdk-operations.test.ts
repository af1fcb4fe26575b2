/** The official clients can use every operation through the gateway. */
import { randomBytes } from 'node:crypto';
import type OpenAI from 'openai';
import { toFile } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseMultipart } from '../../compiler/mock/multipart.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, type Gateway, startGateway } from '../support/gateway.ts';

const skipped = cannotRunGatewayTests('operations of the official clients through the stock APISIX image');

const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
);
const MESSAGES = [{ role: 'user', content: 'Hello' }] as const;

interface Api {
  readonly client: (gateway: Gateway, deployment?: string) => OpenAI;
  /** The path of an operation on a deployment, and of any other operation. */
  readonly ofDeployment: (path: string) => string;
  readonly other: (path: string) => string;
}

const APIS: readonly (readonly [name: string, api: Api])[] = [
  [
    '/openai/v1',
    {
      client: (gateway) => gateway.openai(),
      ofDeployment: (path) => `/openai/v1${path}`,
      other: (path) => `/openai/v1${path}`,
    },
  ],
  [
    'deployments',
    {
      client: (gateway, deployment) => gateway.azure(deployment),
      ofDeployment: (path) => `/openai/deployments/gpt-4o${path}?api-version=${API_VERSION}`,
      other: (path) => `/openai${path}?api-version=${API_VERSION}`,
    },
  ],
];

describe.skipIf(skipped)('the official clients', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    // A single backend, so that it owns every stored object.
    gateway = await startGateway({ backends: [{}] });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  const seen = () => (gateway.mocks[0]?.requests ?? []).map(({ method, target }) => `${method} ${target}`);
  const lastBody = () => gateway.mocks[0]?.requests.at(-1)?.body ?? Buffer.alloc(0);
  const lastParts = () =>
    parseMultipart(lastBody(), gateway.mocks[0]?.requests.at(-1)?.header('content-type') ?? '') ?? [];
  const part = (name: string) => lastParts().find((each) => each.name === name)?.content;

  describe.each(APIS)('on %s', (_, api) => {
    const openai = () => api.client(gateway);

    test('create a chat completion', async () => {
      const answer = await openai().chat.completions.create({
        model: 'gpt-4o',
        messages: [...MESSAGES],
        max_tokens: 4,
      });
      expect(answer.choices[0]?.message).toMatchObject({
        role: 'assistant',
        content: expect.stringMatching(/./),
      });
      expect(answer.usage?.completion_tokens).toBe(4);
      expect(seen()).toEqual([`POST ${api.ofDeployment('/chat/completions')}`]);
      expect(JSON.parse(lastBody().toString())).toEqual({
        model: 'gpt-4o',
        messages: MESSAGES,
        max_tokens: 4,
      });
    });

    test.each([
      ['with usage', { stream_options: { include_usage: true } }, 1],
      ['without usage', {}, 0],
    ])('stream a chat completion %s', async (_name, options, usages) => {
      const request = { model: 'gpt-4o', messages: [...MESSAGES], max_tokens: 4 };
      const whole = await openai().chat.completions.create(request);
      const stream = await openai().chat.completions.create({ ...request, stream: true, ...options });
      const chunks = [];
      for await (const chunk of stream) chunks.push(chunk);
      const text = chunks.map(({ choices }) => choices[0]?.delta?.content ?? '').join('');
      expect(text).toBe(whole.choices[0]?.message.content);
      expect(chunks.filter(({ usage }) => usage)).toHaveLength(usages);
      expect(chunks.flatMap(({ choices }) => choices.map((each) => each.finish_reason)).at(-1)).toBe(
        'length',
      );
    });

    test('create and stream legacy completions', async () => {
      const request = { model: 'gpt-4o', prompt: 'Once', max_tokens: 4 };
      const whole = await openai().completions.create(request);
      const stream = await openai().completions.create({ ...request, stream: true });
      let text = '';
      for await (const { choices } of stream) text += choices[0]?.text ?? '';
      expect(text).not.toBe('');
      expect(text).toBe(whole.choices[0]?.text);
      expect(seen()).toEqual(Array(2).fill(`POST ${api.ofDeployment('/completions')}`));
    });

    test('create embeddings as numbers and as base64', async () => {
      const request = { model: 'gpt-4o', input: ['one', 'two'] };
      const numbers = await openai().embeddings.create({ ...request, encoding_format: 'float' });
      const base64 = await openai().embeddings.create({ ...request, encoding_format: 'base64' });
      expect(numbers.data).toHaveLength(2);
      expect(numbers.data[0]?.embedding).toHaveLength(1536);
      const packed = Buffer.from(base64.data[1]?.embedding as unknown as string, 'base64');
      const vector = Array.from({ length: 1536 }, (_each, index) => packed.readFloatLE(index * 4));
      expect(vector).toEqual(numbers.data[1]?.embedding);
      expect(seen()).toEqual(Array(2).fill(`POST ${api.ofDeployment('/embeddings')}`));
    });

    test('create, retrieve, list input items of, and delete a response', async () => {
      const created = await openai().responses.create({ model: 'gpt-4o', input: 'Hello' });
      expect(created.output_text).not.toBe('');
      expect((await openai().responses.retrieve(created.id)).output).toEqual(created.output);
      const items = [];
      for await (const item of openai().responses.inputItems.list(created.id)) items.push(item);
      expect(items).toMatchObject([{ role: 'user', content: [{ text: 'Hello' }] }]);
      const next = await openai().responses.create({
        model: 'gpt-4o',
        input: 'And?',
        previous_response_id: created.id,
      });
      expect(next.previous_response_id).toBe(created.id);
      await openai().responses.delete(created.id);
      await expect(openai().responses.retrieve(created.id)).rejects.toMatchObject({ status: 404 });
      expect(seen()).toEqual([
        `POST ${api.other('/responses')}`,
        `GET ${api.other(`/responses/${created.id}`)}`,
        `GET ${api.other(`/responses/${created.id}/input_items`)}`,
        `POST ${api.other('/responses')}`,
        `DELETE ${api.other(`/responses/${created.id}`)}`,
        `GET ${api.other(`/responses/${created.id}`)}`,
      ]);
    });

    test('create a background response and cancel it', async () => {
      const queued = await openai().responses.create({ model: 'gpt-4o', input: 'Hello', background: true });
      expect(queued.status).toBe('queued');
      expect((await openai().responses.cancel(queued.id)).status).toBe('cancelled');
      expect(seen().at(-1)).toBe(`POST ${api.other(`/responses/${queued.id}/cancel`)}`);
    });

    test('stream a response', async () => {
      const stream = await openai().responses.create({ model: 'gpt-4o', input: 'Hello', stream: true });
      let text = '';
      const types: string[] = [];
      let final = '';
      for await (const event of stream) {
        types.push(event.type);
        if (event.type === 'response.output_text.delta') text += event.delta;
        if (event.type === 'response.completed') final = event.response.id;
      }
      expect(types.slice(0, 2)).toEqual(['response.created', 'response.in_progress']);
      expect(types.at(-1)).toBe('response.completed');
      const kept = await openai().responses.retrieve(final);
      expect(text).not.toBe('');
      expect(JSON.stringify(kept.output)).toContain(JSON.stringify(text));
    });

    test('use a conversation', async () => {
      const { id } = await openai().conversations.create({ metadata: { topic: 'test' } });
      await openai().responses.create({ model: 'gpt-4o', input: 'Hello', conversation: id });
      const items = [];
      for await (const item of openai().conversations.items.list(id)) items.push(item);
      expect(items.map(({ type }) => type)).toEqual(expect.arrayContaining(['message', 'reasoning']));
      expect(await openai().conversations.update(id, { metadata: { topic: 'changed' } })).toMatchObject({
        id,
      });
      expect(await openai().conversations.retrieve(id)).toMatchObject({ metadata: { topic: 'changed' } });
      await openai().conversations.delete(id);
      await expect(openai().conversations.retrieve(id)).rejects.toMatchObject({ status: 404 });
    });

    test('list and retrieve models', async () => {
      const models = [];
      for await (const model of openai().models.list()) models.push(model.id);
      expect(models).toContain('gpt-4o-mini');
      expect((await openai().models.retrieve('gpt-4o-mini')).id).toBe('gpt-4o-mini');
      expect(seen()).toEqual([`GET ${api.other('/models')}`, `GET ${api.other('/models/gpt-4o-mini')}`]);
    });

    test('upload and download a file of eight megabytes', async () => {
      const content = randomBytes(8 * 2 ** 20);
      const { id, bytes } = await openai().files.create({
        file: await toFile(content, 'large.bin'),
        purpose: 'batch',
      });
      expect(bytes).toBe(content.length);
      expect(part('file')?.equals(content)).toBe(true);
      const download = await openai().files.content(id);
      expect(Buffer.from(await download.arrayBuffer()).equals(content)).toBe(true);
      expect((await openai().files.retrieve(id)).filename).toBe('large.bin');
      const files = [];
      for await (const file of openai().files.list()) files.push(file.id);
      expect(files).toEqual([id]);
      expect((await openai().files.delete(id)).deleted).toBe(true);
    });

    test('create a transcription', async () => {
      const sound = randomBytes(100_000);
      const answer = await openai().audio.transcriptions.create({
        model: 'gpt-4o',
        file: await toFile(sound, 'speech.wav'),
      });
      expect(answer.text).not.toBe('');
      expect(seen()).toEqual([`POST ${api.ofDeployment('/audio/transcriptions')}`]);
      expect(part('file')?.equals(sound)).toBe(true);
      expect(part('model')?.toString()).toBe('gpt-4o');
    });

    test('create speech', async () => {
      const speech = await openai().audio.speech.create({
        model: 'gpt-4o',
        voice: 'alloy',
        input: 'three little words',
      });
      expect(speech.headers.get('content-type')).toBe('audio/mpeg');
      expect((await speech.arrayBuffer()).byteLength).toBe(3 * 417);
    });

    test('generate and edit images', async () => {
      const made = await openai().images.generate({
        model: 'gpt-4o',
        prompt: 'a dot',
        response_format: 'b64_json',
      });
      expect(Buffer.from(made.data?.[0]?.b64_json ?? '', 'base64').equals(PIXEL)).toBe(true);
      // The Azure client cannot read a deployment out of a form.
      const edited = await api.client(gateway, 'gpt-4o').images.edit({
        model: 'gpt-4o',
        prompt: 'another dot',
        image: await toFile(PIXEL, 'dot.png', { type: 'image/png' }),
      });
      expect(edited.data).toHaveLength(1);
      expect(part('image')?.equals(PIXEL)).toBe(true);
      expect(seen()).toEqual([
        `POST ${api.ofDeployment('/images/generations')}`,
        `POST ${api.ofDeployment('/images/edits')}`,
      ]);
    });
  });
});
