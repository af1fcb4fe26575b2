/** The Dockerfile, the compiler and the Lua contract name the same version of APISIX. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { APISIX_IMAGE, APISIX_VERSION } from '../../compiler/image.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

test('the Dockerfile builds on the image that `up` starts, pinned by digest', () => {
  const image = /^ARG APISIX_IMAGE=(.+)@sha256:[0-9a-f]{64}$/m.exec(read('docker/Dockerfile'))?.[1];
  expect(image).toBe(APISIX_IMAGE);
});

test("the gateway's Lua contract accepts the APISIX version of that image", () => {
  const versions = /^local TESTED_VERSIONS = \{ (.+) \}$/m.exec(
    read('lua-plugins/apisix_internals/contract.lua'),
  )?.[1];
  expect(versions?.split(', ')).toContain(`"${APISIX_VERSION}"`);
});
