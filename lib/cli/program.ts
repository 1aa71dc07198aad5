// The command line. It only reads flags, shows progress (standard error) and prints results (standard output); the work is in the library.
// Exit codes: 0 done, 1 an error, 2 a wrong option or input. Stopped by a signal it dies by that signal, which shells show as 129, 130 or 143: after
// the first it saves, if there is anything to save; the second ends it at once.
import { type Command, CommanderError, Command as Program } from 'commander';
import { ComFaceError, messageOf } from '../errors.js';
import { GivenOptions } from '../flags.js';
import { version } from '../version.js';
import { addInspect, addPack, addSheet, addTwin } from './data.js';
import { addDirections, addGenerate, addJoin } from './generate.js';
import { nearChoice, outputOf, withHelp } from './help.js';
import { addDemo, addReproduce, addTrain, addTransfer } from './learning.js';
import { addBuild, addCompletion, addDoctor } from './machine.js';
import { endBy, isJson, Stopped, showError, showStopped } from './terminal.js';
import { addCompare, addEmbed, addReport, addSaliency } from './using.js';
import { addExport, addImport } from './weights.js';

// A reader that has seen enough (`| head`) closes the pipe: results stop there, progress goes unseen, work goes on.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => process.exit(code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => undefined);

const program = withHelp(new Program('comface')).version(version, '-V, --version', 'Show the version').exitOverride();
program.configureOutput(outputOf());

program.commandsGroup('To begin:');
addDemo(program);
addDoctor(program);
program.commandsGroup('Data sets:');
for (const add of [addGenerate, addDirections, addPack, addTwin, addJoin, addInspect, addSheet]) add(program);
program.commandsGroup('Training:');
addTrain(program, (command) => given.get(command)!);
addTransfer(program);
addReproduce(program);
program.commandsGroup('With a trained model:');
for (const add of [addCompare, addEmbed, addSaliency, addReport]) add(program);
program.commandsGroup('Weights:');
for (const add of [addImport, addExport]) add(program);
program.commandsGroup('Installation and help:');
addBuild(program);
addCompletion(program);
program.helpCommand('help [command]', 'Show the help of a command');
for (const command of program.commands) {
  command.option('--json', 'Print the result, or the error, as JSON');
  command.showHelpAfterError(`(comface ${command.name()} --help shows what it takes)`);
}

/** What the library calls an option where that is another name. */
const aliases: Record<string, Record<string, string>> = {
  generate: { attribute: 'attributes' },
  sheet: { attribute: 'attributes' },
  train: { path: 'config' },
  transfer: { folder: 'model' },
  compare: { folder: 'model' },
  embed: { folder: 'model' },
  saliency: { folder: 'model' },
  export: { model: 'folder', formats: 'format' },
  reproduce: { rivals: 'rival' },
};
const given = new Map(program.commands.map((command) => [command, new GivenOptions(command, aliases[command.name()])]));
let running: Command | undefined;
program.hook('preAction', (_, command) => {
  running = command;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    if (isJson && error.exitCode !== 0) showUsageError(error);
  } else if (error instanceof Stopped) {
    const isBegunAgain = running?.name() === 'twin';
    showStopped(
      `${error.message}.`,
      isBegunAgain
        ? 'The same command begins again.'
        : 'Checkpoints, files and whole shards are saved: the same command (train: with --resume) goes on with them.',
    );
    endBy(error.signal);
  } else process.exitCode = explain(error);
}

/** Says what went wrong. @returns The exit code. */
function explain(error: unknown): 1 | 2 {
  if (!(error instanceof ComFaceError)) {
    const hint = 'This is a mistake in comface: report it, with what the same command prints without --json.';
    showError({ code: 'INTERNAL', message: messageOf(error), hint }, ...`comface: ${(error as Error)?.stack}`.split('\n'));
    return 1;
  }
  const { code, message, hint } = given.get(running!)!.explain(error);
  showError({ code, message, hint }, `comface: ${message}`, ...(hint === undefined ? [] : [`  ${hint}`]));
  return code === 'INVALID_CONFIG' || code === 'INVALID_INPUT' ? 2 : 1;
}

/** Commander's own message, which it has not printed. */
function showUsageError({ message, code }: CommanderError): void {
  const [first, ...more] = message.replace(/^error: /, '').split('\n');
  const text = code === 'commander.help' ? 'Expected a command' : first!;
  const wanted = program.commands.find((command) => command.name() === process.argv[2]);
  const near = [...more.map((line) => line.replace(/^\((.*)\)$/, '$1')), nearChoice(message)].filter(Boolean);
  const hint = [...near, `comface ${wanted ? `${wanted.name()} ` : ''}--help shows ${wanted ? 'what it takes' : 'the commands'}.`].join(
    ' ',
  );
  showError({ code: 'INVALID_INPUT', message: text, hint });
}
