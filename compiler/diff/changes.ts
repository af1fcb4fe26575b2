/** The changes between two sets of documents, object by object. Pure. */
import { withoutCredentials } from '../diagnostics/keys.ts';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { readDocument } from '../output/check.ts';
import { Secret } from '../settings/secret.ts';
import { asSecret, type Difference, differences } from './compare.ts';
import { objectAt } from './objects.ts';
import {
  identity,
  isList,
  isMapping,
  KnownSecrets,
  type Scalar,
  SecretLeaf,
  TooDeep,
  type Tree,
  treeOf,
} from './tree.ts';

/**
 * When a change takes effect: APISIX reads apisix.yaml while it runs, but config.yaml and its environment only when it
 * starts.
 */
export type Effect = 'at once' | 'next start' | 'next start of the collector';

export interface Change {
  /** The kind of object: `backend`, `client`, `setting of the gateway`. */
  readonly object: string;
  readonly name?: string;
  readonly kind: 'added' | 'removed' | 'changed' | 'order' | 'renamed';
  /** Absent: the object itself has changed, not one of its fields. */
  readonly field?: string;
  /** The field is a set, and the change is of one of its items. */
  readonly item?: true;
  /** The value is a secret: only the names of references are shown. */
  readonly secret?: true;
  /** Without secrets. */
  readonly before?: Shown;
  readonly after?: Shown;
  /** The document; `environment` for variables that the gateway reads at run time. */
  readonly document: DocumentName | 'environment';
  /** JSON pointer, with names instead of indexes for list items. */
  readonly path: string;
  readonly effect: Effect;
}

/** A JSON value without secrets. */
export type Shown = string | number | boolean | null | readonly Shown[] | { readonly [key: string]: Shown };

export type SomeDocuments = Partial<Documents>;

/**
 * The same documents with every secret inline, and with every secret as a reference: comparing them shows where secrets
 * are.
 */
export interface Renderings {
  readonly inline: Documents | undefined;
  readonly reference: Documents | undefined;
}

/** A set of documents; `renderings` if they were compiled from settings. */
export interface DocumentSet {
  readonly documents: SomeDocuments;
  readonly renderings?: Renderings | undefined;
  /** Variables that the gateway reads at run time and that no document contains; compared if both sides have them. */
  readonly runTime?: ReadonlyMap<string, Scalar | Secret>;
}

/** Thrown for a document that cannot be read: its name and the reason. */
export class NotADocument extends Error {
  readonly document: DocumentName;

  constructor(document: DocumentName, reason: string) {
    super(reason);
    this.document = document;
  }
}

/** The order of changes in the output. */
const DOCUMENT_ORDER: readonly DocumentName[] = ['apisix.yaml', 'config.yaml', 'otel-collector.yaml'];

/**
 * The changes from one set of documents to the other; empty exactly if nothing differs. Comments, and the order of
 * lists whose order has no meaning, are ignored. A document that neither side has is not compared.
 * @throws NotADocument
 */
export async function changesBetween(
  before: SomeDocuments | DocumentSet,
  after: SomeDocuments | DocumentSet,
): Promise<readonly Change[]> {
  return (await comparisonOf(before, after)).changes;
}

/** The changes, and the documents that were compared. */
export interface Comparison {
  readonly changes: readonly Change[];
  /** apisix.yaml of both sides, if both have it. */
  readonly apisix?: { readonly before: Tree; readonly after: Tree };
  /** Hides every secret of both sides in a text. */
  mask(text: string): string;
}

/** @throws NotADocument */
export async function comparisonOf(
  before: SomeDocuments | DocumentSet,
  after: SomeDocuments | DocumentSet,
): Promise<Comparison> {
  const [old, current] = [asDocumentSet(before), asDocumentSet(after)];
  const [oldTrees, trees] = await Promise.all([treesOf(old), treesOf(current)]);
  const secrets = new KnownSecrets(...oldTrees.values(), ...trees.values());
  const builder = new ChangeBuilder(secrets, references(oldTrees.get('apisix.yaml')));
  const changes = [
    ...DOCUMENT_ORDER.flatMap((document) =>
      builder.changes(document, oldTrees.get(document), trees.get(document)),
    ),
    ...(old.runTime && current.runTime ? runTimeChanges(old.runTime, current.runTime, secrets) : []),
  ];
  const [was, is] = [oldTrees.get('apisix.yaml'), trees.get('apisix.yaml')];
  return {
    changes,
    ...(was !== undefined && is !== undefined ? { apisix: { before: was, after: is } } : {}),
    mask: (text) => shownText(text, secrets),
  };
}

