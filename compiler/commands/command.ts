import type { Argument, Option, Command as Program } from 'commander';
import type { Terminal } from './terminal.ts';

/**
 * The specification of a command: its help, its arguments and options, and its code. Its name is its key in `cli.ts`,
 * so that a name can be found without loading any command.
 */
export interface Command<Options = unknown, Given = unknown> {
  readonly description: string;
  /** Command lines for the help. A command without examples is hidden. */
  readonly examples?: readonly string[];
  /** Text of the help after the examples. */
  readonly notes?: string;
  readonly argument?: Argument;
  readonly options?: readonly Option[];
  /** Suggests the intended usage for unexpected arguments. Default: suggests -e, for env files. */
  hint?(given: readonly string[]): string | undefined;
  /**
   * Returns the exit code. It imports large libraries and code that starts programs or servers dynamically, because the
   * general help loads the specifications of all commands.
   */
  run(invocation: Invocation<Options, Given>): Promise<number>;
}

export interface Invocation<Options, Given> {
  readonly options: Options;
  readonly argument: Given;
  readonly terminal: Terminal;
  /** Has all commands for `completion`, else only the running command. */
  readonly program: Program;
}

/** Declares a command to commander. The caller adds the action. */
export function addCommand(program: Program, name: string, command: Command): Program {
  const { description, examples, notes, argument, options = [] } = command;
  const added = program.command(name, { hidden: examples === undefined }).description(description);
  if (argument) added.addArgument(argument);
  for (const option of options) added.addOption(option);
  if (examples === undefined) return added;
  const lines = examples.map((line) => `  ${line}`).join('\n');
  return added
    .showHelpAfterError(`Run genai-gateway ${name} --help for its options.`)
    .addHelpText('after', `\nExamples:\n${lines}${notes === undefined ? '' : `\n\n${notes}`}`)
    .configureOutput({ outputError: (text, write) => write(usageError(text, added, command)) });
}

/** Commander's message about wrong usage, with a suggestion. */
function usageError(text: string, { args, options }: Program, command: Command): string {
  const [, unknown] = /unknown option '(--[^']+)'/.exec(text) ?? [];
  if (unknown !== undefined) {
    // A unique prefix of an option means that option, even if another option is spelt more similarly.
    const begun = options.map(({ long }) => long ?? '').filter((long) => long.startsWith(unknown));
    return begun.length === 1 ? `error: unknown option '${unknown}'\n(Did you mean ${begun[0]}?)\n` : text;
  }
  const isAboutArguments = /too many arguments|command-argument value|required option '--against/.test(text);
  const takesEnvFiles = options.some(({ long }) => long === '--env-file');
  if (args[0] === undefined || !isAboutArguments || !takesEnvFiles) return text;
  const hint = command.hint?.(args) ?? `For an env file write -e ${args[0]}`;
  return text.replace(/\n$/, `\n(${hint})\n`);
}
