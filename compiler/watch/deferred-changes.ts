/** Which changed variables can take effect while APISIX runs, and which are deferred to its next start. Pure. */
import { resolveName } from '../settings/names.ts';
import type { RawValue } from '../settings/sources.ts';

export type Variables = ReadonlyMap<string, RawValue>;

/** What prevents variables from taking effect while APISIX runs. */
export interface Blockers {
  /** The settings have errors. */
  readonly errors: boolean;
  /** The variables change something that APISIX reads only when it starts. */
  readonly start: boolean;
  /** Variables that the APISIX process needs in its own environment, and that it lacks or has with another value. */
  readonly process: readonly string[];
}

export type Reason =
  /** The variable changes something that APISIX reads only when it starts. */
  | { readonly is: 'start' }
  /** The APISIX process lacks the variable in its environment, or has another value. */
  | { readonly is: 'process' }
  /** The variable has errors, or no effect, without these other variables, which are deferred too. */
  | { readonly is: 'with'; readonly others: readonly string[] };

export interface DeferredChange {
  readonly name: string;
  readonly reason: Reason;
}

export interface Resolution {
  /** The variables to apply: the current ones, with earlier values for deferred ones; undefined if none can be applied. */
  readonly variables: Variables | undefined;
  readonly deferred: readonly DeferredChange[];
}

const isUnblocked = ({ errors, start, process }: Blockers): boolean =>
  !errors && !start && process.length === 0;

/** The value of a variable; undefined if it is missing or blank. */
const nonBlank = (raw: RawValue | undefined): string | undefined =>
  raw === undefined || raw.value.trim() === '' ? undefined : raw.value;

/** The names of settings whose variables were added, changed or removed, in the order of `now`. */
export function changedSettings(before: Variables, now: Variables): string[] {
  return [...new Set([...now.keys(), ...before.keys()])].filter((name) => {
    if (nonBlank(before.get(name)) === nonBlank(now.get(name))) return false;
    const { is } = resolveName(name);
    return is === 'setting' || is === 'secret-file';
  });
}

/**
 * Applies as many of the changes since `before` as possible and defers the rest: first all changes, then by halves down
 * to the settings of one index, then one by one.
 * @param blockersOf renders with the given variables, which is slow, and returns what blocks them
 */
export async function deferChanges(
  before: Variables,
  now: Variables,
  blockersOf: (variables: Variables) => Promise<Blockers>,
): Promise<Resolution> {
  const changed = changedSettings(before, now);
  const ofAll = await blockersOf(now);
  if (isUnblocked(ofAll)) return { variables: now, deferred: [] };

  const pending = new Set(changed);
  const variables = (): Variables => withValuesOf(before, now, pending);
  const apply = async (names: readonly string[]): Promise<boolean> => {
    for (const name of names) pending.delete(name);
    if (isUnblocked(await blockersOf(variables()))) return true;
    for (const name of names) pending.add(name);
    return false;
  };
  if (changed.length === 0 || !isUnblocked(await blockersOf(variables()))) {
    const deferred = changed.map((name) => ({ name, reason: reasonOf(name, ofAll, undefined, []) }));
    return { variables: undefined, deferred };
  }
  // Variables that the APISIX process lacks are always deferred; no trial render is needed.
  let groups = groupsOf(changed.filter((name) => !ofAll.process.includes(name)));
  await applyUnblocked(groups, apply);
  groups = groups
    .map((group) => group.filter((name) => pending.has(name)))
    .filter((group) => group.length > 0);
  // A group of one setting was already tried alone.
  const singles = groups.filter((group) => group.length > 1).flatMap((group) => group.map((name) => [name]));
  if (singles.length > 0) await applyUnblocked(singles, apply);

  const names = changed.filter((name) => pending.has(name));
  const deferred: DeferredChange[] = [];
  for (const name of names) {
    const others = names.filter((each) => each !== name);
    const alone = ofAll.process.includes(name)
      ? undefined
      : await blockersOf(withValuesOf(before, now, new Set(others)));
    deferred.push({ name, reason: reasonOf(name, ofAll, alone, others) });
  }
  return { variables: variables(), deferred };
}

function withValuesOf(before: Variables, now: Variables, names: ReadonlySet<string>): Variables {
  const mixed = new Map(now);
  for (const name of names) {
    const value = before.get(name);
    if (value === undefined) mixed.delete(name);
    else mixed.set(name, value);
  }
  return mixed;
}

/** Groups the settings of one index: a backend is not valid without its key. */
function groupsOf(names: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const verdict = resolveName(name);
    const known = verdict.is === 'setting' || verdict.is === 'secret-file' ? verdict.known : undefined;
    // NAME and NAME_FILE are the same setting.
    const group = known?.kind === 'indexed' ? `${known.group} ${known.index}` : (known?.name ?? name);
    groups.set(group, [...(groups.get(group) ?? []), name]);
  }
  return [...groups.values()];
}

/** Above this the search for groups that need each other costs too many trial renders. */
const MAX_GROUPS_ONE_BY_ONE = 16;

/**
 * Applies groups by halves. Some groups are valid only together with others: so it also tries all remaining groups but
 * one. It repeats until nothing more can be applied.
 */
async function applyUnblocked(
  groups: readonly string[][],
  apply: (names: readonly string[]) => Promise<boolean>,
): Promise<void> {
  let remaining = groups;
  const byHalves = async (some: readonly string[][]): Promise<string[][]> => {
    if (some.length === 0 || (await apply(some.flat()))) return [];
    if (some.length === 1) return [...some];
    const middle = some.length >> 1;
    return [...(await byHalves(some.slice(0, middle))), ...(await byHalves(some.slice(middle)))];
  };
  for (let before = Number.POSITIVE_INFINITY; remaining.length > 0 && remaining.length < before; ) {
    before = remaining.length;
    remaining = await byHalves(remaining);
    const candidates = remaining.length > 2 && remaining.length <= MAX_GROUPS_ONE_BY_ONE ? remaining : [];
    for (const group of candidates) {
      if (await apply(remaining.filter((each) => each !== group).flat())) {
        remaining = [group];
        break;
      }
    }
  }
}

/**
 * @param ofAll the blockers of all changes together
 * @param alone the blockers of this change together with the changes that can be applied
 */
function reasonOf(
  name: string,
  ofAll: Blockers,
  alone: Blockers | undefined,
  others: readonly string[],
): Reason {
  if (ofAll.process.includes(name)) return { is: 'process' };
  if (alone?.start || others.length === 0) return { is: 'start' };
  const missing = others.filter((each) => ofAll.process.includes(each));
  if (missing.length > 0) return { is: 'with', others: sameGroupFirst(name, missing) };
  return { is: 'start' };
}

/** The names in the group of `name`, if there are any, else all of `others`. */
function sameGroupFirst(name: string, others: readonly string[]): readonly string[] {
  const same = groupsOf([name, ...others]).find((group) => group.includes(name)) ?? [];
  const rest = same.filter((each) => each !== name);
  return rest.length > 0 ? rest : others;
}
