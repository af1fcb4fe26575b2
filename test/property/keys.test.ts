/** No command prints text that has the shape of a key, in any format, whichever setting holds the key. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { run } from '../../compiler/cli.ts';
import { PREVIEWS } from '../../compiler/commands/preview.ts';
import { REPORT_FORMATS } from '../../compiler/diagnostics/formats.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const text = (letters: string, minLength: number, maxLength = minLength) =>
  fc.string({ unit: fc.constantFrom(...letters), minLength, maxLength });
const key = fc.oneof(
  text('0123456789abcdef', 32),
  text('0123456789ABCDEF', 32, 64),
  text(`${LETTERS}0123456789`, 84),
  text(`${LETTERS}0123456789+/`, 43, 88),
  text(`${LETTERS}0123456789-_`, 43, 88),
  text(`${LETTERS}0123456789`, 20, 48).map((each) => `sk-${each}`),
  fc
    .tuple(text(`${LETTERS}0123456789-_`, 20, 40), text(`${LETTERS}0123456789-_`, 40, 80))
    .map((parts) => `eyJ${parts.join('.')}`),
);

/** Ways in which a key can be part of a value. */
const ways = fc.constantFrom<(key: string) => string>(
  (each) => each,
  (each) => `  ${each} `,
  (each) => `"${each}"`,
  (each) => `https://x.openai.azure.com/${each}`,
  (each) => `https://user:${each}@x.openai.azure.com`,
  (each) => `https://${each}.openai.azure.com`,
  (each) => `https://x.openai.azure.com/?sig=${each}`,
  (each) => `api-key: ${each}`,
  (each) => `Bearer ${each}`,
  (each) => `${each},${each}`,
  (each) => `${each}#comment`,
  (each) => `\${${each}}`,
  (each) => `${'a '.repeat(230)}${each}`,
  (each) => `<${each}>`,
);

const names = listSettings().map(({ name }) => name.replace(/_N$/, '_0'));
/** Names of settings, misspelt names of settings, and names of other programs' variables. */
const name = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...names) },
  { weight: 1, arbitrary: fc.constantFrom(...names).map((each) => `${each}_FILE`) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'AZURE_OPENAI_API_KEY_0',
      'OPENAI_API_KEY',
      'azure_openai_key_0',
      'AZURE_OPENAI_KEY_00',
    ),
  },
);

const base: Readonly<Record<string, string>> = {
  AZURE_OPENAI_ENDPOINT_0: 'https://res.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-the-client',
  ENABLE_OIDC: 'true',
  OIDC_CLIENT_ID: 'app',
  OIDC_DISCOVERY_URL: 'https://login.example.com/.well-known/openid-configuration',
  OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318',
};

// Programs look files up by the paths in JSON, SARIF and annotations: those stay as they are.
test('no text for people shows any part of a key that is the name of a file or folder, or an argument', {
  timeout: 60_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gg-'));
  const secret = '9f86d081884c7d659a2feaa0c55ad015';
  let said = '';
  const say = (part: string) => {
    said += part;
  };
  const start = (...args: string[]) =>
    run(args, { environment: {}, wantsColor: () => false, out: say, err: say });
  try {
    const text = Object.entries({ ...base, LB_ALG: 'x' }).map(([each, value]) => `${each}=${value}\n`);
    const file = join(folder, `${secret}.env`);
    writeFileSync(file, text.join(''));
    mkdirSync(join(folder, secret));
    const good = join(folder, secret, 'a.env');
    writeFileSync(good, text.join('').replace('LB_ALG=x\n', ''));
    for (const format of ['text', 'markdown'] as const) {
      await start('check', '-e', file, '--format', format);
      await start('check', folder, '--format', format);
      await start('check', join(folder, secret), '--format', format);
      await start('render', '-e', good, '-o', join(folder, secret, 'out'), '--format', format);
    }
    for (const args of [
      [secret],
      [`--${secret}`],
      ['check', secret],
      ['check', '--format', secret],
      ['check', '--allow', secret],
      ['explain', secret],
      ['preview', secret],
      ['init', '-o', join(folder, secret, secret)],
      ['init', '-o', join(file, secret)],
      ['mock', '--port', secret],
      ['diff', '--against', file, '-e', file],
      ['diff', '--against', good, '-e', good, '--format', 'markdown', '--title', `of ${secret}`],
      ['diff', '--against', join(folder, secret, secret, 'none'), '-e', good],
    ])
      await start(...args);
    expect(said.length).toBeGreaterThan(3_000);
    for (let at = 0; at + 12 <= secret.length; at++) {
      const piece = secret.slice(at, at + 12);
      const shown = said.indexOf(piece);
      expect(shown, said.slice(shown - 300, shown + 20)).toBe(-1);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('no command prints any part of a key that was written into a setting', {
  timeout: 180_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gg-'));
  let said = '';
  const say = (part: string) => {
    said += part;
  };
  const terminal = { environment: {}, wantsColor: () => false, out: say, err: say };
  const file = join(folder, 'x.env');
  const before = join(folder, 'before.env');
  const out = join(folder, 'out');
  const lines = (settings: Readonly<Record<string, string>>) =>
    Object.entries(settings)
      .map(([each, value]) => `${each}=${value}\n`)
      .join('');
  writeFileSync(before, lines(base));
  try {
    await fc.assert(
      fc.asyncProperty(name, key, ways, fc.boolean(), async (setting, secret, way, inFile) => {
        said = '';
        const settings = { ...base, [setting]: way(secret) };
        writeFileSync(file, lines(inFile ? settings : base));
        const environment = inFile ? {} : settings;
        const start = (...args: string[]) => run(args, { ...terminal, environment });
        for (const format of REPORT_FORMATS) await start('check', '-e', file, '--format', format);
        for (const what of PREVIEWS) await start('preview', what, '-e', file);
        for (const format of ['text', 'json', 'markdown'])
          await start('diff', '--against', before, '-e', file, '--format', format);
        await start('explain', setting, '-e', file);
        await start('explain', setting, '-e', file, '--format', 'json');
        await start('render', '-e', file, '--out', out, '--format', 'json');
        expect(said.length).toBeGreaterThan(500);
        for (let at = 0; at + 12 <= secret.length; at++) {
          const piece = secret.slice(at, at + 12);
          expect(said.includes(piece), `${setting}=${way(secret)} (${inFile}): ${piece}\n${said}`).toBe(
            false,
          );
        }
      }),
      { numRuns: 150 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
