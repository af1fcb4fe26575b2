/** When the gateway cannot get a token, that backend is skipped, others serve, and the log says why without any secret. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type EntraGateway, type EntraOptions, startEntraGateway, tokenOf } from '../support/entra.ts';
import { TENANT, TOKEN_FILE } from '../support/mock-identity.ts';
import { backendOf, calls, inOrder, logged, NO_COOLDOWN, onlyRequest } from '../support/traffic.ts';

const running: EntraGateway[] = [];
async function start(options: EntraOptions): Promise<EntraGateway> {
  const gateway = await startEntraGateway(options);
  running.push(gateway);
  return gateway;
}
const stopAll = async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
};
const TIMEOUT = { timeout: CONTAINER_TIMEOUT_MS };

const json = (body: object): Behaviour => ({ body });
const PLANTED = 'planted-secret-of-the-answer';

/** What the token endpoint answers, and what the log says about it. */
const FAILURES: readonly (readonly [what: string, behaviour: Behaviour, logs: RegExp])[] = [
  ['an error', { status: 500, body: PLANTED }, /it answered 500(?! \()/],
  [
    'an error with a known reason',
    { status: 400, body: { error: 'invalid_request', error_description: PLANTED } },
    /it answered 400 \(invalid_request\)/,
  ],
  ['an error with an unknown reason', { status: 401, body: { error: PLANTED } }, /it answered 401(?! \()/],
  [
    'a redirect',
    { status: 302, headers: { Location: 'http://127.0.0.1/' }, body: PLANTED },
    /it answered 302/,
  ],
  ['no JSON', { body: `<html>${PLANTED}` }, /its answer is not a JSON object/],
  ['an empty body', { status: 200, body: '' }, /its answer is not a JSON object/],
  ['no token', json({ token: PLANTED, expires_in: 3600 }), /its answer has no token/],
  [
    'no text for a token',
    json({ access_token: { a: PLANTED }, expires_in: 3600 }),
    /its answer has no token/,
  ],
  [
    'a token with a line break in it',
    json({ access_token: `${PLANTED}\r\nx-injected: yes`, expires_in: 3600 }),
    /its answer has no token/,
  ],
  ['a token that has ended', json({ access_token: PLANTED, expires_on: '1700000000' }), /has expired/],
  [
    'a token until nobody knows when',
    json({ access_token: PLANTED, expires_on: 'soon' }),
    /has no expiry time/,
  ],
  ['more than an answer should be', { body: ' '.repeat(100_000) }, /its answer is not a JSON object/],
  [
    'half of an answer',
    { body: { access_token: PLANTED, expires_in: 3600 }, cutAfter: 20 },
    /not a JSON object/,
  ],
  ['a reset', { reset: 'before-headers' }, /no answer: /],
];

describe.skipIf(cannotRunGatewayTests('failing token endpoints'))('the log when the endpoint answers', () => {
  /** A backend with its own identity for each failure, and one more with a key. */
  const spare = FAILURES.length;
  let gateway: EntraGateway;
  beforeAll(async () => {
    gateway = await startEntraGateway({
      backends: [...FAILURES.map((_, index) => ({ clientId: `client-${index}-` })), 'key'],
      settings: {
        ...inOrder(spare + 1),
        ...NO_COOLDOWN,
        ...Object.fromEntries(
          FAILURES.map((_, index) => [`AZURE_OPENAI_DEPLOYMENTS_${index}`, `failure-${index}`]),
        ),
        APISIX_LOG_LEVEL: 'info',
      },
    });
    for (const [index, [, behaviour]] of FAILURES.entries())
      gateway.identity.script({ ...behaviour, path: RegExp(`client-${index}-`), times: 1_000 });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each(FAILURES.map(([what, , logs], index) => [what, logs, index] as const))(
    'with %s says why',
    async (_, logs, index) => {
      for (const mock of gateway.mocks) mock.reset();
      expect((await gateway.chat(`failure-${index}`)).status).toBe(200);
      expect(backendOf(gateway, index).requests).toEqual([]);
      expect(backendOf(gateway, spare).requests).toHaveLength(1);
      const asked = gateway.identity.requests.filter(({ clientId }) => clientId === `client-${index}-`);
      expect(asked).not.toEqual([]);
      const lines = await logged(
        gateway,
        'error',
        `as client-${index}- from the platform's identity endpoint`,
      );
      expect(lines).not.toEqual([]);
      for (const line of lines) expect(line).toMatch(logs);
      expect(await logged(gateway, 'error', `backend backend-${index} credentials`)).toEqual([
        expect.stringMatching(logs),
      ]);
    },
  );

  test('contains nothing of the answers', async () => {
    const log = await gateway.apisix.log();
    expect(log).not.toContain(PLANTED);
    expect(log).not.toContain(gateway.identity.secret);
  });
});

describe.skipIf(cannotRunGatewayTests('backends without a token'))('a backend without a token', () => {
  afterEach(stopAll);

  test('is skipped until the next attempt to get one, and used again afterwards', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: inOrder(2) });
    gateway.identity.always({ status: 500, body: '' });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([0, 2]);
    expect(gateway.identity.requests.length).toBeGreaterThanOrEqual(1);
    expect(gateway.identity.requests.length).toBeLessThanOrEqual(2);
    gateway.identity.always(undefined);
    await sleep(3_300);
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
  });

  test('returns 502 with a delay and no call when it is the only backend', TIMEOUT, async () => {
    const gateway = await start({});
    gateway.identity.always({ status: 500, body: PLANTED });
    for (const _ of ['asked for', 'left alone']) {
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(502);
      expect(await answer.json()).toEqual({
        error: {
          message: expect.not.stringMatching(/token|planted/),
          type: 'server_error',
          param: null,
          code: 'upstream_credentials',
        },
      });
      expect(Number(answer.headers.get('retry-after-ms'))).toBeGreaterThan(0);
      expect(Number(answer.headers.get('retry-after-ms'))).toBeLessThanOrEqual(2_000);
    }
    expect(calls(gateway)).toEqual([0]);
  });

  test('is skipped when the token endpoint does not answer within five seconds', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: inOrder(2) });
    gateway.identity.script({ hang: true });
    const began = performance.now();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(performance.now() - began).toBeGreaterThan(4_500);
    expect(performance.now() - began).toBeLessThan(6_500);
    expect(calls(gateway)).toEqual([0, 1]);
    expect(await logged(gateway, 'error', 'no token for')).toEqual([
      expect.stringContaining('no answer in 5 seconds'),
    ]);
  });

  test('is skipped when the token endpoint answers byte by byte', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: inOrder(2) });
    gateway.identity.script({
      events: Array.from({ length: 100 }, () => ' '),
      gapMs: 200,
      headers: { 'Content-Type': 'application/json' },
    });
    const began = performance.now();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(performance.now() - began).toBeLessThan(6_500);
    expect(calls(gateway)).toEqual([0, 1]);
  });

  test('is skipped when the token endpoint is unreachable', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: inOrder(2) });
    await gateway.identity.stop();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([0, 1]);
    expect(await logged(gateway, 'error', 'it cannot be reached')).not.toEqual([]);
  });

  test.each<[what: string, options: EntraOptions, logs: string]>([
    ['an empty token file', { mountedFiles: { [TOKEN_FILE]: '\n' } }, 'AZURE_FEDERATED_TOKEN_FILE'],
    [
      'no token file',
      { settings: { AZURE_FEDERATED_TOKEN_FILE: '/tmp/none' } },
      'AZURE_FEDERATED_TOKEN_FILE',
    ],
    ['no tenant', { settings: { AZURE_TENANT_ID: '' } }, 'AZURE_TENANT_ID'],
    ['no client id', { settings: { AZURE_CLIENT_ID: '' } }, 'AZURE_CLIENT_ID'],
  ])('is skipped when there is %s', TIMEOUT, async (_, options, logs) => {
    const gateway = await start({
      source: 'workload',
      backends: [{}, 'key'],
      ...options,
      settings: { ...inOrder(2), ...options.settings },
    });
    // Not the requests for the other identity, which these settings make the gateway wait for.
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([0, 1]);
    expect(gateway.identity.requests).toEqual([]);
    expect(await logged(gateway, 'error', 'no token for')).toEqual([expect.stringContaining(logs)]);
  });
});

