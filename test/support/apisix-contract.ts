/**
 * The terms of the contract with APISIX in `apisix_internals/contract_terms.lua`, and copies of APISIX's files that break
 * them.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { APISIX_VERSION } from '../../compiler/image.ts';
import { APISIX_IMAGE } from './requirements.ts';

const FOLDER = fileURLToPath(new URL('../../lua-plugins/apisix_internals', import.meta.url));
const LUAJIT_OF_IMAGE = '/usr/local/openresty/luajit/bin/luajit';
const ROOTS = ['/usr/local/apisix', '/usr/local/openresty/lualib', '/usr/local/apisix/deps/share/lua/5.1'];

/** One line of the terms. */
export interface Term {
  readonly part: string;
  readonly module: string;
  readonly kind: 'functions' | 'replaced' | 'fields' | 'mentions' | 'behaviour' | 'symbols';
  /** The name of a function or field, with its tables; the piece of source; or the behaviour. */
  readonly name: string;
  /** The parameters of a function, or the type of a field. */
  readonly shape: string;
}

const PRINT = `
for part, entries in pairs(terms) do
    for _, entry in ipairs(entries) do
        for kind, list in pairs(entry) do
            for name, shape in pairs(kind == "module" and {} or list) do
                local is_list = type(name) == "number"
                io.write(table.concat({ part, entry.module, kind, is_list and shape or name,
                                        type(shape) == "string" and not is_list and shape or "" }, "\\t"), "\\n")
            end
        end
    end
end
`;

/** All terms, read by this machine's LuaJIT, or else by that of the image. */
export function contractTerms(): readonly Term[] {
  const source = readFileSync(`${FOLDER}/contract_terms.lua`, 'utf8');
  const input = `local terms = (function()\n${source}\nend)()\n${PRINT}`;
  return luajit(input)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [part = '', module = '', kind = '', name = '', shape = ''] = line.split('\t');
      return { part, module, kind: kind as Term['kind'], name, shape };
    })
    .sort((a, b) => identity(a).localeCompare(identity(b)));
}

const identity = ({ module, kind, name, part }: Term): string => [module, kind, name, part].join('\t');

