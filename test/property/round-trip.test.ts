import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { toJson } from '../../compiler/emit/json.ts';
import { readYaml } from '../../compiler/output/check.ts';
import { readRendered } from '../../compiler/output/read-rendered.ts';
import { goodEnvironment, HOSTILE_TEXTS } from '../support/arbitraries.ts';

const plain = { text: (value: string) => value, secret: () => '' };

/** Reads with the full YAML 1.1 parser, and holds the reader of our own documents against it. */
const read = async (text: string): Promise<unknown> => {
  const parsed = await readYaml(text);
  if ('reason' in parsed) throw new Error(`${parsed.reason}\n${text}`);
  const quick = readRendered(text);
  if (quick) expect(quick.document).toEqual(parsed.document);
  return parsed.document;
};
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/;

test.each([...HOSTILE_TEXTS])('YAML 1.1 reads %j back as it was', async (text) => {
  expect(toJson(text, plain)).not.toMatch(UNSAFE);
  expect(await read(`value: ${toJson(text, plain)}\n`)).toEqual({ value: text.toWellFormed() });
  expect(await read(`- ${toJson({ [text]: [text] }, plain)}\n`)).toEqual([
    { [text.toWellFormed()]: [text.toWellFormed()] },
  ]);
});

test('YAML 1.1 reads any JSON value back as it was', async () => {
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

/** Undoes what the collector undoes: `$$` is a dollar sign. */
const unescaped = (value: unknown): unknown => JSON.parse(JSON.stringify(value).replaceAll('$$', '$'));

interface Service {
  readonly plugins: {
    readonly 'ai-proxy-multi': { readonly instances: readonly object[] };
    readonly 'ai-rate-limiting': { readonly rejected_msg: string };
  };
}

test('what is emitted reads back as the model', async () => {
  await fc.assert(
    fc.asyncProperty(goodEnvironment, async (environment) => {
      const { diagnostics, documents, model } = await compile({ environment, envFiles: [] });
      if (!documents || !model)
        throw new Error(JSON.stringify(diagnostics.filter(({ severity }) => severity === 'error')));
      const inline = model.server.secrets === 'inline';
      const apisix = (await read(documents['apisix.yaml'])) as {
        services: [Service];
        consumers: object[];
        plugin_metadata: object[];
      };
      for (const text of Object.values(documents)) expect(readRendered(text)).toBeDefined();
      const { plugins } = apisix.services[0];
      expect(plugins['ai-proxy-multi'].instances).toEqual(
        model.backends.map(({ name, origin, priority, weight, credential }) => {
          if (credential.kind !== 'api-key') throw new Error('only keys are generated');
          const key = inline ? credential.key.reveal() : `$env://${credential.key.variable}`;
          return {
            name,
            provider: 'azure-openai',
            priority,
            weight,
            auth: { header: { 'api-key': key } },
            override: { endpoint: origin },
          };
        }),
      );
      expect(plugins['ai-rate-limiting'].rejected_msg).toBe(model.limits.rejection.message);
      expect(apisix.consumers).toEqual(
        model.clients.map(({ name, key, lane }) => ({
          username: name,
          plugins: { 'azure-openai-auth': { key: inline ? key.reveal() : `$env://${key.variable}`, lane } },
        })),
      );
      expect(apisix.plugin_metadata[0]).toMatchObject({
        resource: { 'service.name': model.telemetry.serviceName },
      });
      const collector = unescaped(await read(documents['otel-collector.yaml']));
      expect(collector).toMatchObject({
        exporters: {
          'prometheusremotewrite/azure': {
            external_labels: {
              cluster: model.telemetry.clusterName,
              environment: model.telemetry.resource.environment,
            },
          },
        },
      });
    }),
    { numRuns: 300 },
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
])('the reader of our own documents leaves %j to the full parser: %s', (text) => {
  expect(readRendered(`${text}\n`)).toBeUndefined();
});
