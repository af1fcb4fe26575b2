/** Files and uploads in parts. */
import { createHash, randomBytes } from 'node:crypto';
import { invalidRequest } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, Refused, required } from './call.ts';
import { collection, notFound, page } from './collections.ts';
import { field, form } from './form.ts';
import type { StoredFile } from './store.ts';

const HOUR_S = 3600;

export function uploadFile(call: Call): Behaviour {
  const fields = form(call, 'file', 'purpose');
  const upload = fields.get('file');
  const content = Buffer.from(upload?.content ?? '');
  const about = { filename: upload?.filename ?? 'file', purpose: field(fields, 'purpose') ?? '' };
  return { status: 201, body: keepFile(call, content, about) };
}

function keepFile({ stores }: Call, content: Buffer, about: Json): Json {
  const id = `file-${randomBytes(16).toString('hex')}`;
  const file = {
    id,
    object: 'file',
    bytes: content.length,
    created_at: nowSeconds(),
    ...about,
    status: 'processed',
  };
  stores.files.set(id, { file, content });
  return file;
}

/** @throws an error answer for an unknown file */
export const storedFile = ({ stores }: Call, id: string): StoredFile => {
  const found = stores.files.get(id);
  if (!found) throw new Refused(notFound(`No such File object: ${id}`));
  return found;
};

export const listFiles = ({ stores, query }: Call): Behaviour => {
  const purpose = query.get('purpose');
  const files = stores.files.all().map(({ file }) => file);
  return page(purpose === null ? files : files.filter((file) => file.purpose === purpose));
};

export const getFile = (call: Call, id: string): Behaviour => ({ body: storedFile(call, id).file });

export const fileContent = (call: Call, id: string): Behaviour => ({ body: storedFile(call, id).content });

export function deleteFile(call: Call, id: string): Behaviour {
  storedFile(call, id);
  call.stores.files.delete(id);
  return { body: { id, object: 'file', deleted: true } };
}

/** An upload in parts; it becomes a file when it is completed. */
export const uploads = collection(
  'upload',
  'upload',
  ({ json }) => ({
    filename: required(json, 'filename'),
    purpose: required(json, 'purpose'),
    bytes: required(json, 'bytes'),
    mime_type: required(json, 'mime_type'),
    status: 'pending',
    expires_at: nowSeconds() + HOUR_S,
  }),
  { metadata: false },
);

const parts = collection('upload.part', 'part', (_call, upload) => ({ upload_id: upload }), {
  parent: uploads,
  metadata: false,
});

const wrong = (message: string, param: string | null): Refused =>
  new Refused(invalidRequest(message, param, null));

function requirePending(call: Call, id: string): Json {
  const upload = uploads.known(call, id);
  if (upload.status === 'pending') return upload;
  throw wrong(`Upload ${id} is ${upload.status}.`, null);
}

export function addPart(call: Call, id = ''): Behaviour {
  requirePending(call, id);
  const content = Buffer.from(form(call, 'data').get('data')?.content ?? '');
  const part = parts.keep(call, [id], { upload_id: id });
  call.stores.parts.set(`${id}/${part.id}`, content);
  return { body: part };
}

/** The parts in the order of the request. */
export function completeUpload(call: Call, id = ''): Behaviour {
  const upload = requirePending(call, id);
  const named = required(call.json, 'part_ids');
  if (!Array.isArray(named)) throw wrong("'part_ids' must be an array.", 'part_ids');
  const contents = named.map((part) => {
    const content = call.stores.parts.get(`${id}/${part}`);
    if (!content) throw wrong(`Part ${part} not found in upload ${id}.`, 'part_ids');
    return content;
  });
  const content = Buffer.concat(contents);
  if (content.length !== upload.bytes) {
    throw wrong(`Uploaded bytes ${content.length} do not match expected bytes ${upload.bytes}.`, null);
  }
  const { md5 } = call.json;
  if (typeof md5 === 'string' && md5 !== createHash('md5').update(content).digest('hex'))
    throw wrong('The checksum does not match.', 'md5');
  const file = keepFile(call, content, { filename: upload.filename, purpose: upload.purpose });
  return uploads.change(call, [id], { status: 'completed', file });
}

export function cancelUpload(call: Call, id = ''): Behaviour {
  requirePending(call, id);
  return uploads.change(call, [id], { status: 'cancelled' });
}
