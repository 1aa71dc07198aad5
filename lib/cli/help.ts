// How --help looks and how a wrong command line is answered.
import type { Argument, Command, Option, OutputConfiguration } from 'commander';
import { printable } from '../errors.js';
import { didYouMean } from '../nearest.js';
import { isJson, wrapped } from './terminal.js';

const firstSteps = `
First steps:
  $ comface doctor
  $ comface demo
  $ comface generate --out faces --subjects 500 --attributes smile,weight --size 64
  $ comface train --data faces --out run --backbone resnet18 --size 64
  $ comface compare monday.jpg friday.jpg --model run

${wrapped('Results go to standard output, progress and errors to standard error. With --json, results and errors are JSON.')}

Exit codes:
  0    done
  1    it failed, or found something broken: the last lines say what to do
  2    the command line, an option or an input is wrong
  130  stopped by Ctrl+C; 143 by SIGTERM, 129 by a closed terminal

${wrapped("Documentation: README.md in the package's folder and docs/ beside it; docs/cli.md is about this command line.")}`;

/** Texts and settings that every command inherits; so it comes before the first. */
export function withHelp(program: Command): Command {
  return (
    program
      .description('Learn to compare two faces of the same person (ComFace, arXiv 2405.16016).')
      .usage('COMMAND [options]')
      .helpOption('-h, --help', 'Show this help')
      .addHelpText('after', firstSteps)
      // A terminal of 80 columns has 37 left beside the longest flag.
      .configureHelp({ minWidthToWrap: 30, optionDescription, argumentDescription, subcommandTerm: (command) => command.name() })
      .showSuggestionAfterError()
      .showHelpAfterError('(comface --help shows the commands)')
  );
}

/** Defaults as they are typed; those of `train` stand in its texts. */
function optionDescription({ description, defaultValue, mandatory }: Option): string {
  if (mandatory) return `${description} (required)`;
  return defaultValue === undefined ? description : `${description} (default: ${[defaultValue].flat().join(',')})`;
}

/** Its choices stand in its text. */
const argumentDescription = ({ description }: Argument): string => description;

/** Errors of commander. With --json, cli.ts says them. */
export function outputOf(): OutputConfiguration {
  if (isJson) return { writeErr: () => undefined };
  return {
    outputError: (text, write) => {
      const near = nearChoice(text);
      const all = near === '' ? text : `${text.trimEnd()}\n(${near})\n`;
      write(safeError(all.replace(/^error: /, 'comface: ')));
    },
  };
}

const kChoices = /'([^']*)' is invalid.*Allowed choices are (.*)\.$/m;

/** Commander names the nearest command or option, but no choice. */
export function nearChoice(message: string): string {
  const [, word, choices] = kChoices.exec(message) ?? [];
  return choices === undefined ? '' : didYouMean(word, choices.split(', ')).trim();
}

/** Commander quotes words of the command line as they are; its own line ends stay. */
function safeError(text: string): string {
  const words = process.argv.slice(2).flatMap((word) => [word, ...word.split('=')]);
  const shown = words.filter((word) => /[\r\n]/.test(word)).reduce((all, word) => all.replaceAll(word, printable(word)), text);
  return shown.split('\n').map(printable).join('\n');
}
