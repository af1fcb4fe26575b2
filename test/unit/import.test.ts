/** `genai-gateway import`: files in the form of the accelerator become the files of an environment. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { environmentFiles, readEnvironment } from '../../compiler/deploy/environment-files.ts';
import { envAssignment } from '../../compiler/deploy/import.ts';
import { readTfvars } from '../../compiler/deploy/tfvars.ts';
import { type RunResult, runCli, runHere } from '../support/cli.ts';

const EXAMPLES = fileURLToPath(new URL('../tfvars/', import.meta.url));

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-import-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const out = (...path: string[]) => join(folder, 'environments', ...path);
const importFile = (path: string, ...more: string[]): Promise<RunResult> =>
  runHere(['import', path, '--out', out(), ...more]);

function given(text: string, name = 'given.tfvars'): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Imports a text as the environment dev. */
const importText = (text: string, ...more: string[]) => importFile(given(text), '--name', 'dev', ...more);

/** What deploy reads from the files. */
async function environment(name = 'dev') {
  const files = environmentFiles(out(), name);
  if ('reason' in files) throw new Error(files.reason);
  const read = readEnvironment(files);
  if ('diagnostics' in read) throw new Error(JSON.stringify(read.diagnostics));
  const variables = files.variables.exists ? await readTfvars(files.variables.path) : { values: {} };
  return {
    settings: Object.fromEntries(read.settings),
    secrets: Object.fromEntries([...read.secrets].map(([each, secret]) => [each, secret.reveal()])),
    variables: 'values' in variables ? variables.values : variables,
    diagnostics: read.raw.diagnostics,
  };
}

const IDS = {
  subscription_id: '00000000-0000-0000-0000-000000000000',
  tenant_id: '11111111-1111-1111-1111-111111111111',
};

