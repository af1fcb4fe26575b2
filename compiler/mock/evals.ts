import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, required } from './call.ts';
import { collection, page } from './collections.ts';

const all = collection('eval', 'eval', ({ json }) => ({
  name: json.name ?? null,
  data_source_config: required(json, 'data_source_config'),
  testing_criteria: required(json, 'testing_criteria'),
}));

/** Runs complete at once, with one item that passed. */
const runs = collection(
  'eval.run',
  'evalrun',
  ({ json }, evaluation) => ({
    eval_id: evaluation,
    name: json.name ?? null,
    model: modelOf(json),
    data_source: required(json, 'data_source'),
    status: 'completed',
    error: null,
    report_url: 'https://ai.azure.com',
    result_counts: { total: 1, passed: 1, failed: 0, errored: 0 },
    per_model_usage: [],
    per_testing_criteria_results: [],
  }),
  { parent: all, createdStatus: 201 },
);

function modelOf({ data_source: source }: Json): string {
  const { model } = (source ?? {}) as { readonly model?: unknown };
  return typeof model === 'string' ? model : '';
}

function itemOf(call: Call, evaluation: string, run: string): Json {
  const { created_at } = runs.known(call, evaluation, run);
  return {
    id: `outputitem_${run.slice('evalrun_'.length)}`,
    object: 'eval.run.output_item',
    created_at,
    eval_id: evaluation,
    run_id: run,
    datasource_item_id: 0,
    datasource_item: {},
    results: [{ name: 'mock', passed: true, score: 1 }],
    sample: { input: [], output: [], finish_reason: 'stop', error: null },
    status: 'pass',
  };
}

export const evals = {
  ...all,
  update: (call: Call, id = ''): Behaviour => {
    const { name, metadata } = call.json;
    const given = Object.entries({ name, metadata }).filter(([, value]) => value !== undefined);
    return all.change(call, [id], Object.fromEntries(given));
  },
  remove: (call: Call, id = ''): Behaviour => {
    all.remove(call, id);
    return { body: { object: 'eval.deleted', deleted: true, eval_id: id } };
  },
};

export const evalRuns = {
  ...runs,
  cancel: (call: Call, ...ids: readonly string[]): Behaviour =>
    runs.change(call, ids, { status: 'canceled' }),
  remove: (call: Call, evaluation = '', run = ''): Behaviour => {
    runs.remove(call, evaluation, run);
    return { body: { object: 'eval.run.deleted', deleted: true, run_id: run } };
  },
  items: (call: Call, evaluation = '', run = ''): Behaviour => page([itemOf(call, evaluation, run)]),
  item: (call: Call, evaluation = '', run = '', id = ''): Behaviour => {
    const item = itemOf(call, evaluation, run);
    return item.id === id ? { body: item } : missingItem(id);
  },
};

const missingItem = (id: string): Behaviour => ({
  status: 404,
  body: { error: { message: `No output item found with id '${id}'.`, type: 'invalid_request_error' } },
});
