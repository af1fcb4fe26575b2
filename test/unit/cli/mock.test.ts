/** The mock as a user runs it: settings on stdout, until it is told to end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { parse as parseDotenv } from 'dotenv';
import { afterEach, describe, expect, test } from 'vitest';
import { PROGRAM, runCli } from '../../support/cli.ts';
import { workspace } from '../../support/workspace.ts';

const inFolder = workspace();

const running: ReturnType<typeof start>[] = [];
const start = (args: readonly string[]) =>
  spawn(PROGRAM, ['mock', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
afterEach(() => {
  for (const program of running.splice(0)) program.kill('SIGKILL');
});

/** Runs the mock until it has said everything, and ends it with a signal. */
async function runMock(args: readonly string[]) {
  const program = start(args);
  running.push(program);
  program.stdout.setEncoding('utf8');
  let text = '';
  while (!text.includes('/++/reset')) text += (await once(program.stdout, 'data'))[0];
  const end = async (signal: NodeJS.Signals) => {
    program.kill(signal);
    const [code] = await once(program, 'exit');
    return code;
  };
  return { text, settings: parseDotenv(text), end };
}

const CHAT = '/openai/v1/chat/completions';
const chat = (endpoint: string | undefined, key: string | undefined) =>
  fetch(`${endpoint}${CHAT}`, {
    method: 'POST',
    headers: { 'api-key': key ?? '' },
    body: JSON.stringify({ model: 'any', messages: [{ role: 'user', content: 'Hi' }] }),
  });

describe('mock', () => {
  test('runs resources of their own, and prints settings that are good and work', async () => {
    const { text, settings, end } = await runMock(['--port', '0', '--backends', '3']);
    expect(Object.keys(settings)).toHaveLength(11);
    const file = inFolder('mock.env', text);
    expect(runCli(['check', '--env-file', file])).toMatchObject({ code: 0 });
    for (const index of [0, 1, 2]) {
      const endpoint = settings[`AZURE_OPENAI_ENDPOINT_${index}`];
      const answer = await chat(endpoint, settings[`AZURE_OPENAI_KEY_${index}`]);
      expect([answer.status, answer.headers.get('x-ms-region')]).toEqual([200, `mock-${index}`]);
      expect((await chat(endpoint, settings[`AZURE_OPENAI_KEY_${(index + 1) % 3}`])).status).toBe(401);
    }
    expect(await end('SIGINT')).toBe(0);
  });

  test('is scripted by the commands that it prints, and limited on request', async () => {
    const { text, settings, end } = await runMock(['--port', '0', '--backends', '1', '--tpm', '20']);
    const { AZURE_OPENAI_ENDPOINT_0: endpoint, AZURE_OPENAI_KEY_0: key } = settings;
    const [, url = '', body = ''] = /curl (\S+) -d '([^']+)'/.exec(text) ?? [];
    expect((await fetch(url, { method: 'POST', body })).status).toBe(200);
    const statuses = [];
    for (let index = 0; index < 4; index++) {
      const answer = await chat(endpoint, key);
      statuses.push([answer.status, answer.headers.get('retry-after')]);
    }
    expect(statuses).toEqual([
      [429, '5'],
      [429, '5'],
      [200, null],
      [429, expect.stringMatching(/^\d+$/)],
    ]);
    const log = await (await fetch(`${endpoint}/++/requests`)).text();
    expect(JSON.parse(log).requests).toHaveLength(4);
    expect(log).not.toContain(key);
    expect(await end('SIGTERM')).toBe(0);
  });

  test('a port that cannot be had is exit 3, and says which', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    expect(runCli(['mock', '--port', String(port)])).toEqual({
      code: 3,
      stdout: '',
      stderr: `The mock cannot listen on port ${port} of 127.0.0.1: it is in use.\n`,
    });
    taken.close();
    const foreign = runCli(['mock', '--port', '0', '--host', '192.0.2.1']);
    expect(foreign.code).toBe(3);
    expect(foreign.stderr).toContain('this machine has no such address');
  });

  test.each([
    [['--backends', '0']],
    [['--backends', 'two']],
    [['--port', '70000']],
    [['--port', '65535']],
    [['--port', '']],
    [['--host', '']],
    [['--tpm', '-1']],
    [['extra']],
  ])('wrong usage is exit 64: %j', (args) => {
    const { code, stdout } = runCli(['mock', ...args]);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  });

  test('--help has examples, and completion knows its options', () => {
    const { code, stdout } = runCli(['mock', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples:\n {2}genai-gateway mock/);
    for (const shell of ['bash', 'zsh', 'fish']) {
      const script = runCli(['completion', shell]).stdout;
      expect(script).toMatch(/mock.*backends/);
    }
  });
});
