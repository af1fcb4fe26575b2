/** How `up` adapts settings, and how it prints APISIX's log. */
import { expect, test } from 'vitest';
import { readableLines } from '../../compiler/commands/local/log-lines.ts';
import {
  backendsToMock,
  CALLED_BY_APISIX,
  loopbackWarnings,
  withMocks,
  withSecretsAsVariables,
} from '../../compiler/commands/local/settings.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import type { RawSettings, RawValue } from '../../compiler/settings/sources.ts';

const raw = (
  variables: Readonly<Record<string, string>>,
  files: Readonly<Record<string, string>> = {},
): RawSettings => {
  const map = (record: Readonly<Record<string, string>>, of: (name: string) => RawValue['source']) =>
    new Map(Object.entries(record).map(([name, value]) => [name, { value, source: of(name) }]));
  return {
    variables: map(variables, () => ({ kind: 'file', path: '.env', line: 1 })),
    secretFiles: map(files, (name) => ({ kind: 'secret-file', path: `/run/secrets/${name}` })),
    diagnostics: [],
  };
};

const values = ({ variables }: RawSettings) =>
  Object.fromEntries([...variables].map(([name, { value }]) => [name, value]));

test('turns secrets in files into variables and renders references', () => {
  const adapted = withSecretsAsVariables(
    raw(
      { AZURE_OPENAI_KEY_0_FILE: '/run/secrets/key', GATEWAY_SECRETS: 'inline' },
      { AZURE_OPENAI_KEY_0: 'key-of-a-file' },
    ),
  );
  expect(values(adapted)).toEqual({ AZURE_OPENAI_KEY_0: 'key-of-a-file', GATEWAY_SECRETS: 'reference' });
  expect(adapted.secretFiles.size).toBe(0);
  expect(adapted.variables.get('AZURE_OPENAI_KEY_0')?.source).toEqual({
    kind: 'file',
    path: '.env',
    line: 1,
  });
});

test.each([
  [' Inline ', 'reference'],
  ['inlined', 'inlined'],
])('replaces GATEWAY_SECRETS=%j by %j', (given, adapted) => {
  expect(values(withSecretsAsVariables(raw({ GATEWAY_SECRETS: given })))).toEqual({
    GATEWAY_SECRETS: adapted,
  });
});

test('keeps a secret that is given twice, so that the error is reported', () => {
  const given = raw({ OIDC_CLIENT_SECRET: 'a', OIDC_CLIENT_SECRET_FILE: '/b' }, { OIDC_CLIENT_SECRET: 'b' });
  expect(withSecretsAsVariables(given)).toEqual(given);
});

test('without settings adds two mocks, the first with priority, and one client', () => {
  const given = raw({ HOME: '/root' });
  const mocks = backendsToMock(given);
  expect(values(withMocks(given, mocks, [8000, 8001]))).toMatchObject({
    HOME: '/root',
    AZURE_OPENAI_ENDPOINT_0: 'http://host.docker.internal:8000',
    AZURE_OPENAI_NAME_0: 'mock-0',
    AZURE_OPENAI_PRIORITY_0: '10',
    AZURE_OPENAI_ENDPOINT_1: 'http://host.docker.internal:8001',
    AZURE_OPENAI_PRIORITY_1: '5',
    GATEWAY_CLIENT_NAME_0: 'app',
    GATEWAY_REQUIRE_AUTH: 'true',
    GATEWAY_BACKEND_HEADER: 'true',
  });
});

test('replaces each backend of the settings by a mock with a key of its own', () => {
  const given = raw(
    {
      AZURE_OPENAI_ENDPOINT_2: 'https://two.openai.azure.com',
      AZURE_OPENAI_KEY_2_FILE: '/run/secrets/two',
      AZURE_OPENAI_NAME_2: 'two',
      AZURE_OPENAI_PRIORITY_2: '7',
      AZURE_OPENAI_ENDPOINT_10: 'https://ten.openai.azure.com',
      AZURE_OPENAI_AUTH_MODE_10: 'entra',
      AZURE_OPENAI_MSI_CLIENT_ID_10: '00000000-0000-0000-0000-000000000000',
      AZURE_OPENAI_ENDPOINT_11: ' ',
      GATEWAY_CLIENT_NAME_0: 'mine',
      GATEWAY_CLIENT_KEY_0: 'key-of-mine',
      GATEWAY_BACKEND_HEADER: 'false',
    },
    { AZURE_OPENAI_KEY_2: 'a-real-key' },
  );
  const mocks = backendsToMock(given);
  expect(mocks.map(({ index, name }) => [index, name])).toEqual([
    [2, 'two'],
    [10, 'backend-10'],
  ]);
  const mocked = withMocks(given, mocks, [9000, 9001]);
  expect(values(mocked)).toEqual({
    AZURE_OPENAI_ENDPOINT_2: 'http://host.docker.internal:9000',
    AZURE_OPENAI_KEY_2: mocks[0]?.key,
    AZURE_OPENAI_AUTH_MODE_2: 'api-key',
    AZURE_OPENAI_NAME_2: 'two',
    AZURE_OPENAI_PRIORITY_2: '7',
    AZURE_OPENAI_ENDPOINT_10: 'http://host.docker.internal:9001',
    AZURE_OPENAI_KEY_10: mocks[1]?.key,
    AZURE_OPENAI_AUTH_MODE_10: 'api-key',
    AZURE_OPENAI_NAME_10: 'backend-10',
    AZURE_OPENAI_ENDPOINT_11: ' ',
    GATEWAY_CLIENT_NAME_0: 'mine',
    GATEWAY_CLIENT_KEY_0: 'key-of-mine',
    GATEWAY_BACKEND_HEADER: 'false',
  });
  expect(mocked.secretFiles.size).toBe(0);
});

