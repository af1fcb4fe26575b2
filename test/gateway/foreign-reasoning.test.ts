/** A backend refuses encrypted reasoning inside a 200: its answer makes it no owner, and the other backends are tried. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { backendOf, calls, inOrder, resetMocks, Wire } from '../support/traffic.ts';

const ERROR = { code: 'invalid_encrypted_content', message: 'It could not be verified.' };
const FAILED = { id: 'resp_1', object: 'response', status: 'failed', error: ERROR, output: [] };

async function* andThenNothing(data: object) {
  yield { data };
  await new Promise(() => undefined);
}

const COMPLETED = { ...FAILED, id: 'resp_2', status: 'completed', error: null };
const accepted = (isStream: boolean): Behaviour =>
  isStream
    ? { events: [{ data: { type: 'response.completed', response: COMPLETED } }], done: false }
    : { body: COMPLETED };

const REFUSALS: Readonly<Record<string, () => Behaviour>> = {
  'by an event, its connection left open': () => ({
    events: andThenNothing({ type: 'error', error: ERROR }),
    done: false,
  }),
  'by an event': () => ({ events: [{ data: { type: 'response.failed', response: FAILED } }], done: false }),
  'by a response that failed': () => ({ body: FAILED }),
};

describe.skipIf(cannotRunGatewayTests('foreign reasoning'))('encrypted reasoning that is refused', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({ settings: inOrder(2) });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  const send = (seal: string, stream: boolean) =>
    new Wire(gateway, '/openai/v1/responses', {
      body: JSON.stringify({
        model: 'gpt-4o',
        store: false,
        stream,
        input: [{ type: 'reasoning', encrypted_content: `gAAAA${seal}${'x'.repeat(200)}` }],
      }),
    }).end();

  test.each(Object.entries(REFUSALS))(
    'refused %s is sent to the backend that accepts it',
    async (what, refusal) => {
      const isStream = !what.includes('response');
      backendOf(gateway, 0).script(refusal());
      backendOf(gateway, 1).always(accepted(isStream));
      const answer = await send(what, isStream);
      expect(answer.isWhole).toBe(true);
      expect(answer.body.toString()).toContain('completed');
      expect(calls(gateway)).toEqual([1, 1]);
      await send(what, isStream);
      expect(calls(gateway)).toEqual([1, 2]);
    },
  );

  test.each(Object.entries(REFUSALS))(
    "refused %s by every backend returns the first backend's error",
    async (what, refusal) => {
      for (const mock of gateway.mocks) mock.script(refusal());
      const answer = await send(`everywhere ${what}`, !what.includes('response'));
      expect([answer.isWhole, answer.body.toString().includes(ERROR.code)]).toEqual([true, true]);
      expect(calls(gateway)).toEqual([1, 1]);
    },
  );
});
