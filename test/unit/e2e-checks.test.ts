/** Each assertion of the scenarios accepts the intended result, and rejects results that are wrong in one respect. */
import { describe, expect, test } from 'vitest';
import {
  allFromTheFaster,
  alone,
  type Budget,
  breakerHolds,
  type Check,
  followsTheOrder,
  helperAccepted,
  highGoesFirst,
  lanesAreNamed,
  lowLeavesTheReserve,
  metricsAgree,
  mostlyFrom,
  neverFrom,
  noneFailed,
  onlyHonestRejections,
  overflowServedBy,
  replicasWereAdded,
  requestsWereSent,
  sharesByBackend,
  slowerThan,
  usageOfEachClient,
  withinBudget,
} from '../../compiler/e2e/checks.ts';
import { costOf, type Observation, observationOf, type Run } from '../../compiler/e2e/observation.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;

const seen = (changes: Partial<Observation> = {}): Observation => ({
  at: 0,
  ms: 10,
  status: 200,
  backend: 'a',
  lane: 'high',
  client: 0,
  cost: 100,
  tokens: 100,
  priority: 'high',
  reason: undefined,
  ...changes,
});

const many = (count: number, changes: (index: number) => Partial<Observation>): Observation[] =>
  Array.from({ length: count }, (_, index) => seen(changes(index)));

const run = (observations: readonly Observation[], changes: Partial<Run> = {}): Run => ({
  observations,
  stages: [],
  second: SECOND,
  minute: MINUTE,
  helpers: [],
  counted: 'none',
  replicas: 'none',
  ...changes,
});

const results = (checks: Check | readonly Check[]) => [checks].flat().map(({ result }) => result);
const passes = (checks: Check | readonly Check[]) =>
  expect(new Set(results(checks))).toEqual(new Set(['passed']));
const fails = (check: Check) => expect(check).toMatchObject({ result: 'failed' });
const isOpen = (check: Check) => expect(check).toMatchObject({ result: 'not asserted' });

test('requestsWereSent needs the given number, and more than none', () => {
  passes(requestsWereSent(run(many(10, () => ({}))), 10));
  fails(requestsWereSent(run(many(9, () => ({}))), 10));
  fails(requestsWereSent(run([]), 0));
});

describe('noneFailed', () => {
  test('accepts answers below 300', () => passes(noneFailed(run([seen(), seen({ status: 201 })]))));

  test.each([[429], [500], [404], [0]])('rejects the status %d, which 0 says is none', (status) => {
    fails(noneFailed(run([seen(), seen({ status })])));
  });

  test('names the statuses', () => {
    const { seen: words } = noneFailed(run([seen(), seen({ status: 429 }), seen({ status: 0 })]));
    expect(words).toBe('2 of 3: 429 1, no answer 1');
  });

  test('accepts only the failures that are allowed', () => {
    const allowed = { words: '429', is: ({ status }: Observation) => status === 429 };
    passes(noneFailed(run([seen(), seen({ status: 429 })]), allowed));
    fails(noneFailed(run([seen(), seen({ status: 503 })]), allowed));
  });

  test('rejects a run without requests', () => fails(noneFailed(run([]))));
});

describe('sharesByBackend', () => {
  const weights = { a: 2, b: 1 };
  const of = (a: number, b: number, c = 0) =>
    run([
      ...many(a, () => ({ backend: 'a' })),
      ...many(b, () => ({ backend: 'b' })),
      ...many(c, () => ({ backend: 'c' })),
    ]);

  test('accepts the intended shares, and those within the tolerance', () => {
    passes(sharesByBackend(of(200, 100), weights, 0.05));
    passes(sharesByBackend(of(190, 110), weights, 0.05));
  });

  test.each<readonly [string, Run]>([
    ['equal shares', of(150, 150)],
    ['exchanged shares', of(100, 200)],
    ['a missing backend', of(300, 0)],
    ['another backend', of(200, 100, 1)],
    ['an unknown backend', run([...of(200, 100).observations, seen({ backend: undefined })])],
    ['failed requests only', run(many(300, () => ({ status: 500 })))],
    ['no request', of(0, 0)],
  ])('rejects %s', (_, wrong) => fails(sharesByBackend(wrong, weights, 0.05)));
});

