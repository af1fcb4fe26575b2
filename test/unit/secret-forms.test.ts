/** How documents write a secret: GATEWAY_SECRETS and the source of the secret decide, and each process has its own syntax. */
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { APISIX, COLLECTOR } from '../../compiler/emit/encodings.ts';
import { toJson } from '../../compiler/emit/json.ts';
import { ModelSecret, type SecretsMode } from '../../compiler/model/secret.ts';
import { Secret } from '../../compiler/settings/secret.ts';

const FILE = '/run/secrets/key';
const VALUE = 'a$value';

test.each<[mode: SecretsMode, file: string | undefined, apisix: string, collector: string]>([
  ['reference', undefined, '$env://KEY', '${env:KEY}'],
  ['reference', FILE, '$secret://file/settings/KEY', `\${file:${FILE}}`],
  ['inline', undefined, VALUE, 'a$$value'],
  ['inline', FILE, VALUE, 'a$$value'],
  ['redacted', undefined, '[redacted]', '[redacted]'],
  ['redacted', FILE, '[redacted]', '[redacted]'],
])(
  'with GATEWAY_SECRETS %s and file %s APISIX reads %s and the collector %s',
  (mode, file, apisix, collector) => {
    const secret = new ModelSecret(new Secret('KEY', VALUE, file), mode);
    expect(toJson({ secret }, APISIX)).toBe(`{"secret": "${apisix}"}`);
    expect(toJson([secret], COLLECTOR)).toBe(`["${collector}"]`);
  },
);

test.each<SecretsMode>(['reference', 'inline', 'redacted'])(
  'no conversion to text shows a secret in mode %s',
  (mode) => {
    const secret = new ModelSecret(new Secret('KEY', VALUE, FILE), mode);
    expect(`${secret} ${JSON.stringify({ secret })} ${inspect({ secret })}`).not.toContain(VALUE);
  },
);
