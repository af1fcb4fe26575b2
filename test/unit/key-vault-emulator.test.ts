/** Seeding against an emulator of Key Vault, floci-az, which others wrote: AZURE_EMULATOR has its URL. */
import { randomUUID } from 'node:crypto';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SecretClient } from '@azure/keyvault-secrets';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { azureCredential } from '../../compiler/deploy/azure-credential.ts';
import {
  SeedError,
  type SeedProgress,
  type SeedRequest,
  seedKeyVault,
} from '../../compiler/deploy/key-vault.ts';
import { Secret } from '../../compiler/settings/secret.ts';
import { vaultOfEmulator } from '../support/azure-emulator.ts';
import { cannotRun } from '../support/requirements.ts';

const NONE = { unchanged: [], added: [], changed: [], recovered: [] };

describe.skipIf(cannotRun('seeding an emulator of Key Vault', 'azure_emulator'))(
  'the emulator of a Key Vault',
  () => {
    let uri = '';
    let client: SecretClient;
    let progress: SeedProgress[] = [];

    beforeEach(async () => {
      uri = vaultOfEmulator(`test${randomUUID().slice(0, 8)}`);
      progress = [];
      client = new SecretClient(uri, await azureCredential({ environment: {}, vaultUri: uri }), {
        allowInsecureConnection: true,
        disableChallengeResourceVerification: true,
      });
    });

    const seed = async (secrets: Readonly<Record<string, string>>, more: Partial<SeedRequest> = {}) =>
      seedKeyVault({
        vaultUri: uri,
        secrets: new Map(Object.entries(secrets).map(([name, value]) => [name, new Secret(name, value)])),
        credential: await azureCredential({ environment: {}, vaultUri: uri }),
        report: (each) => progress.push(each),
        signal: new AbortController().signal,
        pauseMs: 50,
        patienceMs: 5000,
        ...more,
      });
    const storedValue = async (name: string) => (await client.getSecret(name)).value;
    const versionsOf = async (name: string) => {
      let count = 0;
      for await (const _ of client.listPropertiesOfSecretVersions(name)) count++;
      return count;
    };

    test('is seeded, unchanged when it is seeded again, and keeps the earlier version of a rotated secret', async () => {
      await client.setSecret('unrelated', 'theirs');
      const values = { GATEWAY_CLIENT_KEY_0: 'one', AZURE_OPENAI_KEY_0: 'two' };
      expect(await seed(values)).toEqual({ ...NONE, added: Object.keys(values) });
      expect(await storedValue('gateway-client-key-0')).toBe('one');
      expect(await seed(values)).toEqual({ ...NONE, unchanged: Object.keys(values) });
      expect(await versionsOf('gateway-client-key-0')).toBe(1);
      expect(await seed({ ...values, GATEWAY_CLIENT_KEY_0: 'three' })).toEqual({
        ...NONE,
        changed: ['GATEWAY_CLIENT_KEY_0'],
        unchanged: ['AZURE_OPENAI_KEY_0'],
      });
      expect(await storedValue('gateway-client-key-0')).toBe('three');
      expect(await versionsOf('gateway-client-key-0')).toBe(2);
      expect(await storedValue('unrelated')).toBe('theirs');
      expect(await versionsOf('unrelated')).toBe(1);
    });

    test('recovers a deleted secret, with its value or a new one', async () => {
      await seed({ GATEWAY_CLIENT_KEY_0: 'one', GATEWAY_CLIENT_KEY_1: 'two' });
      for (const name of ['gateway-client-key-0', 'gateway-client-key-1']) {
        const poller = await client.beginDeleteSecret(name);
        await poller.pollUntilDone();
      }
      expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one', GATEWAY_CLIENT_KEY_1: 'new' })).toEqual({
        ...NONE,
        recovered: ['GATEWAY_CLIENT_KEY_0', 'GATEWAY_CLIENT_KEY_1'],
        changed: ['GATEWAY_CLIENT_KEY_1'],
      });
      expect(await storedValue('gateway-client-key-0')).toBe('one');
      expect(await storedValue('gateway-client-key-1')).toBe('new');
    });

    test('names a disabled secret', async () => {
      await seed({ GATEWAY_CLIENT_KEY_0: 'one' });
      const { properties } = await client.getSecret('gateway-client-key-0');
      await client.updateSecretProperties('gateway-client-key-0', properties.version ?? '', {
        enabled: false,
      });
      await expect(seed({ GATEWAY_CLIENT_KEY_0: 'two' })).rejects.toMatchObject({
        failure: 'disabled',
        message: expect.stringContaining('GATEWAY_CLIENT_KEY_0'),
      });
    });

    describe('behind a role that has no effect yet', () => {
      let gate: Server;
      /** Requests that are still denied. */
      let denials = 0;

      beforeEach(async () => {
        const behind = new URL(uri);
        gate = createServer((incoming, answer) => {
          if (incoming.headers.authorization !== undefined && denials-- > 0) {
            answer.writeHead(403, { 'content-type': 'application/json' });
            const error = { code: 'Forbidden', message: 'denied', innererror: { code: 'ForbiddenByRbac' } };
            answer.end(JSON.stringify({ error }));
            return;
          }
          const { method, url, headers } = incoming;
          const onward = httpRequest(
            { host: behind.hostname, port: behind.port, method, path: url, headers },
            (reply) => {
              answer.writeHead(reply.statusCode ?? 502, reply.headers);
              reply.pipe(answer);
            },
          );
          incoming.pipe(onward);
        });
        await new Promise<void>((resolve) => gate.listen(0, '127.0.0.1', resolve));
        const front = new URL(uri);
        front.hostname = '127.0.0.1';
        front.port = String((gate.address() as AddressInfo).port);
        uri = front.href;
      });
      afterEach(() => {
        gate.closeAllConnections();
        gate.close();
      });

      test('is waited for', async () => {
        denials = 3;
        expect(await seed({ GATEWAY_CLIENT_KEY_0: 'one' })).toEqual({
          ...NONE,
          added: ['GATEWAY_CLIENT_KEY_0'],
        });
        expect(progress.map(({ kind }) => kind)).toEqual([...Array(3).fill('waiting-for-role'), 'done']);
        expect(await storedValue('gateway-client-key-0')).toBe('one');
      });

      test('is an error if it never has one', async () => {
        denials = Number.POSITIVE_INFINITY;
        const seeding = seed({ GATEWAY_CLIENT_KEY_0: 'one' }, { patienceMs: 200 });
        await expect(seeding).rejects.toBeInstanceOf(SeedError);
        await expect(seeding).rejects.toMatchObject({ failure: 'denied', pending: ['GATEWAY_CLIENT_KEY_0'] });
      });
    });
  },
);
