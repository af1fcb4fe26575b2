/** Diagnostics as text, JSON, SARIF or GitHub annotations: pure functions of the list. */
import { createColors } from 'picocolors';
import { cell, code, plain } from '../markdown.ts';
import type { Severity } from './catalog/entry.ts';
import { isAboutFile } from './descriptions.ts';
import { type Diagnostic, environmentsText } from './diagnostic.ts';
import type { ReportFormat } from './formats.ts';
import { nameWithoutKeys } from './keys.ts';
import { AS_GIVEN, origin, type Places, placeOf, sentence, statement } from './places.ts';
import { sarif } from './sarif.ts';
import { type Worded, worded } from './words.ts';

export interface ReportOptions {
  readonly format: ReportFormat;
  readonly color: boolean;
  /** Print only errors. */
  readonly quiet: boolean;
  /** JSON on one line, for platforms that treat each line of a container's output as one record. */
  readonly oneLine?: boolean;
  /** For formats with file names: maps paths. Absent: paths stay unchanged. */
  readonly workspace?: Places;
  /** Present if several environments were checked. */
  readonly environments?: readonly EnvironmentSummary[] | undefined;
}

export interface EnvironmentSummary {
  readonly name: string;
  readonly files: readonly string[];
  /** The environment has no errors. */
  readonly good: boolean;
}

/** The report with a final newline; empty if there is nothing to report. */
export function report(
  all: readonly Diagnostic[],
  { format, color, quiet, oneLine = false, workspace = AS_GIVEN, environments: given }: ReportOptions,
): string {
  const environments = given?.map((each) => ({ ...each, name: nameWithoutKeys(each.name) }));
  const diagnostics = (quiet ? all.filter((each) => each.severity === 'error') : all).map(worded);
  switch (format) {
    case 'json':
      return `${JSON.stringify({ ...(environments ? { environments } : {}), diagnostics: diagnostics.map(asData), summary: count(diagnostics) }, null, oneLine ? 0 : 2)}\n`;
    case 'sarif':
      return `${JSON.stringify(sarif(diagnostics, workspace), null, 2)}\n`;
    case 'github':
      return grouped(diagnostics)
        .map((each) => `${githubAnnotation(each, workspace)}\n`)
        .join('');
    case 'markdown':
      return markdownReport(diagnostics, workspace, environments);
    case 'text':
      return textReport(diagnostics, color);
  }
}

/** `file` tells programs that the subject is a file, not a setting. */
const asData = (each: Worded) => (isAboutFile(each.code) ? { ...each, file: each.setting } : each);

const SEVERITIES: readonly Severity[] = ['error', 'warning', 'info'];

function count(diagnostics: readonly Diagnostic[]): Record<Severity, number> {
  const of = (severity: Severity) => diagnostics.filter((each) => each.severity === severity).length;
  return { error: of('error'), warning: of('warning'), info: of('info') };
}

/** A diagnostic, with similar ones about other indexes. */
type Grouped = Worded & { readonly more?: readonly Worded[] };

/**
 * Up to this number, similar diagnostics are shown in full. Of more, one fewer is shown, and the last one names the
 * others.
 */
const MAX_ALIKE = 4;

/** Groups diagnostics that differ only in numbers: shows the first few, and only the names of the others. */
function grouped(diagnostics: readonly Worded[]): Grouped[] {
  const withoutNumbers = ({ code, setting, severity, message, environments }: Worded) =>
    JSON.stringify([
      code,
      severity,
      setting.replace(/\d+/g, 'N'),
      message.replace(/\d+/g, 'N'),
      environments,
    ]);
  const groups = new Map<string, Worded[]>();
  for (const each of diagnostics) {
    const kind = withoutNumbers(each);
    const group = groups.get(kind);
    if (group) group.push(each);
    else groups.set(kind, [each]);
  }
  return diagnostics.flatMap((each): Grouped[] => {
    const group = groups.get(withoutNumbers(each)) ?? [];
    if (group.length <= MAX_ALIKE) return [each];
    const at = group.indexOf(each);
    if (at > MAX_ALIKE - 2) return [];
    return [at === MAX_ALIKE - 2 ? { ...each, more: group.slice(MAX_ALIKE - 1) } : each];
  });
}

const MAX_NAMES = 10;

function alike(others: readonly Worded[]): string {
  const shown = others
    .slice(0, MAX_NAMES)
    .map((each) => (each.line === undefined ? each.setting : `${each.setting} (line ${each.line})`));
  const rest = others.length - shown.length;
  return `and ${others.length} more like it: ${shown.join(', ')}${rest > 0 ? ` and ${rest} others; --format json lists all` : ''}`;
}

