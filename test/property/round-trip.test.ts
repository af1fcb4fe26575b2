import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { toJson } from '../../compiler/emit/json.ts';
import { readDocument, readYaml } from '../../compiler/output/check.ts';
import { readRendered } from '../../compiler/output/read-rendered.ts';
import type { Secret } from '../../compiler/settings/secret.ts';
import { goodEnvironment, HOSTILE_TEXTS } from '../support/arbitraries.ts';

const plain = { text: (value: string) => value, secret: () => '' };

/** Reads with the full YAML 1.1 parser, and checks that the quick reader of rendered documents returns the same. */
const read = async (text: string): Promise<unknown> => {
  const parsed = await readYaml(text);
  if ('reason' in parsed) throw new Error(`${parsed.reason}\n${text}`);
  const quick = readRendered(text);
  if (quick) expect(quick.document).toEqual(parsed.document);
  return parsed.document;
};
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/;

test.each([...HOSTILE_TEXTS])('YAML 1.1 reads the text %j back unchanged', async (text) => {
  expect(toJson(text, plain)).not.toMatch(UNSAFE);
  expect(await read(`value: ${toJson(text, plain)}\n`)).toEqual({ value: text.toWellFormed() });
  expect(await read(`- ${toJson({ [text]: [text] }, plain)}\n`)).toEqual([
    { [text.toWellFormed()]: [text.toWellFormed()] },
  ]);
});

test('YAML 1.1 reads any JSON value back unchanged', async () => {
  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.boolean(),
      fc.integer(),
      fc.integer({ min: 0, max: 10 ** 9 }).map((each) => each / 1e12),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.string({ unit: 'binary', maxLength: 10 }), tie('value'), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
    ),
  })).value;
  await fc.assert(
    fc.asyncProperty(value, async (each) => {
      const wellFormed = JSON.parse(JSON.stringify(each), (_, part) =>
        typeof part === 'string' ? part.toWellFormed() : part,
      );
      expect(await read(`a:\n  - ${toJson(wellFormed, plain)}\n`)).toEqual({ a: [wellFormed] });
    }),
    { numRuns: 1000 },
  );
});

/** Replaces `$$` by `$`, as the collector does when it reads its configuration. */
const unescaped = (value: unknown): unknown => JSON.parse(JSON.stringify(value).replaceAll('$$', '$'));

/** The object without its undefined members, because JSON has none. */
const written = (object: object): object => JSON.parse(JSON.stringify(object));

interface Rendered {
  readonly services: [{ readonly plugins: Readonly<Record<string, unknown>> }];
  readonly clients: object[];
}

