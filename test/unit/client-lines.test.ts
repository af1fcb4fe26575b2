/** The schema here and the running gateway both decide which client lines are valid: both must agree on the same cases. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readDocument } from '../../compiler/output/check.ts';
import { errorsOf } from '../../compiler/output/document-errors.ts';

type Case = readonly [what: string, client: object, isValid: boolean];

const cases = JSON.parse(
  readFileSync(join(import.meta.dirname, '../lua/client_line_cases.json'), 'utf8'),
) as readonly Case[];

const PREFIX = '# genai-gateway client: ';

test.each(cases)('the schema decides as the gateway does on a client with %s', (_, client, isValid) => {
  const about = errorsOf('apisix.yaml', { clients: [client] }).filter(({ instancePath }) =>
    instancePath.startsWith('/clients'),
  );
  expect(about.length === 0).toBe(isValid);
});

describe('client comments in a document', () => {
  const read = (...lines: string[]) => readDocument('apisix.yaml', [...lines, '#END', ''].join('\n'));

  test('are read as its list `clients`', async () => {
    expect(await read('routes: []', `${PREFIX}{"name": "a"}`, '# more', `${PREFIX}5`)).toEqual({
      document: { routes: [], clients: [{ name: 'a' }, 5] },
    });
    expect(await read('routes: []')).toEqual({ document: { routes: [] } });
  });

  test('are ignored in documents other than apisix.yaml', async () => {
    expect(await readDocument('config.yaml', `a: 1\n${PREFIX}{"name": "a"}\n`)).toEqual({
      document: { a: 1 },
    });
  });

  test('are reported by line number, without their content, when they are not JSON', async () => {
    expect(await read('routes: []', `${PREFIX}{"name": "a", "key": "secret`)).toEqual({
      reason: 'line 2: the client is not a JSON object',
    });
  });

  test('cannot be written as a YAML key `clients`', async () => {
    expect(await read('clients: []')).toEqual({ reason: expect.stringContaining('clients is no key there') });
  });
});
