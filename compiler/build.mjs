/** Builds dist/: the bundle, one file with templates and validators precompiled into it, and what starts it fast. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import Ajv from 'ajv';
import standaloneCode from 'ajv/dist/standalone/index.js';
import { build } from 'esbuild';
import Handlebars from 'handlebars';

const root = fileURLToPath(new URL('..', import.meta.url));
const TEMPLATES = `${root}templates/`;

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

function validatorsModule() {
  const schema = (name) => JSON.parse(readFileSync(`${root}schemas/${name}.schema.json`, 'utf8'));
  const schemas = { apisix: schema('apisix'), config: schema('config'), collector: schema('otel-collector') };
  const ajv = new Ajv({
    allErrors: true,
    strict: true,
    allowUnionTypes: true,
    inlineRefs: false,
    code: { source: true, esm: true, optimize: 2 },
  });
  for (const [name, each] of Object.entries(schemas)) ajv.addSchema(each, name);
  return standaloneCode(ajv, { apisix: 'apisix', config: 'config', collector: 'collector' });
}

/** Modules that exist only as text made here. */
const virtualModules = {
  'virtual:templates': templatesModule,
  'virtual:validators': validatorsModule,
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
 * commander loads node:child_process for subcommands that are programs of their own. There are none here, and loading it
 * costs a tenth of a start: commander gets nothing in its place. What does start programs loads it when it does.
 */
const noChildProcessForCommander = {
  name: 'no-child-process-for-commander',
  setup(builder) {
    builder.onResolve({ filter: /^(?:node:)?child_process$/ }, ({ importer }) =>
      /[\\/]node_modules[\\/]commander[\\/]/.test(importer)
        ? { path: `${root}compiler/no-child-process.cjs` }
        : undefined,
    );
  },
};

/** @param {import('esbuild').BuildOptions} options */
export function bundle(options) {
  return build({
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    plugins: [virtual, noChildProcessForCommander],
    charset: 'ascii',
    loader: { '.env': 'text' },
    define: {
      PACKAGE_VERSION: JSON.stringify(JSON.parse(readFileSync(`${root}package.json`, 'utf8')).version),
    },
    logLevel: 'warning',
    ...options,
  });
}

/** A virtual module by itself, as the text of an ES module: for vitest. */
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
 * npm links the programs of dependencies only; with the link, npx finds this one without making a package of its own
 * for it. Where links are not to be had (Windows), npx does that.
 */
function linkProgram(program) {
  const link = `${root}node_modules/.bin/genai-gateway`;
  rmSync(link, { force: true });
  try {
    symlinkSync(relative(dirname(link), program), link);
  } catch {
    // Nothing is lost but a second at the first npx.
  }
}

/** Runs a render as a user would and keeps the code that V8 compiled for it. */
function writeCodeCache(launcher) {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-build-'));
  try {
    const args = [launcher, 'render', '--env-file', `${root}examples/minimal.env`, '--out', folder];
    execFileSync(process.execPath, args, {
      env: { GENAI_GATEWAY_BUILD: 'code-cache' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const dist = `${root}dist/`;
  rmSync(dist, { recursive: true, force: true });
  await bundle({
    entryPoints: [`${root}compiler/main.ts`],
    outfile: `${dist}bundle.cjs`,
    format: 'cjs',
    minify: true,
    legalComments: 'none',
    // The function that Node makes of a module: the launcher calls it without making another copy of the text.
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
  });
  copyFileSync(`${root}compiler/launcher.cjs`, `${dist}genai-gateway.cjs`);
  chmodSync(`${dist}genai-gateway.cjs`, 0o755);
  writeCodeCache(`${dist}genai-gateway.cjs`);
  linkProgram(`${dist}genai-gateway.cjs`);
}
