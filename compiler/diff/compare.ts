/** Lists all places where two documents differ. Pure. */
import type { DocumentName } from '../emit/emit.ts';
import { identity, isLeaf, isList, isMapping, SecretLeaf, type Tree } from './tree.ts';

export interface Difference {
  /** Keys, and names of list items. */
  readonly path: readonly string[];
  /** `order`: the same items in another order, in a list whose order has a meaning. */
  readonly kind: 'added' | 'removed' | 'changed' | 'order';
  readonly before?: Tree;
  readonly after?: Tree;
  /** The difference is one item of the set at the path, not the value at the path. */
  readonly ofSet?: true;
}

/** `*` matches one key, `**` any number of keys. */
type Pattern = string;

/** Lists of named items whose order has no meaning. */
const UNORDERED: Readonly<Record<DocumentName, readonly Pattern[]>> = {
  'apisix.yaml': ['*', '**/ai-proxy-multi/instances', '**/azure-openai-proxy/backends'],
  'config.yaml': [],
  'otel-collector.yaml': [],
};

/** Lists of words or numbers whose order has no meaning. */
const SETS: Readonly<Record<DocumentName, readonly Pattern[]>> = {
  'apisix.yaml': [
    '**/retry_statuses',
    '**/fallback_strategy',
    'clients/*/models',
    '**/azure-openai-proxy/pool/clients',
    '**/azure-openai-proxy/metrics/models',
    '**/audiences',
    '**/whitelist',
    '**/blacklist',
    '**/headers/remove',
  ],
  'config.yaml': ['plugins', 'nginx_config/http/real_ip_from'],
  'otel-collector.yaml': [
    'service/extensions',
    'service/pipelines/*/receivers',
    'service/pipelines/*/exporters',
    '**/targets',
    '**/scopes',
    'receivers/*/include',
  ],
};

/** Places that hold objects. If one file lacks such a place, each object of the other file is listed separately. */
const HOLDERS: Readonly<Record<DocumentName, readonly Pattern[]>> = {
  'apisix.yaml': [
    '*',
    'services/*/plugins',
    'services/*/plugins/ai-proxy-multi/instances',
    'services/*/plugins/azure-openai-proxy/backends',
    'services/*/plugins/ai-rate-limiting/rules',
    'services/*/plugins/limit-count/rules',
  ],
  'config.yaml': ['**'],
  'otel-collector.yaml': ['*', 'service/pipelines'],
};

const matches = (patterns: readonly Pattern[], path: readonly string[]): boolean =>
  patterns.some((pattern) => fits(pattern.split('/'), path));

function fits([first, ...rest]: readonly string[], path: readonly string[]): boolean {
  if (first === undefined) return path.length === 0;
  if (first === '**') return path.some((_, index) => fits(rest, path.slice(index))) || rest.length === 0;
  return path.length > 0 && (first === '*' || first === path[0]) && fits(rest, path.slice(1));
}

/** All differences of two documents; empty exactly if they differ at most in order that has no meaning. */
export function differences(document: DocumentName, before: Tree, after: Tree): Difference[] {
  const found: Difference[] = [];
  new Comparison(document, found).compare(before, after, []);
  return found;
}

class Comparison {
  readonly #document: DocumentName;
  readonly #found: Difference[];

  constructor(document: DocumentName, found: Difference[]) {
    this.#document = document;
    this.#found = found;
  }

  compare(before: Tree | undefined, after: Tree | undefined, path: readonly string[]): void {
    if (before === undefined || after === undefined) this.#oneAlone(before, after, path);
    else if (isMapping(before) && isMapping(after)) this.#entries(before, after, path);
    else if (isList(before) && isList(after)) this.#lists(before, after, path);
    else if (!isLeaf(before) || !isLeaf(after) || !sameLeaf(before, after))
      this.#found.push({ path, kind: 'changed', before, after });
  }

  #oneAlone(before: Tree | undefined, after: Tree | undefined, path: readonly string[]): void {
    const there = before === undefined ? after : before;
    if (there === undefined) return;
    const goOn = matches(HOLDERS[this.#document], path);
    if (goOn && isMapping(there) && there.size > 0) {
      this.#entries(mappingOr(before), mappingOr(after), path);
    } else if (goOn && isList(there) && there.length > 0 && this.#isKeyed(there, path)) {
      this.#lists(listOr(before), listOr(after), path);
    } else if (before === undefined) this.#found.push({ path, kind: 'added', after: there });
    else this.#found.push({ path, kind: 'removed', before });
  }

  #entries(
    before: ReadonlyMap<string, Tree>,
    after: ReadonlyMap<string, Tree>,
    path: readonly string[],
  ): void {
    for (const key of new Set([...before.keys(), ...after.keys()]))
      this.compare(before.get(key), after.get(key), [...path, key]);
  }

