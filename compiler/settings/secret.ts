import { inspect } from 'node:util';

/** How a secret reached us; decides how APISIX can be told to find it again. */
export type SecretOrigin = 'variable' | 'file';

/**
 * A sensitive value that cannot be printed by accident: every conversion to text gives `[redacted]`.
 * Only `reveal()` hands it out: to the emitter in inline mode, and to the rules that compare keys.
 */
export class Secret {
  readonly variable: string;
  readonly origin: SecretOrigin;
  readonly #value: string;

  constructor(variable: string, value: string, origin: SecretOrigin) {
    this.variable = variable;
    this.origin = origin;
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
