/** `diff` reports every difference and nothing else, and no part of a secret appears in its output. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { run } from '../../compiler/cli.ts';
import { compile } from '../../compiler/compile.ts';
import { type Change, changesBetween } from '../../compiler/diff/changes.ts';
import { describe as inWords } from '../../compiler/diff/describe.ts';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../../compiler/emit/emit.ts';
import { readDocument } from '../../compiler/output/check.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import { goodEnvironment } from '../support/arbitraries.ts';
import { compileGolden, goodScenarios } from '../support/scenarios.ts';

const UNORDERED = new Set([
  ...['services', 'routes', 'clients', 'consumers', 'plugin_metadata', 'instances', 'backends'],
  ...['retry_statuses', 'fallback_strategy', 'models', 'audiences', 'whitelist', 'blacklist', 'remove'],
  ...[
    'http_latency',
    'bandwidth',
    'llm_latency',
    'http_status',
    'llm_prompt_tokens',
    'llm_completion_tokens',
  ],
  ...['llm_prompt_tokens_dist', 'llm_completion_tokens_dist', 'llm_active_connections'],
  ...['real_ip_from', 'extensions', 'receivers', 'exporters', 'targets', 'scopes', 'include'],
]);

/** A canonical text of a document: keys are sorted, and so are lists whose order means nothing. */
function canonical(value: unknown, name = ''): string {
  if (Array.isArray(value)) {
    const items = value.map((each) => canonical(each, name));
    // The order of `plugins` in config.yaml means nothing. Elsewhere `plugins` is a mapping.
    return `[${UNORDERED.has(name) || name === 'plugins' ? items.sort() : items}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(
      ([key, each]) => `${JSON.stringify(key)}:${canonical(each, key)}`,
    );
    return `{${entries.sort()}}`;
  }
  return JSON.stringify(value);
}

const read = async (name: DocumentName, text: string): Promise<unknown> => {
  const parsed = await readDocument(name, text);
  if ('reason' in parsed) throw new Error(parsed.reason);
  return parsed.document;
};

/** Canonical texts by document text, as a cache: most of the generated gateways share at least one of their three documents. */
const canonicals = new Map<string, string>();
const canonicalOf = async (name: DocumentName, text: string): Promise<string> => {
  const known = canonicals.get(text);
  if (known !== undefined) return known;
  const made = canonical(await read(name, text));
  canonicals.set(text, made);
  return made;
};

/** Writes a document as YAML with one member a line, as our templates do: `diff` reads that ten times as fast as JSON. */
function asYaml(document: Json): string {
  const members = typeof document === 'object' && document !== null ? Object.entries(document) : [];
  return Array.isArray(document) || members.length === 0
    ? JSON.stringify(document)
    : members.map(([key, each]) => `${JSON.stringify(key).slice(1, -1)}: ${JSON.stringify(each)}\n`).join('');
}

const told = async (before: Partial<Documents>, after: Partial<Documents>): Promise<readonly Change[]> => {
  const changes = await changesBetween(before, after);
  const lines = inWords(changes);
  expect(lines).toHaveLength(changes.length);
  for (const line of lines) expect(line).toMatch(/^[^\n]+: [^\n]+$/);
  expect(lines.join('\n')).not.toContain('undefined');
  return changes;
};

test('diff reports a change between two compiled gateways exactly when a document differs', async () => {
  const seen = { same: 0, different: 0 };
  await fc.assert(
    fc.asyncProperty(goodEnvironment, goodEnvironment, fc.integer(), async (one, other, seed) => {
      // Take one environment and at most four variables of the other: two random environments have nothing in common.
      const names = fc.sample(fc.subarray(Object.keys(other)), { seed, numRuns: 1 })[0] ?? [];
      const mixed = { ...one };
      for (const name of names.slice(0, 4)) mixed[name] = other[name] ?? '';
      const [before, after] = await Promise.all(
        [one, mixed].map((environment) => compile({ environment, envFiles: [] })),
      );
      if (!before?.documents || !after?.documents) return;
      const [old, current] = [before.documents, after.documents];
      const changes = await told(old, current);
      for (const name of DOCUMENT_NAMES) {
        const same = (await canonicalOf(name, old[name])) === (await canonicalOf(name, current[name]));
        seen[same ? 'same' : 'different']++;
        expect(changes.some(({ document }) => document === name)).toBe(!same);
      }
    }),
    { numRuns: 150 },
  );
  expect(Math.min(seen.same, seen.different)).toBeGreaterThan(30);
});

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** Writes a document as text. In apisix.yaml the clients become comments. */
function asText(name: DocumentName, document: Json): string {
  if (name !== 'apisix.yaml') return asYaml(document);
  const { clients, ...items } = document as Record<string, Json>;
  const lines = Array.isArray(clients) ? clients : [];
  return [asYaml(items), ...lines.map((each) => `# genai-gateway client: ${JSON.stringify(each)}`)].join(
    '\n',
  );
}

