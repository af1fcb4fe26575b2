/** What changes between two sets of documents, object by object. Pure. */
import { withoutCredentials } from '../diagnostics/diagnostic.ts';
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

/** When a change is in effect: APISIX reads apisix.yaml as it runs, config.yaml and its environment only at its start. */
export type Effect = 'at once' | 'next start' | 'next start of the collector';

export interface Change {
  /** What kind of thing: `backend`, `client`, `setting of the gateway`. */
  readonly object: string;
  readonly name?: string;
  readonly kind: 'added' | 'removed' | 'changed' | 'order' | 'renamed';
  /** Absent: the object itself. */
  readonly field?: string;
  /** It is an item of the set that the field is. */
  readonly item?: true;
  /** The value is a secret; of two references the names are given, of all else nothing. */
  readonly secret?: true;
  /** As they may be shown: no secret is in them. */
  readonly before?: Shown;
  readonly after?: Shown;
  /** Where it stands; `environment`: what the gateway reads from its own process's environment when it runs. */
  readonly document: DocumentName | 'environment';
  /** JSON pointer, with the names of items in lists. */
  readonly path: string;
  readonly effect: Effect;
}

/** A JSON value without secrets. */
export type Shown = string | number | boolean | null | readonly Shown[] | { readonly [key: string]: Shown };

export type SomeDocuments = Partial<Documents>;

/** The same documents with every secret as a value, and with every one as a reference: they tell where secrets are. */
export interface Revealed {
  readonly inline: Documents | undefined;
  readonly reference: Documents | undefined;
}

/** A set of documents; `revealed` where they were compiled from settings that are at hand. */
export interface Side {
  readonly documents: SomeDocuments;
  readonly revealed?: Revealed | undefined;
  /** What the gateway reads when it runs, and no document holds; compared where both sides have it. */
  readonly runTime?: ReadonlyMap<string, Scalar | Secret>;
}

/** Thrown where a document is none: which, and why. */
export class NotADocument extends Error {
  readonly document: DocumentName;

  constructor(document: DocumentName, reason: string) {
    super(reason);
    this.document = document;
  }
}

/** In the order in which they are told. */
const TOLD: readonly DocumentName[] = ['apisix.yaml', 'config.yaml', 'otel-collector.yaml'];

/**
 * What changes when the documents of one side take the place of the other's; empty exactly where nothing does. Comments
 * and order that means nothing are no change. A document that neither side has is not compared.
 * @throws NotADocument
 */
export async function changesBetween(
  before: SomeDocuments | Side,
  after: SomeDocuments | Side,
): Promise<readonly Change[]> {
  const [old, current] = [asSide(before), asSide(after)];
  const [oldTrees, trees] = await Promise.all([treesOf(old), treesOf(current)]);
  const secrets = new KnownSecrets(...oldTrees.values(), ...trees.values());
  const told = new Telling(secrets, references(oldTrees.get('apisix.yaml')));
  return [
    ...TOLD.flatMap((document) => told.changes(document, oldTrees.get(document), trees.get(document))),
    ...(old.runTime && current.runTime ? runTimeChanges(old.runTime, current.runTime, secrets) : []),
  ];
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

const asSide = (given: SomeDocuments | Side): Side =>
  'documents' in given ? given : { documents: given as SomeDocuments };

async function treesOf({ documents, revealed }: Side): Promise<ReadonlyMap<DocumentName, Tree>> {
  const trees = new Map<DocumentName, Tree>();
  for (const name of DOCUMENT_NAMES) {
    const text = documents[name];
    if (text === undefined) continue;
    const written = await readDocument(text);
    if ('reason' in written) throw new NotADocument(name, unreadable(written.reason));
    const read = async (other: Documents | undefined): Promise<unknown> => {
      if (other?.[name] === text) return written.document;
      const parsed = other && (await readDocument(other[name]));
      return parsed && 'document' in parsed ? parsed.document : undefined;
    };
    try {
      trees.set(
        name,
        treeOf(name, {
          written: written.document,
          inline: await read(revealed?.inline),
          reference: await read(revealed?.reference),
        }),
      );
    } catch (error) {
      if (!(error instanceof TooDeep)) throw error;
      throw new NotADocument(name, 'it is nested too deeply');
    }
  }
  return trees;
}

/** Without what the parser found there: it may be a secret. */
const unreadable = (reason: string): string => {
  const [line] = /^line \d+/.exec(reason) ?? [];
  return line === undefined ? 'it is no YAML' : `${line} is no YAML, or repeats a key`;
};

/** The references to APISIX's own environment that a tree holds, with what is known of the values there. */
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

/** Characters of a text: more is no help to a reader. */
const MAX_SHOWN = 1_000;

class Telling {
  readonly #secrets: KnownSecrets;
  readonly #environment: ReadonlyMap<string, SecretLeaf>;

  /** `environment`: the references that APISIX, as it runs, was started with. */
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
    // Where only what may not be shown is another one, there is nothing to show.
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
    // A process keeps the environment that it was started with.
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

/** Objects that are there on one side only, as a whole: their further parts need no mention. */
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

/** A part of an object that is there as a whole is told with it; one that is not, field by field. */
function partsOf(document: DocumentName, each: Difference, whole: ReadonlySet<string>): Difference[] {
  const { object, name, field, part } = objectAt(document, each.path);
  if (!part) return [each];
  if (whole.has(`${each.kind} ${object} ${name}`)) return [];
  const [before, after] = [each.before, each.after];
  const there = before ?? after;
  if (field !== '' || !isMapping(there) || (before !== undefined && after !== undefined)) return [each];
  const entries = [...there].filter(([key]) => key !== 'name');
  // A backend that is only named there: that, too, is a difference.
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

/** Backends and clients of which all but the name is the same; details and second keys go with them. */
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
  const told = new Set(renames.flatMap(({ from, to }) => [keyOf(from), keyOf(to)]));
  return { renames, others: found.filter((each) => !told.has(keyOf(each))) };
}

/** Without what names it. */
const anonymous = (tree: Tree | undefined): string =>
  isMapping(tree)
    ? identity(new Map([...tree].filter(([key]) => !['name', 'username', 'id'].includes(key))))
    : identity(tree);

/** The secrets of a tree, in an order that is that of its keys. */
function secretsOf(tree: Tree | undefined): SecretLeaf[] {
  if (isMapping(tree)) return [...tree.keys()].sort().flatMap((key) => secretsOf(tree.get(key)));
  if (isList(tree)) return tree.flatMap(secretsOf);
  return tree instanceof SecretLeaf ? [tree] : [];
}

/** Changes of one object stand together, where its first one does. */
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
