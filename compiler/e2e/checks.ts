/** The assertions about a run. Pure: each reads observations and reports what was intended and what was seen. */
import type { Lane } from '../model/model.ts';
import type { Observation, Replicas, Run, RunStage } from './observation.ts';

export interface Check {
  readonly what: string;
  readonly intended: string;
  readonly seen: string;
  readonly result: 'passed' | 'failed' | 'not asserted';
}

const check = (what: string, intended: string, seen: string, passed: boolean): Check => ({
  what,
  intended,
  seen,
  result: passed ? 'passed' : 'failed',
});

const notAsserted = (what: string, intended: string, reason: string): Check => ({
  what,
  intended,
  seen: reason,
  result: 'not asserted',
});

const percent = (part: number, whole: number) =>
  whole === 0 ? 'none' : `${((100 * part) / whole).toFixed(1)} %`;
const rounded = (ms: number) => `${Math.round(ms)} ms`;
const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);
const tokensOf = (observations: readonly Observation[]) => sum(observations.map(({ cost }) => cost));

export const succeeded = ({ status }: Observation): boolean => status >= 200 && status < 300;

function countedBy<T>(all: readonly T[], key: (each: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const each of all) counts.set(key(each), (counts.get(key(each)) ?? 0) + 1);
  return counts;
}

