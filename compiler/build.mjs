/** Builds dist/: the bundle, one file with templates and validators precompiled into it, and what starts it fast. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import Handlebars from 'handlebars';
import { validatorsModule } from './validators.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const TEMPLATES = `${root}templates/`;
const DIST = `${root}dist/`;
/** Terraform's stacks. The image is built without them. */
const STACKS = `${root}deploy/azure/stacks/`;

/** The helpers that templates may use; a name that is not here does not compile. */
const TEMPLATE_HELPERS = { json: true, join: true, concat: true, is: true, duration: true };
const TEMPLATE_OPTIONS = { noEscape: true, knownHelpers: TEMPLATE_HELPERS, knownHelpersOnly: true };

/** Names of all templates, `apisix/plugins/cors` for templates/apisix/plugins/cors.hbs. */
function templateNames() {
  return readdirSync(TEMPLATES, { recursive: true })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith('.hbs'))
    .map((file) => file.slice(0, -'.hbs'.length))
    .sort();
}

function templatesModule() {
  const entries = templateNames().map((name) => {
    const source = readFileSync(`${TEMPLATES}${name}.hbs`, 'utf8');
    return `${JSON.stringify(name)}: ${Handlebars.precompile(source, TEMPLATE_OPTIONS)}`;
  });
  const helpers = JSON.stringify(Object.keys(TEMPLATE_HELPERS));
  return `export const helpers = ${helpers};\nexport default {${entries.join(',\n')}};`;
}

function documentSchemas() {
  const schema = (name) => JSON.parse(readFileSync(`${root}schemas/${name}.schema.json`, 'utf8'));
  return { apisix: schema('apisix'), config: schema('config'), collector: schema('otel-collector') };
}

/** Which variables the stacks know, for `import`. */
function stacksModule() {
  const names = (stack) =>
    [...readFileSync(`${STACKS}${stack}/variables.tf`, 'utf8').matchAll(/^variable "(\w+)"/gm)].map(
      ([, name]) => name,
    );
  const stacks = existsSync(STACKS) ? readdirSync(STACKS).sort() : [];
  return `export default ${JSON.stringify(Object.fromEntries(stacks.map((stack) => [stack, names(stack)])))};`;
}

/** Modules that exist only as text made here. */
const virtualModules = {
  'virtual:templates': templatesModule,
  'virtual:validators': () => validatorsModule(documentSchemas()),
  'virtual:stacks': stacksModule,
};

/** Libraries that few commands need, in bundles of their own: the file that imports them, and its bundle. */
const LIBRARIES = { 'compiler/libraries.ts': 'libraries.cjs', 'compiler/deploy/libraries.ts': 'deploy.cjs' };

/**
 * The bundle loads a file of libraries as a bundle of its own, when a command imports it. The launcher's `require` looks next
 * to the launcher. A module that is missing there is missing in the image only, which has neither Terraform nor deploy.cjs.
 */
const librariesInOwnBundles = {
  name: 'libraries-in-own-bundles',
  setup(builder) {
    builder.onResolve({ filter: /\/libraries\.ts$/ }, ({ path, kind, importer, resolveDir }) => {
      if (kind === 'entry-point') return undefined;
      if (kind !== 'dynamic-import')
        return {
          errors: [{ text: `${importer}: import libraries.ts by import() only, which loads it late` }],
        };
      const file = relative(root, join(resolveDir, path)).replaceAll('\\', '/');
      if (LIBRARIES[file] === undefined)
        return { errors: [{ text: `${importer}: ${file} has no bundle in LIBRARIES of build.mjs` }] };
      return { path: LIBRARIES[file], namespace: 'own-bundle' };
    });
    builder.onLoad({ filter: /.*/, namespace: 'own-bundle' }, ({ path }) => ({
      contents: `module.exports = require('./${path}');`,
      loader: 'js',
    }));
    const bundles = Object.values(LIBRARIES).join('|').replaceAll('.', '\\.');
    builder.onResolve({ filter: new RegExp(`^\\./(?:${bundles})$`) }, ({ path }) => ({
      path,
      external: true,
    }));
  },
};

const virtual = {
  name: 'virtual-modules',
  setup(builder) {
    builder.onResolve({ filter: /^virtual:/ }, ({ path }) => ({ path, namespace: 'virtual' }));
    builder.onLoad({ filter: /.*/, namespace: 'virtual' }, ({ path }) => ({
      contents: virtualModules[path](),
      resolveDir: root,
    }));
  },
};

/**
 * Modules that a library loads for functions that are not used here: commander for subcommands that are separate programs,
 * dotenv for the home in a path, handlebars for source maps (it has code of its own for this case), ajv for references between
 * schemas. Loading node:child_process would cost a tenth of the start time. The bundle replaces them by an empty module. Our
 * own code that needs them imports them itself.
 */
const UNUSED_BY = {
  ajv: /^fast-uri$/,
  commander: /^(?:node:)?child_process$/,
  dotenv: /^(?:node:)?os$/,
  handlebars: /^source-map$/,
};

