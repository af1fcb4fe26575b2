import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { check } from './commands/check.ts';
import { SHELLS, type Shell } from './commands/completion.ts';
import type { ContainerOptions } from './commands/container.ts';
import type { DiffOptions } from './commands/diff.ts';
import type { DownOptions } from './commands/down.ts';
import type { UpOptions } from './commands/local/prepare.ts';
import type { MockCommandOptions } from './commands/mock.ts';
import { PREVIEWS, type Preview, preview } from './commands/preview.ts';
import { render } from './commands/render.ts';
import { SCENARIO_NAMES, type ScenarioName } from './commands/scenarios.ts';
import { type CommonOptions, EXIT, type Terminal } from './commands/terminal.ts';
import { REPORT_FORMATS } from './diagnostics/formats.ts';
import { APISIX_IMAGE } from './image.ts';

const COMMAND_NAMES = [
  'render',
  'check',
  'preview',
  'diff',
  'explain',
  'init',
  'schema',
  'docs',
  'completion',
  'mock',
  'up',
  'down',
  'container',
  'watch',
] as const;
type CommandName = (typeof COMMAND_NAMES)[number];

/** The program, with all of its commands or one alone. Every action ends by telling `exit` its code; nothing in here ends the process. */
export function createProgram(terminal: Terminal, exit: (code: number) => void, only?: CommandName): Command {
  const program = new Command('genai-gateway')
    .description('Compiles environment settings into an Azure OpenAI gateway on Apache APISIX.')
    .version(PACKAGE_VERSION)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) })
    .showHelpAfterError('Run genai-gateway --help for the commands and options there are.')
    .addHelpText(
      'after',
      `
Exit codes: 0 good, 1 the settings are not, 2 they differ (diff), 3 files could not be written or read, a port not be had, or
Docker not be used, 64 wrong usage.

Examples:
  genai-gateway up --mock                                  see a gateway fail over, without Azure
  genai-gateway init --scenario ptu-spillover --out .env   start from an example
  genai-gateway check --env-file .env                      find everything that is wrong
  genai-gateway render --env-file .env --out rendered      write the three files`,
    );

  const command = (name: string, description: string, examples: string) =>
    program.command(name).description(description).addHelpText('after', `\nExamples:\n${examples}`);

  const formats = (formats: readonly string[]) =>
    new Option('--format <format>', 'how diagnostics are printed').choices(formats);
  const withOutput = (each: Command, formatChoices: readonly string[] = REPORT_FORMATS) =>
    each
      .addOption(formats(formatChoices))
      .option('--no-color', 'no colours, as with NO_COLOR set')
      .option('--quiet', 'errors only');
  const withSettings = (each: Command, formatChoices?: readonly string[]) =>
    withOutput(
      each
        .option('-e, --env-file <file>', 'read variables from a file; repeatable, later files win', collect)
        .option('--strict', 'warnings are errors'),
      formatChoices,
    );
  const withTemplates = (each: Command) =>
    each.option('--templates <dir>', 'use the .hbs files there in place of those of the same name', notEmpty);

  const definitions: Readonly<Record<CommandName, () => Command>> = {
    render: () =>
      withTemplates(
        withSettings(
          command(
            'render',
            'Validate the settings, then write config.yaml, apisix.yaml and otel-collector.yaml.',
            `  genai-gateway render --out rendered
  genai-gateway render --env-file base.env --env-file prod.env --out rendered --strict`,
          ).requiredOption('--out <dir>', 'folder to write to; made when missing', notEmpty),
        ),
      ).action(async (options: CommonOptions & { out: string }) => exit(await render(options, terminal))),
    watch: () =>
      withTemplates(
        withSettings(
          command(
            'watch',
            'Render, then again whenever an env file or a secret file changes; a bad change is reported and not applied.',
            `  genai-gateway watch --env-file /etc/genai-gateway/gateway.env --out rendered
  GATEWAY_LOG_FORMAT=json genai-gateway watch --env-file base.env --env-file prod.env --out rendered`,
          ).requiredOption('--out <dir>', 'folder to write to; made when missing', notEmpty),
          ['text', 'json'],
        ),
      ).action(async (options: CommonOptions & { out: string }) => {
        const { watch } = await import('./commands/watch.ts');
        exit(await watch(options, terminal));
      }),
    check: () =>
      withTemplates(
        withSettings(
          command(
            'check',
            'Validate only; the findings go to stdout.',
            `  genai-gateway check --env-file .env
  genai-gateway check --env-file .env --strict --format github
  genai-gateway check --env-file .env --format sarif > findings.sarif`,
          ),
        ),
      ).action(async (options: CommonOptions) => exit(await check(options, terminal))),
    preview: () =>
      withTemplates(
        withSettings(
          command(
            'preview',
            'Print what would be written, secrets as references or redacted.',
            `  genai-gateway preview --env-file .env
  genai-gateway preview collector --env-file .env
  genai-gateway preview model --env-file .env | jq .backends`,
          ).addArgument(
            new Argument('[what]', 'a document, or a stage before it').choices(PREVIEWS).default('apisix'),
          ),
        ),
      ).action(async (what: Preview, options: CommonOptions) => exit(await preview(what, options, terminal))),
    diff: () =>
      withTemplates(
        withSettings(
          command(
            'diff',
            'Say, object by object, what rendering the settings would change. No secret is shown.',
            `  genai-gateway diff --against rendered --env-file .env
  genai-gateway diff --against rendered/apisix.yaml --env-file .env --format json
  genai-gateway diff --against <(git show main:prod.env) --env-file prod.env

The environment wins over both sides. Changes are in effect at once but where it says otherwise; the collector reads its file
when it starts. In files that hold references, another value of the same variable is no difference.

Exit codes: 0 the same, 1 the settings are wrong, 2 they differ, 3 what --against names cannot be read, 64 wrong usage.`,
          ).requiredOption(
            '--against <dir|file>',
            'rendered files: a folder or one of them; or an env file, repeatable, later ones win',
            collect,
          ),
          ['text', 'json'],
        ),
      ).action(async (options: DiffOptions) => {
        const { diff } = await import('./commands/diff.ts');
        exit(await diff(options, terminal));
      }),
    explain: () =>
      withOutput(
        command(
          'explain',
          'Tell about one setting: meaning, type, default, where its value came from, what it becomes.',
          `  genai-gateway explain AZURE_OPENAI_WEIGHT_0 --env-file .env
  genai-gateway explain LB_ALG`,
        )
          .argument('<name>', 'a setting, with or without index')
          .option(
            '-e, --env-file <file>',
            'read variables from a file; repeatable, later files win',
            collect,
          ),
        ['text', 'json'],
      ).action(async (name: string, options: CommonOptions) => {
        const { explain } = await import('./commands/explain.ts');
        exit(await explain(name, options, terminal));
      }),
    init: () =>
      withOutput(
        command(
          'init',
          'Print a commented env file for a scenario, or write it to a new file.',
          `  genai-gateway init --scenario multi-region
  genai-gateway init --scenario ptu-spillover --out .env`,
        )
          .addOption(
            new Option('--scenario <name>', 'which example').choices(SCENARIO_NAMES).default('minimal'),
          )
          .option('--out <file>', 'write to this file, which must not exist', notEmpty),
      ).action(async (options: CommonOptions & { scenario: ScenarioName; out?: string }) => {
        const { init } = await import('./commands/init.ts');
        exit(await init(options.scenario, options, terminal));
      }),
    schema: () =>
      command(
        'schema',
        'Print the JSON Schema of the settings.',
        '  genai-gateway schema > settings.schema.json',
      ).action(async () => {
        const { settingsJsonSchema } = await import('./settings/json-schema.ts');
        terminal.out(`${JSON.stringify(settingsJsonSchema(), null, 2)}\n`);
        exit(EXIT.ok);
      }),
    docs: () =>
      command(
        'docs',
        'Print the reference of all settings as Markdown, or as an env file.',
        `  genai-gateway docs > settings.md
  genai-gateway docs env-example > .env.example`,
      )
        .addArgument(
          new Argument('[page]', 'which page').choices(['reference', 'env-example']).default('reference'),
        )
        .action(async (page: string) => {
          const { envExample, settingsReference } = await import('./settings/reference.ts');
          terminal.out(page === 'reference' ? settingsReference() : envExample());
          exit(EXIT.ok);
        }),
    completion: () =>
      command(
        'completion',
        'Print a completion script for a shell.',
        `  source <(genai-gateway completion bash)
  genai-gateway completion fish | source`,
      )
        .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
        .action(async (shell: Shell) => {
          const { completionScript } = await import('./commands/completion.ts');
          terminal.out(completionScript(shell, program));
          exit(EXIT.ok);
        }),
    mock: () =>
      command(
        'mock',
        'Run mock Azure OpenAI resources, and print the settings of a gateway in front of them.',
        `  genai-gateway mock > mock.env
  genai-gateway mock --backends 3 --port 9000 --tpm 10000`,
      )
        .option('--backends <count>', 'how many', wholeNumber(1, 100), 2)
        .option('--port <port>', 'of the first; the others follow; 0 for any', portNumber, 8000)
        .option('--host <host>', 'address to listen on', notEmpty, '127.0.0.1')
        .option('--tpm <tokens>', 'tokens per minute of each deployment of each resource', wholeNumber(1))
        .action(async (options: MockCommandOptions) => {
          const { mock } = await import('./commands/mock.ts');
          exit(await mock(options, terminal));
        }),
    up: () =>
      withTemplates(
        withSettings(
          command(
            'up',
            'Run the gateway in Docker on this machine, and follow its log until Ctrl-C.',
            `  genai-gateway up --mock
  genai-gateway up --env-file .env
  genai-gateway up --env-file .env --mock --port 9081 --mock-port 8100`,
          )
            .option('--mock', 'mock Azure OpenAI resources in place of the backends; two where none are set')
            .option('--port <port>', 'of the gateway, on 127.0.0.1; 0 for any', portNumber, 9080)
            .option('--metrics-port <port>', 'of its metrics, on 127.0.0.1; 0 for any', portNumber, 0)
            .option('--mock-port <port>', 'of the first mock; the others follow; 0 for any', portNumber, 8000)
            .option('--image <image>', 'the APISIX image', notEmpty, APISIX_IMAGE),
        ),
      ).action(async (options: UpOptions) => {
        const { up } = await import('./commands/up.ts');
        exit(await up(options, terminal));
      }),
    down: () =>
      command(
        'down',
        'Remove the containers and folders that up has left after a crash; one that still runs is ended.',
        `  genai-gateway down
  genai-gateway down --port 9081`,
      )
        .option('--port <port>', 'only the gateway of this port', wholeNumber(1, MAX_PORT))
        .action(async (options: DownOptions) => {
          const { down } = await import('./commands/down.ts');
          exit(await down(options, terminal));
        }),
    // For the image's entrypoint alone, and hidden: it prints secrets, to a pipe that nobody else reads.
    container: () =>
      program
        .command('container', { hidden: true })
        .option('--out <dir>', 'folder to render to', notEmpty)
        .action(async (options: ContainerOptions) => {
          const { container } = await import('./commands/container.ts');
          exit(await container(options, terminal));
        }),
  };
  for (const name of only === undefined ? COMMAND_NAMES : [only]) definitions[name]();
  return program;
}

const collect = (value: string, all: readonly string[] = []) => [...all, notEmpty(value)];

function notEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('It is empty.');
  return value;
}

const wholeNumber =
  (least: number, most = Number.MAX_SAFE_INTEGER) =>
  (value: string): number => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It is not a whole number from ${least} to ${most}.`);
  };

const MAX_PORT = 65_535;
const portNumber = wholeNumber(0, MAX_PORT);

/** Runs the program on arguments without `node` and the script's path; the exit code. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  let code: number = EXIT.usage;
  // A command that is named needs no other one to be made, but for the list of all.
  const only = COMMAND_NAMES.find((name) => name === args[0] && name !== 'completion');
  const program = createProgram(
    terminal,
    (given) => {
      code = given;
    },
    only,
  );
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Help that was asked for is no error; help that commander shows because nothing was asked for is.
    return error.code === 'commander.helpDisplayed' || error.code === 'commander.version'
      ? EXIT.ok
      : EXIT.usage;
  }
}
