/** As little of a change as it takes is held back, whatever depends on what. */
import { describe, expect, test } from 'vitest';
import type { RawValue } from '../../compiler/settings/sources.ts';
import { type Blockers, deferChanges, type Variables } from '../../compiler/watch/deferred-changes.ts';

type Values = Readonly<Record<string, string>>;

const raw = (values: Values): Variables =>
  new Map(
    Object.entries(values).map(([name, value]): [string, RawValue] => [
      name,
      { value, source: { kind: 'environment' } },
    ]),
  );
const valuesOf = (variables: Variables | undefined): Values | undefined =>
  variables && Object.fromEntries([...variables].map(([name, { value }]) => [name, value]));

interface World {
  /** Whose values are part of config.yaml. */
  readonly inConfig?: readonly string[];
  /** Referred to by name, and so what the process must have. */
  readonly references?: readonly string[];
  readonly isBad?: (values: Values) => boolean;
}

/** A compiler as simple as can be; counts how often it was asked. */
function world(start: Values, { inConfig = [], references = [], isBad = () => false }: World) {
  const state = { renders: 0 };
  const blockersOf = async (variables: Variables): Promise<Blockers> => {
    state.renders++;
    const values = valuesOf(variables) ?? {};
    if (isBad(values)) return { errors: true, start: false, process: [] };
    return {
      errors: false,
      start: inConfig.some((name) => values[name] !== start[name]),
      process: references.filter((name) => name in values && values[name] !== start[name]),
    };
  };
  return { state, change: (now: Values) => deferChanges(raw(start), raw(now), blockersOf) };
}

const LEVEL = 'APISIX_LOG_LEVEL';
const WEIGHT = (index: number) => `AZURE_OPENAI_WEIGHT_${index}`;
const KEY = (index: number) => `AZURE_OPENAI_KEY_${index}`;
const ENDPOINT = (index: number) => `AZURE_OPENAI_ENDPOINT_${index}`;
/** A backend without a key, or a key without a backend, is bad. */
const isHalf = (values: Values) =>
  [1, 2, 3].some((index) => ENDPOINT(index) in values !== KEY(index) in values);

