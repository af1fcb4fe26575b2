/** A budget of tokens for each deployment that both lanes share over a sliding minute, which is shorter here. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { costing, expectRefusal, type Shot, shoot } from '../support/limits.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';
import { backendOf, calls, NO_COOLDOWN } from '../support/traffic.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('shared budgets of tokens');
const withoutRedis = skipped || cannotRunRedisTests('shared budgets of tokens in Redis');

const LOW = { 'x-priority': 'low' };
const KEY = { 'api-key': CLIENT_KEY };

/** The length of the minute in seconds. */
const MINUTE = 12;

const LOW_REFUSED = {
  status: 429,
  message: 'The tokens that this deployment has left are reserved for requests of the high lane.',
  lane: 'low',
  withinMs: (MINUTE + 1) * 1000,
} as const;
const HIGH_REFUSED = {
  ...LOW_REFUSED,
  message: 'The tokens a minute of this deployment are used up.',
  lane: 'high',
} as const;

/** A request of the high lane for a deployment, with a short answer. */
const high = (model: string, more: Shot = {}): Shot => ({
  ...more,
  headers: { ...KEY, ...more.headers },
  body: { model, max_tokens: 10, ...more.body },
});
const low = (model: string, more: Shot = {}): Shot => high(model, { ...more, headers: LOW });

async function budgetOf(gateway: Gateway, shot: Shot) {
  const { status, headers } = await shoot(gateway, shot);
  const of = (name: string) => headers.get(`x-gw-${name}`);
  return {
    status,
    priority: of('priority'),
    tokens: Number(of('remaining-tokens')),
    requests: of('remaining-requests'),
    reason: of('ratelimit-reason'),
    value: of('ratelimit-value'),
  };
}

/** The tokens that a deployment has left, by a request that costs nothing in the end. */
async function leftOf(gateway: Gateway, shot: Shot): Promise<number> {
  const mock = backendOf(gateway, 0);
  mock.always({ status: 400 });
  const { tokens } = await budgetOf(gateway, shot);
  return tokens;
}

