/** An issuer is rarely called for its keys, and its failures never affect clients with keys. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, HOST, hostAddress } from '../support/gateway.ts';
import {
  ecKey,
  type IssuerAnswer,
  type IssuerDocument,
  rsaKey,
  startMockIssuer,
} from '../support/mock-issuer.ts';
import {
  expectRefused,
  expectUnavailable,
  type OidcGateway,
  oidcSettings,
  startOidcGateway,
} from '../support/oidc.ts';
import { type RawAnswer, rawRequest } from '../support/raw-http.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('issuers of tokens in the stock APISIX image');

const FETCH: readonly IssuerDocument[] = ['discovery', 'keys'];
/** The time for which tokens with an unknown key do not cause another call to the issuer. */
const MIN_AGE_S = 3;
const NO_KEY = 'its issuer has no key with this id';

const send = (gateway: OidcGateway, token: string): Promise<RawAnswer> =>
  rawRequest(gateway.url, {
    target: '/openai/v1/models',
    headers: [['Authorization', `Bearer ${token}`]],
  });
const sendKey = (gateway: OidcGateway): Promise<RawAnswer> =>
  rawRequest(gateway.url, { target: '/openai/v1/models', headers: [['api-key', CLIENT_KEY]] });
const timed = async <T>(work: () => Promise<T>): Promise<readonly [T, number]> => {
  const began = performance.now();
  return [await work(), performance.now() - began];
};
/** Repeats a request until the gateway has called a failed issuer again. */
const passes = async (gateway: OidcGateway, token: string, patienceMs = 8_000) => {
  const deadline = Date.now() + patienceMs;
  let status = 0;
  while (status !== 200 && Date.now() < deadline) {
    status = (await send(gateway, token)).status;
    if (status !== 200) await sleep(200);
  }
  expect(status).toBe(200);
};

