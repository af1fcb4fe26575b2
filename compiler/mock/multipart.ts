export interface Part {
  readonly name: string;
  readonly filename?: string;
  readonly content: Buffer;
}

/** The parts of a multipart/form-data body; undefined for any other body, or an incomplete one. */
export function parseMultipart(body: Buffer, contentType: string): Part[] | undefined {
  const [, quoted, plain] =
    /^multipart\/form-data\s*;.*?\bboundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType) ?? [];
  const boundary = quoted ?? plain;
  if (boundary === undefined) return undefined;
  const delimiter = `\r\n--${boundary}`;
  const first = `--${boundary}`;
  // The first delimiter may follow without a line break.
  let at =
    body.subarray(0, first.length).toString('latin1') === first ? first.length : body.indexOf(delimiter);
  if (at < 0) return undefined;
  if (at !== first.length) at += delimiter.length;
  const parts: Part[] = [];
  for (;;) {
    if (body.subarray(at, at + 2).toString('latin1') === '--') return parts;
    const begin = body.indexOf('\r\n', at);
    const headersEnd = body.indexOf('\r\n\r\n', at);
    const end = headersEnd < 0 ? -1 : body.indexOf(delimiter, headersEnd + 2);
    if (begin < 0 || end < 0) return undefined;
    const disposition = /^content-disposition:\s*form-data;(.*)$/im.exec(
      body.subarray(begin, headersEnd).toString('utf8'),
    )?.[1];
    const parameter = (name: string) =>
      new RegExp(`(?:^|[;\\s])${name}="([^"]*)"`).exec(disposition ?? '')?.[1];
    const filename = parameter('filename');
    parts.push({
      name: parameter('name') ?? '',
      ...(filename === undefined ? {} : { filename }),
      content: body.subarray(headersEnd + 4, Math.max(headersEnd + 4, end)),
    });
    at = end + delimiter.length;
  }
}
