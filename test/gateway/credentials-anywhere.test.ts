/** A client's key reaches no backend and no log, wherever the client puts it. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { type Header, rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('where clients put keys, in the stock APISIX image');

const CHAT = '/openai/v1/chat/completions';
const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hi' }] });
const KEY: Header = ['api-key', CLIENT_KEY];
const ESCAPED = CLIENT_KEY.replaceAll('-', '%2D');
const REPLACED = CLIENT_KEY.replace(/./gu, (each) => `%${each.charCodeAt(0).toString(16)}`);

const BASE64_KEY = 'AB+CD/efgh+0123456789==';

/** The forms in which a client could send its key. */
const FORMS = [CLIENT_KEY, ESCAPED, REPLACED];

describe.skipIf(skipped)('a key of the gateway', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: quickMetrics,
      settings: {
        GATEWAY_LOG_MODE: 'dev',
        APISIX_LOG_LEVEL: 'warn',
        GATEWAY_CLIENT_NAME_1: 'base64',
        GATEWAY_CLIENT_KEY_1: BASE64_KEY,
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  const send = (headers: readonly Header[], target = CHAT) =>
    rawRequest(gateway.url, {
      method: 'POST',
      target,
      headers: [['Content-Type', 'application/json'], ...headers],
      body: BODY,
    });
  const received = () => {
    const [request] = gateway.mocks[0]?.requests ?? [];
    expect(request).toBeDefined();
    return { target: request?.target ?? '', text: `${request?.target} ${JSON.stringify(request?.headers)}` };
  };
  const expectNowhere = () => {
    const { text } = received();
    for (const form of FORMS) expect(text).not.toContain(form);
  };

  test.each<readonly [string, Header]>([
    ['api-key', ['api-key', CLIENT_KEY]],
    ['x-api-key', ['X-API-Key', CLIENT_KEY]],
    ['Ocp-Apim-Subscription-Key', ['Ocp-Apim-Subscription-Key', CLIENT_KEY]],
    ['Authorization', ['Authorization', `Bearer ${CLIENT_KEY}`]],
  ])('is accepted in %s and does not reach the backend', async (_, header) => {
    expect((await send([header])).status).toBe(200);
    expectNowhere();
  });

  test.each<readonly [string, Header]>([
    ['x-goog-api-key', ['x-goog-api-key', CLIENT_KEY]],
    ['apikey', ['apikey', CLIENT_KEY]],
    ['a header of any name', ['X-Of-Mine', CLIENT_KEY]],
    ['a header with the scheme', ['X-Authorization', `Bearer ${CLIENT_KEY}`]],
    ['Proxy-Authorization', ['Proxy-Authorization', `Bearer ${CLIENT_KEY}`]],
    ['User-Agent', ['User-Agent', CLIENT_KEY]],
    ['X-Request-ID', ['X-Request-ID', CLIENT_KEY]],
    ['a cookie', ['Cookie', `a=b; api-key=${CLIENT_KEY}; c=d`]],
    ['a cookie, escaped', ['Cookie', `k="${ESCAPED}"`]],
    ['a cookie, with quotes that are escaped', ['Cookie', `a=b; k=%22${CLIENT_KEY}%22`]],
    ['a header with another scheme', ['X-Auth', `Token ${CLIENT_KEY}`]],
    ['a list', ['X-Keys', `a, ${CLIENT_KEY}`]],
    ['quotes', ['X-Quoted', `"${CLIENT_KEY}"`]],
    ['baggage', ['baggage', `a=b,key=${CLIENT_KEY}`]],
    ['a name of a program', ['User-Agent', `app/${CLIENT_KEY} (x)`]],
    ['Referer', ['Referer', `https://app.test/?key=${CLIENT_KEY}`]],
    ['the fragment of Referer', ['Referer', `https://app.test/#key=${CLIENT_KEY}`]],
    [
      'a list of WebSocket protocols',
      ['Sec-WebSocket-Protocol', `realtime, openai-insecure-api-key.${CLIENT_KEY}`],
    ],
  ])('does not reach the backend in %s, next to the header that authenticates', async (_, header) => {
    const answer = await send([KEY, header]);
    expect(answer.status).toBe(200);
    expectNowhere();
    expect(JSON.stringify(answer.headers)).not.toContain(CLIENT_KEY);
  });

  test.each([
    ['api-key', `?api-key=${CLIENT_KEY}`, ''],
    ['api-key, between others', `?a=%2F+&api-key=${CLIENT_KEY}&b=%zz&&`, '?a=%2F+&b=%zz&&'],
    ['API-KEY, which is another key', '?API-KEY=of-another-service&a=b', '?a=b'],
    ['subscription-key', `?api-version=preview&subscription-key=${CLIENT_KEY}`, '?api-version=preview'],
    ['key', `?key=${CLIENT_KEY}&api-version=preview`, '?api-version=preview'],
    ['code, escaped', `?code=${ESCAPED}&x=y`, '?x=y'],
    ['every letter escaped', `?x=y&token=${REPLACED}`, '?x=y'],
    ['with the scheme', `?authorization_=Bearer%20${CLIENT_KEY}&x=y`, '?x=y'],
    ['no name at all', `?${CLIENT_KEY}&x=y`, '?x=y'],
    ['within an address', `?x=y&next=https%3A%2F%2Fapp.test%2F%3Fkey%3D${CLIENT_KEY}`, '?x=y'],
    ['twice', `?api-key=${CLIENT_KEY}&x=y&api-key=${CLIENT_KEY}`, '?x=y'],
    ['nothing of the kind', '?key=other&code=1&q=api-key=x', '?key=other&code=1&q=api-key=x'],
  ])('does not reach the backend in the query: %s', async (_, query, kept) => {
    expect((await send([KEY], `${CHAT}${query}`)).status).toBe(200);
    expect(received().target).toBe(`${CHAT}${kept}`);
  });

  test.each<readonly [string, string, readonly Header[]]>([
    ['the query', `?a=%2B+&key=${BASE64_KEY}&b=c`, []],
    ['the query, without a name', `?a=%2B+&${BASE64_KEY}&b=c`, []],
    ['the query, with a scheme', `?a=%2B+&key=Bearer%20${BASE64_KEY}&b=c`, []],
    ['a cookie', '?a=%2B+&b=c', [['Cookie', `x=y; k=${BASE64_KEY}`]]],
    ['a cookie without a name', '?a=%2B+&b=c', [['Cookie', `${BASE64_KEY}; x=y`]]],
  ])(
    'does not reach the backend when it is Base64 with characters that a query encodes: %s',
    async (_, query, headers) => {
      expect((await send([KEY, ...headers], `${CHAT}${query}`)).status).toBe(200);
      expect(received().target).toBe(`${CHAT}?a=%2B+&b=c`);
      expect(received().text).not.toContain(BASE64_KEY.slice(0, 12));
      if (headers.length > 0) expect(gateway.mocks[0]?.requests[0]?.header('cookie')).toBe('x=y');
    },
  );

  test.each<readonly [string, readonly Header[], number]>([
    ['a cookie without a value, of a client without a key', [['Cookie', `a=${' '.repeat(30_000)};b=c`]], 401],
    ['a list of codings', [KEY, ['Content-Encoding', `,${' '.repeat(30_000)},identity`]], 200],
  ])('is searched for in less than a second among 30,000 spaces in %s', async (_, headers, status) => {
    const began = performance.now();
    expect((await send(headers)).status).toBe(status);
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test.each(['/v1/chat/completions', '//openai/v1/chat/completions', '/OpenAI/v1/chat/completions'])(
    'does not reach the backend in the query of a misspelt path: %s',
    async (path) => {
      expect((await send([KEY], `${path}?a=b&key=${CLIENT_KEY}`)).status).toBe(200);
      expect(received().target).toBe(`${CHAT}?a=b`);
    },
  );

  test.each([`api-key=${CLIENT_KEY}`, 'api-key=wrong', `subscription-key=${CLIENT_KEY}`])(
    'is not accepted in the query alone, and the error says where to put it: %s',
    async (query) => {
      const answer = await send([], `${CHAT}?${query}`);
      expect(answer.status).toBe(401);
      expect(JSON.parse(answer.body.toString()).error).toMatchObject({
        code: 'invalid_api_key',
        message: expect.stringMatching(/no valid key.*query.*`api-key`/),
      });
      expect(gateway.mocks[0]?.requests).toEqual([]);
    },
  );

  test('appears in no log, metric or answer, after all accepted and rejected requests above', async () => {
    for (const target of [`/nowhere?key=${CLIENT_KEY}`, `/openai/v1/files//x?api-key=${CLIENT_KEY}`])
      expect((await send([KEY], target)).status).toBeGreaterThanOrEqual(400);
    const log = await gateway.apisix.log();
    const metrics = await gateway.metrics();
    expect(log.split('\n').length).toBeGreaterThan(20);
    for (const form of FORMS) {
      expect(log.split('\n').filter((line) => line.includes(form))).toEqual([]);
      expect(metrics).not.toContain(form);
    }
  });
});

describe.skipIf(skipped)('CORS for browsers', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: { ENABLE_CORS: 'true', CORS_ALLOW_ORIGINS: '*' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each([CHAT, '/v1/chat/completions', '//openai/v1/chat/completions'])(
    'allows the header Authorization, which * does not include: %s',
    async (target) => {
      const answer = await rawRequest(gateway.url, {
        method: 'OPTIONS',
        target,
        headers: [
          ['Origin', 'https://app.example.com'],
          ['Access-Control-Request-Method', 'POST'],
          ['Access-Control-Request-Headers', 'authorization,content-type'],
        ],
      });
      expect(answer.status).toBe(200);
      const allowed = answer
        .header('access-control-allow-headers')
        ?.toLowerCase()
        .split(/\s*,\s*/);
      expect(allowed).toEqual(expect.arrayContaining(['*', 'authorization']));
    },
  );
});
