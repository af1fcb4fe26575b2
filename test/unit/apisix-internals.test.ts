/**
 * Only `lua-plugins/apisix_internals/` uses more of APISIX than its documented plugin interface, and its terms list what
 * it uses.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, test } from 'vitest';
import { contractTerms, type Term } from '../support/apisix-contract.ts';
import { cannotRun } from '../support/requirements.ts';

const ROOT = fileURLToPath(new URL('../../lua-plugins', import.meta.url));
const INSIDE = 'apisix_internals';

/**
 * Members of `apisix.core` that APISIX documents: in docs/en/latest/plugin-develop.md, in plugins shown there, or as
 * functions with published comments in its source.
 */
const DOCUMENTED = [
  'core.ctx.register_var',
  'core.json.decode',
  'core.json.encode',
  'core.log.error',
  'core.log.info',
  'core.log.warn',
  'core.request.header',
  'core.request.headers',
  'core.response.set_header',
  'core.schema.TYPE_CONSUMER',
  'core.schema.check',
];

/** Modules of APISIX, and its libraries that we patch or whose internals we use. */
const UNDOCUMENTED_MODULE =
  /^(?:apisix\.(?!core$)|resty\.apisix\.|resty\.core(?:\.|$)|resty\.limit\.|resty\.redis$|opentelemetry\.)/;

/** Fields of the request context: `var`, which APISIX documents, and `genai`, which is the gateway's own. */
const DOCUMENTED_FIELD = /^(?:var|genai)$/;

const withoutComments = (source: string): string =>
  source.replace(/--\[\[.*?\]\]/gs, '').replace(/--.*$/gm, '');

