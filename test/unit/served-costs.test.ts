/**
 * The collector's prices of tokens by answering model: each series is priced at most once, with the price of the right
 * model.
 */
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { compileVariables } from '../support/scenarios.ts';

interface Transform {
  readonly include: string;
  readonly experimental_match_labels: Readonly<Record<string, string>>;
  readonly new_name: string;
  readonly operations: readonly { readonly experimental_scale?: number }[];
}

const { documents } = await compileVariables({
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend-0-0123456789',
  AZURE_OPENAI_DEPLOYMENTS_0: 'chat=gpt-4o,small=gpt-4o-swe,model-router',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-the-client-app-0123456789',
  MODEL_PRICES: 'gpt-4o=2/8,small=1/4,gpt-5-mini-2025-08-07=0.5/2',
  AZURE_MONITOR_WORKSPACE_ENDPOINT:
    'https://ws.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Microsoft-PrometheusMetrics',
});
const { transforms } = parse(documents['otel-collector.yaml']).processors.metrics_transform as {
  readonly transforms: readonly Transform[];
};

/** The collector reads `$$` as a dollar sign. Go's flag syntax is not valid in JavaScript. */
const expression = (text: string) => new RegExp(text.replaceAll('$$', '$').replace('(?i:', '(?:'), 'i');

/** The price of a million tokens in USD, from each transform that matches a series. */
const pricesOf = (labels: Readonly<Record<string, string>>) =>
  transforms
    .filter(
      ({ include, experimental_match_labels: wanted }) =>
        expression(include).test('apisix_genai_served_tokens_total') &&
        Object.entries(wanted).every(([name, value]) => expression(value).test(labels[name] ?? '')),
    )
    .map(({ operations, new_name }) => [
      new_name,
      Math.round((operations[0]?.experimental_scale ?? 0) * 1e9) / 1e3,
    ]);

const served = (...prices: readonly number[]) => prices.map((price) => ['llm_served_cost_usd', price]);

test.each<[string, string, string, number[]]>([
  ['chat', 'gpt-4o', 'gpt-4o-2024-11-20', [2]],
  ['chat', 'gpt-4o', 'gpt-5-mini-2025-08-07', [2]],
  ['small', 'gpt-4o-swe', 'gpt-5-mini-2025-08-07', [1]],
  ['model-router', 'model-router', 'gpt-5-mini-2025-08-07', [0.5]],
  ['model-router', 'model-router', 'GPT-4o', [2]],
  ['model-router', 'model-router', 'claude-sonnet-4-5', []],
  ['other', 'other', 'gpt-5-mini-2025-08-07', [0.5]],
  ['other', 'other', 'other', []],
  ['other', 'other', '', []],
])('tokens for %s, deployment %s, answered by %s cost %j', (asked, deployment, answered, prices) => {
  const labels = { request_llm_model: asked, llm_model: deployment, answer_model: answered };
  expect(pricesOf({ ...labels, kind: 'prompt' })).toEqual(served(...prices));
  expect(pricesOf({ ...labels, kind: 'completion' })).toEqual(served(...prices.map((each) => 4 * each)));
});
