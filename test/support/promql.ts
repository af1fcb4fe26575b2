/** The queries of dashboards, alerts and pages, and the metrics and labels that they use. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SyntaxNode } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '../..');
export const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: { readonly type: string; readonly uid: string };
}

export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly type: string; readonly uid: string };
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly Target[];
}

export interface Variable {
  readonly name: string;
  readonly type: string;
  readonly definition?: string;
  readonly current: { readonly value?: string | readonly string[] };
  readonly allValue?: string;
}

export interface Dashboard {
  readonly uid: string;
  readonly schemaVersion: number;
  readonly templating: { readonly list: readonly Variable[] };
  readonly panels: readonly Panel[];
}

export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export const ALERTS_FILE = 'examples/observability/alerts.yml';
export const DASHBOARD_FILE = 'examples/observability/dashboards/gateway.json';
export const PAGE = 'docs/observability.md';

export const dashboard = (): Dashboard => JSON.parse(read(DASHBOARD_FILE));

export const alertRules = (): AlertRule[] =>
  (parse(read(ALERTS_FILE)) as { groups: { rules: AlertRule[] }[] }).groups.flatMap(({ rules }) => rules);

/** The PromQL queries of a page, one for each block, by the heading above. */
export function pageQueries(page = read(PAGE)): { readonly heading: string; readonly expr: string }[] {
  let heading = '';
  return [...page.matchAll(/^## ([^\n]*)$|^```promql\n(.*?)^```$/gms)].flatMap(([, title, expr]) => {
    if (title !== undefined) heading = title;
    return expr === undefined ? [] : [{ heading, expr: expr.trim() }];
  });
}

export interface Query {
  readonly where: string;
  readonly expr: string;
}

/** A panel's query with the values that Grafana inserts for variables: all values by default. */
export const filledIn = (expr: string, values: Readonly<Record<string, string>> = {}): string =>
  Object.entries({
    __rate_interval: '1m',
    __range: '1h',
    budget: '0.01',
    job: '.*',
    client: '.*',
    model: '.*',
    backend: '.*',
    ...values,
  }).reduce((text, [name, value]) => text.replaceAll(`$${name}`, value), expr);

export const panelQueries = (values?: Readonly<Record<string, string>>): Query[] =>
  dashboard().panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ refId, expr }) => ({ where: `panel ${title}, ${refId}`, expr: filledIn(expr, values) })),
  );

/** The queries of alerts and of the page. */
export const otherQueries = (): Query[] => [
  ...alertRules().map(({ alert, expr }) => ({ where: `alert ${alert}`, expr })),
  ...pageQueries().map(({ heading, expr }, index) => ({ where: `page ${index + 1}, ${heading}`, expr })),
];

export interface Selector {
  readonly text: string;
  readonly name: string;
  /** The labels in its matchers, and those that aggregations around it keep or join by. */
  readonly labels: readonly string[];
}

/** All selectors of a query. Throws when it is no PromQL. */
export function selectorsOf(promql: string): Selector[] {
  const selectors: Selector[] = [];
  const textOf = ({ from, to }: SyntaxNode) => promql.slice(from, to);
  const labelsIn = (node: SyntaxNode, ...path: string[]): string[] => {
    const [type, ...rest] = path;
    return type === undefined
      ? [textOf(node)]
      : node.getChildren(type).flatMap((child) => labelsIn(child, ...rest));
  };
  const visit = (node: SyntaxNode, around: readonly string[]) => {
    if (node.type.isError) throw new Error(`no PromQL at ${node.from}: ${promql}`);
    let labels = around;
    if (node.name === 'AggregateExpr')
      labels = [...labels, ...labelsIn(node, 'AggregateModifier', 'GroupingLabels', 'LabelName')];
    if (node.name === 'BinaryExpr') {
      const [clause] = node.getChildren('MatchingModifierClause');
      const [matched, taken] = clause?.getChildren('GroupingLabels') ?? [];
      const on = matched ? labelsIn(matched, 'LabelName') : [];
      const fromRight = taken ? labelsIn(taken, 'LabelName') : [];
      const [left, right] = node.getChildren('Expr');
      if (fromRight.length > 0 && left && right) {
        // group_left: the metric on the right has these labels and adds them to the left one.
        visit(left, [...around.filter((label) => !fromRight.includes(label)), ...on]);
        visit(right, [...on, ...fromRight]);
        return;
      }
      labels = [...labels, ...on];
    }
    if (node.name === 'VectorSelector') {
      const [name = ''] = labelsIn(node, 'Identifier');
      const asked = labelsIn(node, 'LabelMatchers', 'UnquotedLabelMatcher', 'LabelName');
      selectors.push({ text: textOf(node), name, labels: [...new Set([...labels, ...asked])] });
    }
    for (let child = node.firstChild; child; child = child.nextSibling) visit(child, labels);
  };
  visit(parser.parse(promql).topNode, []);
  return selectors;
}
