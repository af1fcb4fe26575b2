/** Writes values into documents: as JSON that every YAML 1.1 reader parses to the same value. */
import { ModelSecret } from '../model/secret.ts';

/** Converts texts and secrets for one reader, before they are quoted. */
export interface Encoding {
  /** Escapes text that the reader of the document would expand. */
  text(value: string): string;
  /** The reference or value of a secret. The result is not escaped again. */
  secret(secret: ModelSecret): string;
}

/**
 * Writes a value as YAML 1.1-safe JSON on one line: every string quoted, line separators and control characters
 * escaped, characters outside the BMP unescaped, numbers without exponents.
 * @throws TypeError for a value that a document cannot contain: undefined, null, functions, non-finite numbers
 */
export function toJson(value: unknown, encoding: Encoding): string {
  if (typeof value === 'string') return quote(encoding.text(value));
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return plainNumber(value);
  if (value instanceof ModelSecret) return quote(encoding.secret(value));
  if (Array.isArray(value)) return `[${value.map((each) => toJson(each, encoding)).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(
      ([key, each]) => `${quote(encoding.text(key))}: ${toJson(each, encoding)}`,
    );
    return `{${entries.join(', ')}}`;
  }
  throw new TypeError(`there is no value here${value === undefined ? '' : `, but ${String(value)}`}`);
}

/** JSON leaves these characters unescaped, but YAML 1.1 treats them as line breaks or rejects them. */
const UNSAFE = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]/gu;

function quote(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    UNSAFE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** YAML 1.1 readers disagree on exponents without a dot, so exponents are not used. */
function plainNumber(value: number): string {
  if (!Number.isFinite(value)) throw new TypeError(`there is no number here, but ${value}`);
  const text = String(value);
  return text.includes('e') ? value.toFixed(18).replace(/\.?0+$/, '') : text;
}
