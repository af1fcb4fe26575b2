/** The command line: usage errors, help, shell completion, and standard input. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { COMMAND_NAMES } from '../../../compiler/cli.ts';
import { PROGRAM, runCli, runHere } from '../../support/cli.ts';
import { cannotRun } from '../../support/requirements.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

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
  ])('exits with 64 for the wrong usage %j', (args) => {
    const { code, stdout } = runCli(args);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  });

  test('suggests the nearest command for an unknown one', () => {
    expect(runCli(['rendr']).stderr).toContain('Did you mean render?');
    expect(runCli(['help', 'rendr']).stderr).toContain('Did you mean render?');
    expect(runCli(['rendr', '--help']).stderr).toContain('Did you mean render?');
  });

  test.each([
    [['help'], ['--help']],
    [['help', 'help'], ['--help']],
    [['-h'], ['--help']],
    [
      ['help', 'render'],
      ['render', '--help'],
    ],
    [
      ['help', 'container'],
      ['container', '--help'],
    ],
    [['version'], ['--version']],
    [['-v'], ['--version']],
    [['-V'], ['--version']],
  ])('prints for %j the same as for %j, and exits with 0', async (args, same) => {
    const result = await runHere(args);
    expect(result).toEqual({ code: 0, stdout: (await runHere(same)).stdout, stderr: '' });
    expect(result.stdout).not.toBe('');
  });

  test.each([[['help', 'nope']], [['nope', '--help']], [['nope', '-e', 'x']]])(
    'reports an unknown command whatever options follow: %j',
    async (args) => {
      expect(await runHere(args)).toEqual({
        code: 64,
        stdout: '',
        stderr: "error: unknown command 'nope'\nRun genai-gateway --help for the commands.\n",
      });
    },
  );

  test.each(COMMAND_NAMES.filter((name) => name !== 'container'))(
    'refers to the help of %s when its usage is wrong',
    async (name) => {
      const { code, stderr } = await runHere([name, '--nonsense']);
      expect(code).toBe(64);
      expect(stderr).toContain(`Run genai-gateway ${name} --help for its options.\n`);
    },
  );

  test('prints help in at most 80 columns', async () => {
    for (const name of ['', ...COMMAND_NAMES]) {
      const { stdout } = await runHere([...(name === '' ? [] : [name]), '--help']);
      // Examples are commands, which must not be wrapped.
      const [text = ''] = stdout.split('\nExamples:\n');
      for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80);
    }
  });

  test.each([
    [['render', 'x.env', '-o', 'out'], 'For an env file write -e x.env'],
    [['preview', 'x.env'], 'For an env file write -e x.env'],
    [['up', 'x.env'], 'For an env file write -e x.env'],
    [['watch', 'x.env', '-o', 'out'], 'For an env file write -e x.env'],
    [['diff', 'x.env'], 'For an env file write -e x.env'],
    [['diff', 'a.env', 'b.env'], 'To compare two env files write --against a.env -e b.env'],
    [['check', '--env', 'x.env'], 'Did you mean --env-file?'],
    [['check', '--enf-file', 'x.env'], 'Did you mean --env-file?'],
    [['up', '--metrics', '0'], 'Did you mean --metrics-port?'],
  ])('says what was probably meant by %j', async (args, meant) => {
    const { code, stderr } = await runHere(args);
    expect(code).toBe(64);
    expect(stderr).toContain(meant);
  });

  test.each([
    ['apisix', 'apisix.yaml'],
    ['config', 'config.yaml'],
    ['collector', 'otel-collector.yaml'],
    ['collector', 'otel-collector'],
    ['collector', 'collector.yaml'],
  ])('treats the name %s and the file name %s alike in preview', async (name, file) => {
    const result = await runHere(['preview', file], { env: GOOD });
    expect(result.code).toBe(0);
    expect(result).toEqual(await runHere(['preview', name], { env: GOOD }));
  });

  test.each(['-o', '--out'])('accepts %s in render and in init', async (flag) => {
    const [folder, file] = [inFolder('rendered'), inFolder('new/folder/gateway.env')];
    expect((await runHere(['render', flag, folder], { env: GOOD })).code).toBe(0);
    expect((await runHere(['init', flag, file])).code).toBe(0);
    expect(existsSync(join(folder, 'apisix.yaml'))).toBe(true);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test.each([
    [],
    ['render'],
    ['check'],
    ['preview'],
    ['diff'],
    ['explain'],
    ['init'],
    ['schema'],
    ['docs'],
    ['completion'],
    ['mock'],
    ['up'],
    ['down'],
    ['watch'],
  ])('prints examples with %s --help and exits with 0', (...command) => {
    const { code, stdout } = runCli([...command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples:\n {2}.*genai-gateway /);
  });

  describe('loads the modules that start programs and servers, or use the network,', () => {
    const STARTERS = ['child_process', 'http'];
    const loadedOfNode = (args: readonly string[], env: Record<string, string>) => {
      const probe = inFolder(
        'probe.cjs',
        `process.on('exit', () => console.log(JSON.stringify(process.moduleLoadList)));`,
      );
      const { stdout } = spawnSync(process.execPath, ['--require', probe, ...args], {
        env,
        encoding: 'utf8',
      });
      const modules: string[] = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
      return builtinModules.filter((name) => modules.includes(`NativeModule ${name}`));
    };
    const loaded = (args: readonly string[], env: Record<string, string>) =>
      loadedOfNode([PROGRAM, ...args], env).filter((name) => STARTERS.includes(name));

    test('of which a render needs few: node:net with its streams would be a tenth of the start time', () => {
      const always = loadedOfNode(['-e', '0'], {});
      const render = loadedOfNode([PROGRAM, 'render', '--out', inFolder('out')], GOOD);
      expect(render.filter((name) => !always.includes(name)).sort()).toEqual(['process', 'vm']);
    });

    test.each([
      [['render', '--out', 'OUT']],
      [['check']],
      [['--help']],
      [['completion', 'bash']],
      [['up', '--help']],
      [['mock', '--help']],
      [['down', '--help']],
    ])('neither with %j', (args) => {
      expect(
        loaded(
          args.map((arg) => arg.replace('OUT', inFolder('out'))),
          GOOD,
        ),
      ).toEqual([]);
    });

    test('but child_process with up, even when there is no Docker', () => {
      expect(loaded(['up'], { ...GOOD, PATH: inFolder('nothing') })).toContain('child_process');
    });

    test('but http with mock, even when the address cannot be used', () => {
      expect(loaded(['mock', '--host', '192.0.2.1'], {})).toContain('http');
    });
  });

  test('prints colours only when FORCE_COLOR asks for them', () => {
    const ESC = String.fromCharCode(27);
    expect(runCli(['check'], { env: { FORCE_COLOR: '1' } }).stdout).toContain(ESC);
    for (const env of [{}, { FORCE_COLOR: '1', NO_COLOR: '1' }, { FORCE_COLOR: '0' }])
      expect(runCli(['check'], { env }).stdout).not.toContain(ESC);
    expect(runCli(['check', '--no-color'], { env: { FORCE_COLOR: '1' } }).stdout).not.toContain(ESC);
  });

  test('prints the version of package.json with --version', () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../../package.json'), 'utf8'));
    expect(runCli(['--version']).stdout).toBe(`${version}\n`);
  });
});

describe('standard input as an env file', () => {
  const text = Object.entries(GOOD)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');

  test.each([
    [['check', '-e', '-']],
    [['render', '--env-file', '-', '-o', 'OUT']],
    [['preview', '-e', '-']],
    [['explain', 'GATEWAY_CLIENT_NAME_0', '-e', '-']],
    [['diff', '-e', '-', '--against', 'FILE']],
    [['diff', '--against', '-', '-e', 'FILE']],
  ])('is read by %j', (args) => {
    const file = inFolder('same.env', text);
    const given = args.map((arg) => arg.replace('OUT', inFolder('out')).replace('FILE', file));
    const { code, stdout, stderr } = runCli(given, { input: text });
    expect(code, stderr).toBe(0);
    if (args[0] === 'explain') expect(stdout).toMatch(/source +<stdin>:4\n *becomes +app/);
  });

  test('may be as long as an env file and arrive in pieces', () => {
    const many = Array.from({ length: 5_000 }, (_, index) => `# comment number ${index}, of some length\n`);
    expect(runCli(['check', '-e', '-'], { input: many.join('') + text }).code).toBe(0);
  });

  test('takes its place in the order of several env files', () => {
    const later = inFolder('later.env', 'GATEWAY_CLIENT_NAME_0=later\n');
    const named = (...files: string[]) =>
      runCli(['preview', 'settings', ...files.flatMap((file) => ['-e', file])], { input: text }).stdout;
    expect(named('-', later)).toContain('"NAME": "later"');
    expect(named(later, '-')).toContain('"NAME": "app"');
  });

  test('is called <stdin> in diagnostics', () => {
    const { code, stdout } = runCli(['check', '-e', '-'], { input: `${text}LB_ALG=x\n` });
    expect(code).toBe(1);
    expect(stdout).toContain('error LB_ALG: the value is not usable (<stdin>:6)');
    const sarif = runCli(['check', '-e', '-', '--format', 'sarif'], { input: `${text}LB_ALG=x\n` }).stdout;
    expect(sarif).toContain('"uri": "environment"');
    expect(sarif).toContain('The value comes from <stdin>, line 6.');
  });

  test('is rejected by watch, and by diff when both sides name it', () => {
    const watch = runCli(['watch', '-e', '-', '-o', inFolder('out')], { input: text });
    expect(watch).toMatchObject({
      code: 64,
      stderr: 'error: watch cannot follow standard input (-e -): give a file\n',
    });
    const diff = runCli(['diff', '-e', '-', '--against', '-'], { input: text });
    expect(diff).toMatchObject({ code: 64, stderr: 'error: standard input (-) can be read only once\n' });
  });

  test('is rejected when it has more than 4 MiB', () => {
    const { code, stdout } = runCli(['check', '-e', '-'], { input: '#'.repeat(5 * 1024 * 1024) });
    expect(code).toBe(1);
    expect(stdout).toContain('error <stdin>: the env file cannot be read: it has more than 4194304 bytes');
  });
});

describe('completion', () => {
  /** What a shell offers for these words, the last of which is incomplete. */
  const ask = {
    bash: (words: readonly string[]) => {
      const script = `source "$0"; COMP_WORDS=(genai-gateway "$@"); COMP_CWORD=$#; compopt() { echo files; }; _genai_gateway; echo "\${COMPREPLY[@]}"`;
      return ['-c', script, inFolder('completion', runCli(['completion', 'bash']).stdout), ...words];
    },
    zsh: (words: readonly string[]) => {
      const script = `compdef() { :; }; compadd() { shift; echo "$@"; }; _files() { echo files; }; compset() { :; }; file=$1; shift; words=(genai-gateway "$@"); CURRENT=\${#words}; source $file; _genai_gateway`;
      return ['-fc', script, 'zsh', inFolder('completion', runCli(['completion', 'zsh']).stdout), ...words];
    },
    fish: (words: readonly string[]) => {
      const script = `source ${inFolder('completion', runCli(['completion', 'fish']).stdout)}; complete -C "genai-gateway ${words.join(' ')}" | string replace -r '\\t.*' '' | string join ' '`;
      return ['--no-config', '-c', script];
    },
  };

  describe.each(['bash', 'zsh', 'fish'] as const)('%s', (shell) => {
    const missing = cannotRun(`completion in ${shell}`, shell);
    const offered = (...words: string[]) => spawnSync(shell, ask[shell](words), { encoding: 'utf8' }).stdout;

    test('prints a script that knows every command', () => {
      const script = runCli(['completion', shell]).stdout;
      for (const command of [
        'render',
        'check',
        'preview',
        'explain',
        'init',
        'schema',
        'docs',
        'completion',
        'watch',
      ])
        expect(script).toContain(command);
    });

    test.skipIf(missing)(`completes commands, options and values (skipped without ${shell})`, () => {
      expect(offered('').split(/\s+/)).toEqual(
        expect.arrayContaining(['render', 'check', 'preview', 'completion', 'help', 'version']),
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
      expect(offered('diff', '--against', '')).not.toContain('--strict');
      expect(offered('help', '').split(/\s+/)).toEqual(expect.arrayContaining(['render', 'up']));
      expect(offered('explain', '').split(/\s+/)).toEqual(
        expect.arrayContaining(['LB_ALG', 'AZURE_OPENAI_WEIGHT_N', 'GATEWAY_CLIENT_KEY_N']),
      );
      expect(offered('explain', '-')).toContain('--env-file');
      expect(offered('explain', '-')).not.toContain('LB_ALG');
    });
  });

  describe.each(['bash', 'zsh', 'fish'] as const)('completion of files in %s', (shell) => {
    const missing = cannotRun(`completion of files in ${shell}`, shell);
    /** What is offered in a folder with `prod.env` and the folder `rendered`. `files` means the shell's own file completion. */
    const offered = (...words: string[]) => {
      mkdirSync(inFolder('rendered'));
      inFolder('prod.env', '');
      const { stdout } = spawnSync(shell, ask[shell](words), { encoding: 'utf8', cwd: inFolder('.') });
      // The folder also holds the completion script.
      return stdout
        .trim()
        .split(/\s+/)
        .filter((each) => !/\bcompletion$/.test(each));
    };

    test
      .skipIf(missing)
      .each([
        [['check', '-e', '']],
        [['check', '--env-file', '']],
        [['explain', 'LB_ALG', '-e', '']],
        [['diff', '--against', '']],
        [['up', '--mock', '-e', '']],
        [['init', '-o', '']],
      ])('offers files after %j', (words) => {
      expect(offered(...words)).toEqual(shell === 'fish' ? ['prod.env', 'rendered/'] : ['files']);
    });

    test.skipIf(missing).each([[['render', '-o', '']], [['check', '--templates', '']]])(
      'offers only folders after %j',
      (words) => {
        expect(offered(...words)).toEqual(
          { bash: ['files', 'rendered'], zsh: ['files'], fish: ['rendered/'] }[shell],
        );
      },
    );

    test.skipIf(missing)('offers files after an equals sign', () => {
      const words = shell === 'bash' ? ['check', '--env-file', '=', ''] : ['check', '--env-file='];
      expect(offered(...words)).toEqual(
        shell === 'fish' ? ['--env-file=prod.env', '--env-file=rendered/'] : ['files'],
      );
    });
  });

  test('the program runs with an empty environment, outside of the repository', () => {
    expect(spawnSync(process.execPath, [PROGRAM, 'docs'], { cwd: '/', env: {} }).status).toBe(0);
  });
});
