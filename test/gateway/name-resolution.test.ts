/** Hosts of backends: the name server may be silent or fail, and addresses may change. */
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type DnsServer, startDnsServer } from '../support/dns-server.ts';
import { type Gateway, hostAddress, startGateway } from '../support/gateway.ts';
import { type SilentPort, startSilentPort } from '../support/silent-port.ts';
import { NO_COOLDOWN } from '../support/traffic.ts';

const KEY = 'key-of-the-backends-0123456789';
const CONNECT_MS = 4_000;
/** AI_PROXY_KEEPALIVE_MAX_AGE in these tests. */
const MAX_AGE_MS = 3_000;

let dns: DnsServer | undefined;
let gateway: Gateway;
let here: string;
let there: string;
/** Two backends on the same port of two addresses of this machine. */
let first: MockBackend;
let second: MockBackend;
let silent: SilentPort;

/** Another address of this machine that containers can reach. */
function otherAddress(known: string): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal, address }) => family === 'IPv4' && !internal && address !== known)?.address;
}

/** The endpoints of the backends that serve each model. */
const endpoints = (): Readonly<Record<string, readonly string[]>> => ({
  silent: [`http://silent.dns.test:${first.port}`, `http://${here}:${first.port}`],
  only: [`http://only.dns.test:${first.port}`],
  fails: [`http://fails.dns.test:${first.port}`],
  gone: [`http://gone.dns.test:${first.port}`],
  late: [`http://late.dns.test:${first.port}`],
  moves: [`http://moves.dns.test:${first.port}`],
  dead: [`http://dead.dns.test:${silent.port}`],
  six: ['http://six.dns.test:7086'],
});

async function startNameServer(address: string): Promise<DnsServer | undefined> {
  try {
    return await startDnsServer(address);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    process.stderr.write(`\nSKIPPED names of backends: port 53 of ${address} cannot be had: ${code}\n`);
    return undefined;
  }
}

interface Met {
  readonly status: number;
  readonly ms: number;
}

async function ask(model: string): Promise<Met> {
  const began = Date.now();
  const answer = await gateway.chat(model);
  await answer.arrayBuffer();
  return { status: answer.status, ms: Date.now() - began };
}

/** Sends requests in sequence for this time and collects their results. */
async function during(milliseconds: number, model: string): Promise<readonly Met[]> {
  const all: Met[] = [];
  for (const end = Date.now() + milliseconds; Date.now() < end; await sleep(50)) all.push(await ask(model));
  return all;
}

const statuses = (all: readonly Met[]): number[] => [...new Set(all.map(({ status }) => status))].sort();
const slowest = (all: readonly Met[]): number => Math.max(...all.map(({ ms }) => ms));
const show = (name: string, all: readonly Met[]) => {
  if (process.env.SHOW_FIGURES === undefined) return;
  const counts = new Map<number, number>();
  for (const { status } of all) counts.set(status, (counts.get(status) ?? 0) + 1);
  process.stderr.write(
    `${name}: ${[...counts].map(([status, count]) => `${count}x${status}`)}; slowest ${slowest(all)} ms\n`,
  );
};

