/** The launcher, which runs before the bundle: it checks the version of Node and uses V8's code cache. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Script } from 'node:vm';
import { transform } from 'esbuild';
import { describe, expect, test } from 'vitest';
import { supportedNode } from '../../compiler/build.mjs';
import { PROGRAM } from '../support/cli.ts';
import { ROOT, textOf } from '../support/repository.ts';
import { GOOD, workspace } from '../support/workspace.ts';

const inFolder = workspace();
const { engines, version } = JSON.parse(textOf('package.json'));

describe("the check of Node's version", () => {
  /** Runs the launcher on this Node, which pretends to be another version. */
  const on = (pretended: string, program = PROGRAM) => {
    const preload = inFolder(
      'pretend.cjs',
      `Object.defineProperty(process.versions, 'node', { value: ${JSON.stringify(pretended)} });`,
    );
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--require', preload, program, '--version'],
      {
        encoding: 'utf8',
        env: {},
      },
    );
    return { code: status, stdout, stderr };
  };

  test.each(['20.19.0', '20.20.2', '22.12.0', '22.23.5', '24.0.0', '24.22.3', '25.0.0', '26.3.1'])(
    'accepts %s',
    (good) => {
      expect(on(good)).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    },
  );

  test.each(['12.22.12', '16.20.2', '18.20.8', '20.18.3', '21.7.3', '22.11.0', '23.11.1'])(
    'rejects %s and says which versions are needed',
    (refused) => {
      expect(on(refused)).toEqual({
        code: 69,
        stdout: '',
        stderr: `genai-gateway needs Node.js 20.19 or a later 20, 22.12 or a later 22, or 24 or later; this is ${refused} (${process.execPath}). Install a supported version, or use the container image, which includes one.\n`,
      });
    },
  );

  test('happens before the bundle is loaded', () => {
    // There is no bundle next to it.
    const alone = inFolder('genai-gateway.cjs', readFileSync(PROGRAM));
    expect(on('18.20.8', alone)).toMatchObject({ code: 69 });
  });

  test('runs on much older versions, because the launcher uses no newer syntax', async () => {
    const printed = async (target: string) =>
      (await transform(readFileSync(PROGRAM, 'utf8'), { target })).code;
    expect(await printed('es2015')).toBe(await printed('esnext'));
  });

  test('takes the versions from package.json', () => {
    expect(supportedNode(engines.node)).toMatchObject({
      words: '20.19 or a later 20, 22.12 or a later 22, or 24 or later',
    });
    expect(supportedNode('^22.12.0 || >=24.4.0').words).toBe('22.12 or a later 22, or 24.4 or later');
    expect(supportedNode('>=24.0.0').words).toBe('24 or later');
    expect(() => supportedNode('>=20')).toThrow('">=20" is neither');
    expect(() => supportedNode('^20.19.1')).toThrow('neither ^MAJOR.MINOR.0 nor');
  });
});