describe("the accelerator's examples", () => {
  test('for development', async () => {
    const { code, stdout } = await importFile(join(EXAMPLES, 'dev.tfvars'));
    expect(code).toBe(0);
    expect(await environment('dev')).toEqual({
      settings: {
        APISIX_LOG_LEVEL: 'info',
        GATEWAY_REQUIRE_AUTH: 'true',
        GATEWAY_CLIENT_NAME_0: 'dev-client-0',
        AI_PROXY_READ_TIMEOUT: '300',
        OTEL_SAMPLE_RATE: '1.0',
        ENABLE_DEBUG_EXPORTER: 'true',
      },
      secrets: { GATEWAY_CLIENT_KEY_0: 'dev-key-0' },
      variables: {
        ...IDS,
        environment_code: 'dev',
        location: 'westeurope',
        workload_name: 'genai',
        identifier: '',
        gateway_log_mode: 'dev',
        expose_gateway_public: true,
        gateway_target_port: 9080,
        gateway_cpu: 1,
        gateway_memory: '2Gi',
        enable_alerts: false,
        tags: { owner: 'platform', environment: 'dev' },
      },
      diagnostics: [],
    });
    expect(stdout).toContain(
      'platform_resource_group_name, key_vault_name, state_container_name, foundation_state_blob_key: deploy takes',
    );
    expect(stdout).toContain('genai-gateway deploy dev --plan');
    // Empty values have no line.
    expect(stdout).not.toContain('gateway_image');
    const variables = readFileSync(out('dev.tfvars'), 'utf8');
    expect(variables).toContain('gateway_target_port   = 9080\n');
    expect(variables).toContain(
      `# existing_key_vault_id = "/subscriptions/${IDS.subscription_id}/resourceGroups/rg-genai-dev-we-platform/providers/Microsoft.KeyVault/vaults/kv-genai-dev"\n`,
    );
    expect(variables).not.toContain('existing_acr_id');
  });

  test('for tests, with everything that is not here', async () => {
    const { code, stdout, stderr } = await importFile(join(EXAMPLES, 'test.tfvars'));
    expect(code).toBe(0);
    expect(await environment('test')).toMatchObject({
      settings: {
        GATEWAY_REQUIRE_AUTH: 'true',
        GATEWAY_CLIENT_NAME_0: 'test-client-0',
        GATEWAY_CLIENT_NAME_1: 'test-client-1',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_HIGH_LIMIT: '100000',
        AI_RATE_LIMIT_STRATEGY: 'total_tokens',
      },
      secrets: { GATEWAY_CLIENT_KEY_0: 'test-key-0', GATEWAY_CLIENT_KEY_1: 'test-key-1' },
      variables: { ...IDS, environment_code: 'test', gateway_log_mode: 'test', gateway_min_replicas: 2 },
    });
    const { variables, settings } = await environment('test');
    for (const name of [
      'gateway_e2e_test_mode',
      'simulator_image',
      'simulator_api_key',
      'config_api_shared_secret',
    ])
      expect(variables).not.toHaveProperty(name);
    for (const name of ['GATEWAY_E2E_TEST_MODE', 'GATEWAY_LOG_MODE'])
      expect(settings).not.toHaveProperty(name);
    expect(stdout).toContain('GATEWAY_REQUIRE_AUTH: gateway_require_auth was its name');
    expect(stdout).toContain(
      'GATEWAY_E2E_TEST_MODE, GATEWAY_LOG_MODE, RESPONSES_AFFINITY_REDIS_PASSWORD: Terraform sets it',
    );
    expect(stdout).toContain('AZURE_OPENAI_KEY_0: its value is a placeholder');
    expect(stdout).toContain('simulator_api_key, config_api_shared_secret: no stack has this variable');
    for (const secret of ['test-key-0', 'password-of-the-redis', 'simulator-key', 'shared-secret'])
      expect(stdout + stderr).not.toContain(secret);
  });

  test('for production, which check then finds without errors', async () => {
    expect((await importFile(join(EXAMPLES, 'prod.tfvars'))).code).toBe(0);
    expect(await environment('prod')).toMatchObject({
      settings: {
        AZURE_OPENAI_ENDPOINT_1: 'https://genai-payg.openai.azure.com/',
        AZURE_OPENAI_PRIORITY_0: '10',
      },
      secrets: { AZURE_OPENAI_KEY_0: '0123456789abcdef0123456789abcdef' },
      variables: { use_provisioned_azure_openai: false, tags: { environment: 'prod' } },
    });
    const checked = await runHere(['check', '-e', out('prod.env'), '-e', out('prod.secrets.env')]);
    expect(checked).toMatchObject({ code: 0, stderr: expect.stringContaining('2 backends, 1 client') });
  });
});

