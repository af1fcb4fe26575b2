/** Clients are identified by their keys, and their credentials are never sent to a backend. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import {
  type Header,
  type RawAnswer,
  rawConnection,
  rawRequest,
  requestBytes,
  utf8Bytes,
} from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('who clients are in the stock APISIX image');

const OTHER_KEY = 'key-of-the-other-client-0123456789';
const SECOND_KEY = 'second-key-of-the-app-0123456789';
const UNKNOWN = 'nobodys-key-0123456789';
const TARGET = '/openai/v1/models';

/** Keys of printable ASCII in many forms, up to the longest key allowed. */
const ODD_KEYS: readonly (readonly [kind: string, key: string])[] = [
  ['spaces inside', 'key  with   spaces inside'],
  ['quotes and backslashes', `key"with'quotes\`and\\slashes`],
  ['dollars and hashes', 'key$HOME${PATH}#hash#$$'],
  ['most of a reference', 'env://GATEWAY_CLIENT_KEY_0'],
  ['template signs', '{{key}}{% of %}<<templates>>'],
  ['separators', 'key,with;several:values=1&2|3'],
  ['brackets and patterns', '%s%d[^key].*(of)+?{2}~!@'],
  ['the word of a scheme', 'Bearer of-a-key-0123456789'],
  ['a number', '00012345678901234567890'],
  ['512 characters', `${'k'.repeat(511)}!`],
];