function runTimeChanges(
  before: ReadonlyMap<string, Scalar | Secret>,
  after: ReadonlyMap<string, Scalar | Secret>,
  secrets: KnownSecrets,
): Change[] {
  const plain = (value: Scalar | Secret | undefined) => (value instanceof Secret ? value.reveal() : value);
  const shown = (key: 'before' | 'after', value: Scalar | Secret | undefined) =>
    value === undefined || value instanceof Secret ? {} : { [key]: shownText(String(value), secrets) };
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((name): Change[] => {
    const [old, current] = [before.get(name), after.get(name)];
    if (plain(old) === plain(current)) return [];
    return [
      {
        object: 'run-time variable',
        name,
        kind: old === undefined ? 'added' : current === undefined ? 'removed' : 'changed',
        field: 'value',
        ...(old instanceof Secret || current instanceof Secret ? { secret: true as const } : {}),
        ...shown('before', old),
        ...shown('after', current),
        document: 'environment',
        path: `/${name}`,
        effect: 'next start',
      },
    ];
  });
}

const asDocumentSet = (given: SomeDocuments | DocumentSet): DocumentSet =>
  'documents' in given ? given : { documents: given as SomeDocuments };

async function treesOf({ documents, renderings }: DocumentSet): Promise<ReadonlyMap<DocumentName, Tree>> {
  const trees = new Map<DocumentName, Tree>();
  for (const name of DOCUMENT_NAMES) {
    const text = documents[name];
    if (text === undefined) continue;
    const written = await readDocument(name, text);
    if ('reason' in written) throw new NotADocument(name, unreadable(written.reason));
    const read = async (other: Documents | undefined): Promise<unknown> => {
      if (other?.[name] === text) return written.document;
      const parsed = other && (await readDocument(name, other[name]));
      return parsed && 'document' in parsed ? parsed.document : undefined;
    };
    try {
      trees.set(
        name,
        treeOf(name, {
          written: written.document,
          inline: await read(renderings?.inline),
          reference: await read(renderings?.reference),
        }),
      );
    } catch (error) {
      if (!(error instanceof TooDeep)) throw error;
      throw new NotADocument(name, 'it is nested too deeply');
    }
  }
  return trees;
}

/** The parser's message without the quoted text, which may be a secret. */
const unreadable = (reason: string): string => {
  const [line] = /^line \d+/.exec(reason) ?? [];
  return line === undefined ? 'it is not YAML' : `${line} is not YAML, or repeats a key`;
};

/** The references to environment variables of APISIX in a tree, with their values if known. */
function references(
  tree: Tree | undefined,
  found = new Map<string, SecretLeaf>(),
): ReadonlyMap<string, SecretLeaf> {
  if (isMapping(tree)) for (const each of tree.values()) references(each, found);
  else if (isList(tree)) for (const each of tree) references(each, found);
  else if (tree instanceof SecretLeaf && tree.reference && /^\$env:/i.test(tree.reference))
    found.set(tree.reference, tree);
  return found;
}

