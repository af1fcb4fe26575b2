/**
 * 200 concurrent clients for a while, during which one backend throttles in bursts and another is killed and restarted:
 * the only failed requests are those whose answer a killed backend was sending, and they are visibly broken.
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { throttled } from '../../compiler/mock/answers.ts';
import type { MockBackend } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from './apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from './gateway.ts';

const CLIENTS = 200;
const BURST_MS = 2_000;
const LIFE_MS = 3_000;
const EVENTS = 20;

type Outcome = 'whole' | 'truncated' | `status ${number}` | `error ${string}`;

interface Result {
  readonly id: string;
  readonly outcome: Outcome;
}

/** Declares the test. */
export function underLoad(durationMs: number): void {
  const skipped = cannotRunGatewayTests('the gateway under load');
  describe.skipIf(skipped)(`under load for ${durationMs / 1_000} seconds`, () => inGateway(durationMs));
}

function inGateway(durationMs: number): void {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}, {}, {}],
      settings: { AI_PROXY_COOLDOWN: '500ms' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('only requests whose output had begun on a killed backend fail', {
    timeout: durationMs + 60_000,
  }, async () => {
    const [, throttling, mortal] = gateway.mocks;
    if (!throttling || !mortal) throw new Error('three mocks were asked for');
    for (const mock of gateway.mocks) mock.configure({ recordBodies: false });
    const until = performance.now() + durationMs;
    const results: Result[] = [];
    const agent = new http.Agent({ keepAlive: true });
    await Promise.all([
      throttleInBursts(throttling, until),
      killAndRestart(mortal, until),
      ...Array.from({ length: CLIENTS }, (_, client) => useGateway(agent, client, until, results)),
    ]);
    agent.destroy();

    const failed = results.filter(({ outcome }) => outcome !== 'whole');
    const begun = new Set(
      mortal.requests
        .filter(({ status }) => status === 200)
        .map((request) => request.header('x-load-id') ?? ''),
    );
    expect(countsOf(failed.map(({ outcome }) => outcome))).toEqual({ truncated: failed.length });
    expect(failed.filter(({ id }) => !begun.has(id))).toEqual([]);
    // Check that the load caused what it should.
    const least = durationMs / 3_000;
    expect(results.length).toBeGreaterThan(CLIENTS * least);
    expect(throttling.requests.filter(({ status }) => status === 429).length).toBeGreaterThan(least);
    expect(failed.length).toBeGreaterThan(0);
    expect(gateway.mocks.map(({ requests }) => requests.length > results.length / 20)).toEqual([
      true,
      true,
      true,
    ]);

    // nginx itself logs a reset, which is how some connections to a killed process end.
    const expected =
      /the answer of backend \S+ broke off|recv\(\) failed \(104: Connection reset by peer\), (?:client|upstream)/;
    const errors = (await gateway.apisix.log())
      .split('\n')
      .filter((line) => /\[(?:error|crit|alert|emerg)\]/.test(line) && !/setrlimit/.test(line));
    expect(errors.filter((line) => !expected.test(line))).toEqual([]);
    expect(errors.filter((line) => /broke off/.test(line)).length).toBe(failed.length);
  });

  /** One client: a stream, a plain answer, a short pause, and again. */
  async function useGateway(
    agent: http.Agent,
    client: number,
    until: number,
    results: Result[],
  ): Promise<void> {
    await sleep((client * 300) / CLIENTS);
    for (let turn = 0; performance.now() < until; turn++) {
      const id = `${client}-${turn}`;
      results.push({ id, outcome: await chat(agent, id, (client + turn) % 2 === 0) });
      await sleep(200 + ((client * 37 + turn * 11) % 200));
    }
  }

  function chat(agent: http.Agent, id: string, stream: boolean): Promise<Outcome> {
    return new Promise((resolve) => {
      const request = http.request(
        `${gateway.url}/openai/v1/chat/completions`,
        {
          agent,
          method: 'POST',
          headers: { 'api-key': CLIENT_KEY, 'content-type': 'application/json', 'x-load-id': id },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (piece: string) => {
            text += piece;
          });
          response.on('error', () => resolve('truncated'));
          response.on('end', () => {
            if (response.statusCode !== 200) resolve(`status ${response.statusCode ?? 0}`);
            else if (text.trimEnd().endsWith(stream ? 'data: [DONE]' : '}')) resolve('whole');
            else resolve('error a clean end of half an answer');
          });
        },
      );
      request.on('error', (error) => resolve(`error ${error.message}`));
      request.end(
        JSON.stringify({
          model: 'gpt-4o',
          stream,
          max_tokens: EVENTS,
          messages: [{ role: 'user', content: 'Hello' }],
        }),
      );
    });
  }
}

function countsOf(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

/** Answers take a while, so that some are in flight whenever a backend is killed. */
const SLOW_EVENTS = { gapMs: 10 };

async function throttleInBursts(mock: MockBackend, until: number): Promise<void> {
  while (performance.now() < until) {
    mock.always(throttled({ retryAfter: 1 }));
    await sleep(BURST_MS);
    mock.always(SLOW_EVENTS);
    await sleep(BURST_MS);
  }
}

async function killAndRestart(mock: MockBackend, until: number): Promise<void> {
  mock.always(SLOW_EVENTS);
  while (performance.now() < until) {
    await sleep(LIFE_MS);
    await mock.stop();
    await sleep(LIFE_MS / 2);
    await mock.restart();
  }
}