test.each([
  ['AZURE_OPENAI_ENDPOINT_0', 'http://localhost:8000', 'http://host.docker.internal:8000'],
  ['AZURE_OPENAI_ENDPOINT_12', 'https://127.0.0.1/openai', 'https://host.docker.internal/openai'],
  ['OTEL_COLLECTOR_ENDPOINT', '127.0.0.1:4318', 'host.docker.internal:4318'],
  ['AI_RATE_LIMIT_REDIS_HOST', 'LOCALHOST', 'host.docker.internal'],
  ['RESPONSES_AFFINITY_REDIS_HOST', '::1', 'host.docker.internal'],
])('warns of %s=%s and says what to write instead', (name, value, instead) => {
  const [warning, ...others] = loopbackWarnings(raw({ [name]: value })).map(worded);
  expect(others).toEqual([]);
  expect(warning).toMatchObject({
    code: 'LOCALHOST_IN_CONTAINER',
    severity: 'warning',
    setting: name,
    line: 1,
  });
  expect(warning?.hint).toContain(`${name}=${instead} to reach this machine`);
});

test.each([
  ['AZURE_OPENAI_ENDPOINT_0', 'https://localhost.example.com'],
  ['AZURE_OPENAI_ENDPOINT_0', 'https://one.openai.azure.com'],
  ['AI_RATE_LIMIT_REDIS_HOST', '10.127.0.1'],
  ['GATEWAY_TRUSTED_PROXIES', '127.0.0.1'],
  ['APISIX_GATEWAY_ENDPOINT', '127.0.0.1:9091'],
])('does not warn of %s=%s', (name, value) => {
  expect(loopbackWarnings(raw({ [name]: value }))).toEqual([]);
});

test('checks only settings that exist', () => {
  const names = listSettings().map(({ name }) => name);
  expect(CALLED_BY_APISIX.length).toBeGreaterThan(3);
  for (const name of CALLED_BY_APISIX) expect(names).toContain(name);
});

const access = (fields: object) =>
  JSON.stringify({
    time: '2026-11-26T08:25:57+00:00',
    method: 'POST',
    path: '/openai/v1/chat/completions',
    status: '200',
    duration_s: '0.004',
    upstream: 'mocks.example:8000',
    upstream_status: '200',
    model: 'gpt-4o',
    ...fields,
  });

const readable = readableLines([
  { name: 'ptu', origin: 'http://mocks.example:8000' },
  { name: 'payg', origin: 'https://payg.openai.azure.com' },
  { name: 'one', origin: 'https://both.openai.azure.com' },
  { name: 'other', origin: 'https://both.openai.azure.com' },
]);

test.each([
  [{}, '200 in 4 ms, 1 attempt: ptu 200'],
  [
    { upstream: 'mocks.example:8000, payg.openai.azure.com:443', upstream_status: '429, 200' },
    '200 in 4 ms, 2 attempts: ptu 429, payg 200',
  ],
  [{ upstream: 'both.openai.azure.com:443' }, '200 in 4 ms, 1 attempt: both.openai.azure.com:443 200'],
  [{ status: '401', upstream: '', upstream_status: '' }, '401 in 4 ms, no backend attempted'],
  [{ upstream: '', upstream_status: '', cache: 'hit' }, '200 in 4 ms, from the answer cache'],
  [
    { upstream: '', upstream_status: '', cache: 'coalesced' },
    '200 in 4 ms, with the answer to an identical request',
  ],
  [{ cache: 'miss' }, '200 in 4 ms, 1 attempt: ptu 200'],
])('shows the attempts of an access log line: %j', (fields, told) => {
  expect(readable(access(fields))).toMatch(/^\d\d:\d\d:57 POST \/openai\/v1\/chat\/completions gpt-4o /);
  expect(readable(access(fields))).toContain(` gpt-4o ${told}`);
});

test('shortens a line of the error log to its time, level and message', () => {
  const line =
    '2026/11/26 08:25:57 [warn] 32#32: *158 [lua] azure-openai-proxy.lua:411: note_failure(): backend mock-0 throttled: 429, cooling down for 5000 ms, client: 172.17.0.1, server: _, request: "POST /openai/v1/chat/completions HTTP/1.1", host: "127.0.0.1:9080"';
  expect(readable(line)).toMatch(
    /^\d\d:\d\d:57 \[warn\] backend mock-0 throttled: 429, cooling down for 5000 ms$/,
  );
});

test.each(['', 'anything', '{"not": "an access line"}', '{broken', '2026/11/26 no level'])(
  'leaves any other line unchanged: %j',
  (line) => {
    expect(readable(line)).toBe(line);
  },
);
