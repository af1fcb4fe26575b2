/**
 * Backends without a key get an Entra ID token from the platform's identity source, and nothing that a client sends
 * affects it.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type EntraGateway, type EntraOptions, startEntraGateway, tokenOf } from '../support/entra.ts';
import { API_VERSION, backendKey, CLIENT_KEY } from '../support/gateway.ts';
import { CLIENT_ID, DEFAULT_RESOURCE, TENANT, type TokenRequest } from '../support/mock-identity.ts';
import { rawRequest } from '../support/raw-http.ts';
import { backendOf, calls, chatBody, inOrder, NO_COOLDOWN, onlyRequest } from '../support/traffic.ts';

let gateway: EntraGateway;
const start = (options: EntraOptions) => async () => {
  gateway = await startEntraGateway(options);
};
const stop = () => gateway?.stop();
const resetBackends = () => {
  for (const mock of gateway.mocks) mock.reset();
};

/** The content of a token request, without headers that every request has. */
function essence(request: TokenRequest | undefined) {
  const { method, target, source, resource, clientId } = request ?? {};
  const headers = Object.fromEntries(
    (request?.headers ?? []).map(([name, value]) => [name.toLowerCase(), value] as const),
  );
  const { host, ...others } = headers;
  return { method, path: target?.split('?')[0], source, resource, clientId, headers: others };
}

