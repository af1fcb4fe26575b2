import type { Config, LimitConfig } from './config.ts';

const TOKEN_WINDOW_MS = 60_000;
const REQUEST_WINDOW_MS = 10_000;

export interface Standing {
  readonly remainingTokens: number;
  readonly remainingRequests: number;
  readonly limitTokens: number;
  readonly limitRequests: number;
}

export type Verdict =
  | { readonly allowed: true; readonly standing?: Standing }
  | { readonly allowed: false; readonly kind: 'tokens' | 'requests'; readonly retryAfterMs: number };

/**
 * Limits by sliding windows for each deployment. A rejected request costs nothing. Changing limits keeps the windows.
 */
export class Limiter {
  readonly #windows = new Map<string, { tokens: SlidingWindow; requests: SlidingWindow }>();

  /**
   * Counts a request if it fits. `cost` is in tokens.
   * @returns whether it fits
   */
  admit(deployment: string, cost: number, { limits }: Config, now = performance.now()): Verdict {
    const limit = limits[deployment] ?? limits['*'];
    if (!limit) return { allowed: true };
    let windows = this.#windows.get(deployment);
    if (!windows) {
      windows = { tokens: new SlidingWindow(), requests: new SlidingWindow() };
      this.#windows.set(deployment, windows);
    }
    const { tpm, windowMs, rp, rpWindowMs } = complete(limit);
    const tokensAfter = windows.tokens.waitFor(cost, tpm, windowMs, now);
    const requestsAfter = windows.requests.waitFor(1, rp, rpWindowMs, now);
    if (tokensAfter > 0 || requestsAfter > 0) {
      const kind = tokensAfter >= requestsAfter ? 'tokens' : 'requests';
      return { allowed: false, kind, retryAfterMs: Math.max(tokensAfter, requestsAfter) };
    }
    windows.tokens.add(cost, now);
    windows.requests.add(1, now);
    return {
      allowed: true,
      standing: {
        remainingTokens: tpm - windows.tokens.sum,
        remainingRequests: rp - windows.requests.sum,
        limitTokens: tpm,
        limitRequests: rp,
      },
    };
  }

  reset(): void {
    this.#windows.clear();
  }
}

const complete = ({ tpm, windowMs, rp, rpWindowMs }: LimitConfig): Required<LimitConfig> => ({
  tpm,
  windowMs: windowMs ?? TOKEN_WINDOW_MS,
  rp: rp ?? Math.ceil(tpm / 1000),
  rpWindowMs: rpWindowMs ?? REQUEST_WINDOW_MS,
});

/** The costs with their times, oldest first. */
class SlidingWindow {
  #entries: { at: number; cost: number }[] = [];
  #first = 0;
  sum = 0;

  /** Milliseconds until `cost` fits under `limit`, 0 for now. A cost that never fits waits for a whole window. */
  waitFor(cost: number, limit: number, windowMs: number, now: number): number {
    this.#forget(now - windowMs);
    if (this.sum + cost <= limit) return 0;
    let left = this.sum;
    for (let index = this.#first; index < this.#entries.length; index++) {
      const entry = this.#entries[index];
      if (!entry) break;
      left -= entry.cost;
      if (left + cost <= limit) return Math.max(1, entry.at + windowMs - now);
    }
    return windowMs;
  }

  add(cost: number, at: number): void {
    this.#entries.push({ at, cost });
    this.sum += cost;
  }

  #forget(before: number): void {
    for (let oldest = this.#entries[this.#first]; oldest && oldest.at <= before; ) {
      this.sum -= oldest.cost;
      oldest = this.#entries[++this.#first];
    }
    if (this.#first > 1024 && this.#first * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }
}
