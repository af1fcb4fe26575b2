/** Being told to end, by Ctrl-C or by another process. */
export interface Interruption {
  readonly signal: AbortSignal;
  /** At the first signal. */
  readonly once: Promise<void>;
  /** At the second one. */
  readonly twice: Promise<void>;
  forget(): void;
}

export function onInterruption(): Interruption {
  const controller = new AbortController();
  const { promise: once, resolve: first } = resolvable();
  const { promise: twice, resolve: second } = resolvable();
  const take = () => {
    if (controller.signal.aborted) second();
    controller.abort();
    first();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, take);
  const forget = () => {
    for (const signal of signals) process.off(signal, take);
  };
  return { signal: controller.signal, once, twice, forget };
}

function resolvable(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
