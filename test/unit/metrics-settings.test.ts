/** What the settings render for the gateway's own metrics: the models that may become label values, and the memory budget. */
import { describe, expect, test } from 'vitest';
import { readYaml } from '../../compiler/output/check.ts';
import { compileVariables } from '../support/scenarios.ts';

const BACKENDS = Object.fromEntries(
  [0, 1].flatMap((index) => [
    [`AZURE_OPENAI_ENDPOINT_${index}`, `https://backend-${index}.openai.azure.com`],
    [`AZURE_OPENAI_KEY_${index}`, `key-of-backend-${index}-0123456789`],
  ]),
);

/** Two backends and this number of clients. */
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

test('renders no model names without prices, because the gateway then learns them', async () => {
  expect(await ownMetrics({ ...clients(1), GATEWAY_CLIENT_MODELS_0: 'gpt-4o' })).toBeUndefined();
});

test('with prices renders the priced models and the models in lists of clients', async () => {
  const settings = { MODEL_PRICES: 'gpt-4o=1/2,o3=1/2', GATEWAY_CLIENT_MODELS_0: 'GPT-5,gpt-4o,text-*' };
  expect(await ownMetrics({ ...clients(1), ...settings })).toBe('{"models": ["gpt-4o", "o3", "GPT-5"]}');
});

test('thousands of clients change nothing, because the store has a fixed budget', async () => {
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

  test('defaults to room for 25,000 lines and 5 MB', async () => {
    expect(await budgetOf({})).toEqual({ lines: 25_000, bytes: 5_000_000, page: 10_571, values: 30_389 });
  });

  test.each(['8m', '9000k', '40m', '100m', '1g'])(
    'leaves room for two copies of the page and uses all of its memory: %s',
    async (memory) => {
      const { lines, bytes, page, values } = await budgetOf({ GATEWAY_METRICS_MEMORY: memory });
      const units = { k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
      const total = Number.parseInt(memory, 10) * units[memory.slice(-1) as keyof typeof units];
      expect(page * units.k).toBeGreaterThan(2 * bytes + 500_000);
      expect(page + values).toBe(total / units.k);
      expect(bytes / lines).toBeCloseTo(200, 0);
      // Five times the text is somewhat more than `bench:gateway metrics` measures.
      expect(values * units.k).toBeGreaterThan(5 * bytes);
    },
  );

  test('must be at least 8 MiB', async () => {
    await expect(budgetOf({ GATEWAY_METRICS_MEMORY: '7m' })).rejects.toThrow('out of range');
  });
});
