import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** Settings without errors: one backend, one client. */
export const GOOD = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend-zero',
  GATEWAY_REQUIRE_AUTH: 'true',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero',
};

/** The files that a render writes. */
export const FILES = ['config.yaml', 'apisix.yaml', 'otel-collector.yaml'];

/** A separate folder for every test of a file. The function returns a path in it, and writes a file there if given content. */
export function workspace(): (name: string, content?: string | Buffer) => string {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'genai-gateway-test-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return (name, content) => {
    const path = join(folder, name);
    if (content !== undefined) writeFileSync(path, content);
    return path;
  };
}