describe.skipIf(cannotRunGatewayTests('names of backends'))('the name of a backend', () => {
  beforeAll(async () => {
    here = await hostAddress();
    there = otherAddress(here) ?? '';
    dns = await startNameServer(here);
    if (dns === undefined || there === '') return;
    first = await startMockAzureOpenAI({ host: here, keys: [KEY], name: 'first' });
    second = await startMockAzureOpenAI({ host: there, port: first.port, keys: [KEY], name: 'second' });
    silent = await startSilentPort(there);
    const other = await startMockAzureOpenAI({ host: here, port: silent.port, keys: [KEY], name: 'other' });
    const a = [here];
    dns.set('silent.dns.test', { fails: 'silent' });
    dns.set('only.dns.test', { fails: 'silent' });
    for (const name of ['fails', 'gone', 'late', 'moves']) dns.set(`${name}.dns.test`, { a, ttl: 1 });
    dns.set('dead.dns.test', { a: [there, here], ttl: 60 });
    dns.set('six.dns.test', { aaaa: ['::1'], ttl: 1 });
    const list = Object.entries(endpoints()).flatMap(([model, all]) => all.map((url) => [model, url]));
    gateway = await startGateway({
      backends: [],
      settings: {
        ...NO_COOLDOWN,
        ...Object.fromEntries(
          list.flatMap(([model, url], index) => [
            [`AZURE_OPENAI_ENDPOINT_${index}`, url ?? ''],
            [`AZURE_OPENAI_KEY_${index}`, KEY],
            [`AZURE_OPENAI_DEPLOYMENTS_${index}`, model ?? ''],
            [`AZURE_OPENAI_PRIORITY_${index}`, String(list.length - index)],
          ]),
        ),
        AI_PROXY_CONNECT_TIMEOUT: `${CONNECT_MS}ms`,
        ...(process.env.BEFORE ? {} : { AI_PROXY_KEEPALIVE_MAX_AGE: `${MAX_AGE_MS}ms` }),
        GATEWAY_WORKERS: '1',
      },
      nameServer: here,
    });
    return () => other.stop();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    silent?.stop();
    await Promise.all([first?.stop(), second?.stop(), dns?.stop()]);
  });

  const served = () => [first.requests.length, second.requests.length];

  test('with a silent name server and another backend: answers within the connect timeout, and later at once', async () => {
    if (dns === undefined) return;
    const all = [await ask('silent'), ...(await Promise.all([1, 2, 3].map(() => ask('silent'))))];
    show('silent, another backend', all);
    expect(statuses(all)).toEqual([200]);
    expect(all[0]?.ms).toBeLessThan(CONNECT_MS + 1_000);
    expect(slowest(all.slice(1))).toBeLessThan(1_500);
  }, 150_000);

  test('with a silent name server and no other backend: delays one request, and fails the others at once', async () => {
    if (dns === undefined) return;
    const all = [await ask('only')];
    await sleep(1_500);
    all.push(...(await Promise.all([1, 2, 3, 4].map(() => ask('only')))));
    show('silent, one backend', all);
    expect(statuses(all)).toEqual([502]);
    expect(all[0]?.ms).toBeLessThan(CONNECT_MS + 1_000);
    expect(slowest(all.slice(1))).toBeLessThan(1_500);
    dns.set('only.dns.test', { a: [here] });
    // The lookup that is running retries several times.
    await sleep(4_500);
    expect(statuses(await during(1_000, 'only'))).toEqual([200]);
  }, 150_000);

  for (const fails of ['servfail', 'nxdomain', 'silent'] as const) {
    test(`with a name server that answers ${fails} for a while: keeps using the last address`, async () => {
      if (dns === undefined) return;
      dns.set('fails.dns.test', { a: [here], ttl: 1 });
      await during(1_500, 'fails');
      dns.set('fails.dns.test', { fails });
      const all = await during(6_000, 'fails');
      show(`${fails} after an address, 6 s`, all);
      dns.set('fails.dns.test', { a: [here], ttl: 1 });
      expect(statuses(all)).toEqual([200]);
      expect(slowest(all)).toBeLessThan(1_000);
    }, 150_000);
  }

  test('with a failing name server: opens new connections to the last address', async () => {
    if (dns === undefined) return;
    await during(500, 'gone');
    dns.set('gone.dns.test', { fails: 'nxdomain' });
    await sleep(1_200);
    await first.stop();
    await first.restart();
    const opened = first.connections.opened;
    const all = await during(3_000, 'gone');
    show('nxdomain, and all connections closed', all);
    expect(first.connections.opened).toBeGreaterThan(opened);
    expect(statuses(all)).toEqual([200]);
    expect(await gateway.apisix.log()).toMatch(
      /the host gone\.dns\.test cannot be resolved: the name does not exist \(NXDOMAIN\)\. Its last known addresses are used: /,
    );
  }, 60_000);

  test('that does not exist yet: fails at once, and works a second after it exists', async () => {
    if (dns === undefined) return;
    dns.set('late.dns.test', { fails: 'nxdomain' });
    const before = await during(1_000, 'late');
    dns.set('late.dns.test', { a: [here] });
    await sleep(2_200);
    const after = await during(500, 'late');
    show('nxdomain before', before);
    show('nxdomain, two seconds after the name exists', after);
    expect(statuses(before)).toEqual([502]);
    expect(slowest(before)).toBeLessThan(500);
    expect(statuses(after)).toEqual([200]);
  }, 60_000);

  test('whose address changes: follows soon after its TTL', async () => {
    if (dns === undefined) return;
    await Promise.all([1, 2, 3, 4].map(() => ask('moves')));
    dns.set('moves.dns.test', { a: [there], ttl: 1 });
    const [, none] = served();
    const moved = await during(3_000, 'moves');
    const [before] = served();
    await during(1_500, 'moves');
    show('moved', moved);
    if (process.env.SHOW_FIGURES !== undefined)
      process.stderr.write(`moved, to the old address later: ${Number(served()[0]) - Number(before)}\n`);
    expect(served()[0]).toBe(before);
    expect(served()[1]).toBeGreaterThan(none ?? 0);
    expect(statuses(moved)).toEqual([200]);
  }, 60_000);

  test('with a dead address: costs a share of the connect timeout once', async () => {
    if (dns === undefined) return;
    const all = [await ask('dead'), ...(await Promise.all([1, 2, 3, 4, 5].map(() => ask('dead'))))];
    show('two addresses, one dead', all);
    expect(statuses(all)).toEqual([200]);
    expect(slowest(all.slice(1))).toBeLessThan(500);
    expect(slowest(all)).toBeLessThan(CONNECT_MS);
  }, 60_000);

  test('with IPv6 addresses only: works', async () => {
    if (dns === undefined) return;
    const all = await during(500, 'six');
    show('AAAA only', all);
    // Another server listens on ::1 of the container and does not know the path.
    expect(statuses(all)).toEqual([404]);
  });

  test('with AI_PROXY_KEEPALIVE_MAX_AGE: uses no connection longer than that', async () => {
    if (dns === undefined) return;
    await ask('moves');
    const opened = second.connections.opened;
    await during(MAX_AGE_MS + 1_000, 'moves');
    const since = second.connections.opened - opened;
    expect(since).toBeGreaterThanOrEqual(1);
    expect(since).toBeLessThanOrEqual(3);
  });
});
