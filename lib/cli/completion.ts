// A script of completions for a shell, made of the commands, options and choices that commander knows.
import type { Command } from 'commander';

export const shells = ['bash', 'zsh'] as const;

/** The script, without a line end. zsh runs it through its own bashcompinit. */
export function completion(program: Command, shell: (typeof shells)[number]): string {
  const names = [...program.commands.map((command) => command.name()), 'help'].join(' ');
  const commands = program.commands.map((command) => {
    const options = [...command.options.map(({ long }) => long), '--help'].join(' ');
    return `    ${command.name()}) options='${options}' words='${command.registeredArguments[0]?.argChoices?.join(' ') ?? ''}';;`;
  });
  const choices: string[] = [];
  const free: string[] = [];
  for (const command of program.commands) {
    for (const { long, argChoices, required } of command.options) {
      if (argChoices) choices.push(`    '${command.name()} ${long}') options= words='${argChoices.join(' ')}';;`);
      else if (required) free.push(`'${command.name()} ${long}'`);
    }
  }
  return [
    `# Completions of comface ${program.version()} for ${shell}. Where no word fits, files do.`,
    ...(shell === 'zsh' ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
    '_comface() {',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: of the shell
    '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} options= words=',
    `  [[ $COMP_CWORD == 1 ]] && command=`,
    '  case $command in',
    `    '') options='--help --version' words='${names}';;`,
    `    help) words='${names}';;`,
    ...commands,
    '  esac',
    '  case "$command $before" in',
    ...choices,
    `    ${free.join('|')}) options= words=;;`,
    '  esac',
    '  [[ $word == -* ]] && words=$options',
    '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
    '}',
    'complete -o default -F _comface comface',
  ].join('\n');
}
