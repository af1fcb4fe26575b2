/**
 * Generates a short text that matches a regular expression, with literals, classes, groups, alternatives, quantifiers
 * and anchors, as schemas use them. A result that does not match is discarded.
 */

/** Most repetitions of an unbounded quantifier, if the text must be longer. */
const MAX_REPEATS = 64;

const CLASSES: Readonly<Record<string, string>> = { d: '0', w: 'a', s: ' ', D: 'a', W: '-', S: 'a' };
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', f: '\f', v: '\v', '0': '\0' };
/** For negated classes: one of these characters is not excluded. */
const CANDIDATES = [...'a0A_- .,;:/#@!~"\'', 'é'];

/** A text of at least `minLength` characters; undefined if none is found. */
export function textMatching(pattern: string, minLength = 0): string | undefined {
  let expression: RegExp;
  try {
    expression = new RegExp(pattern, 'u');
  } catch {
    return undefined;
  }
  for (let repeats = 0; repeats <= MAX_REPEATS; repeats++) {
    const text = new Writer(pattern, repeats).write();
    if (text === undefined) return undefined;
    if (expression.test(text) && [...text].length >= minLength) return text;
    if (expression.test('x'.repeat(minLength))) return 'x'.repeat(minLength);
  }
  return undefined;
}

/** Parses a pattern in one pass from left to right. */
class Writer {
  readonly #pattern: readonly string[];
  readonly #repeats: number;
  #at = 0;

  constructor(pattern: string, repeats: number) {
    this.#pattern = [...pattern];
    this.#repeats = repeats;
  }

  write(): string | undefined {
    const text = this.#alternatives();
    return this.#at === this.#pattern.length ? text : undefined;
  }

  #takes(expected: string): boolean {
    if (this.#pattern[this.#at] !== expected) return false;
    this.#at++;
    return true;
  }

  /** The first character of the class. */
  #alternatives(): string {
    const first = this.#sequence();
    while (this.#takes('|')) this.#sequence();
    return first;
  }

  #sequence(): string {
    let text = '';
    for (;;) {
      const next = this.#pattern[this.#at];
      if (next === undefined || next === '|' || next === ')') return text;
      const atom = this.#atom();
      text += atom.repeat(this.#times());
    }
  }

  #atom(): string {
    const next = this.#pattern[this.#at++] ?? '';
    if (next === '^' || next === '$') return '';
    if (next === '.') return 'a';
    if (next === '[') return this.#class();
    if (next === '\\') return this.#escaped();
    if (next !== '(') return next;
    let inside = true;
    if (this.#takes('?')) {
      // A look-around generates no text; the final match checks it.
      if (this.#takes('=') || this.#takes('!')) inside = false;
      else if (this.#takes('<')) {
        if (this.#takes('=') || this.#takes('!')) inside = false;
        else while (this.#at < this.#pattern.length && !this.#takes('>')) this.#at++;
      } else this.#takes(':');
    }
    const text = this.#alternatives();
    this.#takes(')');
    return inside ? text : '';
  }

  #escaped(): string {
    const next = this.#pattern[this.#at++] ?? '';
    if (next === 'b' || next === 'B') return '';
    if (next === 'u' || next === 'x') return this.#codePoint(next);
    return CLASSES[next] ?? ESCAPES[next] ?? next;
  }

  #codePoint(kind: 'u' | 'x'): string {
    const rest = this.#pattern.slice(this.#at).join('');
    const [whole = '', braced, plain] =
      (kind === 'u' ? /^(?:\{([0-9a-f]+)\}|([0-9a-f]{4}))/i : /^(?:(?!)()|([0-9a-f]{2}))/i).exec(rest) ?? [];
    this.#at += whole.length;
    return String.fromCodePoint(Number.parseInt(braced ?? plain ?? '78', 16));
  }

  #class(): string {
    const begin = this.#at - 1;
    const excludes = this.#takes('^');
    let first: string | undefined;
    while (this.#at < this.#pattern.length && !this.#takes(']')) {
      const next = this.#pattern[this.#at++] ?? '';
      const written = next === '\\' ? this.#escaped() : next;
      first ??= written;
    }
    if (!excludes) return first ?? '';
    const inClass = new RegExp(this.#pattern.slice(begin, this.#at).join(''), 'u');
    return CANDIDATES.find((each) => inClass.test(each)) ?? '';
  }

  #times(): number {
    const counted = /^\{(\d+)(,?)(\d*)\}/.exec(this.#pattern.slice(this.#at, this.#at + 16).join(''));
    let times = 1;
    if (this.#takes('?')) times = Math.min(1, this.#repeats);
    else if (this.#takes('*')) times = this.#repeats;
    else if (this.#takes('+')) times = Math.max(1, this.#repeats);
    else if (counted) {
      const [whole, least, open, most] = counted;
      this.#at += whole.length;
      const upTo = open === '' ? Number(least) : most === '' ? Number.POSITIVE_INFINITY : Number(most);
      times = Math.min(upTo, Math.max(Number(least), this.#repeats));
    } else return 1;
    this.#takes('?');
    return times;
  }
}
