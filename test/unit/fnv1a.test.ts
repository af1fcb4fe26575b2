import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fnv1a } from '../../compiler/emit/fnv1a.ts';

const cases = JSON.parse(
  readFileSync(new URL('../lua/fnv1a_cases.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, string>>;

/** The definition, with numbers of any size. */
function byDefinition(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, '0');
}

describe('the digest of the manifest', () => {
  test.each(Object.entries(cases))('of %j is the one that the gateway computes', (text, digest) => {
    expect(fnv1a(text)).toBe(digest);
  });

  test('follows the definition for texts of all lengths', () => {
    let text = '';
    for (let length = 0; length < 300; length++) {
      expect(fnv1a(text)).toBe(byDefinition(text));
      text += String.fromCodePoint((length * 7919) % 0xd800);
    }
  });
});
