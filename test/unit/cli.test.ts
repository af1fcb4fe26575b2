/** The program as a user runs it: exit codes, streams, and what it leaves behind. */

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PROGRAM, runCli } from '../support/cli.ts';

const GOOD = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend-zero',
  GATEWAY_REQUIRE_AUTH: 'true',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero',
};
const FILES = ['config.yaml', 'apisix.yaml', 'otel-collector.yaml'];

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-cli-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});
const inFolder = (name: string, text?: string | Buffer): string => {
  const path = join(folder, name);
  if (text !== undefined) writeFileSync(path, text);
  return path;
};

describe('render', () => {
  test('writes the three files, world-readable, and says which variables are needed', () => {
    const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const file of FILES) expect(statSync(inFolder(`out/${file}`)).mode & 0o777).toBe(0o644);
    expect(stdout).toContain("APISIX's process must have: AZURE_OPENAI_KEY_0 GATEWAY_CLIENT_KEY_0\n");
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8').slice(-10)).toContain('#END');
  });

  test('writes inline secrets readable by owner and group only', () => {
    const { code, stderr } = runCli(['render', '--out', inFolder('out')], {
      env: { ...GOOD, GATEWAY_SECRETS: 'inline' },
    });
    expect(code).toBe(0);
    expect(stderr).toMatch(/uid 636 and gid 636/);
    for (const file of FILES) expect(statSync(inFolder(`out/${file}`)).mode & 0o777).toBe(0o640);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain('key-of-backend-zero');
  });

  test('a second run with the same settings touches nothing', () => {
    runCli(['render', '--out', inFolder('out')], { env: GOOD });
    const before = FILES.map((file) => statSync(inFolder(`out/${file}`)).mtimeMs);
    const { stdout } = runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect(stdout).toContain('apisix.yaml  unchanged');
    expect(FILES.map((file) => statSync(inFolder(`out/${file}`)).mtimeMs)).toEqual(before);
  });

  test('reads a secret from a file in inline mode, less one final newline', () => {
    const { AZURE_OPENAI_KEY_0: _, ...env } = GOOD;
    const file = inFolder('key', 'key "from" a\\file\n');
    const { code } = runCli(['render', '--out', inFolder('out')], {
      env: { ...env, AZURE_OPENAI_KEY_0_FILE: file, GATEWAY_SECRETS: 'inline' },
    });
    expect(code).toBe(0);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain(
      'api-key: "key \\"from\\" a\\\\file"\n',
    );
  });

  test('the environment wins over env files, later env files over earlier ones', () => {
    const one = inFolder('1.env', 'AZURE_OPENAI_NAME_0=from-first\nAPISIX_LOG_LEVEL=info\nLB_ALG=latency\n');
    const two = inFolder('2.env', 'AZURE_OPENAI_NAME_0=from-second\nAPISIX_LOG_LEVEL=error\n');
    const { stdout } = runCli(['preview', 'model', '--env-file', one, '--env-file', two], {
      env: { ...GOOD, APISIX_LOG_LEVEL: 'crit' },
    });
    expect(JSON.parse(stdout)).toMatchObject({
      backends: [{ name: 'from-second' }],
      server: { logLevel: 'crit' },
      balancing: { algorithm: 'latency' },
    });
  });

  test('an output that cannot be written is exit 3, and nothing changed', () => {
    const { code, stderr } = runCli(['render', '--out', join(inFolder('file', 'x'), 'out')], { env: GOOD });
    expect(code).toBe(3);
    expect(stderr).toContain('OUTPUT_UNWRITABLE');
    expect(readFileSync(inFolder('file'), 'utf8')).toBe('x');
  });

  test('GATEWAY_LOG_FORMAT=json makes JSON of diagnostics and summary, --format wins over it', () => {
    const { stdout, stderr } = runCli(['render', '--out', inFolder('out')], {
      env: { ...GOOD, GATEWAY_LOG_FORMAT: 'json' },
    });
    expect(JSON.parse(stderr)).toEqual({ diagnostics: [], summary: { error: 0, warning: 0, info: 0 } });
    expect(JSON.parse(stdout)).toMatchObject({
      files: { 'apisix.yaml': 'written' },
      variables: { apisix: ['AZURE_OPENAI_KEY_0', 'GATEWAY_CLIENT_KEY_0'], collector: [] },
    });
    expect(
      runCli(['render', '--out', inFolder('out'), '--format', 'text'], {
        env: { ...GOOD, GATEWAY_LOG_FORMAT: 'json' },
      }).stdout,
    ).toContain('apisix.yaml  unchanged');
  });
});