/** What a module outside the folder uses beyond the documented interface and the given members of `apisix.core`. */
function undocumented(source: string, members: readonly string[]): string[] {
  const code = withoutComments(source);
  const matches = (pattern: RegExp) => [...code.matchAll(pattern)].map(([, name = '']) => name);
  return [
    ...matches(/["']([\w./-]+)["']/g).filter((name) => UNDOCUMENTED_MODULE.test(name)),
    ...matches(/\brequire\b\W*(apisix|prometheus)["']/g),
    ...matches(/(\brequire\b(?!\s*\(\s*["'][\w.-]+["']\s*\)|\s*=|\s*$).*)$/gm),
    ...matches(/(\bpackage\.loaded\b)/g),
    ...matches(/(?<![\w.])(core\b(?:\.\w+)*)/g).filter(
      (name) => name !== 'core' && ![...DOCUMENTED, ...members].includes(name),
    ),
    // These also get at `core` under another name: `local all = core`, `core["config"]`, `f(core)`.
    ...matches(/(?<![\w."'])(core\b(?!\.|\s*=).*)$/gm),
    ...matches(/\b(?:api_)?ctx\.(\w+)/g)
      .filter((field) => !DOCUMENTED_FIELD.test(field) && field !== 'register_var')
      .map((field) => `ctx.${field}`),
    ...matches(/\b(ctx\[.*)$/gm),
    ...matches(/\b(ngx\.ctx)\b/g),
    // The socket inside a lua-resty-http client.
    ...matches(/(\w+\.sock)\b/g),
  ];
}

const files = readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.lua'))
  .map((name) => ({ name, source: readFileSync(`${ROOT}/${name}`, 'utf8') }));
const outside = files.filter(({ name }) => !name.startsWith(`${INSIDE}/`));
const parts = files
  .filter(({ name }) => name.startsWith(`${INSIDE}/`) && !name.startsWith(`${INSIDE}/contract`))
  .map(({ name, source }) => ({ name: name.slice(INSIDE.length + 1, -'.lua'.length), source }));

const skipped = cannotRun('what the gateway uses of APISIX', 'luajit');
const terms = skipped ? [] : contractTerms();
const isMember = ({ kind }: Term) => kind === 'functions' || kind === 'replaced' || kind === 'fields';
const termsOf = (part: string) => terms.filter((term) => term.part === part);
const coreMembers = termsOf('core_members').map(({ name }) => `core.${name}`);

describe.skipIf(skipped)('Lua code outside of apisix_internals', () => {
  test.each(outside)('$name uses the documented plugin interface only', ({ source }) => {
    expect(undocumented(source, coreMembers)).toEqual([]);
  });

  it('includes the plugins, the secret manager, the request code and the library', () => {
    const folders = new Set(outside.map(({ name }) => name.split('/').slice(0, 2).join('/')));
    for (const folder of ['apisix/plugins', 'apisix/secret', 'gateway/request', 'genai/openai'])
      expect(folders).toContain(folder);
  });

  it('uses every member of apisix.core that the contract checks for it', () => {
    const all = outside.map(({ source }) => withoutComments(source)).join('\n');
    expect(coreMembers.filter((member) => !all.includes(member))).toEqual([]);
  });

  // Each of these lines once passed this test by mistake.
  test.each([
    ['local plugin = require("apisix.plugin")', 'apisix.plugin'],
    ["local plugin = require('apisix.plugin')", 'apisix.plugin'],
    ['local apisix = require("apisix")', 'apisix'],
    ['local prometheus = require("prometheus")', 'prometheus'],
    ['local service = require("apisix.http.service").get', 'apisix.http.service'],
    [
      'local ok, exporter = pcall(require, "apisix.plugins.prometheus.exporter")',
      'apisix.plugins.prometheus.exporter',
    ],
    ['local upstream = require("resty.apisix.upstream")', 'resty.apisix.upstream'],
    ['local span = require("opentelemetry.trace.recording_span")', 'opentelemetry.trace.recording_span'],
    ['local redis = require("resty.redis")', 'resty.redis'],
    ['local redis = require "resty.redis"', 'resty.redis'],
    ['local found = require("apisix." .. name)', 'require("apisix." .. name)'],
    ['local found = require(name)', 'require(name)'],
    ['local found = package.loaded[name]', 'package.loaded'],
    ['local conf = core.config.local_conf()', 'core.config.local_conf'],
    ['core.response.exit_insert_callback(shape, ctx)', 'core.response.exit_insert_callback'],
    ['local _, _, n = core.utils.resolve_var(key, ctx.var)', 'core.utils.resolve_var'],
    ['local value = core.env.get(name)', 'core.env.get'],
    ['core.table.try_read_attr(conf, "a")', 'core.table.try_read_attr'],
    ['local config = core.config', 'core.config'],
    ['local config = core["config"]', 'core["config"]'],
    ['local all = core', 'core'],
    ['local plugins = ctx.plugins', 'ctx.plugins'],
    ['local plugins = api_ctx.plugins', 'ctx.plugins'],
    ['ctx.picked_ai_instance_name = "pool"', 'ctx.picked_ai_instance_name'],
    ['ctx.bypass_nginx_upstream = true', 'ctx.bypass_nginx_upstream'],
    ['ctx.headers = nil', 'ctx.headers'],
    ['ctx["headers"] = nil', 'ctx["headers"] = nil'],
    ['local route = ctx.matched_route and ctx.matched_route.value', 'ctx.matched_route'],
    ['local api_ctx = ngx.ctx.api_ctx', 'ngx.ctx'],
    ['local socket = client.sock', 'client.sock'],
  ])('must not contain: %s', (line, found) => {
    expect(undocumented(`local core = require("apisix.core")\n${line}\n`, coreMembers)).toContain(found);
  });

  it('may use the documented interface, and may name anything else in comments', () => {
    const source = `
-- In apisix.plugin, ctx.plugins are pairs; core.config.local_conf is not used here.
local core = require("apisix.core")
local request_context = require("apisix_internals.request_context")
local value = core.request.header(ctx, "a") or ctx.var.arg_a or ctx.genai.lane
core.log.error("the module apisix.plugin, of which apisix says: ", value, "apisix", "prometheus")
`;
    expect(undocumented(source, coreMembers)).toEqual([]);
  });
});

describe.skipIf(skipped)('apisix_internals', () => {
  it('has terms for each of its modules, and a module for each of its terms', () => {
    const names = new Set(terms.map(({ part }) => part));
    names.delete('core_members');
    expect(parts.map(({ name }) => name).sort()).toEqual([...names].sort());
  });

  describe.each(parts)('$name', ({ name, source }) => {
    const code = withoutComments(source);
    const needed = [...code.matchAll(/need\(\s*"([\w.-]+)"(?:,\s*"([\w.]+)")?\s*\)/g)].map(
      ([, module = '', member]) => ({ module, member }),
    );
    const modules = [...code.matchAll(/^local (\w+) = need\("([\w.-]+)"\)$/gm)].map(
      ([, variable = '', module = '']) => ({ variable, module }),
    );
    /** The members that follow the module's variable, or that `need` names. */
    const used = [
      ...needed.flatMap(({ module, member }) => (member === undefined ? [] : [`${module} ${member}`])),
      ...modules.flatMap(({ variable, module }) =>
        [...code.matchAll(new RegExp(`(?<![\\w.])${variable}[.:](\\w+)`, 'g'))].map(
          ([, member = '']) => `${module} ${member}`,
        ),
      ),
    ];

    it('checks its own part of the contract first', () => {
      expect(code).toContain(`contract.part("${name}")`);
    });

    it('loads every module through need, except the documented core', () => {
      const required = [...code.matchAll(/require\("([\w.-]+)"\)/g)].map(([, module = '']) => module);
      expect(required.filter((module) => UNDOCUMENTED_MODULE.test(module))).toEqual([]);
      expect(undocumentedCore(code)).toEqual([]);
    });

    it('uses no member that its terms do not name', () => {
      const named = termsOf(name)
        .filter(isMember)
        .map((term) => `${term.module} ${term.name}`);
      expect([...new Set(used)].filter((each) => !named.includes(each))).toEqual([]);
    });

    it('uses every member that its terms name', () => {
      const unused = termsOf(name).filter(
        (term) => isMember(term) && !new RegExp(`\\b${lastName(term)}\\b`).test(code),
      );
      expect(unused).toEqual([]);
    });

    it('replaces exactly the members that its terms declare as replaced', () => {
      const replaced = termsOf(name).filter(({ kind }) => kind === 'replaced');
      const assigned = [...code.matchAll(/^\s+(?!_M\b)\w+\.(\w+) = (?:function|\w+\()/gm)].map(
        ([, each]) => each,
      );
      expect([...new Set(assigned)].sort()).toEqual([...new Set(replaced.map(lastName))].sort());
    });

    it('is opened by a plugin when it has patches', () => {
      const hasPatches = /function _M\.install\b/.test(code);
      const opening = outside.filter(
        ({ name: file, source: plugin }) =>
          file.startsWith('apisix/plugins/') &&
          plugin.includes('contract.open(') &&
          plugin.includes(`"${name}"`),
      );
      expect(opening.length > 0 || !hasPatches).toBe(true);
    });
  });
});

const lastName = ({ name }: Pick<Term, 'name'>): string => name.slice(name.lastIndexOf('.') + 1);

const undocumentedCore = (code: string): string[] =>
  [...code.matchAll(/(?<![\w.])(core\.\w+\.\w+)/g)]
    .map(([, name = '']) => name)
    .filter((name) => !DOCUMENTED.includes(name));
