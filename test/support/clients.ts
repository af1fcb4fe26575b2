/** Real clients through the gateway, with the settings in docs/clients.md, while the first backend fails. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { completionText, DEFAULT_COMPLETION_TOKENS } from '../../compiler/mock/text.ts';
import { CLIENT_KEY, type Gateway, type GatewayOptions, startGateway } from './gateway.ts';
import { ROOT, textOf } from './repository.ts';

export const PAGE = 'docs/clients.md';
/** The mock's answer to a request without a token limit. */
export const SAID = completionText(DEFAULT_COMPLETION_TOKENS);
/** The timeout of hooks that install packages and start a gateway. */
export const INSTALL_TIMEOUT_MS = 600_000;
/** The timeout of a compiler that has not compiled the packages yet. */
export const COMPILE_TIMEOUT_MS = 540_000;
/** The timeout of a program that sends a few requests. */
export const PROGRAM_TIMEOUT_MS = 120_000;

/** The failures of the first backend. */
export const FAILURES: [status: number, headers: Readonly<Record<string, string>>][] = [
  [429, { 'Retry-After': '1' }],
  [503, {}],
];

/** The block of docs/clients.md with this name after its language. */
export function snippet(name: string): string {
  const [, text] = new RegExp(`^\`\`\`\\w+ ${name}\\n(.*?)^\`\`\`$`, 'ms').exec(textOf(PAGE)) ?? [];
  if (text === undefined) throw new Error(`${PAGE} has no block "${name}"`);
  return text;
}

/** A block with the addresses of the gateway under test. */
export const settingsOf = (name: string, url: string, httpsUrl = ''): string =>
  snippet(name).replaceAll('http://gateway:9080', url).replaceAll('https://gateway.example.com', httpsUrl);

/** Blocks that are complete modules, with the variable that each one defines. */
export const NODE_SNIPPETS = {
  'openai-node': 'client',
  'openai-node-azure': 'client',
  'langchain-node': 'model',
  'langchain-node-azure': 'model',
} as const;

const SNIPPET = /^[ \t]*(?:#|\/\/) SNIPPET (\S+)$/gm;

const program = (file: string): string => readFileSync(join(ROOT, 'test/clients', file), 'utf8');

/** The names of the blocks that a program of test/clients uses. */
export const snippetsOf = (file: string): string[] =>
  [...program(file).matchAll(SNIPPET)].map(([, name = '']) => name);

/** A program of test/clients with the blocks that it names. */
export const programWith = (file: string, url: string, httpsUrl?: string): string =>
  program(file).replaceAll(SNIPPET, (_, name: string) => settingsOf(name, url, httpsUrl));

/** Starts a gateway that always calls its first backend first. */
export const startWithFirst = (options: GatewayOptions = {}): Promise<Gateway> =>
  startGateway({
    ...options,
    settings: {
      AZURE_OPENAI_PRIORITY_0: '10',
      AZURE_OPENAI_PRIORITY_1: '5',
      // A backend that failed is used again by the next request.
      AI_PROXY_COOLDOWN_MAX: '0',
      ...options.settings,
    },
  });

/** The output of a program. Rejects when the program fails or does not end in time. */
export function output(
  [command, ...args]: readonly [string, ...string[]],
  environment: Readonly<Record<string, string>> = {},
  folder = tmpdir(),
  timeout = PROGRAM_TIMEOUT_MS,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: folder,
      env: { ...process.env, GATEWAY_KEY: CLIENT_KEY, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout,
      killSignal: 'SIGKILL',
    });
    let text = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(text);
      else reject(new Error(`${command} ended with ${code}: ${errors.slice(-4000)}\n${text.slice(-2000)}`));
    });
  });
}

/** Runs a function with a new folder, and removes the folder afterwards. */
export async function inNewFolder<Result>(use: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-client-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs requests while the first backend fails, and checks that each request reached both backends once. */
export async function throughFailover<Result>(
  { mocks: [first, second] }: Gateway,
  [status, headers]: (typeof FAILURES)[number],
  ask: () => Promise<Result>,
): Promise<Result> {
  if (!first || !second) throw new Error('the gateway has no two backends');
  first.reset();
  second.reset();
  first.always({ status, headers });
  const result = await ask();
  const asked = second.requests.map(({ method, target }) => `${method} ${target}`);
  expect(asked.length).toBeGreaterThan(0);
  expect(second.requests.map((request) => request.status)).toEqual(asked.map(() => 200));
  expect(first.requests.map(({ method, target }) => `${method} ${target}`)).toEqual(asked);
  expect(first.requests.map((request) => request.status)).toEqual(asked.map(() => status));
  return result;
}

/** The steps that a program of test/clients prints. */
export const steps = (text: string): Record<string, string> =>
  Object.fromEntries(
    text
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as { readonly step: string; readonly text: string })
      .map((line) => [line.step, line.text]),
  );

const KINDS = ['chat', 'chat stream', 'response', 'response stream'];

/** The steps that these clients print when nothing fails. */
export const allSaid = (...clients: readonly (readonly [name: string, kinds?: number])[]) =>
  Object.fromEntries(
    clients.flatMap(([name, kinds = KINDS.length]) =>
      KINDS.slice(0, kinds).map((kind) => [`${name} ${kind}`, SAID]),
    ),
  );
