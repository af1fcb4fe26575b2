import { inspect } from 'node:util';

/**
 * A sensitive value that cannot be printed by accident: every conversion to text gives `[redacted]`.
 * Only `reveal()` returns it: for the emitter in inline mode, and for the rules that compare keys.
 */
export class Secret {
  /** The name of its setting. */
  readonly variable: string;
  /** The path of the file that contains it; undefined if the variable itself does. */
  readonly file: string | undefined;
  readonly #value: string;

  constructor(variable: string, value: string, file?: string) {
    this.variable = variable;
    this.file = file;
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  get length(): number {
    return this.#value.length;
  }

  toString(): string {
    return '[redacted]';
  }

  toJSON(): string {
    return '[redacted]';
  }

  [inspect.custom](): string {
    return '[redacted]';
  }
}
