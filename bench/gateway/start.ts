/**
 * Time from `docker run` to the first answered request: the image that renders, compared with the stock image and
 * rendered files.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../../compiler/commands/local/docker.ts';
import { APISIX_IMAGE } from '../../test/support/apisix.ts';
import { CLIENT_KEY } from '../../test/support/gateway.ts';
import { buildImage } from '../../test/support/image.ts';
import { isAvailable } from '../../test/support/requirements.ts';
import { compileVariables } from '../../test/support/scenarios.ts';
import { median, percentile } from './load.ts';

const ROUNDS = 10;
const IMAGE = 'genai-gateway-bench';
const PATIENCE_MS = 30_000;

/** @param address the address of the backends, as containers reach it */
export async function coldStart(address: string, print: (line: string) => void): Promise<void> {
  const state = isAvailable('image');
  if (!state.available) throw new Error(`a cold start needs the images it is built on: ${state.reason}`);
  await buildImage(IMAGE);
  const settings = {
    AZURE_OPENAI_ENDPOINT_0: `http://${address}`,
    AZURE_OPENAI_KEY_0: 'key-of-backend-0-0123456789',
    GATEWAY_CLIENT_NAME_0: 'app',
    GATEWAY_CLIENT_KEY_0: CLIENT_KEY,
    GATEWAY_WORKERS: '2',
  };
  const { documents } = await compileVariables(settings);
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-bench-'));
  try {
    chmodSync(folder, 0o755);
    mkdirSync(join(folder, 'files'));
    for (const [name, text] of Object.entries(documents)) writeFileSync(join(folder, 'files', name), text);
    const stock = stockImage(join(folder, 'files'), Object.keys(documents));
    const times: Record<'ours' | 'stock', number[]> = { ours: [], stock: [] };
    // The first run of each warms the file system's cache, and does not count.
    for (let round = -1; round < ROUNDS; round++) {
      for (const [side, options] of [
        ['stock', stock],
        ['ours', [IMAGE]],
      ] as const) {
        const time = await firstAnswer(options, settings);
        if (round >= 0) times[side].push(time);
      }
    }
    const told = (side: number[]) =>
      `${median(side).toFixed(0)} ms (${percentile(side, 0).toFixed(0)} to ${percentile(side, 1).toFixed(0)})`;
    print(
      `from docker run to the first answer, median of ${ROUNDS}: ${(median(times.ours) / median(times.stock)).toFixed(2)} × the stock image (${told(times.ours)}, ${told(times.stock)})`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
    execFileSync('docker', ['rmi', '--force', IMAGE], { stdio: 'ignore' });
  }
}

/** The arguments of `docker run` for the stock image with rendered files. */
export function stockImage(folder: string, files: readonly string[]): string[] {
  const mount = (from: string, to: string) => `--volume=${from}:${to}:ro`;
  return [
    '--env=APISIX_STAND_ALONE=true',
    mount(resolve('lua-plugins'), '/opt/genai-gateway/lua-plugins'),
    ...files.map((name) => mount(join(folder, name), `/usr/local/apisix/conf/${name}`)),
    APISIX_IMAGE,
  ];
}

/** Milliseconds from `docker run` to the first 200 on the plain paths. */
export async function firstAnswer(
  options: readonly string[],
  settings: Readonly<Record<string, string>>,
): Promise<number> {
  const [port = 0] = await freePorts(1);
  const name = `genai-gateway-bench-${randomUUID()}`;
  const run = ['run', '--detach', `--name=${name}`, `--publish=127.0.0.1:${port}:9080`];
  const environment = Object.keys(settings).map((each) => `--env=${each}`);
  const started = performance.now();
  execFileSync('docker', [...run, ...environment, ...options], {
    env: { ...process.env, ...settings },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    while ((await status(port)) !== 200) {
      if (performance.now() - started > PATIENCE_MS) throw new Error(`${name} does not answer`);
      await sleep(2);
    }
    return performance.now() - started;
  } finally {
    execFileSync('docker', ['rm', '--force', name], { stdio: 'ignore' });
  }
}

const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] });

const status = (port: number): Promise<number | undefined> =>
  new Promise((resolve) => {
    const request = http.request(
      {
        port,
        host: '127.0.0.1',
        method: 'POST',
        path: '/openai/v1/chat/completions',
        headers: { 'api-key': CLIENT_KEY, 'content-type': 'application/json' },
        agent: false,
      },
      (answer) => {
        answer.resume();
        answer.on('close', () => resolve(answer.statusCode));
      },
    );
    request.on('error', () => resolve(undefined));
    request.end(BODY);
  });
