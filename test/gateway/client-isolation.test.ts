/**
 * Whatever backends answer to one client, the next request of another client is served: only throttling and network
 * failures take backends out of use.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { calls, resetMocks, Wire } from '../support/traffic.ts';

const OTHER_KEY = 'key-of-the-other-app-0123456789';
const BACKENDS = 3;
const RUNS = 60;

let gateway: Gateway;

/**
 * Bodies with and without a meaning for the gateway. After a missing permission the gateway remembers the backends that
 * have it.
 */
const bodies = fc.oneof(
  fc.constantFrom(
    '',
    '<html>Forbidden</html>',
    '{"error":',
    'null',
    '[]',
    ...[
      answers.badKey(),
      answers.badToken(),
      answers.deploymentNotFound(),
      answers.modelNotFound(),
      answers.contentFiltered(),
      answers.serverError('model'),
      answers.serverError('service'),
      answers.timeout408(),
    ].map(({ body }) => JSON.stringify(body)),
    ...[
      'Access denied due to Virtual Network/Firewall rules.',
      'Public access is disabled. Please configure private endpoint.',
      'Streaming requests are not yet allowed',
      'This operation requires ephemeral authentication.',
      'Out of call volume quota.',
      'Please retry after 26 seconds.',
    ].map((message) => JSON.stringify({ error: { code: '403', message } })),
  ),
  fc.json().map((text) => text.slice(0, 200)),
);
const headers = fc.constantFrom<Record<string, string>>(
  {},
  {},
  { 'Retry-After': '60' },
  { 'retry-after-ms': '86400000' },
  { 'x-ratelimit-reset-tokens': '50' },
  { 'WWW-Authenticate': 'Bearer realm="azure"' },
  { 'policy-id': 'ThrowExceptionDueToTrafficDenied' },
);
const statuses = fc.constantFrom(
  ...[200, 201, 204, 302, 400, 401, 401, 401, 403, 403, 403, 404, 404, 408, 409, 413, 418, 422, 424, 429],
  ...[500, 500, 501, 502, 503, 504, 529],
);
const errors = fc.constantFrom<object | null>(
  null,
  { type: 'server_error', code: 'internal_error', message: 'm' },
  { type: 'forbidden', message: 'm' },
  { type: 'user_error', message: 'Could not find an existing deployment to match the model.' },
  { code: 'content_filter', message: 'm' },
);
const behaviours: fc.Arbitrary<Behaviour> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      status: statuses,
      headers,
      body: bodies,
      framing: fc.constantFrom('content-length' as const, 'chunked' as const, 'close' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Behaviour>({ reset: 'before-headers' }, { reset: 'after-headers' }),
  },
  {
    weight: 1,
    arbitrary: errors.map((error) => ({
      events: [{ event: 'error', data: { type: 'error', error } }],
    })),
  },
  { weight: 1, arbitrary: fc.record({ status: statuses, body: bodies, cutAfter: fc.nat({ max: 20 }) }) },
);
/** What each backend answers to one request, and whether the request asks for a stream. */
const requests = fc.record({
  answers: fc.array(behaviours, { minLength: BACKENDS, maxLength: BACKENDS }),
  stream: fc.boolean(),
});

/** Whether an answer may mean that the deployment is throttled. */
const throttles = ({ status, body, headers: sent }: Behaviour): boolean =>
  status === 429 || /quota|rate limit/i.test(JSON.stringify([body, sent]));

describe.skipIf(cannotRunGatewayTests('what one client does to another'))('after any answers', () => {
  beforeAll(async () => {
    gateway = await startGateway({
      backends: Array.from({ length: BACKENDS }, () => ({})),
      settings: {
        GATEWAY_CLIENT_NAME_1: 'other',
        GATEWAY_CLIENT_KEY_1: OTHER_KEY,
        // Each worker has its own rotation.
        GATEWAY_WORKERS: '1',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  let run = 0;
  const ask = async (model: string, stream: boolean) => {
    // A raw client, because fetch throws for truncated answers.
    const wire = new Wire(gateway, '/openai/v1/chat/completions', {
      headers: { Connection: 'close' },
      body: JSON.stringify({ model, stream, messages: [{ role: 'user', content: `${run}` }] }),
    });
    await wire.waitForClose(20_000);
  };
  const served = async (model: string) => (await gateway.chat(model, {}, { 'api-key': OTHER_KEY })).status;

  test('another client is served by every backend', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(requests, { minLength: 1, maxLength: 4 }), async (sequence) => {
        run++;
        const model = `model-${run}`;
        for (const { answers: scripted, stream } of sequence) {
          for (const [index, behaviour] of scripted.entries()) {
            gateway.mocks[index]?.always({ ...behaviour, path: /chat\/completions/ });
          }
          await ask(model, stream);
        }
        resetMocks(gateway);
        const turns = [];
        // Failed attempts shift the rotation. A backend out of use would get none of this many requests.
        for (let turn = 0; turn < 4 * BACKENDS; turn++) turns.push(await served(`fresh-${run}`));
        expect(turns).toEqual(Array(4 * BACKENDS).fill(200));
        expect(calls(gateway).every((count) => count > 0)).toBe(true);
        if (!sequence.some((each) => each.answers.some(throttles))) expect(await served(model)).toBe(200);
        resetMocks(gateway);
      }),
      { numRuns: RUNS },
    );
  });
});
