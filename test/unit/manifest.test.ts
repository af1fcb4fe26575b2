/** What apisix.yaml says of itself names every item by the id that APISIX gives it, and changes nothing else. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { withManifest } from '../../compiler/emit/manifest.ts';
import { readRendered } from '../../compiler/output/read-rendered.ts';

const PREFIX = '# genai-gateway manifest: ';

interface Manifest {
  readonly digest: string;
  readonly items: Readonly<Record<string, readonly string[]>>;
}

function manifestOf(text: string): Manifest {
  const lines = text.split('\n').filter((line) => line.startsWith(PREFIX));
  expect(lines).toHaveLength(1);
  return JSON.parse((lines[0] ?? '').slice(PREFIX.length)) as Manifest;
}

const SETTINGS = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend-zero-0123',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero-0123',
  GATEWAY_CLIENT_KEY_SECONDARY_0: 'second-key-of-client-zero-0123',
};

async function render(settings: Record<string, string> = {}, templates?: string): Promise<string> {
  const { documents, diagnostics } = await compile({
    environment: { ...SETTINGS, ...settings },
    envFiles: [],
    templates,
  });
  if (!documents) throw new Error(diagnostics.map(({ message }) => message).join('; '));
  return documents['apisix.yaml'];
}

describe('the manifest', () => {
  test('names every item, second keys of clients too', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `client-${index + 1}`);
    const many = Object.fromEntries(
      names.flatMap((name, index) => [
        [`GATEWAY_CLIENT_NAME_${index + 1}`, name],
        [`GATEWAY_CLIENT_KEY_${index + 1}`, `key-of-${name}-0123456789`],
      ]),
    );
    expect(manifestOf(await render(many)).items).toEqual({
      services: ['azure-openai'],
      routes: ['openai-v1', 'openai-deployments', 'openai', 'not-found'],
      consumers: ['app', 'app/credentials/secondary', ...names],
    });
  });

  test('stands at the head, below the line for people, and leaves the end and the rest alone', async () => {
    const text = await render();
    const [first, second, ...rest] = text.split('\n');
    expect(first).toMatch(/^# Rendered by genai-gateway/);
    expect(second).toMatch(/^# genai-gateway manifest: \{/);
    expect(text.slice(-10)).toContain('#END');
    expect(readRendered(text)).toEqual(readRendered([first, ...rest].join('\n')));
    expect(readRendered(text)).toBeDefined();
  });

  test('is another one when anything is, and the same when nothing is', async () => {
    const digests = await Promise.all(
      [{}, {}, { AZURE_OPENAI_WEIGHT_0: '7' }, { GATEWAY_CLIENT_PRIORITY_0: 'low' }].map(
        async (settings) => manifestOf(await render(settings)).digest,
      ),
    );
    expect(digests[0]).toMatch(/^[0-9a-f]{16}$/);
    expect(digests[1]).toBe(digests[0]);
    expect(new Set(digests).size).toBe(3);
  });

  test("covers what a user's template adds", async () => {
    const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-manifest-'));
    try {
      writeFileSync(
        join(folder, 'apisix.yaml.hbs'),
        [
          '{{> apisix/services}}',
          '{{> apisix/routes}}',
          '  - {id: mine, uri: "/openai/mine", service_id: azure-openai}',
          '#END',
          '',
        ].join('\n'),
      );
      const text = await render({}, folder);
      expect(text.startsWith(PREFIX)).toBe(true);
      expect(manifestOf(text).items.routes).toContain('mine');
      expect(manifestOf(text).items.consumers).toBeUndefined();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('holds no secret', async () => {
    const line = (await render({ GATEWAY_SECRETS: 'inline' })).split('\n')[1] ?? '';
    expect(line).toContain('"app"');
    for (const name of [
      'AZURE_OPENAI_KEY_0',
      'GATEWAY_CLIENT_KEY_0',
      'GATEWAY_CLIENT_KEY_SECONDARY_0',
    ] as const)
      expect(line).not.toContain(SETTINGS[name]);
  });

  test('gives items without an id the one that APISIX gives them', () => {
    const items = [{ id: 7 }, { username: 'app' }, {}, null, 'text'];
    expect(manifestOf(withManifest('#END\n', { routes: items, plugins: {}, other: 5 })).items).toEqual({
      routes: ['7', 'app', 'arr_3', 'arr_4', 'arr_5'],
    });
  });

  test('is one line in which APISIX finds nothing to replace, whatever the ids', () => {
    const id = 'a${{HOME}}\n#END "\u2028ü😀';
    const text = withManifest('routes: []\n', { routes: [{ id }] });
    expect(text).not.toContain('${{');
    expect(text.split('\n')).toHaveLength(3);
    expect(manifestOf(text).items.routes).toEqual([id]);
  });
});
