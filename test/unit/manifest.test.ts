/** The manifest in apisix.yaml lists every item by the id that APISIX gives it, and changes nothing else in the file. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
import { fnv1a } from '../../compiler/emit/fnv1a.ts';
import { withManifest } from '../../compiler/emit/manifest.ts';
import { readRendered } from '../../compiler/output/read-rendered.ts';

const PREFIX = '# genai-gateway manifest: ';

interface Manifest {
  readonly digest: string;
  readonly items: Readonly<Record<string, readonly string[]>>;
  readonly clients?: { readonly count: number; readonly digest: string };
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

const manyClients = (count: number): Record<string, string> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, index) => `client-${index + 1}`).flatMap((name, index) => [
      [`GATEWAY_CLIENT_NAME_${index + 1}`, name],
      [`GATEWAY_CLIENT_KEY_${index + 1}`, `key-of-${name}-0123456789`],
    ]),
  );

async function render(settings: Record<string, string> = {}, templates?: string): Promise<string> {
  const { documents, diagnostics } = await compile({
    environment: { ...SETTINGS, ...settings },
    envFiles: [],
    templates,
  });
  if (!documents) throw new Error(diagnostics.map((each) => worded(each).message).join('; '));
  return documents['apisix.yaml'];
}

describe('the manifest', () => {
  test('lists every item, and counts the clients without listing them', async () => {
    const manifest = manifestOf(await render(manyClients(200)));
    expect(manifest.items).toEqual({
      services: ['azure-openai'],
      routes: ['openai-v1', 'openai-deployments', 'openai', 'not-found'],
    });
    expect(manifest.clients?.count).toBe(201);
  });

  test('has a digest of the client lines that depends on nothing else', async () => {
    const text = await render(manyClients(3));
    const lines = text.split('\n').filter((line) => line.startsWith('# genai-gateway client: '));
    expect(lines).toHaveLength(4);
    const digest = fnv1a(`${lines.join('\n')}\n`);
    expect(manifestOf(text).clients).toEqual({ count: 4, digest });
    expect(manifestOf(withManifest(`routes: []\n${lines.join('\n')}\n#END\n`, {})).clients).toEqual({
      count: 4,
      digest,
    });
  });

  test('is the second line, below the line for people, and leaves the rest of the file unchanged', async () => {
    const text = await render();
    const [first, second, ...rest] = text.split('\n');
    expect(first).toMatch(/^# Rendered by genai-gateway/);
    expect(second).toMatch(/^# genai-gateway manifest: \{/);
    expect(text.slice(-10)).toContain('#END');
    expect(readRendered(text)).toEqual(readRendered([first, ...rest].join('\n')));
    expect(readRendered(text)).toBeDefined();
  });

  test('changes when a setting changes, and only then', async () => {
    const digests = await Promise.all(
      [{}, {}, { AZURE_OPENAI_WEIGHT_0: '7' }, { GATEWAY_CLIENT_PRIORITY_0: 'low' }].map(
        async (settings) => manifestOf(await render(settings)).digest,
      ),
    );
    expect(digests[0]).toMatch(/^[0-9a-f]{16}$/);
    expect(digests[1]).toBe(digests[0]);
    expect(new Set(digests).size).toBe(3);
  });

  test('covers items that a custom template adds', async () => {
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
      expect(manifestOf(text).clients).toBeUndefined();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('contains no secret', async () => {
    const line = (await render({ GATEWAY_SECRETS: 'inline' })).split('\n')[1] ?? '';
    expect(line).toContain('"azure-openai"');
    for (const name of [
      'AZURE_OPENAI_KEY_0',
      'GATEWAY_CLIENT_KEY_0',
      'GATEWAY_CLIENT_KEY_SECONDARY_0',
    ] as const)
      expect(line).not.toContain(SETTINGS[name]);
  });

  test('uses the ids that APISIX generates for items without an id', () => {
    const items = [{ id: 7 }, { username: 'app' }, {}, null, 'text'];
    expect(manifestOf(withManifest('#END\n', { routes: items, plugins: {}, other: 5 })).items).toEqual({
      routes: ['7', 'app', 'arr_3', 'arr_4', 'arr_5'],
    });
  });

  test('is a single line without template expressions, whatever the ids contain', () => {
    const id = 'a${{HOME}}\n#END "\u2028ü😀';
    const text = withManifest('routes: []\n', { routes: [{ id }] });
    expect(text).not.toContain('${{');
    expect(text.split('\n')).toHaveLength(3);
    expect(manifestOf(text).items.routes).toEqual([id]);
  });
});
