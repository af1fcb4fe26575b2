/**
 * Reads files of values for Terraform's variables (.tfvars). Accepts what Terraform accepts there, except for expressions:
 * only values are read. Pure, except for `readTfvars` and for loading the parser.
 */
import type { Node, Parser } from 'web-tree-sitter';
import { nameWithoutKeys } from '../diagnostics/keys.ts';
import { readText } from '../settings/sources.ts';

/** A value. Numbers keep their text, because Terraform's numbers are larger and more exact than JavaScript's. */
export type TfValue =
  | { readonly kind: 'string'; readonly text: string; readonly line: number }
  | { readonly kind: 'number'; readonly text: string; readonly line: number }
  | { readonly kind: 'bool'; readonly text: 'true' | 'false'; readonly line: number }
  | { readonly kind: 'null'; readonly line: number }
  | { readonly kind: 'list'; readonly items: readonly TfValue[]; readonly line: number }
  | { readonly kind: 'map'; readonly entries: readonly TfEntry[]; readonly line: number };

export interface TfEntry {
  readonly name: string;
  readonly value: TfValue;
  readonly line: number;
}

export interface TfVariable extends TfEntry {
  /** The assignment as written, without its comments around it. */
  readonly source: string;
  /** The comments above, as written: whole lines, empty without comments. */
  readonly comments: string;
  /** An empty line separates it, with its comments, from the assignment before. */
  readonly beginsGroup: boolean;
}

export interface TfProblem {
  readonly line: number;
  readonly message: string;
  /** What to write instead. */
  readonly hint: string;
}

export type TfvarsResult =
  | { readonly variables: readonly TfVariable[]; readonly problems?: undefined }
  | { readonly variables?: undefined; readonly problems: readonly [TfProblem, ...TfProblem[]] };

const MAX_TFVARS_BYTES = 4 * 1024 * 1024;

/** The text of a file, or why it cannot be one of Terraform's. */
export function readTfvarsText(path: string): { readonly text: string } | { readonly reason: string } {
  const content = readText(path, MAX_TFVARS_BYTES);
  if ('reason' in content) return content;
  // A reader that is not told otherwise replaces what is not UTF-8. Terraform refuses it.
  return /[\0\uFFFD]/.test(content.text) ? { reason: 'it is not text in UTF-8' } : content;
}

/**
 * Reads a file into values as JSON has them. A number that JavaScript cannot hold exactly is its text, from which
 * Terraform makes the same number.
 * @returns the reason, with the lines, if the file cannot be read
 */
export async function readTfvars(
  path: string,
): Promise<{ readonly values: Readonly<Record<string, unknown>> } | { readonly reason: string }> {
  const shown = nameWithoutKeys(path);
  const content = readTfvarsText(path);
  if ('reason' in content) return { reason: `${shown} cannot be read: ${content.reason}` };
  const { variables, problems } = await parseTfvars(content.text);
  if (problems) {
    return {
      reason: problems.map(({ line, message, hint }) => `${shown}:${line}: ${message}; ${hint}`).join('\n'),
    };
  }
  return { values: Object.fromEntries(variables.map(({ name, value }) => [name, jsonOf(value)])) };
}

function jsonOf(value: TfValue): unknown {
  switch (value.kind) {
    case 'string':
      return value.text;
    case 'number':
      return String(Number(value.text)) === value.text ? Number(value.text) : value.text;
    case 'bool':
      return value.text === 'true';
    case 'null':
      return null;
    case 'list':
      return value.items.map(jsonOf);
    case 'map':
      return Object.fromEntries(value.entries.map((entry) => [entry.name, jsonOf(entry.value)]));
  }
}

/**
 * Parses a file.
 * @returns the variables in the order of the file, or everything that is wrong with it, in the order of its lines. No
 *   problem has a value of the file.
 */
export async function parseTfvars(text: string): Promise<TfvarsResult> {
  const content = text.replace(/^\uFEFF/, '');
  const scanned = scanLines(content);
  if ('problem' in scanned) return { problems: [scanned.problem] };
  const { hcl } = await import('./libraries.ts');
  const parser = await (await hcl()).hclParser();
  try {
    return new Reader(content, scanned, parser).read();
  } finally {
    parser.delete();
  }
}

/** The innermost brackets that are open at the start of a line, such as `{[`; undefined inside a heredoc or comment. */
type OpenBrackets = string | undefined;

interface Scanned {
  /** By index of the line, one more than there are lines. */
  readonly open: readonly OpenBrackets[];
}

const CLOSING: Readonly<Record<string, string>> = { '{': '}', '[': ']', '(': ')' };

const INTERPOLATION: Pick<TfProblem, 'message' | 'hint'> = {
  message:
    'the value has an interpolation, ${…} or %{…}, which Terraform does not evaluate in a file of values',
  hint: 'write the value itself; for the characters ${ write $${, for %{ write %%{',
};

