/** Tests rebuild the program only when its sources changed since the last build. This runs in a copy of the repository. */
import { spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { copyOfRepository } from '../support/repository.ts';

const copy = copyOfRepository();

const node = (...args: string[]) => spawnSync(process.execPath, args, { cwd: copy(), encoding: 'utf8' });

/** `isBuilt` of the copy's own build script. */
let isBuilt: () => boolean;
beforeAll(async () => {
  ({ isBuilt } = await import(pathToFileURL(copy('compiler/build.mjs')).href));
});

test('a build of the present sources counts as up to date', () => {
  expect(isBuilt()).toBe(true);
});

test.each([
  'compiler/mock/server.ts',
  'templates/apisix.yaml.hbs',
  'schemas/apisix.schema.json',
  'package.json',
  'dist/bundle.cjs',
])('a change of %s makes a build necessary', (file) => {
  const before = readFileSync(copy(file));
  appendFileSync(copy(file), ' ');
  expect(isBuilt()).toBe(false);
  copy(file, before);
  expect(isBuilt()).toBe(true);
});

test('a new file or a removed file makes a build necessary', () => {
  copy('templates/new.hbs', '');
  expect(isBuilt()).toBe(false);
  rmSync(copy('templates/new.hbs'));
  const cache = readFileSync(copy('dist/bundle.cache'));
  rmSync(copy('dist/bundle.cache'));
  expect(isBuilt()).toBe(false);
  copy('dist/bundle.cache', cache);
  expect(isBuilt()).toBe(true);
});

test('a failed build does not count as a build', { timeout: 60_000 }, () => {
  const file = 'compiler/main.ts';
  const before = readFileSync(copy(file));
  appendFileSync(copy(file), '\nexport const = 1;\n');
  expect(node('compiler/build.mjs').status).not.toBe(0);
  copy(file, before);
  expect(isBuilt()).toBe(false);
  expect(node('compiler/build.mjs')).toMatchObject({ status: 0, stderr: '' });
  expect(isBuilt()).toBe(true);
});
