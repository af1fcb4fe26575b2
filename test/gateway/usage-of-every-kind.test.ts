/** The usage in log and metrics: from events of several megabytes, images and audio, whole and streamed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { backendOf } from '../support/traffic.ts';

const MB = 2 ** 20;
const usage = { input_tokens: 1_000, output_tokens: 5_000, total_tokens: 6_000 };
const TOKENS = { prompt_tokens: '1000', completion_tokens: '5000', audio_seconds: '' };
const image = (bytes: number) => 'A'.repeat(bytes);
const event = (type: string, fields: object): StreamEvent => ({ event: type, data: { type, ...fields } });
const GENERATIONS = '/openai/v1/images/generations';
const TRANSCRIPTIONS = '/openai/v1/audio/transcriptions';

/** The path, the answer, and the expected log fields, by model. */
const CASES: readonly (readonly [model: string, path: string, answer: Behaviour, logged: object])[] = [
  ...[3, 6, 8].map(
    (megabytes) =>
      [
        `response-of-${megabytes}-mb`,
        '/openai/v1/responses',
        {
          events: [
            event('response.created', { response: { id: 'resp_1' } }),
            event('response.completed', {
              response: {
                id: 'resp_1',
                output: [{ type: 'image_generation_call', result: image(megabytes * MB) }],
                usage,
              },
            }),
          ],
        },
        TOKENS,
      ] as const,
  ),
  ['image', GENERATIONS, { body: { created: 1, data: [{ b64_json: image(8 * MB) }], usage } }, TOKENS],
  ['image-first', GENERATIONS, { body: { usage, data: [{ b64_json: image(3 * MB) }] } }, TOKENS],
  ['edit', '/openai/v1/images/edits', { body: { data: [{ b64_json: image(MB) }], usage } }, TOKENS],
  [
    'image-stream',
    GENERATIONS,
    {
      events: [
        event('image_generation.partial_image', { b64_json: image(MB) }),
        event('image_generation.completed', { b64_json: image(8 * MB), usage }),
      ],
      done: false,
    },
    TOKENS,
  ],
  [
    'edit-stream',
    '/openai/v1/images/edits',
    { events: [event('image_edit.completed', { b64_json: image(MB), usage })], done: false },
    TOKENS,
  ],
  [
    'transcription',
    TRANSCRIPTIONS,
    {
      body: {
        text: 'Hello',
        usage: { type: 'tokens', ...usage, input_token_details: { audio_tokens: 900 } },
      },
    },
    TOKENS,
  ],
  [
    'transcription-by-minute',
    TRANSCRIPTIONS,
    { body: { text: 'Hello', usage: { type: 'duration', seconds: 12.5 } } },
    { prompt_tokens: '0', completion_tokens: '0', audio_seconds: '12.5', estimated_tokens: '' },
  ],
  [
    'transcription-stream',
    TRANSCRIPTIONS,
    {
      events: [
        event('transcript.text.delta', { delta: 'Hello' }),
        event('transcript.text.done', { text: 'Hello', usage: { type: 'tokens', ...usage } }),
      ],
      done: false,
    },
    TOKENS,
  ],
  [
    'transcription-stream-by-minute',
    TRANSCRIPTIONS,
    {
      events: [event('transcript.text.done', { text: 'Hello', usage: { type: 'duration', seconds: 3 } })],
      done: false,
    },
    { prompt_tokens: '0', audio_seconds: '3' },
  ],
];

describe.skipIf(cannotRunGatewayTests('usage of every kind'))('usage of every kind', () => {
  let gateway: Gateway;
  let log: readonly Record<string, string>[];
  let metrics: string;
  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}], adapt: quickMetrics });
    for (const [model, path, answer] of CASES) {
      backendOf(gateway, 0).script(answer);
      const sent = await gateway.fetch(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model, stream: answer.events !== undefined }),
      });
      expect(sent.status).toBe(200);
      await sent.arrayBuffer();
    }
    log = await gateway.accessLog();
    metrics = await gateway.metrics();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test.each(CASES)('of %s at %s is in the log', (model, _path, _answer, logged) => {
    expect(log.find((line) => line.requested_model === model)).toMatchObject({ ...logged, error: '' });
  });

  const counter = (name: string, model: string): number | undefined => {
    const line = metrics
      .split('\n')
      .find((each) => each.startsWith(`${name}{`) && each.includes(`request_llm_model="${model}"`));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
  };

  test.each(CASES.filter(([, , , logged]) => logged === TOKENS))('of %s at %s is in the metrics', (model) => {
    expect(counter('apisix_llm_prompt_tokens', model)).toBe(1_000);
    expect(counter('apisix_llm_completion_tokens', model)).toBe(5_000);
  });

  test('in seconds of audio has a metric of its own', () => {
    expect(counter('apisix_genai_audio_seconds_total', 'transcription-by-minute')).toBe(12.5);
    expect(counter('apisix_genai_audio_seconds_total', 'transcription-stream-by-minute')).toBe(3);
  });
});
