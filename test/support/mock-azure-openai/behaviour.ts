/** One event of a stream: the bytes as they are to be sent, or what to write as `comment`, `event` and `data` lines. */
export type StreamEvent =
  | string
  | {
      readonly event?: string;
      /** Text is sent as it is, anything else as JSON; undefined for an event without data. */
      readonly data: unknown;
      readonly comment?: string;
    };

/** Null takes a header away that the answer would have. */
export type AnswerHeaders = Readonly<Record<string, string | readonly string[] | null>>;

/**
 * How requests are answered. What is left out is as in the answer that Azure would give: with `status`, `body` and `events`
 * all left out, that answer itself is sent in the way said here.
 */
export interface Behaviour {
  /** Which requests, by their raw target; all without it. */
  readonly path?: RegExp;
  /** How many of them. Default 1. */
  readonly times?: number;
  /** Before the headers. */
  readonly delayMs?: number;
  /** Default 200. An error status without `body` and `events` has Azure's body and headers for it. */
  readonly status?: number;
  readonly headers?: AnswerHeaders;
  /** An object is sent as JSON. */
  readonly body?: string | Buffer | object;
  /** Default: content-length for bodies, chunked for streams. */
  readonly framing?: 'content-length' | 'chunked' | 'close';
  /** A stream. A list serves every request it is for, a generator only the first. */
  readonly events?: Iterable<StreamEvent> | AsyncIterable<StreamEvent>;
  /** Between events; events without a gap are written several at once. */
  readonly gapMs?: number;
  /** Writes of at most so many bytes each, every one a TCP segment of its own. */
  readonly splitBytes?: number;
  readonly lineEnd?: '\n' | '\r\n' | '\r';
  /** Whether `[DONE]` ends the stream. Default: as Azure does, after completions and not after responses. */
  readonly done?: boolean;
  /** After so many events of a stream, or bytes of a body, the connection ends without a proper end of the answer. */
  readonly cutAfter?: number;
  /** A TCP reset. */
  readonly reset?: 'before-request-read' | 'before-headers' | 'after-headers';
  /** Never answers. */
  readonly hang?: boolean;
  readonly closeConnection?: boolean;
}

/** As it goes over the wire. */
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

/** The answer with what a behaviour says about sending it. */
export function overlaid(answer: Behaviour, behaviour: Behaviour): Behaviour {
  return { ...answer, ...behaviour, headers: mergedHeaders(answer.headers, behaviour.headers) };
}

function mergedHeaders(below: AnswerHeaders = {}, above: AnswerHeaders = {}): AnswerHeaders {
  const named = new Set(Object.keys(above).map((name) => name.toLowerCase()));
  const left = Object.entries(below).filter(([name]) => !named.has(name.toLowerCase()));
  return { ...Object.fromEntries(left), ...above };
}
