/** GATEWAY_CLIENT_MODELS_N: a client may call only the models in its list. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { calls, chatBody, resetMocks } from '../support/traffic.ts';

const SECOND_KEY = 'second-key-of-the-client-0123456789';
const FREE_KEY = 'key-of-a-client-without-list-0123456789';
const JSON_TYPE = { 'content-type': 'application/json' };

describe.skipIf(cannotRunGatewayTests('model lists of clients'))('model lists of clients', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        GATEWAY_CLIENT_MODELS_0: 'gpt-4o*, text-embedding-3-small',
        GATEWAY_CLIENT_KEY_SECONDARY_0: SECOND_KEY,
        GATEWAY_CLIENT_NAME_1: 'free',
        GATEWAY_CLIENT_KEY_1: FREE_KEY,
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_HIGH_LIMIT: '100000',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const post = (path: string, body: string | FormData, headers: Record<string, string> = JSON_TYPE) =>
    gateway.fetch(path, { method: 'POST', headers, body });

  test('the official clients can call a model in the list', async () => {
    for (const key of [CLIENT_KEY, SECOND_KEY]) {
      const answer = await gateway.openai(key).chat.completions.create({
        model: 'gpt-4o-mini',
        messages: [{ role: 'user', content: 'Hello' }],
      });
      expect(answer.choices).toHaveLength(1);
      await gateway.openai(key).embeddings.create({ model: 'text-embedding-3-small', input: 'x' });
      await gateway.azure('GPT-4o', key).chat.completions.create({ model: '', messages: [] });
      await gateway.openai(key).responses.create({ model: 'gpt-4o', input: 'x' });
    }
    expect(calls(gateway)).toEqual([8]);
  });

  test('returns 403 model_not_allowed for other models, without a call', async () => {
    await expect(
      gateway.openai(SECOND_KEY).chat.completions.create({ model: 'o1', messages: [] }),
    ).rejects.toMatchObject({ status: 403, code: 'model_not_allowed', type: 'permission_error' });
    await expect(gateway.azure('o1').embeddings.create({ model: '', input: 'x' })).rejects.toMatchObject({
      status: 403,
    });
    expect(calls(gateway)).toEqual([0]);
  });

  const form = (model?: string): FormData => {
    const data = new FormData();
    if (model !== undefined) data.append('model', model);
    data.append('file', new Blob(['sound']), 'a.wav');
    return data;
  };

  test.each<[string, string, string | FormData, Record<string, string>?]>([
    ['a body', '/openai/v1/chat/completions', chatBody('o1')],
    [
      'a deployment',
      `/openai/deployments/o1/chat/completions?api-version=${API_VERSION}`,
      chatBody('gpt-4o'),
    ],
    [
      'a deployment in escapes',
      `/openai/deployments/%6F1/chat/completions?api-version=${API_VERSION}`,
      chatBody('x'),
    ],
    [
      'JSON with comments',
      '/openai/v1/chat/completions',
      '{"model":"gpt-4o",/**/"model":"o1","messages":[]}',
    ],
    [
      'JSON with comments further in',
      '/openai/v1/chat/completions',
      '{"x":[1/*"*/],"model":"o1","messages":[],"y":[/*"],"model":"gpt-4o","z":["*/]}',
    ],
    [
      'a form with a part that only some readers see',
      '/openai/v1/audio/transcriptions',
      '--b\nContent-Disposition: form-data; name="model"\n\ngpt-4o\r\n--b--\r\n',
      { 'content-type': 'multipart/form-data; boundary=b' },
    ],
    [
      'a form of two boundaries',
      '/openai/v1/audio/transcriptions',
      '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o\r\n--b--\r\n',
      { 'content-type': 'multipart/form-data; boundary=b; boundary=c' },
    ],
    ['no name', '/openai/v1/chat/completions', '{"messages":[]}'],
    ['no JSON', '/openai/v1/chat/completions', Buffer.from(chatBody('o1'), 'utf8').toString('utf16le')],
    ['a form', '/openai/v1/audio/transcriptions', form('o1'), {}],
    ['a form without a name', '/openai/v1/audio/transcriptions', form(), {}],
    ['a batch', '/openai/v1/batches', '{"input_file_id":"file-1","endpoint":"/v1/chat/completions"}'],
    ['an assistant', `/openai/assistants?api-version=${API_VERSION}`, '{"model":"gpt-4o-not-read-there"}'],
    ['an operation nobody knows', '/openai/v1/new/thing', '{"model":"o1"}'],
    [
      'a header',
      '/openai/v1/chat/completions',
      chatBody('gpt-4o'),
      { ...JSON_TYPE, 'x-ms-spillover-deployment': 'o1' },
    ],
  ])('returns 403 for a model that is not in the list, given by %s', async (_, path, body, headers) => {
    const answer = await post(path, body, headers);
    expect(answer.status).toBe(403);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('retry-after')).toBeNull();
    expect(await answer.json()).toEqual({
      error: {
        message: expect.stringMatching(/^This client may /),
        type: 'permission_error',
        param: null,
        code: 'model_not_allowed',
      },
    });
    expect(calls(gateway)).toEqual([0]);
  });

  /** A form as text, with a file whose content looks like a part of the form. */
  const forged = (...models: string[]): string => {
    const part = (name: string, value: string) =>
      `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
    const inner = '\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o\r\n';
    return `${part('file', inner)}${models.map((model) => part('model', model)).join('')}--b--\r\n`;
  };

  test.each<[number, ...string[]]>([[403, 'o1'], [400, 'gpt-4o', 'o1'], [400, 'o1', 'gpt-4o'], [403]])(
    'returns %i for a forged form with the models %s, %s',
    async (status, ...models) => {
      const type = { 'content-type': 'multipart/form-data; boundary=b' };
      const answer = await post('/openai/v1/audio/transcriptions', forged(...models), type);
      expect(answer.status).toBe(status);
      expect(calls(gateway)).toEqual([0]);
      expect((await post('/openai/v1/audio/transcriptions', forged('gpt-4o'), type)).status).toBe(200);
    },
  );

  test.each([
    '{"model":"gpt-4o","messages":[],"model":"o1"}',
    '{"model":"o1","messages":[],"model":"gpt-4o"}',
    '{"model":"gpt-4o","messages":[],"mod\\u0065l":"o1"}',
    `{"model":"gpt-4o","x":"${'x'.repeat(300_000)}","model":"o1"}`,
  ])('returns 400 for a model that is given twice', async (body) => {
    const answer = await post('/openai/v1/chat/completions', body);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: 'duplicate_member' } });
    expect(calls(gateway)).toEqual([0]);
  });

  test('returns 404 for a model name that is too long', async () => {
    const answer = await post('/openai/v1/chat/completions', chatBody('gpt-4o'.repeat(50)));
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ error: { code: 'DeploymentNotFound' } });
    expect(calls(gateway)).toEqual([0]);
  });

  test('lets operations without a model pass', async () => {
    const upload = form();
    upload.append('purpose', 'batch');
    const file = await post('/openai/v1/files', upload, {});
    expect(file.status).toBe(201);
    const { id } = (await file.json()) as { id: string };
    for (const path of ['/openai/v1/models', `/openai/v1/files/${id}`, '/openai/v1/batches'])
      expect((await gateway.fetch(path)).status).toBe(200);
    expect((await gateway.fetch(`/openai/v1/files/${id}`, { method: 'DELETE' })).status).toBe(200);
    expect((await post('/openai/v1/conversations', '{}')).status).toBe(200);
    const response = await gateway
      .openai()
      .responses.create({ model: 'gpt-4o', input: 'x', background: true });
    await gateway.openai().responses.cancel(response.id);
  });

  test('a client without a list can call every model', async () => {
    for (const model of ['o1', 'gpt-4o'])
      expect((await gateway.chat(model, {}, { 'api-key': FREE_KEY })).status).toBe(200);
  });
});
