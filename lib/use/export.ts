// A model for other programs: safetensors by the names of torchvision and timm, or ONNX, with a model card and how to prepare a picture beside them.
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkObject, checkOneOf, checkText, textsOf } from '../check.js';
import { ComFaceError, invalid } from '../errors.js';
import { loadState, type ModelState } from '../model.js';
import { backbone, embeddingWidth } from '../models/backbone.js';
import { readRun, runFolderOf } from '../report/run.js';
import { kResultName, readTransferResult } from '../transfer/result.js';
import { version } from '../version.js';
import { type ComparatorName, comparatorNames, comparators } from '../weights/comparators.js';
import { encodeOnnx } from '../weights/onnx.js';
import { encodeSafetensors } from '../weights/safetensors.js';
import { type CardFacts, kCardMark, modelCard, preprocessorConfig, timmConfig, timmName } from './card.js';
import { replaceFile } from './files.js';

/** What an export may write: safetensors for PyTorch (torchvision, timm) and for {@link importWeights}; ONNX (opset 17) for runtimes. */
export type ExportFormat = 'safetensors' | 'onnx';
/** Both of them. */
export const exportFormats: readonly ExportFormat[] = ['safetensors', 'onnx'];

/** Which model to export, and how. */
export interface ExportOptions {
  /** Folder of a run (its newest checkpoint), of a checkpoint, of a transfer, or of imported weights. */
  model: string;
  /** Folder for the files, made when missing; those of an earlier export are replaced. */
  out: string;
  /** What to write, one or both. @default ['safetensors'] */
  formats?: readonly ExportFormat[] | undefined;
}

/** What was written. */
export interface ExportedModel {
  /** Its folder. */
  folder: string;
  /** Names of the files in it. */
  files: string[];
  /** timm's name of the network; null where timm has none such. */
  timm: string | null;
}

const kHeads = /^(projection|change)\./;

/**
 * Writes a model for other programs, in the layout that model hubs expect: `model.safetensors` (the backbone alone, so that torchvision and timm load it
 * strictly, but for their classifier) with `heads.safetensors`, or `model.onnx`; `README.md`, a model card; `preprocessor_config.json`; `config.json` where
 * timm has such a network.
 *
 * @throws ComFaceError as {@link loadModel}; INVALID_CONFIG for an unknown format; INVALID_INPUT for a folder with files of these names that no export
 * wrote; IO naming the file that cannot be written.
 * @example
 * ```ts
 * import { exportModel } from 'comface';
 *
 * const { files } = await exportModel({ model: 'run', out: 'published', formats: ['safetensors', 'onnx'] });
 * console.log(files.join(', '));
 * ```
 */
export async function exportModel(options: ExportOptions): Promise<ExportedModel> {
  checkObject('options', options);
  const { model, out, formats = ['safetensors'] } = options;
  for (const [name, value] of Object.entries({ model, out })) checkText(name, value);
  const chosen = textsOf('formats', formats) as ExportFormat[];
  for (const [i, format] of chosen.entries()) checkOneOf(`formats[${i}]`, format, exportFormats);
  if (chosen.length === 0) throw invalid('formats', 'at least one format', chosen, `Name ${exportFormats.join(' or ')}.`);
  const state = await loadState(model);
  const files = new Map<string, Uint8Array>();
  if (chosen.includes('safetensors')) addSafetensors(files, state);
  if (chosen.includes('onnx')) files.set('model.onnx', onnxOf(state));
  const { design } = state;
  const embedding = embeddingWidth(design.backbone, design);
  const timm = timmName(design);
  if (timm !== undefined && chosen.includes('safetensors')) files.set('config.json', json(timmConfig(design, embedding)));
  files.set('preprocessor_config.json', json(preprocessorConfig(design)));
  files.set('README.md', Buffer.from(modelCard(await factsOf(model, state, embedding, [...files.keys()]))));
  makeFolder(out);
  checkFolder(out, files);
  // The card first: by it the folder of an export that was killed is known again.
  const order = ['README.md', ...[...files.keys()].filter((name) => name !== 'README.md')];
  for (const name of order) await replaceFile(join(out, name), files.get(name)!);
  return { folder: out, files: [...files.keys()], timm: timm ?? null };
}

const json = (value: object): Uint8Array => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);

function makeFolder(out: string): void {
  try {
    mkdirSync(out, { recursive: true });
  } catch (cause) {
    throw new ComFaceError('IO', `Cannot make the folder ${out}: ${(cause as Error).message}`, {
      hint: 'Name a folder in a place where you may write.',
      cause,
    });
  }
}

/** A project's README.md or a run's config.json is not for us to replace. @throws ComFaceError INVALID_INPUT for files of the same names that no export wrote. */
function checkFolder(out: string, files: ReadonlyMap<string, Uint8Array>): void {
  const taken = [...files.keys()].filter((name) => existsSync(join(out, name)));
  if (taken.length === 0 || isCard(join(out, 'README.md'))) return;
  throw new ComFaceError(
    'INVALID_INPUT',
    `Expected a folder without ${taken.join(', ')}, or one that an export wrote, for \`out\` but received ${out}`,
    { hint: 'Name a new or empty folder.' },
  );
}

function isCard(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').includes(kCardMark);
  } catch {
    return false;
  }
}

function addSafetensors(files: Map<string, Uint8Array>, { design, weights, dataHash }: ModelState): void {
  const { task, ...config } = design;
  const about = {
    format: 'pt',
    comface: JSON.stringify({ version: 1, config, ...(task && { task }), ...(dataHash !== undefined && { dataHash }) }),
  };
  const part = (isHead: boolean) => new Map([...weights].filter(([name]) => kHeads.test(name) === isHead));
  files.set('model.safetensors', encodeSafetensors(part(false), about));
  const heads = part(true);
  if (heads.size > 0) files.set('heads.safetensors', encodeSafetensors(heads, { format: 'pt' }));
}

function onnxOf({ design, weights }: ModelState): Uint8Array {
  const { size, task, augment } = design;
  const unit = task ? `${task.attribute} in ${task.unit}` : 'the face in steps of alpha';
  return encodeOnnx(backbone(design.backbone, design), weights, {
    version,
    description: `Embeddings of faces (ComFace, arXiv 2405.16016), and the change of ${unit} from the first picture of a batch to each.`,
    metadata: { size: String(size), mean: augment.mean.join(' '), deviation: augment.deviation.join(' ') },
  });
}

async function factsOf(folder: string, { design, weights, imported }: ModelState, embedding: number, files: string[]): Promise<CardFacts> {
  const run = runFolderOf(folder);
  return {
    ...{ design, embedding, version, files, hasChange: weights.has('change.weight') },
    imported: comparatorNames.includes(imported as ComparatorName) ? comparators[imported as ComparatorName] : undefined,
    run: run === undefined ? undefined : await readRun(run),
    transfer: existsSync(join(folder, kResultName)) ? await readTransferResult(folder) : undefined,
  };
}
