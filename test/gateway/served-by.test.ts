/** Which deployment, service tier and model served a request, for its price. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { samplesIn } from '../support/metrics-text.ts';

const skipped = cannotRunGatewayTests('who served a request');

const COUNTER = 'apisix_genai_served_tokens_total';
const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
const RESPONSE_USAGE = { input_tokens: 100, output_tokens: 10, total_tokens: 110 };

const chunk = (more: object): StreamEvent => ({
  data: { object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content: 'Hi' } }], ...more },
});
const stop = (more: object): StreamEvent => ({
  data: {
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta: {}, finish_reason: 'stop' }],
    ...more,
  },
});

describe.skipIf(skipped)('the log and the counter of served tokens', () => {
  let gateway: Gateway;
  let number = 0;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: quickMetrics,
      settings: { AZURE_OPENAI_NAME_0: 'ptu' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  /** The access log line and the counter's samples of one request for a model of its own. */
  async function served(path: string, body: object, behaviour: Behaviour, prefix = 'gpt-4o') {
    const model = `${prefix}-${++number}`;
    gateway.mocks[0]?.script(behaviour);
    const answer = await gateway.fetch(`/openai/v1${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, messages: [], input: 'Hello', ...body }),
    });
    expect(answer.status).toBe(200);
    await answer.text();
    const line = (await gateway.accessLog()).find((each) => each.requested_model === model);
    const { answer_model, service_tier, spilled } = line ?? {};
    const counted = samplesIn(await gateway.metrics())
      .filter(({ name, labels }) => name === COUNTER && labels.request_llm_model === model)
      .map(({ labels, value }) => [
        labels.kind,
        labels.node,
        labels.answer_model,
        labels.service_tier,
        labels.spilled,
        value,
      ]);
    return { line: { answer_model, service_tier, spilled }, counted };
  }

  const tokens = (...labels: readonly string[]) => [
    ['completion', 'ptu', ...labels, 10],
    ['prompt', 'ptu', ...labels, 100],
  ];

  test('distinguish answers that Azure spilled over', async () => {
    const body = { object: 'chat.completion', model: 'gpt-4o-2024-11-20', choices: [], usage: USAGE };
    for (const headers of [
      { 'x-ms-spillover-from-deployment': 'ptu-1', 'x-ms-spillover-error': '429' },
      { 'x-ms-is-spilled-over': 'true' },
    ]) {
      const { line, counted } = await served('/chat/completions', {}, { body, headers });
      expect(line).toEqual({ answer_model: 'gpt-4o-2024-11-20', service_tier: '', spilled: 'true' });
      expect(counted.sort()).toEqual(tokens('gpt-4o-2024-11-20', '', 'true'));
    }
    const { line, counted } = await served(
      '/chat/completions',
      {},
      { body, headers: { 'x-ms-is-spilled-over': 'false' } },
    );
    expect(line.spilled).toBe('');
    expect(counted.sort()).toEqual(tokens('gpt-4o-2024-11-20', '', 'false'));
  });

  test('have the service tier that served, not the requested one', async () => {
    const asked = { service_tier: 'priority' };
    const chat = {
      object: 'chat.completion',
      model: 'm',
      choices: [],
      service_tier: 'default',
      usage: USAGE,
    };
    const whole = await served('/chat/completions', asked, { body: chat });
    expect(whole.line.service_tier).toBe('default');
    expect(whole.counted.sort()).toEqual(tokens('m', 'default', 'false'));
    const strange = await served('/chat/completions', asked, { body: { ...chat, service_tier: 'vip-7' } });
    expect(strange.line.service_tier).toBe('other');
    expect(strange.counted.sort()).toEqual(tokens('m', 'other', 'false'));
    const response = (tier: string, more: object = {}) => ({
      response: { id: 'resp_1', object: 'response', model: 'm', output: [], service_tier: tier, ...more },
    });
    const events: StreamEvent[] = [
      { event: 'response.created', data: { type: 'response.created', ...response('auto') } },
      { event: 'response.output_text.delta', data: { type: 'response.output_text.delta', delta: 'Hi' } },
      {
        event: 'response.completed',
        data: {
          type: 'response.completed',
          ...response('flex', { status: 'completed', usage: RESPONSE_USAGE }),
        },
      },
    ];
    const streamed = await served('/responses', { ...asked, stream: true }, { events });
    expect(streamed.line.service_tier).toBe('flex');
    expect(streamed.counted.sort()).toEqual(tokens('m', 'flex', 'false'));
    // Longer than what is decoded as a whole.
    const long = events.map((event) =>
      typeof event === 'object' && event.event === 'response.completed'
        ? {
            event: event.event,
            data: {
              type: event.event,
              ...response('scale', {
                status: 'completed',
                instructions: 'x'.repeat(100_000),
                usage: RESPONSE_USAGE,
              }),
            },
          }
        : event,
    );
    const large = await served('/responses', { ...asked, stream: true }, { events: long });
    expect(large.counted.sort()).toEqual(tokens('m', 'scale', 'false'));
  });

  test('have the model that a router chose', async () => {
    for (const model of ['claude-sonnet-4-5', 'Grok-4']) {
      const body = { object: 'chat.completion', model, choices: [], usage: USAGE };
      const { line, counted } = await served('/chat/completions', {}, { body }, 'model-router');
      expect(line.answer_model).toBe(model);
      expect(counted.sort()).toEqual(tokens(model.toLowerCase(), '', 'false'));
    }
  });

  test('have the model and tier from the last events of a stream without usage', async () => {
    const about = { model: 'gpt-5-mini-2025-08-07', service_tier: 'priority' };
    for (const splitBytes of [undefined, 40]) {
      const { line } = await served(
        '/chat/completions',
        { stream: true },
        { events: [chunk(about), stop(about)], done: true, ...(splitBytes && { splitBytes }) },
      );
      expect(line).toEqual({ answer_model: about.model, service_tier: 'priority', spilled: '' });
    }
  });
});
