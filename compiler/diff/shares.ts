/** The share of requests that each backend gets while none fails. Pure. */
import type { BackendFacts, Facts } from './facts.ts';

export interface Share {
  readonly name: string;
  readonly before: Part | undefined;
  readonly after: Part | undefined;
}

/** The share of one backend; undefined: the backend does not exist on this side. */
export interface Part {
  readonly priority: number;
  /** From 0 to 1, among the backends of its priority. */
  readonly share: number;
  /** The backend gets only requests that higher priorities cannot take. */
  readonly isReserve: boolean;
}

export interface ShareTable {
  /** The models of this table; undefined: all models, or all models of no other table. */
  readonly models?: readonly string[];
  readonly shares: readonly Share[];
}

/** The shares before and after: one table for each group of models with the same shares. */
export function trafficShares(before: Facts, after: Facts): ShareTable[] {
  const all = [...before.backends, ...after.backends];
  const names = [...new Set(all.map(({ name }) => name))];
  const table = (model: string | undefined): readonly Share[] => {
    const [old, current] = [partsOf(before.backends, model), partsOf(after.backends, model)];
    return names
      .map((name) => ({ name, before: old.get(name), after: current.get(name) }))
      .filter((each) => each.before || each.after)
      .sort((a, b) => priority(b) - priority(a));
  };
  const groups = new Map<string, { models: string[]; shares: readonly Share[] }>();
  for (const model of [...new Set(all.flatMap(({ models = [] }) => models))].sort()) {
    const shares = table(model);
    const key = JSON.stringify(shares);
    const group = groups.get(key);
    if (group) group.models.push(model);
    else groups.set(key, { models: [model], shares });
  }
  const others = all.some(({ models }) => models === undefined) ? [{ shares: table(undefined) }] : [];
  return [...groups.values(), ...others].filter(({ shares }) => shares.length > 0);
}

const priority = ({ before, after }: Share): number => (after ?? before)?.priority ?? 0;

/** Shares for a model; undefined: for models that no backend lists, which only backends without a list serve. */
function partsOf(backends: readonly BackendFacts[], model: string | undefined): Map<string, Part> {
  const serving = backends.filter(({ models }) =>
    model === undefined ? models === undefined : (models?.includes(model) ?? true),
  );
  const active = serving.filter(({ weight }) => weight > 0);
  const top = Math.max(...active.map((each) => each.priority));
  return new Map(
    serving.map(({ name, priority, weight }) => {
      const sum = active.reduce(
        (total, each) => (each.priority === priority ? total + each.weight : total),
        0,
      );
      return [name, { priority, share: sum === 0 ? 0 : weight / sum, isReserve: priority < top }];
    }),
  );
}
