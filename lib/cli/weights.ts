// Commands that bring weights in and out.
import { type Command, InvalidArgumentError, Option } from 'commander';
import { counted, someOf } from '../errors.js';
import { type ExportFormat, exportFormats, exportModel } from '../use/export.js';
import { type ImportName, importNames, importWeights } from '../use/import.js';
import { kShown, list, number, path, printResult, progress, wrapped } from './terminal.js';

/** comface import */
export function addImport(program: Command): void {
  program
    .command('import')
    .summary('Make a model of weights that others have trained')
    .description('Make a model of weights that others have trained, or that comface export wrote. Nothing in the file is run.')
    .argument('<file>', 'Weights: safetensors, torch (.pth, .pt), or a pickle of arrays (.pkl)')
    .requiredOption('--out <folder>', 'Folder for the model, new or empty')
    .addOption(
      new Option('--as <name>', `What it is: ${importNames.slice(0, -1).join(', ')}; auto tells by the names in it`)
        .choices(importNames)
        .default('auto'),
    )
    .option('--size <integer>', 'Edge of the pictures in pixels (left out: what it was trained on, 224)', number)
    .addHelpText(
      'after',
      `\n${wrapped('The model is for embed, saliency, transfer --model and reproduce --rival. It has no change head until it is transferred.')}\n\nExamples:\n  $ comface import resnet50-0676ba61.pth --as imagenet --out imagenet\n  $ comface transfer --data disfa --attribute AU12 --model imagenet --out smiles`,
    )
    .action(async (file: string, { out, as, size }: { out: string; as: ImportName; size?: number }) => {
      const imported = await importWeights({ file, out, as, ...(size !== undefined && { size }) });
      const { title, backbone, width, size: edge, used, left, mean, deviation } = imported;
      const numbers = (values: number[]) => values.map((value) => Number(value.toPrecision(4))).join(', ');
      progress.note(
        `${title}: ${backbone} of width ${width}, pictures of ${edge} x ${edge}, mean ${numbers(mean)}, deviation ${numbers(deviation)}.`,
        `${counted(used.length, 'tensor')} used; ${left.length === 0 ? 'none left' : `${left.length} left: ${someOf(left, kShown)}`}.`,
      );
      printResult(imported, path(out));
    });
}

/** comface export */
export function addExport(program: Command): void {
  program
    .command('export')
    .summary('Write a model for other programs: safetensors or ONNX')
    .description('Write a model for other programs, with a model card and how to prepare a picture beside it, as model hubs expect it.')
    .argument('<folder>', 'Folder of a run (its newest checkpoint), of a checkpoint, of a transfer or of imported weights')
    .requiredOption('--out <folder>', 'Folder for the files, new or of an earlier export')
    .option('--format <list>', `What to write: ${exportFormats.join(', ')} or both`, list, ['safetensors'])
    .addHelpText(
      'after',
      '\nExamples:\n  $ comface export run --out published\n  $ comface export smiles --format safetensors,onnx --out published',
    )
    .action(async (model: string, { out, format }: { out: string; format: string[] }) => {
      const exported = await exportModel({ model, out, formats: format as ExportFormat[] });
      printResult(exported, ...exported.files.map((name) => path(`${out}/${name}`)));
    });
}

/** `name=folder`, gathered over several flags. */
export function rivalOf(text: string, known: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Expected NAME=FOLDER, imagenet=weights/imagenet, say.');
  return { ...known, [text.slice(0, at)]: text.slice(at + 1) };
}