/**
 * Finds where lines are complete, and what is certainly wrong: the syntax tree of a file with an open quote or bracket
 * does not show where the mistake is.
 */
function scanLines(text: string): Scanned | { readonly problem: TfProblem } {
  const open: OpenBrackets[] = [''];
  let brackets = '';
  const openedAt: number[] = [];
  let line = 1;
  const problem = (at: number, message: string, hint: string) => ({ problem: { line: at, message, hint } });
  const newLine = (inside = false) => {
    open.push(inside ? undefined : brackets);
    line++;
  };
  const token = /\n|#.*|\/\/.*|\/\*|"|<<-?(?=[\p{L}_])|[{}[\]()]|[^\s#/"<{}[\]()]+|[^\S\n]+|./gu;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const [found] = match;
    if (found === '\n') newLine();
    else if (found === '/*') {
      const end = text.indexOf('*/', token.lastIndex);
      if (end === -1) return problem(line, 'the comment has no end', 'close it with */');
      for (const _ of text.slice(token.lastIndex, end).matchAll(/\n/g)) newLine(true);
      token.lastIndex = end + 2;
    } else if (found === '"') {
      const string = /(?:[^"\\\n]|\\[^\n])*(["\n]?)/y;
      string.lastIndex = token.lastIndex;
      const [inside = '', end] = string.exec(text) ?? [];
      if (end !== '"') return problem(line, 'the quote is not closed on its line', 'close it with "');
      if (hasInterpolation(inside)) return { problem: { line, ...INTERPOLATION } };
      token.lastIndex = string.lastIndex;
    } else if (found.startsWith('<<')) {
      const start = /([\p{L}_][\p{L}\p{N}_-]*)\r?\n/uy;
      start.lastIndex = token.lastIndex;
      const [head, marker = ''] = start.exec(text) ?? [];
      if (head === undefined)
        return problem(line, 'the line of << has more than its marker', 'begin the text on the next line');
      const beginning = line;
      let at = token.lastIndex + head.length;
      for (let isOpen = true; isOpen; ) {
        newLine(true);
        const end = text.indexOf('\n', at);
        const content = text.slice(at, end === -1 ? undefined : end);
        isOpen = content.trim() !== marker;
        if (isOpen && end === -1)
          return problem(
            beginning,
            `the text after << has no end`,
            `end it with a line that has only ${marker}`,
          );
        if (isOpen && hasInterpolation(content)) return { problem: { line, ...INTERPOLATION } };
        // The line break after the marker belongs to the assignment.
        at = isOpen || end === -1 ? end + 1 : end;
        if (end === -1) at = text.length;
      }
      token.lastIndex = at;
    } else if (found in CLOSING) {
      brackets += found;
      openedAt.push(line);
    } else if (/^[}\])]$/.test(found)) {
      if (CLOSING[brackets.at(-1) ?? ''] !== found) {
        const expected = CLOSING[brackets.at(-1) ?? ''];
        return expected === undefined
          ? problem(line, `${found} closes nothing`, `remove it, or open it before`)
          : problem(
              line,
              `${found} is where ${expected} is expected: line ${openedAt.at(-1)} opens ${brackets.at(-1)}`,
              'close the brackets in the order in which they are open',
            );
      }
      brackets = brackets.slice(0, -1);
      openedAt.pop();
    }
  }
  if (brackets !== '') {
    return problem(
      openedAt.at(-1) ?? line,
      `${brackets.at(-1)} is not closed`,
      `close it with ${CLOSING[brackets.at(-1) ?? '']}`,
    );
  }
  open.push('');
  return { open };
}

