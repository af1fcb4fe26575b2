/** OpenAI's client for Go, also over TLS, set up as in docs/clients.md, gets every answer although a backend fails. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installed } from '../support/client-packages.ts';
import {
  allSaid,
  COMPILE_TIMEOUT_MS,
  FAILURES,
  INSTALL_TIMEOUT_MS,
  output,
  PROGRAM_TIMEOUT_MS,
  programWith,
  startWithFirst,
  steps,
  throughFailover,
} from '../support/clients.ts';
import type { Gateway } from '../support/gateway.ts';
import { cannotRun } from '../support/requirements.ts';
import { startTlsProxy, TLS_PORT, type TlsProxy } from '../support/tls-proxy.ts';

const skipped = cannotRun("OpenAI's client for Go", 'apisix', 'go_clients', 'openssl');

describe.skipIf(skipped)('the client for Go', () => {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-go-'));
  let gateway: Gateway;
  let proxy: TlsProxy;

  beforeAll(async () => {
    const module = installed('go_clients');
    gateway = await startWithFirst({ sidecarPorts: [TLS_PORT] });
    proxy = await startTlsProxy(gateway.apisix);
    for (const file of ['go.mod', 'go.sum']) cpSync(join(module, file), join(folder, file));
    writeFileSync(join(folder, 'main.go'), programWith('main.go', gateway.url, proxy.url));
    await output(['go', 'build', '-o', 'program', '.'], {}, folder, COMPILE_TIMEOUT_MS);
  }, INSTALL_TIMEOUT_MS + COMPILE_TIMEOUT_MS);
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await proxy?.stop();
    await gateway?.stop();
  });

  test.each(FAILURES)(
    'is answered by the second backend, over TLS too, streamed and not, while the first answers %i',
    async (...failure) => {
      const said = await throughFailover(gateway, failure, () =>
        output([join(folder, 'program')], { SSL_CERT_FILE: proxy.certificate }),
      );
      expect(steps(said)).toEqual(allSaid(['openai'], ['azure']));
    },
    PROGRAM_TIMEOUT_MS,
  );
});
