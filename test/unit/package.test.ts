/**
 * The npm package: packed in a copy of the repository, installed offline in an empty folder, it runs without any other
 * package.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundle, bundledPackages } from '../../compiler/build.mjs';
import { copyOfRepository, ROOT, repositoryFiles, textOf } from '../support/repository.ts';

const copy = copyOfRepository();

let folder = '';
let tarball = '';
/** The output of npm when it installed the tarball. */
let said = '';

/**
 * Runs npm as a user would: without the variables of the npm that runs these tests, and offline, so that it gets no other
 * package.
 */
function npm(cwd: string, ...args: string[]): string {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_|^NODE_ENV$/.test(name)),
  );
  const { status, stdout, stderr } = spawnSync('npm', [...args, '--offline', '--no-audit', '--no-fund'], {
    cwd,
    env: { ...env, npm_config_update_notifier: 'false' },
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`npm ${args.join(' ')} failed:\n${stdout}${stderr}`);
  return stdout + stderr;
}

const installed = (...path: string[]) => join(folder, 'empty', 'node_modules', ...path);
const inPackage = (...path: string[]) => installed('genai-gateway', ...path);

/** Runs the installed program as npx would, in the folder where it is installed. */
function run(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { status, stdout, stderr } = spawnSync(installed('.bin', 'genai-gateway'), args, {
    cwd: join(folder, 'empty'),
    env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, ...env },
    encoding: 'utf8',
  });
  return { code: status, stdout, stderr };
}

/** The paths of all files of the package. */
const packed = () =>
  readdirSync(inPackage(), { recursive: true, encoding: 'utf8' })
    .filter((path) => statSync(inPackage(path)).isFile())
    .sort();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-package-'));
  for (const name of ['packed', 'empty']) mkdirSync(join(folder, name));
  // Packing must build: an earlier build must not be what is packed.
  rmSync(copy('dist'), { recursive: true });
  npm(copy(), 'pack', '--pack-destination', join(folder, 'packed'));
  const [name = ''] = readdirSync(join(folder, 'packed'));
  tarball = join(folder, 'packed', name);
  // With its prefix, npm does not install into a folder above that has packages.
  said = npm(join(folder, 'empty'), 'install', '--prefix', '.', tarball);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('installing the package', () => {
  test('adds one package without dependencies', () => {
    expect(said).toContain('added 1 package ');
    expect(readdirSync(installed()).filter((name) => !name.startsWith('.'))).toEqual(['genai-gateway']);
    expect(readdirSync(installed('.bin'))).toEqual(['genai-gateway']);
  });

  test('runs no script and prints no warning', () => {
    expect(said).not.toMatch(/warn|script/i);
    const lock = JSON.parse(readFileSync(installed('.package-lock.json'), 'utf8'));
    expect(lock.packages['node_modules/genai-gateway']).not.toHaveProperty('hasInstallScript');
    const { scripts } = JSON.parse(readFileSync(inPackage('package.json'), 'utf8'));
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) {
      expect(scripts).not.toHaveProperty(name);
    }
  });

  test('downloads less than 1.2 MB, of which the libraries of deploy have a third at most', () => {
    expect(statSync(tarball).size).toBeLessThan(1_200_000);
    expect(gzipSync(readFileSync(inPackage('dist/deploy.cjs'))).length).toBeLessThan(400_000);
  });

  test('has bundles of the sizes that docs/commands.md states', () => {
    const megabytes = (bytes: number) => (bytes / 1_000_000).toFixed(1);
    const sizeOf = (name: string) => megabytes(statSync(inPackage('dist', name)).size);
    const compressed = megabytes(gzipSync(readFileSync(inPackage('dist/deploy.cjs'))).length);
    const page = textOf('docs/commands.md').replace(/\s+/g, ' ');
    for (const name of ['bundle.cjs', 'libraries.cjs'])
      expect(page).toContain(`\`dist/${name}\` has ${sizeOf(name)} MB`);
    expect(page).toContain(`\`dist/deploy.cjs\` has ${sizeOf('deploy.cjs')} MB, ${compressed} MB compressed`);
  });
});