describe.skipIf(cannotRunGatewayTests('the token endpoint'))("the platform's identity endpoint", () => {
  beforeAll(start({}), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(resetBackends);

  test('is called once with its secret, and backends get the token and no key', async () => {
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(gateway.identity.requests.map(essence)).toEqual([
      {
        method: 'GET',
        path: '/msi/token',
        source: 'endpoint',
        resource: DEFAULT_RESOURCE,
        clientId: undefined,
        headers: {
          metadata: 'true',
          'x-identity-header': gateway.identity.secret,
          secret: gateway.identity.secret,
        },
      },
    ]);
    const [token] = gateway.identity.requests.map((each) => each.token);
    expect(token).toMatch(/^ey/);
    expect(backendOf(gateway, 0).requests.map(tokenOf)).toEqual([token, token]);
  });

  test('provides the token for every kind of request', async () => {
    const openai = gateway.openai();
    const azure = gateway.azure('gpt-4o');
    const message = { role: 'user' as const, content: 'Hello' };
    await openai.chat.completions.create({ model: 'gpt-4o', messages: [message] });
    await azure.chat.completions.create({ model: 'gpt-4o', messages: [message] });
    const stream = await openai.chat.completions.create({
      model: 'gpt-4o',
      messages: [message],
      stream: true,
    });
    for await (const _ of stream);
    await openai.embeddings.create({ model: 'text-embedding-3-small', input: 'Hello' });
    const response = await openai.responses.create({ model: 'gpt-4o', input: 'Hello' });
    await openai.responses.retrieve(response.id);
    await openai.responses.delete(response.id);
    await openai.models.list();
    await openai.audio.transcriptions.create({ model: 'whisper', file: new File(['RIFF'], 'a.wav') });
    const tokens = backendOf(gateway, 0).requests.map(tokenOf);
    expect(tokens).toHaveLength(9);
    expect(new Set(tokens)).toEqual(new Set([gateway.identity.requests[0]?.token]));
    expect(gateway.identity.requests).toHaveLength(1);
  });

  test('provides the token for a large body, which arrives complete', async () => {
    const content = 'Hello '.repeat(500_000);
    const answer = await gateway.chat('gpt-4o', { messages: [{ role: 'user', content }] });
    expect(answer.status).toBe(200);
    const request = onlyRequest(backendOf(gateway, 0));
    expect(tokenOf(request)).toBe(gateway.identity.requests[0]?.token);
    expect(JSON.parse(request.body.toString())).toMatchObject({ messages: [{ content }] });
  });

  test('is not affected by anything that a client sends', async () => {
    const query = `resource=https://evil.example/&client_id=evil&mi_res_id=evil&api-version=${API_VERSION}`;
    const answer = await rawRequest(gateway.url, {
      method: 'POST',
      target: `/openai/deployments/gpt-4o/chat/completions?${query}`,
      headers: [
        ['Authorization', `Bearer ${CLIENT_KEY}`],
        ['api-key', CLIENT_KEY],
        ['Ocp-Apim-Subscription-Key', CLIENT_KEY],
        ['X-Apisix-Ai-Auth-Mode', 'entra'],
        ['X-Apisix-Ai-Token-Resource', 'https://evil.example/'],
        ['X-Apisix-Ai-Msi-Endpoint', gateway.identity.url],
        ['X-Apisix-Ai-Msi-Client-Id', 'evil'],
        ['X-Apisix-Ai-Msi-Secret', 'evil'],
        ['X-Identity-Header', 'evil'],
        ['Identity-Endpoint', gateway.identity.url],
        ['X-Ms-Client-Request-Id', 'of-the-client'],
        ['Metadata', 'true'],
        ['Secret', 'evil'],
        ['Connection', 'authorization, close'],
        ['Content-Type', 'application/json'],
      ],
      body: chatBody('gpt-4o', { resource: 'https://evil.example/', client_id: 'evil' }),
    });
    expect(answer.status).toBe(200);
    expect(gateway.identity.requests).toHaveLength(1);
    const request = onlyRequest(backendOf(gateway, 0));
    expect(tokenOf(request)).toBe(gateway.identity.requests[0]?.token);
    expect(request.header('ocp-apim-subscription-key')).toBeUndefined();
    expect(request.headers.filter(([name]) => /^x-apisix-/i.test(name))).toEqual([]);
    expect(JSON.stringify(request.headers)).not.toContain(CLIENT_KEY);
    expect(JSON.stringify(request.headers)).not.toContain(gateway.identity.secret);
  });
});

describe.skipIf(cannotRunGatewayTests('the older token endpoint'))('the endpoint in MSI_ENDPOINT', () => {
  afterAll(stop);

  test('takes precedence and gets its secret under either name', {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    await start({
      settingsOf: ({ url, secret }) => ({
        MSI_ENDPOINT: `${url}/msi/token`,
        MSI_SECRET: secret,
        IDENTITY_ENDPOINT: `${url}/nowhere`,
        IDENTITY_HEADER: '',
      }),
    })();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(gateway.identity.requests.map(({ source }) => source)).toEqual(['endpoint']);
  });
});

describe.skipIf(cannotRunGatewayTests('the metadata service'))('the VM metadata service', () => {
  beforeAll(start({ source: 'metadata', settings: { AZURE_CLIENT_ID: CLIENT_ID } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  test('is called for the configured identity', async () => {
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(gateway.identity.requests.map(essence)).toEqual([
      {
        method: 'GET',
        path: '/metadata/identity/oauth2/token',
        source: 'metadata',
        resource: DEFAULT_RESOURCE,
        clientId: CLIENT_ID,
        headers: { metadata: 'true' },
      },
    ]);
    expect(tokenOf(onlyRequest(backendOf(gateway, 0)))).toBe(gateway.identity.requests[0]?.token);
  });
});

describe.skipIf(cannotRunGatewayTests('workload identity'))('workload identity in Kubernetes', () => {
  beforeAll(start({ source: 'workload' }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  test('exchanges the content of the token file for a token', async () => {
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    const [request, ...others] = gateway.identity.requests;
    expect(others).toEqual([]);
    expect(request?.target).toBe(`/${TENANT}/oauth2/v2.0/token`);
    expect(Object.fromEntries(new URLSearchParams(request?.body.toString()))).toEqual({
      grant_type: 'client_credentials',
      client_id: CLIENT_ID,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: gateway.identity.assertion,
      scope: 'https://cognitiveservices.azure.com/.default',
    });
    expect(tokenOf(onlyRequest(backendOf(gateway, 0)))).toBe(request?.token);
  });
});

describe.skipIf(cannotRunGatewayTests('several identities'))('backends with different identities', () => {
  const SOVEREIGN = 'https://cognitiveservices.azure.us/';
  const OTHER = '99999999-2222-3333-4444-555555555555';

  beforeAll(
    start({
      backends: [{}, { clientId: OTHER }, { resource: SOVEREIGN }, 'key'],
      settings: { ...NO_COOLDOWN, ...inOrder(4), AZURE_CLIENT_ID: CLIENT_ID },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(resetBackends);

  test('each get the token of their own identity and resource, or their key', async () => {
    for (const index of [0, 1, 2]) backendOf(gateway, index).script({ status: 503 });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 1, 1, 1]);
    const token = (resource: string, clientId: string) =>
      gateway.identity.requests.find((each) => each.resource === resource && each.clientId === clientId)
        ?.token;
    const tokens = [
      token(DEFAULT_RESOURCE, CLIENT_ID),
      token(DEFAULT_RESOURCE, OTHER),
      token(SOVEREIGN, CLIENT_ID),
    ];
    expect(new Set(tokens).size).toBe(3);
    expect(tokens).not.toContain(undefined);
    expect([0, 1, 2].map((index) => tokenOf(onlyRequest(backendOf(gateway, index))))).toEqual(tokens);
    const keyed = onlyRequest(backendOf(gateway, 3));
    expect(keyed.header('api-key')).toBe(backendKey(3));
    expect(keyed.header('authorization')).toBeUndefined();
  });

  test('share one token for each identity and resource', async () => {
    for (let count = 0; count < 5; count++) expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(
      gateway.identity.requests.map(({ resource, clientId }) => `${resource} ${clientId}`).sort(),
    ).toEqual([
      `${DEFAULT_RESOURCE} ${CLIENT_ID}`,
      `${DEFAULT_RESOURCE} ${OTHER}`,
      `${SOVEREIGN} ${CLIENT_ID}`,
    ]);
  });
});

describe.skipIf(cannotRunGatewayTests('stored things in Entra backends'))('a stored object', () => {
  const MISSING = 'client-without-a-token';
  const read = (id: string) => gateway.fetch(`/openai/v1/responses/${id}`);
  afterEach(stop);

  /** Stores a response at a backend directly, so that the gateway does not know its owner. */
  async function store(index: number, token: string | undefined): Promise<string> {
    const answer = await fetch(`${backendOf(gateway, index).url}/openai/v1/responses`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ model: 'gpt-4o', input: 'Hello' }),
    });
    return ((await answer.json()) as { id: string }).id;
  }

  test('is searched for with tokens', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
    await start({ backends: [{}, {}] })();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    const id = await store(1, gateway.identity.requests[0]?.token);
    const before = calls(gateway);
    expect((await read(id)).status).toBe(200);
    expect(calls(gateway).map((count, index) => count - (before[index] ?? 0))).toEqual([1, 2]);
    const tokens = gateway.mocks.flatMap(({ requests }) => requests.map(tokenOf));
    expect(new Set(tokens)).toEqual(new Set([gateway.identity.requests[0]?.token]));
    expect((await read('resp_of-nobody')).status).toBe(404);
  });

  test('is not reported as 404 when its possible owner has no token', {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    await start({ backends: [{ clientId: MISSING }, {}] })();
    gateway.identity.script({ status: 500, body: '', path: RegExp(MISSING), times: 1_000 });
    for (const when of ['asked for', 'left alone']) {
      if (when === 'left alone')
        for (let count = 0; count < 2; count++) expect((await gateway.chat('gpt-4o')).status).toBe(200);
      const answer = await read('resp_of-nobody');
      expect(answer.status).toBe(502);
      expect(await answer.json()).toMatchObject({ error: { code: 'upstream_credentials' } });
      expect(answer.headers.get('retry-after')).toMatch(/^[1-9]/);
    }
    expect(backendOf(gateway, 0).requests).toEqual([]);
    const { token } = gateway.identity.requests.find((each) => each.token !== undefined) ?? {};
    expect((await read(await store(1, token))).status).toBe(200);
  });
});

describe.skipIf(cannotRunGatewayTests('a drained Entra backend'))('a drained Entra backend', () => {
  afterAll(stop);

  test('gets no requests', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
    await start({ backends: [{}, 'key'], settings: { AZURE_OPENAI_WEIGHT_0: '0' } })();
    for (let count = 0; count < 4; count++) expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([0, 4]);
  });
});
