/** Tokens and identity secrets appear in no log line, metric or error, at any log level. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type EntraGateway, startEntraGateway } from '../support/entra.ts';
import { quickMetrics } from '../support/gateway.ts';
import type { TokenSource } from '../support/mock-identity.ts';
import { backendOf, inOrder, NO_COOLDOWN } from '../support/traffic.ts';

const MARK = 'planted-in-an-answer';

describe.skipIf(cannotRunGatewayTests('tokens in logs')).each<[level: string, source: TokenSource]>([
  ['info', 'endpoint'],
  ['debug', 'metadata'],
  ['debug', 'workload'],
])('at level %s with tokens from the source %s', (level, source) => {
  let gateway: EntraGateway;
  const shown: string[] = [];

  beforeAll(async () => {
    gateway = await startEntraGateway({
      source,
      backends: [{}, {}],
      adapt: quickMetrics,
      identity: { lifetimeS: 6 },
      settings: { ...inOrder(2), ...NO_COOLDOWN, APISIX_LOG_LEVEL: level },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const ask = async (body: object = {}) => {
    const answer = await gateway.chat('gpt-4o', body);
    shown.push(JSON.stringify([...answer.headers]), await answer.text());
    return answer.status;
  };

  test('no token or secret is shown, whatever happens', { timeout: 60_000 }, async () => {
    expect(await ask()).toBe(200);
    expect(await ask({ stream: true })).toBe(200);
    for (const status of [429, 500, 403, 401]) {
      // A backend would not return its token; if it did, no client must see it.
      expect(await ask()).toBe(200);
      const sent = backendOf(gateway, 0).requests.at(-1)?.header('authorization');
      for (const mock of gateway.mocks)
        mock.script({ status, body: { error: { code: 'x', message: `Not ${sent}` } } });
      expect([401, 403, 429, 500, 502]).toContain(await ask());
      expect(shown.at(-1)).toContain('"error"');
    }
    for (const behaviour of [
      answers.badToken(),
      { status: 403, body: '' },
      { status: 500 },
      { reset: 'before-headers' as const },
    ]) {
      for (const mock of gateway.mocks) mock.script(behaviour);
      // A reset on a reused connection is retried on a new one.
      expect('reset' in behaviour ? [200, 502] : [401, 403, 500, 502]).toContain(await ask());
    }
    await gateway.identity.waitForRequests(3, 10_000);
    gateway.identity.always({
      status: 400,
      body: { error: MARK, access_token: MARK, error_description: `${MARK} ${gateway.identity.assertion}` },
    });
    for (let count = 0; count < 24; count++) {
      await ask();
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(await ask()).toBe(502);
    await backendOf(gateway, 0).stop();
    await ask();

    const tokens = gateway.identity.requests.map(({ token }) => token).filter((token) => token !== undefined);
    expect(tokens.length).toBeGreaterThanOrEqual(3);
    const log = await gateway.apisix.log();
    expect(log).toContain('no token for');
    expect(log).toContain('fetched a token for');
    const secrets = [...tokens, gateway.identity.secret, gateway.identity.assertion, MARK];
    // The signature as well, because a truncated token is still a leak.
    secrets.push('token-signature-');
    // The exporter is slow, and its output does not depend on the level.
    const metrics = level === 'info' ? await gateway.metrics() : '';
    const everything = [log, metrics, ...shown].join('\n');
    expect(secrets.filter((secret) => everything.includes(secret))).toEqual([]);
  });
});
