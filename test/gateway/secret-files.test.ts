/** Secrets in files: none of them is in a rendered file, and the running gateway follows every file. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { overwrite, publish, type SecretFolder, secretFolder } from '../support/secret-folder.ts';
import { backendOf, calls, inOrder, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('secrets in files');

/** The beginning of every text that must not be in a log or a rendered file. */
const MARK = 'planted';
const key = (what: string) => `${MARK}-key-of-${what}-0123456789`;
const OF_VARIABLE = key('backend-1');
const ELSEWHERE = '/etc/genai-gateway-elsewhere';
const NAMED = '/etc/genai-gateway-named';
const TIMEOUT_MS = 60_000;
/** The time in which a changed file takes effect, as documented. */
const PROMISE_MS = 10_000;

const FIRST = {
  AZURE_OPENAI_KEY_0: key('backend-0'),
  GATEWAY_CLIENT_KEY_0: key('app'),
  GATEWAY_CLIENT_KEY_SECONDARY_0: key('app-second'),
  GATEWAY_CLIENT_KEY_1: key('other'),
};

/** Handwritten client keys: one that refers to a declared file, and others that try to leave the declared files. */
const HAND_WRITTEN = [
  '$secret://file/by-hand/NAMED',
  `$secret://file/settings/../..${ELSEWHERE}`,
  `$secret://file/..${ELSEWHERE}`,
  `$secret://file/settings/${ELSEWHERE}`,
  '$secret://file/upward/ELSEWHERE',
  '$secret://file/relative/ELSEWHERE',
].map((key_, index) => ({ name: `by-hand-${index}`, key: key_ }));
/** Clients whose own file paths contain dot segments. */
const LED_OUT = [`/tmp/..${ELSEWHERE}`, `../../..${ELSEWHERE}`].map((path, index) => ({
  name: `led-out-${index}`,
  key: `$secret://file/settings/LED_OUT_${index}`,
  key_file: path,
}));
const ITEMS = [
  { id: 'file/by-hand', files: { NAMED } },
  { id: 'file/upward', files: { ELSEWHERE: `/tmp/..${ELSEWHERE}` } },
  { id: 'file/relative', files: { ELSEWHERE: `../../..${ELSEWHERE}` } },
];
const asItem = (item: object) => `  - ${JSON.stringify(item)}\n`;
const asClient = (client: object) => `# genai-gateway client: ${JSON.stringify(client)}\n`;