const inWords = (counts: ReadonlyMap<string, number>): string =>
  [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none';

const backendOf = ({ backend }: Observation): string => backend ?? 'unknown';

/** A run with hardly any requests proves nothing. */
export const requestsWereSent = ({ observations }: Run, least: number): Check =>
  check(
    'requests',
    `at least ${least}`,
    String(observations.length),
    least > 0 && observations.length >= least,
  );

/** @param allowed failures that belong to the scenario */
export function noneFailed(
  { observations }: Run,
  allowed: { readonly words: string; is(each: Observation): boolean } = { words: '', is: () => false },
): Check {
  const failed = observations.filter((each) => !succeeded(each) && !allowed.is(each));
  const statuses = countedBy(failed, ({ status }) => (status === 0 ? 'no answer' : String(status)));
  return check(
    'failed requests',
    allowed.words === '' ? 'none' : `none but ${allowed.words}`,
    failed.length === 0 ? 'none' : `${failed.length} of ${observations.length}: ${inWords(statuses)}`,
    failed.length === 0 && observations.length > 0,
  );
}

/**
 * The shares of the answers by backend. No other backend may answer.
 * @param weights the intended shares by backend, relative to each other
 * @param tolerance the largest difference of a share, such as 0.05
 */
export function sharesByBackend(
  { observations }: Run,
  weights: Readonly<Record<string, number>>,
  tolerance: number,
): Check {
  const answered = observations.filter(succeeded);
  const counts = countedBy(answered, backendOf);
  const total = sum(Object.values(weights));
  const differs = Object.entries(weights).some(
    ([name, weight]) => Math.abs((counts.get(name) ?? 0) / answered.length - weight / total) > tolerance,
  );
  const others = [...counts.keys()].some((name) => !Object.hasOwn(weights, name));
  const intended = Object.entries(weights)
    .map(([name, weight]) => `${name} ${percent(weight, total)}`)
    .join(', ');
  return check(
    'answers by backend',
    `${intended} (± ${tolerance * 100} points), no other`,
    inWords(counts),
    answered.length > 0 && !differs && !others,
  );
}

/** @param least the smallest share of the answers that this backend gave, such as 0.95 */
export function mostlyFrom(
  what: string,
  observations: readonly Observation[],
  backend: string,
  least: number,
): Check {
  const answered = observations.filter(succeeded);
  const share = answered.filter((each) => each.backend === backend).length / answered.length;
  return check(
    what,
    least === 1 ? `all from ${backend}` : `at least ${least * 100} % from ${backend}`,
    inWords(countedBy(answered, backendOf)),
    answered.length > 0 && share >= least,
  );
}

export function neverFrom({ observations }: Run, backend: string): Check {
  const known = observations.filter(({ backend: by }) => by !== undefined);
  const count = known.filter(({ backend: by }) => by === backend).length;
  return check(`answers of ${backend}`, 'none', String(count), known.length > 0 && count === 0);
}

/**
 * Whether the overflow of a backend was served by another one. Not asserted if the requests never exceeded the limit.
 * @param limit tokens per minute of the backend that is used up
 */
export function overflowServedBy(
  run: Run,
  observations: readonly Observation[],
  backend: string,
  limit: number,
): Check {
  const what = `overflow to ${backend}`;
  const intended = `at least 1 answer, if more than ${limit} tokens were asked for within a minute`;
  const count = observations.filter((each) => succeeded(each) && each.backend === backend).length;
  const most = Math.max(0, ...observations.map(({ at }) => tokensOf(within(observations, at, run.minute))));
  if (count > 0) return check(what, intended, `${count} answers, ${most} tokens at most`, true);
  if (most <= limit) return notAsserted(what, intended, `not asserted: ${most} tokens at most`);
  return check(what, intended, `none, ${most} tokens at most`, false);
}

/** The observations of the `minute` that ends with the requests sent at `end`. */
const within = (observations: readonly Observation[], end: number, minute: number) =>
  observations.filter(({ at }) => at > end - minute && at <= end);

export interface Breaker {
  readonly first: string;
  readonly second: string;
  readonly openMs: number;
  /** Tokens per minute of the second backend. While it is throttled too, the first one may be used. */
  readonly limit: number;
}

/** The second backend throttles a little before its limit: a request has to fit as a whole. */
const ALMOST = 0.95;

/**
 * Whether an open breaker keeps traffic away from the first backend: after the first answer of the second one, it gets
 * no request for as long as the breaker is open and the second one has room.
 */
export function breakerHolds({ observations, minute }: Run, breaker: Breaker): Check {
  const { first, second, openMs, limit } = breaker;
  const what = 'breaker';
  const intended = `${first} gets nothing for ${rounded(openMs)} after the first answer of ${second}`;
  const ofSecond = observations.filter((each) => succeeded(each) && each.backend === second);
  const [opened] = ofSecond;
  if (!opened) return notAsserted(what, intended, 'not asserted: the breaker never opened');
  const full = ofSecond.find(({ at }) => tokensOf(within(ofSecond, at, minute)) > ALMOST * limit);
  // The 429 that opened it came before the answer.
  const from = opened.at + opened.ms;
  const to = Math.min(opened.at + openMs, full?.at ?? Number.POSITIVE_INFINITY);
  const during = observations.filter(({ at }) => at > from && at < to);
  const wrong = during.filter(({ backend }) => backend === first).length;
  return check(
    what,
    intended,
    `${wrong} of ${during.length} requests to ${first}`,
    during.length > 0 && wrong === 0,
  );
}

export const medianMs = (observations: readonly Observation[]): number => {
  const sorted = observations.map(({ ms }) => ms).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
};

/** The least ratio between the slow and the fast part of a run. */
const SLOWER = 1.5;

/** Whether one part of the run was slower than another, by their medians. */
export function slowerThan(
  what: string,
  slow: readonly Observation[],
  fast: readonly Observation[],
  than: string,
): Check {
  const [slowMs, fastMs] = [slow, fast].map((each) => medianMs(each.filter(succeeded)));
  return check(
    what,
    `at least ${SLOWER} times the median ${than}`,
    `${rounded(slowMs ?? Number.NaN)}, ${than} ${rounded(fastMs ?? Number.NaN)}`,
    // False also for a part without answers, whose median is not a number.
    (slowMs ?? 0) >= SLOWER * (fastMs ?? Number.NaN),
  );
}

export function helperAccepted({ helpers }: Run, least: number): Check {
  const accepted = helpers.filter(({ status }) => status >= 200 && status < 300).length;
  return check(
    'preferred backends set',
    `at least ${least} times, always accepted`,
    `${accepted} of ${helpers.length}`,
    helpers.length >= least && accepted === helpers.length,
  );
}

/** Whether each answer came from the backend that the last call of the helper preferred. */
export function followsTheOrder({ observations, helpers }: Run, marginMs: number): Check {
  const answered = observations
    .filter(succeeded)
    .map(({ at, backend }) => ({ backend, call: helpers.findLast((each) => each.at <= at), at }))
    // Workers learn of a new order one after another.
    .filter(({ call, at }) => call !== undefined && at - call.at >= marginMs);
  const right = answered.filter(({ backend, call }) => backend === call?.order[0]).length;
  return check(
    'answers from the preferred backend',
    'all',
    `${right} of ${answered.length}`,
    answered.length > 0 && right === answered.length,
  );
}

/**
 * Whether all answers of a part of the run came from the backend that was faster then. Not asserted if the measurement
 * itself found another one faster, as it may on a busy machine.
 */
export function allFromTheFaster(
  what: string,
  { observations, helpers }: Run,
  [from, to]: readonly [number, number],
  backend: string,
): Check {
  const current = helpers.filter(({ at }, index) => at < to && (helpers[index + 1]?.at ?? to) > from);
  const other = current.find(({ order }) => order[0] !== backend);
  const part = observations.filter(({ at }) => at >= from && at < to);
  if (other)
    return notAsserted(
      what,
      `all from ${backend}`,
      `not asserted: ${other.order[0]} was measured to be faster`,
    );
  return mostlyFrom(what, part, backend, 1);
}

/** Whether each client used tokens, by the answers that they got. */
export function usageOfEachClient({ observations }: Run, clients: number): Check {
  const used = Array.from({ length: clients }, (_, client) =>
    sum(observations.filter((each) => each.client === client).map(({ tokens }) => tokens)),
  );
  return check(
    'tokens by client',
    `more than 0 for each of ${clients}`,
    used.join(', '),
    used.length > 0 && used.every((tokens) => tokens > 0),
  );
}

/** Whether the gateway's metrics counted exactly the tokens that each client's answers report. */
export function metricsAgree({ observations, counted }: Run, clients: number): Check {
  const used = Array.from({ length: clients }, (_, client) =>
    sum(observations.filter((each) => each.client === client).map(({ tokens }) => tokens)),
  );
  const what = 'tokens by client in metrics';
  const intended = used.join(', ');
  if (typeof counted === 'string') return notAsserted(what, intended, `not asserted: ${counted}`);
  const same = used.every((tokens, client) => counted[client] === tokens);
  return check(what, intended, counted.join(', '), same && used.some((tokens) => tokens > 0));
}

/** A budget of tokens that both lanes share, and how exactly the source knows what is used. */
export interface Budget {
  /** Tokens per minute of both lanes. */
  readonly limit: number;
  /** Tokens that only the high lane may use. */
  readonly reserve: number;
  /** Relative: 0.05 allows 5 % more or less. */
  readonly tolerance: number;
  /** What it counts: the usage that answers report, or the cost by which backends limit. */
  readonly counts: 'usage' | 'cost';
  /** The greatest share of the low lane's answers that may be requests which found out whether there is more. */
  readonly probes: number;
  /** The least part of its tokens that the high lane keeps while the low lane is there. */
  readonly highKeeps: number;
  /** How long the source may believe in numbers that are no longer true, in milliseconds. */
  readonly staleMs: number;
}

/** The part of a stage in which the budget's minute holds no request of the stage before. */
const settled = ({ from, to }: RunStage, { observations, minute }: Run): readonly Observation[] =>
  observations.filter(({ at }) => at >= from + minute && at < to);

const settledSeconds = ({ from, to }: RunStage, { minute, second }: Run): number =>
  (to - from - minute) / second;

const lanes = (observations: readonly Observation[], lane: Lane) =>
  observations.filter((each) => succeeded(each) && each.lane === lane);

/** The tokens of observations, as the budget counts them. */
const counted = (observations: readonly Observation[], { counts }: Budget): number =>
  counts === 'cost' ? tokensOf(observations) : sum(observations.map(({ tokens }) => tokens));

/** Tokens of requests that began and ended within the minute before `at`: certainly used. */
const certainlyUsed = (all: readonly Observation[], at: number, minute: number, budget: Budget) =>
  counted(
    all.filter((each) => each.at > at - minute && each.at + each.ms < at),
    budget,
  );

/** Tokens of requests that overlap the minute before `at`: possibly used. */
const possiblyUsed = (all: readonly Observation[], at: number, minute: number, budget: Budget) =>
  counted(
    all.filter((each) => each.at + each.ms > at - minute && each.at <= at),
    budget,
  );

/** The most tokens that succeeded within any minute of a part of the run. */
const mostInAMinute = (part: readonly Observation[], minute: number, budget: Budget) =>
  Math.max(0, ...part.map(({ at }) => counted(within(part, at, minute), budget)));

/** Whether a lane that is alone gets its whole allowance, and no more. One check for each stage with this lane alone. */
export function alone(run: Run, lane: Lane, budget: Budget): readonly Check[] {
  const { limit, reserve, tolerance } = budget;
  const allowance = lane === 'high' ? limit : limit - reserve;
  const [least, most] = [allowance * (1 - 2 * tolerance), allowance * (1 + tolerance)];
  return run.stages
    .filter((stage) => stage.lane === lane)
    .map(({ from, to }) => {
      const part = lanes(run.observations, lane).filter(({ at }) => at >= from && at < to);
      const used = mostInAMinute(part, run.minute, budget);
      return check(
        `${lane} lane alone, tokens a minute`,
        `up to ${allowance} (at least ${Math.round(least)})`,
        String(used),
        used >= least && used <= most,
      );
    });
}

/** Whether both lanes together stay within the budget in every minute. */
export function withinBudget(run: Run, budget: Budget): Check {
  const { limit, tolerance } = budget;
  const used = mostInAMinute(run.observations.filter(succeeded), run.minute, budget);
  return check(
    'tokens of both lanes in any minute',
    `at most ${limit}`,
    String(used),
    used > 0 && used <= limit * (1 + tolerance),
  );
}

/** Whether each low-lane request was admitted only while less than its allowance was used. */
export function lowLeavesTheReserve(run: Run, budget: Budget): Check {
  const { limit, reserve, tolerance, probes } = budget;
  const all = run.observations.filter(succeeded);
  const low = all.filter((each) => each.lane === 'low');
  const allowance = limit - reserve;
  const above = low.filter(
    ({ at }) => certainlyUsed(all, at, run.minute, budget) > allowance * (1 + tolerance),
  );
  return check(
    `answers of the low lane while more than ${allowance} tokens were used`,
    probes === 0 ? 'none' : `at most ${probes * 100} %, which find out whether there is more`,
    low.length === 0 ? 'the low lane was never served' : `${above.length} of ${low.length}`,
    low.length > 0 && above.length <= probes * low.length,
  );
}

/** The greatest share of the answers that the low lane gets while the high lane is there. */
const LOW_SHARE = 0.1;

/** Whether the low lane leaves the high lane alone, in each stage with both. */
export function highGoesFirst(run: Run, { highKeeps }: Budget): readonly Check[] {
  const rate = (stage: RunStage) => tokensOf(lanes(settled(stage, run), 'high')) / settledSeconds(stage, run);
  const aloneStage = run.stages.find((stage) => stage.lane === 'high');
  return run.stages
    .filter((stage) => stage.lane === 'mixed')
    .flatMap((stage) => {
      const high = lanes(settled(stage, run), 'high').length;
      const low = lanes(settled(stage, run), 'low').length;
      const share = check(
        'both lanes: low lane of the answers',
        `under ${LOW_SHARE * 100} %`,
        `${percent(low, high + low)} (high ${high}, low ${low})`,
        high > 0 && low / (high + low) < LOW_SHARE,
      );
      if (!aloneStage) return [share];
      const [together, byItself] = [rate(stage), rate(aloneStage)];
      return [
        check(
          'both lanes: tokens of the high lane',
          `at least ${highKeeps * 100} % of what it gets alone`,
          percent(together, byItself),
          byItself > 0 && together >= highKeeps * byItself,
        ),
        share,
      ];
    });
}

/**
 * Whether each failure is a 429 of the low lane while less than the reserve is left, or of any lane while the budget is
 * used up.
 */
export function onlyHonestRejections(run: Run, budget: Budget): Check {
  const { limit, reserve, tolerance, staleMs } = budget;
  const all = run.observations.filter(succeeded);
  const failed = run.observations.filter((each) => !succeeded(each));
  const wrong = failed.filter((each) => {
    if (each.status !== 429) return true;
    const used = possiblyUsed(all, each.at + each.ms, run.minute + staleMs, budget) + each.cost;
    return used < (each.lane === 'low' ? limit - reserve : limit) * (1 - tolerance);
  });
  const statuses = countedBy(wrong, ({ status, lane }) => `${status || 'no answer'} in the ${lane} lane`);
  return check(
    'failed requests',
    'only 429: of the low lane in the reserve, of the high lane when the budget is used up',
    wrong.length === 0
      ? `${failed.length} × 429, all as intended`
      : `not intended: ${inWords(statuses)} (of ${failed.length})`,
    wrong.length === 0 && run.observations.length > 0,
  );
}

/**
 * Whether each answer names the lane of its request, and each rejection of the low lane its reason. Requests that find
 * out whether there is more may be rejected by the backend itself, without a reason.
 */
export function lanesAreNamed({ observations }: Run, { probes }: Budget): Check {
  const answered = observations.filter(({ status }) => status > 0);
  const unnamed = answered.filter(({ priority, lane }) => priority !== lane).length;
  const rejected = answered.filter(({ status, lane }) => status === 429 && lane === 'low');
  const withoutReason = rejected.filter(({ reason }) => reason === undefined).length;
  return check(
    'headers x-gw-priority, x-gw-ratelimit-reason',
    'the lane on each answer, a reason on rejections of the low lane',
    `without lane ${unnamed} of ${answered.length}, without reason ${withoutReason} of ${rejected.length}`,
    answered.length > 0 && unnamed === 0 && withoutReason <= probes * rejected.length,
  );
}

/** @param more how many replicas there have to be in addition to the minimum */
export function replicasWereAdded(
  { replicas }: { readonly replicas: Replicas | string },
  more: number,
): Check {
  const what = 'replicas';
  const intended = `at least ${more} more than the minimum`;
  if (typeof replicas === 'string') return notAsserted(what, intended, `not asserted: ${replicas}`);
  return check(
    what,
    intended,
    `${replicas.most}, minimum ${replicas.least}`,
    replicas.most >= replicas.least + more,
  );
}