/** All lists and mappings in a document, at any depth. */
function holders(value: Json): (Json[] | Record<string, Json>)[] {
  if (typeof value !== 'object' || value === null) return [];
  return [value, ...Object.values(value).flatMap(holders)];
}

/** Changes a document in place. The three numbers select the holder, the key and the kind of edit. */
function edit(document: Json, [which, where, what]: readonly [number, number, number], value: Json): void {
  const all = holders(document).filter((each) => Object.keys(each).length > 0);
  const holder = all[where % all.length];
  if (holder === undefined) return;
  const keys = Object.keys(holder);
  const key = keys[what % keys.length] ?? '';
  const entries = holder as Record<string, Json>;
  if (Array.isArray(holder)) {
    if (which === 0) holder.reverse();
    else if (which === 1) holder.splice(Number(key), 1);
    else if (which === 2) holder.splice(Number(key), 0, structuredClone(value));
    else holder[Number(key)] = structuredClone(value);
  } else if (which <= 1) delete entries[key];
  else if (which === 2) entries.extra = structuredClone(value);
  else entries[key] = structuredClone(value);
}

const value: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(0, 1, '1', true, null, '', 'high', [], {}, [1], { name: 'a' }, [
    { id: 1 },
    { id: '1' },
  ]),
  fc.string({ unit: 'binary', maxLength: 12 }).map((text) => text.toWellFormed()),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0),
);

const scenarios = goodScenarios();
const parsed = new Map<string, Promise<Record<DocumentName, Json>>>();
const documentsOf = (name: string) => {
  const known = parsed.get(name);
  if (known) return known;
  const reading = compileGolden(name).then(async ({ documents }) =>
    Object.fromEntries(
      await Promise.all(
        DOCUMENT_NAMES.map(async (each) => [each, await read(each, documents[each])] as const),
      ),
    ),
  );
  parsed.set(name, reading as Promise<Record<DocumentName, Json>>);
  return reading as Promise<Record<DocumentName, Json>>;
};

test('diff reports a change exactly when an edited rendered file differs', { timeout: 120_000 }, async () => {
  const seen = { same: 0, different: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...scenarios),
      fc.constantFrom(...DOCUMENT_NAMES),
      fc.array(fc.tuple(fc.tuple(fc.nat(3), fc.nat(1000), fc.nat(50)), value), {
        minLength: 0,
        maxLength: 3,
      }),
      async (scenario, name, edits) => {
        const original = (await documentsOf(scenario))[name];
        const edited = structuredClone(original);
        for (const [at, what] of edits) edit(edited, at, what);
        const [one, other] = [edited, original].map((each) => asText(name, each));
        const [before, after] = [one, other].map((each) => ({ [name]: each }));
        const changes = await told(before ?? {}, after ?? {});
        const same = (await canonicalOf(name, one ?? '')) === (await canonicalOf(name, other ?? ''));
        seen[same ? 'same' : 'different']++;
        expect(changes.length > 0).toBe(!same);
        expect((await told(after ?? {}, before ?? {})).length > 0).toBe(!same);
      },
    ),
    { numRuns: 1500 },
  );
  expect(Math.min(seen.same, seen.different)).toBeGreaterThan(50);
});

test('diff reports every difference between documents of any shape', { timeout: 120_000 }, async () => {
  const key = fc.constantFrom(
    ...['services', 'consumers', 'plugins', 'ai-proxy-multi', 'azure-openai-proxy', 'instances', 'backends'],
    ...[
      'id',
      'name',
      'username',
      'key',
      'rules',
      'auth',
      'header',
      'models',
      'exporters',
      'service',
      'a',
      '__proto__',
    ],
  );
  const { any } = fc.letrec<{ any: Json }>((tie) => ({
    any: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      value,
      fc.array(tie('any'), { maxLength: 3 }),
      fc
        .array(fc.tuple(key, tie('any')), { maxLength: 5 })
        .map((entries) => Object.fromEntries(entries) as Json),
    ),
  }));
  const mapping = any.filter((each) => typeof each === 'object' && each !== null && !Array.isArray(each));
  await fc.assert(
    fc.asyncProperty(mapping, mapping, fc.constantFrom(...DOCUMENT_NAMES), async (one, other, name) => {
      const [before, after] = [{ [name]: JSON.stringify(one) }, { [name]: JSON.stringify(other) }];
      if (canonical(one) !== canonical(other)) expect((await told(before, after)).length).toBeGreaterThan(0);
      expect(await told(before, before)).toEqual([]);
    }),
    { numRuns: 1500 },
  );
});

