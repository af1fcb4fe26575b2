/** Runs the tests of the Lua modules on this machine's LuaJIT. Each test of test/lua is one test here. */
import { describe, test } from 'vitest';
import { luaTests, run } from '../support/lua.ts';
import { cannotRun } from '../support/requirements.ts';

if (cannotRun('the Lua modules on this machine', 'luajit')) test.skip('Lua modules');
else describe('Lua modules', () => luaTests((args, env) => run('luajit', args, env ? { env } : {})));
