/**
 * Runs each command of README.md, docs/commands.md and docs/recipes.md, in this order, in a copy of the repository.
 * test/gateway/readme.test.ts runs the commands that need Docker.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { runHere } from '../support/cli.ts';
import { blocks, blocksOf, README, withBackends } from '../support/readme.ts';
import { copyOfRepository, textOf } from '../support/repository.ts';

/**
 * The gate runs these commands in a clean checkout. Here they would reinstall the packages in use, or start these tests
 * again.
 */
const RUN_BY_THE_GATE = ['npm ci', 'npm test', 'npm run lint'];

const commands = blocks('sh')
  .flatMap((text) => text.trim().split('\n'))
  .filter((command) => !RUN_BY_THE_GATE.includes(command));

/** `source <(command)` ignores the exit code of the command, so the command is also run alone. */
const runnable = (command: string) => {
  const [, inner] = /^source <\((.*)\)$/.exec(command) ?? [];
  return inner === undefined ? command : `${inner} && ${command}`;
};

/** The environment of a user's shell. With npm's own variables, npx would use this work tree as the project. */
const SHELL = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^npm_|^NODE_ENV$/.test(name)),
);

const copy = copyOfRepository();

/** Between `init` and the next commands the reader puts endpoints and keys into the file. */
const fillIn = (file: string) =>
  copy(
    file,
    withBackends(readFileSync(copy(file), 'utf8'), (index) => ({
      endpoint: `https://gateway-test-${index}.openai.azure.com`,
      key: `a1b2c3d4e5f60718293a4b5c6d7e8f9${index}`,
    })),
  );

test('the pages contain commands and recipes', () => {
  expect(commands).toContain('npm run bench');
  expect(commands.length).toBeGreaterThan(15);
  expect(blocks('env').length).toBeGreaterThan(15);
});

test('a test runs every kind of shell block', () => {
  const tested = ['sh', 'sh background', 'sh docker', 'sh docker image', 'sh docker stock'];
  const shown = ['README.md', 'docs/commands.md', 'docs/recipes.md']
    .flatMap((page) => [...textOf(page).matchAll(/^```((?:sh|bash|console|shell)\b.*)$/gm)])
    .map(([, info]) => info);
  expect([...new Set(shown)].sort()).toEqual(tested);
});

test.each(['python', 'js', 'toml'])(
  'the %s client of the README is one of docs/clients.md, where it is tested',
  (language) => {
    const shown = blocksOf(README, language);
    expect(shown).toHaveLength(1);
    expect(blocksOf(textOf('docs/clients.md'), `${language} \\S+`)).toContain(shown[0]);
  },
);

test.each(RUN_BY_THE_GATE)('the README names %s, and the gate runs it', (command) => {
  expect(blocks('sh').join('')).toMatch(new RegExp(`^${command}$`, 'm'));
  expect(textOf('.ci/run')).toMatch(new RegExp(`^(?:.* )?${command}\\b`, 'm'));
});

describe('every command of the pages succeeds', () => {
  const [firstNpx] = commands.filter((command) => command.startsWith('npx '));

  test.each(commands)('%s', { timeout: 180_000 }, (command) => {
    // npm takes a second to find a program, and finds the same one each time, so npx itself runs only once.
    const npx = command === firstNpx ? '' : 'npx() { "node_modules/.bin/$@"; }; ';
    const { status, stderr } = spawnSync('bash', ['-c', `set -o pipefail; ${npx}${runnable(command)}`], {
      cwd: copy(),
      encoding: 'utf8',
      // A real benchmark takes a minute. The smoke run only shows that the command works.
      env: { ...SHELL, npm_config_update_notifier: 'false', GENAI_GATEWAY_BENCH: 'smoke' },
    });
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
    if (command.includes(' init ')) fillIn('.env');
  });

  test('render writes the three files', () => {
    for (const name of ['apisix.yaml', 'config.yaml', 'otel-collector.yaml']) {
      expect(existsSync(copy(`rendered/${name}`)), name).toBe(true);
    }
  });
});

test.each(blocks('env'))(
  'the recipe passes check --strict together with a backend and a client:\n%s',
  async (recipe) => {
    const file = copy('recipe.env', `${textOf('examples/minimal.env')}\n${recipe}`);
    expect(await runHere(['check', '--strict', '--env-file', file])).toMatchObject({ code: 0 });
  },
);