describe('hold back', () => {
  test('nothing where all of it can take effect, with one look', async () => {
    const { state, change } = world({ [WEIGHT(0)]: '1' }, { inConfig: [LEVEL] });
    const now = { [WEIGHT(0)]: '2', [WEIGHT(1)]: '3', OTHER: 'x' };
    const { variables, deferred } = await change(now);
    expect({ variables: valuesOf(variables), deferred, ...state }).toEqual({
      variables: now,
      deferred: [],
      renders: 1,
    });
  });

  test('what is in config.yaml, and nothing else', async () => {
    const { change } = world({ [LEVEL]: 'warn', [WEIGHT(0)]: '1' }, { inConfig: [LEVEL] });
    const { variables, deferred } = await change({ [LEVEL]: 'info', [WEIGHT(0)]: '2' });
    expect(valuesOf(variables)).toEqual({ [LEVEL]: 'warn', [WEIGHT(0)]: '2' });
    expect(deferred).toEqual([{ name: LEVEL, reason: { is: 'start' } }]);
  });

  test('that something is gone', async () => {
    const { change } = world({ [LEVEL]: 'info', [WEIGHT(0)]: '1' }, { inConfig: [LEVEL] });
    const { variables, deferred } = await change({});
    expect(valuesOf(variables)).toEqual({ [LEVEL]: 'info' });
    expect(deferred).toEqual([{ name: LEVEL, reason: { is: 'start' } }]);
  });

  test('a secret that the process has with another value; other settings of its index are free', async () => {
    const { change } = world(
      { [KEY(1)]: 'old', [ENDPOINT(1)]: 'a' },
      { references: [KEY(1)], isBad: isHalf },
    );
    const { variables, deferred } = await change({ [KEY(1)]: 'new', [ENDPOINT(1)]: 'b' });
    expect(valuesOf(variables)).toEqual({ [KEY(1)]: 'old', [ENDPOINT(1)]: 'b' });
    expect(deferred).toEqual([{ name: KEY(1), reason: { is: 'process' } }]);
  });

  test('a new backend whose key the process does not have, and only that one', async () => {
    const { change } = world({}, { references: [KEY(1), KEY(2)], isBad: isHalf });
    const { variables, deferred } = await change({ [ENDPOINT(1)]: 'a', [KEY(1)]: 'k', [WEIGHT(0)]: '2' });
    expect(valuesOf(variables)).toEqual({ [WEIGHT(0)]: '2' });
    expect(deferred).toEqual([
      { name: ENDPOINT(1), reason: { is: 'with', others: [KEY(1)] } },
      { name: KEY(1), reason: { is: 'process' } },
    ]);
  });

  test('a blank value is as good as none, and a name that is no setting is never held back', async () => {
    const { change } = world({ [LEVEL]: '', HOME: '/a' }, { inConfig: [] });
    expect((await change({ HOME: '/b', [LEVEL]: ' ' })).deferred).toEqual([]);
    const { change: other } = world({ HOME: '/a' }, { inConfig: [LEVEL] });
    const { variables, deferred } = await other({ HOME: '/b', [LEVEL]: 'info' });
    expect(valuesOf(variables)).toEqual({ HOME: '/b' });
    expect(deferred.map(({ name }) => name)).toEqual([LEVEL]);
  });

  test('one among hundreds is found without asking hundreds of times', async () => {
    const { state, change } = world({}, { inConfig: [WEIGHT(57)] });
    const now = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [WEIGHT(index), '2']));
    const { deferred } = await change(now);
    expect(deferred).toEqual([{ name: WEIGHT(57), reason: { is: 'start' } }]);
    expect(state.renders).toBeLessThan(50);
  });

  test('hundreds of secrets of the process are known at one look', async () => {
    const keys = Array.from({ length: 300 }, (_, index) => KEY(index));
    const start = Object.fromEntries(keys.map((name) => [name, 'old']));
    const { state, change } = world(start, { references: keys });
    const now = { ...Object.fromEntries(keys.map((name) => [name, 'new'])), [WEIGHT(3)]: '2' };
    const { variables, deferred } = await change(now);
    expect(valuesOf(variables)).toEqual({ ...start, [WEIGHT(3)]: '2' });
    expect(deferred).toHaveLength(300);
    expect(state.renders).toBeLessThan(5);
  });

  test('those that fit only together take effect together, whatever else is held back', async () => {
    const pair = ['ENABLE_CORS', 'QUOTA_COUNT'];
    const isBad = (values: Values) => pair.filter((name) => name in values).length === 1;
    const { change } = world({}, { inConfig: [LEVEL], isBad });
    for (const order of [
      [pair[0], LEVEL, pair[1]],
      [LEVEL, ...pair],
      [...pair, LEVEL],
    ]) {
      const now = Object.fromEntries(order.map((name) => [name, 'x']));
      const { variables, deferred } = await change(now);
      expect(deferred.map(({ name }) => name)).toEqual([LEVEL]);
      expect(Object.keys(valuesOf(variables) ?? {}).sort()).toEqual(pair);
    }
  });

  test('everything, where not even what was there at the start fits any more', async () => {
    const { change } = world(
      { [LEVEL]: 'warn' },
      { inConfig: [LEVEL], isBad: (values) => values[LEVEL] === 'warn' },
    );
    const { variables, deferred } = await change({ [LEVEL]: 'info', [WEIGHT(0)]: '2' });
    expect(variables).toBeUndefined();
    expect(deferred.map(({ name }) => name)).toEqual([LEVEL, WEIGHT(0)]);
  });

  test('a secret and the file that holds it are one', async () => {
    const name = 'RESPONSES_AFFINITY_REDIS_PASSWORD';
    const { change } = world(
      { [name]: 'old' },
      { inConfig: [LEVEL], isBad: (values) => name in values && `${name}_FILE` in values },
    );
    const { variables, deferred } = await change({
      [`${name}_FILE`]: '/run/secrets/password',
      [LEVEL]: 'info',
    });
    expect(valuesOf(variables)).toEqual({ [`${name}_FILE`]: '/run/secrets/password' });
    expect(deferred.map(({ name: each }) => each)).toEqual([LEVEL]);
  });
});
