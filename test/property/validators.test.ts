/** What validates documents at a start answers yes or no, in code from which the errors are taken out: it must agree with ajv. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { apisix, collector, config } from 'virtual:validators';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DOCUMENT_NAMES, type DocumentName } from '../../compiler/emit/emit.ts';
import { readDocument } from '../../compiler/output/check.ts';
import { errorsOf } from '../../compiler/output/document-errors.ts';
import { goldenFolder, goldenScenarios } from '../support/golden.ts';

const IS_VALID = { 'apisix.yaml': apisix, 'config.yaml': config, 'otel-collector.yaml': collector };

interface Rendered {
  readonly name: DocumentName;
  readonly document: unknown;
}

const rendered: Rendered[] = [];
for (const scenario of goldenScenarios()) {
  for (const name of DOCUMENT_NAMES) {
    const path = join(goldenFolder(scenario), 'expected', name);
    if (!existsSync(path)) continue;
    const read = await readDocument(name, readFileSync(path, 'utf8'));
    if ('document' in read) rendered.push({ name, document: read.document });
  }
}

type Parent = Record<string, unknown> | unknown[];

/** Every member of every object and list, as its parent and key. */
function placesOf(value: unknown): { parent: Parent; key: string | number }[] {
  if (typeof value !== 'object' || value === null) return [];
  const parent = value as Parent;
  const keys = Array.isArray(parent) ? [...parent.keys()] : Object.keys(parent);
  return keys.flatMap((key) => [{ parent, key }, ...placesOf(parent[key as keyof Parent])]);
}

/** Changes a place of a document, which is a copy. */
const CHANGES: readonly ((parent: Parent, key: string | number, other: unknown) => void)[] = [
  (parent, key) => {
    if (Array.isArray(parent)) parent.splice(Number(key), 1);
    else delete parent[key];
  },
  (parent, key, other) => {
    (parent as Record<string | number, unknown>)[key] = other;
  },
  (parent, key, other) => {
    if (Array.isArray(parent)) parent.push(parent[Number(key)]);
    else parent[`${key}x`] = other;
  },
  (parent, key, other) => {
    if (!Array.isArray(parent))
      parent[['type', 'key', 'hash_on', 'enabled', 'id', 'value'][String(key).length % 6] as string] = other;
  },
];

const VALUES = [
  '',
  'x',
  '1s',
  'http://a',
  0,
  1,
  -1,
  1.5,
  1e9,
  true,
  false,
  null,
  [],
  ['x'],
  [1, 1],
  {},
  { x: 1 },
];

test('the validators of a start agree with ajv on documents with any change', () => {
  expect(rendered.length).toBeGreaterThan(50);
  const seen = { valid: 0, invalid: 0 };
  for (const { name, document } of rendered) expect(IS_VALID[name](document), name).toBe(true);
  fc.assert(
    fc.property(
      fc.constantFrom(...rendered),
      fc.array(
        fc.record({
          place: fc.nat(),
          change: fc.constantFrom(...CHANGES),
          value: fc.constantFrom(...VALUES),
        }),
        { minLength: 1, maxLength: 3 },
      ),
      ({ name, document }, changes) => {
        const changed = structuredClone(document);
        for (const { place, change, value } of changes) {
          const places = placesOf(changed);
          const at = places[place % places.length];
          if (at) change(at.parent, at.key, structuredClone(value));
        }
        const errors = errorsOf(name, changed);
        expect(IS_VALID[name](changed), JSON.stringify(errors)).toBe(errors.length === 0);
        seen[errors.length === 0 ? 'valid' : 'invalid']++;
      },
    ),
    { numRuns: 5000 },
  );
  expect(seen.valid).toBeGreaterThan(100);
  expect(seen.invalid).toBeGreaterThan(1000);
});