describe('the code cache of an installed package', () => {
  const isRoot = process.geteuid?.() === 0;

  /** The program as the npm package has it: without a code cache from the build. */
  function installed() {
    const dist = inFolder('dist');
    mkdirSync(dist);
    for (const name of ['bundle.cjs', 'genai-gateway.cjs'])
      cpSync(join(dirname(PROGRAM), name), join(dist, name));
    mkdirSync(inFolder('home'));
    const home = inFolder('home');
    const caches = join(home, '.cache', 'genai-gateway');
    return {
      home,
      caches,
      names: () => (existsSync(caches) ? readdirSync(caches) : []),
      file: () => join(caches, readdirSync(caches)[0] ?? ''),
      run: (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
        const { status, stdout, stderr } = spawnSync(
          process.execPath,
          ['--', join(dist, 'genai-gateway.cjs'), ...args],
          {
            env: { ...GOOD, HOME: home, ...env },
            encoding: 'utf8',
          },
        );
        return { code: status, stdout, stderr };
      },
    };
  }

  const isAccepted = (cachedData: Buffer) => {
    const filename = join(dirname(PROGRAM), 'bundle.cjs');
    // The source must be new to this process: V8 ignores the cache of a script that it has compiled before.
    const source = readFileSync(filename, 'latin1');
    return (
      new Script(source, { filename: `${filename}.${Math.random()}`, cachedData }).cachedDataRejected ===
      false
    );
  };

  test.skipIf(process.platform !== 'linux')(
    'is written by the first command that compiles settings, readable by this user only, and then used',
    () => {
      const { caches, names, file, run } = installed();
      expect(run(['check'])).toMatchObject({ code: 0 });
      expect(names()).toEqual([
        expect.stringMatching(
          new RegExp(`^[0-9a-f]{16}-${process.version.replaceAll('.', '\\.')}-${process.arch}\\.cache$`),
        ),
      ]);
      expect(statSync(caches).mode & 0o777).toBe(0o700);
      expect(statSync(file()).mode & 0o777).toBe(0o600);
      expect(isAccepted(readFileSync(file()))).toBe(true);
      const before = statSync(file());
      expect(run(['render', '--out', inFolder('rendered')])).toMatchObject({ code: 0 });
      expect(statSync(file())).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs });
    },
  );

  test('is written to XDG_CACHE_HOME when that is set, and not at all with NODE_DISABLE_COMPILE_CACHE', () => {
    const { names, run } = installed();
    mkdirSync(inFolder('caches'));
    run(['check'], { XDG_CACHE_HOME: inFolder('caches') });
    expect(names()).toEqual([]);
    expect(readdirSync(inFolder('caches/genai-gateway'))).toHaveLength(1);
    run(['check'], { NODE_DISABLE_COMPILE_CACHE: '1' });
    expect(names()).toEqual([]);
  });

  test('is not written by commands that compile no settings or that fail', () => {
    const { names, run } = installed();
    for (const args of [['--version'], ['schema'], ['check', '--no-such-option']]) run(args);
    expect(run(['check'], { AZURE_OPENAI_WEIGHT_0: 'nonsense' }).code).toBe(1);
    expect(names()).toEqual([]);
  });

  test('is replaced, not used, when it is damaged or writable by others', () => {
    const { file, run } = installed();
    const { stdout } = run(['check']);
    const path = file();
    const good = readFileSync(path);
    for (const [content, mode] of [
      [good.subarray(0, 1000), 0o600],
      [Buffer.from('nonsense'), 0o600],
      [good, 0o666],
    ] as const) {
      rmSync(path);
      inFolder(relative(inFolder('.'), path), content);
      chmodSync(path, mode);
      const { ino } = statSync(path);
      expect(run(['check'])).toMatchObject({ code: 0, stdout });
      expect(statSync(path).ino).not.toBe(ino);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(isAccepted(readFileSync(path))).toBe(true);
    }
  });

  test.skipIf(!isRoot)('is neither read nor written in the home of another user', () => {
    const { home, names, run } = installed();
    spawnSync('chown', ['1', home]);
    expect(run(['check'])).toMatchObject({ code: 0 });
    expect(names()).toEqual([]);
  });

  test('is not written when there is no home folder', () => {
    const { run } = installed();
    expect(run(['check'], { HOME: inFolder('nobody') })).toMatchObject({ code: 0 });
    expect(existsSync(inFolder('nobody'))).toBe(false);
    expect(run(['check'], { HOME: 'relative' })).toMatchObject({ code: 0 });
    expect(run(['check'], { HOME: '' })).toMatchObject({ code: 0 });
  });

  test('is removed a month after its version was last used', () => {
    const { caches, names, run } = installed();
    mkdirSync(caches, { recursive: true });
    const old = new Date(Date.now() - 31 * 24 * 60 * 60 * 1000);
    for (const name of ['old.cache', 'recent.cache'])
      inFolder(`home/.cache/genai-gateway/${name}`, 'of another');
    utimesSync(join(caches, 'old.cache'), old, old);
    run(['check']);
    expect(names()).not.toContain('old.cache');
    expect(names()).toContain('recent.cache');
    expect(names()).toHaveLength(2);
  });

  test('is not written when the build has written one, as in the image', () => {
    const home = inFolder('home');
    mkdirSync(home);
    const built = join(ROOT, 'dist', 'bundle.cache');
    const before = statSync(built).mtimeMs;
    const { status } = spawnSync(process.execPath, ['--', PROGRAM, 'check'], {
      env: { ...GOOD, HOME: home },
    });
    expect(status).toBe(0);
    expect(readdirSync(home)).toEqual([]);
    expect(statSync(built).mtimeMs).toBe(before);
  });
});
