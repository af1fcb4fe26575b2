/** The repository, and copies of it for tests that change files or run commands of users. */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';

export const ROOT = join(import.meta.dirname, '../..');

/** The paths of the files in git, including untracked ones that are not ignored: all, or those that match a pattern. */
export const repositoryFiles = (...patterns: readonly string[]): string[] =>
  execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', ...patterns], {
    cwd: ROOT,
    encoding: 'utf8',
  })
    .trim()
    .split('\n')
    .filter((file) => existsSync(join(ROOT, file)));

/** The content of a text file of the repository. */
export const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

const STAMP = 'node_modules/.cache/genai-gateway/build.json';

/**
 * A copy of the work tree with its build, for all tests of a file. The function returns a path in the copy, and writes a
 * file there if given content. The packages are links inside a real node_modules folder, because npx rebuilds a project
 * whose node_modules is a link.
 */
export function copyOfRepository(): (name?: string, content?: string | Buffer) => string {
  let copy = '';
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), 'genai-gateway-copy-'));
    for (const file of [...repositoryFiles(), 'dist', STAMP]) {
      mkdirSync(dirname(join(copy, file)), { recursive: true });
      cpSync(join(ROOT, file), join(copy, file), { recursive: true, verbatimSymlinks: true });
    }
    for (const name of readdirSync(join(ROOT, 'node_modules')).filter((each) => !each.startsWith('.'))) {
      symlinkSync(join(ROOT, 'node_modules', name), join(copy, 'node_modules', name));
    }
    mkdirSync(join(copy, 'node_modules/.bin'));
    symlinkSync('../../dist/genai-gateway.cjs', join(copy, 'node_modules/.bin/genai-gateway'));
  });
  afterAll(() => {
    rmSync(copy, { recursive: true, force: true });
  });
  return (name = '', content) => {
    const path = join(copy, name);
    if (content !== undefined) writeFileSync(path, content);
    return path;
  };
}