/** Each is a clear diagnostic, exit 1, nothing written, what was there before as it was. */
describe('bad input', () => {
  const without = (...names: string[]) =>
    Object.fromEntries(Object.entries(GOOD).filter(([name]) => !names.includes(name)));
  test.each<[string, Record<string, string>, string, string]>([
    [
      'no backend',
      without('AZURE_OPENAI_ENDPOINT_0', 'AZURE_OPENAI_KEY_0'),
      'NO_BACKEND',
      'AZURE_OPENAI_ENDPOINT_0',
    ],
    [
      'a gap in the clients',
      { ...GOOD, GATEWAY_CLIENT_NAME_2: 'c', GATEWAY_CLIENT_KEY_2: 'key-of-client-two-1' },
      'CLIENT_INDEX_GAP',
      'GATEWAY_CLIENT_NAME_2',
    ],
    [
      'duplicate client names',
      { ...GOOD, GATEWAY_CLIENT_NAME_1: 'app', GATEWAY_CLIENT_KEY_1: 'key-of-client-one-1' },
      'DUPLICATE_NAME',
      'GATEWAY_CLIENT_NAME_1',
    ],
    [
      'duplicate client keys',
      { ...GOOD, GATEWAY_CLIENT_NAME_1: 'b', GATEWAY_CLIENT_KEY_1: 'key-of-client-zero' },
      'DUPLICATE_CLIENT_KEY',
      'GATEWAY_CLIENT_KEY_1',
    ],
    [
      'duplicate backend names',
      {
        ...GOOD,
        AZURE_OPENAI_ENDPOINT_1: 'https://b.example',
        AZURE_OPENAI_KEY_1: 'k',
        AZURE_OPENAI_NAME_1: 'BACKEND-0',
      },
      'DUPLICATE_NAME',
      'AZURE_OPENAI_NAME_1',
    ],
    ['weight abc', { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' }, 'INVALID_VALUE', 'AZURE_OPENAI_WEIGHT_0'],
    ['weight -1', { ...GOOD, AZURE_OPENAI_WEIGHT_0: '-1' }, 'INVALID_VALUE', 'AZURE_OPENAI_WEIGHT_0'],
    ['weight 1.5', { ...GOOD, AZURE_OPENAI_WEIGHT_0: '1.5' }, 'INVALID_VALUE', 'AZURE_OPENAI_WEIGHT_0'],
    ['a blank key', { ...GOOD, GATEWAY_CLIENT_KEY_0: '' }, 'BLANK_SECRET', 'GATEWAY_CLIENT_KEY_0'],
    [
      'a key of white space',
      { ...GOOD, GATEWAY_CLIENT_KEY_0: ' \t ' },
      'BLANK_SECRET',
      'GATEWAY_CLIENT_KEY_0',
    ],
    [
      'a key with a newline',
      { ...GOOD, AZURE_OPENAI_KEY_0: 'first\nsecond' },
      'CONTROL_CHARACTER',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key ending in a newline',
      { ...GOOD, AZURE_OPENAI_KEY_0: 'key-of-backend-zero\n' },
      'SECRET_SURROUNDED_BY_SPACE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key in quotes',
      { ...GOOD, AZURE_OPENAI_KEY_0: '"key-of-backend-zero"' },
      'WRAPPED_IN_QUOTES',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key starting $env://',
      { ...GOOD, AZURE_OPENAI_KEY_0: '$env://OTHER' },
      'REFERENCE_IN_VALUE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      '${{X}} in what reaches a file',
      { ...GOOD, OTEL_SERVICE_NAME: 'a${{X}}' },
      'TEMPLATE_IN_VALUE',
      'OTEL_SERVICE_NAME',
    ],
    [
      '${{X}} in an inline key',
      { ...GOOD, GATEWAY_SECRETS: 'inline', AZURE_OPENAI_KEY_0: 'key${{X}}' },
      'TEMPLATE_IN_VALUE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'an endpoint without scheme',
      { ...GOOD, AZURE_OPENAI_ENDPOINT_0: 'one.openai.azure.com' },
      'INVALID_VALUE',
      'AZURE_OPENAI_ENDPOINT_0',
    ],
    [
      'GATEWAY_REQUIRE_AUTH=maybe',
      { ...GOOD, GATEWAY_REQUIRE_AUTH: 'maybe' },
      'INVALID_VALUE',
      'GATEWAY_REQUIRE_AUTH',
    ],
    [
      'both IP lists',
      { ...GOOD, ENABLE_IP_RESTRICTION: '1', IP_WHITELIST: '::1', IP_BLACKLIST: '::2' },
      'IP_LISTS',
      'ENABLE_IP_RESTRICTION',
    ],
    [
      'CORS * with credentials',
      { ...GOOD, ENABLE_CORS: '1', CORS_ALLOW_ORIGINS: '*', CORS_ALLOW_CREDENTIALS: '1' },
      'CORS_WILDCARD',
      'CORS_ALLOW_ORIGINS',
    ],
    [
      'a key in a variable and a file',
      { ...GOOD, AZURE_OPENAI_KEY_0_FILE: '/dev/null' },
      'SECRET_GIVEN_TWICE',
      'AZURE_OPENAI_KEY_0',
    ],
    [
      'a key from a file by reference',
      { ...without('GATEWAY_CLIENT_KEY_0'), GATEWAY_CLIENT_KEY_0_FILE: '/etc/hostname' },
      'SECRET_FILE_NEEDS_INLINE',
      'GATEWAY_CLIENT_KEY_0',
    ],
  ])('%s', (_, env, expectedCode, setting) => {
    runCli(['render', '--out', inFolder('out')], { env: { ...GOOD, OTEL_SERVICE_NAME: 'before' } });
    const before = FILES.map((file) => [
      readFileSync(inFolder(`out/${file}`), 'utf8'),
      statSync(inFolder(`out/${file}`)).mtimeMs,
    ]);
    const { code, stdout, stderr } = runCli(['render', '--out', inFolder('out'), '--format', 'json'], {
      env,
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    const errors = JSON.parse(stderr).diagnostics.filter(
      (each: { severity: string }) => each.severity === 'error',
    );
    expect(errors.map((each: { code: string; setting: string }) => [each.code, each.setting])).toEqual([
      [expectedCode, setting],
    ]);
    expect(
      FILES.map((file) => [
        readFileSync(inFolder(`out/${file}`), 'utf8'),
        statSync(inFolder(`out/${file}`)).mtimeMs,
      ]),
    ).toEqual(before);
    expect(runCli(['render', '--out', inFolder('new')], { env }).code).toBe(1);
    expect(existsSync(inFolder('new'))).toBe(false);
  });

  test.each<[string, () => string, string]>([
    ['does not exist', () => inFolder('nowhere.env'), 'it does not exist'],
    ['is a folder', () => folder, 'it is a folder'],
    [
      'is 50 MB',
      () => inFolder('big.env', Buffer.alloc(50 * 1024 * 1024, '#')),
      'it has 52428800 bytes, more than 16777216',
    ],
    ['has a NUL', () => inFolder('nul.env', 'A=b\0c\n'), 'NUL'],
    [
      'is a loop of links',
      () => {
        symlinkSync('loop.env', inFolder('loop.env'));
        return inFolder('loop.env');
      },
      'too many symbolic links',
    ],
  ])('an env file that %s', (_, path, reason) => {
    const { code, stderr } = runCli(['render', '--env-file', path(), '--out', inFolder('out')], {
      env: GOOD,
    });
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
    expect(existsSync(inFolder('out'))).toBe(false);
  });

  test('everything that is wrong is said in one run', () => {
    const { code, stdout } = runCli(['check', '--format', 'json'], {
      env: {
        AZURE_OPENAI_ENDPOINT_0: 'x',
        AZURE_OPENAI_WEIGHT_0: 'abc',
        GATEWAY_CLIENT_KEY_3: '',
        LB_ALG: 'random',
        ENABLE_QUOTA: '1',
        ENABLE_OIDC: 'maybe',
      },
    });
    expect(code).toBe(1);
    const settings = JSON.parse(stdout)
      .diagnostics.filter((each: { severity: string }) => each.severity === 'error')
      .map((each: { setting: string }) => each.setting);
    expect(settings).toEqual([
      'AZURE_OPENAI_ENDPOINT_0',
      'AZURE_OPENAI_KEY_0',
      'AZURE_OPENAI_WEIGHT_0',
      'ENABLE_OIDC',
      'GATEWAY_CLIENT_KEY_3',
      'GATEWAY_CLIENT_NAME_3',
      'GATEWAY_CLIENT_NAME_3',
      'LB_ALG',
      'QUOTA_COUNT',
      'QUOTA_TIME_WINDOW',
    ]);
  });
});

describe('check', () => {
  test('good settings are exit 0, findings go to stdout', () => {
    const { code, stdout, stderr } = runCli(['check'], { env: { ...GOOD, AZURE_OPENAI_ENDPIONT_1: 'x' } });
    expect(code).toBe(0);
    expect(stdout).toContain('did you mean AZURE_OPENAI_ENDPOINT_1?');
    expect(stderr).toBe('The settings are good: 1 backend, 1 client.\n');
  });

  test('--strict makes errors of warnings', () => {
    expect(runCli(['check', '--strict'], { env: { ...GOOD, AZURE_OPENAI_ENDPIONT_1: 'x' } }).code).toBe(1);
    expect(runCli(['check', '--strict'], { env: { ...GOOD, GATEWAY_CLIENT_KEY_0: 'short' } }).code).toBe(1);
    expect(runCli(['check', '--strict'], { env: GOOD }).code).toBe(0);
  });

  test('findings in an env file carry its path and line', () => {
    const file = inFolder('a.env', '# one\n\nexport AZURE_OPENAI_WEIGHT_0=abc\n');
    const { stdout } = runCli(['check', '--env-file', file, '--format', 'github'], { env: GOOD });
    expect(stdout).toContain(`::error file=${file},line=3,title=INVALID_VALUE AZURE_OPENAI_WEIGHT_0::`);
  });
});

describe('preview', () => {
  test.each(['apisix', 'config', 'collector', 'model', 'settings'])(
    '%s shows no secret, inline or not',
    (what) => {
      for (const GATEWAY_SECRETS of ['reference', 'inline']) {
        const { code, stdout } = runCli(['preview', what], { env: { ...GOOD, GATEWAY_SECRETS } });
        expect(code).toBe(0);
        expect(stdout.length).toBeGreaterThan(200);
        expect(stdout).not.toContain('key-of-');
      }
    },
  );

  test('shows what render would write', () => {
    runCli(['render', '--out', inFolder('out')], { env: GOOD });
    expect(runCli(['preview'], { env: GOOD }).stdout).toBe(readFileSync(inFolder('out/apisix.yaml'), 'utf8'));
  });

  test('a reader that goes away is no error', () => {
    const { status, stderr } = spawnSync('sh', ['-c', '"$0" docs | head -1', PROGRAM], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('explain', () => {
  test('tells meaning, default, where the value came from, what it becomes', () => {
    const file = inFolder('a.env', 'AZURE_OPENAI_WEIGHT_3=7\nAZURE_OPENAI_ENDPOINT_3=https://c.example\n');
    const { code, stdout } = runCli(
      ['explain', 'azure_openai_weight_3', '--env-file', file, '--format', 'json'],
      { env: GOOD },
    );
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      name: 'AZURE_OPENAI_WEIGHT_3',
      default: '1',
      source: `${file}:1`,
      becomes: '7',
      output: ['apisix.yaml: services[].plugins.ai-proxy-multi.instances[].weight'],
    });
  });

  test.each([['AZURE_OPENAI_WEIGHT_N'], ['AZURE_OPENAI_WEIGHT'], ['AZURE_OPENAI_WEIGHT_0']])(
    'takes %s',
    (name) => {
      expect(runCli(['explain', name]).stdout).toMatch(/^AZURE_OPENAI_WEIGHT_0\n {2}Share of the requests/);
    },
  );

  test('tells why a value is not used, and never a secret', () => {
    expect(runCli(['explain', 'LB_ALG'], { env: { LB_ALG: 'random' } }).stdout).toContain(
      'nothing: the value is not usable',
    );
    expect(runCli(['explain', 'AZURE_OPENAI_KEY_0'], { env: GOOD }).stdout).toContain(
      '$env://AZURE_OPENAI_KEY_0',
    );
  });

  test('an unknown name is exit 1 with the nearest one', () => {
    const { code, stderr } = runCli(['explain', 'LB_ALGO']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'LB_ALGO is not a setting. Did you mean LB_ALG?\n' });
  });
});

describe('init', () => {
  test.each(['minimal', 'multi-region', 'observability', 'priority-lanes', 'ptu-spillover'])(
    '%s gives an env file that renders',
    (scenario) => {
      const file = inFolder('.env');
      expect(runCli(['init', '--scenario', scenario, '--out', file]).code).toBe(0);
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(runCli(['init', '--scenario', scenario]).stdout).toBe(readFileSync(file, 'utf8'));
      expect(runCli(['render', '--strict', '--env-file', file, '--out', inFolder('out')]).code).toBe(0);
    },
  );

  test('never overwrites', () => {
    const { code, stderr } = runCli(['init', '--out', inFolder('.env', 'mine')]);
    expect(code).toBe(3);
    expect(stderr).toContain('it exists already');
    expect(readFileSync(inFolder('.env'), 'utf8')).toBe('mine');
  });
});

describe('the command line', () => {
  test.each([
    [[]],
    [['nonsense']],
    [['rendr']],
    [['render']],
    [['render', '--nonsense']],
    [['render', '--out']],
    [['render', '--out', '']],
    [['preview', 'nonsense']],
    [['check', '--format', 'xml']],
    [['explain']],
    [['completion', 'tcsh']],
    [['init', '--scenario', 'x']],
    [['check', 'extra']],
  ])('wrong usage is exit 64: %j', (args) => {
    const { code, stdout } = runCli(args);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  });

  test('suggests the command that was meant', () => {
    expect(runCli(['rendr']).stderr).toContain('Did you mean render?');
  });

  test.each([
    [],
    ['render'],
    ['check'],
    ['preview'],
    ['explain'],
    ['init'],
    ['schema'],
    ['docs'],
    ['completion'],
  ])('%s --help has examples and is exit 0', (...command) => {
    const { code, stdout } = runCli([...command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples:\n {2}.*genai-gateway /);
  });

  test('names no command that does not work yet', () => {
    expect(runCli(['--help']).stdout).not.toMatch(/^ {2}(?:diff|watch|up|down|mock)\b/m);
  });

  test('has colour on request only', () => {
    const ESC = String.fromCharCode(27);
    expect(runCli(['check'], { env: { FORCE_COLOR: '1' } }).stdout).toContain(ESC);
    for (const env of [{}, { FORCE_COLOR: '1', NO_COLOR: '1' }, { FORCE_COLOR: '0' }])
      expect(runCli(['check'], { env }).stdout).not.toContain(ESC);
    expect(runCli(['check', '--no-color'], { env: { FORCE_COLOR: '1' } }).stdout).not.toContain(ESC);
  });

  test('the version is that of the package', () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
    expect(runCli(['--version']).stdout).toBe(`${version}\n`);
  });
});

describe('completion', () => {
  /** What a shell offers after these words, of which the last is being typed. */
  const ask = {
    bash: (words: readonly string[]) => {
      const script = `source "$0"; COMP_WORDS=(genai-gateway "$@"); COMP_CWORD=$#; compopt() { echo files; }; _genai_gateway; echo "\${COMPREPLY[@]}"`;
      return ['-c', script, inFolder('completion', runCli(['completion', 'bash']).stdout), ...words];
    },
    zsh: (words: readonly string[]) => {
      const script = `compdef() { :; }; compadd() { shift; echo "$@"; }; _files() { echo files; }; file=$1; shift; words=(genai-gateway "$@"); CURRENT=\${#words}; source $file; _genai_gateway`;
      return ['-fc', script, 'zsh', inFolder('completion', runCli(['completion', 'zsh']).stdout), ...words];
    },
    fish: (words: readonly string[]) => {
      const script = `source ${inFolder('completion', runCli(['completion', 'fish']).stdout)}; complete -C "genai-gateway ${words.join(' ')}" | string replace -r '\\t.*' '' | string join ' '`;
      return ['--no-config', '-c', script];
    },
  };

  describe.each(['bash', 'zsh', 'fish'] as const)('%s', (shell) => {
    const missing = spawnSync(shell, ['-c', 'true']).status !== 0;
    const offered = (...words: string[]) => spawnSync(shell, ask[shell](words), { encoding: 'utf8' }).stdout;

    test('gets a script that knows every command', () => {
      const script = runCli(['completion', shell]).stdout;
      for (const command of ['render', 'check', 'preview', 'explain', 'init', 'schema', 'docs', 'completion'])
        expect(script).toContain(command);
    });

    test.skipIf(missing)(
      `completes commands, options and values (skipped where there is no ${shell})`,
      () => {
        expect(offered('').split(/\s+/)).toEqual(
          expect.arrayContaining(['render', 'check', 'preview', 'completion']),
        );
        expect(offered('preview', '').split(/\s+/)).toEqual(
          expect.arrayContaining(['apisix', 'config', 'collector', 'model', 'settings']),
        );
        expect(offered('check', '--format', '').split(/\s+/)).toEqual(
          expect.arrayContaining(['text', 'json', 'sarif', 'github']),
        );
        expect(offered('explain', '--format', '')).not.toContain('sarif');
        expect(offered('check', '--')).toContain('--env-file');
        expect(offered('check', '--env-file', '')).not.toContain('--strict');
      },
    );
  });

  test('the program needs nothing but Node', () => {
    expect(spawnSync(process.execPath, [PROGRAM, 'docs'], { cwd: '/', env: {} }).status).toBe(0);
  });
});

describe('--templates', () => {
  const render = (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(folder, 'templates', name, '..'), { recursive: true });
      writeFileSync(join(folder, 'templates', name), text);
    }
    return runCli(
      ['render', '--templates', join(folder, 'templates'), '--out', inFolder('out'), '--format', 'json'],
      { env: GOOD },
    );
  };
  const finding = (result: { stderr: string }) => JSON.parse(result.stderr).diagnostics[0];

  test('overrides a single file and leaves the others', () => {
    const original = readFileSync(
      join(import.meta.dirname, '../../templates/apisix/plugins/azure-openai-auth.hbs'),
      'utf8',
    );
    const { code } = render({
      'apisix/plugins/azure-openai-auth.hbs': original.replace(
        'required: {{json authentication.required}}',
        'required: {{json authentication.required}} # mine',
      ),
    });
    expect(code).toBe(0);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain('        required: true # mine\n');
  });

  test.each<[string, Record<string, string>, object]>([
    [
      'a broken template',
      { 'apisix/routes.hbs': 'routes:\n{{#if x}}\n' },
      { code: 'TEMPLATE_BROKEN', line: 3 },
    ],
    [
      'an unknown helper',
      { 'apisix/routes.hbs': 'routes: []\na: {{json (shout x)}}\n' },
      { code: 'TEMPLATE_BROKEN', line: 2 },
    ],
    [
      'a value that is not there',
      { 'apisix/routes.hbs': 'routes: []\n\na: {{json nonsense}}\n' },
      { code: 'TEMPLATE_BROKEN', line: 3 },
    ],
    [
      'a value written as it is',
      { 'apisix/routes.hbs': 'routes: []\na: {{telemetry.serviceName}}\n' },
      { code: 'TEMPLATE_RAW_VALUE', line: 2 },
    ],
    [
      'a name that overrides nothing',
      { 'apisix/plugin/cors.hbs': '' },
      { code: 'TEMPLATE_UNKNOWN', hint: 'did you mean apisix/plugins/cors?' },
    ],
    [
      'text that is no YAML',
      { 'apisix/routes.hbs': 'routes: [\n' },
      { code: 'DOCUMENT_NOT_YAML', setting: 'apisix.yaml' },
    ],
    [
      'a key that APISIX would ignore',
      {
        'apisix/routes.hbs':
          'routes:\n  - id: a\n    uri: /a\n    service_id: azure-openai\n    prioritty: 1\n',
      },
      { code: 'DOCUMENT_INVALID', setting: 'apisix.yaml' },
    ],
    ['a key twice', { 'apisix/routes.hbs': 'routes: []\nroutes: []\n' }, { code: 'DOCUMENT_NOT_YAML' }],
    [
      'a template expression of APISIX',
      { 'apisix/routes.hbs': 'routes: []\n# ${\\{{X}}\n' },
      { code: 'DOCUMENT_NOT_YAML' },
    ],
    [
      'no #END',
      { 'apisix.yaml.hbs': '{{> apisix/services}}\n{{> apisix/routes}}\n' },
      { code: 'DOCUMENT_NOT_YAML' },
    ],
  ])('%s is a diagnostic, and nothing is written', (_, files, expected) => {
    const result = render(files);
    expect(result.code).toBe(1);
    expect(finding(result)).toMatchObject(expected);
    if (!Object.values(expected).some((each) => String(each).startsWith('DOCUMENT')))
      expect(finding(result).source).toContain(join(folder, 'templates'));
    expect(existsSync(inFolder('out'))).toBe(false);
  });

  test('a folder that is not there, or empty, is a diagnostic', () => {
    expect(runCli(['check', '--templates', inFolder('nowhere')], { env: GOOD })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('it does not exist'),
    });
    mkdirSync(inFolder('empty'));
    expect(runCli(['check', '--templates', inFolder('empty')], { env: GOOD })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('it holds no .hbs file'),
    });
  });
});
