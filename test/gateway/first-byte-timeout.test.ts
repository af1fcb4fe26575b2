/** What the gateway is set to behind a proxy that ends requests that are silent, such as the ingress of Container Apps. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import {
  backendOf,
  calls,
  chatOnWire,
  chatPrelude,
  chatText,
  inOrder,
  NO_COOLDOWN,
  resetMocks,
} from '../support/traffic.ts';

const DONE = 'data: [DONE]\n\n';
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Builds a stream from events and pauses in milliseconds. */
function stream(...pieces: readonly (StreamEvent | number)[]): Behaviour {
  async function* events() {
    for (const piece of pieces) {
      if (typeof piece === 'number') await pause(piece);
      else yield piece;
    }
  }
  return { events: events(), done: false };
}

describe.skipIf(cannotRunGatewayTests('the limit for the first byte'))(
  'AI_PROXY_FIRST_BYTE_TIMEOUT=1s',
  () => {
    let gateway: Gateway;
    const start = (settings: Record<string, string>) => async () => {
      gateway = await startGateway({
        settings: { ...inOrder(2), ...NO_COOLDOWN, AI_PROXY_FIRST_BYTE_TIMEOUT: '1s', ...settings },
      });
    };
    afterEach(() => resetMocks(gateway));

    describe('with heartbeats and a deadline as long', () => {
      beforeAll(start({ AI_PROXY_STREAM_HEARTBEAT: '500ms', AI_PROXY_DEADLINE: '1s' }), CONTAINER_TIMEOUT_MS);
      afterAll(() => gateway?.stop());

      test('is a 504 with an error that clients can read, and no further attempt', async () => {
        backendOf(gateway, 0).script({ delayMs: 4_000 });
        const began = performance.now();
        const answer = await gateway.chat('gpt-4o');
        expect(performance.now() - began).toBeLessThan(3_000);
        expect(answer.status).toBe(504);
        expect(await answer.json()).toMatchObject({ error: { code: 'upstream_timeout' } });
        expect(calls(gateway)).toEqual([1, 0]);
      });

      test('does not end a stream that has begun, however long it is silent', async () => {
        backendOf(gateway, 0).script(stream(chatPrelude, 1_600, chatText('a'), 1_600, DONE));
        const answer = await chatOnWire(gateway, 'gpt-4o').end();
        expect(answer.isWhole).toBe(true);
        expect(answer.body.toString().split(': ping\n\n').length).toBeGreaterThan(4);
        expect(answer.body.toString()).toContain(DONE);
      });
    });

    describe('without a deadline', () => {
      beforeAll(start({}), CONTAINER_TIMEOUT_MS);
      afterAll(() => gateway?.stop());

      test('has the next backend answer', async () => {
        backendOf(gateway, 0).script({ delayMs: 4_000 });
        expect((await gateway.chat('gpt-4o')).status).toBe(200);
        expect(calls(gateway)).toEqual([1, 1]);
      });
    });
  },
);