test('mostlyFrom needs the share of one backend', () => {
  const observations = [...many(95, () => ({})), ...many(5, () => ({ backend: 'b' }))];
  passes(mostlyFrom('x', observations, 'a', 0.95));
  fails(mostlyFrom('x', observations, 'a', 0.96));
  fails(mostlyFrom('x', observations, 'a', 1));
  fails(mostlyFrom('x', observations, 'b', 0.5));
  fails(mostlyFrom('x', [], 'a', 0.5));
});

test('neverFrom rejects one answer of the backend, and a run that names none', () => {
  passes(neverFrom(run([seen()]), 'c'));
  fails(neverFrom(run([seen(), seen({ backend: 'c' })]), 'c'));
  fails(neverFrom(run([seen({ backend: undefined })]), 'c'));
});

describe('overflowServedBy', () => {
  const burst = (backend: string, count: number) => many(count, (index) => ({ at: index * 100, backend }));

  test('accepts an answer of the second backend', () => {
    const both = [...burst('a', 20), seen({ at: 2_000, backend: 'b' })];
    passes(overflowServedBy(run(both), both, 'b', 1_000));
  });

  test('rejects an overflow that the second backend did not serve', () => {
    fails(overflowServedBy(run([]), burst('a', 20), 'b', 1_000));
  });

  test('asserts nothing if there was no overflow', () => {
    isOpen(overflowServedBy(run([]), burst('a', 10), 'b', 1_000));
  });

  test('adds up a minute only', () => {
    const slow = many(20, (index) => ({ at: index * 10 * SECOND }));
    isOpen(overflowServedBy(run([]), slow, 'b', 700));
    fails(overflowServedBy(run([]), slow, 'b', 500));
  });
});

describe('breakerHolds', () => {
  const breaker = { first: 'a', second: 'b', openMs: 10 * SECOND, limit: 1_000 };
  const opened = seen({ at: 1_000, backend: 'b' });

  test('accepts only the second backend while the breaker is open', () => {
    const after = [2, 5, 9].map((at) => seen({ at: at * SECOND, backend: 'b' }));
    passes(breakerHolds(run([seen(), opened, ...after, seen({ at: 11_500 })]), breaker));
  });

  test('rejects a request to the first one within that time', () => {
    fails(breakerHolds(run([opened, seen({ at: 2_000, backend: 'b' }), seen({ at: 9_000 })]), breaker));
  });

  test('lets the first one serve when the second one is used up', () => {
    const full = many(10, (index) => ({ at: 1_100 + index * 100, backend: 'b' }));
    passes(breakerHolds(run([opened, ...full, seen({ at: 4_000 })]), breaker));
    fails(breakerHolds(run([opened, ...full.slice(0, 5), seen({ at: 4_000 })]), breaker));
  });

  test('rejects a run that ends with the breaker', () => fails(breakerHolds(run([opened]), breaker)));

  test('asserts nothing if it never opened', () => isOpen(breakerHolds(run([seen()]), breaker)));
});

test('slowerThan compares medians of successful answers', () => {
  const fast = many(9, () => ({ ms: 20 }));
  passes(
    slowerThan(
      'x',
      many(9, () => ({ ms: 30 })),
      fast,
      'y',
    ),
  );
  fails(
    slowerThan(
      'x',
      many(9, () => ({ ms: 29 })),
      fast,
      'y',
    ),
  );
  fails(slowerThan('x', [...many(4, () => ({ ms: 900 })), ...many(5, () => ({ ms: 20 }))], fast, 'y'));
  fails(slowerThan('x', [], fast, 'y'));
  fails(slowerThan('x', fast, [], 'y'));
  fails(
    slowerThan(
      'x',
      many(9, () => ({ ms: 900, status: 500 })),
      fast,
      'y',
    ),
  );
});

const call = (at: number, first: string, status = 200) => ({ at, status, order: [first, 'other'] });

test('helperAccepted needs every call accepted, and enough of them', () => {
  passes(helperAccepted(run([], { helpers: [call(0, 'a'), call(1, 'a')] }), 2));
  fails(helperAccepted(run([], { helpers: [call(0, 'a')] }), 2));
  fails(helperAccepted(run([], { helpers: [call(0, 'a'), call(1, 'a'), call(2, 'a', 401)] }), 2));
  fails(helperAccepted(run([], { helpers: [] }), 1));
});

