/**
 * The clients in apisix.yaml: comments with one client each, as JSON. The gateway reads them itself, in slices. Pure.
 */

const PREFIX = '# genai-gateway client: ';

export interface ClientLine {
  /** The line number, from 1. */
  readonly number: number;
  /** The whole line. */
  readonly line: string;
  /** The JSON in the line. */
  readonly json: string;
}

/** The lines of apisix.yaml that contain a client, in order. */
export function clientLines(text: string): ClientLine[] {
  const found: ClientLine[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.startsWith(PREFIX)) found.push({ number: index + 1, line, json: line.slice(PREFIX.length) });
  }
  return found;
}
