import { InvalidArgumentError, Option } from 'commander';
import { POOL_SCENARIOS, SCALE_SCENARIOS, type ScenarioName } from '../e2e/names.ts';
import type { Command } from './command.ts';
import { ENV_FILES, IMAGE, notEmpty, wholeNumber } from './options.ts';

export interface E2eOptions {
  readonly envFile?: readonly string[];
  readonly gateway: string;
  readonly metrics?: string;
  readonly scenario?: readonly ScenarioName[];
  readonly skip?: readonly ScenarioName[];
  readonly stopOnFailure?: boolean;
  readonly toolkit?: string;
  readonly locust: string;
  readonly simulator?: readonly string[];
  readonly mock?: boolean;
  readonly timeScale?: number;
  readonly loadPattern: 'cycle' | 'low-priority' | 'high-priority';
  readonly requestType: 'embeddings' | 'chat';
  readonly maxTokens?: number;
  readonly rampRate: number;
  readonly containerApp?: string;
  readonly image: string;
  readonly format: 'text' | 'json';
}

const NAMES: readonly string[] = [...POOL_SCENARIOS, ...SCALE_SCENARIOS];

function scenarioName(value: string, all: readonly string[] = []): readonly string[] {
  if (NAMES.includes(value)) return [...all, value];
  throw new InvalidArgumentError(`The scenarios are ${NAMES.join(', ')}.`);
}

function address(value: string): string {
  if (URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)) return value.replace(/\/+$/, '');
  throw new InvalidArgumentError('The value must be a URL such as http://127.0.0.1:9080.');
}

function threeAddresses(value: string): readonly string[] {
  const urls = value.split(',').map((each) => address(each.trim()));
  if (urls.length === 3) return urls;
  throw new InvalidArgumentError(
    'The value must be three URLs: of ptu-backend-1, payg-backend-1 and payg-backend-2.',
  );
}

/** The minutes of the budgets become whole seconds. */
function timeScale(value: string): number {
  const times = wholeNumber(1, 60)(value);
  if (60 % times === 0) return times;
  throw new InvalidArgumentError('The value must divide 60: 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60.');
}

export const command: Command<E2eOptions> = {
  description:
    'Run the scenarios of the APIM GenAI gateway toolkit against a gateway, and assert the intended result of each.',
  examples: [
    'genai-gateway e2e --mock --time-scale 20',
    'genai-gateway e2e -e .env --gateway https://my-gateway.example.com',
    'genai-gateway e2e -e .env --toolkit ../apim-genai-gateway-toolkit --locust ../venv/bin/locust --scenario latency-routing',
  ],
  notes: `The settings give the keys of the clients (GATEWAY_CLIENT_KEY_0 to _2), and the
addresses and keys of the simulators (AZURE_OPENAI_ENDPOINT_N and
AZURE_OPENAI_KEY_N of ptu-backend-1, payg-backend-1 and payg-backend-2).

Exit codes: 0 every assertion holds, 2 one does not, 3 the gateway, a simulator,
locust or Docker cannot be used, 64 wrong usage.`,
  options: [
    ENV_FILES,
    new Option('--gateway <url>', 'address of the gateway')
      .argParser(address)
      .default('http://127.0.0.1:9080'),
    new Option(
      '--metrics <url>',
      "page of the gateway's metrics, to compare the tokens of each client",
    ).argParser(address),
    new Option('--scenario <name>', 'run only this scenario; repeatable')
      .choices(NAMES)
      .argParser(scenarioName),
    new Option('--skip <name>', 'leave this scenario out; repeatable').choices(NAMES).argParser(scenarioName),
    new Option('--stop-on-failure', 'do not run further scenarios after one that fails'),
    new Option(
      '--toolkit <dir>',
      'run the load of a checkout of the toolkit, unchanged, instead of our own',
    ).argParser(notEmpty),
    new Option('--locust <program>', 'the program that runs the load of the toolkit')
      .argParser(notEmpty)
      .default('locust'),
    new Option(
      '--simulator <url,url,url>',
      'addresses of the simulators, in place of those in the settings',
    ).argParser(threeAddresses),
    new Option('--mock', 'start a gateway in Docker with three mocks behind it, and use these'),
    new Option(
      '--time-scale <number>',
      'with --mock: run that many times faster; 1 is the full length',
    ).argParser(timeScale),
    new Option('--load-pattern <pattern>', 'load of the prioritization scenarios')
      .choices(['cycle', 'low-priority', 'high-priority'])
      .default('cycle'),
    new Option('--request-type <type>', 'requests of the prioritization scenarios')
      .choices(['embeddings', 'chat'])
      .default('embeddings'),
    new Option('--max-tokens <tokens>', 'with --request-type chat: max_tokens of the requests').argParser(
      wholeNumber(1),
    ),
    new Option('--ramp-rate <users>', 'users of the prioritization scenarios that start in a second')
      .argParser(wholeNumber(1))
      .default(1),
    new Option(
      '--container-app <id>',
      'resource id of the container app whose replicas the scalability scenarios assert, by the program az',
    ).argParser(notEmpty),
    IMAGE,
    new Option('--format <format>', 'format of the result').choices(['text', 'json']).default('text'),
  ],
  run: async ({ options, terminal }) => {
    const { e2e } = await import('../e2e/e2e.ts');
    return e2e(options, terminal);
  },
};
