/**
 * Reads what our own templates write, which is a small part of YAML: block mappings and sequences whose values are
 * JSON on one line. Reading them with a full YAML parser would take longer than all the rest of a render; the tests
 * hold this reader against one on every document they know. Whatever it does not take goes to the full parser.
 */

/** Thrown and caught in here only. */
class NotOurs extends Error {}

interface Line {
  readonly indent: number;
  readonly text: string;
}

/** A plain key that no YAML 1.1 reader takes for a number, a boolean or null. */
const KEY = /^([A-Za-z_][A-Za-z0-9_./-]*):(?: (.*))?$/;
const YAML_WORDS = /^(?:y|n|yes|no|on|off|true|false|null)$/i;

/** Characters and escapes that JSON and YAML 1.1 read differently, and tabs. */
const AMBIGUOUS =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\ufeff]|(?<!\\)(?:\\\\)*\\(?:\/|u[dD][89a-fA-F])/;

/** The document, or undefined where a full YAML parser has to say what it is. */
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

  /** The mapping or sequence whose lines stand at exactly this indent. */
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
        // The item is a mapping that begins on the line of its dash.
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
    // A key with nothing below it is null, which no document of ours holds.
    if (line === undefined || line.indent <= indent) throw new NotOurs();
    return this.block(line.indent);
  }

  /** The next line where it belongs to the block at this indent; a deeper one belongs to none. */
  #at(indent: number): Line | undefined {
    const line = this.#lines[this.#next];
    if (line !== undefined && line.indent > indent) throw new NotOurs();
    return line?.indent === indent ? line : undefined;
  }
}