function luajit(input: string): string {
  try {
    return execFileSync('luajit', ['-'], { input, encoding: 'utf8' });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const container = ['run', '--rm', '-i', '--network', 'none', '--entrypoint', LUAJIT_OF_IMAGE, APISIX_IMAGE];
  return execFileSync('docker', [...container, '-'], { input, encoding: 'utf8' });
}

export interface Source {
  readonly path: string;
  readonly text: string;
}

/** The source files of modules in the image. */
export function apisixSources(modules: readonly string[]): ReadonlyMap<string, Source> {
  // Without modules there may be no Docker either.
  if (modules.length === 0) return new Map();
  const script =
    'for name; do file="$(echo "$name" | tr . /)"; for root in $ROOTS; do for path in "$root/$file.lua" "$root/$file/init.lua"; do' +
    ' if [ -f "$path" ]; then printf "%s\\t%s\\t%s\\n" "$name" "$path" "$(base64 -w 0 "$path")"; break 2; fi; done; done; done';
  const output = execFileSync(
    'docker',
    [
      ...['run', '--rm', '--network', 'none', '--env', `ROOTS=${ROOTS.join(' ')}`],
      ...['--entrypoint', 'bash', APISIX_IMAGE, '-c', script, 'bash', ...new Set(modules)],
    ],
    { encoding: 'utf8', maxBuffer: 2 ** 26 },
  );
  return new Map(
    output
      .trim()
      .split('\n')
      .map((line) => {
        const [module = '', path = '', text = ''] = line.split('\t');
        return [module, { path, text: Buffer.from(text, 'base64').toString('utf8') }];
      }),
  );
}

/** A change to a file of APISIX: Lua code to run on its module `M`, or pieces of source to break. */
export interface Change {
  readonly code?: string;
  readonly mention?: string;
}

/** A file of APISIX with these changes. */
export function changedSource(text: string, changes: readonly Change[]): string {
  const mentions = changes.flatMap(({ mention }) => (mention === undefined ? [] : [mention]));
  const absent = mentions.find((mention) => !patternOf(mention).test(text));
  if (absent !== undefined) throw new Error(`the source does not contain: ${absent}`);
  const source = mentions.reduce(withoutMention, text);
  const code = changes.flatMap((change) => (change.code === undefined ? [] : [change.code]));
  // In a function, because the file ends by returning its module.
  return code.length === 0
    ? source
    : `local M = (function(...)\n${source}\nend)(...)\n${HIDE}\n${code.join('\n')}\nreturn M\n`;
}

/** Inserts a comment into the piece of source: the meaning stays the same, but the piece is not found. */
function withoutMention(source: string, mention: string): string {
  return source.replace(patternOf(mention), (found) => {
    const text = found.trimStart();
    const space = found.slice(0, found.length - text.length);
    const end = text.search(/(?<=^(?:[^"']|"[^"]*"|'[^']*')*[.(,=\s])[^\s=.]/);
    return end > 0
      ? `${space}${text.slice(0, end)}--[[changed]] ${text.slice(end)}`
      : `${space}${text.replace(/"$/, ' changed"')}`;
  });
}

const patternOf = (mention: string): RegExp =>
  new RegExp(mention.split(' ').map(escapeRegExp).join('\\s+'), 'g');

const escapeRegExp = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/**
 * The change that removes a function from a module, or gives a field another type. APISIX's own callers still find the
 * function, as if APISIX had renamed it. Only the gateway does not.
 */
export function missing({ kind, name }: Pick<Term, 'kind' | 'name'>): Change {
  if (kind === 'fields') return { code: `M.${name} = "changed"` };
  const path = `M.${name}`;
  const end = path.lastIndexOf('.');
  return { code: `hide(${path.slice(0, end)}, "${path.slice(end + 1)}")` };
}

const HIDE = `
local function hide(module, name)
    local original, before = module[name], getmetatable(module) or {}
    local rest = before.__index
    local meta = {}
    for key, value in pairs(before) do meta[key] = value end
    meta.__index = function(self, key)
        if key == name and not debug.getinfo(2, "S").source:find("genai-gateway", 1, true) then
            return original
        end
        if type(rest) == "function" then return rest(self, key) end
        return rest and rest[key]
    end
    module[name] = nil
    setmetatable(module, meta)
end
`;

/** The change that gives a function one more parameter, with the same behaviour. */
export function withOneMore({ name, shape }: Term): Change {
  const names = shape.split(/[\s,]+/).filter((each) => each !== '' && each !== '...');
  const rest = shape.includes('...') ? ['...'] : [];
  const given = names.map((_, index) => `a${index}`);
  return {
    code:
      `do local original = M.${name}\n` +
      `M.${name} = function(${[...given, 'added', ...rest].join(', ')})\n` +
      `return original(${[...given, ...(rest.length > 0 ? ['added', '...'] : [])].join(', ')}) end end`,
  };
}

/** The reason that the gateway reports for such a difference, without the words common to all reports. */
export function reasonOf(term: Term, { hasOneMore = false } = {}): string {
  const { module, kind, name, shape } = term;
  if (kind === 'mentions') return `the source of ${module} does not contain: ${name}`;
  if (kind === 'fields') return `${module} has no ${shape} ${name}`;
  if (kind === 'behaviour') return `in ${module}, this does not hold: ${name}`;
  if (!hasOneMore) return `${module} has no function ${name}`;
  const names = shape.split(/[\s,]+/).filter((each) => each !== '');
  const count = names.filter((each) => each !== '...').length;
  const orMore = names.includes('...') ? ' or more' : '';
  const parameters = count === 0 && orMore === '' ? 'parameter' : 'parameters';
  return `the function ${name} of ${module} takes ${count + 1}${orMore} ${parameters}, not ${count}${orMore} (${shape})`;
}

/** The whole text of a report. */
export const reportOf = (reason: string): string =>
  `APISIX differs from what this gateway relies on: ${reason}. Use APISIX ${APISIX_VERSION}`;
