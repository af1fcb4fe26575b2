/** Affinity: a stored object exists in one resource, and later requests that name it go to that owner only. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toFile } from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { backendOf, calls, forgetRequests, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('affinity through the stock APISIX image');

const OTHER_KEY = 'key-of-another-client-0123456789';
const BACKENDS = 3;
const MODEL = 'gpt-4o';
/** The time for which a failed search for an owner is not repeated. */
const UNKNOWN_OWNER_S = 1;

/** The requests that each backend received, such as `POST /openai/v1/responses`. */
const asked = ({ mocks }: Gateway): string[][] =>
  mocks.map(({ requests }) => requests.map(({ method, target }) => `${method} ${target}`));

/** The only backend that received a request whose target ends with this text. */
function whoGot(gateway: Gateway, end: string): number {
  const found = asked(gateway).flatMap((list, index) =>
    list.some((each) => each.endsWith(end)) ? [index] : [],
  );
  if (found.length !== 1) throw new Error(`${found.length} backends got ${end}, not one`);
  return found[0] ?? -1;
}

describe.skipIf(skipped)('affinity', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: Array.from({ length: BACKENDS }, () => ({})),
      settings: { ...NO_COOLDOWN, GATEWAY_CLIENT_NAME_1: 'other', GATEWAY_CLIENT_KEY_1: OTHER_KEY },
      times: { unknown_owner: UNKNOWN_OWNER_S },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const respond = (body: object = {}) =>
    gateway
      .openai()
      .responses.create({ model: MODEL, input: 'Hello', max_output_tokens: 4, ...body }) as Promise<{
      id: string;
    }>;

  test('continues responses at their owners, for many chains at once', async () => {
    const chains = await Promise.all(Array.from({ length: 12 }, () => respond()));
    const before = calls(gateway);
    expect(before.reduce((sum, each) => sum + each)).toBe(12);
    expect(Math.min(...before)).toBeGreaterThan(0);
    for (let turn = 0; turn < 3; turn++) {
      for (const chain of chains) chain.id = (await respond({ previous_response_id: chain.id })).id;
    }
    // Each continuation is one call: no backend was queried for the owner.
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(12 * 4);
  });

  test('continues streamed responses at their owners', async () => {
    for (let count = 0; count < 6; count++) {
      const stream = await gateway
        .openai()
        .responses.create({ model: MODEL, input: 'Hello', max_output_tokens: 4, stream: true });
      let id = '';
      for await (const event of stream) if (event.type === 'response.completed') id = event.response.id;
      expect(id).not.toBe('');
      await respond({ previous_response_id: id });
    }
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(12);
  });

  test('sends every operation on a response to its owner', async () => {
    for (let count = 0; count < 3; count++) {
      const { id } = await respond({ background: true });
      const client = gateway.openai();
      expect((await client.responses.retrieve(id)).id).toBe(id);
      expect((await client.responses.inputItems.list(id)).data).toHaveLength(1);
      expect((await client.responses.cancel(id)).id).toBe(id);
      await client.responses.delete(id);
      await expect(client.responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
    }
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(3 * 6);
  });

  test('sends conversations, and responses in them, to their owner', async () => {
    for (let count = 0; count < 4; count++) {
      const client = gateway.openai();
      const conversation = await client.conversations.create({});
      await respond({ conversation: conversation.id });
      await respond({ conversation: { id: conversation.id } });
      const items = await client.conversations.items.list(conversation.id);
      expect(items.data.length).toBeGreaterThan(2);
      await client.conversations.delete(conversation.id);
    }
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(4 * 5);
  });

  test('keeps the files of one client at one backend, so that batches and vector stores can use them', async () => {
    const client = gateway.openai();
    const files = [];
    for (let count = 0; count < 4; count++) {
      const file = await toFile(Buffer.from('{"custom_id":"1"}\n'), `${count}.jsonl`);
      files.push(await client.files.create({ file, purpose: 'batch' }));
    }
    const [first] = files;
    if (!first) throw new Error('there is no file');
    const batch = await client.batches.create({
      input_file_id: first.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    });
    expect((await client.batches.retrieve(batch.id)).id).toBe(batch.id);
    expect((await client.batches.cancel(batch.id)).status).toBe('cancelling');
    const store = await client.vectorStores.create({ name: 'all', file_ids: files.map(({ id }) => id) });
    expect((await client.vectorStores.retrieve(store.id)).file_counts.total).toBe(4);
    expect((await client.files.list()).data).toHaveLength(4);
    expect(await (await client.files.content(first.id)).text()).toBe('{"custom_id":"1"}\n');
    expect(calls(gateway).filter((count) => count > 0)).toHaveLength(1);
    await respond({
      tools: [{ type: 'file_search', vector_store_ids: [store.id] }],
      input: [{ role: 'user', content: [{ type: 'input_file', file_id: first.id }] }],
    });
    expect(whoGot(gateway, '/responses')).toBe(calls(gateway).findIndex((count) => count > 0));
  });

  test('works for the classic API as well', async () => {
    const created = await gateway.azure().responses.create({ model: MODEL, input: 'Hello' });
    const found = await gateway.azure().responses.retrieve(created.id);
    expect(found.id).toBe(created.id);
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(2);
  });

  describe('an object without a known owner', () => {
    /** Creates an object directly at a backend, as another replica of the gateway would. */
    async function madeAt(
      index: number,
      path = '/openai/v1/responses',
      body: object = { model: MODEL, input: 'x' },
    ) {
      const answer = await fetch(`${backendOf(gateway, index).url}${path}`, {
        method: 'POST',
        headers: { 'api-key': `key-of-backend-${index}-0123456789`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const { id } = (await answer.json()) as { id: string };
      await forgetRequests(gateway);
      return id;
    }

    test('is searched for once with read requests, and its owner is remembered', async () => {
      for (let index = 0; index < BACKENDS; index++) {
        const id = await madeAt(index);
        await respond({ previous_response_id: id });
        expect(whoGot(gateway, 'POST /openai/v1/responses')).toBe(index);
        const reads = asked(gateway)
          .flat()
          .filter((each) => each.startsWith('GET'));
        expect(reads).toEqual(reads.map(() => `GET /openai/v1/responses/${id}`));
        expect(reads.length).toBeLessThanOrEqual(BACKENDS);
        await forgetRequests(gateway);
        await respond({ previous_response_id: id });
        expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(1);
        await forgetRequests(gateway);
      }
    });

    test('is searched for in the classic API with the api-version and no other query parameter', async () => {
      const path = `/openai/responses?api-version=${API_VERSION}`;
      const id = await madeAt(2, path);
      const answer = await gateway.fetch(
        `/openai/responses/${id}?stream=false&api-version=${API_VERSION}&x=1`,
      );
      expect(answer.status).toBe(200);
      const targets = asked(gateway).flat();
      expect(
        targets.filter((each) => each === `GET /openai/responses/${id}?api-version=${API_VERSION}`).length,
      ).toBeGreaterThan(0);
      expect(targets.filter((each) => each.includes('x=1'))).toHaveLength(1);
    });

    test("gets a backend's own error when no backend has it, and no owner is remembered", async () => {
      const answer = await gateway.fetch('/openai/v1/responses', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: MODEL, input: 'x', previous_response_id: 'resp_nobody' }),
      });
      expect(answer.status).toBe(400);
      expect(await answer.json()).toMatchObject({ error: { code: 'previous_response_not_found' } });
      expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(BACKENDS + 1);
      expect((await gateway.fetch('/openai/v1/files/file-nobody')).status).toBe(404);
      // For a moment the search is not repeated.
      await forgetRequests(gateway);
      expect((await gateway.fetch('/openai/v1/responses/resp_nobody')).status).toBe(404);
      expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(1);
      // The answering backend did not become the owner: after that time all backends are queried again.
      await sleep(UNKNOWN_OWNER_S * 1000 + 100);
      await forgetRequests(gateway);
      expect((await gateway.fetch('/openai/v1/responses/resp_nobody')).status).toBe(404);
      expect(
        asked(gateway)
          .map((list) => list.length)
          .sort(),
      ).toEqual([1, 1, 2]);
    });

    test('gets 429 with the delay of a possible owner that is throttled, not 404', async () => {
      const id = await madeAt(1);
      backendOf(gateway, 1).script({
        path: /responses\/resp_/,
        status: 429,
        headers: { 'retry-after': '7' },
      });
      const answer = await gateway.fetch(`/openai/v1/responses/${id}`);
      expect(answer.status).toBe(429);
      expect(answer.headers.get('retry-after')).toBe('7');
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(await answer.json()).toEqual({
        error: {
          message: expect.stringMatching(/may have/),
          type: 'rate_limit_error',
          param: null,
          code: 'rate_limit_exceeded',
        },
      });
      expect((await gateway.fetch(`/openai/v1/responses/${id}`)).status).toBe(200);
    });

    test('gets 503 without Retry-After when a possible owner fails', async () => {
      const id = await madeAt(2);
      backendOf(gateway, 2).script({ path: /responses\/resp_/, status: 500 });
      const answer = await gateway.fetch(`/openai/v1/responses/${id}`, { method: 'DELETE' });
      expect(answer.status).toBe(503);
      expect(answer.headers.get('retry-after')).toBeNull();
      expect(await answer.json()).toMatchObject({
        error: { code: 'upstream_unavailable', type: 'server_error' },
      });
      expect(
        asked(gateway)
          .flat()
          .filter((each) => each.startsWith('DELETE')),
      ).toEqual([]);
    });
  });

  test('passes on the 429 of a throttled owner, because no other backend has the object', async () => {
    const { id } = await respond();
    const owner = whoGot(gateway, '/responses');
    await forgetRequests(gateway);
    backendOf(gateway, owner).script({ status: 429, headers: { 'retry-after': '9' } });
    const answer = await gateway.fetch('/openai/v1/responses', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, input: 'x', previous_response_id: id }),
    });
    expect(answer.status).toBe(429);
    expect(answer.headers.get('retry-after')).toBe('9');
    expect(await answer.json()).toMatchObject({ error: { code: '429' } });
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(1);
    expect(whoGot(gateway, '/responses')).toBe(owner);
  });

  test('does not fail over when the owner fails', async () => {
    const { id } = await respond();
    const owner = whoGot(gateway, '/responses');
    await forgetRequests(gateway);
    backendOf(gateway, owner).script({ status: 500 });
    await expect(respond({ previous_response_id: id })).rejects.toMatchObject({ status: 500 });
    expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(1);
  });

  test('does not use the owners of one client for another client', async () => {
    const { id } = await respond();
    await forgetRequests(gateway);
    const other = await gateway.fetch(`/openai/v1/responses/${id}`, { headers: { 'api-key': OTHER_KEY } });
    expect(other.status).toBe(200);
    // The gateway searched for the owner, as for an unknown object.
    expect(asked(gateway).flat().length).toBeGreaterThan(1);
    await forgetRequests(gateway);
    expect(
      (await gateway.fetch(`/openai/v1/responses/${id}`, { headers: { 'api-key': CLIENT_KEY } })).status,
    ).toBe(200);
    expect(asked(gateway).flat()).toHaveLength(1);
  });

  describe('encrypted reasoning', () => {
    const include = ['reasoning.encrypted_content'];
    interface Output {
      readonly output: { readonly type: string; readonly encrypted_content?: string }[];
    }
    const reasoningOf = ({ output }: Output) => {
      const item = output.find(({ type }) => type === 'reasoning');
      if (!item?.encrypted_content) throw new Error('nothing is encrypted');
      return item;
    };
    const again = (item: object) => ({
      store: false,
      include,
      input: [item, { role: 'user', content: 'And?' }],
    });

    test.each([false, true])('is sent back to the resource that made it (streamed: %s)', async (stream) => {
      for (let count = 0; count < 6; count++) {
        let response: Output;
        if (stream) {
          const events = await gateway.openai().responses.create({
            model: MODEL,
            input: 'Hello',
            store: false,
            stream: true,
            include: ['reasoning.encrypted_content'],
          });
          let completed: unknown;
          for await (const event of events)
            if (event.type === 'response.completed') completed = event.response;
          response = completed as Output;
        } else {
          response = (await respond({ store: false, include })) as unknown as Output;
        }
        const next = (await respond(again(reasoningOf(response)))) as unknown as Output;
        await respond(again(reasoningOf(next)));
      }
      expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(6 * 3);
    });

    test('gets the 429 of its owner while that is throttled, and is sent to no other backend', async () => {
      const item = reasoningOf((await respond({ store: false, include })) as unknown as Output);
      const owner = whoGot(gateway, '/responses');
      await forgetRequests(gateway);
      backendOf(gateway, owner).script({ status: 429, headers: { 'retry-after': '3' } });
      // No other backend can decrypt it, so only the owner's answer helps the client.
      await expect(respond(again(item))).rejects.toMatchObject({ status: 429 });
      expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(1);
    });

    test('of an unknown resource is refused after each backend was queried once', async () => {
      const foreign = { type: 'reasoning', summary: [], encrypted_content: 'gAAAAAunknown' };
      await expect(respond(again(foreign))).rejects.toMatchObject({
        status: 400,
        code: 'invalid_encrypted_content',
      });
      expect(calls(gateway)).toEqual([1, 1, 1]);
      // For a moment the search is not repeated.
      await expect(respond(again(foreign))).rejects.toMatchObject({ status: 400 });
      expect(calls(gateway).reduce((sum, each) => sum + each)).toBe(4);
    });
  });

  test('spreads all other requests over the backends', async () => {
    for (let count = 0; count < 30; count++) expect((await gateway.chat(MODEL)).status).toBe(200);
    for (const count of calls(gateway)) expect(count).toBeGreaterThanOrEqual(8);
  });
});
