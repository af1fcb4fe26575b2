import { describe, expect, test } from 'vitest';
import * as types from '../../compiler/settings/types.ts';

const parse = <T>(type: types.ValueType<T>, text: string): T | 'refused' => {
  const result = type.parse(text);
  return 'value' in result ? result.value : 'refused';
};

describe.each<[string, types.ValueType<unknown>, Record<string, unknown>]>([
  [
    'boolean',
    types.boolean(),
    {
      true: true,
      TRUE: true,
      '1': true,
      yes: true,
      On: true,
      false: false,
      '0': false,
      no: false,
      OFF: false,
      maybe: 'refused',
      '2': 'refused',
      enabled: 'refused',
      '': 'refused',
    },
  ],
  [
    'integer',
    types.integer(0, 100),
    {
      '0': 0,
      '7': 7,
      '100': 100,
      '101': 'refused',
      '-1': 'refused',
      '1.5': 'refused',
      '1.0': 'refused',
      '007': 'refused',
      '+5': 'refused',
      '1e2': 'refused',
      '0x1F': 'refused',
      '1_000': 'refused',
      '１': 'refused',
      abc: 'refused',
    },
  ],
  [
    'negative integer',
    types.integer(-1),
    { '-1': -1, '-0': 'refused', '-2': 'refused', '9007199254740993': 'refused' },
  ],
  [
    'number',
    types.number({ exclusiveMin: 0, max: 10 }),
    {
      '0.5': 0.5,
      '10': 10,
      '0': 'refused',
      '0.0': 'refused',
      '10.1': 'refused',
      '.5': 'refused',
      '1.': 'refused',
      '1e1': 'refused',
      NaN: 'refused',
    },
  ],
  [
    'duration',
    types.duration(),
    {
      '30': 30_000,
      '500ms': 500,
      '30s': 30_000,
      '5m': 300_000,
      '1h': 3_600_000,
      '0': 'refused',
      '1m30s': 'refused',
      '1.5s': 'refused',
      '-1s': 'refused',
      '30 s': 'refused',
      '25h': 'refused',
    },
  ],
  ['duration with zero', types.duration({ min: 0 }), { '0': 0, '0s': 0 }],
  [
    'size',
    types.size(1024, 1024 ** 3),
    {
      '1024': 1024,
      '512k': 524_288,
      '100m': 104_857_600,
      '1G': 1_073_741_824,
      '2g': 'refused',
      '1': 'refused',
      '100mb': 'refused',
      '1.5m': 'refused',
      '0': 'refused',
    },
  ],
  [
    'one of',
    types.oneOf(['high', 'low'], { lowest: 'low' }),
    {
      high: 'high',
      LOW: 'low',
      lowest: 'low',
      middle: 'refused',
      __proto__: 'refused',
      constructor: 'refused',
    },
  ],
  [
    'list',
    types.list(types.integer(1, 9)),
    {
      '1,2': [1, 2],
      ' 1 , 2 ': [1, 2],
      '1,,2': 'refused',
      '1,': 'refused',
      '1,1': 'refused',
      '1,x': 'refused',
    },
  ],
  [
    'address range',
    types.cidr(),
    {
      '10.0.0.0/8': '10.0.0.0/8',
      '::1': '::1',
      'fd00::/8': 'fd00::/8',
      '10.0.0.0/33': 'refused',
      '10.0.0.0/08': 'refused',
      '10.0.0/8': 'refused',
      'fe80::1%eth0': 'refused',
      'example.com': 'refused',
      '1.2.3.4/5/6': 'refused',
    },
  ],
  [
    'url',
    types.url(),
    {
      'https://a.example/b': 'https://a.example/b',
      'ftp://a': 'refused',
      'https:/a': 'refused',
      'https:\\\\a': 'refused',
      'https://a b': 'refused',
      'https://u@a': 'refused',
      'https://a#b': 'refused',
      'https://@a': 'refused',
      'https://a,b': 'refused',
      'https://$A.example': 'refused',
      'https://a?b=c': 'refused',
      'a.example': 'refused',
      'https://': 'refused',
    },
  ],
  [
    'host and port',
    types.hostPort(),
    {
      'localhost:4318': 'localhost:4318',
      '[::1]:4318': '[::1]:4318',
      'a:0': 'refused',
      'a:65536': 'refused',
      a: 'refused',
      'http://a:1': 'refused',
      'a:1;b': 'refused',
    },
  ],
  [
    'absolute path',
    types.absolutePath(),
    {
      '/a/b.json': '/a/b.json',
      'a/b': 'refused',
      '/a b': 'refused',
      '/a;b': 'refused',
      '/': 'refused',
      '/a\nb': 'refused',
    },
  ],
  [
    'key',
    types.apiKey(),
    {
      'a"b\\c $d\'#': 'a"b\\c $d\'#',
      é: 'refused',
      ['x'.repeat(512)]: 'x'.repeat(512),
      ['x'.repeat(513)]: 'refused',
    },
  ],
  [
    'deployment',
    types.deployment(),
    {
      'gpt-4o': { name: 'gpt-4o', backendName: 'gpt-4o' },
      'a=b': { name: 'a', backendName: 'b' },
      'a=': 'refused',
      'a=b=c': 'refused',
    },
  ],
  [
    'price',
    types.modelPrice(),
    {
      'm=2.50/10': { model: 'm', prompt: 2.5, completion: 10 },
      'm=1': 'refused',
      'm=-1/2': 'refused',
      'm=1/': 'refused',
    },
  ],
])('the type %s', (_, type, cases) => {
  test.each(Object.entries(cases))('parses %j', (text, expected) => {
    expect(parse(type, text)).toEqual(expected);
  });
});

