/** The subject of a token is a client: limits, balancing and logs distinguish subjects, metrics do not. */
import { setTimeout as sleep } from 'node:timers/promises';
import type OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, quickMetrics } from '../support/gateway.ts';
import { rsaKey } from '../support/mock-issuer.ts';
import { expectRefused, type OidcGateway, startOidcGateway } from '../support/oidc.ts';
import { type Header, rawRequest } from '../support/raw-http.ts';
import { calls, forgetRequests, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('subjects of tokens in the stock APISIX image');

const TARGET = '/openai/v1/models';
const bearer = (token: string): Header => ['Authorization', `Bearer ${token}`];
const tokenOf = (gateway: OidcGateway, sub: string) => gateway.issuer.token({ claims: { sub } });
/** The status of a chat that has been charged: that happens after its response has gone. */
const chat = async (client: OpenAI, headers: Record<string, string> = {}) => {
  const status = await client.chat.completions
    .create({ model: 'gpt-4o', max_tokens: 4, messages: [{ role: 'user', content: 'Hello' }] }, { headers })
    .then(
      () => 200,
      (error: { status?: number }) => error.status,
    );
  await sleep(200);
  return status;
};

describe.skipIf(skipped)('limits for subjects of tokens', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({
      settings: {
        // A subject may have the same name as a client.
        GATEWAY_CLIENT_NAME_0: 'app',
        GATEWAY_CLIENT_REQUESTS_PER_MINUTE_0: '2',
        ENABLE_QUOTA: 'true',
        QUOTA_COUNT: '4',
        QUOTA_TIME_WINDOW: '600',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => resetMocks(gateway));

  const statuses = async (count: number, header: Header) => {
    const list: number[] = [];
    for (let i = 0; i < count; i++)
      list.push((await rawRequest(gateway.url, { target: TARGET, headers: [header] })).status);
    return list;
  };

  test('count each subject separately, and apart from a client of the same name', async () => {
    expect(await statuses(5, bearer(tokenOf(gateway, 'app')))).toEqual([200, 200, 200, 200, 429]);
    expect(await statuses(5, bearer(tokenOf(gateway, 'other')))).toEqual([200, 200, 200, 200, 429]);
    expect(calls(gateway)).toEqual([8]);
    // The client has two limits and reaches its own first. A subject has none of its own.
    expect(await statuses(3, ['api-key', CLIENT_KEY])).toEqual([200, 200, 429]);
    expect(calls(gateway)).toEqual([10]);
  });

  test('count all tokens of a subject together', async () => {
    const list: number[] = [];
    for (let i = 0; i < 5; i++) {
      const token = gateway.issuer.token({ claims: { sub: 'many', jti: String(i) } });
      list.push(...(await statuses(1, bearer(token))));
    }
    expect(list).toEqual([200, 200, 200, 200, 429]);
  });

  test('count nothing for rejected tokens', async () => {
    const forged = gateway.issuer.token({ claims: { sub: 'victim' }, key: rsaKey('rsa-1') });
    expect(await statuses(5, bearer(forged))).toEqual([401, 401, 401, 401, 401]);
    expect(await statuses(4, bearer(tokenOf(gateway, 'victim')))).toEqual([200, 200, 200, 200]);
  });
});

describe.skipIf(skipped)('token budgets and request rates for subjects', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({
      settings: {
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_SCOPE: 'client',
        AI_RATE_LIMIT_HIGH_LIMIT: '1',
        AI_RATE_LIMIT_LOW_LIMIT: '1',
        AI_RATE_LIMIT_WINDOW_SECONDS: '600',
        AI_RATE_LIMIT_REJECT_CODE: '429',
        ENABLE_RATE_LIMIT: 'true',
        RATE_LIMIT_RATE: '0.1',
        RATE_LIMIT_BURST: '3',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => resetMocks(gateway));

  test('apply to each subject in each of its lanes', async () => {
    const one = gateway.openai(tokenOf(gateway, 'app'));
    expect(await chat(one)).toBe(200);
    expect(await chat(one)).toBe(429);
    expect(await chat(one, { 'x-priority': 'low' })).toBe(200);
    expect(await chat(one, { 'x-priority': 'low' })).toBe(429);
    expect(await chat(gateway.openai(tokenOf(gateway, 'other')))).toBe(200);
    expect(calls(gateway)).toEqual([3]);
  });

  test('do not affect a client of the same name', async () => {
    expect(await chat(gateway.azure('gpt-4o') as OpenAI)).toBe(200);
    expect(calls(gateway)).toEqual([1]);
  });

  test('count requests a second of each subject', async () => {
    const send = async (sub: string) =>
      (await rawRequest(gateway.url, { target: TARGET, headers: [bearer(tokenOf(gateway, sub))] })).status;
    const list: number[] = [];
    for (let i = 0; i < 5; i++) list.push(await send('hasty'));
    expect(list).toEqual([200, 200, 200, 200, 429]);
    expect(await send('patient')).toBe(200);
  });
});

test.skipIf(skipped)(
  'consistent hashing over clients keeps a subject at one backend',
  { timeout: 90_000 },
  async () => {
    const gateway = await startOidcGateway({
      backends: [{}, {}],
      settings: { LB_ALG: 'chash', LB_HASH_ON: 'consumer' },
    });
    try {
      const used = new Set<number>();
      for (let subject = 0; subject < 12; subject++) {
        resetMocks(gateway);
        for (let i = 0; i < 3; i++)
          expect(await chat(gateway.openai(tokenOf(gateway, `subject-${subject}`)))).toBe(200);
        expect([...calls(gateway)].sort()).toEqual([0, 3]);
        used.add(calls(gateway).indexOf(3));
      }
      expect(used).toEqual(new Set([0, 1]));
    } finally {
      await gateway.stop();
    }
  },
);

test.skipIf(skipped)(
  'owners are remembered for a subject, and not for a client of the same name',
  {
    timeout: 90_000,
  },
  async () => {
    const gateway = await startOidcGateway({ backends: [{}, {}] });
    try {
      const subject = bearer(tokenOf(gateway, 'app'));
      const { id } = await gateway
        .openai(tokenOf(gateway, 'app'))
        .responses.create({ model: 'gpt-4o', input: 'Hello' });
      const callsToRead = async (header: Header) => {
        await forgetRequests(gateway);
        const target = `/openai/v1/responses/${id}`;
        expect((await rawRequest(gateway.url, { target, headers: [header] })).status).toBe(200);
        return calls(gateway).reduce((sum, each) => sum + each);
      };
      expect(await callsToRead(subject)).toBe(1);
      // The gateway searches for the owner, as for an unknown object.
      expect(await callsToRead(['api-key', CLIENT_KEY])).toBeGreaterThan(1);
      expect(await callsToRead(subject)).toBe(1);
    } finally {
      await gateway.stop();
    }
  },
);

describe.skipIf(skipped)('the name of a subject', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({
      settings: { APISIX_LOGS_PATH: '/dev/stdout' },
      adapt: quickMetrics,
    });
    for (let i = 0; i < 30; i++)
      expect(await chat(gateway.openai(tokenOf(gateway, `subject-${i}`)))).toBe(200);
    expect(await chat(gateway.openai(tokenOf(gateway, 'with "quotes" \\ and more')))).toBe(200);
    expect(await chat(gateway.azure('gpt-4o') as OpenAI)).toBe(200);
    expectRefused(
      await rawRequest(gateway.url, { target: TARGET, headers: [bearer('a.b')] }),
      'it is not a signed JWT',
    );
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('is the same for all subjects in metrics', async () => {
    const metrics = await gateway.metrics();
    const consumers = new Set([...metrics.matchAll(/[{,]consumer="([^"]*)"/g)].map(([, name]) => name));
    expect(consumers).toEqual(new Set(['oidc:*', 'app', '']));
    expect(metrics).toMatch(/apisix_llm_completion_tokens\{[^}]*consumer="oidc:\*"[^}]*\} 124/);
    expect(metrics).not.toContain('subject-');
  });

  test('is in the JSON access log', async () => {
    const clients = (await gateway.accessLog()).map(({ client }) => client);
    expect(clients).toEqual(expect.arrayContaining(['oidc:subject-0', 'oidc:subject-29', 'app']));
    expect(clients).toContain('oidc:with "quotes" \\ and more');
  });
});

describe.skipIf(skipped)('a gateway that accepts tokens only', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({
      logsClients: true,
      settings: {
        GATEWAY_CLIENT_NAME_0: '',
        GATEWAY_CLIENT_KEY_0: '',
        ENABLE_CORS: 'true',
        CORS_ALLOW_ORIGINS: 'https://app.example.com',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    resetMocks(gateway);
    gateway.issuer.forget();
  });

  test('answers preflights without a token and without calling the issuer', async () => {
    const answer = await rawRequest(gateway.url, {
      method: 'OPTIONS',
      target: '/openai/v1/chat/completions',
      headers: [
        ['Origin', 'https://app.example.com'],
        ['Access-Control-Request-Method', 'POST'],
        ['Access-Control-Request-Headers', 'authorization,content-type'],
      ],
    });
    expect(answer.status).toBe(200);
    expect(answer.header('access-control-allow-origin')).toBe('https://app.example.com');
    expect(answer.header('access-control-allow-methods')).toContain('POST');
    expect(calls(gateway)).toEqual([0]);
    expect(gateway.issuer.requests).toEqual([]);
  });

  test('accepts tokens, and lets browsers read its errors', async () => {
    expect(await chat(gateway.openai(gateway.issuer.token()))).toBe(200);
    const refused = await rawRequest(gateway.url, {
      target: TARGET,
      headers: [bearer('a.b'), ['Origin', 'https://app.example.com']],
    });
    expectRefused(refused, 'it is not a signed JWT');
    expect(refused.header('access-control-allow-origin')).toBe('https://app.example.com');
    expect(calls(gateway)).toEqual([1]);
  });

  test('accepts no key', async () => {
    expect(
      (await rawRequest(gateway.url, { target: TARGET, headers: [['api-key', CLIENT_KEY]] })).status,
    ).toBe(401);
    expect((await rawRequest(gateway.url, { target: TARGET })).status).toBe(401);
    expect(calls(gateway)).toEqual([0]);
  });
});

describe.skipIf(skipped)('a gateway with tokens that does not require authentication', () => {
  let gateway: OidcGateway;
  let count = 0;

  beforeAll(async () => {
    gateway = await startOidcGateway({ logsClients: true, settings: { GATEWAY_REQUIRE_AUTH: 'false' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => resetMocks(gateway));

  const clientOf = async (...headers: Header[]) => {
    const id = `request-${count++}`;
    const answer = await rawRequest(gateway.url, {
      target: TARGET,
      headers: [...headers, ['x-test-request', id]],
    });
    expect(answer.status).toBe(200);
    expect(answer.values('www-authenticate')).toEqual([]);
    expect(calls(gateway)).toEqual([1]);
    expect(gateway.mocks[0]?.requests[0]?.header('authorization')).toBeUndefined();
    return gateway.apisix.clientOf(id);
  };

  test('identifies a subject by its token and a client by its key', async () => {
    expect(await clientOf(bearer(gateway.issuer.token()))).toBe('oidc:subject-1');
    resetMocks(gateway);
    expect(await clientOf(['api-key', CLIENT_KEY])).toBe('app');
  });

  test.each<[string, () => Header[]]>([
    ['no token', () => []],
    ['a forged token', () => [bearer(gateway.issuer.token({ key: rsaKey('rsa-1') }))]],
    ['a token that has expired', () => [bearer(gateway.issuer.token({ claims: { exp: 1 } }))]],
    ['a key in the place of a token', () => [bearer(CLIENT_KEY)]],
  ])('serves a request with %s as anonymous', async (_, headers) => {
    expect(await clientOf(...headers())).toBeNull();
  });
});

test.skipIf(skipped)(
  'a gateway that does not require authentication serves requests while the issuer is down',
  { timeout: 90_000 },
  async () => {
    const gateway = await startOidcGateway({ settings: { GATEWAY_REQUIRE_AUTH: 'false' } });
    try {
      await gateway.issuer.stop();
      expect(await chat(gateway.openai(gateway.issuer.token()))).toBe(200);
    } finally {
      await gateway.stop();
    }
  },
);