describe('an order of backends', () => {
  const helpers = [call(-1, 'a'), call(1_000, 'b')];
  const right = [seen({ at: 100 }), seen({ at: 1_500, backend: 'b' })];

  test('followsTheOrder accepts answers of the preferred backend, and any within the margin', () => {
    passes(followsTheOrder(run([...right, seen({ at: 1_010 })], { helpers }), 50));
  });

  test.each<readonly [string, readonly Observation[]]>([
    ['an answer of the last order', [...right, seen({ at: 1_100 })]],
    ['an answer before the change by the other one', [seen({ at: 500, backend: 'b' })]],
    ['no answer', []],
  ])('followsTheOrder rejects %s', (_, observations) => {
    fails(followsTheOrder(run(observations, { helpers }), 50));
  });

  test('allFromTheFaster rejects another backend in its part of the run', () => {
    passes(allFromTheFaster('x', run(right, { helpers }), [0, 1_000], 'a'));
    passes(allFromTheFaster('x', run(right, { helpers }), [1_000, 2_000], 'b'));
    fails(
      allFromTheFaster('x', run([...right, seen({ at: 200, backend: 'b' })], { helpers }), [0, 1_000], 'a'),
    );
    fails(allFromTheFaster('x', run([], { helpers }), [0, 1_000], 'a'));
  });

  test('allFromTheFaster asserts nothing if the measurement preferred another one', () => {
    isOpen(allFromTheFaster('x', run(right, { helpers }), [0, 1_500], 'a'));
    isOpen(allFromTheFaster('x', run(right, { helpers }), [1_000, 2_000], 'a'));
  });
});

test('usageOfEachClient needs tokens of every client', () => {
  const three = [0, 1, 2].map((client) => seen({ client }));
  passes(usageOfEachClient(run(three), 3));
  fails(usageOfEachClient(run(three.slice(0, 2)), 3));
  fails(usageOfEachClient(run(three.map((each) => ({ ...each, tokens: 0 }))), 3));
});

test('metricsAgree compares with the answers of each client', () => {
  const two = [
    seen({ client: 0, tokens: 7 }),
    seen({ client: 1, tokens: 5 }),
    seen({ client: 0, tokens: 1 }),
  ];
  passes(metricsAgree(run(two, { counted: [8, 5] }), 2));
  fails(metricsAgree(run(two, { counted: [5, 8] }), 2));
  fails(metricsAgree(run(two, { counted: [8] }), 2));
  fails(metricsAgree(run([], { counted: [0, 0] }), 2));
  isOpen(metricsAgree(run(two, { counted: 'no page' }), 2));
});