describe('the type endpoint', () => {
  test.each<[text: string, origin: string, dropped?: string, deployment?: string]>([
    ['https://a.openai.azure.com', 'https://a.openai.azure.com'],
    ['HTTPS://A.OpenAI.azure.com/', 'https://a.openai.azure.com'],
    ['https://a.openai.azure.com:8443', 'https://a.openai.azure.com:8443'],
    ['https://a.openai.azure.com/openai', 'https://a.openai.azure.com', '/openai'],
    ['https://a.openai.azure.com/openai/v1/', 'https://a.openai.azure.com', '/openai/v1/'],
    [
      'https://a.openai.azure.com/openai/deployments/d',
      'https://a.openai.azure.com',
      '/openai/deployments/d',
      'd',
    ],
    ['https://a.openai.azure.com/?api-version=2024-10-21', 'https://a.openai.azure.com', '?api-version=…'],
  ])('parses %s', (text, origin, dropped, deployment) => {
    expect(parse(types.endpoint(), text)).toEqual({
      origin,
      insecure: false,
      ...(dropped ? { dropped } : {}),
      ...(deployment ? { deployment } : {}),
    });
  });

  test.each([
    'https://a.openai.azure.com,',
    'https://$FOO.openai.azure.com',
    'https://@a.openai.azure.com',
    'a.openai.azure.com',
    'https://a/v2',
    'https://u:p@a',
    'https://a#',
    'https://a?key=1',
    'https://a/openai/../x',
    'https://',
  ])('rejects %s', (text) => {
    expect(parse(types.endpoint(), text)).toBe('refused');
  });

  test('marks http as insecure', () => {
    expect(parse(types.endpoint(), 'http://127.0.0.1:8080')).toEqual({
      origin: 'http://127.0.0.1:8080',
      insecure: true,
    });
  });
});

test.each([
  [0, '0s'],
  [500, '500ms'],
  [1500, '1500ms'],
  [30_000, '30s'],
  [90_000, '90s'],
  [300_000, '5m'],
  [3_600_000, '1h'],
])('formatDuration writes %i milliseconds as %s', (milliseconds, text) => {
  expect(types.formatDuration(milliseconds)).toBe(text);
});
