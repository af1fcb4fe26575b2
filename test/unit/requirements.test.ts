import { expect, test } from 'vitest';
import { textOf } from '../support/repository.ts';
import { NEEDS, requiredBy } from '../support/requirements.ts';

test('GENAI_GATEWAY_TESTS requires everything or the listed programs', () => {
  expect(requiredBy(undefined)).toEqual(new Set());
  expect(requiredBy('')).toEqual(new Set());
  expect(requiredBy('required')).toEqual(new Set(NEEDS));
  expect(requiredBy('apisix')).toEqual(new Set(['apisix']));
  expect(requiredBy('apisix, prometheus')).toEqual(new Set(['apisix', 'prometheus']));
});

test.each(['yes', 'true', 'apisix,docker', 'required,apisix', 'apisix,,redis', 'APISIX'])(
  'GENAI_GATEWAY_TESTS=%s is an error that names the accepted values',
  (value) => {
    expect(() => requiredBy(value)).toThrow(/GENAI_GATEWAY_TESTS: unknown value ".*"\. Write required/);
    expect(() => requiredBy(value)).toThrow(NEEDS.join(', '));
  },
);

test('CONTRIBUTING.md lists everything that can be required', () => {
  const [, named = ''] = /^`GENAI_GATEWAY_TESTS=required`(.*?)\n\n/ms.exec(textOf('CONTRIBUTING.md')) ?? [];
  const [, names = ''] = /The names are (.*?)\./s.exec(named) ?? [];
  expect([...names.matchAll(/`(\w+)`/g)].map(([, name]) => name)).toEqual(NEEDS);
});
