/** Prometheus' text format, and the metrics that docs/metrics.md lists. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

/** All samples of a text. */
export const samplesIn = (text: string): Sample[] =>
  text.split('\n').flatMap((line) => {
    if (line === '' || line.startsWith('#')) return [];
    const [, name, labels = '', value = ''] = SAMPLE.exec(line) ?? [];
    if (name === undefined) throw new Error(`no sample: ${line}`);
    const pairs = [...labels.matchAll(LABEL)].map(([, key = '', each = '']) => [
      key,
      each.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
    ]);
    return [{ name, labels: Object.fromEntries(pairs), value: Number(value) }];
  });

/** The type of each metric in a text, by name. */
export const typesIn = (text: string): Record<string, string> =>
  Object.fromEntries(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );

/** The sum of all samples with these labels, or undefined when there is none. */
export function total(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const found = samples.filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
  return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + value, 0);
}

export interface MetricReference {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
}

const REFERENCE = fileURLToPath(new URL('../../docs/metrics.md', import.meta.url));

/** All metrics of a gateway from the tables of docs/metrics.md, which dashboards and alerts may use. */
export const documentedMetrics = (): MetricReference[] =>
  readFileSync(REFERENCE, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, name, type, labels = ''] =
        /^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|/.exec(line) ?? [];
      if (name === undefined) return [];
      return [
        {
          name,
          type: type as MetricReference['type'],
          labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label),
        },
      ];
    });
