/** Operations on images and sound. */
import type { Behaviour } from './behaviour.ts';
import { type Call, count, type Json, nowSeconds, required } from './call.ts';
import { field, form } from './form.ts';
import type { Part } from './multipart.ts';
import {
  CONTENT_FILTER_RESULTS,
  completionText,
  completionTokens,
  DEFAULT_COMPLETION_TOKENS,
  tokensOf,
} from './text.ts';

/** A PNG of one transparent pixel. */
const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';
const MAX_IMAGES = 10;
/** An MPEG frame header and silence for each spoken word. */
const SOUND = Buffer.concat([Buffer.from([0xff, 0xfb, 0x90, 0x64]), Buffer.alloc(413)]);

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

/** Transcriptions and translations: always the same words, in the requested format, or as events. */
export function transcribe(call: Call): Behaviour {
  const fields = form(call, 'file');
  const format = field(fields, 'response_format') ?? 'json';
  const text = completionText(DEFAULT_COMPLETION_TOKENS);
  // Whisper does not support streams and ignores `stream`.
  const isWhisper = /^whisper/i.test(call.deployment);
  const usage = isWhisper ? { type: 'duration', seconds: 2 } : transcriptionUsage(fields);
  if (field(fields, 'stream') === 'true' && !isWhisper) {
    const deltas = completionTokens(DEFAULT_COMPLETION_TOKENS).map((delta) => ({
      data: { type: 'transcript.text.delta', delta },
    }));
    return { events: [...deltas, { data: { type: 'transcript.text.done', text, usage } }] };
  }
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
      usage,
    },
  };
}

/** One token for each KB of audio. */
function transcriptionUsage(fields: ReadonlyMap<string, Part>): Json {
  const audio = Math.ceil((fields.get('file')?.content.length ?? 0) / 1000);
  const text = tokensOf(field(fields, 'prompt')?.length ?? 0);
  return {
    type: 'tokens',
    input_tokens: audio + text,
    input_token_details: { audio_tokens: audio, text_tokens: text },
    output_tokens: DEFAULT_COMPLETION_TOKENS,
    total_tokens: audio + text + DEFAULT_COMPLETION_TOKENS,
  };
}

export function speak({ json }: Call): Behaviour {
  const words = String(required(json, 'input')).split(/\s+/).length;
  return {
    headers: { 'Content-Type': json.response_format === 'wav' ? 'audio/wav' : 'audio/mpeg' },
    body: Buffer.concat(Array.from({ length: words }, () => SOUND)),
  };
}
