import type { IncomingMessage } from 'node:http';

export interface RecordedRequest {
  readonly method: string;
  /** The raw target, with its query. */
  readonly target: string;
  readonly httpVersion: string;
  /** As received, with order and case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** The first header with this name, in any case. */
  header(name: string): string | undefined;
  /** The raw bytes. */
  readonly body: Buffer;
  /** Number of the TCP connection, from 1. */
  readonly connection: number;
  /** Milliseconds of `performance.now()`. */
  readonly startedAt: number;
  /**
   * `aborted`: the client closed the connection before the end of the answer. If the mock itself cuts or resets the
   * connection, this is `finished`.
   */
  readonly state: 'receiving' | 'answering' | 'finished' | 'aborted';
  readonly endedAt?: number;
  /** Set when the headers of the answer are sent. */
  readonly status?: number;
}

const NO_BODY = Buffer.alloc(0);

/** The record of a request during its answer. */
export class RequestRecord implements RecordedRequest {
  readonly method: string;
  readonly target: string;
  readonly httpVersion: string;
  readonly connection: number;
  readonly startedAt = performance.now();
  body: Buffer = NO_BODY;
  state: RecordedRequest['state'] = 'receiving';
  endedAt?: number;
  status?: number;
  readonly #rawHeaders: readonly string[];
  #headers?: readonly (readonly [string, string])[];

  constructor(request: IncomingMessage, connection: number) {
    this.method = request.method ?? '';
    this.target = request.url ?? '';
    this.httpVersion = request.httpVersion;
    this.connection = connection;
    this.#rawHeaders = request.rawHeaders;
  }

  get headers(): readonly (readonly [string, string])[] {
    this.#headers ??= Array.from({ length: this.#rawHeaders.length / 2 }, (_, index) => [
      this.#rawHeaders[2 * index] ?? '',
      this.#rawHeaders[2 * index + 1] ?? '',
    ]);
    return this.#headers;
  }

  header(name: string): string | undefined {
    const lower = name.toLowerCase();
    return this.headers.find(([each]) => each.toLowerCase() === lower)?.[1];
  }

  end(state: 'finished' | 'aborted'): void {
    if (this.endedAt !== undefined) return;
    this.state = state;
    this.endedAt = performance.now();
  }
}

/** Requests in the order of arrival. */
export class RequestLog {
  readonly requests: RequestRecord[] = [];
  #count = 0;
  #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  /** Counts a request, and keeps only the newest `keep` requests. */
  add(request: RequestRecord, keep: number): void {
    if (keep > 0) this.requests.push(request);
    if (this.requests.length > keep) this.requests.splice(0, this.requests.length - keep);
    this.#count++;
    if (this.#waiting.length === 0) return;
    for (const { count, resolve } of this.#waiting) if (count <= this.#count) resolve();
    this.#waiting = this.#waiting.filter(({ count }) => count > this.#count);
  }

  /** Waits until the headers of `count` requests have arrived since the last reset. Rejects after `timeoutMs`. */
  async waitFor(count: number, timeoutMs: number): Promise<void> {
    if (this.#count >= count) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`${this.#count} of ${count} requests came in within ${timeoutMs} ms`));
      }, timeoutMs);
      const done = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#waiting.push({ count, resolve: done });
    });
  }

  reset(): void {
    this.requests.length = 0;
    this.#count = 0;
  }
}
