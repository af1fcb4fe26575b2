/** Answers of any size and content pass unchanged, their usage is counted, and they delay no other request. */
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';

const MIB = 2 ** 20;
const MODEL = 'gpt-4o';
const USAGE = { input_tokens: 1000, output_tokens: 5000, total_tokens: 6000 };
const PATH = '/openai/v1/responses';

describe.skipIf(cannotRunGatewayTests('large answers'))('large answers', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        AZURE_OPENAI_DEPLOYMENTS_0: MODEL,
        AZURE_OPENAI_DEPLOYMENTS_1: 'other',
        GATEWAY_WORKERS: '1',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  const respond = async (behaviour: Behaviour, stream: boolean): Promise<string> => {
    gateway.mocks[0]?.script(behaviour);
    const include = ['reasoning.encrypted_content'];
    const answer = await gateway.fetch(PATH, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, input: 'x', stream, include }),
    });
    expect(answer.status).toBe(200);
    return answer.text();
  };
  let linesBefore = 0;
  beforeEach(async () => {
    linesBefore = (await gateway.accessLog()).length;
  });
  const isCounted = async () => {
    const lines = await gateway.accessLog();
    return lines.slice(linesBefore).some((line) => line.completion_tokens === '5000');
  };
  const created = {
    event: 'response.created',
    data: { type: 'response.created', response: { id: 'resp_1' } },
  };
  const completed = (more: object) => ({
    event: 'response.completed',
    data: { type: 'response.completed', response: { id: 'resp_1', ...more, usage: USAGE } },
  });

  test.each([
    ['an image', { output: [{ result: 'A'.repeat(6 * MIB) }] }],
    ['encrypted reasoning', { output: Array(20_000).fill({ encrypted_content: 'x'.repeat(200) }) }],
    ['small objects', { output: Array(500_000).fill({}) }],
  ])('counts the usage in an event of several megabytes: %s', async (_, more) => {
    const event = completed(more);
    const text = await respond({ events: [created, event] }, true);
    expect(text).toContain(`data: ${JSON.stringify(event.data)}\n\n`);
    await vi.waitUntil(isCounted, { timeout: 5000 });
  });

  test('counts the usage in a long event that arrives in small pieces', async () => {
    const event = completed({ output: [{ result: 'A'.repeat(300_000) }] });
    await respond({ events: [created, event], splitBytes: 100 }, true);
    await vi.waitUntil(isCounted, { timeout: 5000 });
  });

  test.each([
    ['at its end', (more: object) => ({ id: 'resp_1', ...more, usage: USAGE })],
    ['at its beginning', (more: object) => ({ usage: USAGE, id: 'resp_1', ...more })],
  ])('counts the usage %s of a JSON answer of several megabytes', async (_, answer) => {
    const body = JSON.stringify(answer({ output: Array(300_000).fill({ encrypted_content: 'abc' }) }));
    expect(await respond({ body, headers: { 'content-type': 'application/json' } }, false)).toBe(body);
    await vi.waitUntil(isCounted, { timeout: 5000 });
  });

  test.each([
    [
      '200 with 900 headers',
      Object.fromEntries(Array.from({ length: 900 }, (_, index) => [`x-${index}`, '1'])),
      200,
    ],
    [
      '502 with 1,100 headers',
      Object.fromEntries(Array.from({ length: 1100 }, (_, index) => [`x-${index}`, '1'])),
      502,
    ],
  ])('returns %s in the answer', async (_, headers, status) => {
    gateway.mocks[0]?.script({ headers, body: {}, times: 5 });
    const answer = await gateway.chat(MODEL);
    expect(answer.status).toBe(status);
  });

  test.each<[string, Behaviour]>([
    ['lines without a colon', { events: [created, `${'a\n'.repeat(MIB)}\n`] }],
    ['lines of data', { events: [created, `${'data:\n'.repeat(MIB)}\n`] }],
    ['short events', { events: [created, 'data: {"usage":{"x":1}}\n\n'.repeat(100_000)] }],
    ['nests', { events: [created, `data: {"usage":{"x":[${'[],'.repeat(MIB)}1]}}\n\n`] }],
  ])('uses little CPU for a stream of %s', async (_, behaviour) => {
    const [before] = await gateway.apisix.workers();
    await respond(behaviour, true);
    const [after] = await gateway.apisix.workers();
    expect((after?.cpuMs ?? 0) - (before?.cpuMs ?? 0)).toBeLessThan(2000);
    expect((after?.residentBytes ?? 0) - (before?.residentBytes ?? 0)).toBeLessThan(40 * MIB);
  });
});
