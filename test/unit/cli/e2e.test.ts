/** `genai-gateway e2e`: what it refuses, and what it prints. test/unit/e2e-run.test.ts has the runs. */
import { describe, expect, test } from 'vitest';
import { runHere } from '../../support/cli.ts';

const KEY = 'key-of-client-one-0123456789';
const BACKEND_KEY = 'key-of-a-simulator-0123456789';
const CLIENT = { GATEWAY_CLIENT_NAME_0: 'one', GATEWAY_CLIENT_KEY_0: KEY };
/** Nothing listens there. */
const NOWHERE = 'http://127.0.0.1:9';
const BACKENDS = Object.fromEntries(
  ['ptu-backend-1', 'payg-backend-1', 'payg-backend-2'].flatMap((name, index) => [
    [`AZURE_OPENAI_NAME_${index}`, name],
    [`AZURE_OPENAI_ENDPOINT_${index}`, NOWHERE],
    [`AZURE_OPENAI_KEY_${index}`, BACKEND_KEY],
  ]),
);
const ONE = ['--scenario', 'round-robin-simple'];

describe('wrong usage', () => {
  test.each<readonly [string, readonly string[], RegExp]>([
    [
      'an unknown scenario',
      ['--scenario', 'round-robin'],
      /The scenarios are round-robin-simple, .*scalability-burst/s,
    ],
    ['two simulators', ['--simulator', 'http://a,http://b'], /three URLs: of ptu-backend-1, payg-backend-1/],
    ['a gateway that is no URL', ['--gateway', 'localhost'], /a URL such as http:\/\/127\.0\.0\.1:9080/],
    ['a shorter run of a running gateway', ['--time-scale', '10'], /--time-scale needs --mock/],
    ['a shorter run of the toolkit', ['--mock', '--time-scale', '10', '--toolkit', '.'], /its own length/],
    ['a minute that is no whole second', ['--mock', '--time-scale', '7'], /must divide 60/],
    ['a limit for embeddings', ['--max-tokens', '50'], /--max-tokens needs --request-type chat/],
    ['an unknown load', ['--load-pattern', 'high'], /Allowed choices are cycle, low-priority, high-priority/],
  ])('%s is refused', async (_, args, message) => {
    const { code, stderr } = await runHere(['e2e', ...args], { env: { ...CLIENT, ...BACKENDS } });
    expect(stderr.replaceAll(/\s+/g, ' ')).toMatch(message);
    expect(code).toBe(64);
  });
});

describe('what is missing is named', () => {
  test.each<readonly [string, Record<string, string>, readonly string[], RegExp]>([
    ['a client key', BACKENDS, [], /no client key: set GATEWAY_CLIENT_KEY_0, _1 and _2/],
    [
      'the backends',
      {
        ...CLIENT,
        AZURE_OPENAI_NAME_0: 'ptu-backend-1',
        AZURE_OPENAI_ENDPOINT_0: NOWHERE,
        AZURE_OPENAI_KEY_0: BACKEND_KEY,
      },
      [],
      /no backend payg-backend-1, payg-backend-2\..*--simulator URL,URL,URL/,
    ],
    [
      'the other client keys',
      { ...CLIENT, ...BACKENDS },
      [],
      /keys of 3 clients, and the settings have 1.*--skip usage-tracking/,
    ],
    [
      'a scenario',
      { ...CLIENT, ...BACKENDS },
      [...ONE, '--skip', 'round-robin-simple'],
      /No scenario is left/,
    ],
    [
      'a simulator',
      { ...CLIENT, ...BACKENDS },
      ONE,
      /simulator of \S+ does not answer at http:\/\/127\.0\.0\.1:9/,
    ],
    [
      'a simulator of --simulator',
      CLIENT,
      [...ONE, '--simulator', `${NOWHERE},${NOWHERE},${NOWHERE}`],
      /simulator of \S+ does not answer at http:\/\/127\.0\.0\.1:9/,
    ],
    ['the toolkit', { ...CLIENT, ...BACKENDS }, [...ONE, '--toolkit', 'docs'], /docs is not a checkout of/],
  ])('%s', async (_, env, args, message) => {
    const { code, stderr, stdout } = await runHere(['e2e', ...args], { env });
    expect(stderr).toMatch(message);
    expect(code).toBe(3);
    for (const secret of [KEY, BACKEND_KEY]) expect(stderr + stdout).not.toContain(secret);
  });
});