  #lists(before: readonly Tree[], after: readonly Tree[], path: readonly string[]): void {
    const unordered = matches(UNORDERED[this.#document], path);
    if (unordered || (this.#isKeyed(before, path) && this.#isKeyed(after, path))) {
      const [old, current] = [byName(before), byName(after)];
      this.#entries(old, current, path);
      if (!unordered) this.#order(old, current, path);
    } else if (![...before, ...after].every(isLeaf)) {
      for (let index = 0; index < Math.max(before.length, after.length); index++)
        this.compare(before[index], after[index], [...path, `[${index}]`]);
    } else if (matches(SETS[this.#document], path) && ![...before, ...after].some(isSecret))
      this.#sets(before, after, path);
    else if (before.length !== after.length || before.some((each, index) => !sameLeaf(each, after[index])))
      this.#found.push({ path, kind: 'changed', before, after });
  }

  #isKeyed(list: readonly Tree[], path: readonly string[]): boolean {
    if (matches(UNORDERED[this.#document], path)) return true;
    const names = list.map(nameOf);
    return names.every((name) => name !== undefined) && new Set(names).size === names.length;
  }

  #order(before: ReadonlyMap<string, Tree>, after: ReadonlyMap<string, Tree>, path: readonly string[]): void {
    const old = [...before.keys()].filter((name) => after.has(name));
    const current = [...after.keys()].filter((name) => before.has(name));
    if (old.some((name, index) => name !== current[index]))
      this.#found.push({ path, kind: 'order', before: old, after: current });
  }

  #sets(before: readonly Tree[], after: readonly Tree[], path: readonly string[]): void {
    const left = new Map<string, number>();
    for (const each of before) left.set(identity(each), (left.get(identity(each)) ?? 0) + 1);
    const added = after.filter((each) => {
      const count = left.get(identity(each)) ?? 0;
      left.set(identity(each), count - 1);
      return count <= 0;
    });
    const removed = before.filter((each) => {
      const count = left.get(identity(each)) ?? 0;
      left.set(identity(each), count - 1);
      return count > 0;
    });
    for (const each of removed) this.#found.push({ path, kind: 'removed', before: each, ofSet: true });
    for (const each of added) this.#found.push({ path, kind: 'added', after: each, ofSet: true });
  }
}

const isSecret = (tree: Tree): boolean => tree instanceof SecretLeaf;

const mappingOr = (tree: Tree | undefined): ReadonlyMap<string, Tree> => (isMapping(tree) ? tree : new Map());
const listOr = (tree: Tree | undefined): readonly Tree[] => (isList(tree) ? tree : []);

/** Compares secrets by their references, and by their values if both are known. */
function sameLeaf(before: Tree | undefined, after: Tree | undefined): boolean {
  if (!(before instanceof SecretLeaf) && !(after instanceof SecretLeaf)) return Object.is(before, after);
  if (!isLeaf(before) || !isLeaf(after)) return false;
  const [old, current] = [asSecret(before), asSecret(after)];
  return old.reference === current.reference && !old.hasOtherValue(current);
}

export const asSecret = (leaf: Tree): SecretLeaf =>
  leaf instanceof SecretLeaf ? leaf : new SecretLeaf(undefined, isLeaf(leaf) ? leaf : undefined);

/** The name of a list item: the first of these keys that it has. */
const NAMING = ['username', 'id', 'name', 'header_prefix', 'job_name', 'key'] as const;

function nameOf(item: Tree): string | undefined {
  if (!isMapping(item)) return undefined;
  const price = priceName(item);
  if (price !== undefined) return price;
  for (const key of NAMING) {
    const name = item.get(key);
    if (typeof name === 'string' || typeof name === 'number') return String(name);
  }
  return undefined;
}

/** The collector's price operations have no name; this builds one from the model and the kind of token. */
function priceName(item: ReadonlyMap<string, Tree>): string | undefined {
  const [labels, operations] = [item.get('experimental_match_labels'), item.get('operations')];
  if (!isMapping(labels) || !isList(operations)) return undefined;
  const isOfRouter = labels.has('answer_model');
  const naming = isOfRouter ? ['answer_model'] : ['request_llm_model', 'llm_model'];
  const models = naming.flatMap((label) => {
    const expression = labels.get(label);
    return typeof expression === 'string' ? [modelOf(expression)] : [];
  });
  const kinds = operations.flatMap((each) => (isMapping(each) ? [each.get('new_value')] : []));
  const kind = kinds.find((each) => typeof each === 'string');
  if (models.length === 0 || kind === undefined) return undefined;
  const by = isOfRouter ? ' chosen by a router' : labels.has('kind') ? ' by who served it' : '';
  return `${models.join(' as ')} ${kind}${by}`;
}

/** The model in one of our regular expressions; the collector's file has `$$` for a dollar sign. */
const modelOf = (expression: string): string =>
  expression.replace(/^\^\(\?i:(.*)\)\$\$$/, '$1').replace(/\\(.)/g, '$1');

/** Items by name. A repeated name gets a number; an item without a name gets its index. */
function byName(list: readonly Tree[]): ReadonlyMap<string, Tree> {
  const named = new Map<string, Tree>();
  for (const [index, item] of list.entries()) {
    const name = nameOf(item) ?? `[${index}]`;
    let unique = name;
    for (let count = 2; named.has(unique); count++) unique = `${name} (${count})`;
    named.set(unique, item);
  }
  return named;
}
