/** Diagnostics as text, JSON, SARIF or GitHub annotations: pure functions of the list. */
import { createColors } from 'picocolors';
import type { Diagnostic, Severity } from './diagnostic.ts';
import type { ReportFormat } from './formats.ts';

export interface ReportOptions {
  readonly format: ReportFormat;
  readonly color: boolean;
  /** Errors only. */
  readonly quiet: boolean;
  /** JSON on one line, for platforms that take each line of a container for a record. */
  readonly oneLine?: boolean;
}

/** The report with its final newline; empty where there is nothing to say. */
export function report(
  all: readonly Diagnostic[],
  { format, color, quiet, oneLine = false }: ReportOptions,
): string {
  const diagnostics = quiet ? all.filter((each) => each.severity === 'error') : all;
  switch (format) {
    case 'json':
      return `${JSON.stringify({ diagnostics, summary: count(diagnostics) }, null, oneLine ? 0 : 2)}\n`;
    case 'sarif':
      return `${JSON.stringify(sarif(diagnostics), null, 2)}\n`;
    case 'github':
      return diagnostics.map((each) => `${githubAnnotation(each)}\n`).join('');
    case 'text':
      return textReport(diagnostics, color);
  }
}

const SEVERITIES: readonly Severity[] = ['error', 'warning', 'info'];

function count(diagnostics: readonly Diagnostic[]): Record<Severity, number> {
  const of = (severity: Severity) => diagnostics.filter((each) => each.severity === severity).length;
  return { error: of('error'), warning: of('warning'), info: of('info') };
}

function textReport(diagnostics: readonly Diagnostic[], color: boolean): string {
  if (diagnostics.length === 0) return '';
  const colors = createColors(color);
  const paint = { error: colors.red, warning: colors.yellow, info: colors.cyan } as const;
  const blocks = diagnostics.map((each) => {
    const at = each.source === undefined ? '' : colors.dim(` (${location(each)})`);
    const head = `${paint[each.severity](each.severity)} ${colors.bold(each.setting)}: ${each.message}${at}`;
    // What used to mean something else is one line each: there may be many, and none asks for anything.
    if (each.severity === 'info') return `${head} ${colors.dim(`[${each.code}]`)}\n`;
    const received = each.received === undefined ? '' : `  received  ${each.received}\n`;
    return `${head}\n  expected  ${each.expected}\n${received}  fix       ${each.hint} ${colors.dim(`[${each.code}]`)}\n`;
  });
  const total = count(diagnostics);
  const summary = SEVERITIES.filter((each) => total[each] > 0).map((each) => plural(total[each], each));
  return `${blocks.join('')}${summary.join(', ')}\n`;
}

const plural = (number: number, severity: Severity) =>
  `${number} ${severity}${number === 1 || severity === 'info' ? '' : 's'}`;

const location = ({ source, line }: Diagnostic) => (line === undefined ? `${source}` : `${source}:${line}`);

/** Workflow commands: one line each, with the characters escaped that the runner reads. */
function githubAnnotation(each: Diagnostic): string {
  const property = (value: string) => data(value).replaceAll(':', '%3A').replaceAll(',', '%2C');
  const data = (value: string) =>
    value.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const command = each.severity === 'info' ? 'notice' : each.severity;
  const properties = [
    ...(isFile(each) ? [`file=${property(each.source)}`] : []),
    ...(each.line === undefined ? [] : [`line=${each.line}`]),
    `title=${property(`${each.code} ${each.setting}`)}`,
  ];
  return `::${command} ${properties.join(',')}::${data(sentence(each))}`;
}

const isFile = (each: Diagnostic): each is Diagnostic & { source: string } =>
  each.source !== undefined && each.source !== 'environment';

const sentence = (each: Diagnostic) =>
  `${each.setting}: ${each.message}. Expected ${each.expected}.${each.received === undefined ? '' : ` Received ${each.received}.`} ${each.hint[0]?.toUpperCase()}${each.hint.slice(1)}.`;

const SARIF_LEVELS = { error: 'error', warning: 'warning', info: 'note' } as const;

function sarif(diagnostics: readonly Diagnostic[]): object {
  const rules = [...new Set(diagnostics.map((each) => each.code))].sort();
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'genai-gateway',
            version: PACKAGE_VERSION,
            rules: rules.map((id) => ({ id, name: id, shortDescription: { text: words(id) } })),
          },
        },
        columnKind: 'utf16CodeUnits',
        results: diagnostics.map((each) => ({
          ruleId: each.code,
          ruleIndex: rules.indexOf(each.code),
          level: SARIF_LEVELS[each.severity],
          message: { text: sentence(each) },
          locations: [
            {
              ...(isFile(each)
                ? {
                    physicalLocation: {
                      artifactLocation: { uri: encodeURI(each.source.replaceAll('\\', '/')) },
                      ...(each.line === undefined ? {} : { region: { startLine: each.line } }),
                    },
                  }
                : {}),
              logicalLocations: [{ name: each.setting, kind: 'variable' }],
            },
          ],
        })),
      },
    ],
  };
}

/** `DUPLICATE_NAME` as `Duplicate name`. */
const words = (code: string) => code[0] + code.slice(1).toLowerCase().replaceAll('_', ' ');
