/** docs/azure.md agrees with deploy/azure: names, roles, credentials, quantities, and the commands between the stacks. */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runHere } from '../support/cli.ts';
import { repositoryFiles, textOf } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';

const FOLDER = 'deploy/azure';
const page = textOf('docs/azure.md');
const section = (heading: string): string =>
  page.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? '';
const matches = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, name = '']) => name);
const sorted = (names: Iterable<string>) => [...names].sort();

/** The cells of each row of a section's tables, without the heads. */
const rowsOf = (text: string): string[][] =>
  matches(text, /^\| (.*) \|$/gm)
    .map((row) => row.split(' | '))
    .filter(([first]) => /`/.test(first ?? ''));
const namesIn = (text: string): string[] => matches(text, /`([a-z0-9]+(?:_[a-z0-9]+)*)`/g);

const sources = repositoryFiles(FOLDER).filter((file) => file.endsWith('.tf'));
const stacks = [
  ...new Set(sources.filter((file) => file.includes('/stacks/')).map((file) => dirname(file))),
].map((folder) => {
  const variables = textOf(`${folder}/variables.tf`);
  return {
    name: folder.replace(/.*\//, ''),
    text: variables,
    variables: matches(variables, /^variable "(\w+)"/gm),
    /** Parts of variables that are objects. */
    fields: matches(variables, /^ +(\w+) += (?:string|number|bool|optional\()/gm),
    outputs: matches(textOf(`${folder}/outputs.tf`), /^output "(\w+)"/gm),
  };
});
const stack = (name: string) => {
  const found = stacks.find((each) => each.name === name);
  if (found === undefined) throw new Error(`${name} is not a stack`);
  return found;
};

test('finds five stacks', () => {
  expect(stacks.map(({ name }) => name)).toEqual([
    '00-bootstrap',
    '05-observability',
    '10-platform',
    '15-foundry',
    '20-workload',
  ]);
});

describe('names on the page', () => {
  const all = new Set(
    stacks.flatMap(({ variables, outputs, fields }) => [...variables, ...outputs, ...fields]),
  );

  test('are variables and outputs of a stack', () => {
    const named = namesIn(page).filter((name) => name.includes('_'));
    expect(new Set(named).size).toBeGreaterThan(70);
    expect(named.filter((name) => !all.has(name))).toEqual([]);
  });

  test.each(
    [
      'What each stack makes',
      'Credentials that resources export',
      'Use what exists',
      'Move from the accelerator',
    ]
      .flatMap((heading) => rowsOf(section(heading)))
      .flatMap((cells) => {
        const name = cells.join(' ').match(/`(\d\d-[a-z]+)`/)?.[1];
        return name === undefined ? [] : [[name, namesIn(cells.join(' | '))] as const];
      }),
  )('in a row about %s are its own: %j', (name, named) => {
    const { variables, outputs, fields } = stack(name);
    const own = [...variables, ...outputs, ...fields];
    expect(named.filter((each) => each.includes('_') && !own.includes(each))).toEqual([]);
  });

  test('after `output -raw` are outputs of the stack that is asked', () => {
    const asked = [...page.matchAll(/-chdir=(\S+) output -raw (\w+)/g)];
    expect(asked.length).toBeGreaterThan(8);
    for (const [, name = '', output] of asked) expect(stack(name).outputs).toContain(output);
  });
});

test('every shell block of the page can be parsed', () => {
  const blocks = matches(page, /^```sh\n(.*?)^```$/gms);
  expect(blocks.length).toBeGreaterThan(12);
  for (const block of blocks) {
    const { status, stderr } = spawnSync('bash', ['-n'], { input: block, encoding: 'utf8' });
    expect({ status, stderr }, block).toEqual({ status: 0, stderr: '' });
  }
});

describe.skipIf(cannotRun('the jq commands of docs/azure.md', 'jq'))('the jq commands of the page', () => {
  const jq = (args: readonly string[], input: unknown): string => {
    const { status, stdout, stderr } = spawnSync('jq', args, {
      input: JSON.stringify(input),
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    return stdout;
  };
  const passed = [
    ...page.matchAll(/^terraform -chdir=(\S+) output -json \| jq '(\{.*?\})' ([|>].*?\.json)$/gms),
  ].map(([, from = '', filter = '', to = '']) => ({
    from,
    filter,
    targets: matches(to, /(\d\d-\w+)\/\w+\.auto\.tfvars\.json/g),
  }));

  test('are found', () => {
    expect(passed.map(({ from, targets }) => [from, ...targets])).toEqual([
      ['00-bootstrap', '20-workload'],
      ['05-observability', '10-platform', '15-foundry'],
      ['05-observability', '20-workload'],
    ]);
  });

  test.each(passed)('bring outputs of $from into variables of $targets', ({ from, filter, targets }) => {
    const outputs = Object.fromEntries(
      stack(from).outputs.map((name) => [name, { value: `value of ${name}` }]),
    );
    const values = JSON.parse(jq([filter], outputs)) as Record<string, unknown>;
    for (const target of targets)
      expect(stack(target).variables).toEqual(expect.arrayContaining(Object.keys(values)));
    for (const value of Object.values(values)) expect(value).toMatch(/^value of /);
  });

  test('pass on nothing where 05-observability makes no table, and 20-workload takes that', () => {
    const { filter = '' } = passed.at(-1) ?? {};
    const values = JSON.parse(jq([filter], { app_insights_id: { value: 'an id' } })) as Record<
      string,
      unknown
    >;
    const { text } = stack('20-workload');
    for (const name of ['gateway_log_ingest_uri', 'gateway_log_ingest_dcr_id']) {
      expect(values[name]).toBeNull();
      const [, declared = ''] = new RegExp(`^variable "${name}" \\{\\n(.*?)^\\}`, 'ms').exec(text) ?? [];
      expect(declared).toMatch(/^ +nullable += false$/m);
    }
  });

  test('turn a plan into an env file that `genai-gateway check` accepts', async () => {
    const [, filter = ''] = /show -json next\.tfplan \| jq -r '(.*?)' > next\.env/s.exec(page) ?? [];
    const text = jq(['-r', filter], {
      planned_values: {
        outputs: {
          gateway_settings: {
            value: {
              AZURE_OPENAI_ENDPOINT_0: 'https://oai-genai-dev.openai.azure.com',
              AZURE_OPENAI_NAME_0: 'swedencentral',
              AZURE_OPENAI_AUTH_MODE_0: 'entra',
              GATEWAY_CLIENT_NAME_0: 'dev-client',
              GATEWAY_TRUSTED_PROXIES: '100.64.0.0/10',
            },
          },
          secret_settings: { value: { GATEWAY_CLIENT_KEY_0: 'gateway-client-key-0' } },
        },
      },
    });
    const env = Object.fromEntries(
      text
        .trim()
        .split('\n')
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
    expect(Object.keys(env)).toHaveLength(6);
    expect(await runHere(['check'], { env })).toMatchObject({ code: 0 });
  });
});

test('the table of roles has each role assignment of the modules and stacks, and no other', () => {
  const assigned = sources.flatMap((file) => {
    const text = textOf(file);
    const byName = matches(text, /^ +role_definition_name += "([^"]+)"$/gm);
    const byTable = /role_definition_name += each\.value\.role$/m.test(text)
      ? matches(text, /\brole = "([^"]+)"/g)
      : [];
    const resources = [...text.matchAll(/^resource "azurerm_role_assignment"/gm)].length;
    expect(byName.length + (byTable.length > 0 ? 1 : 0), file).toBe(resources);
    return [...byName, ...byTable].map((role) => `${role}: ${dirname(file).replace(`${FOLDER}/`, '')}`);
  });
  expect(assigned.length).toBeGreaterThan(5);
  const documented = rowsOf(section('Roles')).map(
    ([role = '', , , by = '']) => `${role.replaceAll('`', '')}: ${by.replaceAll('`', '')}`,
  );
  expect(sorted(documented)).toEqual(sorted(assigned));
});

test('the table of credentials names every sensitive output', () => {
  const sensitive = stacks.flatMap(({ name }) =>
    textOf(`${FOLDER}/stacks/${name}/outputs.tf`)
      .split(/^output /m)
      .filter((each) => /^ +sensitive += true$/m.test(each))
      .flatMap((each) => matches(each, /^"(\w+)"/g)),
  );
  expect(sensitive.length).toBeGreaterThan(2);
  expect(namesIn(section('Credentials that resources export'))).toEqual(expect.arrayContaining(sensitive));
});

test('the table of variables that do something else has exactly those that a stack accepts without using', () => {
  const unused = stacks.flatMap(({ name, text }) =>
    matches(text, /^# tflint-ignore: terraform_unused_declarations.*\nvariable "(\w+)"/gm).map(
      (variable) => `${name}: ${variable}`,
    ),
  );
  const [, table = ''] = section('Move from the accelerator').split('do something else');
  const documented = rowsOf(table).flatMap(([name = '', variables = '']) =>
    namesIn(variables).map((variable) => `${name.replaceAll('`', '')}: ${variable}`),
  );
  expect(sorted(documented)).toEqual(sorted(unused));
});

describe('the idle quantities', () => {
  const SECONDS = 730 * 3600;
  const example = (name: string) => textOf(`${FOLDER}/stacks/${name}/terraform.tfvars.prod.example`);
  const numberIn = (text: string, name: string): number =>
    Number(new RegExp(`^ *${name} += "?([\\d.]+)`, 'm').exec(text)?.[1]);
  const fallback = (name: string): number =>
    Number(
      new RegExp(`variable "${name}" \\{.*?default += "?([\\d.]+)`, 's').exec(stack('20-workload').text)?.[1],
    );
  const quantity = (meter: string): readonly [dev: string, prod: string] => {
    const row = rowsOf(section('What it costs when idle')).find(([, each]) => each?.startsWith(meter));
    return [row?.[2] ?? '', row?.[3] ?? ''];
  };

  test('of the gateway follow from the example for prod', () => {
    const prod = example('20-workload');
    const replicas = numberIn(prod, 'gateway_min_replicas');
    const cpu = replicas * (numberIn(prod, 'gateway_cpu') + fallback('otel_collector_cpu')) * SECONDS;
    const memory =
      replicas * (numberIn(prod, 'gateway_memory') + fallback('otel_collector_memory')) * SECONDS;
    expect(quantity('Container Apps, vCPU')[1]).toContain(cpu.toLocaleString('en'));
    expect(quantity('Container Apps, GiB')[1]).toContain(memory.toLocaleString('en'));
  });

  test('of the Redis container follow from its module', () => {
    const redis = textOf(`${FOLDER}/modules/redis/main.tf`);
    const [cpu, memory] = [numberIn(redis, 'cpu') * SECONDS, numberIn(redis, 'memory') * SECONDS];
    expect(quantity('Container Apps, vCPU')[0]).toContain(cpu.toLocaleString('en'));
    expect(quantity('Container Apps, GiB')[0]).toContain(memory.toLocaleString('en'));
  });

  test('of accounts and network follow from the example for prod', () => {
    const foundry = example('15-foundry');
    const accounts = matches(foundry, /^ +(name_suffix) /gm).length;
    const [, units] = /Provisioned.*?capacity += (\d+)/s.exec(foundry) ?? [];
    expect(quantity('provisioned throughput')[1]).toBe(
      `${units} × 730 = ${(Number(units) * 730).toLocaleString('en')}`,
    );
    expect(quantity('private endpoints, hours')[1]).toBe(
      `${accounts} × 730 = ${(accounts * 730).toLocaleString('en')}`,
    );
    const zones = matches(stack('15-foundry').text, /= "(privatelink\.[^"]+)"/g);
    expect(quantity('private DNS zones')[1]).toBe(String(zones.length));
  });
});

describe('the alerts', () => {
  const module = textOf(`${FOLDER}/modules/alerts/variables.tf`);
  const main = textOf(`${FOLDER}/stacks/20-workload/main.tf`);
  const blockOf = (text: string, name: string): string =>
    new RegExp(`^variable "${name}" \\{\\n(.*?)^\\}`, 'ms').exec(text)?.[1] ?? '';
  const defaultOf = (text: string, name: string): string | undefined =>
    /^ +default += (.*)$/m.exec(blockOf(text, name))?.[1];

  test.each(matches(module, /^variable "(alert_\w+|disabled_\w+)"/gm))(
    '%s of the module is validated there, is a variable of 20-workload with the same default, and is passed on',
    (name) => {
      expect(blockOf(module, name)).toContain('validation {');
      expect(stack('20-workload').variables).toContain(name);
      expect(defaultOf(stack('20-workload').text, name)).toBe(defaultOf(module, name));
      expect(main).toMatch(new RegExp(`^  ${name} += var\\.${name}$`, 'm'));
      expect(namesIn(section('Alerts')).concat(namesIn(section('Use what exists')))).toContain(name);
    },
  );
});
