/** The command `mock` as a user runs it: it prints settings on stdout and runs until a signal ends it. */
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

/** Runs the mock until it has printed its last line. */
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
  test('runs the given number of backends and prints settings that pass check and work', async () => {
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

  test('prints addresses for a gateway in a container when it listens on all addresses', async () => {
    const { text, settings, end } = await runMock(['--port', '0', '--backends', '1', '--host', '0.0.0.0']);
    const { AZURE_OPENAI_ENDPOINT_0: endpoint = '' } = settings;
    expect(endpoint).toMatch(/^http:\/\/host\.docker\.internal:\d+$/);
    expect(text).toContain('--add-host host.docker.internal:host-gateway');
    const url = /curl (\S+\/requests)/.exec(text)?.[1] ?? '';
    expect(new URL(url).port).toBe(new URL(endpoint).port);
    expect((await fetch(url)).status).toBe(200);
    await end('SIGTERM');
  });

  test('says that a container cannot reach the addresses that it prints for loopback', async () => {
    const { text, end } = await runMock(['--port', '0', '--backends', '1']);
    expect(text).toContain('For it, run this command with --host 0.0.0.0.');
    expect(text).not.toContain('--add-host');
    await end('SIGTERM');
  });

  test('can be scripted with the commands it prints, and limited by --tpm', async () => {
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

  test('exits with 3 and names the port when the port is in use', async () => {
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
    expect(foreign.stderr).toContain('this machine does not have this address');
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
  ])('exits with 64 for the wrong usage %j', (args) => {
    const { code, stdout } = runCli(['mock', ...args]);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  });

  test('has examples in --help and its options in the completion', () => {
    const { code, stdout } = runCli(['mock', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples:\n {2}genai-gateway mock/);
    for (const shell of ['bash', 'zsh', 'fish']) {
      const script = runCli(['completion', shell]).stdout;
      expect(script).toMatch(/mock.*backends/);
    }
  });
});