function textReport(diagnostics: readonly Worded[], color: boolean): string {
  if (diagnostics.length === 0) return '';
  const colors = createColors(color);
  const paint = { error: colors.red, warning: colors.yellow, info: colors.cyan } as const;
  const blocks = grouped(diagnostics).map((each) => {
    const environments = environmentsText(each);
    const at = `${each.source === undefined ? '' : colors.dim(` (${location(each)})`)}${environments === undefined ? '' : colors.dim(` in ${environments}`)}`;
    const head = `${paint[each.severity](each.severity)} ${colors.bold(each.setting)}: ${each.message}${at}`;
    // Infos take one line each: there may be many, and they require no action.
    const more = each.more === undefined ? '' : `  ${alike(each.more)}\n`;
    if (each.severity === 'info') return `${head} ${colors.dim(`[${each.code}]`)}\n${more}`;
    const expected = saysMore(each) ? `  expected  ${each.expected}\n` : '';
    const received = each.received === undefined ? '' : `  received  ${each.received}\n`;
    return `${head}\n${expected}${received}  fix       ${each.hint} ${colors.dim(`[${each.code}]`)}\n${more}`;
  });
  return `${blocks.join('')}${summary(diagnostics)}\n`;
}

/** Whether the expected value is more than a repetition of the message or the fix. */
function saysMore({ message, expected, hint }: Worded): boolean {
  const words = (text: string) => ` ${text.replace(/[\s:;,?]+/g, ' ')} `;
  return ![message, hint].some((each) => words(each).includes(words(expected)));
}

function summary(diagnostics: readonly Diagnostic[]): string {
  const total = count(diagnostics);
  return SEVERITIES.filter((each) => total[each] > 0)
    .map((each) => plural(total[each], each))
    .join(', ');
}

/** A Markdown list, for comments and job summaries. */
function markdownReport(
  diagnostics: readonly Worded[],
  workspace: Places,
  environments: readonly EnvironmentSummary[] | undefined,
): string {
  const rows = environments?.map(({ name, good }) => `| ${cell(name)} | ${good ? 'good' : '**errors**'} |\n`);
  const table = rows ? `\n| Environment | Settings |\n|---|---|\n${rows.slice(0, MAX_ITEMS).join('')}` : '';
  if (diagnostics.length === 0) return `## Settings: no problems\n${table}`;
  const groups = grouped(diagnostics);
  const items = groups.slice(0, MAX_ITEMS).map((each) => {
    const at = placeOf(each, workspace) ?? placeOf(each, AS_GIVEN);
    const place =
      at === undefined
        ? ''
        : ` in ${code(nameWithoutKeys(at.line === undefined ? at.file : `${at.file}:${at.line}`))}`;
    return `- **${each.severity}** ${code(each.setting)}${place}: ${plain(statement(each))}${environmentsText(each) === undefined ? '' : ` Environments: ${code(environmentsText(each) ?? '')}.`} (${code(each.code)})${each.more === undefined ? '' : `; ${plain(alike(each.more))}`}\n`;
  });
  const rest = groups.length - MAX_ITEMS;
  return `## Settings: ${summary(diagnostics)}\n${table}\n${items.join('')}${rest > 0 ? `- and ${rest} more\n` : ''}`;
}

/** Platforms limit the length of a comment. */
const MAX_ITEMS = 100;

const plural = (number: number, severity: Severity) =>
  `${number} ${severity}${number === 1 || severity === 'info' ? '' : 's'}`;

const location = ({ source = '', line }: Worded) =>
  `${nameWithoutKeys(source)}${line === undefined ? '' : `:${line}`}`;

/** GitHub workflow commands: one line each, with the characters escaped that the runner interprets. */
function githubAnnotation(each: Grouped, workspace: Places): string {
  const property = (value: string) => data(value).replaceAll(':', '%3A').replaceAll(',', '%2C');
  const data = (value: string) =>
    value.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
  const command = each.severity === 'info' ? 'notice' : each.severity;
  // A file outside the workspace keeps its path; GitHub then shows the annotation on the run.
  const at = placeOf(each, workspace) ?? placeOf(each, AS_GIVEN);
  const properties = [
    ...(at === undefined ? [] : [`file=${property(at.file)}`]),
    ...(at?.line === undefined ? [] : [`line=${at.line}`]),
    `title=${property(`${each.code} ${each.setting}`)}`,
  ];
  return `::${command} ${properties.join(',')}::${data(sentence(each))}${each.more === undefined ? '' : data(` ${alike(each.more)}.`)}${at === undefined ? data(origin(each)) : ''}`;
}
