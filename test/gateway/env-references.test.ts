/** Keys with any characters reach APISIX unchanged, both by reference through its environment and inline through its YAML. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Apisix,
  CONTAINER_TIMEOUT_MS,
  cannotRunGatewayTests,
  PORTS,
  startApisix,
} from '../support/apisix.ts';
import { compileVariables, type Scenario } from '../support/scenarios.ts';

const PRINTABLE = Array.from({ length: 0x7f - 0x21 }, (_, index) => String.fromCharCode(0x21 + index)).join(
  '',
);

const KEYS = {
  'double quotes': '"quoted" in 0123456789',
  'single quotes': "it's quoted 'so' 0123456789",
  'a backslash': 'back\\slash\\n\\u0041\\ 0123456789',
  'a dollar sign': 'dollar$HOME${PATH}$$1 0123456789',
  'a hash': 'hash #no comment#END 0123456789',
  'inner spaces': 'one two  three   0123456789',
  'what YAML would take for something else': '{a: [1, *b], &c !!str |-} 0123456789',
  'what looks like a reference inside': 'x$env://GATEWAY_CLIENT_KEY_0',
  'every printable character': PRINTABLE,
} as const;

const BACKEND = {
  AZURE_OPENAI_ENDPOINT_0: 'https://a.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'backend-key-0123456789',
};

/** One client for each key, named after its index. */
function clientVariables(keys: readonly string[]): Record<string, string> {
  const variables = keys.flatMap((key, index) => [
    [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`],
    [`GATEWAY_CLIENT_KEY_${index}`, key],
  ]);
  return { ...BACKEND, ...Object.fromEntries(variables) };
}

let requests = 0;

/** The client that APISIX identifies by a key, or the status of its error. No backend can be reached. */
async function clientOf(apisix: Apisix, key: string): Promise<unknown> {
  const request = String(requests++);
  const { status } = await apisix.request(PORTS.proxy, '/openai/v1/models', {
    headers: { 'api-key': key, 'x-test-request': request },
  });
  return status === 502 || status === 503 ? apisix.clientOf(request) : status;
}

const skipped = cannotRunGatewayTests('keys in the stock APISIX image');

describe.skipIf(skipped)('keys by reference', () => {
  const keys: Record<string, string> = {
    ...KEYS,
    'a template of APISIX': '${{GATEWAY_CLIENT_NAME_0}} ${{NONE:=x}}',
  };
  const missing = Object.keys(keys).length;
  let scenario: Scenario;
  let apisix: Apisix;

  beforeAll(async () => {
    scenario = await compileVariables(
      clientVariables([...Object.values(keys), 'key that APISIX never gets']),
    );
    const { [`GATEWAY_CLIENT_KEY_${missing}`]: _, ...environment } = scenario.environment;
    apisix = await startApisix({ ...scenario, environment, logsClients: true });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => apisix?.stop());

  test('do not appear in the rendered file', () => {
    for (const key of Object.values(keys))
      expect(scenario.documents['apisix.yaml']).not.toContain(JSON.stringify(key));
  });

  test.each(Object.keys(keys).map((shape, index) => [shape, index] as const))(
    'authenticate when they contain %s',
    async (shape, index) => {
      expect(await clientOf(apisix, keys[shape] ?? '')).toBe(`client-${index}`);
    },
  );

  test('cannot be replaced by their reference', async () => {
    expect(await clientOf(apisix, '$env://GATEWAY_CLIENT_KEY_0')).toBe(401);
    expect(await clientOf(apisix, '$ENV://GATEWAY_CLIENT_KEY_0')).toBe(401);
  });

  test('authenticate nobody when their variable is missing, neither as themselves nor as the reference', async () => {
    expect(scenario.documents['apisix.yaml']).toContain(`"$env://GATEWAY_CLIENT_KEY_${missing}"`);
    expect(await clientOf(apisix, 'key that APISIX never gets')).toBe(401);
    expect(await clientOf(apisix, `$env://GATEWAY_CLIENT_KEY_${missing}`)).toBe(401);
  });
});

describe.skipIf(skipped)('keys written inline', () => {
  let apisix: Apisix;

  beforeAll(async () => {
    const scenario = await compileVariables({
      ...clientVariables(Object.values(KEYS)),
      GATEWAY_SECRETS: 'inline',
    });
    expect(scenario.environment).toEqual({});
    apisix = await startApisix({ ...scenario, logsClients: true });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => apisix?.stop());

  test.each(Object.entries(KEYS).map(([shape, key], index) => [shape, key, index] as const))(
    'authenticate when they contain %s',
    async (_, key, index) => {
      expect(await clientOf(apisix, key)).toBe(`client-${index}`);
    },
  );
});