describe.skipIf(skipped)('a budget that both lanes share', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: { AI_RATE_LIMIT_SHARED_LIMIT: '1000', AI_RATE_LIMIT_HIGH_RESERVE: '300', ...NO_COOLDOWN },
      times: { budget_minute: MINUTE },
      adapt: quickMetrics,
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => backendOf(gateway, 0).reset());

  const costs = (tokens: number) => backendOf(gateway, 0).always(costing(tokens, 0));

  test('rejects the low lane while less than the reserve is left, and the high lane when nothing is', async () => {
    costs(700);
    expect((await shoot(gateway, low('reserve'))).status).toBe(200);
    costs(1);
    expect((await shoot(gateway, low('reserve'))).status).toBe(200);
    const rejected = await budgetOf(gateway, low('reserve'));
    expect(rejected).toMatchObject({
      status: 429,
      priority: 'low',
      reason: 'tokens-below-low-priority-threshold',
      value: '299',
    });
    await expectRefusal(gateway, low('reserve'), LOW_REFUSED);
    costs(299);
    expect((await shoot(gateway, high('reserve'))).status).toBe(200);
    await expectRefusal(gateway, high('reserve'), HIGH_REFUSED);
    expect(await budgetOf(gateway, high('reserve'))).toMatchObject({ reason: 'tokens-used-up', value: '0' });
    // Another deployment has another budget.
    expect((await shoot(gateway, low('another'))).status).toBe(200);
  });

  test('lets requests pass again at the time that it gives', async () => {
    costs(900);
    await shoot(gateway, high('time'));
    const wait = await expectRefusal(gateway, low('time'), LOW_REFUSED);
    costs(1);
    await sleep(wait - 1_500);
    expect((await shoot(gateway, low('time'))).status).toBe(429);
    await sleep(1_600);
    expect((await shoot(gateway, low('time'))).status).toBe(200);
  });

  test('is charged with the usage of answers and streams, and gives back what failures reserved', async () => {
    const stream = high('charges', { body: { stream: true, stream_options: { include_usage: true } } });
    const before = await leftOf(gateway, high('charges'));
    expect(before).toBeGreaterThan(940);
    costs(200);
    expect((await shoot(gateway, high('charges'))).status).toBe(200);
    expect(before - (await leftOf(gateway, high('charges')))).toBe(200);
    backendOf(gateway, 0).always(undefined);
    const { status, text } = await shoot(gateway, stream);
    expect(status).toBe(200);
    const used = Number(/"total_tokens":\s*(\d+)/.exec(text)?.[1]);
    expect(used).toBeGreaterThan(0);
    expect(before - (await leftOf(gateway, high('charges')))).toBe(200 + used);
    for (const failure of [{ status: 500 }, { status: 429 }, { reset: 'before-headers' as const }]) {
      backendOf(gateway, 0).always(failure);
      expect((await shoot(gateway, high('charges', { body: { max_tokens: 50 } }))).status).toBeGreaterThan(
        399,
      );
    }
    expect(before - (await leftOf(gateway, high('charges')))).toBe(200 + used);
  });

  test('keeps the reservation of a client that leaves before the answer', async () => {
    const before = await leftOf(gateway, high('leaves'));
    backendOf(gateway, 0).always({ hang: true });
    const aborted = new AbortController();
    const answer = gateway.fetch('/openai/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'leaves', max_tokens: 80, messages: [] }),
      signal: aborted.signal,
    });
    const arrived = calls(gateway)[0] ?? 0;
    await backendOf(gateway, 0).waitForRequests(arrived + 1);
    aborted.abort();
    await expect(answer).rejects.toThrow();
    await sleep(300);
    expect(before - (await leftOf(gateway, high('leaves')))).toBeGreaterThanOrEqual(80);
  });

  test('is not overdrawn by many requests at once', async () => {
    backendOf(gateway, 0).always({ ...costing(60, 0), delayMs: 500 });
    const statuses = await Promise.all(
      Array.from(
        { length: 60 },
        async () => (await shoot(gateway, high('many', { body: { max_tokens: 40 } }))).status,
      ),
    );
    const passed = statuses.filter((status) => status === 200).length;
    // Each reserves 40 tokens and a quarter of its bytes, which is about its cost.
    process.stderr.write(
      `\nshared budget in memory: 1000 tokens, 60 requests of 60 at once: ${passed} passed\n`,
    );
    expect(passed * 60).toBeGreaterThanOrEqual(900);
    expect(passed * 60).toBeLessThanOrEqual(1200);
    expect(statuses.every((status) => status === 200 || status === 429)).toBe(true);
  });

  test('is counted as a limiter of its own, in metrics and in the access log', async () => {
    const metrics = await gateway.metrics();
    for (const [lane, decision] of [
      ['high', 'allowed'],
      ['low', 'allowed'],
      ['low', 'rejected'],
    ])
      expect(metrics).toMatch(
        new RegExp(
          `^apisix_genai_limiter_decisions_total\\{limiter="shared-budget",lane="${lane}",consumer="app",decision="${decision}".*\\} [1-9]`,
          'm',
        ),
      );
    const lines = (await gateway.accessLog()).filter(({ limiter }) => limiter === 'shared-budget');
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.every(({ status, error }) => status === '429' && error === 'rate_limit_exceeded')).toBe(
      true,
    );
  });
});

/** Users of the toolkit's prioritization run: each sends a request, waits for the answer, and thinks for a while. */
class Users {
  readonly #gateway: Gateway;
  readonly #counts = new Map<string, number>();
  model = 'to-measure';
  /** The tokens of each answer. */
  cost = 1;

  constructor(gateway: Gateway) {
    this.#gateway = gateway;
  }

