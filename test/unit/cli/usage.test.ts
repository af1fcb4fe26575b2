/** The command line itself. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PROGRAM, runCli } from '../../support/cli.ts';
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
  ])('%s --help has examples and is exit 0', (...command) => {
    const { code, stdout } = runCli([...command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples:\n {2}.*genai-gateway /);
  });

  test('loads what starts other programs only to start them: it costs a tenth of a start', () => {
    const probe = inFolder(
      'probe.cjs',
      "process.on('exit', () => console.log(process.moduleLoadList.includes('NativeModule child_process')));",
    );
    const loads = (args: readonly string[], env: Record<string, string>) =>
      spawnSync(process.execPath, ['--require', probe, PROGRAM, ...args], { env, encoding: 'utf8' })
        .stdout.trim()
        .split('\n')
        .at(-1);
    expect(loads(['render', '--out', inFolder('out')], GOOD)).toBe('false');
    expect(loads(['check'], GOOD)).toBe('false');
    expect(loads(['up'], { ...GOOD, PATH: inFolder('nothing') })).toBe('true');
  });

  test('has colour on request only', () => {
    const ESC = String.fromCharCode(27);
    expect(runCli(['check'], { env: { FORCE_COLOR: '1' } }).stdout).toContain(ESC);
    for (const env of [{}, { FORCE_COLOR: '1', NO_COLOR: '1' }, { FORCE_COLOR: '0' }])
      expect(runCli(['check'], { env }).stdout).not.toContain(ESC);
    expect(runCli(['check', '--no-color'], { env: { FORCE_COLOR: '1' } }).stdout).not.toContain(ESC);
  });

  test('the version is that of the package', () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../../package.json'), 'utf8'));
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
        expect(offered('diff', '--against', '')).not.toContain('--strict');
      },
    );
  });

  test('the program needs nothing but Node', () => {
    expect(spawnSync(process.execPath, [PROGRAM, 'docs'], { cwd: '/', env: {} }).status).toBe(0);
  });
});