test('the emitted documents read back as the model', async () => {
  await fc.assert(
    fc.asyncProperty(goodEnvironment, async (environment) => {
      const { diagnostics, documents, model } = await compile({ environment, envFiles: [] });
      if (!documents || !model) {
        throw new Error(JSON.stringify(diagnostics.filter(({ severity }) => severity === 'error')));
      }
      for (const text of Object.values(documents)) expect(readRendered(text)).toBeDefined();
      const secret = (each: Secret) =>
        model.server.secrets === 'inline' ? each.reveal() : `$env://${each.variable}`;
      await read(documents['apisix.yaml']);
      const { document } = (await readDocument('apisix.yaml', documents['apisix.yaml'])) as {
        document: Rendered;
      };
      const { services, clients: lines } = document;
      const [{ plugins }] = services;
      const { backends, clients, failover, limits, balancing, telemetry } = model;

      expect(plugins['ai-proxy-multi']).toEqual(
        written({
          balancer: { algorithm: balancing.algorithm, hash_on: balancing.hash?.on },
          fallback_strategy: [
            ...(failover.retryStatuses.some((each) => each < 500) ? ['http_429'] : []),
            ...(failover.retryStatuses.some((each) => each >= 500) ? ['http_5xx'] : []),
          ],
          max_retries: failover.maxAttempts === undefined ? undefined : failover.maxAttempts - 1,
          logging: { summaries: true, payloads: false },
          keepalive_pool: 256,
          instances: backends.map(({ name, origin, priority, weight, credential }) => ({
            name,
            provider: 'azure-openai',
            priority,
            weight,
            auth: credential.kind === 'api-key' ? { header: { 'api-key': secret(credential.key) } } : {},
            override: { endpoint: origin },
          })),
        }),
      );

      const details = backends
        .map(({ name, region, deployments, credential }) => ({
          name,
          identity:
            credential.kind === 'entra'
              ? { resource: credential.resource, client_id: credential.clientId }
              : undefined,
          region,
          deployments:
            deployments && Object.fromEntries(deployments.map((each) => [each.name, each.backendName])),
        }))
        .filter(({ identity, region, deployments }) => identity || region !== undefined || deployments);
      expect(plugins['azure-openai-proxy']).toMatchObject(
        written({
          timeouts: { read_ms: failover.timeouts.read },
          retry_statuses: failover.retryStatuses,
          ...(details.length > 0 ? { backends: details } : {}),
        }),
      );

      expect(plugins['ai-rate-limiting']).toMatchObject({
        rejected_msg: limits.rejection.message,
        rules: expect.arrayContaining([
          expect.objectContaining({
            count: limits.lanes?.high,
            time_window: limits.lanes?.window,
            header_prefix: 'high',
          }),
          expect.objectContaining({
            count: limits.lanes?.low,
            time_window: limits.lanes?.window,
            header_prefix: 'low',
          }),
        ]),
      });
      const { rules } = plugins['ai-rate-limiting'] as {
        rules: { header_prefix: string; time_window: number }[];
      };
      expect(rules.map((each) => each.time_window)).toEqual(
        rules.map((each) => each.time_window).toSorted((a, b) => b - a),
      );
      const prefixes = rules.map((each) => each.header_prefix);
      expect(prefixes.includes('client-day')).toBe(clients.some((each) => each.tokensPerDay !== undefined));
      expect(prefixes.includes('client-minute')).toBe(
        clients.some((each) => each.tokensPerMinute !== undefined),
      );
      expect('limit-count' in plugins).toBe(clients.some((each) => each.requestsPerMinute !== undefined));

      expect(lines).toEqual(
        clients.map(({ name, key, secondaryKey, ...client }) =>
          written({
            name,
            key: secret(key),
            secondary_key: secondaryKey && secret(secondaryKey),
            lane: client.lane,
            tokens_per_minute: client.tokensPerMinute,
            tokens_per_day: client.tokensPerDay,
            requests_per_minute: client.requestsPerMinute,
          }),
        ),
      );

      expect(plugins).toMatchObject({
        'azure-openai-traces': {
          sample_rate: telemetry.traces?.sampleRate,
          resource: { 'service.name': telemetry.serviceName },
        },
      });
      expect(unescaped(await read(documents['otel-collector.yaml']))).toMatchObject({
        exporters: {
          'prometheus_remote_write/azure': {
            external_labels: { cluster: telemetry.clusterName, environment: telemetry.resource.environment },
          },
        },
      });
    }),
    { numRuns: 400 },
  );
});

test.each([
  ['a: b', 'a plain text'],
  ['a:\n', 'a key without a value'],
  ['a: 1\na: 2', 'a key twice'],
  ['yes: 1', 'a word of YAML as key'],
  ['1: 2', 'a number as key'],
  ['a: [1,', 'half a list'],
  ['a: "\\/"', 'an escape YAML does not know'],
  ['a: "\\ud83d\\ude00"', 'a pair of surrogates'],
  ['a: "\u0085"', 'a line break of YAML'],
  ['a:\n  b: 1\n   c: 2', 'an indent that fits nothing'],
  ['a: &x 1', 'an anchor'],
  ['a: !!str 1', 'a tag'],
  ['a: |\n  b', 'a block of text'],
  ['- a: 1\n b: 2', 'an item that is cut'],
  ['a:\tb', 'a tab'],
  ["a: 'b'", 'single quotes'],
  ['a: 0x1F', 'a number that is not JSON'],
  ['a: 012', 'an octal number'],
  ['{"a": 1}', 'a flow at the top'],
  ['a: 1 # b', 'a comment behind a value'],
])('the quick reader of rendered documents leaves %j to the full parser: %s', (text) => {
  expect(readRendered(`${text}\n`)).toBeUndefined();
});