describe('the package', () => {
  test('contains the program, Lua plugins, templates, schemas, examples, docs and what deploy needs, and nothing else', () => {
    const folders = ['lua-plugins', 'templates', 'schemas', 'examples', 'docs', 'docker'];
    const stacks = repositoryFiles('deploy/azure/modules', 'deploy/azure/stacks').filter(
      (file) => !file.includes('/tests/'),
    );
    expect(packed()).toEqual(
      [
        ...['LICENSE', 'README.md', 'package.json'],
        ...['dist/THIRD_PARTY_LICENSES.txt', 'dist/bundle.cjs', 'dist/deploy.cjs', 'dist/genai-gateway.cjs'],
        'dist/libraries.cjs',
        ...repositoryFiles(...folders),
        ...stacks,
      ].sort(),
    );
  });

  test('has everything that deploy needs: it gets as far as the tools', () => {
    mkdirSync(join(folder, 'empty/environments'));
    const file = (name: string, text: string) =>
      writeFileSync(join(folder, 'empty/environments', name), text);
    file('dev.tfvars', 'subscription_id = "5b2c4c1e-8d1a-4f3a-9a55-6f5f3a3f7b10"\nlocation = "westeurope"\n');
    file('dev.env', 'GATEWAY_CLIENT_NAME_0=app\n');
    // A folder with Node alone, so that no az of this machine is found.
    mkdirSync(join(folder, 'node'));
    symlinkSync(process.execPath, join(folder, 'node/node'));
    const { code, stderr } = run(['deploy', 'dev', '--plan'], { PATH: join(folder, 'node') });
    expect(code).toBe(3);
    expect(stderr).toMatch(/az cannot be started: it is not installed/);
    expect(stderr).not.toMatch(/missing from|no stack has this variable/);
  });

  test('contains no path of the machine that built it', () => {
    for (const path of packed()) {
      const content = readFileSync(inPackage(path), 'latin1');
      for (const place of [ROOT, copy(), tmpdir(), process.env.HOME ?? ROOT]) {
        // Pages may name short paths such as /tmp.
        if (place.length > 5) expect(content.includes(`${place}/`), `${path}: ${place}`).toBe(false);
      }
    }
  });

  const requiredBy = (bundled: string) =>
    [...readFileSync(inPackage(bundled), 'latin1').matchAll(/\brequire\("([^"]+)"\)/g)].map(
      ([, name = '']) => name,
    );
  const isOfNode = (name: string) => builtinModules.includes(name.replace(/^node:/, ''));

  test('loads only modules of Node, and its bundles of libraries', () => {
    const required = requiredBy('dist/bundle.cjs');
    const others = required.filter((name) => !isOfNode(name));
    // ajv writes the last two into generated code. They are bundled, so they are never loaded.
    const generated = ['ajv/dist/runtime/equal', 'ajv/dist/runtime/ucs2length'];
    expect(others.sort()).toEqual(['./deploy.cjs', './libraries.cjs', ...generated]);
    expect(required).toContain('node:fs');
  });

  test.each([
    // A library asks whether this one is installed, and works without it.
    ['deploy.cjs', ['supports-color']],
    // ajv writes these into the code that it generates, and takes them from itself when that code runs.
    [
      'libraries.cjs',
      ['equal', 'ucs2length', 'uri', 'validation_error'].map((name) => `ajv/dist/runtime/${name}`),
    ],
  ])('has a bundle %s that loads only modules of Node', (name, notLoaded) => {
    const others = requiredBy(`dist/${name}`).filter((each) => !isOfNode(each));
    expect([...new Set(others)].sort()).toEqual(notLoaded);
  });

  test("names the project's repository, home page and issue tracker", () => {
    const { repository, homepage, bugs, keywords } = JSON.parse(
      readFileSync(inPackage('package.json'), 'utf8'),
    );
    const { url } = repository;
    expect(url).toMatch(/^git\+https:\/\/github\.com\/[\w-]+\/genai-gateway\.git$/);
    const project = url.slice('git+'.length, -'.git'.length);
    expect(homepage).toBe(`${project}#readme`);
    expect(bugs).toEqual({ url: `${project}/issues` });
    expect(keywords.length).toBeGreaterThan(3);
  });
});