describe.skipIf(skipped)('client authentication', () => {
  let gateway: Gateway;
  let count = 0;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      logsClients: true,
      settings: {
        GATEWAY_CLIENT_KEY_SECONDARY_0: SECOND_KEY,
        GATEWAY_CLIENT_NAME_1: 'other',
        GATEWAY_CLIENT_KEY_1: OTHER_KEY,
        ...Object.fromEntries(
          ODD_KEYS.flatMap(([, key], index) => [
            [`GATEWAY_CLIENT_NAME_${index + 2}`, `odd-${index}`],
            [`GATEWAY_CLIENT_KEY_${index + 2}`, key],
          ]),
        ),
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  test('a worker that replaces a crashed one knows all clients from its first request on', {
    timeout: 30_000,
  }, async () => {
    const statuses = new Set<number>();
    for (const { pid } of await gateway.apisix.workers()) {
      await gateway.apisix.killWorker(pid);
      for (let index = 0; index < 60; index++) {
        // The crashed worker may have accepted the connection.
        const answer = await gateway
          .fetch(TARGET, { headers: { connection: 'close' } })
          .catch(() => undefined);
        if (answer) statuses.add(answer.status);
      }
    }
    expect([...statuses]).toEqual([200]);
  });

  const send = async (headers: readonly Header[], target = TARGET, method = 'GET') => {
    const id = `request-${count++}`;
    const answer = await rawRequest(gateway.url, {
      method,
      target,
      headers: [...headers, ['x-test-request', id]],
    });
    return { answer, id };
  };
  /** The client that the gateway identifies from these headers. */
  const clientOf = async (headers: readonly Header[]) => {
    const { answer, id } = await send(headers);
    expect(answer.status).toBe(200);
    return gateway.apisix.clientOf(id);
  };
  const expectRefused = (answer: RawAnswer) => {
    expect(answer.status).toBe(401);
    expect(answer.values('content-type')).toEqual(['application/json']);
    expect(answer.values('www-authenticate')).toEqual(['Bearer realm="genai-gateway"']);
    expect(JSON.parse(answer.body.toString())).toEqual({
      error: {
        message: expect.stringContaining('no valid key'),
        type: 'authentication_error',
        param: null,
        code: 'invalid_api_key',
      },
    });
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  };

  test.each<readonly [string, readonly Header[]]>([
    ['Bearer', [['Authorization', `Bearer ${CLIENT_KEY}`]]],
    ['bearer', [['authorization', `bearer ${CLIENT_KEY}`]]],
    ['BEARER, spaces around', [['AUTHORIZATION', `BEARER    ${CLIENT_KEY}  `]]],
    ['api-key', [['api-key', CLIENT_KEY]]],
    ['Api-Key', [['Api-Key', CLIENT_KEY]]],
    ['ocp-apim-subscription-key', [['Ocp-Apim-Subscription-Key', CLIENT_KEY]]],
    ['x-api-key', [['X-Api-Key', CLIENT_KEY]]],
    ['the second key', [['api-key', SECOND_KEY]]],
    ['the second key as bearer', [['Authorization', `Bearer ${SECOND_KEY}`]]],
  ])('a key identifies the client in: %s', async (_, headers) => {
    expect(await clientOf(headers)).toBe('app');
  });

  test.each<readonly [string, readonly Header[], string]>([
    [
      'Authorization before api-key',
      [
        ['api-key', OTHER_KEY],
        ['Authorization', `Bearer ${CLIENT_KEY}`],
      ],
      'app',
    ],
    [
      'api-key before the third',
      [
        ['Ocp-Apim-Subscription-Key', OTHER_KEY],
        ['api-key', CLIENT_KEY],
      ],
      'app',
    ],
    [
      'Authorization before the third',
      [
        ['Ocp-Apim-Subscription-Key', CLIENT_KEY],
        ['Authorization', `bearer ${OTHER_KEY}`],
      ],
      'other',
    ],
    [
      'an unknown first one',
      [
        ['Authorization', `Bearer ${UNKNOWN}`],
        ['api-key', CLIENT_KEY],
      ],
      'app',
    ],
    [
      'two unknown ones',
      [
        ['Authorization', `Bearer ${UNKNOWN}`],
        ['api-key', UNKNOWN],
        ['Ocp-Apim-Subscription-Key', OTHER_KEY],
      ],
      'other',
    ],
    [
      'another scheme',
      [
        ['Authorization', 'Basic dXNlcjpwYXNz'],
        ['api-key', OTHER_KEY],
      ],
      'other',
    ],
    [
      'a bearer token without one',
      [
        ['Authorization', 'Bearer '],
        ['api-key', OTHER_KEY],
      ],
      'other',
    ],
    [
      'a key without a scheme',
      [
        ['Authorization', CLIENT_KEY],
        ['api-key', OTHER_KEY],
      ],
      'other',
    ],
    [
      'a blank one',
      [
        ['api-key', ''],
        ['Ocp-Apim-Subscription-Key', OTHER_KEY],
      ],
      'other',
    ],
    [
      'the same header twice',
      [
        ['api-key', UNKNOWN],
        ['api-key', OTHER_KEY],
      ],
      'other',
    ],
  ])('the first known key identifies the client: %s', async (_, headers, client) => {
    expect(await clientOf(headers)).toBe(client);
  });

  test.each(ODD_KEYS)('a key with %s identifies its client', async (_, key) => {
    const client = `odd-${ODD_KEYS.findIndex(([, each]) => each === key)}`;
    const ways: readonly Header[] = [
      ['api-key', key],
      ['Authorization', `Bearer ${key}`],
      ['Ocp-Apim-Subscription-Key', key],
    ];
    for (const header of ways) expect(await clientOf([header])).toBe(client);
    // A similar key is not accepted.
    for (const near of [
      `${key}x`,
      key.slice(1),
      key.toUpperCase() === key ? `${key} x` : key.toUpperCase(),
    ]) {
      gateway.mocks[0]?.reset();
      expectRefused((await send([['api-key', near]])).answer);
    }
  });

  test.each<readonly [string, readonly Header[]]>([
    ['nothing', []],
    ['an unknown key', [['api-key', UNKNOWN]]],
    [
      'unknown keys everywhere',
      [
        ['Authorization', `Bearer ${UNKNOWN}`],
        ['api-key', UNKNOWN],
        ['Ocp-Apim-Subscription-Key', UNKNOWN],
      ],
    ],
    ['a blank key', [['api-key', '']]],
    [
      'spaces',
      [
        ['api-key', '   '],
        ['Authorization', 'Bearer    '],
      ],
    ],
    ['a scheme alone', [['Authorization', 'Bearer']]],
    ['another scheme', [['Authorization', `Basic ${CLIENT_KEY}`]]],
    ['no space after the scheme', [['Authorization', `Bearer${CLIENT_KEY}`]]],
    ['a scheme where none belongs', [['api-key', `Bearer ${CLIENT_KEY}`]]],
    ['two keys in one value', [['api-key', `${CLIENT_KEY}, ${OTHER_KEY}`]]],
    ['another case', [['api-key', CLIENT_KEY.toUpperCase()]]],
    ['a part of a key', [['api-key', CLIENT_KEY.slice(0, -1)]]],
    ['the reference to a key', [['api-key', '$env://GATEWAY_CLIENT_KEY_0']]],
    ['the reference as bearer', [['Authorization', 'Bearer $env://GATEWAY_CLIENT_KEY_0']]],
    ['the reference in capitals', [['api-key', '$ENV://GATEWAY_CLIENT_KEY_0']]],
    ['the reference to another variable', [['api-key', '$env://PATH']]],
    ['the name of a variable', [['api-key', '$GATEWAY_CLIENT_KEY_0']]],
    ['the name of a client', [['api-key', 'app']]],
    ["a backend's key", [['api-key', backendKey(0)]]],
    ['bytes of UTF-8', [['api-key', utf8Bytes('schlüssel-€-😀-0123456789')]]],
    ['bytes of nothing', [['api-key', '\xff\xfe\x80 0123456789']]],
    ['8000 characters', [['api-key', 'k'.repeat(8000)]]],
    ['a key twice, joined', [['api-key', `${CLIENT_KEY}${CLIENT_KEY}`]]],
    [
      'headers that only APISIX sets',
      [
        ['x-consumer-username', 'app'],
        ['x-credential-identifier', 'secondary'],
      ],
    ],
    [
      'other names for it',
      [
        ['apikey', CLIENT_KEY],
        ['api_key', CLIENT_KEY],
        ['Cookie', `api-key=${CLIENT_KEY}`],
      ],
    ],
  ])('rejects %s', async (_, headers) => {
    expectRefused((await send(headers)).answer);
  });

  test.each(['api-key', 'subscription-key', 'key', 'apikey', 'authorization', 'ocp-apim-subscription-key'])(
    'ignores a key in the query parameter %s',
    async (name) => {
      expectRefused((await send([], `${TARGET}?${name}=${CLIENT_KEY}`)).answer);
    },
  );

  test.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])('requires a key for %s', async (method) => {
    expectRefused(
      (
        await send(
          [
            ['Origin', 'https://app.test'],
            ['Access-Control-Request-Method', 'POST'],
          ],
          TARGET,
          method,
        )
      ).answer,
    );
  });

  test.each(['/openai/v1/x', '/openai/deployments/gpt-4o/chat/completions', '/openai/models', '/openai/'])(
    'requires a key for %s',
    async (target) => {
      expectRefused((await send([], target)).answer);
    },
  );

  test('finds a key after the hundredth header, and does not send it to the backend', async () => {
    const fillers = Array.from({ length: 150 }, (_, index): Header => [`x-h-${index}`, 'x']);
    const late: Header[] = [
      ['Authorization', `Bearer ${UNKNOWN}`],
      ['Ocp-Apim-Subscription-Key', UNKNOWN],
      ['api-key', OTHER_KEY],
    ];
    expect(await clientOf([...fillers, ...late])).toBe('other');
    expect(JSON.stringify(gateway.mocks[0]?.requests[0]?.headers)).not.toMatch(
      new RegExp(`${UNKNOWN}|${OTHER_KEY}`),
    );
  });

  test('identifies the client separately for each request on a connection', async () => {
    const connection = await rawConnection(gateway.url);
    const requests: readonly (readonly Header[])[] = [[['api-key', CLIENT_KEY]], [], [['api-key', UNKNOWN]]];
    const statuses = [];
    for (const headers of requests) {
      await connection.write(requestBytes({ target: TARGET, headers }));
      statuses.push((await connection.answer()).status);
    }
    connection.destroy();
    expect(statuses).toEqual([200, 401, 401]);
  });
});

