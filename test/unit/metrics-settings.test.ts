/** What the gateway's own metrics are told by the settings: names of models that are values of labels, and when there are too many clients. */
import { expect, test } from 'vitest';
import { compileVariables } from '../support/scenarios.ts';

const BACKENDS = Object.fromEntries(
  [0, 1].flatMap((index) => [
    [`AZURE_OPENAI_ENDPOINT_${index}`, `https://backend-${index}.openai.azure.com`],
    [`AZURE_OPENAI_KEY_${index}`, `key-of-backend-${index}-0123456789`],
  ]),
);

/** Two backends and so many clients. */
const clients = (count: number): Record<string, string> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`],
      [`GATEWAY_CLIENT_KEY_${index}`, `key-of-client-${index}-0123456789`],
    ]).flat(),
  );

async function ownMetrics(settings: Readonly<Record<string, string>>): Promise<string | undefined> {
  const { documents } = await compileVariables({ ...BACKENDS, GATEWAY_SECRETS: 'inline', ...settings });
  return /^ *metrics: (\{.*\})$/m.exec(documents['apisix.yaml'])?.[1];
}

test('without prices names of models are learnt', async () => {
  expect(await ownMetrics({ ...clients(1), GATEWAY_CLIENT_MODELS_0: 'gpt-4o' })).toBeUndefined();
});

test('with prices they are those that have one, and those of lists of clients', async () => {
  const settings = { MODEL_PRICES: 'gpt-4o=1/2,o3=1/2', GATEWAY_CLIENT_MODELS_0: 'GPT-5,gpt-4o,text-*' };
  expect(await ownMetrics({ ...clients(1), ...settings })).toBe('{"models": ["gpt-4o", "o3", "GPT-5"]}');
});

test('too many clients have no series of their own', async () => {
  expect(await ownMetrics(clients(2_500))).toBeUndefined();
  expect(await ownMetrics(clients(2_501))).toBe('{"without_client": true}');
});