describe('the files', () => {
  const WITH_SECRET =
    'app_settings = { OTHER = "1" }\nsecrets = { GATEWAY_CLIENT_KEY_0 = "the-key-of-the-test" }\nlocation = "x"\n';

  test('of secrets can be read by their owner only, whatever the umask is', async () => {
    const before = process.umask(0);
    try {
      await importText(WITH_SECRET);
    } finally {
      process.umask(before);
    }
    expect(statSync(out('dev.secrets.env')).mode & 0o777).toBe(0o600);
    expect(statSync(out('dev.env')).mode & 0o777).toBe(0o666);
    expect(readdirSync(out()).sort()).toEqual(['dev.env', 'dev.secrets.env', 'dev.tfvars']);
  });

  test('have a secret in the file of secrets only, also when comments and variables repeat it', async () => {
    const { stdout, stderr } = await importText(
      [
        '# The key is the-key-of-the-test',
        'location = "x"',
        '# 0123456789abcdef0123456789abcdef was the old one',
        'identifier = "y"',
        'workload_name = "the-key-of-the-test"',
        WITH_SECRET.replace('location = "x"\n', ''),
      ].join('\n'),
    );
    for (const name of ['dev.env', 'dev.tfvars']) {
      expect(readFileSync(out(name), 'utf8')).not.toMatch(/the-key-of-the-test|0123456789abcdef/);
    }
    expect(readFileSync(out('dev.secrets.env'), 'utf8')).toContain(
      'GATEWAY_CLIENT_KEY_0=the-key-of-the-test',
    );
    expect(stdout + stderr).not.toContain('the-key-of-the-test');
    expect(stdout).toContain('workload_name: it has the value of a secret');
  });

  test('that exist are not touched, none of them, without --force', async () => {
    await importText('app_settings = { OTHER = "1" }\n');
    writeFileSync(out('dev.env'), 'OTHER=mine\n');
    const { code, stderr } = await importText(WITH_SECRET);
    expect(code).toBe(3);
    expect(stderr).toContain('dev.env already exists');
    expect(stderr).toContain('--force');
    expect(readFileSync(out('dev.env'), 'utf8')).toBe('OTHER=mine\n');
    expect(readdirSync(out())).toEqual(['dev.env']);
    expect((await importText(WITH_SECRET, '--force')).code).toBe(0);
    expect(await environment()).toMatchObject({ settings: { OTHER: '1' }, variables: { location: 'x' } });
  });

  test('are none when the folder cannot be written', async () => {
    writeFileSync(join(folder, 'environments'), 'a file');
    const { code, stderr } = await importText(WITH_SECRET);
    expect(code).toBe(3);
    expect(stderr).toContain('cannot be written');
    expect(readFileSync(join(folder, 'environments'), 'utf8')).toBe('a file');
  });

  test('of secrets cause a warning when git does not ignore them', async () => {
    execFileSync('git', ['init', '--quiet', folder]);
    expect((await importText(WITH_SECRET)).stderr).toContain('Add this line to .gitignore');
    given('*.secrets.env\n', '.gitignore');
    expect((await importText(WITH_SECRET, '--force')).stderr).toBe('');
  });

  test('are the same ones on standard output with --quiet: none', async () => {
    expect(await importText(WITH_SECRET, '--quiet')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('of several stacks become those of one environment, and the last value counts', async () => {
    const first = given('location = "x"\ntags = { a = "1" }\nacr_sku = "Basic"\n', 'platform.tfvars');
    const second = given('environment_code = "dev"\nlocation = "x"\ntags = { a = "2" }\n', 'workload.tfvars');
    const { stdout } = await runHere(['import', first, second, '--out', out()]);
    expect(stdout).toMatch(/tags: its values differ \(.*platform\.tfvars:2, .*workload\.tfvars:3\)/);
    expect(stdout).not.toContain('location: its values differ');
    expect((await environment()).variables).toEqual({
      location: 'x',
      tags: { a: '2' },
      acr_sku: 'Basic',
      environment_code: 'dev',
    });
  });
});

describe('a file that cannot be imported', () => {
  const nothingIsWritten = () => expect(existsSync(out())).toBe(false);

  test.each([
    ['a mistake', 'a = 1\nb = [1,\n', /given\.tfvars:2/],
    ['an interpolation', 'secrets = {\n  A = "${var.key}"\n}\n', /given\.tfvars:2/],
    [
      'settings that are no map',
      'location = "x"\napp_settings = ["a"]\n',
      /app_settings is not a map .*given\.tfvars:2/,
    ],
    [
      'a setting that is a list',
      'app_settings = {\n  OTHER = ["a"]\n}\n',
      /OTHER.*its value in app_settings is a list .*given\.tfvars:2/,
    ],
    [
      'a setting of several lines',
      'app_settings = {\n  OTHER = "a\\nb"\n}\n',
      /OTHER.*several lines.*given\.tfvars:2/,
    ],
    [
      'a secret with every kind of quotes',
      'secrets = {\n  GATEWAY_CLIENT_KEY_0 = "a\'b\\"c`d #x"\n}\n',
      /GATEWAY_CLIENT_KEY_0.*given\.tfvars:2/,
    ],
  ])('is an error with its line, and nothing is written: %s', async (_, text, message) => {
    const { code, stdout, stderr } = await importText(text);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
    nothingIsWritten();
  });

  test('is an error if it is not there', async () => {
    const { code, stderr } = await importFile(join(folder, 'missing.tfvars'));
    expect(code).toBe(3);
    expect(stderr).toContain('it does not exist');
    nothingIsWritten();
  });

  test.each([
    ['has no name for the environment', 'location = "x"\n', [], /--name/],
    ['has a name that cannot be one', 'environment_code = "a/b"\n', [], /such as prod/],
    ['is given such a name', 'location = "x"\n', ['--name', '../x'], /such as prod/],
  ])('is wrong usage if it %s', async (_, text, more, message) => {
    const { code, stderr } = await importFile(given(text), ...more);
    expect(code).toBe(64);
    expect(stderr).toMatch(message);
    nothingIsWritten();
  });

  test('reports its problems in the formats of the other commands', async () => {
    const { stderr } = await importText('a = 1\nb = foo\nc = f(1)\n', '--format', 'json');
    expect(JSON.parse(stderr).diagnostics).toMatchObject([
      { code: 'TFVARS_INVALID', line: 2 },
      { code: 'TFVARS_INVALID', line: 3 },
    ]);
  });
});

describe('ten odd files', () => {
  test.each<[string, string, Readonly<Record<string, unknown>>]>([
    [
      'heredocs',
      'app_settings = {\n OTHER = <<-EOT\n    one two\n    EOT\n}\nsecrets = {\n GATEWAY_CLIENT_KEY_0 = <<EOT\nthe-key-of-a-heredoc\nEOT\n}\n',
      { settings: { OTHER: 'one two' }, secrets: { GATEWAY_CLIENT_KEY_0: 'the-key-of-a-heredoc' } },
    ],
    [
      'comments in every place',
      '/* a\n b */ app_settings = { # c\n // d\n OTHER = "1" /* e */ # f\n # GATEWAY_CLIENT_KEY_9 = "no"\n}\n',
      { settings: { OTHER: '1' }, secrets: {} },
    ],
    [
      'nested maps and lists',
      'azure_openai_instances = [\n  { name_suffix = "a", deployments = [{ name = "m", model = { name = "m", version = "1" } }] },\n]\n',
      {
        variables: {
          azure_openai_instances: [
            { name_suffix: 'a', deployments: [{ name: 'm', model: { name: 'm', version: '1' } }] },
          ],
        },
      },
    ],
    [
      'escapes',
      'app_settings = { OTHER = "a$${b} %%{c} \\"d\\" \\\\e # f" }\nsecrets = { GATEWAY_CLIENT_KEY_0 = "p$a#s\'s" }\n',
      { settings: { OTHER: 'a${b} %{c} "d" \\e # f' }, secrets: { GATEWAY_CLIENT_KEY_0: "p$a#s's" } },
    ],
    [
      'numbers, booleans and null',
      'app_settings = { A = 1.50, B = -3, C = true, D = null, E = 12345678901234567890, F = 007 }\ngateway_cpu_scale_threshold = null\n',
      {
        settings: { A: '1.5', B: '-3', C: 'true', E: '12345678901234567890', F: '7' },
        variables: { gateway_cpu_scale_threshold: null },
      },
    ],
    [
      'letters of every script',
      'app_settings = { OTHER = "ü€😀日本 ‘x’" }\ntags = { "Besitzer-ä" = "Zoë" }\n',
      { settings: { OTHER: 'ü€😀日本 ‘x’' }, variables: { tags: { 'Besitzer-ä': 'Zoë' } } },
    ],
    [
      'a byte order mark and the line ends of Windows',
      '\uFEFFapp_settings = {\r\n  OTHER = "1"\r\n}\r\n# c\r\nlocation = "x"\r\n',
      { settings: { OTHER: '1' }, variables: { location: 'x' } },
    ],
    [
      'a name twice, also in other letters, of which the last one counts',
      'app_settings = {\n  LB_ALG = "chash"\n  OTHER = "1"\n  OTHER = "2"\n  lb_alg = "roundrobin"\n}\n',
      { settings: { LB_ALG: 'roundrobin', OTHER: '2' } },
    ],
    [
      'spaces around values, empty values and quoted names',
      'app_settings = {\n  "OTHER" = "  x "\n  EMPTY = ""\n "GATEWAY_CLIENT_NAME_00": "app"\n}\nsecrets = { GATEWAY_CLIENT_KEY_0 = "" }\n',
      { settings: { OTHER: 'x', GATEWAY_CLIENT_NAME_0: 'app' }, secrets: {} },
    ],
    [
      'thousands of settings',
      `app_settings = {\n${Array.from({ length: 2000 }, (_, index) => `  GATEWAY_CLIENT_NAME_${index} = "client-${index}"\n`).join('')}}\n`,
      {
        settings: Object.fromEntries(
          Array.from({ length: 2000 }, (_, index) => [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`]),
        ),
      },
    ],
  ])('become an environment: %s', async (_, text, expected) => {
    const { code, stderr } = await importText(text);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(await environment()).toMatchObject({ diagnostics: [], ...expected });
  });
});

describe('what is changed or left out', () => {
  test('is listed with the reason', async () => {
    const { stdout } = await importText(
      [
        'app_settings = {',
        '  GATEWAY_CLIENT_KEY_0 = "the-key-of-the-test"',
        '  GATEWAY_CLINT_NAME_0 = "app"',
        '  GATEWAY_CLIENT_KEY_1_FILE = "/run/key"',
        '  HTTPS_PROXY = "http://proxy.example:8080"',
        '}',
        'secrets = { SOMETHING_ELSE = "the-other-secret" }',
        'acr_admin_enabled = true',
        'gateway_target_port = 8080',
        'app_insights_connection_string = "InstrumentationKey=the-key-of-insights"',
        'gatway_cpu = 1',
      ].join('\n'),
    );
    for (const line of [
      'GATEWAY_CLIENT_KEY_0: it is a secret, so it went from app_settings into the file of secrets',
      'GATEWAY_CLINT_NAME_0: there is no such setting; did you mean GATEWAY_CLIENT_NAME_0?',
      'GATEWAY_CLIENT_KEY_1_FILE: the gateway on Azure gets secrets from the vault, not from files',
      'SOMETHING_ELSE: it is no setting of the gateway',
      'acr_admin_enabled: the registry has no admin user',
      'gateway_target_port: the gateway listens on port 9080 only',
      'app_insights_connection_string: Terraform copies it',
      'gatway_cpu: no stack has this variable',
    ])
      expect(stdout).toContain(line);
    expect(stdout).not.toMatch(/the-key-of|the-other-secret/);
    expect(await environment()).toMatchObject({
      settings: { HTTPS_PROXY: 'http://proxy.example:8080' },
      secrets: { GATEWAY_CLIENT_KEY_0: 'the-key-of-the-test' },
    });
  });

  test('is a file without anything to import', async () => {
    const { code, stdout } = await importText('# nothing\n');
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'The files have nothing to import. No file was written.\n',
    });
    expect(existsSync(out())).toBe(false);
  });
});

describe('a line of an env file', () => {
  test.each([
    ['plain', 'A=plain'],
    ['with space', 'A=with space'],
    ['a#b', "A='a#b'"],
    ['$x', "A='$x'"],
    ["it's", "A=it's"],
    ["it's #1", 'A="it\'s #1"'],
    ['"quoted"', 'A=\'"quoted"\''],
    [' x ', "A=' x '"],
    ['a\nb', undefined],
    ['a\'b"c`d #', undefined],
  ])('has the quotes that the value needs: %j', (value, line) => {
    expect(envAssignment('A', value)).toBe(line);
  });
});

describe('the built program', () => {
  test('imports with its second bundle', () => {
    const { code, stdout } = runCli(['import', join(EXAMPLES, 'prod.tfvars'), '--out', out()], {
      cwd: folder,
    });
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('prod.env') });
    expect(readFileSync(out('prod.env'), 'utf8')).toContain('AZURE_OPENAI_PRIORITY_0=10\n');
  });
});
