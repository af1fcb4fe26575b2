import { setTimeout as sleep } from 'node:timers/promises';

/** Waits until a condition holds. Rejects after `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${String(condition)}`);
    await sleep(5);
  }
}

/** Waits until an asynchronous condition holds. An error in it ends the wait. */
export async function eventually(
  condition: () => Promise<boolean>,
  { timeoutMs = 10_000, intervalMs = 50 }: { readonly timeoutMs?: number; readonly intervalMs?: number } = {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${String(condition)}`);
    await sleep(intervalMs);
  }
}
