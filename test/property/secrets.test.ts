import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { run } from '../../compiler/cli.ts';
import { PREVIEWS } from '../../compiler/commands/preview.ts';
import type { Terminal } from '../../compiler/commands/terminal.ts';
import { REPORT_FORMATS } from '../../compiler/diagnostics/formats.ts';
import { POLICY_RULE_NAMES, POLICY_RULES } from '../../compiler/policy/rules.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';

/** A secret with high entropy: eight characters of it appear in an output only through a leak. */
const secret = fc.string({
  unit: fc.constantFrom(...'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789'),
  minLength: 32,
  maxLength: 48,
});

const sensitive = listSettings()
  .filter(({ declaration }) => declaration.sensitive)
  .map(({ name }) => name.replace(/_N$/, '_0'));

/** Ways to write a secret into a setting: the correct one, and every known mistake. */
const planted = fc.constantFrom<(value: string) => string>(
  (value) => value,
  (value) => ` ${value} `,
  (value) => `"${value}"`,
  (value) => `${value.slice(0, 20)}\n${value.slice(20)}`,
  (value) => `$env://${value}`,
  (value) => `\${{${value}}}`,
  (value) => `é${value}`,
  (value) => value.repeat(20),
);

const base = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
  AZURE_OPENAI_AUTH_MODE_1: 'entra',
  GATEWAY_CLIENT_NAME_0: 'app',
  AI_RATE_LIMIT_POLICY: 'redis',
  AI_RATE_LIMIT_REDIS_HOST: 'redis.internal',
  ENABLE_QUOTA: 'true',
  QUOTA_COUNT: '10',
  QUOTA_TIME_WINDOW: '60',
  ENABLE_CACHE: 'true',
  CACHE_POLICY: 'redis',
  CACHE_REDIS_HOST: 'redis.internal',
  APIM_GATEWAY_LOGS_INGEST_URI: 'https://dce.example.com/dataCollectionRules/dcr-0/streams/x?api-version=1',
};

/** Settings that are refused together: their secrets must stay hidden all the same. */
const refusedTogether = {
  ENABLE_OIDC: 'true',
  OIDC_CLIENT_ID: 'client',
  OIDC_DISCOVERY_URL: 'https://login.example.com/.well-known/openid-configuration',
  OIDC_REDIRECT_URI: 'https://gateway.example.com/callback',
  RESPONSES_AFFINITY_REDIS_HOST: 'redis.internal',
};

const EVERY_RULE = `rules: {${POLICY_RULE_NAMES.map((name) => {
  const [option] = Object.entries(POLICY_RULES[name].options).filter(
    ([, otherwise]) => otherwise === undefined,
  );
  return `${name}: {${option ? `${option[0]}: [nothing]` : ''}}`;
}).join(', ')}}\n`;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-secrets-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function everythingSaid(environment: Record<string, string>): Promise<string> {
  let said = '';
  const terminal = {
    environment,
    wantsColor: () => false,
    out: (text: string) => {
      said += text;
    },
    err: (text: string) => {
      said += text;
    },
  };
  const out = join(folder, 'out');
  const policy = join(folder, 'policy.yaml');
  writeFileSync(policy, EVERY_RULE);
  for (const format of REPORT_FORMATS) await run(['check', '--policy', policy, '--format', format], terminal);
  await changesSaid(environment, terminal);
  for (const what of PREVIEWS) await run(['preview', what], terminal);
  for (const name of sensitive) await run(['explain', name], terminal);
  if (environment.GATEWAY_SECRETS !== 'inline') {
    await run(['render', '--out', out, '--format', 'json'], terminal);
    await run(['render', '--out', out], terminal);
    said += readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((each) => each.isFile() && each.name.endsWith('.yaml'))
      .map((each) => readFileSync(join(each.parentPath, each.name), 'utf8'))
      .join('\n');
  }
  return said;
}

/** Replaces each secret by another one, and prints the difference in every format of `diff`. */
async function changesSaid(environment: Record<string, string>, terminal: Terminal): Promise<void> {
  const names = Object.keys(environment).filter((name) => sensitive.includes(name));
  const [before, after] = [environment, { ...environment }];
  for (const [index, name] of names.entries())
    after[name] = environment[names[(index + 1) % names.length] ?? ''] ?? '';
  const file = (name: string, variables: Record<string, string>) => {
    const text = Object.entries(variables).map(([variable, value]) => `${variable}='${value}'\n`);
    writeFileSync(join(folder, name), text.join(''));
    return join(folder, name);
  };
  const args = ['diff', '--against', file('before.env', before), '-e', file('after.env', after)];
  for (const format of ['text', 'json', 'markdown'])
    await run([...args, '--format', format], { ...terminal, environment: {} });
}

test('no part of a secret appears in any output, report or file', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(secret, { minLength: sensitive.length + 4, maxLength: sensitive.length + 4 }),
      fc.array(planted, { minLength: sensitive.length, maxLength: sensitive.length }),
      fc.constantFrom('reference', 'inline'),
      fc.boolean(),
      async (values, ways, mode, allGood) => {
        const value = (index: number) => values[index] ?? '';
        const environment: Record<string, string> = {
          ...base,
          GATEWAY_SECRETS: mode,
          // Misspelt names of secret settings, and URLs, carry secrets too.
          AZURE_OPENAI_KYE_0: value(sensitive.length),
          gateway_client_key_0: value(sensitive.length + 1),
          ...(allGood
            ? {}
            : {
                ...refusedTogether,
                AZURE_OPENAI_ENDPOINT_0: `https://user:${value(sensitive.length + 2)}@one.openai.azure.com?sig=${value(sensitive.length + 3)}`,
              }),
        };
        for (const [index, name] of sensitive.entries())
          environment[name] = allGood ? value(index) : (ways[index]?.(value(index)) ?? '');
        // GATEWAY_CLIENT_KEY together with numbered clients is an error.
        if (allGood) delete environment.GATEWAY_CLIENT_KEY;
        const said = await everythingSaid(environment);
        if (allGood && mode === 'reference') expect(said).toContain('$env://AI_RATE_LIMIT_REDIS_PASSWORD');
        expect(said.length).toBeGreaterThan(1000);
        for (const each of values) {
          for (let at = 0; at + 8 <= each.length; at++) expect(said).not.toContain(each.slice(at, at + 8));
        }
      },
    ),
    { numRuns: 40 },
  );
});

test('no diagnostic shows a secret from an env file or a secret file', async () => {
  const key = 'Zk7TqQv9mWb3Xc5RpLs8JdHg2NfYt4Ae';
  const secretFile = join(folder, 'key');
  const envFile = join(folder, '.env');
  writeFileSync(secretFile, `${key}\n\n`);
  writeFileSync(
    envFile,
    `AZURE_OPENAI_KEY_0=${key}#${key}\nGATEWAY_CLIENT_KEY_0_FILE=${secretFile}\nGATEWAY_CLIENT_KEY_0="${key}\n${key}"\n${key}\n`,
  );
  let said = '';
  const terminal = {
    environment: base,
    wantsColor: () => false,
    out: (text: string) => {
      said += text;
    },
    err: (text: string) => {
      said += text;
    },
  };
  for (const format of REPORT_FORMATS)
    await run(['check', '--env-file', envFile, '--format', format], terminal);
  expect(said).toContain('GATEWAY_CLIENT_KEY_0');
  for (let at = 0; at + 8 <= key.length; at++) expect(said).not.toContain(key.slice(at, at + 8));
});
