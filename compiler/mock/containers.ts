/** Containers of the code interpreter, and the files in them. */
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, required } from './call.ts';
import { type Collection, collection } from './collections.ts';
import { storedFile } from './files.ts';
import { form } from './form.ts';

const all: Collection = collection(
  'container',
  'cntr',
  ({ json }) => ({
    name: required(json, 'name'),
    status: 'running',
    memory_limit: json.memory_limit ?? '1g',
    expires_after: json.expires_after ?? { anchor: 'last_active_at', minutes: 20 },
    last_active_at: nowSeconds(),
  }),
  { metadata: false },
);

const files = collection('container.file', 'cfile', () => ({}), { parent: all, metadata: false });

function put(call: Call, container: string, name: string, content: Buffer): Json {
  const file = files.keep(call, [container], {
    container_id: container,
    bytes: content.length,
    path: `/mnt/data/${name}`,
    source: 'user',
  });
  call.stores.containerFiles.set(`${container}/${file.id}`, content);
  return file;
}

/** Copies a file of the resource into the container. */
function copy(call: Call, container: string, id: string): Json {
  const { file, content } = storedFile(call, id);
  return put(call, container, String(file.filename), content);
}

export const containers = {
  ...all,
  create: (call: Call): Behaviour => {
    const named = Array.isArray(call.json.file_ids) ? call.json.file_ids.map(String) : [];
    for (const id of named) storedFile(call, id);
    const answer = all.create(call);
    for (const id of named) copy(call, String((answer.body as Json).id), id);
    return answer;
  },
};

export const containerFiles = {
  ...files,
  create: (call: Call, container = ''): Behaviour => {
    all.known(call, container);
    if (!/^multipart\//i.test(call.contentType))
      return { body: copy(call, container, String(required(call.json, 'file_id'))) };
    const uploaded = form(call, 'file').get('file');
    return {
      body: put(call, container, uploaded?.filename ?? 'file', Buffer.from(uploaded?.content ?? '')),
    };
  },
  content: (call: Call, ...ids: readonly string[]): Behaviour => {
    files.known(call, ...ids);
    return { body: call.stores.containerFiles.get(ids.join('/')) ?? Buffer.alloc(0) };
  },
};
