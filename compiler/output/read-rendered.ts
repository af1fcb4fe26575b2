/**
 * Parses the small part of YAML that our templates write: block mappings and sequences whose values are JSON on one
 * line. A full YAML parser would take longer than the rest of a render. Other input goes to the full parser. Tests
 * compare both on every known document.
 */

/** Used only inside this file. */
class NotOurs extends Error {}

interface Line {
  readonly indent: number;
  readonly text: string;
}

/** A plain key that no YAML 1.1 reader parses as a number, a boolean or null. */
const KEY = /^([A-Za-z_][A-Za-z0-9_./-]*):(?: (.*))?$/;
const YAML_WORDS = /^(?:y|n|yes|no|on|off|true|false|null)$/i;

/** Characters and escapes that JSON and YAML 1.1 read differently, and tabs. */
const AMBIGUOUS =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\ufeff]|(?<!\\)(?:\\\\)*\\(?:\/|u[dD][89a-fA-F])/;

/** The parsed document; undefined if a full YAML parser is needed. */
export function readRendered(text: string): { readonly document: unknown } | undefined {
  if (AMBIGUOUS.test(text)) return undefined;
  const lines: Line[] = [];
  for (const line of text.split('\n')) {
    const content = line.trimStart();
    if (content !== '' && !content.startsWith('#'))
      lines.push({ indent: line.length - content.length, text: content });
  }
  try {
    const reader = new Reader(lines);
    const document = reader.block(0);
    return reader.done ? { document } : undefined;
  } catch (error) {
    if (error instanceof NotOurs || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

class Reader {
  readonly #lines: Line[];
  #next = 0;

  constructor(lines: Line[]) {
    this.#lines = lines;
  }

  get done(): boolean {
    return this.#next === this.#lines.length;
  }

  /** Parses the mapping or sequence at exactly this indent. */
  block(indent: number): unknown {
    const line = this.#lines[this.#next];
    if (line?.indent !== indent) throw new NotOurs();
    return line.text.startsWith('- ') ? this.#sequence(indent) : this.#mapping(indent);
  }

  #sequence(indent: number): unknown[] {
    const items: unknown[] = [];
    for (let line = this.#at(indent); line?.text.startsWith('- '); line = this.#at(indent)) {
      const text = line.text.slice(2);
      if (KEY.test(text)) {
        // The item is a mapping that starts on the line of its dash.
        this.#lines[this.#next] = { indent: indent + 2, text };
        items.push(this.#mapping(indent + 2));
      } else {
        this.#next++;
        items.push(JSON.parse(text));
      }
    }
    return items;
  }

  #mapping(indent: number): Record<string, unknown> {
    const mapping: Record<string, unknown> = {};
    for (let line = this.#at(indent); line !== undefined; line = this.#at(indent)) {
      const [, key, value] = KEY.exec(line.text) ?? [];
      if (key === undefined || YAML_WORDS.test(key) || key in mapping) throw new NotOurs();
      this.#next++;
      mapping[key] = value === undefined ? this.#nested(indent) : JSON.parse(value);
    }
    return mapping;
  }

  #nested(indent: number): unknown {
    const line = this.#lines[this.#next];
    // A key without a value is null, which our documents never contain.
    if (line === undefined || line.indent <= indent) throw new NotOurs();
    return this.block(line.indent);
  }

  /** The next line, if it belongs to the block at this indent. A deeper line is an error. */
  #at(indent: number): Line | undefined {
    const line = this.#lines[this.#next];
    if (line !== undefined && line.indent > indent) throw new NotOurs();
    return line?.indent === indent ? line : undefined;
  }
}
