/** Recognises files of other formats that were given as env files. Pure. */
import type { CatalogArgs } from '../diagnostics/catalog.ts';

export type OtherFormat = CatalogArgs<'ENV_FILE_FORMAT'>['format'];

interface Pattern {
  readonly format: OtherFormat;
  /** A line that this format has and an env file has not. */
  readonly sign: RegExp;
  /** Any line of this format. */
  readonly line: RegExp;
}

const POWERSHELL = /^\s*\$env:\w+\s*=/i;
const WINDOWS = /^\s*@?setx?\s+"?[A-Za-z_]\w*(?:=|\s+\S)/i;
const COMPOSE_ITEM = /^\s*-\s*["']?[A-Za-z_]\w*=/;
const YAML_LINE = /^\s*(?:-\s+)?["']?[\w./-]+["']?:(?:\s|$)|^\s*-\s|^---\s*$/;
const TERRAFORM_LINE = /^\s*"?[\w-]+"?\s*=\s|^\s*[}\]]+,?\s*$/;

/** The first match counts: a list in a Compose file is also YAML. */
const PATTERNS: readonly Pattern[] = [
  { format: 'powershell', sign: POWERSHELL, line: POWERSHELL },
  { format: 'windows', sign: WINDOWS, line: WINDOWS },
  { format: 'compose-list', sign: COMPOSE_ITEM, line: YAML_LINE },
  { format: 'compose-list', sign: COMPOSE_ITEM, line: COMPOSE_ITEM },
  { format: 'yaml', sign: /^\s*(?:-\s+)?[\w./-]+:\s*$|^---\s*$|^\s*-\s+\w+:\s/, line: YAML_LINE },
  { format: 'terraform', sign: /^\s*"[\w-]+"\s*=\s|^\s*[\w-]+\s*=\s*[{[]\s*$/, line: TERRAFORM_LINE },
];

/** Comments of env files, Terraform, JSON with comments, and batch files. */
const COMMENT = /^\s*(?:#|\/\/|::|rem\s|@echo\s|$)/i;

/** The share of lines that decides: a file of another format may have a few lines that are not settings. */
const MOST = 0.8;

/** The format of a text that is not an env file; undefined for env files, also those with single wrong lines. */
export function otherFormatOf(text: string): OtherFormat | undefined {
  // A name cannot begin with a brace, and a bracket is followed by a brace, a quote or a line end only in JSON.
  if (/^\s*\{/.test(text)) return 'json-object';
  if (/^\s*\[\s*(?:[{["\]]|$)/.test(text)) return 'json-array';
  const lines = text.split(/\r\n|\n|\r/).filter((line) => !COMMENT.test(line));
  return PATTERNS.find(
    ({ sign, line }) =>
      lines.some((each) => sign.test(each)) &&
      lines.filter((each) => line.test(each)).length >= MOST * lines.length,
  )?.format;
}
