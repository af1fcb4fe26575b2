/** Which of the variables that have changed can take effect while APISIX runs. Pure. */
import { resolveName } from '../settings/names.ts';
import type { RawValue } from '../settings/sources.ts';

export type Variables = ReadonlyMap<string, RawValue>;

/** What keeps variables from taking effect while APISIX runs. */
export interface Obstacles {
  /** The settings are not good with them. */
  readonly errors: boolean;
  /** What APISIX reads when it starts would be another. */
  readonly start: boolean;
  /** The variables that APISIX's own process would have to have, and that are not there or have another value. */
  readonly process: readonly string[];
}

export type Reason =
  /** What APISIX reads when it starts would be another. */
  | { readonly is: 'start' }
  /** APISIX's process has another value, or none. */
  | { readonly is: 'process' }
  /** It is not good, or cannot take effect, without these, which are held back. */
  | { readonly is: 'with'; readonly others: readonly string[] };

export interface HeldBack {
  readonly name: string;
  readonly reason: Reason;
}

export interface Settled {
  /** What can take effect: those of now, with the values from before for what is held back; undefined where nothing can. */
  readonly variables: Variables | undefined;
  readonly heldBack: readonly HeldBack[];
}

const fits = ({ errors, start, process }: Obstacles): boolean => !errors && !start && process.length === 0;

/** A value that is not blank; a blank one is as good as none. */
const given = (raw: RawValue | undefined): string | undefined =>
  raw === undefined || raw.value.trim() === '' ? undefined : raw.value;

/** The settings whose variables differ, those that are gone among them, in the order of now. */
export function changedSettings(before: Variables, now: Variables): string[] {
  return [...new Set([...now.keys(), ...before.keys()])].filter((name) => {
    if (given(before.get(name)) === given(now.get(name))) return false;
    const { is } = resolveName(name);
    return is === 'setting' || is === 'secret-file';
  });
}

/**
 * Holds back as little of what has changed since `before` as it takes: from nothing at all, by halves down to the
 * settings of one index, and those one by one. `look` says what is in the way of variables; it costs a render.
 */
export async function holdBack(
  before: Variables,
  now: Variables,
  look: (variables: Variables) => Promise<Obstacles>,
): Promise<Settled> {
  const changed = changedSettings(before, now);
  const whole = await look(now);
  if (fits(whole)) return { variables: now, heldBack: [] };

  const held = new Set(changed);
  const variables = (): Variables => withValuesOf(before, now, held);
  const release = async (names: readonly string[]): Promise<boolean> => {
    for (const name of names) held.delete(name);
    if (fits(await look(variables()))) return true;
    for (const name of names) held.add(name);
    return false;
  };
  if (changed.length === 0 || !fits(await look(variables()))) {
    const heldBack = changed.map((name) => ({ name, reason: reasonOf(name, whole, undefined, []) }));
    return { variables: undefined, heldBack };
  }
  // What is referred to when all is released is held back in any case, and takes no look to find.
  let units = unitsOf(changed.filter((name) => !whole.process.includes(name)));
  await releaseWhatFits(units, release);
  units = units.map((unit) => unit.filter((name) => held.has(name))).filter((unit) => unit.length > 0);
  // What is left of an index is tried one by one; a lone setting has been.
  const singles = units.filter((unit) => unit.length > 1).flatMap((unit) => unit.map((name) => [name]));
  if (singles.length > 0) await releaseWhatFits(singles, release);

  const names = changed.filter((name) => held.has(name));
  const heldBack: HeldBack[] = [];
  for (const name of names) {
    const others = names.filter((each) => each !== name);
    const alone = whole.process.includes(name)
      ? undefined
      : await look(withValuesOf(before, now, new Set(others)));
    heldBack.push({ name, reason: reasonOf(name, whole, alone, others) });
  }
  return { variables: variables(), heldBack };
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

/** The settings of one index belong together: a backend without its key is none. */
function unitsOf(names: readonly string[]): string[][] {
  const units = new Map<string, string[]>();
  for (const name of names) {
    const verdict = resolveName(name);
    const known = verdict.is === 'setting' || verdict.is === 'secret-file' ? verdict.known : undefined;
    // A secret and the file that holds it are two names of one setting.
    const unit = known?.kind === 'indexed' ? `${known.group} ${known.index}` : (known?.name ?? name);
    units.set(unit, [...(units.get(unit) ?? []), name]);
  }
  return [...units.values()];
}

/** More would take many looks for what is seldom there. */
const MAX_UNITS_ONE_BY_ONE = 16;

/** Releases units by halves; then all but one, for those that fit only with others; until no more does. */
async function releaseWhatFits(
  units: readonly string[][],
  release: (names: readonly string[]) => Promise<boolean>,
): Promise<void> {
  let left = units;
  const byHalves = async (some: readonly string[][]): Promise<string[][]> => {
    if (some.length === 0 || (await release(some.flat()))) return [];
    if (some.length === 1) return [...some];
    const middle = some.length >> 1;
    return [...(await byHalves(some.slice(0, middle))), ...(await byHalves(some.slice(middle)))];
  };
  for (let before = Number.POSITIVE_INFINITY; left.length > 0 && left.length < before; ) {
    before = left.length;
    left = await byHalves(left);
    for (const unit of left.length > 2 && left.length <= MAX_UNITS_ONE_BY_ONE ? left : []) {
      if (await release(left.filter((each) => each !== unit).flat())) {
        left = [unit];
        break;
      }
    }
  }
}

/** `whole` is of all that has changed, `alone` of this one beside what can take effect. */
function reasonOf(
  name: string,
  whole: Obstacles,
  alone: Obstacles | undefined,
  others: readonly string[],
): Reason {
  if (whole.process.includes(name)) return { is: 'process' };
  if (alone?.start || others.length === 0) return { is: 'start' };
  const missing = others.filter((each) => whole.process.includes(each));
  if (missing.length > 0) return { is: 'with', others: sameUnitFirst(name, missing) };
  return { is: 'start' };
}

/** Those of the same index where there are any, else all. */
function sameUnitFirst(name: string, others: readonly string[]): readonly string[] {
  const same = unitsOf([name, ...others]).find((unit) => unit.includes(name)) ?? [];
  const rest = same.filter((each) => each !== name);
  return rest.length > 0 ? rest : others;
}