describe('a budget that both lanes share', () => {
  const budget: Budget = {
    limit: 1_000,
    reserve: 300,
    tolerance: 0.05,
    counts: 'usage',
    probes: 0,
    highKeeps: 0.9,
    staleMs: 0,
  };
  /** One request of 10 tokens each `everyMs`, of which `pick` names lane and status. */
  const load = (from: number, to: number, everyMs: number, pick: (index: number) => Partial<Observation>) =>
    many(Math.floor((to - from) / everyMs), (index) => ({
      at: from + index * everyMs,
      ms: 1,
      cost: 10,
      tokens: 10,
      ...pick(index),
    }));
  const stage = (lane: 'high' | 'low' | 'mixed', from: number, to: number) => ({ lane, from, to });

  describe('one lane alone', () => {
    const low = (count: number) =>
      run(
        load(0, count * 100, 100, () => ({ lane: 'low' })),
        { stages: [stage('low', 0, 2 * MINUTE)] },
      );

    test('gets its whole allowance', () => passes(alone(low(70), 'low', budget)));
    test('does not get more', () => fails(alone(low(80), 'low', budget)[0] as Check));
    test('is not limited to less', () => fails(alone(low(60), 'low', budget)[0] as Check));
    test('is not starved', () =>
      fails(alone(run([], { stages: [stage('low', 0, 9)] }), 'low', budget)[0] as Check));
    test('has a check for each of its stages', () => {
      const stages = [stage('low', 0, 9), stage('mixed', 9, 10), stage('low', 10, 20), stage('high', 20, 30)];
      expect(alone(run([], { stages }), 'low', budget)).toHaveLength(2);
      expect(alone(run([], { stages }), 'high', budget)).toHaveLength(1);
    });
    test('of the high kind may use the whole budget', () => {
      const stages = [stage('high', 0, 2 * MINUTE)];
      passes(
        alone(
          run(
            load(0, 10_000, 100, () => ({})),
            { stages },
          ),
          'high',
          budget,
        ),
      );
      fails(
        alone(
          run(
            load(0, 7_000, 100, () => ({})),
            { stages },
          ),
          'high',
          budget,
        )[0] as Check,
      );
    });
  });

  test('withinBudget rejects a minute with more than the limit', () => {
    passes(withinBudget(run(load(0, 10_000, 100, () => ({}))), budget));
    fails(withinBudget(run(load(0, 11_000, 100, () => ({}))), budget));
    passes(withinBudget(run(load(0, 10 * MINUTE, 600, () => ({}))), budget));
    fails(withinBudget(run([]), budget));
  });

  test('the cost counts in place of the usage, if the source is a backend', () => {
    const costly = run(load(0, 10_000, 100, () => ({ cost: 20 })));
    passes(withinBudget(costly, budget));
    fails(withinBudget(costly, { ...budget, counts: 'cost' }));
  });

  describe('lowLeavesTheReserve', () => {
    test('accepts low requests below the allowance', () => {
      passes(lowLeavesTheReserve(run(load(0, 7_000, 100, () => ({ lane: 'low' }))), budget));
    });

    test('rejects a low request that was served although the high lane had used the allowance', () => {
      const used = load(0, 8_000, 100, () => ({}));
      fails(lowLeavesTheReserve(run([...used, seen({ at: 9_000, lane: 'low' })]), budget));
    });

    test('allows only a few requests that find out whether there is more, if the source needs them', () => {
      const low = load(0, 6_000, 100, () => ({ lane: 'low' }));
      const high = load(6_000, 8_000, 100, () => ({}));
      const probe = (at: number) => seen({ at, lane: 'low' });
      const source = { ...budget, probes: 0.05 };
      passes(lowLeavesTheReserve(run([...low, ...high, probe(9_000)]), source));
      fails(lowLeavesTheReserve(run([...low, ...high, probe(9_000)]), budget));
      const five = [1, 2, 3, 4, 5].map((turn) => probe(9_000 + turn));
      fails(lowLeavesTheReserve(run([...low, ...high, ...five]), source));
    });

    test('rejects a run in which the low lane was never served', () => {
      fails(lowLeavesTheReserve(run(load(0, 8_000, 100, () => ({}))), budget));
    });
  });

  describe('highGoesFirst', () => {
    const stages = [stage('high', 0, 2 * MINUTE), stage('mixed', 2 * MINUTE, 4 * MINUTE)];
    const high = load(0, 2 * MINUTE, 600, () => ({}));
    const together = (highEveryMs: number, lowEveryMs: number) =>
      run(
        [
          ...high,
          ...load(2 * MINUTE, 4 * MINUTE, highEveryMs, () => ({})),
          ...load(2 * MINUTE, 4 * MINUTE, lowEveryMs, () => ({ lane: 'low' })),
        ],
        { stages },
      );

    test('accepts a high lane that keeps its tokens', () =>
      passes(highGoesFirst(together(620, 20_000), budget)));
    test('rejects a high lane that loses a fifth', () =>
      expect(results(highGoesFirst(together(750, 20_000), budget))).toEqual(['failed', 'passed']));
    test('rejects a low lane with a tenth of the answers', () =>
      expect(results(highGoesFirst(together(600, 5_000), budget))).toEqual(['passed', 'failed']));
    test('rejects a high lane without answers', () =>
      expect(results(highGoesFirst(run(high, { stages }), budget))).toEqual(['failed', 'failed']));
    test('ignores the minute after a change, which still holds the stage before', () => {
      const early = load(2 * MINUTE, 3 * MINUTE, 600, () => ({ lane: 'low' }));
      const late = load(3 * MINUTE, 4 * MINUTE, 600, () => ({}));
      passes(highGoesFirst(run([...high, ...early, ...late], { stages }), budget));
    });
  });

  describe('onlyHonestRejections', () => {
    const full = load(0, 10_000, 100, () => ({}));
    const half = full.slice(0, 75);
    const rejected = (lane: 'high' | 'low', status = 429) =>
      seen({ at: 10_500, ms: 1, status, lane, cost: 10, tokens: 0 });

    test('accepts 429 of the low lane in the reserve, and of the high lane when nothing is left', () => {
      passes(onlyHonestRejections(run([...half, rejected('low')]), budget));
      passes(onlyHonestRejections(run([...full, rejected('high')]), budget));
    });

    test('rejects 429 of the high lane while something is left', () => {
      fails(onlyHonestRejections(run([...half, rejected('high')]), budget));
    });

    test('rejects 429 of the low lane while more than the reserve is left', () => {
      fails(onlyHonestRejections(run([...full.slice(0, 50), rejected('low')]), budget));
    });

    test.each([[503], [500], [404], [0]])('rejects the status %d in any lane', (status) => {
      fails(onlyHonestRejections(run([...full, rejected('low', status)]), budget));
      fails(onlyHonestRejections(run([...full, rejected('high', status)]), budget));
    });

    test('lets a source believe in old numbers for a while', () => {
      const late = { ...rejected('low'), at: MINUTE + 12_000 };
      fails(onlyHonestRejections(run([...full, late]), budget));
      passes(onlyHonestRejections(run([...full, late]), { ...budget, staleMs: 12_000 }));
    });
  });

  test('lanesAreNamed needs the lane on each answer, and a reason on each rejection of the low lane', () => {
    const low = { lane: 'low', priority: 'low', status: 429 } as const;
    const rejected = many(20, () => ({ ...low, reason: 'tokens' }));
    passes(lanesAreNamed(run([seen(), ...rejected]), budget));
    fails(lanesAreNamed(run([seen({ priority: undefined })]), budget));
    fails(lanesAreNamed(run([seen({ lane: 'low', priority: 'high' })]), budget));
    fails(lanesAreNamed(run([...rejected, seen(low)]), budget));
    passes(lanesAreNamed(run([...rejected, seen(low)]), { ...budget, probes: 0.05 }));
    fails(lanesAreNamed(run([...rejected, seen(low), seen(low)]), { ...budget, probes: 0.05 }));
    fails(lanesAreNamed(run([]), budget));
  });
});

