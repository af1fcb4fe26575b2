/** Options that several commands share, and their validation. */
import { InvalidArgumentError, Option } from 'commander';
import { catalog, type DiagnosticCode } from '../diagnostics/catalog.ts';
import { REPORT_FORMATS } from '../diagnostics/formats.ts';
import { nearestOf } from '../diagnostics/nearest.ts';
import { APISIX_IMAGE } from '../image.ts';

export function notEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('The value is empty.');
  return value;
}

/** Collects the values of a repeatable option. */
export const collect = (value: string, all: readonly string[] = []) => [...all, notEmpty(value)];

export const wholeNumber =
  (least: number, most = Number.MAX_SAFE_INTEGER) =>
  (value: string): number => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`The value must be a whole number from ${least} to ${most}.`);
  };

export const MAX_PORT = 65_535;
export const portNumber = wholeNumber(0, MAX_PORT);

/** Parses codes of diagnostics, separated by commas. */
function codes(value: string, all: readonly DiagnosticCode[] = []): readonly DiagnosticCode[] {
  const given = value.split(',').map((each) => each.trim().toUpperCase());
  const unknown = given.find((each) => !Object.hasOwn(catalog, each));
  if (unknown === undefined) return [...all, ...(given as DiagnosticCode[])];
  const nearest = nearestOf([unknown], Object.keys(catalog));
  throw new InvalidArgumentError(
    `There is no diagnostic with this code.${nearest === undefined ? ' docs/diagnostics.md lists them.' : ` Did you mean ${nearest}?`}`,
  );
}

export const ENV_FILES = new Option(
  '-e, --env-file <file>',
  'read variables from a file, or from standard input (-); repeatable, later files win',
).argParser(collect);

export const OUTPUT_FOLDER = new Option('-o, --out <dir>', 'folder to write to; created if it does not exist')
  .argParser(notEmpty)
  .makeOptionMandatory();

export const IMAGE = new Option('--image <image>', 'the APISIX image')
  .argParser(notEmpty)
  .default(APISIX_IMAGE);

/** Options for the output of a command. */
export const outputOptions = (formats: readonly string[] = REPORT_FORMATS) => [
  new Option('--format <format>', 'format of the diagnostics').choices(formats),
  new Option('--no-color', 'print without colours, as with NO_COLOR'),
  new Option('-q, --quiet', 'print only errors'),
];

/** Options of commands that compile settings. */
export const settingsOptions = (formats?: readonly string[]) => [
  ENV_FILES,
  new Option('--strict', 'treat warnings as errors'),
  new Option(
    '--allow <code>',
    'with --strict: code of a diagnostic that stays a warning; repeatable',
  ).argParser(codes),
  ...outputOptions(formats),
  new Option(
    '--templates <dir>',
    'folder with your own .hbs files, each of which replaces the template of the same name',
  ).argParser(notEmpty),
];