  /** Runs users for a time; their lanes by turns are these. Returns the number of answers by lane and status. */
  async run(lanes: readonly ('high' | 'low')[], users: number, milliseconds: number) {
    this.#counts.clear();
    const end = performance.now() + milliseconds;
    const one = async (lane: 'high' | 'low', index: number) => {
      await sleep((THINK_MS * index) / users);
      while (performance.now() < end) {
        const body = { max_tokens: this.cost };
        const shot = lane === 'low' ? low(this.model, { body }) : high(this.model, { body });
        const { status } = await shoot(this.#gateway, shot);
        const key = `${lane} ${status}`;
        this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
        await sleep(THINK_MS);
      }
    };
    await Promise.all(
      Array.from({ length: users }, (_, index) => one(lanes[index % lanes.length] ?? 'high', index)),
    );
    return Object.fromEntries(this.#counts);
  }
}

const THINK_MS = 250;
const CYCLE_MINUTE = 8;
const CYCLE_LIMIT = 20_000;
const CYCLE_RESERVE = 6_000;
/** Nine users ask for this multiple of the budget, so that a machine which becomes slower leaves nothing unasked. */
const CYCLE_DEMAND = 2;

describe.skipIf(skipped)('the toolkit’s prioritization cycle, shortened', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        AI_RATE_LIMIT_SHARED_LIMIT: String(CYCLE_LIMIT),
        AI_RATE_LIMIT_HIGH_RESERVE: String(CYCLE_RESERVE),
      },
      times: { budget_minute: CYCLE_MINUTE },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test(
    'gives each lane alone its share, and the high lane nearly all when both are present',
    async () => {
      const users = new Users(gateway);
      backendOf(gateway, 0).always(costing(1, 0));
      const measured = (await users.run(['high'], 9, (CYCLE_MINUTE * 1000) / 2))['high 200'] ?? 0;
      users.cost = Math.ceil((CYCLE_DEMAND * CYCLE_LIMIT) / (2 * measured));
      users.model = 'gpt-4o';
      backendOf(gateway, 0).always(costing(users.cost, 0));
      const phase = 2 * CYCLE_MINUTE * 1000;
      const phases = [
        await users.run(['low'], 9, phase),
        await users.run(['high', 'low'], 18, phase),
        await users.run(['high'], 9, phase),
        await users.run(['high', 'low'], 18, phase),
        await users.run(['low'], 9, phase),
      ];
      process.stderr.write(`\nprioritization cycle, ${users.cost} tokens each: ${JSON.stringify(phases)}\n`);
      const [lowFirst = {}, mixed = {}, highAlone = {}, mixedAgain = {}] = phases;
      const alone = highAlone['high 200'] ?? 0;
      // Two minutes, with the budget of each; in the first seconds the minute before counts, too.
      expect(lowFirst['low 200']).toBeLessThanOrEqual((2.2 * (CYCLE_LIMIT - CYCLE_RESERVE)) / users.cost);
      expect(lowFirst['low 200']).toBeGreaterThanOrEqual((1.5 * (CYCLE_LIMIT - CYCLE_RESERVE)) / users.cost);
      expect(alone).toBeLessThanOrEqual((2.2 * CYCLE_LIMIT) / users.cost);
      expect(alone).toBeGreaterThanOrEqual((1.5 * CYCLE_LIMIT) / users.cost);
      // Both lanes use the budget in waves, so a phase may have a part of a wave more or less than another one.
      const even = ((phase / 1000 / (CYCLE_MINUTE + 1)) * CYCLE_LIMIT) / users.cost;
      const sum = (key: string) => (mixed[key] ?? 0) + (mixedAgain[key] ?? 0);
      expect(sum('high 200')).toBeGreaterThanOrEqual(2 * 0.9 * Math.min(alone, even));
      expect(sum('low 200')).toBeLessThan(0.1 * (sum('high 200') + sum('low 200')));
      for (const counts of phases)
        expect(Object.keys(counts).filter((key) => !/ (?:200|429)$/.test(key))).toEqual([]);
    },
    2 * CONTAINER_TIMEOUT_MS,
  );
});

