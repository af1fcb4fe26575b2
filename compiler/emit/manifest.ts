/** What apisix.yaml says of itself: APISIX drops items one by one, and the running gateway tells by this which. Pure. */
import { createHash } from 'node:crypto';
import { toJson } from './json.ts';

const PREFIX = '# genai-gateway manifest: ';
const DIGEST_LENGTH = 16;

/**
 * The document with its manifest among the comments at its head, where it can be read whatever becomes of the YAML
 * below: a digest of the text, and the ids of all items by resource.
 */
export function withManifest(text: string, document: unknown): string {
  const manifest = toJson({ digest: digestOf(text), items: idsOf(document) }, PLAIN)
    // As `${{` APISIX would replace what follows.
    .replaceAll('$', '\\u0024');
  return text.replace(/^(?:#[^\n]*\n)?/, (first) => `${first}${PREFIX}${manifest}\n`);
}

const digestOf = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, DIGEST_LENGTH);

const PLAIN = {
  text: (value: string) => value,
  secret: () => {
    throw new Error('no secret is in a manifest');
  },
};

interface Item {
  readonly id?: unknown;
  readonly username?: unknown;
}

/** The ids that APISIX knows items by. */
function idsOf(document: unknown): Record<string, string[]> {
  const lists = Object.entries((document ?? {}) as object).filter(([, items]) => Array.isArray(items));
  return Object.fromEntries(
    lists.map(([resource, items]: [string, (Item | null)[]]) => [
      resource,
      items.map((item, index) => String(item?.id ?? item?.username ?? `arr_${index + 1}`)),
    ]),
  );
}
