/** Documents as trees for comparing and showing. Secrets are separate leaves, recognised by their place. Pure. */
import type { DocumentName } from '../emit/emit.ts';

export type Scalar = string | number | boolean | null;

/** A mapping is a Map, because a file can have a key `__proto__`. */
export type Tree = Scalar | SecretLeaf | readonly Tree[] | ReadonlyMap<string, Tree>;

/** A secret in a document: a reference, which may be shown, or the value, which must not. */
export class SecretLeaf {
  readonly reference: string | undefined;
  readonly #value: Scalar | undefined;

  constructor(reference: string | undefined, value: Scalar | undefined) {
    this.reference = reference;
    this.#value = value;
  }

  /** Whether the values are known and different. */
  hasOtherValue(other: SecretLeaf): boolean {
    return this.#value !== undefined && other.#value !== undefined && this.#value !== other.#value;
  }

  /** Returns the secret, for comparing and masking. Do not show it. */
  reveal(): Scalar | undefined {
    return this.#value;
  }

  toJSON(): string {
    return this.reference ?? '[redacted]';
  }
}

export const isMapping = (tree: Tree | undefined): tree is ReadonlyMap<string, Tree> => tree instanceof Map;
export const isList = (tree: Tree | undefined): tree is readonly Tree[] => Array.isArray(tree);
export const isLeaf = (tree: Tree | undefined): tree is Scalar | SecretLeaf =>
  tree !== undefined && !isMapping(tree) && !isList(tree);

/** A text that is equal exactly for equal trees; secrets are compared by reference. It contains secrets. */
export function identity(tree: Tree | undefined): string {
  if (tree instanceof SecretLeaf)
    return tree.reference === undefined
      ? `secret ${identity(tree.reveal())}`
      : `reference ${JSON.stringify(tree.reference)}`;
  if (isMapping(tree)) {
    const entries = [...tree].map(([key, value]) => `${JSON.stringify(key)}:${identity(value)}`);
    return `{${entries.sort().join(',')}}`;
  }
  if (isList(tree)) return `[${tree.map(identity).join(',')}]`;
  return typeof tree === 'number' ? `number ${tree}` : (JSON.stringify(tree) ?? 'nothing');
}

/** A document as written, with every secret inline, and with every secret as a reference. */
export interface Readings {
  readonly written: unknown;
  readonly inline?: unknown;
  readonly reference?: unknown;
}

/** More than any real document has, and less than would overflow the stack. */
const MAX_DEPTH = 200;

/** Thrown for a document that is nested too deeply. */
export class TooDeep extends Error {}

/** @throws TooDeep */
export function treeOf(document: DocumentName, readings: Readings): Tree {
  return build(document, readings, []);
}

function build(document: DocumentName, readings: Readings, path: readonly string[]): Tree {
  if (path.length > MAX_DEPTH) throw new TooDeep();
  const written = untagged(readings.written);
  const within = (key: string | number, value: unknown) =>
    build(
      document,
      { written: value, inline: child(readings.inline, key), reference: child(readings.reference, key) },
      [...path, typeof key === 'number' ? `[${key}]` : key],
    );
  if (Array.isArray(written)) return written.map((each, index) => within(index, each));
  if (typeof written === 'object' && written !== null)
    return new Map(Object.entries(written).map(([key, value]) => [key, within(key, value)]));
  return leaf(document, written as Scalar, readings, path);
}

const child = (parent: unknown, key: string | number): unknown =>
  typeof parent === 'object' && parent !== null && Object.hasOwn(parent, key)
    ? (parent as Record<string | number, unknown>)[key]
    : undefined;

/** Converts YAML 1.1 values that JSON lacks, which foreign files can contain. */
function untagged(value: unknown): unknown {
  if (value instanceof Date)
    return { '!!timestamp': Number.isNaN(value.valueOf()) ? '' : value.toISOString() };
  if (value instanceof Uint8Array) return { '!!binary': Buffer.from(value).toString('base64') };
  if (value instanceof Set) return { '!!set': [...value] };
  if (value instanceof Map) return { '!!omap': [...value].map((pair) => [...pair]) };
  return value === undefined ? null : value;
}

