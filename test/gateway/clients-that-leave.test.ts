/** A client that disconnects before the answer frees its backend, whatever it has sent. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { rawConnection, requestBytes } from '../support/raw-http.ts';

const ANSWER_AFTER_MS = 1_500;

const skipped = cannotRunGatewayTests('clients that leave');

describe.skipIf(skipped)('a client that disconnects before the answer', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}] });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  // nginx reads a short body together with the head, and a longer one in one or several more reads.
  test.each([10, 1_500, 4_000, 10_000, 60_000, 200_000])(
    'is noticed after a body of %d bytes written together with the head',
    async (size) => {
      const [mock] = gateway.mocks;
      if (!mock) throw new Error('there is no mock');
      mock.reset();
      mock.script({ delayMs: ANSWER_AFTER_MS });
      const connection = await rawConnection(gateway.url);
      await connection.write(
        requestBytes({
          method: 'POST',
          target: '/openai/v1/chat/completions',
          headers: [
            ['api-key', CLIENT_KEY],
            ['Content-Type', 'application/json'],
          ],
          body: JSON.stringify({ model: 'gpt-4o', messages: [], user: 'x'.repeat(size) }),
        }),
      );
      await mock.waitForRequests(1);
      connection.destroy();
      await sleep(ANSWER_AFTER_MS / 2);
      const lines = (await gateway.accessLog()).filter(({ bytes_in: bytes }) => Number(bytes) > size);
      expect(lines.at(-1)).toMatchObject({ status: '499', error: 'client_abort' });
    },
  );
});
