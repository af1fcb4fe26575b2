import { expect, test } from 'vitest';
import { CLIENT_ERRORS } from '../../compiler/client-errors.ts';
import { luaFiles, luaSource, split } from '../support/lua-source.ts';

const ERRORS = 'lua-plugins/genai/openai/errors.lua';
const sources = new Map(luaFiles().map((file) => [file, luaSource(file)]));

const [, list = ''] = /for _, name in ipairs\(\{([^}]*)\}\)/.exec(sources.get(ERRORS) ?? '') ?? [];
const declared = [...list.matchAll(/"(\w+)"/g)].map(([, name = '']) => name);
/** The files that use each code. */
const uses = new Map<string, Set<string>>();
for (const [file, text] of sources)
  for (const [, name = ''] of text.matchAll(/\bCODE\.(\w+)/g))
    uses.set(name, (uses.get(name) ?? new Set()).add(file));

test('CLIENT_ERRORS describes exactly the codes that errors.lua declares', () => {
  expect(declared.length).toBeGreaterThan(30);
  expect(Object.keys(CLIENT_ERRORS).sort()).toEqual([...declared].sort());
});

test('the Lua code uses exactly the codes that errors.lua declares', () => {
  expect([...uses.keys()].sort()).toEqual([...declared].sort());
});

/** The arguments of every call that makes an error, as source text. */
const calls = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/(?<!function )\b(?:errors\.body|fail|refused|unavailable)\(/g)].map(
    ({ 0: call, index }) => ({ file, given: split(text, index + call.length, ',') }),
  ),
);

test('no Lua code writes an error code as a string literal', () => {
  expect(calls.length).toBeGreaterThan(30);
  for (const { file, given } of calls)
    for (const each of given) expect(each, file).not.toMatch(/^"[A-Za-z]+(?:_[a-z]+)*"$/);
  for (const [file, text] of [...sources].filter(([, each]) => each.includes('"genai.openai.errors"')))
    expect(text, file).not.toMatch(/\b(?:code = |return \d{3}, |code, message = \d{3}, )"\w+"/);
});

test('CLIENT_ERRORS lists the status of every error that Lua makes', () => {
  const both = calls.flatMap(({ file, given }) => {
    const [, status] = /^(\d{3})$/.exec(given[0] ?? '') ?? [];
    const [, code] = /\bCODE\.(\w+)/.exec(given.join()) ?? [];
    return status === undefined || code === undefined ? [] : [{ file, status: Number(status), code }];
  });
  expect(both.length).toBeGreaterThan(15);
  for (const { file, status, code } of both)
    expect(CLIENT_ERRORS[code]?.statuses, `${code} in ${file}`).toContain(status);
});
