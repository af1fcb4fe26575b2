/** OIDC_AUDIENCES: tokens for Azure's own audiences are accepted as Azure's SDKs request them. */
import OpenAI, { AzureOpenAI } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION } from '../support/gateway.ts';
import { AUDIENCE } from '../support/mock-issuer.ts';
import { expectRefused, type OidcGateway, startOidcGateway } from '../support/oidc.ts';
import { rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('audiences of tokens in the stock APISIX image');

const AZURE = ['https://cognitiveservices.azure.com', 'https://ai.azure.com'];
const OTHERS = [
  AUDIENCE,
  `api://${AUDIENCE}`,
  'https://management.azure.com/',
  'https://ai.azure.com//',
  'https://ai.azure.com/.default',
  'HTTPS://AI.AZURE.COM',
  'http://ai.azure.com',
  'ai.azure.com',
  'https://ai.azure.com.evil.test',
  '',
];

describe.skipIf(skipped)('OIDC_AUDIENCES', () => {
  let gateway: OidcGateway;
  beforeAll(async () => {
    gateway = await startOidcGateway({
      settings: {
        OIDC_AUDIENCES: AZURE.join(','),
        OIDC_CLIENT_ID: '',
        OIDC_CLIENT_SECRET: '',
        OIDC_REDIRECT_URI: '',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  const send = (aud: unknown) =>
    rawRequest(gateway.url, {
      target: '/openai/v1/files',
      headers: [['Authorization', `Bearer ${gateway.issuer.token({ claims: { aud } })}`]],
    });

  const ACCEPTED: readonly (string | readonly string[])[] = [
    ...AZURE.flatMap((each) => [each, `${each}/`]),
    ...AZURE.map((each) => [each]),
    ['https://management.azure.com/', `${AZURE[1]}/`],
  ];
  test.each(ACCEPTED.map((aud) => ({ aud })))(
    'accepts $aud without a client id, a secret or a redirect URI',
    async ({ aud }) => {
      expect((await send(aud)).status).toBe(200);
      const [request] = gateway.mocks[0]?.requests ?? [];
      expect(request?.header('authorization')).toBeUndefined();
    },
  );

  test.each([...OTHERS, OTHERS, [], undefined].map((aud) => ({ aud })))('rejects $aud', async ({ aud }) => {
    expectRefused(await send(aud), 'its audience is not the expected one');
    expect(gateway.mocks[0]?.requests).toEqual([]);
  });

  test('serves the official clients with a token for either audience', async () => {
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    for (const aud of AZURE) {
      const token = gateway.issuer.token({ claims: { aud } });
      const clients = [
        new OpenAI({ apiKey: token, baseURL: `${gateway.url}/openai/v1`, maxRetries: 0 }),
        new AzureOpenAI({
          azureADTokenProvider: async () => token,
          endpoint: gateway.url,
          apiVersion: API_VERSION,
          maxRetries: 0,
        }),
      ];
      for (const client of clients)
        expect((await client.chat.completions.create({ model: 'gpt-4o', messages })).choices).toHaveLength(1);
    }
  });
});

describe.skipIf(skipped)('OIDC_AUDIENCES next to OIDC_CLIENT_ID', () => {
  let gateway: OidcGateway;
  beforeAll(async () => {
    gateway = await startOidcGateway({ settings: { OIDC_AUDIENCES: AZURE[1] ?? '' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each([
    [AUDIENCE, 200],
    [`api://${AUDIENCE}`, 200],
    ['https://ai.azure.com/', 200],
    ['https://cognitiveservices.azure.com', 401],
  ])('adds to the accepted audiences: %s', async (aud, status) => {
    const answer = await rawRequest(gateway.url, {
      target: '/openai/v1/files',
      headers: [['Authorization', `Bearer ${gateway.issuer.token({ claims: { aud } })}`]],
    });
    expect(answer.status).toBe(status);
  });
});
