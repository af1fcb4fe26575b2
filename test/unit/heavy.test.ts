/** `npm run test:heavy` selects the heavy suites that a change concerns. */
import { describe, expect, test } from 'vitest';
import { CONCERNS, concerned, fileOf, matches } from '../heavy.mjs';
import { repositoryFiles } from '../support/repository.ts';

const files = repositoryFiles();

test('the table lists exactly the heavy suites', () => {
  expect(Object.keys(CONCERNS).map(fileOf).sort()).toEqual(
    files.filter((file) => file.endsWith('.heavy.test.ts')).sort(),
  );
});

describe.each(Object.entries(CONCERNS))('each path that concerns the suite %s', (_, globs) => {
  test.each(globs)('matches a file: %s', (glob) => {
    expect(files.filter((file) => matches(glob, file))).not.toEqual([]);
  });
});

test('a change selects the suites that test the changed files, and a changed suite itself', () => {
  const suites = (...changed: string[]) => concerned(changed).map(({ suite }) => suite);
  expect(suites()).toEqual([]);
  expect(suites('docs/limits.md', 'compiler/cli.ts')).toEqual([]);
  expect(suites('templates/apisix/plugins/cors.hbs')).toEqual(['rendered-config-loads']);
  expect(suites('test/gateway/load.heavy.test.ts')).toEqual(['load']);
  expect(suites('compiler/image.ts')).toEqual(Object.keys(CONCERNS));
  expect(concerned(['README.md', 'schemas/a.json', 'schemas/b.json'])).toEqual([
    { suite: 'rendered-config-loads', because: ['schemas/a.json', 'schemas/b.json'] },
  ]);
});

test('selects every suite when the changes are unknown', () => {
  expect(concerned(undefined).map(({ suite }) => suite)).toEqual(Object.keys(CONCERNS));
});