describe.skipIf(skipped)('an issuer that is reachable', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({
      times: { oidc_min_age: MIN_AGE_S },
      settings: { GATEWAY_WORKERS: '2' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('is called once, for any number of waiting requests and workers', async () => {
    gateway.issuer.answer('discovery', { delayMs: 300 });
    gateway.issuer.answer('keys', { delayMs: 300 });
    const tokens = Array.from({ length: 40 }, (_, index) =>
      gateway.issuer.token({ claims: { sub: `subject-${index}` } }),
    );
    const statuses = await Promise.all(tokens.map(async (token) => (await send(gateway, token)).status));
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(gateway.issuer.requests).toEqual(FETCH);
    gateway.issuer.reset();
  });

  test('is not called for tokens that are clearly invalid', async () => {
    for (const token of ['a', 'a.b.c', `${'a'.repeat(300)}.b.c`]) {
      expect((await send(gateway, token)).status).toBe(401);
    }
    expect(gateway.issuer.requests).toEqual([]);
  });

  test('is not called for every token that names an unknown key', async () => {
    const stranger = rsaKey('stranger');
    const refused = async (kid: string) =>
      expectRefused(await send(gateway, gateway.issuer.token({ key: stranger, header: { kid } })), NO_KEY);
    // Until one of them causes a call. An address may fail only a hundred times a minute.
    await eventually(
      async () => {
        await refused('first');
        return gateway.issuer.requests.length > 0;
      },
      { intervalMs: 500 },
    );
    const began = performance.now();
    for (let index = 0; index < 50; index++) await refused(`stranger-${index}`);
    const times = 1 + Math.floor((performance.now() - began) / (MIN_AGE_S * 1_000));
    expect(gateway.issuer.requests.slice(0, 2)).toEqual(FETCH);
    expect(gateway.issuer.requests.length).toBeLessThanOrEqual(times * FETCH.length);
    expect(gateway.mocks[0]?.requests).toHaveLength(40);
  });

  test('may sign with a new key as soon as the minimum interval between calls has passed', {
    timeout: 30_000,
  }, async () => {
    gateway.issuer.reset();
    const [rsa, ec] = [rsaKey('rsa-2'), ecKey('ec-2')];
    gateway.issuer.keys.push(rsa, ec);
    await passes(gateway, gateway.issuer.token({ key: rsa }));
    expect((await send(gateway, gateway.issuer.token({ key: ec }))).status).toBe(200);
    expect((await send(gateway, gateway.issuer.token())).status).toBe(200);
    expect(gateway.issuer.requests).toEqual(FETCH);
  });

  test('is not called again after a reload that does not change it', { timeout: 30_000 }, async () => {
    gateway.issuer.reset();
    await gateway.apisix.reload(gateway.documents['apisix.yaml'].replace('weight: 1', 'weight: 2'));
    expect((await send(gateway, gateway.issuer.token())).status).toBe(200);
    expect(gateway.issuer.requests).toEqual([]);
  });

  test('is replaced by a reload that changes it', { timeout: 30_000 }, async () => {
    const other = await startMockIssuer({ host: await hostAddress(), hostName: HOST });
    try {
      const before = gateway.issuer.token();
      expect((await send(gateway, before)).status).toBe(200);
      const yaml = gateway.documents['apisix.yaml'];
      expect(yaml).toContain(gateway.issuer.discoveryUrl);
      await gateway.apisix.reload(yaml.replace(gateway.issuer.discoveryUrl, other.discoveryUrl));
      expect((await send(gateway, other.token())).status).toBe(200);
      expectRefused(await send(gateway, before), 'its signature is wrong');
      // Its signature would be valid.
      expectRefused(
        await send(gateway, other.token({ claims: { iss: gateway.issuer.issuer } })),
        'its issuer is not the expected one',
      );
    } finally {
      await other.stop();
    }
  });

  test('is not accepted for the old audience after a reload that changes the audience', {
    timeout: 30_000,
  }, async () => {
    const token = gateway.issuer.token();
    const yaml = gateway.documents['apisix.yaml'];
    await gateway.apisix.reload(yaml);
    expect((await send(gateway, token)).status).toBe(200);
    await gateway.apisix.reload(yaml.replaceAll('11111111-2222', '99999999-2222'));
    expectRefused(await send(gateway, token), 'its audience is not the expected one');
  });
});

describe.skipIf(skipped)('the keys of an issuer', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({
      times: { oidc_refresh: 2, oidc_max_age: 5, oidc_min_age: 0.5, oidc_pause: 0.5 },
      settings: { GATEWAY_WORKERS: '2' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(async () => {
    await gateway.issuer.restart();
    gateway.issuer.reset();
    // Wait until the results of the previous test no longer matter.
    await sleep(550);
    await passes(gateway, gateway.issuer.token());
    await sleep(550);
    gateway.mocks[0]?.reset();
    gateway.issuer.forget();
  }, 20_000);

  /** Waits until the last keys have expired. */
  const untilUnavailable = () =>
    eventually(async () => (await send(gateway, gateway.issuer.token())).status === 503, { intervalMs: 200 });

  test('are renewed in the background, without delaying requests', async () => {
    const token = gateway.issuer.token();
    gateway.issuer.answer('discovery', { delayMs: 700 });
    let slowest = 0;
    for (let i = 0; i < 50; i++) {
      const [answer, took] = await timed(() => send(gateway, token));
      expect(answer.status).toBe(200);
      slowest = Math.max(slowest, took);
      await sleep(50);
    }
    expect(slowest).toBeLessThan(400);
    expect(gateway.issuer.requests.slice(0, 2)).toEqual(FETCH);
    expect(gateway.issuer.requests.length).toBeLessThanOrEqual(4);
  });

  test('are no longer trusted once withdrawn, nor are tokens that were accepted before', async () => {
    const token = gateway.issuer.token();
    expect((await send(gateway, token)).status).toBe(200);
    const next = rsaKey('rsa-next');
    gateway.issuer.keys.splice(0, 1, next);
    expect((await send(gateway, gateway.issuer.token({ key: next }))).status).toBe(200);
    expectRefused(await send(gateway, token), NO_KEY);
  });

  test('are no longer trusted once withdrawn, even when no token uses the new key', async () => {
    const token = gateway.issuer.token();
    gateway.issuer.keys.shift();
    const deadline = Date.now() + 5_000;
    let answer = await send(gateway, token);
    while (answer.status === 200 && Date.now() < deadline) {
      await sleep(100);
      answer = await send(gateway, token);
    }
    expectRefused(answer, NO_KEY);
  });

  test('are used while the issuer is down, until they expire', async () => {
    await gateway.issuer.stop();
    const began = Date.now();
    const stranger = gateway.issuer.token({ key: rsaKey('rsa-x') });
    const forged = gateway.issuer.token({ key: rsaKey('rsa-1') });
    while (Date.now() - began < 2_500) {
      expect((await send(gateway, gateway.issuer.token())).status).toBe(200);
      await sleep(100);
    }
    expectRefused(await send(gateway, forged), 'its signature is wrong');
    // The gateway cannot know whether the issuer now has such a key.
    expectUnavailable(await send(gateway, stranger));
    await untilUnavailable();
    const tooOld =
      /\[error\].*the keys of the token issuer cannot be fetched: .*clients with a token get 503/;
    // A failure just before the keys expired delays the next call.
    await eventually(
      async () => {
        expectUnavailable(await send(gateway, gateway.issuer.token()));
        return tooOld.test(await gateway.apisix.log());
      },
      { intervalMs: 300 },
    );
    const served = gateway.mocks[0]?.requests.length;
    expectUnavailable(await send(gateway, gateway.issuer.token()));
    expect((await sendKey(gateway)).status).toBe(200);
    expect(gateway.mocks[0]?.requests).toHaveLength((served ?? 0) + 1);
    const log = await gateway.apisix.log();
    expect(log).toMatch(
      /\[warn\].*the keys of the token issuer cannot be fetched: .*the keys fetched before stay in use/,
    );
  }, 20_000);

  test('are fetched again as soon as the issuer is back', async () => {
    await gateway.issuer.stop();
    await untilUnavailable();
    expectUnavailable(await send(gateway, gateway.issuer.token()));
    await gateway.issuer.restart();
    await passes(gateway, gateway.issuer.token(), 3_000);
  }, 20_000);
});

describe.skipIf(skipped)('an issuer that is unreachable', () => {
  let gateway: OidcGateway;

  beforeAll(async () => {
    gateway = await startOidcGateway({ times: { oidc_pause: 1 } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(async () => {
    gateway.mocks[0]?.reset();
    await sleep(1_100);
    gateway.issuer.forget();
  });

  test('causes 503 at once for tokens, and does not affect keys', async () => {
    await gateway.issuer.stop();
    const [answer, took] = await timed(() => send(gateway, gateway.issuer.token()));
    expectUnavailable(answer);
    expect(took).toBeLessThan(1_000);
    expect((await sendKey(gateway)).status).toBe(200);
    expect(gateway.mocks[0]?.requests).toHaveLength(1);
    await gateway.issuer.restart();
  });

  test('causes 503 for a token next to an unknown key, but not next to a valid key', async () => {
    gateway.issuer.answer('discovery', { status: 500 });
    const headers = (key: string): [string, string][] => [
      ['Authorization', `Bearer ${gateway.issuer.token()}`],
      ['api-key', key],
    ];
    const target = '/openai/v1/models';
    expectUnavailable(await rawRequest(gateway.url, { target, headers: headers('nobodys-key-0123456789') }));
    expect((await rawRequest(gateway.url, { target, headers: headers(CLIENT_KEY) })).status).toBe(200);
    expect(gateway.mocks[0]?.requests).toHaveLength(1);
  });

  test('is called only once in a while, however many tokens come', async () => {
    gateway.issuer.answer('discovery', { status: 500 });
    for (let i = 0; i < 50; i++) expectUnavailable(await send(gateway, gateway.issuer.token()));
    expect(gateway.issuer.requests.length).toBeGreaterThanOrEqual(1);
    expect(gateway.issuer.requests.length).toBeLessThanOrEqual(2);
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  });

  test('delays requests with tokens by two seconds when it never answers, and none with a key', async () => {
    gateway.issuer.answer('discovery', { hang: true });
    const token = gateway.issuer.token();
    const slow = Promise.all(Array.from({ length: 10 }, () => timed(() => send(gateway, token))));
    await sleep(200);
    const [withKey, took] = await timed(() => sendKey(gateway));
    expect(withKey.status).toBe(200);
    expect(took).toBeLessThan(500);
    for (const [answer, waited] of await slow) {
      expectUnavailable(answer);
      expect(waited).toBeLessThan(3_500);
    }
    expect(gateway.issuer.requests).toEqual(['discovery']);
    const [next, waited] = await timed(() => send(gateway, token));
    expectUnavailable(next);
    expect(waited).toBeLessThan(200);
  });

  const nothing: IssuerAnswer = { body: { keys: [] } };
  test.each<[string, IssuerDocument, IssuerAnswer]>([
    ['500', 'discovery', { status: 500 }],
    ['a redirect', 'discovery', { status: 302, headers: { Location: 'http://127.0.0.1:1/' } }],
    ['no JSON', 'discovery', { body: '<html>' }],
    ['a document without keys', 'discovery', { body: { issuer: 'https://a' } }],
    [
      'a document that leads to a file',
      'discovery',
      { body: { issuer: 'https://a', jwks_uri: 'file:///etc/passwd' } },
    ],
    ['404 for its keys', 'keys', { status: 404 }],
    ['no JSON for its keys', 'keys', { body: 'keys' }],
    ['no keys', 'keys', nothing],
    ['secrets for keys', 'keys', { body: { keys: [{ kty: 'oct', kid: 'rsa-1', k: 'AAAA' }] } }],
  ])('causes 503 when it answers with %s', async (_, document, answer) => {
    for (const each of FETCH) gateway.issuer.answer(each, undefined);
    gateway.issuer.answer(document, answer);
    expectUnavailable(await send(gateway, gateway.issuer.token()));
    expect(gateway.issuer.requests.at(-1)).toBe(document === 'keys' ? 'keys' : 'discovery');
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  });

  test('is called again later', async () => {
    for (const each of FETCH) gateway.issuer.answer(each, undefined);
    await passes(gateway, gateway.issuer.token());
  });
});

test.skipIf(skipped)(
  'an issuer whose host cannot be resolved delays no request by more than five seconds',
  { timeout: 90_000 },
  async () => {
    const gateway = await startOidcGateway({
      settings: oidcSettings('http://nowhere.invalid/.well-known/openid-configuration'),
    });
    try {
      const [answer, took] = await timed(() => send(gateway, gateway.issuer.token()));
      expectUnavailable(answer);
      expect(took).toBeLessThan(6_000);
      const [next, waited] = await timed(() => send(gateway, gateway.issuer.token()));
      expectUnavailable(next);
      expect(waited).toBeLessThan(500);
    } finally {
      await gateway.stop();
    }
  },
);

describe.skipIf(skipped)('an issuer behind TLS', () => {
  const pem = (name: string) =>
    readFileSync(new URL(`../support/tls/self-signed.${name}`, import.meta.url), 'utf8');
  const tls = { key: pem('key'), cert: pem('crt') };
  const TRUSTED = '/tmp/trusted.crt';
  const start = (settings: Record<string, string>) =>
    startOidcGateway({
      issuer: { tls },
      settings,
      times: { oidc_pause: 1 },
      mountedFiles: { [TRUSTED]: tls.cert },
    });

  test('is accepted with a trusted certificate, but not when its keys are on plain HTTP', {
    timeout: 90_000,
  }, async () => {
    const gateway = await start({ GATEWAY_TRUSTED_CA_FILE: TRUSTED });
    try {
      gateway.issuer.answer('discovery', {
        body: { issuer: gateway.issuer.issuer, jwks_uri: `http://${HOST}:1/keys` },
      });
      expectUnavailable(await send(gateway, gateway.issuer.token()));
      gateway.issuer.answer('discovery', undefined);
      await passes(gateway, gateway.issuer.token());
      expect(await gateway.apisix.log()).toContain('its jwks_uri is not https');
    } finally {
      await gateway.stop();
    }
  });

  test('is not accepted with an untrusted certificate', { timeout: 90_000 }, async () => {
    const gateway = await start({});
    try {
      expectUnavailable(await send(gateway, gateway.issuer.token()));
      expect(gateway.issuer.requests).toEqual([]);
      expect(await gateway.apisix.log()).toMatch(/cannot be fetched: .*certificate/);
    } finally {
      await gateway.stop();
    }
  });
});
