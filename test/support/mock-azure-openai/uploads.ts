/** Operations on files, images and sound. */
import { randomBytes } from 'node:crypto';
import { invalidRequest } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Call, count, type Json, nowSeconds, Refused, required } from './call.ts';
import { collection, notFound, page } from './collections.ts';
import { type Part, parseMultipart } from './multipart.ts';
import { CONTENT_FILTER_RESULTS, completionText, DEFAULT_COMPLETION_TOKENS, tokensOf } from './text.ts';

/** A PNG of one transparent pixel. */
const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';
const MAX_IMAGES = 10;
/** An MPEG frame header with silence after it, for each word that is spoken. */
const SOUND = Buffer.concat([Buffer.from([0xff, 0xfb, 0x90, 0x64]), Buffer.alloc(413)]);

/** The form's fields and files; refused where the body is no form, or lacks one of these. */
export function form({ body, contentType }: Call, ...names: readonly string[]): ReadonlyMap<string, Part> {
  const parts = parseMultipart(body, contentType);
  if (!parts) throw new Refused(invalidRequest('Could not parse multipart form.', null, null));
  const fields = new Map(parts.map((part) => [part.name.replace(/\[\]$/, ''), part]));
  const missing = names.find((name) => !fields.has(name));
  if (missing !== undefined) {
    throw new Refused(
      invalidRequest(`Missing required parameter: '${missing}'.`, missing, 'missing_required_parameter'),
    );
  }
  return fields;
}

const field = (fields: ReadonlyMap<string, Part>, name: string): string | undefined =>
  fields.get(name)?.content.toString('utf8');

export function generateImages({ json }: Call): Behaviour {
  return images(
    String(required(json, 'prompt')),
    count(json, 'n', 1, MAX_IMAGES),
    json.response_format === 'url',
  );
}

export function editImages(call: Call): Behaviour {
  const fields = form(call, 'image', 'prompt');
  return images(
    field(fields, 'prompt') ?? '',
    count({ n: Number(field(fields, 'n')) }, 'n', 1, MAX_IMAGES),
    false,
  );
}

function images(prompt: string, n: number, asUrl: boolean): Behaviour {
  const inputTokens = tokensOf(prompt.length);
  return {
    body: {
      created: nowSeconds(),
      data: Array.from({ length: n }, () => ({
        ...(asUrl ? { url: 'https://images.invalid/generated.png' } : { b64_json: PIXEL }),
        content_filter_results: CONTENT_FILTER_RESULTS,
        prompt_filter_results: CONTENT_FILTER_RESULTS,
        revised_prompt: prompt,
      })),
      usage: {
        input_tokens: inputTokens,
        input_tokens_details: { image_tokens: 0, text_tokens: inputTokens },
        output_tokens: DEFAULT_COMPLETION_TOKENS * n,
        total_tokens: inputTokens + DEFAULT_COMPLETION_TOKENS * n,
      },
    },
  };
}

/** Transcriptions and translations: the same few words, in the format that is asked for. */
export function transcribe(call: Call): Behaviour {
  const format = field(form(call, 'file'), 'response_format') ?? 'json';
  const text = completionText(DEFAULT_COMPLETION_TOKENS);
  const times = (separator: string) => `00:00:00${separator}000 --> 00:00:02${separator}000`;
  const plain = { 'Content-Type': 'text/plain; charset=utf-8' };
  if (format === 'text') return { headers: plain, body: `${text}\n` };
  if (format === 'srt') return { headers: plain, body: `1\n${times(',')}\n${text}\n\n` };
  if (format === 'vtt') return { headers: plain, body: `WEBVTT\n\n${times('.')}\n${text}\n\n` };
  return {
    body: {
      text,
      ...(format === 'verbose_json'
        ? { task: 'transcribe', language: 'english', duration: 2, segments: [] }
        : {}),
    },
  };
}

export function speak({ json }: Call): Behaviour {
  const words = String(required(json, 'input')).split(/\s+/).length;
  return {
    headers: { 'Content-Type': json.response_format === 'wav' ? 'audio/wav' : 'audio/mpeg' },
    body: Buffer.concat(Array.from({ length: words }, () => SOUND)),
  };
}

export function uploadFile(call: Call): Behaviour {
  const fields = form(call, 'file', 'purpose');
  const upload = fields.get('file');
  const id = `file-${randomBytes(16).toString('hex')}`;
  const content = Buffer.from(upload?.content ?? '');
  const file = {
    id,
    object: 'file',
    bytes: content.length,
    created_at: nowSeconds(),
    filename: upload?.filename ?? 'file',
    purpose: field(fields, 'purpose') ?? '',
    status: 'processed',
  };
  call.stores.files.set(id, { file, content });
  return { status: 201, body: file };
}

const stored = ({ stores }: Call, id: string) => {
  const found = stores.files.get(id);
  if (!found) throw new Refused(notFound(`No such File object: ${id}`));
  return found;
};

export const listFiles = ({ stores, query }: Call): Behaviour => {
  const purpose = query.get('purpose');
  const files = stores.files.all().map(({ file }) => file);
  return page(purpose === null ? files : files.filter((file) => file.purpose === purpose));
};

export const getFile = (call: Call, id: string): Behaviour => ({ body: stored(call, id).file });

export const fileContent = (call: Call, id: string): Behaviour => ({ body: stored(call, id).content });

export function deleteFile(call: Call, id: string): Behaviour {
  stored(call, id);
  call.stores.files.delete(id);
  return { body: { id, object: 'file', deleted: true } };
}

const requireFiles = ({ stores }: Call, ids: readonly unknown[]): void => {
  const missing = ids.find((id) => !stores.files.get(String(id)));
  if (missing !== undefined) throw new Refused(notFound(`No such File object: ${missing}`));
};

export const batches = collection(
  ({ stores }) => stores.batches,
  'batch',
  'batch',
  (call): Json => {
    const { json } = call;
    const input = String(required(json, 'input_file_id'));
    requireFiles(call, [input]);
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
  },
);

export const vectorStores = collection(
  ({ stores }) => stores.vectorStores,
  'vector_store',
  'vs',
  (call): Json => {
    const { json } = call;
    const files = Array.isArray(json.file_ids) ? json.file_ids : [];
    requireFiles(call, files);
    return {
      name: json.name ?? null,
      usage_bytes: 0,
      status: 'completed',
      file_counts: { in_progress: 0, completed: files.length, failed: 0, cancelled: 0, total: files.length },
      expires_after: json.expires_after ?? null,
      expires_at: null,
      last_active_at: nowSeconds(),
    };
  },
);