describe.skipIf(skipped)('secrets in files', () => {
  let folder: SecretFolder;
  let gateway: Gateway;
  /** The keys that backend 0 accepts. */
  const accepted: string[] = [FIRST.AZURE_OPENAI_KEY_0];
  let count = 0;

  beforeAll(async () => {
    // One file ends with a line break, as editors write it.
    folder = secretFolder({ ...FIRST, GATEWAY_CLIENT_KEY_1: `${FIRST.GATEWAY_CLIENT_KEY_1}\n` });
    gateway = await startGateway({
      backends: [{ keys: accepted }, { keys: [OF_VARIABLE] }],
      settings: {
        ...inOrder(2),
        AZURE_OPENAI_KEY_1: OF_VARIABLE,
        ...folder.settings,
        GATEWAY_CLIENT_NAME_1: 'other',
        APISIX_LOG_LEVEL: 'debug',
        AI_PROXY_COOLDOWN: '100ms',
      },
      mountedFiles: { [ELSEWHERE]: key('elsewhere'), [NAMED]: key('named') },
      logsClients: true,
      adapt: (documents) => ({
        ...documents,
        'apisix.yaml': documents['apisix.yaml']
          .replace('#END\n', `${[...HAND_WRITTEN, ...LED_OUT].map(asClient).join('')}#END\n`)
          .replace('secrets:\n', `secrets:\n${ITEMS.map(asItem).join('')}`),
      }),
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    folder?.remove();
    await gateway?.stop();
  });
  beforeEach(() => resetMocks(gateway));

  /** The status of an answer. These tests send more invalid keys than an address may, so a 429 for that counts as 401. */
  const statusOf = async (answer: Response): Promise<number> =>
    (await answer.text()).includes('too_many_failed_authentications') ? 401 : answer.status;
  const ask = async (with_: string): Promise<number> =>
    statusOf(await gateway.chat('gpt-4o', {}, { 'api-key': with_ }));
  /** The client that a key belongs to, or the status when it belongs to none. */
  const ownerOf = async (with_: string): Promise<unknown> => {
    const id = `request-${count++}`;
    const answer = await gateway.fetch('/openai/v1/models', {
      headers: { 'api-key': with_, 'x-test-request': id },
    });
    return (await statusOf(answer)) === 401 ? 401 : gateway.apisix.clientOf(id);
  };
  /**
   * Waits until a condition holds eight times in a row, so that every worker was called, and returns the time. Fails after
   * ten seconds.
   */
  const until = async (holds: () => Promise<boolean>): Promise<number> => {
    const from = performance.now();
    for (let inARow = 0; inARow < 8; ) {
      inARow = (await holds()) ? inARow + 1 : 0;
      if (inARow === 0) await sleep(50);
      expect(performance.now() - from).toBeLessThan(PROMISE_MS);
    }
    return performance.now() - from;
  };
  /** Sends requests of several clients during an event and for a second after it. */
  const underLoad = async (with_: string, event: () => Promise<unknown>): Promise<readonly number[]> => {
    const statuses: number[] = [];
    let isOver = false;
    const client = async () => {
      while (!isOver) {
        statuses.push(await ask(with_));
        await sleep(10);
      }
    };
    const clients = Array.from({ length: 6 }, client);
    try {
      await sleep(300);
      await event();
      await sleep(1_000);
    } finally {
      isOver = true;
      await Promise.all(clients);
    }
    expect(statuses.length).toBeGreaterThan(100);
    return statuses.filter((status) => status !== 200);
  };
  const logLines = async (text: string) =>
    (await gateway.apisix.log()).split('\n').filter((line) => line.includes(text));
  const keysOf = (index: number) =>
    backendOf(gateway, index).requests.map((request) => request.header('api-key'));

  test('are in no rendered file, and work from the start', async () => {
    expect(JSON.stringify(gateway.documents)).not.toContain(MARK);
    for (const each of [FIRST.GATEWAY_CLIENT_KEY_0, FIRST.GATEWAY_CLIENT_KEY_SECONDARY_0])
      expect(await ownerOf(each)).toBe('app');
    expect(await ownerOf(FIRST.GATEWAY_CLIENT_KEY_1)).toBe('other');
    expect(calls(gateway)).toEqual([3, 0]);
    expect(keysOf(0)).toEqual(Array(3).fill(FIRST.AZURE_OPENAI_KEY_0));
  });

  test('work next to a backend whose key is in a variable', async () => {
    backendOf(gateway, 0).script({ status: 503 });
    expect(await ask(FIRST.GATEWAY_CLIENT_KEY_0)).toBe(200);
    expect(keysOf(1)).toEqual([OF_VARIABLE]);
    await sleep(200);
    expect(await ask(FIRST.GATEWAY_CLIENT_KEY_0)).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
  });

  test(
    "a backend's key is replaced without a failed request while both keys are valid",
    async () => {
      const next = key('backend-0-second');
      accepted.push(next);
      let took = 0;
      const failed = await underLoad(FIRST.GATEWAY_CLIENT_KEY_0, async () => {
        await publish(gateway, folder, { AZURE_OPENAI_KEY_0: next });
        took = await until(async () => {
          await ask(FIRST.GATEWAY_CLIENT_KEY_0);
          return keysOf(0)
            .slice(-20)
            .every((each) => each === next);
        });
      });
      expect(failed).toEqual([]);
      expect(took).toBeLessThan(PROMISE_MS);
      expect(calls(gateway)[1]).toBe(0);
      accepted.shift();
    },
    TIMEOUT_MS,
  );

  test(
    "a backend's key that becomes invalid before the file changes leads to failover until the file is there",
    async () => {
      const next = key('backend-0-third');
      const failed = await underLoad(FIRST.GATEWAY_CLIENT_KEY_0, async () => {
        accepted.splice(0, 1, next);
        await sleep(1_000);
        expect(calls(gateway)[1]).toBeGreaterThan(10);
        await publish(gateway, folder, { AZURE_OPENAI_KEY_0: next });
        await until(async () => {
          const before = calls(gateway);
          await ask(FIRST.GATEWAY_CLIENT_KEY_0);
          return (calls(gateway)[0] ?? 0) > (before[0] ?? 0) && keysOf(0).at(-1) === next;
        });
      });
      expect(failed).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'a refused key is read from its file again at once',
    async () => {
      const next = key('backend-0-fourth');
      // The gateway has not read the file since, because it reads once a second.
      await publish(gateway, folder, { AZURE_OPENAI_KEY_0: next });
      accepted.splice(0, 1, next);
      expect(await ask(FIRST.GATEWAY_CLIENT_KEY_0)).toBe(200);
      expect(calls(gateway)[1]).toBe(0);
      expect(keysOf(0).at(-1)).toBe(next);
    },
    TIMEOUT_MS,
  );

  test(
    "a client's key written in place replaces the old key, while the second key keeps working",
    async () => {
      const next = key('app-new');
      const failed = await underLoad(FIRST.GATEWAY_CLIENT_KEY_SECONDARY_0, async () => {
        await overwrite(gateway, folder, 'GATEWAY_CLIENT_KEY_0', next);
        await until(async () => (await ask(next)) === 200 && (await ask(FIRST.GATEWAY_CLIENT_KEY_0)) === 401);
      });
      expect(failed).toEqual([]);
      expect(await ownerOf(next)).toBe('app');
    },
    TIMEOUT_MS,
  );

  test(
    "a client's second key can be replaced",
    async () => {
      const next = key('app-second-new');
      await publish(gateway, folder, { GATEWAY_CLIENT_KEY_SECONDARY_0: next });
      await until(
        async () => (await ask(next)) === 200 && (await ask(FIRST.GATEWAY_CLIENT_KEY_SECONDARY_0)) === 401,
      );
      expect(await ownerOf(next)).toBe('app');
    },
    TIMEOUT_MS,
  );

  test(
    'two clients can swap their keys without a rejected request',
    async () => {
      const [one, other] = [key('swapped-one'), key('swapped-other')];
      await publish(gateway, folder, { GATEWAY_CLIENT_KEY_0: one, GATEWAY_CLIENT_KEY_1: other });
      await until(async () => (await ownerOf(one)) === 'app' && (await ownerOf(other)) === 'other');
      const failed = await underLoad(one, async () => {
        await publish(gateway, folder, { GATEWAY_CLIENT_KEY_0: other, GATEWAY_CLIENT_KEY_1: one });
        await until(async () => (await ownerOf(other)) === 'app' && (await ownerOf(one)) === 'other');
      });
      expect(failed).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'a key of two clients identifies neither, and a key that one client has twice identifies it',
    async () => {
      const [shared, twice] = [key('shared'), key('twice')];
      await publish(gateway, folder, {
        GATEWAY_CLIENT_KEY_0: shared,
        GATEWAY_CLIENT_KEY_1: shared,
      });
      // They have no other keys.
      await until(async () => (await ask(key('swapped-one'))) === 401 && (await ask(shared)) === 401);
      await publish(gateway, folder, {
        GATEWAY_CLIENT_KEY_0: twice,
        GATEWAY_CLIENT_KEY_SECONDARY_0: twice,
      });
      await until(async () => (await ownerOf(twice)) === 'app' && (await ownerOf(shared)) === 'other');
      expect(await logLines('clients app and other have the same key')).not.toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'a file that is missing for a moment changes nothing, and one that stays missing removes its key',
    async () => {
      const mine = key('twice');
      const move = (from: string, to: string) =>
        gateway.apisix.asRoot('mv "$1/$2" "$1/$3"', folder.path, from, to);
      const failed = await underLoad(mine, async () => {
        for (const name of ['AZURE_OPENAI_KEY_0', 'GATEWAY_CLIENT_KEY_SECONDARY_0'])
          await move(name, `.${name}`);
        await move('GATEWAY_CLIENT_KEY_0', '.GATEWAY_CLIENT_KEY_0');
        await sleep(1_500);
        for (const name of ['AZURE_OPENAI_KEY_0', 'GATEWAY_CLIENT_KEY_SECONDARY_0'])
          await move(`.${name}`, name);
        await move('.GATEWAY_CLIENT_KEY_0', 'GATEWAY_CLIENT_KEY_0');
      });
      expect(failed).toEqual([]);
      expect(calls(gateway)[1]).toBe(0);

      await move('AZURE_OPENAI_KEY_0', '.AZURE_OPENAI_KEY_0');
      await move('GATEWAY_CLIENT_KEY_1', '.GATEWAY_CLIENT_KEY_1');
      await until(async () => (await ask(key('shared'))) === 401);
      await until(async () => {
        const before = calls(gateway)[1] ?? 0;
        return (await ask(mine)) === 200 && calls(gateway)[1] === before + 1;
      });
      await move('.AZURE_OPENAI_KEY_0', 'AZURE_OPENAI_KEY_0');
      await move('.GATEWAY_CLIENT_KEY_1', 'GATEWAY_CLIENT_KEY_1');
      await until(async () => {
        const before = calls(gateway)[0] ?? 0;
        return (await ask(key('shared'))) === 200 && calls(gateway)[0] === before + 1;
      });
    },
    TIMEOUT_MS,
  );

  test(
    'an invalid value removes the key and is logged once with the name of the setting',
    async () => {
      const before = (await logLines('GATEWAY_CLIENT_KEY_1 has no value until')).length;
      const broken = `${MARK} key\nof two lines`;
      await overwrite(gateway, folder, 'GATEWAY_CLIENT_KEY_1', broken);
      await until(async () => (await ask(key('shared'))) === 401);
      for (const each of [broken.split('\n')[0] ?? '', 'of two lines']) expect(await ask(each)).toBe(401);
      await sleep(2_500);
      // One line from each worker.
      expect(await logLines('GATEWAY_CLIENT_KEY_1 has no value until')).toHaveLength(before + 2);
      await overwrite(gateway, folder, 'GATEWAY_CLIENT_KEY_1', key('shared'));
      await until(async () => (await ask(key('shared'))) === 200);
    },
    TIMEOUT_MS,
  );

  test('references cannot reach files that are not declared', async () => {
    expect(await gateway.apisix.asRoot('cat "$1"', ELSEWHERE)).toBe(key('elsewhere'));
    expect(await ownerOf(key('named'))).toBe('by-hand-0');
    expect(await ask(key('elsewhere'))).toBe(401);
    for (let index = 1; index < HAND_WRITTEN.length; index++)
      expect(await logLines(`a key of client by-hand-${index} cannot be resolved`)).not.toEqual([]);
    for (const { name } of LED_OUT)
      expect(await logLines(`the client ${name} is not loaded: its key_file is not valid`)).not.toEqual([]);
  });

  test('appear in no log at any time', async () => {
    expect((await logLines('[debug]')).length).toBeGreaterThan(1_000);
    expect(await logLines('the file of AZURE_OPENAI_KEY_0 has changed')).not.toEqual([]);
    expect(await logLines(MARK)).toEqual([]);
  });
});