const pointer = (path: readonly string[]): string =>
  path.map((key) => `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');

/** Longer texts are cut. */
const MAX_SHOWN = 1_000;

class ChangeBuilder {
  readonly #secrets: KnownSecrets;
  readonly #environment: ReadonlyMap<string, SecretLeaf>;

  /** @param environment the references with which the running APISIX was started */
  constructor(secrets: KnownSecrets, environment: ReadonlyMap<string, SecretLeaf>) {
    this.#secrets = secrets;
    this.#environment = environment;
  }

  changes(document: DocumentName, before: Tree | undefined, after: Tree | undefined): Change[] {
    if (before === undefined || after === undefined) {
      if (before === after) return [];
      const kind = before === undefined ? 'added' : 'removed';
      return [{ object: 'file', name: document, kind, document, path: '', effect: this.#effect(document) }];
    }
    const found = differences(document, before, after);
    const { renames, others } = renamed(document, found);
    const whole = wholeObjects(document, others);
    return grouped([
      ...renames.map(({ from, to }) => ({
        ...this.#change(document, to),
        name: this.#secrets.mask(objectAt(document, from.path).name ?? ''),
        kind: 'renamed' as const,
        after: this.#secrets.mask(objectAt(document, to.path).name ?? ''),
      })),
      ...others.flatMap((each) => partsOf(document, each, whole)).map((each) => this.#change(document, each)),
    ]);
  }

  #change(document: DocumentName, { path, kind, before, after, ofSet }: Difference): Change {
    const { object, name, field } = objectAt(document, path);
    const at = {
      object,
      ...(name === undefined ? {} : { name: this.#secrets.mask(name) }),
      kind,
      ...(field === '' ? {} : { field: this.#secrets.mask(field) }),
      ...(ofSet ? { item: ofSet } : {}),
    };
    const where = { document, path: this.#secrets.mask(pointer(path)) };
    if ([before, after].some((each) => each instanceof SecretLeaf)) {
      const [old, current] = [before, after].map((each) => (each === undefined ? undefined : asSecret(each)));
      const otherReference = old?.reference !== current?.reference;
      return {
        ...at,
        secret: true,
        ...(otherReference && old ? { before: shownSecret(old) } : {}),
        ...(otherReference && current ? { after: shownSecret(current) } : {}),
        ...where,
        effect: this.#effect(document, after),
      };
    }
    const [old, current] = [before, after].map((each) =>
      each === undefined ? undefined : this.#shown(each),
    );
    // If only hidden parts differ, both values look the same, so none is shown.
    const alike =
      kind === 'changed' && JSON.stringify(old) === JSON.stringify(current) && typeof old !== 'number';
    return {
      ...at,
      ...(old === undefined || alike ? {} : { before: old }),
      ...(current === undefined || alike ? {} : { after: current }),
      ...where,
      effect: this.#effect(document, after),
    };
  }

  #effect(document: DocumentName, after?: Tree): Effect {
    if (document === 'otel-collector.yaml') return 'next start of the collector';
    // A running process keeps the environment with which it was started.
    const needsEnvironment = [...references(after)].some(([reference, current]) => {
      const old = this.#environment.get(reference);
      return old === undefined || old.hasOtherValue(current);
    });
    return document === 'config.yaml' || needsEnvironment ? 'next start' : 'at once';
  }

  #shown(tree: Tree): Shown {
    if (tree instanceof SecretLeaf) return shownSecret(tree);
    if (isMapping(tree))
      return Object.fromEntries(
        [...tree].map(([key, value]) => [this.#secrets.mask(key), this.#shown(value)]),
      );
    if (isList(tree)) return tree.map((each) => this.#shown(each));
    if (typeof tree === 'string') return shownText(tree, this.#secrets);
    return typeof tree === 'number' && !Number.isFinite(tree) ? String(tree) : tree;
  }
}

function shownText(text: string, secrets: KnownSecrets): string {
  const masked = secrets.mask(text);
  return withoutCredentials(masked.length > MAX_SHOWN ? `${masked.slice(0, MAX_SHOWN)}…` : masked);
}

const shownSecret = ({ reference }: SecretLeaf): string => reference ?? '[redacted]';

/** Objects that only one side has: their other parts are not listed separately. */
function wholeObjects(document: DocumentName, found: readonly Difference[]): ReadonlySet<string> {
  return new Set(
    found.flatMap((each) => {
      const { object, name, field, part } = objectAt(document, each.path);
      return field === '' && !part && each.kind !== 'changed' && each.kind !== 'order'
        ? [`${each.kind} ${object} ${name}`]
        : [];
    }),
  );
}

/** Parts of an added or removed object are omitted; other parts are listed field by field. */
function partsOf(document: DocumentName, each: Difference, whole: ReadonlySet<string>): Difference[] {
  const { object, name, field, part } = objectAt(document, each.path);
  if (!part) return [each];
  if (whole.has(`${each.kind} ${object} ${name}`)) return [];
  const [before, after] = [each.before, each.after];
  const there = before ?? after;
  if (field !== '' || !isMapping(there) || (before !== undefined && after !== undefined)) return [each];
  const entries = [...there].filter(([key]) => key !== 'name');
  // A backend without details is still a difference.
  if (entries.length === 0) return [{ ...each, path: [...each.path, 'details'] }];
  return entries.map(([key, value]) => ({
    path: [...each.path, key],
    kind: each.kind,
    ...(before === undefined ? { after: value } : { before: value }),
  }));
}

interface Rename {
  readonly from: Difference;
  readonly to: Difference;
}

/** Backends and clients that differ only in their name. Their details and second keys are renamed with them. */
function renamed(
  document: DocumentName,
  found: readonly Difference[],
): { renames: readonly Rename[]; others: readonly Difference[] } {
  const objects = new Map<
    string,
    { kind: Difference['kind']; whole?: Difference; contents: string[]; secrets: SecretLeaf[] }
  >();
  const keyOf = ({ kind, path }: Difference) => {
    const { object, name } = objectAt(document, path);
    return `${kind} ${object} ${name}`;
  };
  for (const each of found) {
    const { object, field, part } = objectAt(document, each.path);
    if (object !== 'backend' && object !== 'client') continue;
    if (each.kind !== 'added' && each.kind !== 'removed') continue;
    const key = keyOf(each);
    const known = objects.get(key) ?? { kind: each.kind, contents: [object], secrets: [] };
    if (field === '' && !part) known.whole = each;
    known.contents.push(`${field} ${anonymous(each.before ?? each.after)}`);
    known.secrets.push(...secretsOf(each.before ?? each.after));
    objects.set(key, known);
  }
  type Whole = { readonly each: Difference; readonly secrets: readonly SecretLeaf[] };
  const byContents = new Map<string, { added: Whole[]; removed: Whole[] }>();
  for (const { kind, whole, contents, secrets } of objects.values()) {
    if (!whole) continue;
    const key = contents.join('\n');
    const alike = byContents.get(key) ?? { added: [], removed: [] };
    alike[kind === 'added' ? 'added' : 'removed'].push({ each: whole, secrets });
    byContents.set(key, alike);
  }
  const renames = [...byContents.values()].flatMap(({ added: [to, ...more], removed: [from, ...others] }) => {
    if (!from || !to || more.length > 0 || others.length > 0) return [];
    const sameSecrets = from.secrets.every(
      (secret, index) => !secret.hasOtherValue(to.secrets[index] ?? secret),
    );
    return sameSecrets ? [{ from: from.each, to: to.each }] : [];
  });
  const usedByRenames = new Set(renames.flatMap(({ from, to }) => [keyOf(from), keyOf(to)]));
  return { renames, others: found.filter((each) => !usedByRenames.has(keyOf(each))) };
}

/** The content of an object without its name. */
const anonymous = (tree: Tree | undefined): string =>
  isMapping(tree)
    ? identity(new Map([...tree].filter(([key]) => !['name', 'username', 'id'].includes(key))))
    : identity(tree);

/** The secrets of a tree, in the order of its keys. */
function secretsOf(tree: Tree | undefined): SecretLeaf[] {
  if (isMapping(tree)) return [...tree.keys()].sort().flatMap((key) => secretsOf(tree.get(key)));
  if (isList(tree)) return tree.flatMap(secretsOf);
  return tree instanceof SecretLeaf ? [tree] : [];
}

/** Groups the changes of one object, at the position of the first. */
function grouped(changes: readonly Change[]): Change[] {
  const groups = new Map<string, Change[]>();
  for (const each of changes) {
    const object = `${each.object} ${each.name}`;
    const group = groups.get(object);
    if (group) group.push(each);
    else groups.set(object, [each]);
  }
  return [...groups.values()].flat();
}