describe.skipIf(cannotRunGatewayTests('certificates of token endpoints'))('a token endpoint over TLS', () => {
  afterEach(stopAll);
  const pem = (name: string) =>
    readFileSync(fileURLToPath(new URL(`../support/tls/${name}`, import.meta.url)), 'utf8');
  const tls = { key: pem('self-signed.key'), cert: pem('self-signed.crt') };

  test('does not receive the token file when its certificate is not trusted', TIMEOUT, async () => {
    const gateway = await start({
      source: 'workload',
      identity: { tls },
      backends: [{}, 'key'],
      settings: inOrder(2),
    });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([0, 1]);
    expect(gateway.identity.requests).toEqual([]);
    expect(await logged(gateway, 'error', 'no token for')).toEqual([expect.stringMatching(/certificate/)]);
  });

  test('receives the token file when its certificate is trusted', TIMEOUT, async () => {
    const trusted = '/tmp/trusted.crt';
    const gateway = await start({
      source: 'workload',
      identity: { tls },
      mountedFiles: { [trusted]: tls.cert },
      adapt: (documents) => ({
        ...documents,
        'config.yaml': documents['config.yaml'].replace(
          'ssl: {"enable": false}',
          `ssl: {"enable": false, "ssl_trusted_certificate": "${trusted}"}`,
        ),
      }),
    });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(gateway.identity.requests.map(({ target }) => target)).toEqual([`/${TENANT}/oauth2/v2.0/token`]);
    expect(tokenOf(onlyRequest(backendOf(gateway, 0)))).toBe(gateway.identity.requests[0]?.token);
  });
});
