/** The image that `deploy` lets a registry build, from the files of the package alone. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { imageSource, writeContext } from '../../compiler/deploy/image.ts';
import { PORTS } from '../support/apisix.ts';
import { BUILD_TIMEOUT_MS, buildOptions, cannotRunImageTests, startContainer } from '../support/image.ts';
import { ROOT } from '../support/repository.ts';
import { eventually } from '../support/until.ts';

const IMAGE = `genai-gateway-deploy-test:${randomUUID()}`;

describe.skipIf(cannotRunImageTests('the image of deploy'))('the image of deploy', () => {
  let folder = '';
  beforeAll(() => {
    folder = writeContext(imageSource(ROOT));
    execFileSync(
      'docker',
      ['build', '--quiet', ...buildOptions(), `--tag=${IMAGE}`, `--file=${folder}/Dockerfile`, folder],
      {
        // As a registry builds.
        env: { ...process.env, DOCKER_BUILDKIT: '0' },
        stdio: 'pipe',
      },
    );
  }, BUILD_TIMEOUT_MS);
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    execFileSync('docker', ['image', 'rm', '--force', IMAGE], { stdio: 'pipe' });
  });

  test('renders, becomes ready, and names its version', async () => {
    const container = startContainer({
      image: IMAGE,
      options: [`--publish=127.0.0.1::${PORTS.proxy}`],
      environment: {
        AZURE_OPENAI_ENDPOINT_0: 'https://contoso.openai.azure.com',
        AZURE_OPENAI_AUTH_MODE_0: 'entra',
        GATEWAY_CLIENT_NAME_0: 'app',
        GATEWAY_CLIENT_KEY_0: 'a-key-of-this-test-only',
      },
    });
    try {
      await eventually(
        async () =>
          (await fetch(`${container.url(PORTS.proxy)}/readyz`).catch(() => undefined))?.status === 200,
        { timeoutMs: 60_000 },
      );
      expect(container.inspect('{{index .Config.Labels "org.opencontainers.image.version"}}')).toBe(
        PACKAGE_VERSION,
      );
    } finally {
      container.remove();
    }
  }, 90_000);
});