const emptyModules = {
  name: 'empty-modules',
  setup(builder) {
    for (const [name, filter] of Object.entries(UNUSED_BY)) {
      const isInLibrary = new RegExp(`[\\\\/]node_modules[\\\\/]${name}[\\\\/]`);
      builder.onResolve({ filter }, ({ importer }) =>
        isInLibrary.test(importer) ? { path: `${root}compiler/empty-module.cjs` } : undefined,
      );
    }
  },
};

/** The form of web-tree-sitter that is no ES module: import.meta, with which the other one begins, is empty in a bundle. */
const treeSitterWithoutImportMeta = {
  name: 'tree-sitter-without-import-meta',
  setup(builder) {
    builder.onResolve({ filter: /^web-tree-sitter$/ }, ({ path, pluginData }) =>
      pluginData === 'asked'
        ? undefined
        : builder.resolve(path, { kind: 'require-call', resolveDir: root, pluginData: 'asked' }),
    );
  },
};

const packageJson = () => JSON.parse(readFileSync(`${root}package.json`, 'utf8'));

/** The address of the documentation: the homepage in package.json, else the package's page on npm. */
export function homepage() {
  const { homepage: given, name } = packageJson();
  return given ?? `https://www.npmjs.com/package/${name}`;
}

/** @param {import('esbuild').BuildOptions} options */
export function bundle(options) {
  return build({
    // Paths in the bundle and its metafile must not depend on the folder from which the build is started.
    absWorkingDir: root,
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    plugins: [virtual, emptyModules, librariesInOwnBundles, treeSitterWithoutImportMeta],
    charset: 'ascii',
    loader: { '.env': 'text', '.wasm': 'binary' },
    define: {
      PACKAGE_VERSION: JSON.stringify(packageJson().version),
      PACKAGE_HOMEPAGE: JSON.stringify(homepage()),
    },
    logLevel: 'warning',
    ...options,
  });
}

/** The source of one virtual module, as an ES module: for vitest. */
export async function bundleVirtualModule(name) {
  const { outputFiles } = await bundle({
    stdin: {
      contents: `export * from '${name}'; import * as all from '${name}'; export default all.default;`,
      resolveDir: root,
    },
    format: 'esm',
    write: false,
    logLevel: 'error',
  });
  return outputFiles[0].text;
}

/**
 * npm links the programs of dependencies, but not those of the package itself. With this link npx finds the program
 * without creating a temporary package. On Windows, where the link may fail, npx creates one.
 */
function linkProgram(program) {
  const link = `${root}node_modules/.bin/genai-gateway`;
  rmSync(link, { force: true });
  try {
    symlinkSync(relative(dirname(link), program), link);
  } catch {
    // Without the link only the first npx is slower, by about a second.
  }
}

/**
 * The npm packages whose code the bundle contains, sorted by name: those in esbuild's output, not all its inputs.
 * @param {import('esbuild').Metafile} metafile
 * @param {string} base the folder that the paths of the metafile are relative to
 */
