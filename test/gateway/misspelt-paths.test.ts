/** Misspelt paths are served in their correct form, or rejected with the path to use. */
import OpenAI, { AzureOpenAI } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { type Header, rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('paths that are nearly right, in the stock APISIX image');

const KEY: Header = ['api-key', CLIENT_KEY];
const LISTED_KEY = 'key-of-the-client-with-a-list-0123';
const JSON_TYPE: Header = ['Content-Type', 'application/json'];
const CHAT = '/openai/v1/chat/completions';
const CLASSIC = '/openai/deployments/gpt-4o/chat/completions';
const VERSION = `?api-version=${API_VERSION}`;
const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hi' }] });

/** The path that a client sends, and the path that a backend gets. */
const SERVED: readonly (readonly [sent: string, form: string])[] = [
  ['/v1/chat/completions', CHAT],
  ['/V1/Chat/Completions?x=%2F', `${CHAT}?x=%2F`],
  ['//openai/v1/chat/completions', CHAT],
  ['/openai//v1//chat//completions', CHAT],
  ['/OpenAI/V1/chat/completions', CHAT],
  ['/openai/v1/chat/completions/', CHAT],
  ['/openai/v1/v1/chat/completions', CHAT],
  ['/openai/openai/v1/chat/completions', CHAT],
  ['/chat/completions', CHAT],
  [`//openai/deployments/gpt-4o/chat/completions${VERSION}`, `${CLASSIC}${VERSION}`],
  [`/deployments/gpt-4o/chat/completions${VERSION}`, `${CLASSIC}${VERSION}`],
  [`/OPENAI/Deployments/gpt-4o//Chat/completions/${VERSION}`, `${CLASSIC}${VERSION}`],
  [`/openai/openai/deployments/gpt-4o/chat/completions${VERSION}`, `${CLASSIC}${VERSION}`],
  [`/openai/v1/openai/deployments/gpt-4o/chat/completions${VERSION}`, `${CLASSIC}${VERSION}`],
  [
    `/deployments/my%20model/chat/completions${VERSION}`,
    `/openai/deployments/my%20model/chat/completions${VERSION}`,
  ],
];

const REFUSED: readonly (readonly [sent: string, status: number, words: RegExp])[] = [
  [
    '/openai/deployments//chat/completions?api-version=1',
    400,
    /names no deployment.*\/openai\/deployments\/</,
  ],
  ['/deployments//chat/completions', 400, /names no deployment/],
  ['/openai/v1/files//content', 400, /a name or an id is missing/],
  ['/openai/v1/chat/completions/chat/completions', 400, /twice.*https:\/\/<gateway>\/openai\/v1/],
  [
    '/openai/deployments/m/openai/deployments/m/chat/completions',
    400,
    /twice.*https:\/\/<gateway>\/openai\/v1/,
  ],
  ['/v1/messages', 404, /https:\/\/<gateway>\/openai\/v1/],
  ['/models/chat/completions', 404, /https:\/\/<gateway>\/openai\/v1/],
  ['/api/v1/chat/completions', 404, /https:\/\/<gateway>\/openai\/v1/],
  ['/', 404, /https:\/\/<gateway>\/openai\/v1/],
  ['/OpenAI/v1/../v1/models', 400, /path is rejected/],
  ['/v1/%2e%2e/models', 400, /path is rejected/],
  ['/OpenAI/%76%31/models', 400, /path is rejected/],
];

describe.skipIf(skipped)('a misspelt path', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        GATEWAY_CLIENT_NAME_1: 'listed',
        GATEWAY_CLIENT_KEY_1: LISTED_KEY,
        GATEWAY_CLIENT_MODELS_1: 'gpt-4o-mini',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  const post = (target: string, headers: readonly Header[] = [KEY, JSON_TYPE]) =>
    rawRequest(gateway.url, { method: 'POST', target, headers, body: BODY });

  test.each(SERVED)('is served: %s', async (sent, form) => {
    const answer = await post(sent);
    expect(answer.status).toBe(200);
    const [request] = gateway.mocks[0]?.requests ?? [];
    expect(request).toMatchObject({ method: 'POST', target: form });
    expect(request?.body.toString()).toBe(BODY);
  });

  test.each(SERVED)("needs a key and is checked against the client's models: %s", async (sent) => {
    expect((await post(sent, [JSON_TYPE])).status).toBe(401);
    const answer = await post(sent, [['api-key', LISTED_KEY], JSON_TYPE]);
    expect([answer.status, JSON.parse(answer.body.toString()).error.code]).toEqual([
      403,
      'model_not_allowed',
    ]);
    expect(gateway.mocks[0]?.requests).toEqual([]);
  });

  test.each(REFUSED)('is rejected with the path to use: %s', async (sent, status, words) => {
    const answer = await post(sent);
    const { error } = JSON.parse(answer.body.toString());
    expect(error.message).toMatch(words);
    expect(answer.status).toBe(status);
    expect(gateway.mocks[0]?.requests).toEqual([]);
  });

  test('is logged in its correct form with its operation', async () => {
    await post('/V1/chat/completions?log=1');
    const lines = (await gateway.accessLog()).filter(({ status }) => status === '200');
    for (const line of lines)
      expect(line.path).toMatch(/^\/openai\/(?:v1|deployments\/[^/]+)\/(?:chat\/completions|embeddings)$/);
    expect(lines).toContainEqual(
      expect.objectContaining({ path: CHAT, operation: 'chat_completions', client: 'app' }),
    );
  });

  test('that the official clients build from a wrong base URL is served', async () => {
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    const azure = (endpoint: string) =>
      new AzureOpenAI({ apiKey: CLIENT_KEY, endpoint, apiVersion: API_VERSION, maxRetries: 0 });
    const openai = (baseURL: string) => new OpenAI({ apiKey: CLIENT_KEY, baseURL, maxRetries: 0 });
    const clients = [
      azure(`${gateway.url}/`),
      azure(`${gateway.url}/openai`),
      azure(`${gateway.url}/openai/v1/`),
      openai(gateway.url),
      openai(`${gateway.url}/v1`),
      openai(`${gateway.url}//openai/v1`),
    ];
    for (const client of clients) {
      const completion = await client.chat.completions.create({ model: 'gpt-4o', messages });
      expect(completion.choices).toHaveLength(1);
    }
    expect(gateway.mocks[0]?.requests.map(({ target }) => target)).toEqual([
      ...Array(3).fill(`${CLASSIC}${VERSION}`),
      ...Array(3).fill(CHAT),
    ]);
  });
});
