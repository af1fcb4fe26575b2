/** The dashboard, the alert rules and docs/observability.md only query metrics and labels that docs/metrics.md lists. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { documentedMetrics } from '../support/metrics-text.ts';
import {
  ALERTS_FILE,
  alertRules,
  dashboard,
  otherQueries,
  PAGE,
  type Panel,
  pageQueries,
  panelQueries,
  read,
  selectorsOf,
} from '../support/promql.ts';
import { cannotRun } from '../support/requirements.ts';

/** Labels that a scrape adds to each series. */
const OF_SCRAPES = ['job', 'instance'];

const known = new Map<string, readonly string[]>([['up', []]]);
for (const { name, type, labels } of documentedMetrics()) {
  if (type !== 'histogram') known.set(name, labels);
  else for (const part of ['count', 'sum', 'bucket']) known.set(`${name}_${part}`, labels);
  if (type === 'histogram') known.set(`${name}_bucket`, [...labels, 'le']);
  // docs/collector.md: this metric is a token counter multiplied by a price.
  if (name === 'apisix_llm_prompt_tokens') known.set('llm_cost_usd', [...labels, 'cost_component']);
  if (name === 'apisix_genai_cache_saved_tokens_total')
    known.set('llm_saved_cost_usd', [...labels, 'cost_component']);
}

for (const [, name = '', text = ''] of read('docs/apim-records.md').matchAll(
  /^\| `(apisix_\w+)` \| (.*) \|$/gm,
))
  known.set(name, text.includes('by `reason`') ? ['reason'] : []);

/** The metrics and labels of a query that no gateway has. */
const unknownIn = (promql: string): string[] =>
  selectorsOf(promql).flatMap(({ name, labels }) => {
    const has = known.get(name);
    if (!has) return [`metric ${name}`];
    return labels
      .filter((label) => !has.includes(label) && !OF_SCRAPES.includes(label))
      .map((label) => `label ${label} of ${name}`);
  });

test('the test finds unknown metrics and labels anywhere in a query', () => {
  expect(unknownIn('sum by (nobody) (rate(apisix_http_status{lane="high", color="red"}[5m])) > 1')).toEqual([
    'label nobody of apisix_http_status',
    'label color of apisix_http_status',
  ]);
  expect(unknownIn('up * on (node) group_left (weight) apisix_genai_backend_healthy')).toEqual([
    'label node of up',
    'label weight of apisix_genai_backend_healthy',
  ]);
  expect(unknownIn('histogram_quantile(0.5, sum by (le) (rate(apisix_llm_latency_sum[5m])))')).toEqual([
    'label le of apisix_llm_latency_sum',
  ]);
  expect(unknownIn('avg_over_time((max(apisix_llm_latency) > bool 0)[15m:30s])')).toEqual([
    'metric apisix_llm_latency',
  ]);
  expect(() => unknownIn('sum by (')).toThrow('no PromQL');
});

test('the panels, the alerts and the page have queries', () => {
  expect(panelQueries().length).toBeGreaterThan(20);
  expect(otherQueries().length).toBeGreaterThan(20);
});

test.each([...panelQueries(), ...otherQueries()])(
  '$where queries only metrics and labels that exist',
  ({ expr }) => {
    expect(selectorsOf(expr)).not.toEqual([]);
    expect(unknownIn(expr)).toEqual([]);
  },
);

