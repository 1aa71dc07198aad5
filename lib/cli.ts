#!/usr/bin/env node
// The command line. It only reads flags, shows progress (standard error) and prints results (standard output); the work is in the library.
// Exit codes: 0 done (or stopped by a signal after saving), 1 an error, 2 a wrong option or input. The second signal ends it at once, as does the
// first before there is anything to save: then it dies by that signal, which shells show as 129, 130 or 143.
import { readFileSync } from 'node:fs';
import { Command, CommanderError, type Option } from 'commander';
import { addGenerate, addInspect, addPack, addSheet, addTwin } from './cli/data.js';
import { addDemo, addReproduce, addTrain, addTransfer } from './cli/learning.js';
import { progress, Stopped } from './cli/terminal.js';
import { addCompare, addDoctor, addEmbed, addReport, addSaliency } from './cli/using.js';
import { ComFaceError, printable } from './errors.js';
import { GivenOptions } from './flags.js';

// A reader that has seen enough (`| head`) closes the pipe: results stop there, progress goes unseen, work goes on.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => process.exit(code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => undefined);
const version = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version as string;

const program = new Command('comface')
  .description('Learn to compare two faces of the same person (ComFace, arXiv 2405.16016).')
  .version(version, '-V, --version', 'Show the version')
  .helpOption('-h, --help', 'Show this help')
  .helpCommand('help [command]', 'Show the help of a command')
  // A terminal of 80 columns has 37 left beside the longest flag.
  .configureHelp({ minWidthToWrap: 30, optionDescription })
  .showSuggestionAfterError()
  .showHelpAfterError('(comface --help shows the commands, comface COMMAND --help its options)')
  .configureOutput({ outputError: (text, write) => write(safeError(text)) })
  .exitOverride();

addDemo(program);
for (const add of [addGenerate, addTwin, addPack, addInspect, addSheet]) add(program);
addTrain(program, (command) => given.get(command)!);
addTransfer(program);
for (const add of [addCompare, addEmbed, addSaliency, addReport]) add(program);
addReproduce(program);
addDoctor(program);

/** Defaults as they are typed; those of `train` stand in its texts. */
function optionDescription({ description, defaultValue, mandatory }: Option): string {
  if (mandatory) return `${description} (required)`;
  return defaultValue === undefined ? description : `${description} (default: ${[defaultValue].flat().join(',')})`;
}

/** Commander quotes words of the command line as they are; its own line ends stay. */
function safeError(text: string): string {
  const words = process.argv.slice(2).flatMap((word) => [word, ...word.split('=')]);
  const shown = words.filter((word) => /[\r\n]/.test(word)).reduce((all, word) => all.replaceAll(word, printable(word)), text);
  return shown.split('\n').map(printable).join('\n');
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
};
const given = new Map(program.commands.map((command) => [command, new GivenOptions(command, aliases[command.name()])]));
let running: Command | undefined;
program.hook('preAction', (_, command) => {
  running = command;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof Stopped && running?.name() === 'twin') progress.note('Stopped. The same command begins again.');
  else if (error instanceof Stopped)
    progress.note('Stopped. Checkpoints, files and whole shards are saved: the same command (train: with --resume) goes on with them.');
  else {
    const isOurs = error instanceof ComFaceError;
    if (isOurs) {
      const { message, hint } = given.get(running!)!.explain(error);
      progress.note(`comface: ${message}`, ...(hint === undefined ? [] : [`  ${hint}`]));
    } else progress.note(...`comface: ${(error as Error)?.stack}`.split('\n'));
    process.exitCode = isOurs && (error.code === 'INVALID_CONFIG' || error.code === 'INVALID_INPUT') ? 2 : 1;
  }
}
