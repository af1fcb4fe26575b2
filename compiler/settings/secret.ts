import { inspect } from 'node:util';

/**
 * A sensitive value that cannot be printed by accident: every conversion to text gives `[redacted]`.
 * Only `reveal()` hands it out: to the emitter in inline mode, and to the rules that compare keys.
 */
export class Secret {
  /** The setting that it is of. */
  readonly variable: string;
  /** The path of the file that holds it; undefined: the variable itself does. */
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
