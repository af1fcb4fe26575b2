/** With OIDC, clients are identified by tokens of the issuer or by their keys, and by nothing else. */
import { AuthenticationError } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, CLIENT_KEY } from '../support/gateway.ts';
import {
  AUDIENCE,
  assembled,
  ecKey,
  hmac,
  publicJwk,
  rsaKey,
  type SigningKey,
  signature,
  type TokenOptions,
} from '../support/mock-issuer.ts';
import { expectRefused, type OidcGateway, startOidcGateway } from '../support/oidc.ts';
import { type Header, type RawAnswer, rawRequest } from '../support/raw-http.ts';

const TARGET = '/openai/v1/models';
const UNKNOWN = 'nobodys-key-0123456789';

const ALGORITHM = 'it is not signed with RS, PS or ES 256, 384 or 512';
const NO_JWT = 'it is not a signed JWT';
const NO_KEY = 'its issuer has no key with this id';
const WRONG = 'its signature is wrong';

const seconds = () => Math.floor(Date.now() / 1000);
const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

describe.skipIf(cannotRunGatewayTests('tokens in the stock APISIX image'))('tokens of an issuer', () => {
  let gateway: OidcGateway;
  let count = 0;
  const p384 = ecKey('ec-384', 'P-384');
  const p521 = ecKey('ec-521', 'P-521');
  const pssOnly = rsaKey('pss-only');
  const wide = rsaKey('rsa-4096', 4096);
  const forEncryption = rsaKey('for-encryption');
  const short = rsaKey('rsa-1024', 1024);
  const stranger = rsaKey('rsa-1');
  const strangeEc = ecKey('ec-1');

  beforeAll(async () => {
    gateway = await startOidcGateway({ logsClients: true });
    gateway.issuer.keys.push(
      p384,
      p521,
      wide,
      { ...publicJwk(pssOnly), alg: 'PS256' },
      { ...publicJwk(forEncryption), use: 'enc' },
      short,
      { kty: 'oct', kid: 'shared', k: Buffer.from('a shared secret').toString('base64url') },
      { kty: 'OKP', kid: 'ed', crv: 'Ed25519', x: 'AAAA' },
    );
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  const upstream = () => gateway.mocks[0]?.requests ?? [];
  const send = async (headers: readonly Header[], target = TARGET, method = 'GET') => {
    const id = `request-${count++}`;
    const answer = await rawRequest(gateway.url, {
      method,
      target,
      headers: [...headers, ['x-test-request', id]],
    });
    return { answer, id };
  };
  const bearer = (token: string): Header => ['Authorization', `Bearer ${token}`];
  const clientOf = async (headers: readonly Header[], target?: string) => {
    const { answer, id } = await send(headers, target);
    expect(answer.status).toBe(200);
    expect(upstream()).toHaveLength(1);
    return gateway.apisix.clientOf(id);
  };
  const refused = async (token: string, reason: string, more: readonly Header[] = []) => {
    const { answer } = await send([bearer(token), ...more]);
    expectRefused(answer, reason);
    expect(upstream()).toHaveLength(0);
  };
  const rsa = () => gateway.issuer.keys[0] as SigningKey;
  const ec = () => gateway.issuer.keys[1] as SigningKey;
  const good = (options?: TokenOptions) => gateway.issuer.token(options);
  const claims = () => ({
    iss: gateway.issuer.issuer,
    aud: AUDIENCE,
    sub: 'subject-1',
    exp: seconds() + 600,
  });

  describe('are accepted', () => {
    test('from the SDK in place of its key', async () => {
      const completion = await gateway.openai(good()).chat.completions.create({
        model: 'gpt-4o',
        messages: [{ role: 'user', content: 'Hello' }],
      });
      expect(completion.choices[0]?.message.content).toBeTruthy();
      expect(upstream()).toHaveLength(1);
    });

    test('for streams', async () => {
      const stream = await gateway.openai(good()).chat.completions.create({
        model: 'gpt-4o',
        stream: true,
        messages: [{ role: 'user', content: 'Hello' }],
      });
      let events = 0;
      for await (const _ of stream) events++;
      expect(events).toBeGreaterThan(1);
    });

    test.each(['/openai/v1/models', '/openai/models?api-version=2024-10-21'])('at %s', async (target) => {
      expect(await clientOf([bearer(good())], target)).toBe('oidc:subject-1');
    });

    test.each<[string, () => TokenOptions]>([
      ['RS256', () => ({})],
      ['RS384', () => ({ algorithm: 'RS384' })],
      ['RS512', () => ({ algorithm: 'RS512' })],
      ['RS256 of 4,096 bits', () => ({ key: wide })],
      ['PS256', () => ({ algorithm: 'PS256' })],
      ['PS384', () => ({ algorithm: 'PS384' })],
      ['PS512', () => ({ algorithm: 'PS512' })],
      ['PS256 with a key for it alone', () => ({ algorithm: 'PS256', key: pssOnly })],
      ['ES256', () => ({ key: ec() })],
      ['ES384', () => ({ key: p384, algorithm: 'ES384' })],
      ['ES512', () => ({ key: p521, algorithm: 'ES512' })],
      ['ES256 without a key id', () => ({ key: ec(), header: { kid: undefined } })],
    ])('when signed with %s', async (_, options) => {
      expect(await clientOf([bearer(good(options()))])).toBe('oidc:subject-1');
    });

    test.each<[string, Record<string, unknown>]>([
      ['the client id', { aud: AUDIENCE }],
      ["Entra's name of the client", { aud: `api://${AUDIENCE}` }],
      ['several, this gateway among them', { aud: ['another', AUDIENCE] }],
    ])('with %s as audience', async (_, changes) => {
      expect(await clientOf([bearer(good({ claims: changes }))])).toBe('oidc:subject-1');
    });

    test('when clocks differ by less than a minute', async () => {
      expect(await clientOf([bearer(good({ claims: { exp: seconds() - 30 } }))])).toBe('oidc:subject-1');
      gateway.mocks[0]?.reset();
      expect(await clientOf([bearer(good({ claims: { nbf: seconds() + 30 } }))])).toBe('oidc:subject-1');
    });

    test.each(['bearer', 'BEARER', 'Bearer   '])('after the scheme %s', async (word) => {
      expect(await clientOf([['authorization', `${word} ${good()}`]])).toBe('oidc:subject-1');
    });

    test('with any printable subject', async () => {
      const sub = 'a b|c"d\\e#f${g}$env://H<i>';
      expect(await clientOf([bearer(good({ claims: { sub } }))])).toBe(`oidc:${sub}`);
    });

    test('with a size of 15 kilobytes', async () => {
      const groups = Array.from({ length: 290 }, (_, index) => `${AUDIENCE.slice(0, -3)}${100 + index}`);
      const token = good({ claims: { groups } });
      expect(token.length).toBeGreaterThan(15_000);
      expect(token.length).toBeLessThan(16_384);
      expect(await clientOf([bearer(token)])).toBe('oidc:subject-1');
    });

    test('repeatedly', async () => {
      const token = good();
      for (let i = 0; i < 5; i++) expect((await send([bearer(token)])).answer.status).toBe(200);
      expect(upstream()).toHaveLength(5);
    });
  });

  describe('together with keys', () => {
    test.each<[string, () => string]>([
      ['a token that has expired', () => good({ claims: { exp: seconds() - 3_600 } })],
      ['a forged token', () => good({ key: stranger })],
      ['no token at all', () => UNKNOWN],
    ])('next to %s, a valid key is accepted', async (_, token) => {
      for (const name of ['api-key', 'Ocp-Apim-Subscription-Key']) {
        gateway.mocks[0]?.reset();
        expect(await clientOf([bearer(token()), [name, CLIENT_KEY]])).toBe('app');
      }
    });

    test('next to an unknown key, a valid token is accepted', async () => {
      expect(
        await clientOf([bearer(good()), ['api-key', UNKNOWN], ['Ocp-Apim-Subscription-Key', UNKNOWN]]),
      ).toBe('oidc:subject-1');
    });

    test('a valid key takes precedence over a valid token', async () => {
      expect(await clientOf([bearer(good()), ['api-key', CLIENT_KEY]])).toBe('app');
    });

    test.each(['api-key', 'Ocp-Apim-Subscription-Key'])('a key in %s is sufficient', async (name) => {
      expect(await clientOf([[name, CLIENT_KEY]])).toBe('app');
    });

    test('the Azure SDK sends its key in an accepted header', async () => {
      const completion = await gateway.azure('gpt-4o').chat.completions.create({
        model: 'gpt-4o',
        messages: [{ role: 'user', content: 'Hello' }],
      });
      expect(completion.choices[0]?.message.content).toBeTruthy();
    });

    test('a key is rejected as a token', async () => {
      await refused(CLIENT_KEY, NO_JWT);
    });

    test('a token is rejected as a key', async () => {
      const { answer } = await send([['api-key', good()]]);
      expectNobody(answer);
    });

    test('an unknown key with an invalid token gets the error for the token', async () => {
      await refused(good({ key: stranger }), WRONG, [['api-key', UNKNOWN]]);
    });

    test.each<[string, readonly Header[]]>([
      ['nothing', []],
      ['an unknown key', [['api-key', UNKNOWN]]],
      ['another scheme', [['Authorization', `Basic ${Buffer.from('a:b').toString('base64')}`]]],
      ['a scheme alone', [['Authorization', 'Bearer']]],
      ['a token in a header that APISIX has for it', [['X-Access-Token', 'a.b.c']]],
      ['a cookie', [['Cookie', 'session=abc']]],
    ])('%s gets an error that names both keys and tokens', async (_, headers) => {
      expectNobody((await send(headers)).answer);
    });

    const expectNobody = (answer: RawAnswer) => {
      expect(answer.status).toBe(401);
      expect(JSON.parse(answer.body.toString())).toEqual({
        error: {
          message: expect.stringContaining('no valid key and no token'),
          type: 'authentication_error',
          param: null,
          code: 'invalid_api_key',
        },
      });
      expect(answer.values('content-type')).toEqual(['application/json']);
      expect(answer.values('www-authenticate')).toEqual(['Bearer realm="genai-gateway"']);
      expect(answer.values('location')).toEqual([]);
      expect(answer.values('set-cookie')).toEqual([]);
      expect(upstream()).toHaveLength(0);
    };
  });

  describe('are rejected', () => {
    test('with an error that the SDK recognises', async () => {
      const attempt = gateway.openai(good({ key: stranger })).models.list();
      await expect(attempt).rejects.toBeInstanceOf(AuthenticationError);
      await expect(attempt).rejects.toMatchObject({ status: 401, code: 'invalid_token' });
      expect(upstream()).toHaveLength(0);
    });

    test.each<[string, Record<string, unknown>, string]>([
      ['an hour after they expired', { exp: seconds() - 3_600 }, 'it has expired'],
      ['more than a minute after they expired', { exp: seconds() - 61 }, 'it has expired'],
      ['without an expiry', { exp: undefined }, 'it has no expiry time'],
      ['with an expiry in words', { exp: String(seconds() + 600) }, 'it has no expiry time'],
      ['before they are valid', { nbf: seconds() + 3_600 }, 'it is not valid yet'],
      [
        'of another issuer',
        { iss: 'https://login.example.com/other/v2.0' },
        'its issuer is not the expected one',
      ],
      ['of no issuer', { iss: undefined }, 'its issuer is not the expected one'],
      [
        'for another audience',
        { aud: '99999999-2222-3333-4444-555555555555' },
        'its audience is not the expected one',
      ],
      ['for a part of the audience', { aud: AUDIENCE.slice(0, -1) }, 'its audience is not the expected one'],
      ['for other audiences', { aud: ['a', 'b'] }, 'its audience is not the expected one'],
      ['for no audience', { aud: undefined }, 'its audience is not the expected one'],
      ['without a subject', { sub: undefined }, 'it has no subject'],
      ['with an empty subject', { sub: '' }, 'it has no subject'],
      ['with a number as subject', { sub: 7 }, 'it has no subject'],
      [
        'with a line break in the subject',
        { sub: 'a\r\nx-evil: 1' },
        'its subject is not one of up to 255 printable ASCII characters',
      ],
      [
        'with a subject of 256 characters',
        { sub: 's'.repeat(256) },
        'its subject is not one of up to 255 printable ASCII characters',
      ],
    ])('%s', async (_, changes, reason) => {
      await refused(good({ claims: changes }), reason);
    });

    test.each<[string, () => string, string]>([
      ['alg none with no signature', () => `${part({ alg: 'none' })}.${part(claims())}.`, NO_JWT],
      ['alg none with one', () => assembled({ alg: 'none', kid: 'rsa-1' }, claims(), () => 'x'), ALGORITHM],
      ['alg NonE', () => assembled({ alg: 'NonE', kid: 'rsa-1' }, claims(), () => 'x'), ALGORITHM],
      [
        'HS256 with the public key in PEM as its secret',
        () =>
          assembled({ alg: 'HS256', kid: 'rsa-1' }, claims(), (signed) =>
            hmac(signed, rsa().publicKey.export({ type: 'spki', format: 'pem' })),
          ),
        ALGORITHM,
      ],
      [
        'HS256 with the modulus as its secret',
        () =>
          assembled({ alg: 'HS256', kid: 'rsa-1' }, claims(), (signed) =>
            hmac(signed, String(publicJwk(rsa()).n)),
          ),
        ALGORITHM,
      ],
      [
        'HS256 with the shared secret that the issuer publishes',
        () =>
          assembled({ alg: 'HS256', kid: 'shared' }, claims(), (signed) => hmac(signed, 'a shared secret')),
        ALGORITHM,
      ],
      [
        'HS256 with an empty secret',
        () => assembled({ alg: 'HS256' }, claims(), (signed) => hmac(signed, '')),
        ALGORITHM,
      ],
      ["a stranger's key under the name of the issuer's", () => good({ key: stranger }), WRONG],
      ["a stranger's EC key under the name of the issuer's", () => good({ key: strangeEc }), WRONG],
      [
        'the key of a stranger in its header',
        () => good({ key: stranger, header: { jwk: publicJwk(stranger) } }),
        WRONG,
      ],
      ['a key that the issuer has not', () => good({ header: { kid: 'rsa-2' } }), NO_KEY],
      ['no key id where there are several keys', () => good({ header: { kid: undefined } }), NO_KEY],
      ['a number as key id', () => good({ header: { kid: 1 } }), NO_KEY],
      ['a path as key id', () => good({ header: { kid: '../../dev/null' } }), NO_KEY],
      ['a key of the issuer that is for encryption', () => good({ key: forEncryption }), NO_KEY],
      ['a key of 1,024 bits', () => good({ key: short }), NO_KEY],
      ['a key for another algorithm', () => good({ key: pssOnly, algorithm: 'RS256' }), NO_KEY],
      ['RS256 with the name of an EC key', () => good({ header: { kid: 'ec-1' } }), NO_KEY],
      ['ES256 with the name of an RSA key', () => good({ key: ec(), header: { kid: 'rsa-1' } }), NO_KEY],
      ['ES256 with a key of another curve', () => good({ key: p384, algorithm: 'ES256' }), NO_KEY],
      ['RS256 where PS256 is said', () => good({ header: { alg: 'PS256' } }), WRONG],
      ['RS512 where RS256 is said', () => good({ algorithm: 'RS512', header: { alg: 'RS256' } }), WRONG],
      [
        'an extension that must be known',
        () => good({ header: { crit: ['exp'] } }),
        'it requires extensions that the gateway does not support',
      ],
      ['a list as algorithm', () => good({ header: { alg: ['RS256'] } }), ALGORITHM],
      ['no algorithm', () => good({ header: { alg: undefined } }), ALGORITHM],
    ])('when signed with %s', async (_, token, reason) => {
      await refused(token(), reason);
    });

    const tampered = (change: (header: string, payload: string, signature: string) => string) => () => {
      const [header = '', payload = '', end = ''] = good().split('.');
      return change(header, payload, end);
    };
    const flipped = (text: string, index: number) => {
      const bytes = Buffer.from(text, 'base64url');
      bytes[index] = (bytes[index] ?? 0) ^ 1;
      return bytes.toString('base64url');
    };

    test.each<[string, () => string, string]>([
      [
        'another payload',
        tampered((header, _, end) => `${header}.${part({ ...claims(), sub: 'admin' })}.${end}`),
        WRONG,
      ],
      [
        'a bit of the payload changed',
        tampered((h, payload, end) => `${h}.${flipped(payload, 20)}.${end}`),
        WRONG,
      ],
      ['a bit of the signature changed', tampered((h, p, end) => `${h}.${p}.${flipped(end, 100)}`), WRONG],
      ['its signature cut', tampered((h, p, end) => `${h}.${p}.${end.slice(0, -8)}`), WRONG],
      ['a signature that goes on', tampered((h, p, end) => `${h}.${p}.${end}AAAA`), WRONG],
      [
        'the signature of another',
        tampered((h, p) => `${h}.${p}.${good({ claims: { sub: 'b' } }).split('.')[2]}`),
        WRONG,
      ],
      ['no signature', tampered((h, p) => `${h}.${p}.`), NO_JWT],
      ['two parts', tampered((h, p) => `${h}.${p}`), NO_JWT],
      ['five parts', tampered((h, p, end) => `${h}.${p}.${end}.a.b`), NO_JWT],
      ['padding', tampered((h, p, end) => `${h}.${p}.${end}==`), NO_JWT],
      ['a header of no sense', tampered((_, p, end) => `AAAA.${p}.${end}`), 'its header cannot be read'],
      ['a list as header', tampered((_, p, end) => `${part(['RS256'])}.${p}.${end}`), ALGORITHM],
      ['a number as header', tampered((_, p, end) => `${part(7)}.${p}.${end}`), 'its header cannot be read'],
      ['dots alone', () => '...', NO_JWT],
    ])('when they have %s', async (_, token, reason) => {
      await refused(token(), reason);
    });

    test.each<[string, unknown]>([
      ['text', 'claims'],
      ['a number', 7],
      ['null', null],
    ])('with %s in place of claims, even if the issuer signed it', async (_, content) => {
      const token = assembled({ alg: 'RS256', kid: 'rsa-1' }, content, (signed) =>
        signature(signed, 'RS256', rsa()),
      );
      await refused(token, 'its claims cannot be read');
    });

    test.each([0, 1, 63, 65, 128, 132])('with an ES256 signature of %d bytes', async (length) => {
      const token = assembled({ alg: 'ES256', kid: 'ec-1' }, claims(), () => Buffer.alloc(length, 1));
      await refused(token, length === 0 ? NO_JWT : WRONG);
    });

    test('with an ES256 signature of zeros, which some libraries once accepted', async () => {
      await refused(
        assembled({ alg: 'ES256', kid: 'ec-1' }, claims(), () => Buffer.alloc(64)),
        WRONG,
      );
    });

    test('with an ES256 signature in DER, the format of OpenSSL', async () => {
      const [header = '', payload = '', end = ''] = good({ key: ec() }).split('.');
      const raw = Buffer.from(end, 'base64url');
      const number = (bytes: Buffer) => Buffer.concat([Buffer.from([2, 33, 0]), bytes]);
      const der = Buffer.concat([
        Buffer.from([0x30, 70]),
        number(raw.subarray(0, 32)),
        number(raw.subarray(32)),
      ]);
      await refused(`${header}.${payload}.${der.toString('base64url')}`, WRONG);
    });

    test('when they exceed 16 kilobytes, or the header size that nginx accepts', async () => {
      await refused(good({ claims: { filler: 'x'.repeat(12_500) } }), 'it is too long');
      const { answer } = await send([bearer(good({ claims: { filler: 'x'.repeat(40_000) } }))]);
      expect(answer.status).toBe(400);
      expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { type: 'invalid_request_error' } });
      expect(upstream()).toHaveLength(0);
    });

    test('when a request has two', async () => {
      const { answer } = await send([bearer(good()), bearer(good())]);
      expect(answer.status).toBe(400);
      expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { type: 'invalid_request_error' } });
      expect(upstream()).toHaveLength(0);
    });

    test('in the query', async () => {
      const { answer } = await send([], `${TARGET}?access_token=${good()}`);
      expect(answer.status).toBe(401);
      expect(upstream()).toHaveLength(0);
    });

    test('at every path of the gateway', async () => {
      for (const target of [
        '/openai/v1/chat/completions',
        '/openai/deployments/gpt-4o/chat/completions',
        '/openai/x',
      ])
        expectRefused((await send([bearer('a.b.c')], target)).answer, 'its header cannot be read');
      expect(upstream()).toHaveLength(0);
    });

    test('with JSON, never with a redirect to a login page', async () => {
      const { answer } = await send([['Accept', 'text/html'], bearer('a.b.c')]);
      expectRefused(answer, 'its header cannot be read');
    });
  });

  test('no backend receives a token or the headers that APISIX derives from one', async () => {
    const token = good();
    await send([
      bearer(token),
      ['api-key', UNKNOWN],
      ['Ocp-Apim-Subscription-Key', UNKNOWN],
      ...['X-Access-Token', 'X-Userinfo', 'X-ID-Token', 'X-Refresh-Token', 'X-Raw-ID-Token'].map(
        (name): Header => [name, token],
      ),
      ['X-Consumer-Username', 'admin'],
    ]);
    const [request] = upstream();
    expect(request?.header('api-key')).toBe(backendKey(0));
    expect(JSON.stringify(request?.headers)).not.toContain(token.slice(0, 40));
    expect(request?.headers.map(([name]) => name.toLowerCase())).toEqual(
      expect.not.arrayContaining([
        'authorization',
        'ocp-apim-subscription-key',
        'x-access-token',
        'x-userinfo',
        'x-id-token',
        'x-refresh-token',
        'x-raw-id-token',
        'x-consumer-username',
      ]),
    );
    expect(JSON.stringify(request?.headers)).not.toContain(UNKNOWN);
  });

  test('the issuer is only called for its discovery document and its keys', () => {
    expect(new Set(gateway.issuer.requests)).toEqual(new Set(['discovery', 'keys']));
  });
});
