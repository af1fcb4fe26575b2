/** What the gateway's own metrics are told by the settings: names of models that are values of labels, and when there are too many clients. */
import { describe, expect, test } from 'vitest';
import { readYaml } from '../../compiler/output/check.ts';
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

test('many clients change nothing: the store has a budget', async () => {
  expect(await ownMetrics(clients(2_501))).toBeUndefined();
});

describe('GATEWAY_METRICS_MEMORY', () => {
  const budgetOf = async (settings: Readonly<Record<string, string>>) => {
    const { documents } = await compileVariables({
      ...BACKENDS,
      ...clients(1),
      GATEWAY_SECRETS: 'inline',
      ...settings,
    });
    const config = (await readYaml(documents['config.yaml'])) as unknown as {
      document: {
        plugin_attr: { 'azure-openai-metrics': { max_lines: number; max_bytes: number } };
        nginx_config: {
          meta: { lua_shared_dict: Record<string, string> };
          http: { lua_shared_dict: Record<string, string> };
        };
      };
    };
    const { plugin_attr: attr, nginx_config: nginx } = config.document;
    return {
      lines: attr['azure-openai-metrics'].max_lines,
      bytes: attr['azure-openai-metrics'].max_bytes,
      page: Number.parseInt(nginx.meta.lua_shared_dict['prometheus-cache'] ?? '', 10),
      values: Number.parseInt(nginx.http.lua_shared_dict['prometheus-metrics'] ?? '', 10),
    };
  };

  test('has room for 25,000 lines and 5 MB by default', async () => {
    expect(await budgetOf({})).toEqual({ lines: 25_000, bytes: 5_000_000, page: 10_571, values: 30_389 });
  });

  test.each(['8m', '9000k', '40m', '100m', '1g'])(
    '%s: the page fits twice into its memory, and all of it is used',
    async (memory) => {
      const { lines, bytes, page, values } = await budgetOf({ GATEWAY_METRICS_MEMORY: memory });
      const units = { k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
      const total = Number.parseInt(memory, 10) * units[memory.slice(-1) as keyof typeof units];
      expect(page * units.k).toBeGreaterThan(2 * bytes + 500_000);
      expect(page + values).toBe(total / units.k);
      expect(bytes / lines).toBeCloseTo(200, 0);
      // What `bench:gateway metrics` shows that they take, and some more.
      expect(values * units.k).toBeGreaterThan(5 * bytes);
    },
  );

  test('needs 8 MiB', async () => {
    await expect(budgetOf({ GATEWAY_METRICS_MEMORY: '7m' })).rejects.toThrow('out of range');
  });
});
