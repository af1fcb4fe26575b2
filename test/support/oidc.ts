/** A gateway that accepts tokens of a mock issuer in addition to keys. */
import { expect } from 'vitest';
import { type Gateway, type GatewayOptions, HOST, hostAddress, startGateway } from './gateway.ts';
import { AUDIENCE, type MockIssuer, type MockIssuerOptions, startMockIssuer } from './mock-issuer.ts';
import type { RawAnswer } from './raw-http.ts';

export interface OidcGateway extends Gateway {
  readonly issuer: MockIssuer;
}

export interface OidcGatewayOptions extends GatewayOptions {
  readonly issuer?: Partial<MockIssuerOptions>;
}

/** Settings of a gateway that accepts tokens. */
export const oidcSettings = (discoveryUrl: string): Record<string, string> => ({
  ENABLE_OIDC: 'true',
  OIDC_CLIENT_ID: AUDIENCE,
  OIDC_CLIENT_SECRET: 'secret-of-the-oidc-client-0123456789',
  OIDC_DISCOVERY_URL: discoveryUrl,
  OIDC_REDIRECT_URI: 'https://gateway.example.com/callback',
});

export async function startOidcGateway({
  issuer,
  ...options
}: OidcGatewayOptions = {}): Promise<OidcGateway> {
  const mock = await startMockIssuer({ host: await hostAddress(), hostName: HOST, ...issuer });
  try {
    const gateway = await startGateway({
      backends: [{}],
      ...options,
      settings: { ...oidcSettings(mock.discoveryUrl), ...options.settings },
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

/** Expects the error for a token that is rejected for this reason. */
export function expectRefused(answer: RawAnswer, reason: string): void {
  expect(answer.status).toBe(401);
  expect(JSON.parse(answer.body.toString())).toEqual({
    error: {
      message: `Access denied: the token is rejected: ${reason}.`,
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

/** Expects the error while the issuer is unavailable. */
export function expectUnavailable(answer: RawAnswer): void {
  expect(answer.status).toBe(503);
  expect(JSON.parse(answer.body.toString())).toEqual({
    error: {
      message: 'The token cannot be checked, because the token issuer cannot be reached now.',
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
