import { Argument, type Option, type Command as Program } from 'commander';
import { listSettings } from '../settings/declarations/index.ts';
import type { Command } from './command.ts';
import { EXIT } from './terminal.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export const command: Command<unknown, Shell> = {
  description: 'Print a completion script for a shell.',
  examples: ['source <(genai-gateway completion bash)', 'genai-gateway completion fish | source'],
  argument: new Argument('<shell>', 'which shell').choices(SHELLS),
  run: async ({ argument, program, terminal }) => {
    terminal.out(completionScript(argument, program));
    return EXIT.ok;
  },
};

/** The kind of value to complete: one of several words, a file or folder, a folder, or any text. */
type Wanted = readonly string[] | 'path' | 'folder' | 'text';

interface Completed {
  readonly name: string;
  readonly description: string;
  readonly options: readonly {
    /** `-e`, `--env-file`. */
    readonly flags: readonly string[];
    readonly description: string;
    /** Absent: the option takes no value. */
    readonly takes?: Wanted;
  }[];
  /** The kind of the command's argument. Absent: it takes none. */
  readonly argument?: Wanted;
}

const HELP = { flags: ['-h', '--help'], description: 'print help' } as const;

function completed(program: Program): Completed[] {
  const listed = program.createHelp().visibleCommands(program);
  const names = listed.map((each) => each.name());
  return listed.map((command) => {
    const [argument] = command.registeredArguments;
    const isHelp = command.name() === 'help';
    const wanted = isHelp ? names.filter((name) => name !== 'help') : argument && argumentOf(argument);
    return {
      name: command.name(),
      description: command.description(),
      options: [...(isHelp ? [] : command.options.map(optionOf)), HELP],
      ...(wanted === undefined ? {} : { argument: wanted }),
    };
  });
}

const optionOf = ({ short, long, flags, description, argChoices, required }: Option) => ({
  flags: [short, long].filter((flag): flag is string => flag !== undefined && flag !== ''),
  description,
  ...(required ? { takes: argChoices ?? kindOf(flags) } : {}),
});

const argumentOf = (argument: Argument): Wanted => {
  if (argument.argChoices) return argument.argChoices;
  // `explain` accepts a setting with an index or with N instead.
  if (argument.name() === 'setting') return listSettings().map(({ name }) => name);
  return kindOf(`<${argument.name()}>`);
};

const kindOf = (flags: string): Wanted =>
  /<dir>|<folder>/.test(flags) ? 'folder' : /<(?:file|dir\|file)>/.test(flags) ? 'path' : 'text';

/** A completion script, generated from the same program as `--help`. */
function completionScript(shell: Shell, program: Program): string {
  const name = program.name();
  const commands = completed(program);
  return shell === 'fish' ? fish(name, commands) : posix(shell, name, commands);
}

const words = (wanted: Wanted): string =>
  typeof wanted === 'string' ? { path: 'FILES', folder: 'FOLDERS', text: '' }[wanted] : wanted.join(' ');

/** Cases of `COMMAND OPTION` first, then of the command alone: the shell uses the first match. */
function cases(commands: readonly Completed[]): string {
  const values = commands.flatMap(({ name, options }) =>
    options.flatMap(({ flags, takes }) =>
      takes === undefined
        ? []
        : [`    ${flags.map((flag) => `"${name} ${flag}"`).join(' | ')}) offered="${words(takes)}" ;;`],
    ),
  );
  const all = commands.map(({ name, options, argument }) => {
    const flags = options.flatMap((each) => each.flags).join(' ');
    const offered = argument === undefined ? '' : words(argument);
    return `    "${name} "*) flags="${flags}"; offered="${offered || flags}" ;;`;
  });
  return [...values, ...all].join('\n');
}

/**
 * `word` is the word being typed, `previous` is the word before it. bash treats `=` as a separate word; zsh treats
 * `--option=value` as one word.
 */
function posix(shell: 'bash' | 'zsh', name: string, commands: readonly Completed[]): string {
  const fn = `_${name.replaceAll('-', '_')}`;
  const first = `${commands.map((each) => each.name).join(' ')} version -h --help -v --version`;
  const body = (command: string, position: string) => `  local offered="${first}" flags=
  [ ${position} -gt 1 ] && case "${command} $previous" in
${cases(commands)}
  esac
  case "$word" in -*) [ -n "$flags" ] && offered="$flags" ;; esac`;
  if (shell === 'bash') {
    return `# bash completion for ${name}: source <(${name} completion bash)
${fn}() {
  local word="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  if [ "$word" = = ]; then
    word=
  elif [ "$previous" = = ]; then
    previous="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
${body(`\${COMP_WORDS[1]}`, '"$COMP_CWORD"')}
  case "$offered" in
  FILES)
    compopt -o default
    COMPREPLY=()
    ;;
  FOLDERS)
    compopt -o filenames
    local IFS=$'\\n'
    COMPREPLY=($(compgen -d -- "$word"))
    ;;
  *) COMPREPLY=($(compgen -W "$offered" -- "$word")) ;;
  esac
}
complete -F ${fn} ${name}
`;
  }
  return `#compdef ${name}
# zsh completion for ${name}: source <(${name} completion zsh)
${fn}() {
  local word="\${words[CURRENT]}" previous="\${words[CURRENT-1]}"
  case "$word" in
  --*=*)
    previous="\${word%%=*}"
    word="\${word#*=}"
    compset -P '*='
    ;;
  esac
${body(`\${words[2]}`, '$((CURRENT - 1))')}
  case "$offered" in
  FILES) _files ;;
  FOLDERS) _files -/ ;;
  *) compadd -- \${=offered} ;;
  esac
}
compdef ${fn} ${name}
`;
}

const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

function fish(name: string, commands: readonly Completed[]): string {
  const wanted = (given: Wanted): string =>
    given === 'path'
      ? ' -r -F'
      : given === 'folder'
        ? ` -x -a '(__fish_complete_directories (commandline -ct))'`
        : ` -x${given === 'text' ? '' : ` -a ${quoted(given.join(' '))}`}`;
  const lines = commands.flatMap((each) => {
    const within = `complete -c ${name} -n '__fish_seen_subcommand_from ${each.name}'`;
    const argument = each.argument;
    return [
      `complete -c ${name} -n __fish_use_subcommand -a ${each.name} -d ${quoted(each.description)}`,
      ...(argument === undefined || argument === 'text'
        ? []
        : [`${within}${wanted(argument).replace(' -x', '').replace(' -r', '')}`]),
      ...each.options.map(({ flags, description, takes }) => {
        const named = flags.map((flag) =>
          flag.startsWith('--') ? ` -l ${flag.slice(2)}` : ` -s ${flag.slice(1)}`,
        );
        return `${within}${named.join('')} -d ${quoted(description)}${takes === undefined ? '' : wanted(takes)}`;
      }),
    ];
  });
  return `# fish completion for ${name}: ${name} completion fish | source
complete -c ${name} -f
complete -c ${name} -n __fish_use_subcommand -a version -d 'print the version'
complete -c ${name} -n __fish_use_subcommand -s v -l version -d 'print the version'
complete -c ${name} -n __fish_use_subcommand -s h -l help -d 'print help'
${lines.join('\n')}
`;
}
