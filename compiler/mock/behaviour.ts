/** One event of a stream: the raw bytes, or the content of its `comment`, `event` and `data` lines. */
export type StreamEvent =
  | string
  | {
      readonly event?: string;
      /** Text is sent unchanged, other values as JSON; undefined for an event without data. */
      readonly data: unknown;
      readonly comment?: string;
    };

/** Null removes a header of the default answer. */
export type AnswerHeaders = Readonly<Record<string, string | readonly string[] | null>>;

/**
 * How requests are answered. Omitted fields are as in Azure's answer. Without `status`, `body` and `events` the mock
 * sends Azure's own answer, with the other fields applied.
 */
export interface Behaviour {
  /** Matches the raw target of requests; absent: all requests. */
  readonly path?: RegExp;
  /** The number of requests. Default 1. */
  readonly times?: number;
  /** Milliseconds before the headers. */
  readonly delayMs?: number;
  /** Default 200. An error status without `body` and `events` gets Azure's body and headers. */
  readonly status?: number;
  readonly headers?: AnswerHeaders;
  /** An object is sent as JSON. */
  readonly body?: string | Buffer | object;
  /** Default: content-length for bodies, chunked for streams. */
  readonly framing?: 'content-length' | 'chunked' | 'close';
  /** The events of a stream. A list serves every matching request, a generator only the first. */
  readonly events?: Iterable<StreamEvent> | AsyncIterable<StreamEvent>;
  /** Milliseconds between events. Without a gap, several events are written at once. */
  readonly gapMs?: number;
  /** Largest write in bytes; every write is a separate TCP segment. */
  readonly splitBytes?: number;
  readonly lineEnd?: '\n' | '\r\n' | '\r';
  /** Whether `[DONE]` ends the stream. Default: like Azure, after completions but not after responses. */
  readonly done?: boolean;
  /**
   * The number of events of a stream, or bytes of a body, after which the connection is closed without a proper end.
   */
  readonly cutAfter?: number;
  /** The connection ends with a TCP reset. */
  readonly reset?: 'before-request-read' | 'before-headers' | 'after-headers';
  /** The mock never answers. */
  readonly hang?: boolean;
  readonly closeConnection?: boolean;
}

/** An event as bytes. */
export function eventText(event: StreamEvent, lineEnd: string): string {
  if (typeof event === 'string') return event;
  let text = event.comment === undefined ? '' : `: ${event.comment}${lineEnd}`;
  if (event.event !== undefined) text += `event: ${event.event}${lineEnd}`;
  if (event.data !== undefined) {
    const data = typeof event.data === 'string' ? event.data : JSON.stringify(event.data);
    text += data.includes('\n')
      ? data
          .split('\n')
          .map((line) => `data: ${line}${lineEnd}`)
          .join('')
      : `data: ${data}${lineEnd}`;
  }
  return text + lineEnd;
}

/** An answer with the transmission options of a behaviour. */
export function overlaid(answer: Behaviour, behaviour: Behaviour): Behaviour {
  return { ...answer, ...behaviour, headers: mergedHeaders(answer.headers, behaviour.headers) };
}

function mergedHeaders(below: AnswerHeaders = {}, above: AnswerHeaders = {}): AnswerHeaders {
  const named = new Set(Object.keys(above).map((name) => name.toLowerCase()));
  const left = Object.entries(below).filter(([name]) => !named.has(name.toLowerCase()));
  return { ...Object.fromEntries(left), ...above };
}