describe('the third-party licences', () => {
  const licenses = () => readFileSync(inPackage('dist/THIRD_PARTY_LICENSES.txt'), 'utf8');

  test.each([
    ['bundle.cjs', 'compiler/main.ts', ['commander', 'handlebars', 'zod']],
    ['libraries.cjs', 'compiler/libraries.ts', ['ajv', 'handlebars', 'yaml']],
    [
      'deploy.cjs',
      'compiler/deploy/libraries.ts',
      [
        '@azure/identity',
        '@azure/keyvault-secrets',
        '@tree-sitter-grammars/tree-sitter-hcl',
        'web-tree-sitter',
      ],
    ],
  ])('cover exactly the packages that %s contains code of', async (file, entry, some) => {
    const { metafile } = await bundle({
      entryPoints: [join(ROOT, entry)],
      format: 'cjs',
      write: false,
      metafile: true,
      minify: true,
    });
    const [output] = Object.values(metafile.outputs);
    // A package of a package may have a version of its own: the folder of what is bundled counts.
    const folders = new Map(
      Object.entries(output?.inputs ?? {}).flatMap(([path, { bytesInOutput }]) => {
        const [folder, name = ''] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path) ?? [];
        return folder !== undefined && bytesInOutput > 0 ? [[name, folder]] : [];
      }),
    );
    const [head = ''] = licenses().split(`\n${'-'.repeat(80)}\n`);
    const [, list = ''] =
      new RegExp(`(?:^|\\n)${file} contains code of these packages.*?\\n\\n(.*?)\\n(?:\\n|$)`, 's').exec(
        head,
      ) ?? [];
    const listed = list
      .split('\n')
      .map((line) => /^ {2}(\S+) (\S+) \((.+)\)$/.exec(line)?.slice(1) ?? [line]);
    expect(listed.map(([name]) => name)).toEqual([...folders.keys()].sort());
    expect(listed.map(([name]) => name)).toEqual(expect.arrayContaining(some));
    for (const [name = '', version, license] of listed) {
      expect(JSON.parse(textOf(`${folders.get(name)}package.json`))).toMatchObject({ version, license });
    }
  });

  test('are copied word for word', () => {
    const sections = licenses()
      .split(`\n${'-'.repeat(80)}\n\n`)
      .slice(1);
    expect(sections.length).toBeGreaterThan(5);
    for (const section of sections) {
      const [, names = '', text = ''] = /^([^\n]+)\n\n(.*)\n$/s.exec(section) ?? [];
      for (const nameAndVersion of names.split(', ')) {
        const name = nameAndVersion.replace(/ \S+$/, '');
        const file =
          readdirSync(join(ROOT, 'node_modules', name)).find((each) => /^licen[cs]e/i.test(each)) ?? '';
        expect(text, name).toContain(textOf(`node_modules/${name}/${file}`).trim());
        expect(text, name).toMatch(/copyright|permission/i);
      }
    }
  });

  test.each([
    [{ name: 'other', version: '1.0.0', license: 'MIT' }, 'other 1.0.0 has no file with its licence'],
    [{ name: 'other', version: '1.0.0' }, 'other 1.0.0 does not name its licence'],
  ])('fail the build when a package has no licence file or name: %j', (content, problem) => {
    const place = join(folder, 'other', 'node_modules', 'other');
    mkdirSync(join(place, 'lib'), { recursive: true });
    writeFileSync(join(place, 'package.json'), JSON.stringify(content));
    // This file sets the module kind only. It does not name a package.
    writeFileSync(join(place, 'lib', 'package.json'), '{"type":"commonjs"}');
    const output = {
      ...{ bytes: 1, imports: [], exports: [] },
      inputs: { 'node_modules/other/lib/index.js': { bytesInOutput: 1 } },
    };
    expect(() => bundledPackages({ outputs: { output } }, join(folder, 'other'))).toThrow(problem);
  });
});

describe('the installed program', () => {
  const example = () => inPackage('examples', 'minimal.env');

  test('prints its version', () => {
    const { version } = JSON.parse(readFileSync(inPackage('package.json'), 'utf8'));
    expect(run(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  test('renders the three files', () => {
    expect(run(['render', '-e', example(), '--out', 'rendered'])).toMatchObject({ code: 0 });
    expect(readdirSync(join(folder, 'empty', 'rendered')).sort()).toEqual([
      'apisix.yaml',
      'config.yaml',
      'otel-collector.yaml',
    ]);
  });

  test.each([
    ['check'],
    ['check', '--format', 'sarif'],
    ['preview', 'collector'],
    ['diff', '--against', 'rendered'],
    ['explain', 'LB_ALG'],
  ])('runs %s with settings', (...args) => {
    expect(run([...args, '-e', example()])).toMatchObject({ code: 0 });
  });

  test.each([['init'], ['schema'], ['docs'], ['completion', 'bash']])(
    'runs %s without settings',
    (...args) => {
      const { code, stdout } = run(args);
      expect(code).toBe(0);
      expect(stdout.length).toBeGreaterThan(100);
    },
  );

  test('compiles custom templates at run time', () => {
    const templates = join(folder, 'empty', 'templates', 'apisix', 'plugins');
    mkdirSync(templates, { recursive: true });
    const original = readFileSync(inPackage('templates/apisix/plugins/cors.hbs'));
    writeFileSync(join(templates, 'cors.hbs'), original);
    const args = ['render', '-e', example(), '--templates', 'templates', '--out', 'with-templates'];
    expect(run(args)).toMatchObject({ code: 0 });
  });

  test("mounts the package's Lua plugins with up --mock", () => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    const calls = join(folder, 'calls');
    writeFileSync(
      join(bin, 'docker'),
      `#!/bin/bash
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
network*) echo '127.0.0.1 127.0.0.0/8' ;;
run*) echo 'docker: Error response from daemon: not today.' >&2; exit 125 ;;
esac
`,
    );
    chmodSync(join(bin, 'docker'), 0o755);
    const { code, stderr } = run(['up', '--mock', '--port', '0', '--mock-port', '0'], {
      PATH: `${bin}:${dirname(process.execPath)}:/usr/bin:/bin`,
      CALLS: calls,
    });
    expect({ code, stderr }).toEqual({ code: 3, stderr: expect.stringContaining('not today.') });
    const [, source] = /source=([^,]*\/lua-plugins),/.exec(readFileSync(calls, 'utf8')) ?? [];
    expect(source).toBe(inPackage('lua-plugins'));
  });
});
