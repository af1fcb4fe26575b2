/** A gateway that takes tokens of a mock issuer beside keys. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { type Gateway, type GatewayOptions, HOST, hostAddress, startGateway } from './gateway.ts';
import { AUDIENCE, type MockIssuer, type MockIssuerOptions, startMockIssuer } from './mock-issuer.ts';
import type { RawAnswer } from './raw-http.ts';

export interface OidcGateway extends Gateway {
  readonly issuer: MockIssuer;
}

export interface OidcGatewayOptions extends GatewayOptions {
  readonly issuer?: Partial<MockIssuerOptions>;
  readonly times?: Times;
}

/** Seconds that the gateway waits for one thing or another, under their names in issuer.lua. */
export type Times = Readonly<Partial<Record<'REFRESH_S' | 'MAX_AGE_S' | 'MIN_AGE_S' | 'PAUSE_S', number>>>;

const OTHER_TIMES = '/tmp/other-times';
const ISSUER_LUA = 'apisix/plugins/azure-openai-auth/issuer.lua';

/** The gateway's own code with other times in it, for tests that cannot wait for minutes. */
function withTimes(
  times: Times,
  { mountedFiles, adapt = (documents) => documents }: GatewayOptions,
): GatewayOptions {
  const source = readFileSync(new URL(`../../lua-plugins/${ISSUER_LUA}`, import.meta.url), 'utf8');
  const content = Object.entries(times).reduce((text, [name, value]) => {
    const declaration = new RegExp(`^local ${name} = \\d+$`, 'm');
    expect(text).toMatch(declaration);
    return text.replace(declaration, `local ${name} = ${value}`);
  }, source);
  const before = 'extra_lua_path: "';
  return {
    mountedFiles: { ...mountedFiles, [`${OTHER_TIMES}/${ISSUER_LUA}`]: content },
    adapt: (documents) => {
      const config = documents['config.yaml'].replace(before, `${before}${OTHER_TIMES}/?.lua;`);
      return adapt({ ...documents, 'config.yaml': config });
    },
  };
}

/** Settings of a gateway that takes tokens. */
export const oidcSettings = (discoveryUrl: string): Record<string, string> => ({
  ENABLE_OIDC: 'true',
  OIDC_CLIENT_ID: AUDIENCE,
  OIDC_CLIENT_SECRET: 'secret-of-the-oidc-client-0123456789',
  OIDC_DISCOVERY_URL: discoveryUrl,
  OIDC_REDIRECT_URI: 'https://gateway.example.com/callback',
});

export async function startOidcGateway({
  issuer,
  times = {},
  ...options
}: OidcGatewayOptions = {}): Promise<OidcGateway> {
  const mock = await startMockIssuer({ host: await hostAddress(), hostName: HOST, ...issuer });
  try {
    const gateway = await startGateway({
      backends: [{}],
      ...options,
      settings: { ...oidcSettings(mock.discoveryUrl), ...options.settings },
      ...(times ? withTimes(times, options) : {}),
    });
    const stop = async () => {
      await gateway.stop();
      await mock.stop();
    };
    return { ...gateway, issuer: mock, stop };
  } catch (error) {
    await mock.stop();
    throw error;
  }
}

/** Why a token is refused, as a client is told. */
export function expectRefused(answer: RawAnswer, reason: string): void {
  expect(answer.status).toBe(401);
  expect(JSON.parse(answer.body.toString())).toEqual({
    error: {
      message: `Access denied: the token is refused: ${reason}.`,
      type: 'authentication_error',
      param: null,
      code: 'invalid_token',
    },
  });
  expect(answer.values('content-type')).toEqual(['application/json']);
  expect(answer.values('www-authenticate')).toEqual([
    `Bearer realm="genai-gateway", error="invalid_token", error_description="${reason}"`,
  ]);
  expectNothingOfLogins(answer);
}

/** What the gateway says while it cannot ask the issuer. */
export function expectUnavailable(answer: RawAnswer): void {
  expect(answer.status).toBe(503);
  expect(JSON.parse(answer.body.toString())).toEqual({
    error: {
      message: 'The issuer of tokens cannot be reached now, so the token cannot be checked.',
      type: 'server_error',
      param: null,
      code: 'token_issuer_unavailable',
    },
  });
  expect(answer.values('content-type')).toEqual(['application/json']);
  expect(Number(answer.values('retry-after')[0])).toBeGreaterThanOrEqual(1);
  expect(Number(answer.values('retry-after')[0])).toBeLessThanOrEqual(5);
  expect(Number(answer.values('retry-after-ms')[0])).toBeLessThanOrEqual(5_000);
  expect(answer.values('www-authenticate')).toEqual([]);
  expectNothingOfLogins(answer);
}

function expectNothingOfLogins(answer: RawAnswer): void {
  expect(answer.values('location')).toEqual([]);
  expect(answer.values('set-cookie')).toEqual([]);
}
