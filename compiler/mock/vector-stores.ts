/** Vector stores, their files, and batches of files. */
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, required } from './call.ts';
import { type Collection, collection, page } from './collections.ts';
import { storedFile } from './files.ts';

const MAX_RESULTS = 10;

export const batches = collection('batch', 'batch', (call) => {
  const { json } = call;
  const input = String(required(json, 'input_file_id'));
  storedFile(call, input);
  return {
    endpoint: required(json, 'endpoint'),
    input_file_id: input,
    completion_window: json.completion_window ?? '24h',
    status: 'validating',
    errors: null,
    output_file_id: '',
    error_file_id: '',
    request_counts: { total: 0, completed: 0, failed: 0 },
  };
});

const counts = (completed: number) => ({
  in_progress: 0,
  completed,
  failed: 0,
  cancelled: 0,
  total: completed,
});

const stores: Collection = collection('vector_store', 'vs', ({ json }) => ({
  name: json.name ?? null,
  usage_bytes: 0,
  status: 'completed',
  file_counts: counts(0),
  expires_after: json.expires_after ?? null,
  expires_at: null,
  last_active_at: nowSeconds(),
}));

/** Files are available as soon as they are added. */
const files = collection('vector_store.file', 'file', () => ({}), { parent: stores, metadata: false });
const fileBatches = collection('vector_store.file_batch', 'vsfb', () => ({}), {
  parent: stores,
  metadata: false,
});

interface Added {
  readonly file_id: string;
  readonly attributes?: unknown;
  readonly chunking_strategy?: unknown;
}

function add(call: Call, store: string, added: Added, more: Json = {}): Json {
  const { content } = storedFile(call, added.file_id);
  const kept = files.keep(call, [store], {
    id: added.file_id,
    usage_bytes: content.length,
    vector_store_id: store,
    status: 'completed',
    last_error: null,
    attributes: added.attributes ?? {},
    chunking_strategy: added.chunking_strategy ?? {
      type: 'static',
      static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 },
    },
    ...more,
  });
  recount(call, store);
  return kept;
}

function recount(call: Call, store: string): void {
  const held = files.all(call, store);
  const bytes = held.reduce((sum, { usage_bytes }) => sum + Number(usage_bytes), 0);
  stores.change(call, [store], {
    usage_bytes: bytes,
    file_counts: counts(held.length),
    last_active_at: nowSeconds(),
  });
}

const listed = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

export const vectorStores = {
  ...stores,
  create: (call: Call): Behaviour => {
    const named = listed(call.json.file_ids).map(String);
    for (const id of named) storedFile(call, id);
    const { body } = stores.create(call);
    const id = String((body as Json).id);
    for (const file of named) add(call, id, { file_id: file });
    return stores.get(call, id);
  },
  update: (call: Call, id = ''): Behaviour => {
    const { name, expires_after, metadata } = call.json;
    const given = Object.entries({ name, expires_after, metadata }).filter(
      ([, value]) => value !== undefined,
    );
    return stores.change(call, [id], Object.fromEntries(given));
  },
  /** The files whose text contains a word of the query; all files if none does. */
  search: (call: Call, id = ''): Behaviour => {
    const query = [required(call.json, 'query')].flat().map(String);
    const words = query.flatMap((each) => each.toLowerCase().split(/\W+/)).filter((word) => word !== '');
    const held = files.all(call, id).map((file) => {
      const { file: about, content } = storedFile(call, String(file.id));
      const text = content.toString('utf8');
      const lower = text.toLowerCase();
      const score = words.filter((word) => lower.includes(word)).length / Math.max(1, words.length);
      return { file, about, text, score };
    });
    const matching = held.filter(({ score }) => score > 0);
    const most = typeof call.json.max_num_results === 'number' ? call.json.max_num_results : MAX_RESULTS;
    const found = (matching.length > 0 ? matching : held)
      .sort((one, other) => other.score - one.score)
      .slice(0, most);
    return {
      body: {
        object: 'vector_store.search_results.page',
        search_query: query,
        data: found.map(({ file, about, text, score }) => ({
          file_id: file.id,
          filename: about.filename,
          score,
          attributes: file.attributes,
          content: [{ type: 'text', text }],
        })),
        has_more: false,
        next_page: null,
      },
    };
  },
};

export const vectorStoreFiles = {
  create: (call: Call, store = ''): Behaviour => {
    stores.known(call, store);
    const file = String(required(call.json, 'file_id'));
    return { body: add(call, store, { ...call.json, file_id: file }) };
  },
  list: files.list,
  get: files.get,
  update: (call: Call, ...ids: readonly string[]): Behaviour =>
    files.change(call, ids, { attributes: required(call.json, 'attributes') }),
  remove: (call: Call, store = '', id = ''): Behaviour => {
    const answer = files.remove(call, store, id);
    recount(call, store);
    return answer;
  },
  content: (call: Call, ...ids: readonly string[]): Behaviour => {
    const { id } = files.known(call, ...ids);
    const text = storedFile(call, String(id)).content.toString('utf8');
    return {
      body: {
        object: 'vector_store.file_content.page',
        data: [{ type: 'text', text }],
        has_more: false,
        next_page: null,
      },
    };
  },
};

export const vectorStoreBatches = {
  create: (call: Call, store = ''): Behaviour => {
    stores.known(call, store);
    const { json } = call;
    const shared = { attributes: json.attributes, chunking_strategy: json.chunking_strategy };
    const added: readonly Added[] =
      json.files === undefined
        ? listed(required(json, 'file_ids')).map((id) => ({ ...shared, file_id: String(id) }))
        : (listed(json.files) as readonly Added[]);
    for (const { file_id } of added) storedFile(call, String(file_id));
    const batch = fileBatches.keep(call, [store], {
      object: 'vector_store.files_batch',
      vector_store_id: store,
      status: 'completed',
      file_counts: counts(added.length),
      file_ids: added.map(({ file_id }) => file_id),
    });
    for (const each of added) add(call, store, each);
    return { body: shownBatch(batch) };
  },
  get: (call: Call, ...ids: readonly string[]): Behaviour => ({
    body: shownBatch(fileBatches.known(call, ...ids)),
  }),
  /** Cancelling is too late, because the files are already added. */
  cancel: (call: Call, ...ids: readonly string[]): Behaviour => ({
    body: shownBatch(fileBatches.known(call, ...ids)),
  }),
  files: (call: Call, store = '', id = ''): Behaviour => {
    const { file_ids: named } = fileBatches.known(call, store, id);
    return page(files.all(call, store).filter((file) => listed(named).includes(file.id)));
  },
};

const shownBatch = ({ file_ids: _, ...batch }: Json): Json => batch;
