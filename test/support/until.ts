import { setTimeout as sleep } from 'node:timers/promises';

/** Until a condition holds; rejects after `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${String(condition)}`);
    await sleep(5);
  }
}