/** Whether a template has `${` or `%{` that is not escaped by doubling its first character. */
const hasInterpolation = (inside: string): boolean => /[$%]\{/.test(inside.replace(/\$\$\{|%%\{/g, ''));

class Reader {
  readonly #text: string;
  readonly #open: Scanned['open'];
  readonly #parser: Parser;
  /** The index at which each line begins. */
  readonly #starts: readonly number[];
  readonly #problems: TfProblem[] = [];

  constructor(text: string, { open }: Scanned, parser: Parser) {
    this.#text = text;
    this.#open = open;
    this.#parser = parser;
    this.#starts = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)];
  }

  read(): TfvarsResult {
    const tree = this.#parse(this.#text);
    try {
      if (tree.rootNode.hasError) {
        return {
          problems: [
            {
              line: this.#lineOfError(),
              message: 'the line is not an assignment that Terraform reads',
              hint: 'write NAME = VALUE, text values in double quotes',
            },
          ],
        };
      }
      const variables = this.#variables(tree.rootNode);
      const [first, ...others] = this.#problems.sort((a, b) => a.line - b.line);
      return first ? { problems: [first, ...others] } : { variables };
    } finally {
      tree.delete();
    }
  }

  #parse(text: string) {
    const tree = this.#parser.parse(text);
    if (tree === null) throw new Error('the parser of HCL gave no tree');
    return tree;
  }

  /** The first line up to which the text has an error even when its open brackets are closed. */
  #lineOfError(): number {
    const lines = this.#starts.length;
    const isBroken = (count: number): boolean => {
      const open = this.#open[count];
      const closing = [...(open ?? '')].reverse().map((each) => CLOSING[each]);
      const tree = this.#parse(`${this.#text.slice(0, this.#starts[count])}${closing.join('')}`);
      const { hasError } = tree.rootNode;
      tree.delete();
      return hasError;
    };
    let [good, bad] = [0, lines];
    while (bad - good > 1) {
      let middle = Math.floor((good + bad) / 2);
      // Within a heredoc or a comment a text cannot be cut.
      while (middle > good && this.#open[middle] === undefined) middle--;
      if (middle === good) {
        middle = Math.floor((good + bad) / 2);
        while (middle < bad && this.#open[middle] === undefined) middle++;
        if (middle === bad) break;
      }
      if (isBroken(middle)) bad = middle;
      else good = middle;
    }
    return good + 1;
  }

  #report(node: Node, message: string, hint: string): void {
    this.#problems.push({ line: lineOf(node), message, hint });
  }

  #variables(root: Node): TfVariable[] {
    const variables: TfVariable[] = [];
    const seen = new Map<string, number>();
    let before: Node | undefined;
    const body = children(root).find(({ type }) => type === 'body');
    if (children(root).some(({ type }) => type === 'object')) {
      this.#report(
        root,
        'the file has the JSON form of values, which is not read',
        'write NAME = VALUE lines',
      );
      return [];
    }
    const comments = [root, ...(body ? [body] : [])].flatMap((each) =>
      children(each).filter(({ type }) => type === 'comment'),
    );
    for (const node of body ? children(body).filter(({ type }) => type !== 'comment') : []) {
      if (before && before.endPosition.row === node.startPosition.row)
        this.#report(node, 'the line has a second assignment', 'write it on a line of its own');
      const [name, sign, expression] = children(node).filter(({ type }) => type !== 'comment');
      if (node.type !== 'attribute' || !name || !sign || !expression) {
        this.#report(node, `${name?.text ?? 'this'} is a block`, `write ${name?.text ?? 'NAME'} = {`);
        before = node;
        continue;
      }
      this.#onOneLine(name, sign, expression);
      const earlier = seen.get(name.text);
      if (earlier !== undefined)
        this.#report(node, `${name.text} is set again: line ${earlier} sets it too`, 'remove one of the two');
      seen.set(name.text, lineOf(node));
      const above = commentsBetween(before, node, comments);
      const firstRow = (above[0] ?? node).startPosition.row;
      variables.push({
        name: name.text,
        value: this.#value(expression),
        line: lineOf(node),
        source: node.text,
        comments: above.map(({ text }) => `${text.replace(/\r?\n?$/, '')}\n`).join(''),
        beginsGroup: before === undefined || firstRow > before.endPosition.row + 1,
      });
      before = node;
    }
    return variables;
  }

  #onOneLine(...nodes: readonly [Node, ...Node[]]): void {
    const [first] = nodes;
    for (const node of nodes) {
      if (node.startPosition.row === first.startPosition.row) continue;
      this.#report(
        first,
        `the value of ${first.text} is not on the line of its name`,
        'write NAME = VALUE on one line',
      );
      return;
    }
  }

  #value(expression: Node): TfValue {
    const line = lineOf(expression);
    const node = inner(expression);
    switch (node.type) {
      case 'string_lit':
        return { kind: 'string', text: unescaped(node.text.slice(1, -1)), line };
      case 'heredoc_template':
        return { kind: 'string', text: heredoc(node.text), line };
      case 'numeric_lit':
        return this.#number(node, '', line);
      case 'bool_lit':
        return { kind: 'bool', text: node.text === 'true' ? 'true' : 'false', line };
      case 'null_lit':
        return { kind: 'null', line };
      case 'tuple':
        return {
          kind: 'list',
          items: children(node)
            .filter(isExpression)
            .map((each) => this.#value(each)),
          line,
        };
      case 'object':
        return { kind: 'map', entries: this.#entries(node), line };
      case 'unary_operation': {
        const [sign, operand] = children(node);
        const number = operand && inner(operand);
        if (sign?.type === '-' && number?.type === 'numeric_lit') return this.#number(number, '-', line);
        break;
      }
    }
    // The text is not shown: it may be a secret without its quotes.
    this.#report(
      node,
      node.type === 'variable_expr' ? 'this is a name, not a value' : 'this is an expression, not a value',
      'write the value itself, text in double quotes',
    );
    return { kind: 'null', line };
  }

  #number(node: Node, sign: '' | '-', line: number): TfValue {
    const text = decimal(node.text);
    if (text === undefined)
      this.#report(node, 'this is not a number that Terraform reads', 'write digits, such as 10 or 0.5');
    return { kind: 'number', text: `${text === '0' ? '' : sign}${text ?? '0'}`, line };
  }

  #entries(object: Node): TfEntry[] {
    const entries: TfEntry[] = [];
    let before: Node | undefined;
    for (const node of children(object)) {
      if (node.type === ',') {
        before = undefined;
        continue;
      }
      if (node.type !== 'object_elem') continue;
      if (before && before.endPosition.row === node.startPosition.row)
        this.#report(
          node,
          'two entries are on one line',
          'write a comma between them, or each on its own line',
        );
      before = node;
      const [key, sign, value] = children(node).filter(({ type }) => type !== 'comment');
      if (!key || !sign || !value) continue;
      this.#onOneLine(key, sign, value);
      const name = this.#key(key);
      if (name !== undefined) entries.push({ name, value: this.#value(value), line: lineOf(node) });
    }
    return entries;
  }

  /** A key is a name or a text. In parentheses a name would be a reference to a variable. */
  #key(key: Node): string | undefined {
    const node = inner(key);
    const isBare = node.text === key.text;
    if (node.type === 'variable_expr' && isBare) return node.text;
    if (node.type === 'string_lit') return unescaped(node.text.slice(1, -1));
    if (node.type === 'numeric_lit') return decimal(node.text);
    if (node.type === 'bool_lit' || node.type === 'null_lit') return node.text;
    this.#report(key, 'the name of this entry is an expression', 'write the name itself');
    return undefined;
  }
}

