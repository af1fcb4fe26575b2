/** Signals that ask this process to stop: Ctrl-C, or a signal from another process. */
export interface Interruption {
  readonly signal: AbortSignal;
  /** Resolves at the first signal. */
  readonly once: Promise<void>;
  /** Resolves at the second signal. */
  readonly twice: Promise<void>;
  dispose(): void;
}

export function onInterruption(): Interruption {
  const controller = new AbortController();
  const { promise: once, resolve: first } = resolvable();
  const { promise: twice, resolve: second } = resolvable();
  const onSignal = () => {
    if (controller.signal.aborted) second();
    controller.abort();
    first();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);
  const dispose = () => {
    for (const signal of signals) process.off(signal, onSignal);
  };
  return { signal: controller.signal, once, twice, dispose };
}

function resolvable(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
