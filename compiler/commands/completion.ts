import type { Command } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Completed {
  readonly name: string;
  readonly description: string;
  readonly options: readonly {
    readonly flag: string;
    readonly choices: readonly string[];
    /** What kind of value, where there are no choices. */
    readonly takes?: 'path' | 'text';
  }[];
  /** Values of its argument. */
  readonly values: readonly string[];
}

function completed(program: Command): Completed[] {
  const listed = program
    .createHelp()
    .visibleCommands(program)
    .filter((each) => each.name() !== 'help');
  return listed.map((command) => ({
    name: command.name(),
    description: command.description(),
    options: [
      ...command.options.map(({ long, flags, argChoices, required }) => ({
        flag: long ?? '',
        choices: argChoices ?? [],
        ...(required && !argChoices
          ? ({ takes: /<(?:file|dir|dir\|file)>/.test(flags) ? 'path' : 'text' } as const)
          : {}),
      })),
      { flag: '--help', choices: [] },
    ],
    values: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  }));
}

/** A completion script made from the program itself, so that it knows what `--help` knows. */
export function completionScript(shell: Shell, program: Command): string {
  const name = program.name();
  const commands = completed(program);
  return shell === 'fish' ? fish(name, commands) : posix(shell, name, commands);
}

/** Cases of `COMMAND OPTION-BEFORE`, the more exact ones first. */
function cases(commands: readonly Completed[]): string {
  const lines = commands.flatMap(({ name, options, values }) => [
    ...options
      .filter(({ choices }) => choices.length > 0)
      .map(({ flag, choices }) => `    "${name} ${flag}") offered="${choices.join(' ')}" ;;`),
    `    "${name} "*) offered="${[...options.map(({ flag }) => flag), ...values].join(' ')}" ;;`,
  ]);
  const taking = (kind: 'path' | 'text') => {
    const flags = commands.flatMap(({ options }) => options.filter(({ takes }) => takes === kind));
    return [...new Set(flags.map(({ flag }) => `*" ${flag}"`))].join(' | ');
  };
  return [`    ${taking('path')}) offered=FILES ;;`, `    ${taking('text')}) offered= ;;`, ...lines].join(
    '\n',
  );
}

function posix(shell: 'bash' | 'zsh', name: string, commands: readonly Completed[]): string {
  const fn = `_${name.replaceAll('-', '_')}`;
  const first = `${commands.map((each) => each.name).join(' ')} --help --version`;
  const body = (command: string, previous: string, position: string) => `  local offered="${first}"
  [ ${position} -gt 1 ] && case "${command} ${previous}" in
${cases(commands)}
  esac`;
  if (shell === 'bash') {
    return `# bash completion for ${name}: source <(${name} completion bash)
${fn}() {
${body(`\${COMP_WORDS[1]}`, `\${COMP_WORDS[COMP_CWORD-1]}`, '"$COMP_CWORD"')}
  if [ "$offered" = FILES ]; then
    compopt -o default
    COMPREPLY=()
  else
    COMPREPLY=($(compgen -W "$offered" -- "\${COMP_WORDS[COMP_CWORD]}"))
  fi
}
complete -F ${fn} ${name}
`;
  }
  return `#compdef ${name}
# zsh completion for ${name}: source <(${name} completion zsh)
${fn}() {
${body(`\${words[2]}`, `\${words[CURRENT-1]}`, '$((CURRENT - 1))')}
  if [ "$offered" = FILES ]; then
    _files
  else
    compadd -- \${=offered}
  fi
}
compdef ${fn} ${name}
`;
}

function fish(name: string, commands: readonly Completed[]): string {
  const lines = commands.flatMap((each) => {
    const within = `complete -c ${name} -n '__fish_seen_subcommand_from ${each.name}'`;
    return [
      `complete -c ${name} -n __fish_use_subcommand -a ${each.name} -d '${each.description.replaceAll("'", "\\'")}'`,
      ...each.values.map((value) => `${within} -a ${value}`),
      ...each.options.map(({ flag, choices, takes }) => {
        const values = choices.length > 0 ? ` -x -a '${choices.join(' ')}'` : '';
        const value = takes === undefined ? values : { path: ' -r -F', text: ' -x' }[takes];
        return `${within} -l ${flag.slice(2)}${value}`;
      }),
    ];
  });
  return `# fish completion for ${name}: ${name} completion fish | source\ncomplete -c ${name} -f\n${lines.join('\n')}\n`;
}