describe.skipIf(skipped)('budgets of pools', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        GATEWAY_POOL_NAME_0: 'counted',
        GATEWAY_POOL_TOKENS_PER_MINUTE_0: '1000',
        GATEWAY_POOL_HIGH_RESERVE_0: '300',
        GATEWAY_POOL_NAME_1: 'also-counted',
        GATEWAY_POOL_TOKENS_PER_MINUTE_1: '500',
        GATEWAY_POOL_NAME_2: 'reported',
        GATEWAY_POOL_BUDGET_SOURCE_2: 'backend',
        GATEWAY_POOL_HIGH_RESERVE_2: '300',
        GATEWAY_POOL_NAME_3: 'free',
        ...NO_COOLDOWN,
      },
      times: { budget_minute: MINUTE },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => backendOf(gateway, 0).reset());

  const of = (pool: string): Shot => ({ path: `/${pool}/openai/v1/chat/completions` });
  const answering = (tokens: number, left?: string) =>
    backendOf(gateway, 0).always({
      ...costing(tokens, 0),
      headers:
        left === undefined
          ? { 'x-ratelimit-remaining-tokens': null, 'x-ratelimit-remaining-requests': null }
          : { 'x-ratelimit-remaining-tokens': left, 'x-ratelimit-remaining-requests': '9' },
    });

  test('are kept apart from each other, and from the plain paths, which have none', async () => {
    answering(1000);
    expect((await shoot(gateway, high('apart', of('counted')))).status).toBe(200);
    await expectRefusal(gateway, high('apart', of('counted')), HIGH_REFUSED);
    await expectRefusal(gateway, low('apart', of('counted')), LOW_REFUSED);
    expect(await budgetOf(gateway, low('apart', of('also-counted')))).toMatchObject({
      status: 200,
      priority: 'low',
    });
    for (const shot of [low('apart', of('free')), low('apart')]) {
      for (let index = 0; index < 2; index++)
        expect(await budgetOf(gateway, shot)).toMatchObject({ status: 200, priority: null, requests: null });
    }
  });

  test('follow what the backend reports, and never reject the high lane', async () => {
    answering(5, '400');
    expect(await budgetOf(gateway, low('reports', of('reported')))).toMatchObject({
      status: 200,
      priority: 'low',
      tokens: 400,
      requests: '9',
    });
    answering(5, '299');
    expect((await shoot(gateway, low('reports', of('reported')))).status).toBe(200);
    await expectRefusal(gateway, low('reports', of('reported')), { ...LOW_REFUSED, withinMs: 5_000 });
    answering(5, '0');
    for (let index = 0; index < 3; index++)
      expect(await budgetOf(gateway, high('reports', of('reported')))).toMatchObject({
        status: 200,
        tokens: 0,
      });
    expect(await budgetOf(gateway, low('reports', of('reported')))).toMatchObject({
      status: 429,
      value: '0',
    });
  });

  test('cannot be used up or evaded by the numbers that a client writes', async () => {
    const path = '/reported/openai/v1/chat/completions';
    const raw = (body: string, more: Record<string, string>) =>
      gateway.fetch(path, { method: 'POST', headers: { 'content-type': 'application/json', ...more }, body });
    answering(5, '900');
    expect((await shoot(gateway, low('written', of('reported')))).status).toBe(200);
    backendOf(gateway, 0).always({ status: 400 });
    for (const most of ['1e999', '1e12', '999999999'])
      expect(
        (await raw(`{"model":"written","max_tokens":${most},"n":${most}}`, { ...KEY, ...LOW })).status,
      ).toBe(400);
    expect((await shoot(gateway, low('written', of('reported')))).status).toBe(400);
    answering(5, '100');
    expect((await shoot(gateway, high('written', of('reported')))).status).toBe(200);
    backendOf(gateway, 0).always({ status: 400 });
    expect((await raw('{"model":"written","best_of":nan}', KEY)).status).toBe(400);
    await expectRefusal(gateway, low('written', of('reported')), { ...LOW_REFUSED, withinMs: 5_000 });
  });

  test('count requests whose deployment cannot be read', async () => {
    const headers = { ...KEY, ...LOW, 'content-type': 'application/json; charset=utf-16' };
    const body = new Uint8Array(Buffer.from(JSON.stringify({ model: 'apart' }), 'utf16le'));
    const path = '/also-counted/openai/v1/chat/completions';
    const send = async () => {
      const answer = await gateway.fetch(path, { method: 'POST', headers, body });
      await answer.text();
      return answer.status;
    };
    answering(1000);
    expect([await send(), await send()]).toEqual([200, 429]);
  });

  test('limit nobody by a number that the backend does not report, or that is negative', async () => {
    for (const left of [undefined, '-1']) {
      answering(5, left);
      for (let index = 0; index < 3; index++)
        expect(await budgetOf(gateway, low(`without-${left}`, of('reported')))).toMatchObject({
          status: 200,
          tokens: -1,
        });
    }
  });

  test(
    'let one request of the low lane find out more when reports are old',
    async () => {
      answering(5, '100');
      await shoot(gateway, low('probe', of('reported')));
      const wait = await expectRefusal(gateway, low('probe', of('reported')), {
        ...LOW_REFUSED,
        withinMs: 5_000,
      });
      await sleep(wait + 50);
      answering(5, '900');
      const statuses = await Promise.all(
        Array.from({ length: 5 }, async () => (await shoot(gateway, low('probe', of('reported')))).status),
      );
      expect(statuses).toContain(200);
      expect((await shoot(gateway, low('probe', of('reported')))).status).toBe(200);
    },
    CONTAINER_TIMEOUT_MS,
  );
});

