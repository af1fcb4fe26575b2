/** Runs the tests of the Lua modules on the LuaJIT of the APISIX image, which the gateway uses. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import { type LuaJit, luaTests, run } from '../support/lua.ts';
import { APISIX_IMAGE } from '../support/requirements.ts';

const LUAJIT_OF_IMAGE = '/usr/local/openresty/luajit/bin/luajit';
const ROOT = join(import.meta.dirname, '../..');

/** The container gets the files through its standard input. */
function luajitOfImage(): LuaJit {
  const input = spawnSync('tar', ['-c', 'test', 'lua-plugins', '--exclude=test/golden', '--exclude=*.ts'], {
    cwd: ROOT,
    maxBuffer: 2 ** 26,
  }).stdout;
  const script = `tar -x -C /tmp && cd /tmp && exec ${LUAJIT_OF_IMAGE} "$@"`;
  return (args, env = {}) => {
    const variables = Object.entries(env).map(([name, value]) => `--env=${name}=${value}`);
    const options = ['run', '--rm', '-i', '--network', 'none', ...variables, '--entrypoint', 'bash'];
    return run('docker', [...options, APISIX_IMAGE, '-c', script, 'bash', ...args], { input });
  };
}

if (cannotRunGatewayTests("the Lua modules on the image's LuaJIT")) test.skip('Lua modules');
else describe("Lua modules on the image's LuaJIT", () => luaTests(luajitOfImage()));
