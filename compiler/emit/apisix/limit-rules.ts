/** The rules of ai-rate-limiting and limit-count. */
import type { GatewayModel, Limits } from '../../model/model.ts';

export interface LimitRule {
  readonly key: string;
  readonly count: number | string;
  readonly time_window: number | string;
  readonly header_prefix: string;
}

/** The rules of each limiter; undefined: the gateway does not use the limiter. */
export interface LimitRules {
  readonly tokenRules: readonly LimitRule[] | undefined;
  readonly countRules: readonly LimitRule[] | undefined;
  /** The variable by which limit-req counts requests. */
  readonly requestRateKey: string;
}

export const limitRules = (model: GatewayModel): LimitRules => ({
  tokenRules: tokenRules(model),
  countRules: countRules(model),
  requestRateKey: requestKey(model.limits),
});

/**
 * Variables that azure-openai-proxy registers. A variable is nil if its rule does not apply to the request, and the
 * limiter then skips the rule. Each rule uses only one of them, because the limiter skips a rule only if none of its
 * variables has a value.
 */
const VARIABLE = {
  client: 'genai_client',
  highLane: 'genai_lane_high',
  lowLane: 'genai_lane_low',
  highLaneOfClient: 'genai_lane_high_client',
  lowLaneOfClient: 'genai_lane_low_client',
  clientDay: 'genai_client_day',
  clientDayTokens: 'genai_client_day_tokens',
  clientMinute: 'genai_client_minute',
  clientMinuteTokens: 'genai_client_minute_tokens',
  clientRequests: 'genai_client_requests',
  clientRequestsLimit: 'genai_client_requests_limit',
} as const;

const SECONDS_PER_DAY = 86_400;
const SECONDS_PER_MINUTE = 60;

const variable = (name: string) => `\${${name}}`;

const byWindow = (a: LimitRule, b: LimitRule) => Number(a.time_window) - Number(b.time_window);

/**
 * Tokens are charged after the answer, and charging stops at the first exhausted rule. So the longest window comes
 * first.
 */
function tokenRules({ limits, clients }: GatewayModel): readonly LimitRule[] | undefined {
  const rules: LimitRule[] = [];
  if (clients.some((each) => each.tokensPerDay !== undefined)) {
    rules.push({
      key: variable(VARIABLE.clientDay),
      count: variable(VARIABLE.clientDayTokens),
      time_window: SECONDS_PER_DAY,
      header_prefix: 'client-day',
    });
  }
  if (limits.lanes) {
    const { scope, window } = limits.lanes;
    const [high, low] =
      scope === 'client'
        ? [VARIABLE.highLaneOfClient, VARIABLE.lowLaneOfClient]
        : [VARIABLE.highLane, VARIABLE.lowLane];
    rules.push({ key: variable(high), count: limits.lanes.high, time_window: window, header_prefix: 'high' });
    rules.push({ key: variable(low), count: limits.lanes.low, time_window: window, header_prefix: 'low' });
  }
  if (clients.some((each) => each.tokensPerMinute !== undefined)) {
    rules.push({
      key: variable(VARIABLE.clientMinute),
      count: variable(VARIABLE.clientMinuteTokens),
      time_window: SECONDS_PER_MINUTE,
      header_prefix: 'client-minute',
    });
  }
  return nonEmpty(rules.sort((a, b) => byWindow(b, a)));
}

const requestKey = (limits: Limits) => (limits.requestKey === 'client' ? VARIABLE.client : 'remote_addr');

/**
 * Requests are counted until a rule rejects. The shortest window comes first, so that a rejected request does not count
 * in the longer windows.
 */
function countRules({ limits, clients }: GatewayModel): readonly LimitRule[] | undefined {
  const rules: LimitRule[] = [];
  if (limits.requestQuota) {
    const { count, window } = limits.requestQuota;
    // A separate prefix keeps the quota's counter apart from other rules with the same variable.
    rules.push({
      key: `quota#${variable(requestKey(limits))}`,
      count,
      time_window: window,
      header_prefix: 'quota',
    });
  }
  if (clients.some((each) => each.requestsPerMinute !== undefined)) {
    rules.push({
      key: variable(VARIABLE.clientRequests),
      count: variable(VARIABLE.clientRequestsLimit),
      time_window: SECONDS_PER_MINUTE,
      header_prefix: 'client-requests',
    });
  }
  return nonEmpty(rules.sort(byWindow));
}

const nonEmpty = <T>(list: readonly T[]): readonly T[] | undefined => (list.length > 0 ? list : undefined);