describe.skipIf(withoutRedis)('a shared budget of two gateways in Redis', () => {
  let redis: Redis;
  let gateways: readonly Gateway[] = [];

  beforeAll(async () => {
    redis = await startRedis();
    const start = () =>
      startGateway({
        backends: [{}],
        settings: {
          AI_RATE_LIMIT_SHARED_LIMIT: '1000',
          AI_RATE_LIMIT_HIGH_RESERVE: '300',
          AI_RATE_LIMIT_POLICY: 'redis',
          AI_RATE_LIMIT_REDIS_HOST: redis.host,
          AI_RATE_LIMIT_REDIS_PORT: String(redis.port),
        },
        times: { budget_minute: MINUTE },
        adapt: quickMetrics,
      });
    gateways = await Promise.all([start(), start()]);
    for (const gateway of gateways) backendOf(gateway, 0).always(costing(100, 0));
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    for (const gateway of gateways) await gateway.stop();
    await redis?.stop();
  });

  const gatewayAt = (index: number): Gateway => {
    const gateway = gateways[index % gateways.length];
    if (!gateway) throw new RangeError('there is no gateway');
    return gateway;
  };
  /** Sends requests to both by turns. A charge reaches Redis a moment after the answer. */
  async function admittedByTurns(count: number, shot: Shot): Promise<number> {
    let passed = 0;
    for (let index = 0; index < count; index++) {
      if ((await shoot(gatewayAt(index), shot)).status === 200) passed++;
      await sleep(30);
    }
    return passed;
  }

  test('is one for both', async () => {
    expect(await admittedByTurns(12, low('both'))).toBe(8);
    for (const gateway of gateways) await expectRefusal(gateway, low('both'), LOW_REFUSED);
    expect(await admittedByTurns(5, high('both'))).toBe(2);
    for (const gateway of gateways) await expectRefusal(gateway, high('both'), HIGH_REFUSED);
    const wait = await expectRefusal(gatewayAt(0), high('both'), HIGH_REFUSED);
    await sleep(wait + 50);
    expect((await shoot(gatewayAt(1), high('both'))).status).toBe(200);
  });

  test('is not overdrawn by many requests at both at once', async () => {
    for (const gateway of gateways) backendOf(gateway, 0).always({ ...costing(60, 0), delayMs: 500 });
    const shots = Array.from({ length: 60 }, (_, index) =>
      shoot(gatewayAt(index), high('many', { body: { max_tokens: 40 } })),
    );
    // A Redis that does not answer within half a second, on a busy machine, lets requests pass uncounted.
    const passed = (await Promise.all(shots)).filter(
      ({ status, headers }) => status === 200 && headers.get('x-gw-remaining-tokens') !== '-1',
    ).length;
    for (const gateway of gateways) backendOf(gateway, 0).always(costing(100, 0));
    process.stderr.write(
      `\nshared budget in Redis: 1000 tokens, 60 requests of 60 at once: ${passed} passed\n`,
    );
    expect(passed * 60).toBeGreaterThanOrEqual(900);
    expect(passed * 60).toBeLessThanOrEqual(1200);
  });

  test('is kept in Redis no longer than it counts', async () => {
    const keys = (await redis.command('KEYS', 'token-budget:*')) as string[];
    expect(keys.length).toBeGreaterThan(0);
    for (const key of keys) expect(await redis.command('TTL', key)).toBeLessThanOrEqual(MINUTE + 2);
  });

  test(
    'lets requests pass uncounted while Redis fails, and counts again when it works',
    async () => {
      await redis.stop();
      expect(await admittedByTurns(30, low('killed'))).toBe(30);
      const { status, tokens } = await budgetOf(gatewayAt(0), low('killed'));
      expect({ status, tokens }).toEqual({ status: 200, tokens: -1 });
      const degraded = /^apisix_genai_limiter_degraded_total\{limiter="shared-budget"\} (\d+)$/m;
      expect(Number(degraded.exec(await gatewayAt(0).metrics())?.[1])).toBeGreaterThanOrEqual(15);
      await redis.restart();
      await eventually(async () => (await budgetOf(gatewayAt(0), low('wakes'))).tokens >= 0);
      await eventually(async () => (await budgetOf(gatewayAt(1), low('wakes'))).tokens >= 0);
      expect(await admittedByTurns(12, low('back'))).toBe(8);
    },
    CONTAINER_TIMEOUT_MS,
  );

  test(
    'makes requests wait for a hanging Redis once at most',
    async () => {
      await redis.pause();
      try {
        const times: number[] = [];
        for (let index = 0; index < 10; index++) {
          const began = performance.now();
          expect((await shoot(gatewayAt(0), low('hangs'))).status).toBe(200);
          times.push(performance.now() - began);
        }
        expect(times.filter((each) => each > 400).length).toBeLessThanOrEqual(2);
      } finally {
        await redis.resume();
      }
    },
    CONTAINER_TIMEOUT_MS,
  );
});
