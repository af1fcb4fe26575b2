/**
 * Runs the heavy suites that a change concerns: `npm run test:heavy [-- --base REF] [-- options of vitest]`. git
 * determines the changed files, including uncommitted ones, against the previous commit or another base.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Files that concern every suite: the version of APISIX, and how tests start it. */
const ALL = ['compiler/image.ts', 'test/support/apisix.ts', 'test/support/gateway.ts', 'test/heavy.mjs'];

/** The files that each suite test/gateway/NAME.heavy.test.ts tests, by NAME. */
export const CONCERNS = {
  'affinity-over-changes': [
    'lua-plugins/gateway/affinity/**',
    'lua-plugins/gateway/mechanisms/**',
    'lua-plugins/genai/openai/stored*',
    'lua-plugins/apisix_internals/redis_clients.lua',
    'test/support/restart.ts',
  ],
  'azure-deploy-command': [
    'compiler/deploy/**',
    'deploy/azure/**',
    'test/support/azure-double.ts',
    'test/support/deploy/**',
  ],
  'azure-deployment': [
    'deploy/azure/**',
    'docker/**',
    'test/fixtures/azure/**',
    'test/support/azure-d*.ts',
    'test/support/terraform.ts',
  ],
  'azure-page': [
    'deploy/azure/**',
    'docs/azure.md',
    'test/fixtures/azure/programs/**',
    'test/support/azure-*.ts',
    'test/support/terraform.ts',
  ],
  ...Object.fromEntries(
    ['agents', 'go', 'java', 'node', 'python'].map((clients) => [
      `clients-${clients}`,
      [
        'lua-plugins/gateway/exchange/**',
        'lua-plugins/gateway/request/**',
        'docs/clients.md',
        'test/support/client-packages.ts',
        'test/support/clients.ts',
        ...(clients === 'agents' ? ['compiler/mock/**'] : ['test/clients/**']),
        ...(clients === 'go' ? ['test/support/tls-proxy.ts'] : []),
      ],
    ]),
  ),
  'health-checks': [
    'lua-plugins/gateway/backends/**',
    'lua-plugins/genai/balancing/**',
    'test/support/health.ts',
  ],
  latency: ['lua-plugins/gateway/backends/**', 'lua-plugins/genai/balancing/**', 'test/support/latency.ts'],
  load: [
    'lua-plugins/gateway/backends/**',
    'lua-plugins/gateway/exchange/**',
    'lua-plugins/gateway/request/**',
    'test/support/load.ts',
  ],
  'rendered-config-loads': [
    'compiler/emit/**',
    'compiler/model/**',
    'lua-plugins/apisix/**',
    'lua-plugins/apisix_internals/**',
    'schemas/**',
    'templates/**',
    'test/golden/**',
    'test/support/loads-as-rendered.ts',
  ],
};

export const fileOf = (suite) => `test/gateway/${suite}.heavy.test.ts`;

/** `*` matches any name, `**` any path. */
export function matches(glob, path) {
  const pattern = glob
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replace(/\*\*|\*/g, (stars) => (stars === '**' ? '.*' : '[^/]*'));
  return new RegExp(`^${pattern}$`).test(path);
}

/** The suites with the changed files that concern them, or every suite when the changes are unknown. */
export function concerned(changed) {
  return Object.entries(CONCERNS).flatMap(([suite, globs]) => {
    if (changed === undefined) return [{ suite, because: ['the changes are not known'] }];
    const all = [...ALL, ...globs, fileOf(suite)];
    const because = changed.filter((path) => all.some((glob) => matches(glob, path)));
    return because.length > 0 ? [{ suite, because }] : [];
  });
}

/** The paths that differ from a base, or undefined when git does not know the base. */
function changedSince(base) {
  const git = (...args) => spawnSync('git', args, { cwd: ROOT, encoding: 'utf8' });
  const differing = git('diff', '--name-only', '--no-renames', base, '--');
  const untracked = git('ls-files', '--others', '--exclude-standard');
  if (differing.status !== 0 || untracked.status !== 0) return undefined;
  return `${differing.stdout}${untracked.stdout}`.split('\n').filter((path) => path !== '');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [given, base = 'HEAD~1', ...others] = process.argv.slice(2);
  const hasBase = given === '--base';
  const from = hasBase ? base : 'HEAD~1';
  const options = hasBase ? others : process.argv.slice(2);
  const suites = concerned(changedSince(from));
  if (suites.length === 0) {
    process.stdout.write(`No heavy suite is concerned by what has changed since ${from}.\n`);
  } else {
    process.stdout.write(`Heavy suites that are concerned by what has changed since ${from}:\n`);
    for (const { suite, because } of suites) {
      const [first, ...more] = because;
      process.stdout.write(`  ${suite}: ${first}${more.length > 0 ? ` and ${more.length} more` : ''}\n`);
    }
    const args = ['run', ...suites.map(({ suite }) => fileOf(suite)), ...options];
    const { status } = spawnSync(`${ROOT}node_modules/.bin/vitest`, args, { cwd: ROOT, stdio: 'inherit' });
    process.exitCode = status ?? 1;
  }
}
