/** Tables in docs/ about Lua, rendered files or the mock: every row exists in the code, and everything in the code has a row. */
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ANSWERS } from '../../compiler/mock/answers.ts';
import { startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { documentedMetrics } from '../support/metrics-text.ts';
import { repositoryFiles, textOf } from '../support/repository.ts';
import { compileVariables } from '../support/scenarios.ts';

const section = (page: string, heading: string): string =>
  textOf(page)
    .split(/^## /m)
    .find((each) => each.startsWith(`${heading}\n`)) ?? '';

/** The names in code style in the first cell of each table row of a text. */
const firstCells = (text: string): string[] =>
  [...text.matchAll(/^\| (`[^|]+`) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
  );

const sorted = (names: Iterable<string>) => [...names].sort();

describe('the documented metrics', () => {
  const PREFIX = 'apisix_';
  const source = textOf('lua-plugins/gateway/metrics.lua');
  const [, list = ''] = /^local METRICS = \{\n(.*?)^\}/ms.exec(source) ?? [];
  const labelsIn = (text: string): string[] => {
    const [, labels = ''] = /labels = \{([^}]*)\}/s.exec(text) ?? [];
    return [...labels.matchAll(/"(\w+)"/g)].map(([, label = '']) => label);
  };
  const textIn = (text: string, field: string): string =>
    new RegExp(`\\b${field} = "(\\w+)"`).exec(text)?.[1] ?? '';
  const counted = list
    .split(/^ {4}\{ (?=key = )/m)
    .slice(1)
    .map((each) => ({
      name: PREFIX + textIn(each, 'name'),
      type: textIn(each, 'type'),
      labels: labelsIn(each),
    }));
  const gauges = [...source.matchAll(/^local [A-Z_]+ = \{ (name = .*?)\}$/gms)].map(([, each = '']) => ({
    name: PREFIX + textIn(each, 'name'),
    type: 'gauge',
    labels: labelsIn(each),
  }));
  const [, leftOut = ''] =
    /^_M\.LEFT_OUT = "(\w+)"$/m.exec(textOf('lua-plugins/genai/telemetry/series.lua')) ?? [];
  const own = [...counted, ...gauges, { name: PREFIX + leftOut, type: 'counter', labels: ['metric'] }];
  const ofRecords = firstCells(section('docs/apim-records.md', 'Delivery')).filter((name) =>
    name.startsWith(PREFIX),
  );
  /** Metrics of APISIX itself. test/gateway/attempt-metrics.test.ts compares them with a running gateway. */
  const NATIVE = /^apisix_(?:node_info|http_requests_total|nginx_\w+|shared_dict_\w+)$/;

  test('in docs/metrics.md are those of the source, with the same types and labels', () => {
    expect(counted.length).toBeGreaterThan(20);
    expect(gauges.length).toBeGreaterThan(4);
    const byName = (all: readonly { name: string; type: string; labels: readonly string[] }[]) =>
      Object.fromEntries(all.map(({ name, type, labels }) => [name, { type, labels: sorted(labels) }]));
    expect(byName(documentedMetrics().filter(({ name }) => !NATIVE.test(name)))).toEqual(
      byName(own.filter(({ name }) => !ofRecords.includes(name))),
    );
  });

  test('in docs/apim-records.md are those of the source', () => {
    expect(sorted(ofRecords)).toEqual(
      sorted(own.flatMap(({ name }) => (name.startsWith('apisix_genai_apim_') ? [name] : []))),
    );
  });
});

describe('the documented columns of the Log Analytics table', () => {
  const documented = Object.fromEntries(
    [...section('docs/apim-records.md', 'Columns').matchAll(/^\| (`[^|]+`) \| (\w+) \|/gm)].flatMap(
      ([, names = '', type = '']) => firstCells(`| ${names} |`).map((name) => [name, type]),
    ),
  );

  test('in docs/apim-records.md are the fields that the gateway sends', () => {
    const [, record = ''] =
      /^function _M\.of\(seen, conf\)\n(.*?)^end$/ms.exec(
        textOf('lua-plugins/genai/telemetry/apim_record.lua'),
      ) ?? [];
    const sent = [...record.matchAll(/^ {8}(\w+) = /gm)].map(([, name = '']) => name);
    expect(sorted(sent)).toEqual(sorted(Object.keys(documented)));
  });

  test('in docs/apim-records.md are the columns of the Terraform table, with their types', () => {
    const columns = JSON.parse(textOf('deploy/azure/modules/gateway-logs/columns.json')) as {
      name: string;
      type: string;
    }[];
    expect(Object.fromEntries(columns.map(({ name, type }) => [name, type]))).toEqual(documented);
  });
});

test('docs/metrics.md lists exactly the outcomes that an attempt can have', () => {
  const literals = (text: string, pattern: RegExp) =>
    [...text.matchAll(pattern)].map(([, each = '']) => each);
  const ended = literals(textOf('lua-plugins/gateway/request/attempts.lua'), /^_M\.[A-Z_]+ = "(\w+)"$/gm);
  const [, body = ''] =
    /^function _M\.outcome\(failure\)\n(.*?)^end$/ms.exec(textOf('lua-plugins/genai/telemetry/labels.lua')) ??
    [];
  const compared = literals(body, /reason [=~]= "(\w+)"/g);
  const [, ranks = ''] =
    /^local RANKS = \{(.*?)\}/ms.exec(textOf('lua-plugins/genai/openai/verdict.lua')) ?? [];
  // A verdict that no other outcome stands for is an outcome itself.
  const verdicts = literals(ranks, /(\w+) = \d/g).filter((each) => !compared.includes(each));
  const returned = body
    .split('\n')
    .filter((line) => /^\s*return /.test(line))
    .flatMap((line) => literals(line.replace(/failure\.status == \d+/, ''), /"(\w+)"/g));
  const skipped = repositoryFiles('lua-plugins/*.lua').flatMap((file) =>
    literals(textOf(file), /metrics\.skipped\([^)]*"(\w+)"\)/g),
  );
  for (const each of [ended, verdicts, returned, skipped]) expect(each).not.toEqual([]);
  expect(sorted(firstCells(section('docs/metrics.md', 'Outcomes')))).toEqual(
    sorted(new Set([...ended, ...verdicts, ...returned, ...skipped])),
  );
});

describe('the access log fields that docs/access-log.md lists', () => {
  const SETTINGS = {
    AZURE_OPENAI_ENDPOINT_0: 'https://swe.openai.azure.com',
    AZURE_OPENAI_KEY_0: 'key-of-backend-0-0123456789',
    GATEWAY_CLIENT_NAME_0: 'app',
    GATEWAY_CLIENT_KEY_0: 'key-of-client-0-0123456789',
  };
  const fieldsWith = async (mode: string, more: Readonly<Record<string, string>> = {}): Promise<string[]> => {
    const { documents } = await compileVariables({ ...SETTINGS, GATEWAY_LOG_MODE: mode, ...more });
    const { nginx_config } = parse(documents['config.yaml']) as {
      nginx_config: { http: { access_log_format: string } };
    };
    return Object.keys(JSON.parse(nginx_config.http.access_log_format));
  };
  const [always = '', cached = '', detailed = ''] = section('docs/access-log.md', 'Fields').split(
    /^With `(?:ENABLE_CACHE|GATEWAY_LOG_MODE)`/m,
  );

  test('for every line are those of the rendered log format, in order', async () => {
    expect(firstCells(always)).toEqual(await fieldsWith('prod'));
  });

  test('with ENABLE_CACHE are those of the rendered log format, in order', async () => {
    expect([...firstCells(always), ...firstCells(cached)]).toEqual(
      await fieldsWith('prod', { ENABLE_CACHE: 'true' }),
    );
  });

  test.each(['test', 'dev'])(
    'for GATEWAY_LOG_MODE=%s are those of the rendered log format, in order',
    async (mode) => {
      expect([...firstCells(always), ...firstCells(detailed)]).toEqual(await fieldsWith(mode));
    },
  );
});

describe('docs/mock.md', () => {
  test('lists exactly the answers of the mock, with their statuses', () => {
    const rows = [...section('docs/mock.md', 'Answers of Azure').matchAll(/^\| `(\w+)` \| (\d+)/gm)];
    expect(Object.fromEntries(rows.map(([, name = '', status]) => [name, Number(status)]))).toEqual(
      Object.fromEntries(Object.entries(ANSWERS).map(([name, make]) => [name, make().status ?? 200])),
    );
  });

  test('lists exactly the fields of a behaviour', async () => {
    const mock = await startMockAzureOpenAI();
    try {
      const answer = await fetch(`${mock.url}/++/script`, { method: 'POST', body: '{"unknown": 1}' });
      const [, fields = ''] = /it has ([\w, ]+)/.exec(await answer.text()) ?? [];
      const [, table = ''] = section('docs/mock.md', 'Control').split('All fields are optional.');
      expect(sorted(firstCells(table))).toEqual(sorted(fields.split(', ')));
    } finally {
      await mock.stop();
    }
  });
});

describe("the function of API Management's name over the table of records", () => {
  const page = textOf('docs/apim-records.md');
  const [, list = ''] = /^APISIXGatewayLogs_CL\n\| project\n(.*?)```/ms.exec(page) ?? [];
  /** What the query makes, and from which column. */
  const made = list.split(',').map((each) => {
    const [, name = '', from = name] = /^\s*(\w+)(?: = (\w+))?/.exec(each) ?? [];
    return { name, from };
  });
  const columns = firstCells(section('docs/apim-records.md', 'Columns'));

  test('reads only columns that the table has', () => {
    expect(made.length).toBeGreaterThan(15);
    for (const { from } of made) expect(columns).toContain(from);
  });

  test("has the columns that the toolkit's queries use", () => {
    const used = [
      'TimeGenerated',
      'OperationName',
      'BackendId',
      'TotalTime',
      'ResponseCode',
      'ResponseHeaders',
    ];
    for (const name of used) expect(made.map((each) => each.name)).toContain(name);
  });
});
