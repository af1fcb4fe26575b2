/** The cost of many pools, compared with one: rendering and starting, a reload, and the CPU time of a request. */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CLIENT_KEY, type Gateway, startGateway } from '../../test/support/gateway.ts';
import { compileVariables } from '../../test/support/scenarios.ts';
import { newFolder } from './folders.ts';
import { median } from './load.ts';
import { reloads } from './reload.ts';
import { firstAnswer, stockImage } from './start.ts';

const MANY = 50;
const BACKENDS = 10;
const ROUNDS = 7;
const REQUESTS = 2_000;

function settingsOf(pools: number, address: string): Record<string, string> {
  const settings: Record<string, string> = { GATEWAY_WORKERS: '1' };
  for (let index = 0; index < BACKENDS; index++) {
    settings[`AZURE_OPENAI_ENDPOINT_${index}`] = `http://${address}`;
    settings[`AZURE_OPENAI_NAME_${index}`] = `backend-${index}`;
    settings[`AZURE_OPENAI_KEY_${index}`] = `key-of-the-backend-${index}-0123456789`;
  }
  for (let index = 0; index < pools; index++) settings[`GATEWAY_POOL_NAME_${index}`] = `pool-${index}`;
  return settings;
}

/**
 * @param address the address of the backends, as containers reach it
 * @param cpu CPU milliseconds for each of a number of requests, each to one of these paths of a gateway in turn
 * @param wanted `starts`, `requests`, `reloads`; empty for all
 */
export async function manyPools(
  address: string,
  print: (line: string) => void,
  cpu: (gateway: Gateway, requests: number, paths: readonly string[]) => Promise<number>,
  wanted: readonly string[],
): Promise<void> {
  const isWanted = (part: string) => wanted.length === 0 || wanted.includes(part);
  if (isWanted('starts')) await starts(address, print);
  if (isWanted('requests')) await requests(address, print, cpu);
  if (isWanted('reloads')) await reloads(address, print, ['1 pool', '50 pools']);
}

async function requests(
  address: string,
  print: (line: string) => void,
  cpu: (gateway: Gateway, requests: number, paths: readonly string[]) => Promise<number>,
): Promise<void> {
  const [one, many] = [
    await startGateway({ backends: [{}], settings: settingsOf(1, address) }),
    await startGateway({ backends: [{}], settings: settingsOf(MANY, address) }),
  ];
  try {
    const path = (index: number) => `/pool-${index}/openai/v1/chat/completions`;
    const plain = '/openai/v1/chat/completions';
    const sides = [
      { gateway: one, paths: [path(0)] },
      { gateway: many, paths: Array.from({ length: MANY }, (_, index) => path(index)) },
      { gateway: one, paths: [plain] },
      { gateway: many, paths: [plain] },
    ];
    const times: number[][] = sides.map(() => []);
    for (let round = -1; round < ROUNDS; round++) {
      for (const [index, { gateway, paths }] of sides.entries()) {
        const time = await cpu(gateway, round < 0 ? REQUESTS / 2 : REQUESTS, paths);
        if (round >= 0) times[index]?.push(time);
      }
    }
    const [few = 0, all = 0, plainFew = 0, plainAll = 0] = times.map(median);
    const ms = (value: number) => `${value.toFixed(3)} ms`;
    print(
      `CPU of a request with ${MANY} pools, all in use: ${(all / few).toFixed(2)} × that with one (${ms(all)}, ${ms(few)})`,
    );
    print(`  on the plain paths: ${(plainAll / plainFew).toFixed(2)} × (${ms(plainAll)}, ${ms(plainFew)})`);
    print(`  a pool's path, compared with the plain path: ${(few / plainFew).toFixed(2)} ×`);
  } finally {
    await one.stop();
    await many.stop();
  }
}

/** From rendered files to the first answer, and the time to render them. */
async function starts(address: string, print: (line: string) => void): Promise<void> {
  const folders: string[] = [];
  try {
    const sides = await Promise.all(
      [1, MANY].map(async (pools) => {
        const settings = {
          ...settingsOf(pools, address),
          GATEWAY_CLIENT_NAME_0: 'app',
          GATEWAY_CLIENT_KEY_0: CLIENT_KEY,
        };
        const { documents } = await compileVariables(settings);
        const folder = newFolder();
        folders.push(folder);
        for (const [name, text] of Object.entries(documents)) {
          writeFileSync(join(folder, name), text);
          chmodSync(join(folder, name), 0o644);
        }
        return { settings, options: stockImage(folder, Object.keys(documents)) };
      }),
    );
    const answers: number[][] = [[], []];
    const renders: number[][] = [[], []];
    // The first run of each warms the file system's cache, and does not count.
    for (let round = -1; round < ROUNDS; round++) {
      for (const [index, { settings, options }] of sides.entries()) {
        const time = await firstAnswer(options, settings);
        const began = performance.now();
        await compileVariables(settings);
        if (round < 0) continue;
        answers[index]?.push(time);
        renders[index]?.push(performance.now() - began);
      }
    }
    const compared = ([one = [], many = []]: number[][]) =>
      `${(median(many) / median(one)).toFixed(2)} × that of one (${median(many).toFixed(0)} ms, ${median(one).toFixed(0)} ms)`;
    print(`start to the first answer with ${MANY} pools of ${BACKENDS} backends: ${compared(answers)}`);
    print(`  rendering, in a running process: ${compared(renders)}`);
  } finally {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  }
}
