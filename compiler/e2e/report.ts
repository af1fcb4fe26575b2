/** The results of scenarios as a table or as JSON. */
import type { Check } from './checks.ts';

export interface ScenarioResult {
  readonly scenario: string;
  readonly checks: readonly Check[];
  readonly seconds: number;
}

const MARKS = { passed: 'ok', failed: 'FAILED', 'not asserted': '-' } as const;

export const hasFailed = ({ checks }: ScenarioResult): boolean =>
  checks.length === 0 || checks.some(({ result }) => result === 'failed');

/** One scenario: a line for each check, with what was intended and what was seen. */
export function scenarioTable({ scenario, checks, seconds }: ScenarioResult): string {
  const rows = checks.map(({ what, intended, seen, result }) => [MARKS[result], what, intended, seen]);
  const lines = aligned([['', 'check', 'intended', 'seen'], ...rows]);
  return `${scenario} (${Math.round(seconds)} s)\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

/** The result of each scenario on a line. */
export function summaryTable(results: readonly ScenarioResult[]): string {
  const rows = results.map((each) => {
    const failed = each.checks.filter(({ result }) => result === 'failed');
    const open = each.checks.filter(({ result }) => result === 'not asserted').length;
    const words = failed.map(({ what }) => what).join(', ');
    return [
      hasFailed(each) ? 'FAILED' : 'ok',
      each.scenario,
      `${each.checks.length - failed.length - open} of ${each.checks.length}${open > 0 ? ` (${open} not asserted)` : ''}`,
      words,
    ];
  });
  return aligned([['', 'scenario', 'checks passed', 'failed'], ...rows])
    .map((line) => `${line}\n`)
    .join('');
}

function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
