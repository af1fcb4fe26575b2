import { CommanderError, Command as Program } from 'commander';
import { addCommand, type Command } from './commands/command.ts';
import { EXIT, type Terminal } from './commands/terminal.ts';
import { nameWithoutKeys } from './diagnostics/keys.ts';
import { HOMEPAGE } from './links.ts';

/** The commands, in the order of the help. Running one of them loads no other one. */
const COMMANDS = {
  render: () => import('./commands/render.ts'),
  check: () => import('./commands/check.ts'),
  preview: () => import('./commands/preview.ts'),
  diff: () => import('./commands/diff.ts'),
  explain: () => import('./commands/explain.ts'),
  init: () => import('./commands/init.ts'),
  schema: () => import('./commands/schema.ts'),
  docs: () => import('./commands/docs.ts'),
  completion: () => import('./commands/completion.ts'),
  import: () => import('./commands/import.ts'),
  mock: () => import('./commands/mock.ts'),
  up: () => import('./commands/up.ts'),
  down: () => import('./commands/down.ts'),
  deploy: () => import('./commands/deploy.ts'),
  container: () => import('./commands/container.ts'),
  watch: () => import('./commands/watch.ts'),
  e2e: () => import('./commands/e2e.ts'),
} satisfies Readonly<Record<string, () => Promise<{ readonly command: Command }>>>;

export const COMMAND_NAMES = Object.keys(COMMANDS) as readonly (keyof typeof COMMANDS)[];

const HELP = `
Exit codes:
  0   success
  1   the settings have errors
  2   the settings differ (diff), something would change (deploy --plan), or an
      assertion does not hold (e2e)
  3   a file cannot be read or written, a port is in use, Docker fails, or a
      deployment fails
  64  wrong usage
  130 a deployment was interrupted

Examples:
  genai-gateway up --mock                               see a failover without Azure
  genai-gateway init --scenario ptu-spillover -o .env   start from an example
  genai-gateway check -e .env                           find every error
  genai-gateway render -e .env -o rendered              write the three files

Documentation: ${HOMEPAGE}`;

/**
 * Runs one command line. Never ends the process.
 * @returns the exit code
 */
export async function run(given: readonly string[], terminal: Terminal): Promise<number> {
  let code: number = EXIT.usage;
  const args = usual(given);
  const program = new Program('genai-gateway')
    .description('Compiles environment settings into an Azure OpenAI gateway on Apache APISIX.')
    .version(PACKAGE_VERSION, '-v, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'Print the help of a command.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out(text),
      writeErr: (text) => terminal.err(nameWithoutKeys(text)),
    })
    .showHelpAfterError('Run genai-gateway --help for the commands.')
    .addHelpText('after', HELP);
  // When a command is named, only that command is loaded; the general help loads all.
  const named = COMMAND_NAMES.filter((name) => name === args[0] && name !== 'completion');
  for (const name of named.length > 0 ? named : COMMAND_NAMES) {
    const { command }: { readonly command: Command } = await COMMANDS[name]();
    addCommand(program, name, command).action(async (...parsed) => {
      const [argument, options] = command.argument ? parsed : [undefined, ...parsed];
      code = await command.run({ argument, options, terminal, program });
    });
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help on request is a success; help because of a missing command is wrong usage.
    return error.code === 'commander.helpDisplayed' || error.code === 'commander.version'
      ? EXIT.ok
      : EXIT.usage;
  }
}

/**
 * Rewrites `help COMMAND` to `COMMAND --help` and `version` to `--version`. Drops the arguments of an unknown command,
 * so that commander reports the command.
 */
function usual(args: readonly string[]): readonly string[] {
  const [first, second] = args;
  if (first === '-V' || first === 'version') return second === undefined ? ['--version'] : ['--help'];
  if (first === 'help')
    return second === undefined || second === 'help' ? ['--help'] : usual([second, '--help']);
  const isCommand = COMMAND_NAMES.some((name) => name === first);
  return first === undefined || first.startsWith('-') || isCommand ? args : [first];
}
