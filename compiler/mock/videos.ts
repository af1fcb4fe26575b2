import type { Behaviour } from './behaviour.ts';
import { type Call, type Json, nowSeconds, required } from './call.ts';
import { collection } from './collections.ts';
import { field, form } from './form.ts';

/** The first box of an MP4 file, without video data. */
const VIDEO = Buffer.from('00000018667479706d703432000000006d70343269736f6d', 'hex');

/** The fields, from JSON or from a form with an image. */
function asked(call: Call): Json {
  if (!/^multipart\//i.test(call.contentType)) return call.json;
  const fields = form(call, 'prompt');
  return Object.fromEntries(
    ['prompt', 'model', 'seconds', 'size'].flatMap((name) => {
      const value = field(fields, name);
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

const all = collection(
  'video',
  'video',
  (call) => {
    const json = asked(call);
    return {
      model: call.deployment,
      prompt: required(json, 'prompt'),
      status: 'queued',
      progress: 0,
      seconds: String(json.seconds ?? 4),
      size: json.size ?? '720x1280',
      completed_at: null,
      expires_at: null,
      error: null,
      remixed_from_video_id: null,
    };
  },
  { metadata: false },
);

/** A video completes when it is read. */
function get(call: Call, id = ''): Behaviour {
  const { status } = all.known(call, id);
  if (status !== 'queued') return all.get(call, id);
  return all.change(call, [id], { status: 'completed', progress: 100, completed_at: nowSeconds() });
}

export const videos = {
  ...all,
  get,
  content: (call: Call, id = ''): Behaviour => {
    get(call, id);
    return { headers: { 'Content-Type': 'video/mp4' }, body: VIDEO };
  },
  remix: (call: Call, id = ''): Behaviour => {
    const { id: _, created_at: __, ...from } = all.known(call, id);
    const made = { status: 'queued', progress: 0, completed_at: null, remixed_from_video_id: id };
    return { body: all.keep(call, [], { ...from, ...made, prompt: required(call.json, 'prompt') }) };
  },
};
