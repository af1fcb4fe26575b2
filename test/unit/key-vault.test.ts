/** Seeding a Key Vault, against a vault in this process with the real wire format. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { azureCredential, isEmulator } from '../../compiler/deploy/azure-credential.ts';
import {
  SeedError,
  type SeedProgress,
  type SeedRequest,
  seedKeyVault,
  vaultSecretName,
} from '../../compiler/deploy/key-vault.ts';
import { Secret } from '../../compiler/settings/secret.ts';
import { FakeKeyVault } from '../support/key-vault.ts';

const PLANTED = 'planted-value-that-must-not-leak';

let vault: FakeKeyVault;
let progress: SeedProgress[];

beforeEach(async () => {
  vault = await FakeKeyVault.start();
  progress = [];
});
afterEach(() => vault.stop());

async function seed(secrets: Readonly<Record<string, string>>, more: Partial<SeedRequest> = {}) {
  return seedKeyVault({
    vaultUri: vault.uri,
    secrets: new Map(Object.entries(secrets).map(([name, value]) => [name, new Secret(name, value)])),
    credential: await azureCredential({ environment: {}, vaultUri: vault.uri }),
    report: (each) => progress.push(each),
    signal: new AbortController().signal,
    patienceMs: 2000,
    pauseMs: 20,
    ...more,
  });
}

async function failureOf(seeding: Promise<unknown>): Promise<SeedError> {
  const error = await seeding.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(SeedError);
  return error as SeedError;
}

const kinds = () => progress.map(({ kind }) => kind);
const NONE = { unchanged: [], added: [], changed: [], recovered: [] };

describe('seeding', () => {
  test('writes missing secrets under the names that Terraform and the accelerator use', async () => {
    const result = await seed({ GATEWAY_CLIENT_KEY_0: 'one', AZURE_OPENAI_KEY_12: 'two' });
    expect(result).toEqual({ ...NONE, added: ['GATEWAY_CLIENT_KEY_0', 'AZURE_OPENAI_KEY_12'] });
    expect(vault.versions('gateway-client-key-0')).toEqual(['one']);
    expect(vault.versions('azure-openai-key-12')).toEqual(['two']);
    expect(vaultSecretName('APPLICATIONINSIGHTS_CONNECTION_STRING')).toBe(
      'applicationinsights-connection-string',
    );
    expect(progress).toEqual([
      { kind: 'done', setting: 'GATEWAY_CLIENT_KEY_0', count: 1, of: 2 },
      { kind: 'done', setting: 'AZURE_OPENAI_KEY_12', count: 2, of: 2 },
    ]);
  });

  test('writes nothing when it runs again', async () => {
    await seed({ GATEWAY_CLIENT_KEY_0: 'one' });
    const before = vault.writes.length;
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one' })).toEqual({
      ...NONE,
      unchanged: ['GATEWAY_CLIENT_KEY_0'],
    });
    expect(vault.writes.length).toBe(before);
  });

  test('writes a new version of a secret that differs, and keeps its tags', async () => {
    vault.put('gateway-client-key-0', 'old', { tags: { owner: 'team-a' } });
    vault.put('gateway-client-key-1', 'same');
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'new', GATEWAY_CLIENT_KEY_1: 'same' })).toEqual({
      ...NONE,
      changed: ['GATEWAY_CLIENT_KEY_0'],
      unchanged: ['GATEWAY_CLIENT_KEY_1'],
    });
    expect(vault.versions('gateway-client-key-0')).toEqual(['old', 'new']);
    expect(vault.tags('gateway-client-key-0')).toEqual({ owner: 'team-a' });
    expect(vault.writes).toEqual([{ method: 'PUT', path: '/secrets/gateway-client-key-0' }]);
  });

  test('never reads or writes a secret that the files do not name', async () => {
    vault.put('unrelated', 'theirs');
    await seed({ GATEWAY_CLIENT_KEY_0: 'one' });
    expect(vault.versions('unrelated')).toEqual(['theirs']);
    expect(vault.requests.filter(({ path }) => path.includes('unrelated'))).toEqual([]);
    expect(vault.requests.filter(({ path }) => path === '/secrets')).toEqual([]);
  });

  test('sends nothing when there are no secrets', async () => {
    expect(await seed({})).toEqual(NONE);
    expect(vault.heads).toEqual([]);
  });

  test('only compares in a dry run', async () => {
    vault.put('gateway-client-key-0', 'old');
    vault.put('gateway-client-key-1', 'same');
    vault.put('gateway-client-key-2', 'x');
    vault.remove('gateway-client-key-2');
    const result = await seed(
      {
        GATEWAY_CLIENT_KEY_0: 'new',
        GATEWAY_CLIENT_KEY_1: 'same',
        GATEWAY_CLIENT_KEY_2: 'y',
        GATEWAY_CLIENT_KEY_3: 'z',
      },
      { dryRun: true },
    );
    expect(result).toEqual({
      unchanged: ['GATEWAY_CLIENT_KEY_1'],
      added: ['GATEWAY_CLIENT_KEY_3'],
      changed: ['GATEWAY_CLIENT_KEY_0'],
      recovered: ['GATEWAY_CLIENT_KEY_2'],
    });
    expect(vault.writes).toEqual([]);
  });
});

describe('many secrets', () => {
  test('are seeded several at a time, and reported in the order of the files', async () => {
    const secrets = Object.fromEntries(
      Array.from({ length: 100 }, (_, index) => [`GATEWAY_CLIENT_KEY_${index}`, `value-${index}`]),
    );
    expect(await seed(secrets)).toEqual({ ...NONE, added: Object.keys(secrets) });
    expect(vault.names()).toHaveLength(100);
    expect(vault.versions('gateway-client-key-99')).toEqual(['value-99']);
    expect(progress.filter(({ kind }) => kind === 'done')).toHaveLength(100);
  });
});

describe('a deleted secret', () => {
  test('is recovered, and not written if its value is right', async () => {
    vault.put('gateway-client-key-0', 'one');
    vault.remove('gateway-client-key-0');
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one' })).toEqual({
      ...NONE,
      recovered: ['GATEWAY_CLIENT_KEY_0'],
    });
    expect(vault.versions('gateway-client-key-0')).toEqual(['one']);
    expect(kinds()).toEqual(['recovering', 'done']);
  });

  test('is recovered and changed if its value differs, also if it cannot be read for a while', async () => {
    vault.put('gateway-client-key-0', 'old');
    vault.remove('gateway-client-key-0');
    vault.readsUntilRecovered = 2;
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'new' })).toEqual({
      ...NONE,
      changed: ['GATEWAY_CLIENT_KEY_0'],
      recovered: ['GATEWAY_CLIENT_KEY_0'],
    });
    expect(vault.versions('gateway-client-key-0')).toEqual(['old', 'new']);
  });

  test('is waited for while it is being deleted', async () => {
    let conflicts = 2;
    vault.disturb = ({ method }) =>
      method === 'PUT' && conflicts-- > 0
        ? { status: 409, code: 'Conflict', inner: 'ObjectIsBeingDeleted' }
        : undefined;
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one' })).toEqual({ ...NONE, added: ['GATEWAY_CLIENT_KEY_0'] });
    expect(kinds()).toEqual(['waiting-for-secret', 'waiting-for-secret', 'done']);
  });
});

describe('a vault that denies access', () => {
  const RBAC = { status: 403, code: 'Forbidden', inner: 'ForbiddenByRbac' };

  test('is asked again until the role has an effect, for reads and for writes', async () => {
    let denials = 0;
    vault.disturb = ({ method }) => {
      denials++;
      return denials <= 2 || (method === 'PUT' && denials <= 6) ? RBAC : undefined;
    };
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one' })).toEqual({ ...NONE, added: ['GATEWAY_CLIENT_KEY_0'] });
    expect(kinds()).toEqual([
      'waiting-for-role',
      'waiting-for-role',
      'waiting-for-role',
      'waiting-for-role',
      'done',
    ]);
    expect(progress[0]).toMatchObject({ patienceMs: 2000 });
    expect(vault.versions('gateway-client-key-0')).toEqual(['one']);
  });

  test('is an error after the patience, with what was done and what was not', async () => {
    vault.disturb = ({ path }) => (path.endsWith('-key-1') ? RBAC : undefined);
    const error = await failureOf(
      seed(
        { GATEWAY_CLIENT_KEY_0: 'one', GATEWAY_CLIENT_KEY_1: 'two', GATEWAY_CLIENT_KEY_2: 'three' },
        { patienceMs: 100 },
      ),
    );
    expect(error).toMatchObject({
      failure: 'denied',
      done: { ...NONE, added: ['GATEWAY_CLIENT_KEY_0', 'GATEWAY_CLIENT_KEY_2'] },
      pending: ['GATEWAY_CLIENT_KEY_1'],
    });
    expect(error.advice).toContain('Key Vault Secrets Officer');
    vault.disturb = () => undefined;
    expect(
      await seed({ GATEWAY_CLIENT_KEY_0: 'one', GATEWAY_CLIENT_KEY_1: 'two', GATEWAY_CLIENT_KEY_2: 'three' }),
    ).toEqual({
      ...NONE,
      unchanged: ['GATEWAY_CLIENT_KEY_0', 'GATEWAY_CLIENT_KEY_2'],
      added: ['GATEWAY_CLIENT_KEY_1'],
    });
  });

  test('is an error at once in a dry run', async () => {
    vault.disturb = () => RBAC;
    expect(await failureOf(seed({ GATEWAY_CLIENT_KEY_0: 'one' }, { dryRun: true }))).toMatchObject({
      failure: 'denied',
      pending: ['GATEWAY_CLIENT_KEY_0'],
    });
    expect(progress).toEqual([]);
  });

  test.each(['ForbiddenByFirewall', 'ForbiddenByConnection'])(
    'by rules of the network is an error at once: %s',
    async (inner) => {
      vault.disturb = () => ({ status: 403, code: 'Forbidden', inner });
      const error = await failureOf(seed({ GATEWAY_CLIENT_KEY_0: 'one' }));
      expect(error).toMatchObject({ failure: 'firewall', message: expect.stringContaining(inner) });
      expect(progress).toEqual([]);
    },
  );

  test('because the secret is disabled is an error at once that names it', async () => {
    vault.put('gateway-client-key-0', 'one', { enabled: false });
    expect(await failureOf(seed({ GATEWAY_CLIENT_KEY_0: 'two' }))).toMatchObject({
      failure: 'disabled',
      message: expect.stringContaining('GATEWAY_CLIENT_KEY_0'),
    });
    expect(vault.writes).toEqual([]);
  });
});

describe('a vault in trouble', () => {
  test('that throttles is asked again after its Retry-After', async () => {
    let throttled = 2;
    vault.disturb = () =>
      throttled-- > 0 ? { status: 429, code: 'Throttled', headers: { 'retry-after': '1' } } : undefined;
    const started = Date.now();
    expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one' })).toEqual({ ...NONE, added: ['GATEWAY_CLIENT_KEY_0'] });
    expect(Date.now() - started).toBeGreaterThan(1900);
  });

  test('that answers with an error is named with its status and code', async () => {
    vault.disturb = () => ({ status: 400, code: 'BadParameter' });
    expect(await failureOf(seed({ GATEWAY_CLIENT_KEY_0: 'one' }))).toMatchObject({
      failure: 'refused',
      message: expect.stringMatching(
        /GATEWAY_CLIENT_KEY_0: 127\.0\.0\.1:\d+ answered with status 400 \(BadParameter\)/,
      ),
    });
  });

  test('that cannot be reached is waited for, then named', async () => {
    const { uri } = vault;
    await vault.stop();
    // The SDK repeats a request for some seconds before it gives up.
    const error = await failureOf(
      seed({ GATEWAY_CLIENT_KEY_0: 'one' }, { vaultUri: uri, pauseMs: 1, patienceMs: 10_000 }),
    );
    expect(error).toMatchObject({
      failure: 'unreachable',
      message: `${new URL(uri).host} cannot be reached (ECONNREFUSED)`,
    });
    expect(kinds()).toContain('waiting-for-vault');
  }, 60_000);

  test('does not keep a stop waiting', async () => {
    vault.disturb = ({ path }) => (path.endsWith('-key-1') ? 'hang' : undefined);
    const stop = new AbortController();
    const seeding = failureOf(
      seed({ GATEWAY_CLIENT_KEY_0: 'one', GATEWAY_CLIENT_KEY_1: 'two' }, { signal: stop.signal }),
    );
    setTimeout(() => stop.abort(), 300);
    expect(await seeding).toMatchObject({
      failure: 'aborted',
      done: { ...NONE, added: ['GATEWAY_CLIENT_KEY_0'] },
      pending: ['GATEWAY_CLIENT_KEY_1'],
    });
  });

  test('does not keep a stop waiting during a pause', async () => {
    vault.disturb = () => ({ status: 403, code: 'Forbidden', inner: 'ForbiddenByRbac' });
    const stop = new AbortController();
    const seeding = failureOf(
      seed({ GATEWAY_CLIENT_KEY_0: 'one' }, { signal: stop.signal, pauseMs: 60_000, patienceMs: 600_000 }),
    );
    setTimeout(() => stop.abort(), 300);
    expect(await seeding).toMatchObject({ failure: 'aborted' });
  });
});

describe('values that cannot be secrets', () => {
  test.each([
    ['a placeholder', 'replace-with-your-key'],
    ["the accelerator's placeholder", 'pending-foundry'],
    ['an empty value', ' '],
    ['a value that Key Vault does not store', 'x'.repeat(26_000)],
  ])('stop seeding before anything is written: %s', async (_, value) => {
    const error = await failureOf(seed({ GATEWAY_CLIENT_KEY_0: 'good', AZURE_OPENAI_KEY_0: value }));
    expect(error).toMatchObject({
      failure: 'unusable',
      message: expect.stringMatching(/^AZURE_OPENAI_KEY_0: /),
      done: NONE,
      pending: ['GATEWAY_CLIENT_KEY_0', 'AZURE_OPENAI_KEY_0'],
    });
    expect(vault.heads).toEqual([]);
  });

  test('and names that the vault cannot have, or has once for two settings', async () => {
    expect(await failureOf(seed({ 'A.B': 'x' }))).toMatchObject({ failure: 'unusable' });
    expect(await failureOf(seed({ A_B: 'x', 'A-B': 'y' }))).toMatchObject({
      failure: 'unusable',
      message: expect.stringContaining('A-B'),
    });
  });
});

describe('a secret', () => {
  test('is in no path, header, progress or error', async () => {
    const answers = [
      { status: 403, code: 'Forbidden', inner: 'ForbiddenByRbac' },
      { status: 400, code: 'BadParameter' },
      { status: 409, code: 'Conflict', inner: 'ObjectIsBeingDeleted' },
      undefined,
    ];
    for (const answer of answers) {
      vault.disturb = ({ method }) => (method === 'PUT' ? answer : undefined);
      const outcome = await seed({ GATEWAY_CLIENT_KEY_0: PLANTED }, { patienceMs: 100 }).catch(
        (error: unknown) => {
          const { message, advice, stack } = error as SeedError;
          return {
            message,
            advice,
            stack,
            all: JSON.stringify(error),
            cause: String((error as Error).cause),
          };
        },
      );
      expect(JSON.stringify(outcome)).not.toContain(PLANTED);
    }
    expect(vault.versions('gateway-client-key-0')).toEqual([PLANTED]);
    expect(vault.heads.join('\n')).not.toContain(PLANTED);
    expect(JSON.stringify(progress)).not.toContain(PLANTED);
  });
});

describe('a login', () => {
  const inCredential = (name: string, message: string) => ({
    getToken: () => Promise.reject(Object.assign(new Error(message), { name })),
  });

  test.each([
    ['CredentialUnavailableError', 'az is not installed'],
    ['AggregateAuthenticationError', 'AADSTS700082: The refresh token has expired'],
  ])('that is missing or has expired is named, without its text: %s', async (name, text) => {
    const error = await failureOf(
      seed({ GATEWAY_CLIENT_KEY_0: 'one' }, { credential: inCredential(name, `${text} ${PLANTED}`) }),
    );
    expect(error).toMatchObject({ failure: 'no-login', advice: expect.stringContaining('az login') });
    expect(error.message).not.toContain(PLANTED);
    if (text.startsWith('AADSTS')) expect(error.message).toContain('(AADSTS700082)');
  });

  test('that the vault does not accept is named', async () => {
    vault.disturb = () => ({ status: 401, code: 'Unauthorized', inner: 'AKV10032' });
    expect(await failureOf(seed({ GATEWAY_CLIENT_KEY_0: 'one' }))).toMatchObject({ failure: 'no-login' });
  });

  test('of the Azure CLI gives the token, for the tenant of the deployment', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-az-'));
    const { PATH } = process.env;
    try {
      const answer = { accessToken: 'token-of-az', expires_on: Math.floor(Date.now() / 1000) + 3600 };
      writeFileSync(
        join(folder, 'az'),
        `#!/bin/sh\necho "$@" >> ${folder}/arguments\necho '${JSON.stringify(answer)}'\n`,
        { mode: 0o755 },
      );
      process.env.PATH = `${folder}:${PATH}`;
      const credential = await azureCredential({
        tenantId: '11111111-1111-1111-1111-111111111111',
        environment: {},
        vaultUri: 'https://kv-genai.vault.azure.net/',
      });
      expect(await credential.getToken('https://vault.azure.net/.default')).toMatchObject({
        token: 'token-of-az',
      });
      expect(readFileSync(join(folder, 'arguments'), 'utf8')).toMatch(
        /^account get-access-token .*--resource https:\/\/vault\.azure\.net .*11111111-1111-1111-1111-111111111111/,
      );
    } finally {
      process.env.PATH = PATH;
      rmSync(folder, { recursive: true });
    }
  });
});

describe('an emulator', () => {
  test.each([
    ['http://127.0.0.1:1234/', true],
    ['https://localhost:8443', true],
    ['https://team.localhost:8443', true],
    ['https://[::1]:8443', true],
    ['https://kv-genai.vault.azure.net/', false],
    ['https://localhost.vault.azure.net/', false],
    ['https://127.0.0.1.example.com/', false],
    ['nothing', false],
  ])('is a vault with a loopback address: %s', (uri, is) => {
    expect(isEmulator(uri)).toBe(is);
  });

  test('never gets a real token', async () => {
    const credential = await azureCredential({
      environment: { AZURE_TENANT_ID: 't', AZURE_CLIENT_ID: 'c', AZURE_CLIENT_SECRET: 's' },
      vaultUri: vault.uri,
    });
    expect(await credential.getToken('https://vault.azure.net/.default')).toMatchObject({
      token: 'emulator',
    });
  });
});
