/** The answer cache in the memory of a replica: which answers are stored, for whom, and what a stored answer is like. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { ask, CACHE, CHAT, callsOf, numbered, question, resultOf, sample, wire } from '../support/cache.ts';
import { API_VERSION, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { backendOf, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('the answer cache through the stock APISIX image');

const OTHER_KEY = 'key-of-another-client-0123456789';
const TTL_S = 4;
const other = { 'api-key': OTHER_KEY };

describe.skipIf(skipped)('the answer cache', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: quickMetrics,
      settings: {
        ...CACHE,
        CACHE_TTL: String(TTL_S),
        GATEWAY_CLIENT_NAME_1: 'other',
        GATEWAY_CLIENT_KEY_1: OTHER_KEY,
        GATEWAY_LOG_MODE: 'prod',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
        AI_RATE_LIMIT_HIGH_LIMIT: '1000000',
        AI_RATE_LIMIT_LOW_LIMIT: '1000000',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));
  const mock = () => backendOf(gateway, 0);

  test('sends the same bytes again, with their age and without a call', async () => {
    const body = question();
    const first = await ask(gateway, body);
    await sleep(1_100);
    const second = await ask(gateway, body);
    expect([first.result, second.result]).toEqual(['miss', 'hit']);
    expect(second.text).toBe(first.text);
    expect(first.headers.get('age')).toBeNull();
    expect(Number(second.headers.get('age'))).toBeGreaterThan(0);
    expect(second.headers.get('content-type')).toBe(first.headers.get('content-type'));
    expect(second.headers.get('content-length')).toBe(String(Buffer.byteLength(first.text)));
    expect(callsOf(gateway)).toBe(1);
  });

  test('sends the same bytes of a stream again, as events', async () => {
    const body = question({ stream: true, stream_options: { include_usage: true } });
    const first = await ask(gateway, body);
    const second = await ask(gateway, body);
    expect([first.result, second.result]).toEqual(['miss', 'hit']);
    expect(second.text).toBe(first.text);
    expect(second.text).toMatch(/data: \[DONE\]\n\n$/);
    expect(second.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(callsOf(gateway)).toBe(1);
  });

  test('stores a stream of a response that is not stored at the backend', async () => {
    const body = { model: 'gpt-4o', input: question().messages[0]?.content, store: false, stream: true };
    const first = await ask(gateway, body, {}, '/openai/v1/responses');
    const second = await ask(gateway, body, {}, '/openai/v1/responses');
    expect([first.result, second.result]).toEqual(['miss', 'hit']);
    expect(second.text).toBe(first.text);
    expect(second.text).toContain('response.completed');
  });

  test('stores embeddings and completions', async () => {
    const { content } = question().messages[0] ?? { content: '' };
    for (const [path, body] of [
      ['/openai/v1/embeddings', { model: 'text-embedding-3-small', input: content }],
      ['/openai/v1/completions', { model: 'gpt-4o', prompt: content }],
    ] as const) {
      const first = await ask(gateway, body, {}, path);
      const second = await ask(gateway, body, {}, path);
      expect([first.status, first.result, second.result]).toEqual([200, 'miss', 'hit']);
      expect(second.text).toBe(first.text);
    }
  });

  test('does not repeat ids, limits and cookies of the first exchange', async () => {
    const body = question();
    mock().always({
      headers: { 'set-cookie': 'session=planted', 'x-planted': 'planted', 'x-ms-region': 'Sweden' },
    });
    const first = await ask(gateway, body);
    const second = await ask(gateway, body);
    expect(first.headers.get('x-planted')).toBe('planted');
    expect(second.headers.get('x-ms-region')).toBe('Sweden');
    expect(JSON.stringify([...second.headers])).not.toContain('planted');
    expect([...second.headers.keys()].filter((name) => /^x-ratelimit-|apim-request-id/.test(name))).toEqual(
      [],
    );
    expect(second.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
  });

  test('forgets an answer after CACHE_TTL', async () => {
    const body = question();
    await ask(gateway, body);
    await sleep(TTL_S * 1000 + 500);
    expect((await ask(gateway, body)).result).toBe('miss');
  });

  test('takes requests for different if their body, path, version or a header of meaning differs', async () => {
    const body = question();
    const classic = `/openai/deployments/gpt-4o/chat/completions?api-version=`;
    const variants: readonly (readonly [object | string, Record<string, string>, string])[] = [
      [body, {}, CHAT],
      [{ ...body, temperature: 0 }, {}, CHAT],
      [`${JSON.stringify(body)} `, {}, CHAT],
      [body, { 'x-ms-oai-feature': 'a' }, CHAT],
      [body, { 'x-ms-oai-feature': 'b' }, CHAT],
      [body, {}, `${CHAT}?api-version=preview`],
      [body, {}, classic + API_VERSION],
      [body, {}, `${classic}2025-04-01-preview`],
      [body, {}, `/openai/deployments/gpt-4o-mini/chat/completions?api-version=${API_VERSION}`],
    ];
    for (const variant of variants) expect((await ask(gateway, ...variant)).result).toBe('miss');
    for (const variant of variants) expect((await ask(gateway, ...variant)).result).toBe('hit');
    expect(callsOf(gateway)).toBe(variants.length);
  });

  test('takes requests for the same if only ids and names of programs differ', async () => {
    const body = question();
    await ask(gateway, body);
    const noise = {
      'user-agent': 'OpenAI/Python 2.0',
      'x-stainless-retry-count': '1',
      'x-request-id': '0f8b2c5e',
      'x-ms-client-request-id': '0f8b2c5e',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    };
    expect((await ask(gateway, body, noise)).result).toBe('hit');
  });

  test('finds an answer for a compressed request by its plain body', async () => {
    const { gzipSync } = await import('node:zlib');
    const body = question();
    await ask(gateway, body);
    const response = await gateway.fetch(CHAT, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      body: gzipSync(JSON.stringify(body)),
    });
    await response.text();
    expect(response.headers.get('x-gateway-cache')).toBe('hit');
  });

  test('finds an answer for a body that nginx keeps in a file', async () => {
    const body = { ...question(), user: 'x'.repeat(300_000) };
    expect((await ask(gateway, body)).result).toBe('miss');
    expect((await ask(gateway, body)).result).toBe('hit');
    expect((await ask(gateway, { ...body, user: `${body.user}y` })).result).toBe('miss');
  });

  test.each([
    ['if-none-match', '*'],
    ['if-match', '"x"'],
    ['if-unmodified-since', 'Wed, 21 Oct 2015 07:28:00 GMT'],
  ])('gives the whole answer to a request with %s', async (name, value) => {
    const body = question();
    // `fetch` would add `cache-control: no-cache`.
    const send = () => wire(gateway, body, { [name]: value }).end();
    const seen = [await send(), await send()];
    expect(seen.map((each) => [each.status, resultOf(each)])).toEqual([
      [200, 'miss'],
      [200, 'hit'],
    ]);
    expect(seen[1]?.body).toEqual(seen[0]?.body);
  });

  test('never gives the answer of one client to another', async () => {
    const body = question();
    await ask(gateway, body);
    expect((await ask(gateway, body, other)).result).toBe('miss');
    expect((await ask(gateway, body, other)).result).toBe('hit');
    expect(callsOf(gateway)).toBe(2);
  });

  test('still demands a key', async () => {
    const body = question();
    await ask(gateway, body);
    expect((await ask(gateway, body, { 'api-key': 'a-wrong-key-0123456789' })).status).toBe(401);
  });

  const RESPONSES = '/openai/v1/responses';
  const EFFECTS: readonly (readonly [what: string, more: Record<string, unknown>, path?: string])[] = [
    ['a stored chat', { store: true }],
    ['a search by the backend', { web_search_options: {} }],
    ['documents of the backend', { data_sources: [{ type: 'azure_search' }] }],
    ['sound', { modalities: ['text', 'audio'], audio: { voice: 'alloy', format: 'wav' } }],
    ['a file', { messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: 'file-1' } }] }] }],
    ['an earlier sound', { messages: [{ role: 'assistant', audio: { id: 'audio_1' } }] }],
    ['a response that is stored', { input: 'a' }, RESPONSES],
    ['a response in the background', { input: 'a', store: false, background: true }, RESPONSES],
    ['an earlier response', { input: 'a', store: false, previous_response_id: 'resp_1' }, RESPONSES],
    ['a conversation', { input: 'a', store: false, conversation: 'conv_1' }, RESPONSES],
    ['a stored prompt', { input: 'a', store: false, prompt: { id: 'pmpt_1' } }, RESPONSES],
    ['a tool of the backend', { input: 'a', store: false, tools: [{ type: 'web_search' }] }, RESPONSES],
    [
      'a tool of the backend after others',
      { input: 'a', store: false, tools: [{ type: 'function', name: 'f' }, { type: 'mcp' }] },
      RESPONSES,
    ],
    [
      'an item of another response',
      { store: false, input: [{ type: 'item_reference', id: 'rs_1' }] },
      RESPONSES,
    ],
  ];
  test.each(EFFECTS.map(([what, more, path = CHAT]) => ({ what, more, path })))(
    'does not store answers to a request with $what',
    async ({ more, path }) => {
      mock().always({ body: { id: 'x', status: 'completed', choices: [{ message: { content: 'x' } }] } });
      const body = { ...question(), ...more };
      const rest = { ...body, messages: undefined };
      for (let count = 0; count < 2; count++) {
        const { result } = await ask(gateway, path === CHAT ? body : rest, {}, path);
        expect(result).toBe('bypass');
      }
      expect(callsOf(gateway)).toBe(2);
    },
  );

  test('stores answers to requests with tools of the client', async () => {
    const parameters = { type: 'object', properties: { file_id: { type: 'string' } }, required: ['file_id'] };
    const body = question({
      tools: [{ type: 'function', function: { name: 'f', parameters } }],
      store: false,
    });
    expect((await ask(gateway, body)).result).toBe('miss');
    expect((await ask(gateway, body)).result).toBe('hit');
  });

  test('does not look at requests that are not for an answer of a model', async () => {
    const response = await gateway.fetch('/openai/v1/files');
    await response.text();
    expect(response.headers.get('x-gateway-cache')).toBeNull();
  });

  test.each([
    ['an error', { status: 400 }],
    ['an error with status 200', { body: { error: { code: 'content_filter', message: 'No.' } } }],
    [
      'an answer that the content filter could not check',
      {
        body: {
          id: 'x',
          choices: [
            { message: { content: 'x' }, content_filter_result: { error: { code: 'content_filter_error' } } },
          ],
        },
      },
    ],
    ['an answer without content', { body: {} }],
    ['a failed response', { body: { id: 'x', choices: [{}], status: 'failed' } }],
    ['an answer without content type', { body: 'x', headers: { 'content-type': 'text/plain' } }],
    ['an encoded answer', { body: '{}', headers: { 'content-encoding': 'x-none' } }],
  ])('does not store %s', async (_, behaviour) => {
    mock().always(behaviour);
    const body = question();
    await ask(gateway, body);
    const again = await ask(gateway, body);
    expect(again.result).toBe('miss');
    expect(callsOf(gateway)).toBe(2);
  });

  test.each([
    ['breaks off', { events: numbered(4), cutAfter: 3 }],
    ['ends without its last event', { events: numbered(4).slice(0, 3), done: false }],
    ['reports an error', { events: [...numbered(2), { data: { error: { message: 'planted' } } }] }],
  ])('does not store a stream that %s', async (_, behaviour) => {
    mock().always(behaviour);
    const body = question({ stream: true });
    await ask(gateway, body).catch(() => undefined);
    mock().always({ events: numbered(2) });
    expect((await ask(gateway, body)).result).toBe('miss');
  });

  test('does not store an answer that is larger than CACHE_MAX_ENTRY_SIZE', async () => {
    for (const more of [{}, { stream: true }]) {
      mock().always(
        'stream' in more
          ? { events: numbered(300, 1000) }
          : { body: { choices: [{ text: 'x'.repeat(300_000) }] } },
      );
      const body = question(more);
      const first = await ask(gateway, body);
      const second = await ask(gateway, body);
      expect([first.result, second.result]).toEqual(['miss', 'miss']);
      expect(second.text).toBe(first.text);
    }
  });

  test('obeys Cache-Control of a request', async () => {
    const body = question();
    const asking = (value: string, name = 'cache-control') => ask(gateway, body, { [name]: value });
    expect((await asking('no-store')).result).toBe('bypass');
    expect((await ask(gateway, body)).result).toBe('miss');
    expect((await asking('No-Store, max-age=60')).result).toBe('bypass');
    expect((await asking('max-age=60')).result).toBe('hit');
    await sleep(1_500);
    expect((await asking('max-age=1')).result).toBe('miss');
    expect(Number((await ask(gateway, body)).headers.get('age'))).toBeLessThan(1);
    expect((await asking('no-cache')).result).toBe('miss');
    expect((await asking('no-cache', 'pragma')).result).toBe('miss');
    expect((await asking('max-age=0')).result).toBe('miss');
    expect((await ask(gateway, body)).result).toBe('hit');
    expect(callsOf(gateway)).toBe(7);
  });

  test('costs no tokens of a budget, and is counted with the tokens that it saved', async () => {
    const body = question();
    const before = await gateway.metrics();
    await ask(gateway, body);
    const left = async () =>
      Number((await ask(gateway, body)).headers.get('x-ai-high-ratelimit-remaining') ?? Number.NaN);
    const first = await left();
    expect(await left()).toBe(first);
    const after = await gateway.metrics();
    const grown = (name: string, labels: Record<string, string> = {}) =>
      sample(after, name, labels) - sample(before, name, labels);
    const saved = 'apisix_genai_cache_saved_tokens_total';
    expect(grown('apisix_genai_cache_requests_total', { result: 'miss' })).toBe(1);
    expect(grown('apisix_genai_cache_requests_total', { result: 'hit' })).toBe(2);
    expect(grown('apisix_genai_cache_stores_total', { result: 'stored' })).toBe(1);
    const prompt = grown('apisix_llm_prompt_tokens', { consumer: 'app' });
    const completion = grown('apisix_llm_completion_tokens', { consumer: 'app' });
    expect(prompt).toBeGreaterThan(0);
    expect(grown(saved, { kind: 'prompt', consumer: 'app', lane: 'high' })).toBe(2 * prompt);
    expect(grown(saved, { kind: 'completion', consumer: 'app', lane: 'high' })).toBe(2 * completion);
    // Workers write to the log independently.
    const lines = (await gateway.accessLog())
      .slice(-3)
      .sort((one, other) => String(other.cache).localeCompare(String(one.cache)));
    expect(lines.map(({ cache }) => cache)).toEqual(['miss', 'hit', 'hit']);
    expect(lines.map((line) => line.saved_prompt_tokens)).toEqual(['', String(prompt), String(prompt)]);
    expect(lines.map((line) => line.saved_completion_tokens)).toEqual([
      '',
      String(completion),
      String(completion),
    ]);
    expect(lines.map((line) => [line.prompt_tokens, line.backend, line.error, line.model]).slice(1)).toEqual([
      ['0', '', '', 'gpt-4o'],
      ['0', '', '', 'gpt-4o'],
    ]);
  });

  test('stays within CACHE_MEMORY, and keeps the answers that were used last', {
    timeout: 60_000,
  }, async () => {
    const capacity = sample(await gateway.metrics(), 'apisix_shared_dict_capacity_bytes', {
      name: 'genai-gateway-cache',
    });
    expect(capacity).toBe(6 * 2 ** 20);
    mock().always({ body: { choices: [{ message: { content: 'x'.repeat(100_000) } }] } });
    const bodies = Array.from({ length: 120 }, () => question());
    for (const body of bodies) expect((await ask(gateway, body)).status).toBe(200);
    const last = bodies.at(-1) ?? {};
    const first = bodies[0] ?? {};
    expect((await ask(gateway, last)).result).toBe('hit');
    expect((await ask(gateway, first)).result).toBe('miss');
    const faults = (await gateway.apisix.log()).split('\n').filter((line) => /\[(?:error|crit)\]/.test(line));
    expect(faults.filter((line) => !line.includes('broke off'))).toEqual([]);
  });
});
