/** No part of a token and no secret of the issuer's client gets into a log or a metric. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { quickMetrics } from '../support/gateway.ts';
import { assembled, hmac, rsaKey } from '../support/mock-issuer.ts';
import { type OidcGateway, oidcSettings, startOidcGateway } from '../support/oidc.ts';
import { type Header, rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('tokens in logs of the stock APISIX image');

const CLIENT_SECRET = oidcSettings('').OIDC_CLIENT_SECRET ?? '';
/** Long enough not to occur by chance, short enough to be part of any truncated token. */
const PIECE = 24;

describe.skipIf(skipped).each(['info', 'debug'])('logs at level %s', (level) => {
  let gateway: OidcGateway;
  const planted = new Set<string>([CLIENT_SECRET]);

  beforeAll(async () => {
    gateway = await startOidcGateway({
      adapt: quickMetrics,
      times: { oidc_min_age: 1, oidc_pause: 1, oidc_refresh: 1 },
      settings: {
        APISIX_LOG_LEVEL: level,
        APISIX_LOGS_PATH: '/dev/stdout',
        GATEWAY_LOG_MODE: 'dev',
        AI_PROXY_COOLDOWN: '0',
        AI_PROXY_COOLDOWN_MAX: '0',
        AI_PROXY_READ_TIMEOUT: '1s',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_SCOPE: 'client',
        AI_RATE_LIMIT_HIGH_LIMIT: '1000000',
        ENABLE_QUOTA: 'true',
        QUOTA_COUNT: '3',
        QUOTA_TIME_WINDOW: '600',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  /** Remembers parts of a token's payload and signature. Many tokens share the same header, which is no secret. */
  const plant = (token: string): string => {
    for (const part of token.split('.').slice(1)) {
      for (let from = 0; from + PIECE <= part.length; from += PIECE * 4)
        planted.add(part.slice(from, from + PIECE));
    }
    if (!token.includes('.')) planted.add(token);
    return token;
  };
  let subjects = 0;
  const token = (options: Parameters<OidcGateway['issuer']['token']>[0] = {}) =>
    plant(
      gateway.issuer.token({
        ...options,
        claims: { sub: `subject-${level}-${subjects++}`, ...options.claims },
      }),
    );
  const bearer = (value: string): Header => ['Authorization', `Bearer ${value}`];
  const send = async (...headers: Header[]) =>
    (
      await rawRequest(gateway.url, {
        method: 'POST',
        target: '/openai/v1/chat/completions',
        headers: [['Content-Type', 'application/json'], ...headers],
        body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] }),
      })
    ).status;
  const found = async () => {
    const lines = (await gateway.apisix.log()).split('\n');
    expect(lines.length).toBeGreaterThan(10);
    const pieces = [...planted];
    return lines.filter((line) => pieces.some((piece) => line.includes(piece)));
  };

  test('contain no valid token', async () => {
    const good = token();
    for (let i = 0; i < 3; i++) expect(await send(bearer(good))).toBe(200);
    expect(await send(bearer(good))).toBe(429);
    expect(await found()).toEqual([]);
  });

  test('contain no rejected token', async () => {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: gateway.issuer.issuer, sub: 'subject', exp: now + 600 };
    const bad = [
      token({ claims: { exp: now - 3_600 } }),
      token({ claims: { nbf: now + 3_600 } }),
      token({ claims: { iss: 'https://other' } }),
      token({ claims: { aud: 'other' } }),
      token({ claims: { sub: 'line\nbreak' } }),
      token({ key: rsaKey('rsa-1') }),
      token({ key: rsaKey('unknown') }),
      token({ header: { crit: ['a'] } }),
      plant(assembled({ alg: 'HS256' }, claims, (signed) => hmac(signed, 'secret'))),
      plant(assembled({ alg: 'none' }, claims, () => 'x'.repeat(64))),
      plant('a-key-of-a-client-in-the-place-of-a-token-0123456789'),
      plant(`AAAA.${'B'.repeat(100)}.${'C'.repeat(100)}`),
    ];
    for (const each of bad) expect(await send(bearer(each))).toBe(401);
    expect(await found()).toEqual([]);
  });

  test('contain no token sent in a header that is not for tokens', async () => {
    const good = token();
    expect(await send(['api-key', good])).toBe(401);
    expect(await send(['Ocp-Apim-Subscription-Key', good])).toBe(401);
    expect(await send(['X-Access-Token', good], ['X-Userinfo', good], ['Cookie', `session=${good}`])).toBe(
      401,
    );
    expect(await send(['X-Access-Token', good], bearer(token()))).toBe(200);
    expect(await found()).toEqual([]);
  });

  test.each<[string, Behaviour]>([
    ['throttles', { status: 429 }],
    ['fails', { status: 500 }],
    ['refuses', { status: 401 }],
    ['is silent', { hang: true }],
    ['resets', { reset: 'before-headers' }],
  ])('contain no token of a request whose backend %s', async (_, behaviour) => {
    gateway.mocks[0]?.always(behaviour);
    expect(await send(bearer(token()))).toBeGreaterThanOrEqual(429);
    gateway.mocks[0]?.always(undefined);
    expect(await found()).toEqual([]);
  });

  test('contain no token that cannot be verified', async () => {
    await gateway.issuer.stop();
    const stranger = token({ key: rsaKey('of-a-stranger') });
    let status = 401;
    for (let patience = 30; status === 401 && patience > 0; patience--) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      status = await send(bearer(stranger));
    }
    expect(status).toBe(503);
    await gateway.issuer.restart();
    expect(await found()).toEqual([]);
  });

  test('name the subjects that were served and the reasons for rejection', async () => {
    const log = await gateway.apisix.log();
    expect(log).toContain(` [${level}] `);
    expect(log).toContain(`oidc:subject-${level}-0`);
    expect(log).toContain('a token is rejected: its signature is wrong');
    expect(log).toContain('the keys of the token issuer cannot be fetched');
  });

  test('and metrics contain no token', async () => {
    const metrics = await gateway.metrics();
    expect(metrics).toContain('consumer="oidc:*"');
    expect([...planted].filter((piece) => metrics.includes(piece))).toEqual([]);
  });

  test('the rendered files do not contain the secret of the client', async () => {
    expect(JSON.stringify(gateway.documents)).not.toContain(CLIENT_SECRET);
    expect(JSON.stringify(gateway.documents)).not.toContain('OIDC_CLIENT_SECRET');
  });
});