/** The comments between two assignments that have lines of their own. */
function commentsBetween(before: Node | undefined, node: Node, comments: readonly Node[]): Node[] {
  const from = before ? before.endPosition.row + 1 : 0;
  return comments
    .filter(
      ({ startPosition, endPosition }) =>
        startPosition.row >= from && endPosition.row < node.startPosition.row,
    )
    .sort((a, b) => a.startIndex - b.startIndex);
}

const lineOf = (node: Node): number => node.startPosition.row + 1;

const children = (node: Node): Node[] => node.children.filter((each) => each !== null);

const isExpression = ({ type }: Node): boolean => type === 'expression';

const WRAPPERS = new Set(['expression', 'literal_value', 'template_expr', 'collection_value', 'operation']);

/** The node inside of nodes that only wrap one other, and of parentheses. */
function inner(node: Node): Node {
  if (!WRAPPERS.has(node.type)) return node;
  const inside = children(node).filter(({ type }) => type !== '(' && type !== ')' && type !== 'comment');
  return inside.length === 1 && inside[0] ? inner(inside[0]) : node;
}

const ESCAPE = /\\(?:([nrt"\\])|u([0-9a-f]{4})|U([0-9a-f]{8}))|\$\$\{|%%\{/gi;
const ESCAPED: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\' };

/** The text that stands between quotes. */
const unescaped = (inside: string): string =>
  inside.replace(ESCAPE, (all, letter?: string, short?: string, long?: string) => {
    if (letter !== undefined) return ESCAPED[letter] ?? all;
    const code = Number.parseInt(short ?? long ?? '', 16);
    if (!Number.isNaN(code)) return code <= 0x10_ff_ff ? String.fromCodePoint(code) : '\uFFFD';
    return all.slice(1);
  });

/** The text of `<<MARKER … MARKER`. With `<<-` the common indentation of its lines is not part of it. */
function heredoc(source: string): string {
  const lines = source.split('\n').slice(1, -1);
  const isIndented = source.startsWith('<<-');
  const indents = lines
    .filter((line) => line.trim() !== '')
    .map((line) => /^[ \t]*/.exec(line)?.[0].length ?? 0);
  const indent = isIndented ? Math.min(...indents, Number.POSITIVE_INFINITY) : 0;
  return lines
    .map((line) => line.slice(Math.min(indent, line.length)))
    .map((line) => `${line.replace(/\$\$\{|%%\{/g, (escaped) => escaped.slice(1))}\n`)
    .join('');
}

/** A number as Terraform makes text of it: without leading and trailing zeros. Undefined for other forms. */
function decimal(text: string): string | undefined {
  const [, whole, fraction = ''] = /^(\d+)(?:\.(\d+))?$/.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const rest = fraction.replace(/0+$/, '');
  return `${whole.replace(/^0+(?=\d)/, '')}${rest === '' ? '' : `.${rest}`}`;
}
