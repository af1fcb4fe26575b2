/** Builds dist/genai-gateway.cjs: one file, templates and validators precompiled into it. */
import { readdirSync, readFileSync } from 'node:fs';
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
  const ajv = new Ajv({ allErrors: true, strict: true, allowUnionTypes: true, code: { source: true, esm: true, optimize: 2 } });
  for (const [name, each] of Object.entries(schemas)) ajv.addSchema(each, name);
  return standaloneCode(ajv, { apisix: 'apisix', config: 'config', collector: 'collector' });
}

/** Modules that exist only as text made here; used by esbuild below and by vitest. */
export const virtualModules = {
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

/** @param {import('esbuild').BuildOptions} options */
export function bundle(options) {
  return build({
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    plugins: [virtual],
    loader: { '.env': 'text' },
    define: { PACKAGE_VERSION: JSON.stringify(JSON.parse(readFileSync(`${root}package.json`, 'utf8')).version) },
    logLevel: 'warning',
    ...options,
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await bundle({
    entryPoints: [`${root}compiler/main.ts`],
    outfile: `${root}dist/genai-gateway.cjs`,
    format: 'cjs',
    minify: true,
    legalComments: 'none',
    banner: { js: '#!/usr/bin/env node' },
  });
}
