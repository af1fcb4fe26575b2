/** Runs the tests of the Lua modules on this machine's LuaJIT: `npm run test:lua`. It needs no npm package and no container. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['test/lua', 'test/lua-io'];

/**
 * How LuaJIT runs each folder of tests from the root of the repository: arguments and environment. A folder without a
 * run.lua uses the one of test/lua.
 */
export function luaRuns() {
  return FOLDERS.flatMap((folder) => {
    const files = existsSync(`${ROOT}${folder}`)
      ? readdirSync(`${ROOT}${folder}`).filter((name) => name.endsWith('_test.lua'))
      : [];
    if (files.length === 0) return [];
    const runner = existsSync(`${ROOT}${folder}/run.lua`) ? folder : FOLDERS[0];
    const args = [`${runner}/run.lua`, ...files.sort().map((name) => `${folder}/${name}`)];
    return [{ folder, files, args, env: { LUA_PATH: `${folder}/?.lua;;` } }];
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let failed = false;
  for (const { folder, args, env } of luaRuns()) {
    const { status, error, stdout } = spawnSync('luajit', args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      maxBuffer: 2 ** 26,
    });
    if (error) {
      process.stderr.write(
        error.code === 'ENOENT'
          ? 'There is no luajit. Install it (Debian, Ubuntu: apt-get install luajit), or run `npm run test:gateway`, which uses the LuaJIT of the APISIX image.\n'
          : `luajit did not run: ${error.message}\n`,
      );
      process.exit(1);
    }
    const lines = stdout.trimEnd().split('\n');
    const shown = lines.filter((line) => !line.startsWith('ok\t'));
    process.stdout.write(`${folder}: ${shown.join('\n').replaceAll('\\n', '\n')}\n`);
    failed ||= status !== 0;
  }
  process.exitCode = failed ? 1 : 0;
}