describe.skipIf(skipped)('without authentication', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      logsClients: true,
      settings: { GATEWAY_REQUIRE_AUTH: 'false' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  test.each<readonly [string, readonly Header[], string | null]>([
    ['nobody', [], null],
    [
      'somebody unknown',
      [
        ['api-key', UNKNOWN],
        ['Authorization', `Bearer ${UNKNOWN}`],
        ['ocp-apim-subscription-key', UNKNOWN],
      ],
      null,
    ],
    [
      'a client',
      [
        ['Authorization', `Bearer ${UNKNOWN}`],
        ['api-key', CLIENT_KEY],
      ],
      'app',
    ],
    ['a client that sets x-consumer-username', [['x-consumer-username', 'app']], null],
  ])('lets %s pass', async (id, headers, client) => {
    const answer = await rawRequest(gateway.url, {
      target: TARGET,
      headers: [...headers, ['x-test-request', id]],
    });
    expect(answer.status).toBe(200);
    expect(await gateway.apisix.clientOf(id)).toBe(client);
    const [request] = gateway.mocks[0]?.requests ?? [];
    expect(request?.header('api-key')).toBe(backendKey(0));
    for (const name of ['authorization', 'ocp-apim-subscription-key', 'x-consumer-username'])
      expect(request?.header(name)).toBeUndefined();
    expect(JSON.stringify(request?.headers)).not.toMatch(new RegExp(`${UNKNOWN}|${CLIENT_KEY}`));
  });
});

describe.skipIf(skipped)('browsers of other origins', () => {
  const ORIGIN = 'https://app.example.com';
  const PREFLIGHT: readonly Header[] = [
    ['Origin', ORIGIN],
    ['Access-Control-Request-Method', 'POST'],
    ['Access-Control-Request-Headers', 'authorization,content-type'],
  ];
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: { ENABLE_CORS: 'true', CORS_ALLOW_ORIGINS: ORIGIN },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  test('may send a preflight without a key, which no backend receives', async () => {
    const answer = await rawRequest(gateway.url, {
      method: 'OPTIONS',
      target: '/openai/v1/chat/completions',
      headers: PREFLIGHT,
    });
    expect(answer.status).toBe(200);
    expect(answer.values('access-control-allow-origin')).toEqual([ORIGIN]);
    expect(answer.header('access-control-allow-methods')).toContain('POST');
    expect(answer.header('access-control-allow-headers')).toMatch(/\*|authorization/i);
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  });

  test('need a key for the request itself, and can read the error', async () => {
    const answer = await rawRequest(gateway.url, {
      method: 'POST',
      target: '/openai/v1/chat/completions',
      headers: [['Origin', ORIGIN]],
      body: '{}',
    });
    expect(answer.status).toBe(401);
    expect(answer.values('access-control-allow-origin')).toEqual([ORIGIN]);
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  });

  test('get the CORS headers of the gateway only, not those of the backend', async () => {
    const answer = await rawRequest(gateway.url, {
      target: TARGET,
      headers: [
        ['Origin', ORIGIN],
        ['api-key', CLIENT_KEY],
      ],
    });
    expect(answer.status).toBe(200);
    expect(answer.values('access-control-allow-origin')).toEqual([ORIGIN]);
  });
});
