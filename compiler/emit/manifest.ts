/**
 * The manifest in apisix.yaml: the list of items that should load. APISIX ignores invalid items silently, so the
 * running gateway compares its loaded items with this list. Pure.
 */
import { clientLines } from './client-lines.ts';
import { fnv1a } from './fnv1a.ts';
import { toJson } from './json.ts';

const PREFIX = '# genai-gateway manifest: ';

/**
 * Adds the manifest as a comment at the head of the document, where it can be read even if the YAML is broken. It has a
 * digest of the text, the ids of all items by resource, the number of clients, and a digest of their lines.
 */
export function withManifest(text: string, document: unknown): string {
  const lines = clientLines(text).map(({ line }) => `${line}\n`);
  const clients = lines.length > 0 ? { count: lines.length, digest: fnv1a(lines.join('')) } : undefined;
  const manifest = toJson(
    { digest: fnv1a(text), items: idsOf(document), ...(clients ? { clients } : {}) },
    PLAIN,
  )
    // APISIX would replace text after `${{`.
    .replaceAll('$', '\\u0024');
  return text.replace(/^(?:#[^\n]*\n)?/, (first) => `${first}${PREFIX}${manifest}\n`);
}

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

/** The ids of APISIX's items. Clients are not APISIX items. */
function idsOf(document: unknown): Record<string, string[]> {
  const lists = Object.entries((document ?? {}) as object).filter(
    ([resource, items]) => Array.isArray(items) && resource !== 'clients',
  );
  return Object.fromEntries(
    lists.map(([resource, items]: [string, (Item | null)[]]) => [
      resource,
      items.map((item, index) => String(item?.id ?? item?.username ?? `arr_${index + 1}`)),
    ]),
  );
}