describe('the dashboard', () => {
  const { panels, templating, schemaVersion } = dashboard();
  const drawn = panels.filter(({ type }) => type !== 'row');
  const queries = drawn.flatMap(({ title, targets = [] }) => targets.map((each) => ({ title, ...each })));

  test('gives each panel its own id, title and area', () => {
    expect(schemaVersion).toBeGreaterThanOrEqual(41);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(new Set(drawn.map(({ title }) => title)).size).toBe(drawn.length);
    const overlap = ({ gridPos: a }: Panel, { gridPos: b }: Panel) =>
      a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
    const overlapping = panels.flatMap((one, index) =>
      panels.slice(index + 1).flatMap((other) => (overlap(one, other) ? [[one.title, other.title]] : [])),
    );
    expect(overlapping).toEqual([]);
    for (const {
      gridPos: { x, w },
    } of panels)
      expect(x + w).toBeLessThanOrEqual(24);
  });

  test.each(drawn)('gives the panel $title a description, a unit and the chosen data source', (panel) => {
    expect(panel.title).not.toBe('');
    expect(panel.description).toMatch(/.{20}/);
    expect(panel.fieldConfig?.defaults.unit).toMatch(/^\w+$/);
    const source = { type: 'prometheus', uid: '${datasource}' };
    expect(panel.datasource).toEqual(source);
    expect(panel.targets).not.toEqual([]);
    for (const target of panel.targets ?? []) expect(target.datasource).toEqual(source);
    expect(new Set(panel.targets?.map(({ refId }) => refId)).size).toBe(panel.targets?.length);
  });

  test('limits every query to the chosen gateway, and its legends to labels that the query keeps', () => {
    for (const { title, expr } of panelQueries().map(({ where, expr }) => ({ title: where, expr })))
      for (const { text } of selectorsOf(expr)) expect(text, title).toContain('job=~".*"');
    const legends = queries.flatMap(({ title, expr, legendFormat }) =>
      [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => ({ title, expr, label })),
    );
    expect(legends.length).toBeGreaterThan(10);
    for (const { title, expr, label } of legends)
      expect(expr, title).toMatch(new RegExp(`by \\((?:\\w+, )*${label}(?:, \\w+)*\\)`));
  });

  test('declares exactly the variables that it uses', () => {
    const used = new Set(
      JSON.stringify([panels, templating.list.map(({ definition }) => definition)])
        .match(/\$\{?[a-z]\w*/g)
        ?.map((each) => each.replace(/\W/g, '')),
    );
    expect([...used].sort()).toEqual(templating.list.map(({ name }) => name).sort());
    for (const { name, type, definition = '', allValue } of templating.list) {
      if (type !== 'query') continue;
      // `.*` also matches an empty value, such as the client of an unauthenticated request.
      expect(allValue, name).toBe('.*');
      const [, series = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? [];
      const metric = known.get(series.replace(/\{.*/, ''));
      expect([...(metric ?? []), ...(metric ? OF_SCRAPES : [])], definition).toContain(label);
    }
  });
});

/** The gateway tests run promtool in Prometheus' image. Here it runs when it is installed. */
const cannotRunPromtool = cannotRun('the alerts by promtool', 'promtool');

describe('the alerts', () => {
  const rules = alertRules();

  test('are found', () => {
    expect(rules.length).toBeGreaterThan(5);
  });

  test.skipIf(cannotRunPromtool)('fire in exactly the states that alerts_test.yml lists', () => {
    const folder = mkdtempSync(join(tmpdir(), 'alerts-'));
    try {
      cpSync(ALERTS_FILE, join(folder, 'alerts.yml'));
      cpSync('test/support/alerts_test.yml', join(folder, 'alerts_test.yml'));
      const { status, stderr } = spawnSync('promtool', ['test', 'rules', 'alerts_test.yml'], {
        cwd: folder,
        encoding: 'utf8',
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('each have a case in which they fire', () => {
    const tested = read('test/support/alerts_test.yml');
    for (const { alert } of rules) expect(tested).toContain(`alertname="${alert}"`);
  });

  test.each(rules)(
    '$alert has a severity, a summary and a description with labels that it keeps',
    ({ expr, labels, annotations }) => {
      expect(labels.severity).toMatch(/^(?:critical|warning)$/);
      expect(annotations.summary).toMatch(/.{10}/);
      expect(annotations.description).toMatch(/.{10}/);
      for (const [, label] of JSON.stringify(annotations).matchAll(/\$labels\.(\w+)/g)) {
        const isKept = new RegExp(`by \\((?:\\w+, )*${label}(?:, \\w+)*\\)`).test(expr);
        expect(isKept || !/\bby \(|\bsum\(/.test(expr), `${label} in ${expr}`).toBe(true);
      }
    },
  );

  test('refer only to panels that exist', () => {
    const titles = dashboard().panels.map(({ title }) => title);
    const named = rules.flatMap(({ annotations }) =>
      [...(annotations.description ?? '').matchAll(/panel "([^"]+)"/g)].map(([, title]) => title),
    );
    expect(named).not.toEqual([]);
    for (const title of named) expect(titles).toContain(title);
  });

  test('have unique names, and docs/observability.md explains each of them', () => {
    const names = rules.map(({ alert }) => alert);
    expect(new Set(names).size).toBe(names.length);
    const [, table = ''] = read(PAGE).split('## What the alerts ask of you');
    const explained = [...table.matchAll(/`(Gateway\w+)`/g)].map(([, name]) => name);
    expect(explained.sort()).toEqual(names.sort());
  });

  test('use the same error budget as the dashboard', () => {
    const budget = dashboard().templating.list.find(({ name }) => name === 'budget')?.current.value;
    const burning = rules.filter(({ alert }) => alert.startsWith('GatewayErrorBudget'));
    expect(burning).toHaveLength(2);
    for (const { expr } of burning) expect(expr.match(/[\d.]+ \* ([\d.]+)/)?.[1]).toBe(budget);
  });
});

test('the Log Analytics queries on the page use only columns of the records', () => {
  const columns = [...read('docs/apim-records.md').matchAll(/^\| ((?:`\w+`(?:, )?)+) \| /gm)]
    .flatMap(([, names = '']) => names.split(', '))
    .map((name) => name.replaceAll('`', ''));
  const queries = [...read(PAGE).matchAll(/^```kusto\n(.*?)^```$/gms)].map(([, text = '']) => text);
  expect(queries).not.toEqual([]);
  for (const query of queries) {
    const [, ...named] = query.match(/\b[A-Z]\w+/g) ?? [];
    expect(named).not.toEqual([]);
    expect(columns).toEqual(expect.arrayContaining(named.filter((name) => name !== 'Requests')));
  }
});

test('every question on the page has a query', () => {
  const page = read(PAGE);
  const questions = [...page.matchAll(/^## (.*\?)$/gm)].map(([, title = '']) => title);
  expect(questions.length).toBeGreaterThan(8);
  expect([...new Set(pageQueries().map(({ heading }) => heading))]).toEqual(questions);
});