test('replicasWereAdded compares with the minimum', () => {
  passes(replicasWereAdded({ replicas: { least: 2, most: 3 } }, 1));
  fails(replicasWereAdded({ replicas: { least: 2, most: 3 } }, 2));
  isOpen(replicasWereAdded({ replicas: 'no platform' }, 1));
});

describe('an observation', () => {
  const path = '/pool/openai/deployments/embedding100k/embeddings?api-version=2023-05-15';

  test.each<readonly [string, string, unknown, number]>([
    ['a quarter of the characters of an embedding', path, { input: 'x'.repeat(974) }, 244],
    ['the sum over a list of inputs', path, { input: ['x'.repeat(5), 'y'] }, 3],
    ['max_tokens', '/openai/deployments/a/chat/completions', { max_tokens: 1000 }, 1000],
    ['16 without max_tokens', '/openai/deployments/a/chat/completions', { messages: [] }, 16],
    ['16 for a body that is not JSON', '/openai/deployments/a/completions', undefined, 16],
  ])('costs %s', (_, where, body, cost) => expect(costOf(where, body)).toBe(cost));

  test('reads backend, lane and usage from the answer', () => {
    const sent = { at: 5, path, lane: 'low', client: 2, body: { input: 'abcd' } } as const;
    const headers = new Headers({
      'x-gateway-backend': 'payg-backend-1',
      'x-gw-priority': 'low',
      'x-gw-ratelimit-reason': 'tokens',
    });
    const text = '{"usage": {"total_tokens": 3}}';
    expect(observationOf(sent, { status: 200, headers, text }, 12)).toEqual({
      at: 5,
      ms: 12,
      status: 200,
      backend: 'payg-backend-1',
      lane: 'low',
      client: 2,
      cost: 1,
      tokens: 3,
      priority: 'low',
      reason: 'tokens',
    });
    expect(observationOf(sent, undefined, 12)).toMatchObject({ status: 0, backend: undefined, tokens: 0 });
    expect(observationOf(sent, { status: 200, headers, text: 'no JSON' }, 1).tokens).toBe(0);
  });
});
