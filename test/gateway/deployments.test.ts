/** AZURE_OPENAI_DEPLOYMENTS_N: a request goes to a backend with its deployment, under the name the deployment has there. */
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { backendOf, calls, chatBody, NO_COOLDOWN, onlyRequest, resetMocks } from '../support/traffic.ts';

let gateway: Gateway;
const backend = (index: number) => backendOf(gateway, index);
const post = (path: string, body: string | Buffer, type = 'application/json') =>
  gateway.fetch(path, { method: 'POST', headers: { 'content-type': type }, body });
const V1 = '/openai/v1/chat/completions';

describe.skipIf(cannotRunGatewayTests('AZURE_OPENAI_DEPLOYMENTS_N'))('AZURE_OPENAI_DEPLOYMENTS_N', () => {
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [
        { deployments: ['gpt-4o', 'embeddings-3'] },
        { deployments: ['eu-gpt4o', 'whisper-eu', 'gpt-4o'] },
      ],
      settings: {
        ...NO_COOLDOWN,
        AZURE_OPENAI_PRIORITY_0: '10',
        AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o, embed=embeddings-3',
        AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o=eu-gpt4o, whisper=whisper-eu, mini=eu-gpt4o',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test('calls only backends that serve the deployment', async () => {
    for (let count = 0; count < 4; count++) {
      expect((await post('/openai/v1/embeddings', '{"model":"embed","input":"x"}')).status).toBe(200);
      expect((await gateway.chat('mini')).status).toBe(200);
    }
    expect(calls(gateway)).toEqual([4, 4]);
    backend(1).script({ status: 503 });
    expect((await gateway.chat('mini')).status).toBe(503);
    expect(calls(gateway)).toEqual([4, 5]);
  });

  test('sends a request without a deployment to any backend', async () => {
    expect((await gateway.fetch('/openai/v1/files')).status).toBe(200);
    expect(calls(gateway).some((count) => count > 0)).toBe(true);
  });

  test.each([
    ['v1', V1, chatBody('nobody')],
    [
      'a deployment',
      '/openai/deployments/nobody/chat/completions?api-version=2024-10-21',
      chatBody('gpt-4o'),
    ],
    ['its name there', V1, chatBody('eu-gpt4o')],
    ['an empty name', V1, chatBody('')],
  ])('returns 404 without a call when no backend serves the deployment: %s', async (_, path, body) => {
    const answer = await post(path, body);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toEqual({
      error: {
        message: expect.any(String),
        type: 'not_found_error',
        param: null,
        code: 'DeploymentNotFound',
      },
    });
    expect(calls(gateway)).toEqual([0, 0]);
  });

  test('renames the deployment in the path and changes nothing else', async () => {
    const path = (name: string) =>
      `/openai/deployments/${name}/chat/completions?api-version=2024-10-21&x=%2Fgpt-4o/%20&deployments/gpt-4o`;
    const body = chatBody('gpt-4o', { user: 'é' });
    backend(0).script({ status: 503 });
    expect((await post(path('gpt-4o'), body)).status).toBe(200);
    expect(onlyRequest(backend(0)).target).toBe(path('gpt-4o'));
    expect(onlyRequest(backend(1)).target).toBe(path('eu-gpt4o'));
    expect(onlyRequest(backend(1)).body.toString()).toBe(body);
  });

  test.each([
    [
      'at its end',
      (name: string) =>
        `{ "messages":[{"role":"user","content":"\\"model\\":\\"gpt-4o\\""}],\n "model" :\t"${name}" }`,
    ],
    [
      'at its beginning',
      (name: string) => `\n{"model":"${name}","messages":[{"role":"user","content":"é\\u00e9"}],"x":1.0e3}\n`,
    ],
    [
      'next to other members of that name',
      (name: string) =>
        `{"metadata":{"model":"gpt-4o"},"messages":[{"role":"user","content":"x","model":"gpt-4o"}],"model":"${name}","models":"gpt-4o"}`,
    ],
    [
      'in 2 MB',
      (name: string) =>
        `{"messages":[{"role":"user","content":"${'gpt-4o '.repeat(300_000)}"}],"model":"${name}"}`,
    ],
  ])('renames the model in a JSON body and changes no other byte: %s', async (_, body) => {
    backend(0).script({ status: 429 });
    const answer = await post(V1, body('gpt-4o'));
    expect(answer.status).toBe(200);
    expect(onlyRequest(backend(0)).body.toString() === body('gpt-4o')).toBe(true);
    expect(onlyRequest(backend(1)).body.toString() === body('eu-gpt4o')).toBe(true);
    expect(onlyRequest(backend(1)).header('content-length')).toBe(
      String(Buffer.byteLength(body('eu-gpt4o'))),
    );
  });

  test('recognises a name that is written with escapes', async () => {
    backend(0).script({ status: 429 });
    expect((await post(V1, chatBody('gpt-4o').replace('gpt-4o', 'gpt-4\\u006f'))).status).toBe(200);
    expect(onlyRequest(backend(1)).body.toString()).toBe(chatBody('eu-gpt4o'));
  });

  test('renames the model of responses and embeddings', async () => {
    expect((await post('/openai/v1/responses', '{"model":"mini","input":"x"}')).status).toBe(200);
    expect(onlyRequest(backend(1)).body.toString()).toBe('{"model":"eu-gpt4o","input":"x"}');
    expect((await post('/openai/v1/embeddings', '{"input":"x","model":"embed"}')).status).toBe(200);
    expect(onlyRequest(backend(0)).body.toString()).toBe('{"input":"x","model":"embeddings-3"}');
  });

  test.each([
    ['completions', '/openai/v1/completions', '{"prompt":"x","model":"NAME","max_tokens":4}'],
    ['a stream', V1, chatBody('NAME', { stream: true })],
    ['images', '/openai/v1/images/generations', '{"prompt":"x","model":"NAME","n":1}'],
    ['speech', '/openai/v1/audio/speech', '{"model":"NAME","input":"x","voice":"alloy"}'],
    ['compacted responses', '/openai/v1/responses/compact', '{"model":"NAME","input":"x"}'],
  ])('renames the model of %s', async (_, path, body) => {
    for (const mock of gateway.mocks) mock.always({ body: {} });
    expect((await post(path, body.replace('NAME', 'mini'))).status).toBe(200);
    expect(onlyRequest(backend(1)).body.toString()).toBe(body.replace('NAME', 'eu-gpt4o'));
    expect((await post(path, body.replace('NAME', 'nobody'))).status).toBe(404);
    expect(calls(gateway)).toEqual([0, 1]);
  });

  test('finds a name in any case and sends it as declared', async () => {
    expect((await gateway.chat('GPT-4o')).status).toBe(200);
    expect(JSON.parse(onlyRequest(backend(0)).body.toString())).toMatchObject({ model: 'gpt-4o' });
    expect((await gateway.azure('MINI').chat.completions.create({ model: '', messages: [] })).object).toBe(
      'chat.completion',
    );
    expect(onlyRequest(backend(1)).target).toMatch(/^\/openai\/deployments\/eu-gpt4o\/chat\/completions\?/);
  });

  const file = { small: randomBytes(1_000), large: randomBytes(2 * 2 ** 20) };
  const form = (model: string, size: keyof typeof file, isFirst: boolean): Buffer => {
    const field = `--limit\r\nContent-Disposition: form-data; name="model"\r\n\r\n${model}\r\n`;
    const upload = [
      '--limit\r\nContent-Disposition: form-data; name="file"; filename="name=\\"model\\".mp3"\r\n',
      'Content-Type: audio/mpeg\r\n\r\nname="model"\r\n\r\nwhisper\r\n',
      file[size],
      '\r\n',
    ];
    const parts = isFirst ? [field, ...upload] : [...upload, field];
    return Buffer.concat([...parts, '--limit--\r\n'].map((part) => Buffer.from(part as string)));
  };
  test.each([
    ['small', true],
    ['small', false],
    ['large', true],
    ['large', false],
  ] as const)(
    'renames the model in a form and changes no other byte (%s file, before the file: %s)',
    async (size, isFirst) => {
      const answer = await post(
        '/openai/v1/audio/transcriptions',
        form('whisper', size, isFirst),
        'multipart/form-data; boundary=limit',
      );
      expect(answer.status).toBe(200);
      expect(onlyRequest(backend(1)).body.equals(form('whisper-eu', size, isFirst))).toBe(true);
      expect(calls(gateway)).toEqual([0, 1]);
    },
  );

  test('returns 404 without a call for a form whose model no backend serves', async () => {
    const answer = await post(
      '/openai/v1/audio/transcriptions',
      form('gpt-4o-transcribe', 'small', true),
      'multipart/form-data; boundary=limit',
    );
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ error: { code: 'DeploymentNotFound' } });
    expect(calls(gateway)).toEqual([0, 0]);
  });
});

describe.skipIf(cannotRunGatewayTests('deployments of drained backends'))('with a drained backend', () => {
  let resting: Gateway;
  beforeAll(async () => {
    resting = await startGateway({
      settings: {
        AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o',
        AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o-mini',
        AZURE_OPENAI_WEIGHT_1: '0',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => resting?.stop());

  test('returns 503 without a call when no other backend has the deployment', async () => {
    const answer = await resting.chat('gpt-4o-mini');
    expect([answer.status, answer.headers.has('retry-after')]).toEqual([503, false]);
    expect(await answer.json()).toMatchObject({ error: { code: 'upstream_unavailable' } });
    expect(calls(resting)).toEqual([0, 0]);
  });

  test('returns 429 for any case of a name when the other backend is throttled', async () => {
    backendOf(resting, 0).script(answers.throttled({ retryAfter: 30 }));
    expect((await resting.chat('gpt-4o')).status).toBe(429);
    expect((await resting.chat('GPT-4O')).status).toBe(429);
    expect(calls(resting)).toEqual([1, 0]);
  });
});
