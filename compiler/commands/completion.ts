import type { Command } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Words {
  readonly command: string;
  readonly description: string;
  /** Options, and the values of its argument. */
  readonly words: readonly string[];
}

function wordsOf(program: Command): Words[] {
  return program.commands.map((each) => ({
    command: each.name(),
    description: each.description(),
    words: [
      ...each.options.flatMap(({ long }) => (long ? [long] : [])),
      '--help',
      ...each.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
    ],
  }));
}

/** A completion script made from the program itself, so that it knows what `--help` knows. */
export function completionScript(shell: Shell, program: Command): string {
  const name = program.name();
  const all = wordsOf(program);
  const commands = all.map((each) => each.command).join(' ');
  const cases = all.map((each) => `    ${each.command}) words="${each.words.join(' ')}" ;;`).join('\n');
  switch (shell) {
    case 'bash':
      return `# bash completion for ${name}: source <(${name} completion bash)
_${fn(name)}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words="${commands} --help --version"
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "\${COMP_WORDS[1]}" in
${cases}
    esac
  fi
  case "\${COMP_WORDS[COMP_CWORD-1]}" in
    --env-file|--out|--templates) compopt -o default; COMPREPLY=(); return ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _${fn(name)} ${name}
`;
    case 'zsh':
      return `#compdef ${name}
# zsh completion for ${name}: source <(${name} completion zsh)
_${fn(name)}() {
  local words="${commands} --help --version"
  local -a list
  if (( CURRENT > 2 )); then
    case "$\{words_given[2]}" in
${cases}
    esac
  fi
  list=(\${=words})
  case "$\{words_given[CURRENT-1]}" in
    --env-file|--out|--templates) _files; return ;;
  esac
  compadd -a list
}
_${fn(name)}_entry() { local -a words_given=("$\{words[@]}"); _${fn(name)} }
compdef _${fn(name)}_entry ${name}
`.replaceAll('$\\{', '${');
    case 'fish':
      return `# fish completion for ${name}: ${name} completion fish | source
complete -c ${name} -f
${all
  .map(
    (each) =>
      `complete -c ${name} -n __fish_use_subcommand -a ${each.command} -d '${each.description.replaceAll("'", "\\'")}'\n` +
      each.words
        .map((word) => {
          const condition = `complete -c ${name} -n '__fish_seen_subcommand_from ${each.command}'`;
          if (!word.startsWith('--')) return `${condition} -a ${word}`;
          return `${condition} -l ${word.slice(2)}${/^--(?:env-file|out|templates)$/.test(word) ? ' -r -F' : ''}`;
        })
        .join('\n'),
  )
  .join('\n')}
`;
  }
}

const fn = (name: string) => name.replaceAll('-', '_');
