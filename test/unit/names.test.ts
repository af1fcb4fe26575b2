import { expect, test } from 'vitest';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import { nearestName, resolveName } from '../../compiler/settings/names.ts';

test.each(listSettings().map(({ name }) => name))('%s is found by its name', (name) => {
  const verdict = resolveName(name.replace(/_N$/, '_42'));
  expect(verdict.is).toBe('setting');
});

test('every declaration has a description, a default and a valid example', () => {
  for (const { name, declaration } of listSettings()) {
    expect(declaration.description, name).toMatch(/^[A-Z].*\.$/);
    expect(declaration.output.length === 0 || declaration.outputText === undefined, name).toBe(true);
    expect(declaration.default !== undefined || declaration.defaultText !== undefined, name).toBe(true);
    if (!declaration.sensitive)
      expect('value' in declaration.type.parse(declaration.example), `${name}=${declaration.example}`).toBe(
        true,
      );
  }
});

test.each([
  ['AZURE_OPENAI_KEY_00', { is: 'wrong-index', canonical: 'AZURE_OPENAI_KEY_0' }],
  ['AZURE_OPENAI_KEY_+1', { is: 'wrong-index', canonical: 'AZURE_OPENAI_KEY_1' }],
  ['AZURE_OPENAI_KEY_10000', { is: 'wrong-index' }],
  ['azure_openai_key_0', { is: 'wrong-case', declared: 'AZURE_OPENAI_KEY_0' }],
  ['lb_alg', { is: 'wrong-case', declared: 'LB_ALG' }],
  ['AZURE_OPENAI_ENDPIONT_0', { is: 'unknown', nearest: 'AZURE_OPENAI_ENDPOINT_0' }],
  ['AZURE_OPENAI_ENDPOINT0', { is: 'unknown', nearest: 'AZURE_OPENAI_ENDPOINT_0' }],
  ['GATEWAY_CLIENT_KEY_SECONDRY_3', { is: 'unknown', nearest: 'GATEWAY_CLIENT_KEY_SECONDARY_3' }],
  ['ENABLE_CORSS', { is: 'unknown', nearest: 'ENABLE_CORS' }],
  ['ENABLE_SOMETHING_ELSE', { is: 'unknown' }],
  ['AZURE_OPENAI_KEY_00_FILE', { is: 'wrong-index', canonical: 'AZURE_OPENAI_KEY_0_FILE' }],
  ['azure_openai_key_1_file', { is: 'wrong-case', declared: 'AZURE_OPENAI_KEY_1_FILE' }],
  ['LB_ALGORITHM', { is: 'unknown', nearest: 'LB_ALG' }],
  [`ENABLE_${'1'.repeat(100_000)}X`, { is: 'unknown' }],
  ['GATEWAY_SERVICE_HOST', { is: 'foreign' }],
  ['PROMETHEUS_PORT_9090_TCP_ADDR', { is: 'foreign' }],
  ['GATEWAY_PORT', { is: 'foreign' }],
  ['AZURE_OPENAI_API_KEY', { is: 'foreign' }],
  ['AZURE_OPENAI_API_VERSION', { is: 'foreign' }],
  ['APISIX_STAND_ALONE', { is: 'foreign' }],
  ['OTEL_EXPORTER_OTLP_HEADERS', { is: 'foreign' }],
  ['AZURE_CLIENT_SECRET', { is: 'foreign' }],
  ['PATH', { is: 'foreign' }],
  ['path', { is: 'foreign' }],
  ['__proto__', { is: 'foreign' }],
  ['toString', { is: 'foreign' }],
  ['AZURE_OPENAI_toString_0', { is: 'foreign' }],
])('the name %s is resolved', (name, verdict) => {
  expect(resolveName(name)).toEqual(verdict);
});

test('a _FILE variable exists for a secret, and for no other setting', () => {
  expect(resolveName('AZURE_OPENAI_KEY_7_FILE')).toMatchObject({
    is: 'secret-file',
    known: { name: 'AZURE_OPENAI_KEY_7' },
  });
  expect(resolveName('LB_ALG_FILE')).toMatchObject({ is: 'unknown', nearest: 'LB_ALG' });
  expect(resolveName('AZURE_FEDERATED_TOKEN_FILE').is).toBe('setting');
});

test('a _FILE variable is rejected for a secret that the gateway reads at run time', () => {
  for (const name of ['IDENTITY_HEADER', 'MSI_SECRET']) {
    expect(resolveName(`${name}_FILE`)).toMatchObject({ is: 'no-secret-file', known: { name } });
  }
  expect(resolveName('MSI_ENDPOINT_FILE')).toEqual({
    is: 'unknown',
    nearest: 'MSI_ENDPOINT',
    note: 'the gateway reads MSI_ENDPOINT at run time',
  });
});

test('a suggested name keeps the index of the misspelt one', () => {
  expect(nearestName('AZURE_OPENAI_WIEGHT_12')).toBe('AZURE_OPENAI_WEIGHT_12');
});