export function bundledPackages({ outputs }, base = root) {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  const folders = inputs
    .filter(([path, { bytesInOutput }]) => bytesInOutput > 0 && path.includes('node_modules/'))
    .map(([path]) => folderOfPackage(join(base, path)));
  return [...new Set(folders)]
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      if (typeof license !== 'string') throw new Error(`${name} ${version} does not name its licence`);
      const texts = readdirSync(folder)
        .filter((file) => /^(?:licen[cs]e|copying|notice)(?:[.-]|$)/i.test(file))
        .sort()
        .map((file) => readFileSync(join(folder, file), 'utf8').trim());
      if (texts.length === 0) {
        throw new Error(`${name} ${version} has no file with its licence, which the package must contain`);
      }
      return { name, version, license, texts };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * The folder of a file's package: packages can contain further package.json files, some with a name, which only set the
 * module type of a folder.
 */
function folderOfPackage(path) {
  const [folder] = /^.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+/.exec(path);
  return folder;
}

/** The licences of the bundled packages require their notices in every copy. */
function thirdPartyLicenses(bundles) {
  const rule = `\n${'-'.repeat(80)}\n\n`;
  const lists = Object.entries(bundles).map(([file, packages]) => {
    const list = packages.map(({ name, version, license }) => `  ${name} ${version} (${license})\n`).join('');
    return `${file} contains code of these packages, under their licences:\n\n${list}`;
  });
  const all = new Map(
    Object.values(bundles).flatMap((packages) =>
      packages.map((each) => [`${each.name} ${each.version}`, each]),
    ),
  );
  const byText = new Map();
  for (const [name, { texts }] of [...all].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const text = texts.join('\n\n');
    byText.set(text, [...(byText.get(text) ?? []), name]);
  }
  const texts = [...byText].map(([text, names]) => `${names.join(', ')}\n\n${text}\n`);
  return [lists.join('\n'), ...texts].join(rule);
}

/**
 * The range of package.json's `engines` for the launcher: the first version of each line, and the range in words.
 * @param {string} range
 */
export function supportedNode(range) {
  const lines = range.split(' || ').map((part) => {
    const [, operator, major, minor, patch] = /^(\^|>=)(\d+)\.(\d+)\.(\d+)$/.exec(part) ?? [];
    if (operator === undefined || patch !== '0') {
      throw new Error(
        `engines.node of package.json: "${part}" is neither ^MAJOR.MINOR.0 nor >=MAJOR.MINOR.0`,
      );
    }
    return { major: Number(major), minor: Number(minor), orLater: operator === '>=' };
  });
  const words = lines.map(({ major, minor, orLater }) => {
    const version = minor === 0 ? `${major}` : `${major}.${minor}`;
    return orLater ? `${version} or later` : `${version} or a later ${major}`;
  });
  return { lines, words: words.join(', ').replace(/, ([^,]*)$/, ', or $1') };
}

/** The launcher, in JavaScript that old versions of Node can parse, so that it can print a message there. */
async function writeLauncher(file) {
  const { engines } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  await build({
    entryPoints: [`${root}compiler/launcher.cjs`],
    outfile: file,
    target: 'es2015',
    charset: 'ascii',
    define: {
      SUPPORTED_NODE: JSON.stringify(supportedNode(engines.node)),
      BUNDLE_DIGEST: JSON.stringify(digestOf([`${DIST}bundle.cjs`]).slice(0, 16)),
    },
    logLevel: 'warning',
  });
  chmodSync(file, 0o755);
}

/** Runs a render like a user and keeps the code that V8 compiled for it. */
function writeCodeCache(launcher) {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-build-'));
  try {
    const args = [
      launcher,
      'render',
      '--quiet',
      '--env-file',
      `${root}examples/minimal.env`,
      '--out',
      folder,
    ];
    execFileSync(process.execPath, args, {
      env: { GENAI_GATEWAY_BUILD: 'code-cache' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** All inputs of a build. lua-plugins/ is shipped without a build step; the image is built without deploy/. */
const INPUTS = [
  'compiler',
  'deploy',
  'examples',
  'schemas',
  'templates',
  'package.json',
  'package-lock.json',
];
/** Stores the digest of the inputs of dist/. It is outside dist/, because dist/ is published. */
const STAMP = `${root}node_modules/.cache/genai-gateway/build.json`;

/** A digest of the contents of the files, and of all files below the folders. */
function digestOf(paths, ...more) {
  const hash = createHash('sha256').update(JSON.stringify(more));
  const add = (path) => {
    if (statSync(path).isDirectory()) {
      for (const name of readdirSync(path).sort()) add(join(path, name));
    } else {
      const content = readFileSync(path);
      hash.update(`${relative(root, path)}\0${content.length}\0`).update(content);
    }
  };
  for (const path of paths) add(path);
  return hash.digest('hex');
}

/** The code cache belongs to one version of Node on one kind of processor. */
const inputs = () =>
  digestOf(
    INPUTS.map((path) => root + path).filter((path) => existsSync(path)),
    process.version,
    process.arch,
  );
const outputs = () => digestOf([DIST]);

/** Whether dist/ was built from the current sources. */
export function isBuilt() {
  try {
    const stamp = JSON.parse(readFileSync(STAMP, 'utf8'));
    return stamp.inputs === inputs() && stamp.outputs === outputs();
  } catch {
    // There is no build, or it was interrupted.
    return false;
  }
}

export async function buildProgram() {
  rmSync(STAMP, { force: true });
  rmSync(DIST, { recursive: true, force: true });
  // The digest is taken before the build, so that a change during the build causes another build.
  const madeOf = inputs();
  const common = { format: 'cjs', minify: true, metafile: true, legalComments: 'none' };
  const { metafile } = await bundle({
    ...common,
    entryPoints: [`${root}compiler/main.ts`],
    outfile: `${DIST}bundle.cjs`,
    // The same wrapper function that Node creates for a module; the launcher calls it without copying the source text.
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
  });
  const packages = { 'bundle.cjs': bundledPackages(metafile) };
  for (const [file, outfile] of Object.entries(LIBRARIES)) {
    // The image is built without the sources of deploy.
    if (file.startsWith('compiler/deploy/') && !existsSync(STACKS)) continue;
    const { metafile: ofLibraries } = await bundle({
      ...common,
      entryPoints: [root + file],
      outfile: DIST + outfile,
    });
    packages[outfile] = bundledPackages(ofLibraries);
  }
  writeFileSync(`${DIST}THIRD_PARTY_LICENSES.txt`, thirdPartyLicenses(packages));
  await writeLauncher(`${DIST}genai-gateway.cjs`);
  writeCodeCache(`${DIST}genai-gateway.cjs`);
  linkProgram(`${DIST}genai-gateway.cjs`);
  mkdirSync(dirname(STAMP), { recursive: true });
  writeFileSync(STAMP, JSON.stringify({ inputs: madeOf, outputs: outputs() }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildProgram();