/** A secret with high entropy: eight characters of it appear in an output only through a leak. */
const secret = fc.string({
  unit: fc.constantFrom(...'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789'),
  minLength: 32,
  maxLength: 48,
});

const SENSITIVE = listSettings()
  .filter(({ declaration }) => declaration.sensitive)
  .map(({ name }) => name.replace(/_N$/, '_0'))
  // GATEWAY_CLIENT_KEY together with numbered clients is an error.
  .filter((name) => name !== 'GATEWAY_CLIENT_KEY');

const BASE = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
  AZURE_OPENAI_AUTH_MODE_1: 'entra',
  GATEWAY_CLIENT_NAME_0: 'app',
  AI_RATE_LIMIT_POLICY: 'redis',
  AI_RATE_LIMIT_REDIS_HOST: 'redis.internal',
  RESPONSES_AFFINITY_REDIS_HOST: 'affinity.internal',
  ENABLE_QUOTA: 'true',
  QUOTA_COUNT: '10',
  QUOTA_TIME_WINDOW: '60',
  IDENTITY_ENDPOINT: 'http://127.0.0.1:42356/msi/token',
  LB_ALG: 'preferred',
  ENABLE_CACHE: 'true',
  CACHE_POLICY: 'redis',
  CACHE_REDIS_HOST: 'cache.internal',
};

/** The order of backends is in the Redis of affinity, whose password so is in two more places. */
const MORE_PLACES = 2;

test('diff reports every changed secret and prints no part of it', { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-diff-'));
  const file = (name: string, variables: Record<string, string>) => {
    writeFileSync(
      join(folder, name),
      Object.entries(variables)
        .map(([variable, each]) => `${variable}=${each}\n`)
        .join(''),
    );
    return join(folder, name);
  };
  const call = async (...args: string[]) => {
    let said = '';
    const say = (text: string) => {
      said += text;
    };
    const code = await run(args, { environment: {}, wantsColor: () => false, out: say, err: say });
    return { code, said };
  };
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(secret, { minLength: 2 * SENSITIVE.length, maxLength: 2 * SENSITIVE.length }),
        fc.constantFrom('reference', 'inline'),
        fc.constantFrom('reference', 'inline'),
        async (values, oldMode, mode) => {
          const planted = (GATEWAY_SECRETS: string, offset: number) => ({
            ...BASE,
            GATEWAY_SECRETS,
            ...Object.fromEntries(SENSITIVE.map((name, index) => [name, values[offset + index] ?? ''])),
          });
          const old = file('old.env', planted(oldMode, 0));
          const current = file('new.env', planted(mode, SENSITIVE.length));
          const rendered = join(folder, oldMode);
          expect((await call('render', '--out', rendered, '-e', old)).code).toBe(0);
          let all = '';
          for (const against of [old, rendered, ...DOCUMENT_NAMES.map((name) => join(rendered, name))]) {
            for (const format of ['text', 'json']) {
              const { code, said } = await call(
                'diff',
                '--against',
                against,
                '-e',
                current,
                '--format',
                format,
              );
              expect([0, 2]).toContain(code);
              all += said;
              if (against !== old && (oldMode !== 'inline' || !against.endsWith(oldMode))) continue;
              expect(code).toBe(2);
              if (format === 'json') {
                const keys = JSON.parse(said.slice(said.indexOf('{\n  "against"'))).changes.filter(
                  (each: Change) => each.secret,
                );
                // The secrets of the managed identity are variables of the APISIX process and appear in no file.
                const inFiles = SENSITIVE.filter((name) => !/^(?:OIDC|IDENTITY|MSI|APIM)/.test(name));
                const ofProcess = SENSITIVE.filter((name) =>
                  /^(?:IDENTITY|MSI)_(?:HEADER|SECRET)$/.test(name),
                );
                expect(keys).toHaveLength(
                  inFiles.length + MORE_PLACES + (against === old ? ofProcess.length : 0),
                );
              }
            }
          }
          for (const each of values)
            for (let at = 0; at + 8 <= each.length; at++) expect(all).not.toContain(each.slice(at, at + 8));
        },
      ),
      { numRuns: 15 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