function leaf(
  document: DocumentName,
  written: Scalar,
  { inline, reference }: Readings,
  path: readonly string[],
): Scalar | SecretLeaf {
  const isScalar = (value: unknown): value is Scalar => typeof value !== 'object' && value !== undefined;
  if (isReference(written))
    return new SecretLeaf(written, isScalar(inline) && inline !== written ? inline : undefined);
  const differs = isScalar(inline) && isScalar(reference) && inline !== reference;
  return differs || isSecretPlace(document, path, written) ? new SecretLeaf(undefined, written) : written;
}

/** References that APISIX and the collector replace by the secret at run time. */
const REFERENCE = /^\$(?:env|secret):\/\/[\w./-]{1,300}$|^\$\{(?:env|file):[\w./-]{1,300}\}$/i;
const isReference = (value: Scalar): value is string => typeof value === 'string' && REFERENCE.test(value);

/** Keys whose values are treated as secrets in any file. Hiding too much does no harm. */
const SECRET_NAME =
  /pass(?:word|wd|phrase)|secret|token$|authorization|cookie$|api-?key|[-_]key(?:s|_id)?$|keyring|connection_?string|_snippet$/i;

/** A header of exporters that contains no credential. */
const HARMLESS_HEADER = 'X-Scope-OrgID';

function isSecretPlace(document: DocumentName, path: readonly string[], value: Scalar): boolean {
  // `secrets[]` holds configurations of secret managers; their sensitive fields have names of their own.
  const names = document === 'apisix.yaml' && path[0] === 'secrets' ? path.slice(1) : path;
  if (names.some((name) => SECRET_NAME.test(name))) return true;
  switch (document) {
    case 'apisix.yaml':
      return (
        names.includes('auth') ||
        ((names[0] === 'clients' || names[0] === 'consumers') && names.at(-1) === 'key')
      );
    case 'config.yaml':
      return names.includes('envs') && String(value).includes('=');
    case 'otel-collector.yaml':
      return names.includes('headers') && names.at(-1) !== HARMLESS_HEADER;
  }
}

/** All known secrets of several trees, for masking them in output. */
export class KnownSecrets {
  /** Indexed by their first characters, so that a text is searched only once. */
  readonly #byHead = new Map<string, string[]>();

  /** Shorter secrets could be ordinary words, and are not masked. */
  static readonly HEAD = 8;

  constructor(...trees: readonly Tree[]) {
    for (const tree of trees) this.#collect(tree);
  }

  #collect(tree: Tree): void {
    if (isMapping(tree)) for (const value of tree.values()) this.#collect(value);
    else if (isList(tree)) for (const value of tree) this.#collect(value);
    else if (tree instanceof SecretLeaf) this.#add(tree.reveal());
  }

  #add(given: Scalar | undefined): void {
    const value = String(given ?? '');
    if (value.length < KnownSecrets.HEAD) return;
    const head = value.slice(0, KnownSecrets.HEAD);
    const others = this.#byHead.get(head);
    if (!others) this.#byHead.set(head, [value]);
    else if (!others.includes(value)) others.push(value);
  }

  /** Masks all secrets in a text. */
  mask(text: string): string {
    let masked = '';
    let done = 0;
    for (let at = 0; at + KnownSecrets.HEAD <= text.length; at++) {
      const found = this.#byHead
        .get(text.slice(at, at + KnownSecrets.HEAD))
        ?.filter((secret) => text.startsWith(secret, at))
        .reduce((longest, secret) => Math.max(longest, secret.length), 0);
      if (!found) continue;
      masked += `${text.slice(done, at)}[redacted]`;
      done = at + found;
      at = done - 1;
    }
    return masked + text.slice(done);
  }
}
