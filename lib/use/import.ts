// Weights that others have trained, as a model of ours: told by the names in the file, renamed, held against the network's own list of tensors, saved as a
// checkpoint. What reads a run then reads them: embed(), transfer(), reproduce().
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { checkInteger, checkObject, checkOneOf, checkText } from '../check.js';
import { checkTrainOptions, designOf } from '../config.js';
import { ComFaceError, counted, show, someOf } from '../errors.js';
import type { ModelDesign } from '../model.js';
import { type BackboneName, backbone, embeddingWidth, isTransformer } from '../models/backbone.js';
import { chooseDevice, type NativeTensorInfo, native } from '../native.js';
import { lockRun, saveCheckpoint } from '../train/checkpoint.js';
import {
  backboneOf,
  type Comparator,
  type ComparatorName,
  comparatorNames,
  comparators,
  comparatorsOf,
  nameHere,
  partsOf,
  prefixIn,
} from '../weights/comparators.js';
import { readWeightsFile, type WeightsFile } from '../weights/read.js';
import type { Tensor } from '../weights/safetensors.js';
import type { StoredTensor } from '../weights/stored.js';

/** What {@link importWeights} can tell a file to be: `comface` is what {@link exportModel} wrote, `auto` finds out by the names in it. */
export type ImportName = ComparatorName | 'comface' | 'auto';
/** Every one of them. */
export const importNames: readonly ImportName[] = [...comparatorNames, 'comface', 'auto'];

/** Which weights to import, and where to. */
export interface ImportOptions {
  /** A file of safetensors, of torch (old or new), or a plain pickle of arrays. */
  file: string;
  /** Folder for the model, new or of the same import. */
  out: string;
  /** What the file is. @default 'auto' */
  as?: ImportName | undefined;
  /** Edge of the pictures in pixels, 16 to 512; a vision transformer has that of its positions. @default what it was trained on */
  size?: number | undefined;
}

/** What was imported. */
export interface ImportedWeights {
  /** Folder of the model, for {@link loadModel}, {@link transfer} and {@link reproduce}. */
  folder: string;
  /** What the file is. */
  as: Exclude<ImportName, 'auto'>;
  /** What that is called. */
  title: string;
  /** How the numbers lay in the file: safetensors, torch, torch-legacy, pickle. */
  container: string;
  /** Its network. */
  backbone: BackboneName;
  /** Its `width`, as a training names it. */
  width: number;
  /** Edge of its pictures in pixels. */
  size: number;
  /** Width of an embedding. */
  embedding: number;
  /** Subtracted from red, green, blue from 0 to 1. */
  mean: number[];
  /** What they are then divided by. */
  deviation: number[];
  /** Names of the tensors that are in the model now, as the file has them. */
  used: string[];
  /** Names of those that are not: a classifier, a projection head. */
  left: string[];
}

/** Where a tensor comes from. */
interface Found {
  name: string;
  stored: StoredTensor;
}

/** What a file is, and what its tensors are called here. */
interface Content {
  as: Exclude<ImportName, 'auto'>;
  title: string;
  design: ModelDesign;
  tensors: Map<string, Found>;
  /** The names in `tensors` of what makes one of ours, one after the other along its first dimension. */
  partsOf(name: string): string[];
  isBgr: boolean;
  /** Beside the design. */
  info: Record<string, unknown>;
}

/** Of names in a message. */
const kShown = 4;
/** Of the step that an import counts as. */
const kCheckpoint = 'step-00000000';
const kHeads = /^(projection|change)\./;
/** Beside `model.safetensors` of an export. */
const kHeadsName = 'heads.safetensors';
const kCounter = /\.num_batches_tracked$/;

/**
 * Makes a model of the weights that a file holds: those of a network that the paper compares ComFace with, or what {@link exportModel} wrote. Nothing in the
 * file is run.
 *
 * @throws ComFaceError INVALID_CONFIG or INVALID_INPUT for an option out of range, a file of another kind or network, one that could be several; CORRUPT_FILE
 * with the byte offset; NOT_FINITE naming the tensor; IO; BUSY where another call has the folder.
 * @example
 * ```ts
 * import { importWeights, transfer } from 'comface';
 *
 * const { folder, title, left } = await importWeights({ file: 'resnet50-0676ba61.pth', as: 'imagenet', out: 'imagenet' });
 * console.log(title, 'without', left.join(', '));
 * await transfer({ data: 'disfa', attribute: 'AU12', model: folder, out: 'smiles' });
 * ```
 */
export async function importWeights(options: ImportOptions): Promise<ImportedWeights> {
  checkObject('options', options);
  const { file: path, out, as = 'auto', size } = options;
  for (const [name, value] of Object.entries({ file: path, out })) checkText(name, value);
  checkOneOf('as', as, importNames);
  if (size !== undefined) checkInteger('size', size, 16, 512);
  const file = await readWeightsFile(path);
  await addHeads(file);
  const content = contentOf(file, as, size);
  const { weights, used } = await weightsOf(file, content);
  const { backbone: name, width, size: edge, augment } = content.design;
  const info = { config: content.design, imported: { as: content.as, file: basename(path) }, ...content.info };
  const lock = await lockRun(out);
  try {
    await checkFolder(out);
    await saveCheckpoint(out, { step: 0, weights, optimizer: new Map(), info }, { keep: 1 });
  } finally {
    await lock.release();
  }
  return {
    ...{ folder: out, as: content.as, title: content.title, container: file.container },
    ...{ backbone: name, width, size: edge, embedding: embeddingWidth(name, content.design) },
    ...{ mean: [...augment.mean], deviation: [...augment.deviation] },
    used: [...used],
    left: [...file.tensors.keys()].filter((each) => !used.has(each)),
  };
}

/** A run's own checkpoints would be read in place of the import. @throws ComFaceError INVALID_INPUT for a folder with anything but an import. */
async function checkFolder(out: string): Promise<void> {
  const others = (await readdir(out)).filter((name) => name !== 'checkpoints' && !name.startsWith('run.lock'));
  const saved = existsSync(join(out, 'checkpoints')) ? await readdir(join(out, 'checkpoints')) : [];
  const found = [...others, ...saved.filter((name) => name !== kCheckpoint).map((name) => `checkpoints/${name}`)];
  if (found.length === 0) return;
  throw new ComFaceError(
    'INVALID_INPUT',
    `Expected a new or empty folder, or one of the same import, for \`out\` but ${out} holds ${someOf(found, kShown)}`,
    { hint: 'Name a folder of its own for the model.' },
  );
}

/** The heads of an export lie beside its backbone. */
async function addHeads(file: WeightsFile): Promise<void> {
  const path = join(dirname(file.path), kHeadsName);
  if (!file.others.has('comface') || !existsSync(path)) return;
  for (const [name, tensor] of (await readWeightsFile(path)).tensors) if (kHeads.test(name)) file.tensors.set(name, tensor);
}

function contentOf(file: WeightsFile, as: ImportName, size: number | undefined): Content {
  if (as === 'comface' || (as === 'auto' && file.others.has('comface'))) return ownContent(file, size);
  const names: ReadonlySet<string> = new Set(file.tensors.keys());
  return comparatorContent(file, as === 'auto' ? toldBy(file, names) : as, names, size);
}

/** @throws ComFaceError INVALID_INPUT where nothing, or more than one thing, is told by the names. */
function toldBy(file: WeightsFile, names: ReadonlySet<string>): ComparatorName {
  const [found, ...others] = comparatorsOf(names, file.container);
  if (found !== undefined && others.length === 0) return found;
  if (found !== undefined)
    throw refusal(
      file,
      'names of one of these alone',
      [found, ...others].join(', '),
      'Say which with `as`: comface import FILE --as NAME.',
    );
  throw refusal(
    file,
    `the names of a network of ${comparatorNames.join(', ')} or comface`,
    `${counted(names.size, 'tensor')}: ${someOf([...names], kShown)}`,
    'If it is one of these under other names, say which: comface import FILE --as NAME.',
  );
}

function comparatorContent(file: WeightsFile, as: ComparatorName, names: ReadonlySet<string>, size: number | undefined): Content {
  const comparator: Comparator = comparators[as];
  const { title, network, isBgr = false, source } = comparator;
  const prefix = prefixIn(comparator, names);
  if (prefix === undefined)
    throw refusal(file, `a backbone of ${title} (${source})`, `${counted(names.size, 'tensor')}: ${someOf([...names], kShown)}`, kOther);
  const tensors = new Map<string, Found>();
  for (const [name, stored] of file.tensors)
    if (name.startsWith(prefix)) tensors.set(nameHere(network, name.slice(prefix.length)), { name, stored });
  const name = backboneOf(network, new Set(tensors.keys()));
  if (name === undefined) throw refusal(file, `a network of ${title}`, 'a ResNet of another depth', kOther);
  const { augment } = checkTrainOptions({ data: 'data', out: 'out' });
  const design: ModelDesign = {
    ...{ backbone: name, width: widthOf(file, name, tensors), size: sizeOf(file, name, tensors, size ?? comparator.size, size) },
    augment: { ...augment, mean: comparator.mean, deviation: comparator.deviation },
  };
  return { as, title, design, tensors, partsOf: (each) => partsOf(network, each), isBgr, info: {} };
}

const kOther = 'Name another file, or what this one is: comface import FILE --as NAME.';

/** Channels of the first stage, or of a head. */
function widthOf(file: WeightsFile, name: BackboneName, tensors: ReadonlyMap<string, Found>): number {
  const first = name === 'pcl' ? 'conv1.0.weight' : 'conv1.weight';
  const [tensor, index, parts] = isTransformer(name) ? (['cls_token', -1, 12] as const) : ([first, 0, 1] as const);
  const shape = tensors.get(tensor)?.stored.shape ?? [];
  const width = (shape.at(index) ?? 0) / parts;
  if (Number.isInteger(width) && width % 16 === 0 && width >= 16 && width <= 128) return width;
  throw refusal(file, `a width of 16 to 128 channels, a multiple of 16, in ${tensor}`, `the shape [${shape.join(', ')}]`, kOther);
}

/** A transformer's positions are those of one size. */
function sizeOf(
  file: WeightsFile,
  name: BackboneName,
  tensors: ReadonlyMap<string, Found>,
  size: number,
  asked: number | undefined,
): number {
  if (!isTransformer(name)) return size;
  const positions = tensors.get('pos_embed')?.stored.shape.at(-2) ?? 0;
  const edge = 16 * Math.sqrt(positions - 1);
  if (!Number.isInteger(edge) || edge < 16 || edge > 512)
    throw refusal(file, 'positions of a square of patches and a class token', `${positions}`, kOther);
  if (asked !== undefined && asked !== edge)
    throw new ComFaceError('INVALID_INPUT', `Expected ${edge} for \`size\`, the pictures of its positions, but received ${asked}`, {
      hint: 'Leave `size` out.',
    });
  return edge;
}

/** What `exportModel` wrote: the design stands in the file's metadata. */
function ownContent(file: WeightsFile, size: number | undefined): Content {
  const text = file.others.get('comface');
  const known = typeof text === 'string' ? parsed(text) : undefined;
  const design = designOf(known?.config);
  if (!design) throw refusal(file, 'the design of a model in the metadata, as comface export writes it', show(text), kOther);
  if (size !== undefined && size !== design.size)
    throw new ComFaceError('INVALID_INPUT', `Expected ${design.size} for \`size\`, the model's own, but received ${size}`, {
      hint: 'Leave `size` out.',
    });
  const tensors = new Map([...file.tensors].map(([name, stored]) => [name, { name, stored }]));
  const { task, dataHash } = known!;
  const info = { ...(task !== undefined && { task }), ...(dataHash !== undefined && { dataHash }) };
  return { as: 'comface', title: 'ComFace', design, tensors, partsOf: (name) => [name], isBgr: false, info };
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** What the network wants, from the file. @throws ComFaceError INVALID_INPUT naming what is missing or has another shape. */
async function weightsOf(file: WeightsFile, content: Content): Promise<{ weights: Map<string, Tensor>; used: Set<string> }> {
  const { design, title, tensors, isBgr } = content;
  const wholes = (await tensorsOf(design)).map((whole) => ({ ...whole, parts: content.partsOf(whole.name) }));
  const wanted = wholes.flatMap(({ dims: [first = 1, ...rest], parts }) =>
    parts.map((name) => ({ name, dims: [first / parts.length, ...rest] })),
  );
  const missing = wanted.filter(({ name }) => !tensors.has(name)).map(({ name }) => name);
  const mismatched = wanted.filter(({ name, dims }) => {
    const found = tensors.get(name);
    return found !== undefined && !fits(found.stored.shape, dims);
  });
  const what = `the ${wanted.length} tensors of ${design.backbone} of width ${design.width} (${title})`;
  if (missing.length > 0)
    throw refusal(file, what, `${wanted.length - missing.length} of them, without ${someOf(missing, kShown)}`, kOther);
  if (mismatched.length > 0) {
    const [{ name, dims }] = mismatched as [(typeof wanted)[number]];
    const { name: theirs, stored } = tensors.get(name)!;
    const rest = mismatched.length > 1 ? ` (and ${mismatched.length - 1} more)` : '';
    throw refusal(file, `${what}, [${dims.join(', ')}] for ${theirs}`, `[${stored.shape.join(', ')}]${rest}`, kOther);
  }
  const used = new Set<string>();
  const weights = new Map<string, Tensor>();
  const take = async (name: string, shape: readonly number[], parts: readonly Found[]) => {
    for (const { name: theirs } of parts) used.add(theirs);
    weights.set(name, { dtype: 'F32', shape: [...shape], data: await joined(parts) });
  };
  for (const { name, dims, parts } of wholes) {
    const found = parts.map((part) => tensors.get(part)!);
    await take(name, dims, found);
  }
  for (const [name, found] of tensors) {
    if (kHeads.test(name) && file.others.has('comface')) await take(name, found.stored.shape, [found]);
    if (!kCounter.test(name) || !weights.has(name.replace(kCounter, '.running_mean'))) continue;
    used.add(found.name);
    if (found.stored.dtype === 'I64') weights.set(name, { dtype: 'I64', shape: [], data: (await found.stored.int64()).slice(0, 1) });
  }
  if (isBgr) swapColors(weights.get('conv1.weight')!);
  return { weights, used };
}

/** The numbers of tensors one after the other. */
async function joined(parts: readonly Found[]): Promise<Float32Array> {
  const all: Float32Array[] = [];
  for (const { stored } of parts) all.push(await stored.float32());
  if (all.length === 1) return all[0]!;
  const data = new Float32Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const numbers of all) {
    data.set(numbers, at);
    at += numbers.length;
  }
  return data;
}

/** What the network has, as the native graph lists it. */
async function tensorsOf({ backbone: name, width, size }: ModelDesign): Promise<NativeTensorInfo[]> {
  const { library } = chooseDevice('cpu', 'fp32');
  const graph = { layers: backbone(name, { width, size }), batch: 1, training: false, precision: 'fp32', threads: 1 } as const;
  const engine = await native().module.createEngine(library, graph);
  try {
    return [...engine.parameters, ...engine.statistics];
  } finally {
    engine.dispose();
  }
}

/** CLIP's class token has one dimension, timm's three. */
function fits(shape: readonly number[], dims: readonly number[]): boolean {
  const bare = (sizes: readonly number[]) =>
    sizes.slice(
      Math.max(
        0,
        sizes.findIndex((size) => size !== 1),
      ),
    );
  const [a, b] = [bare(shape), bare(dims)];
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** O x 3 x k x k: blue, green, red -> red, green, blue. */
function swapColors({ shape, data }: Tensor): void {
  const area = shape[2]! * shape[3]!;
  for (let first = 0; first < data.length; first += 3 * area) {
    const blue = (data as Float32Array).slice(first, first + area);
    data.copyWithin(first, first + 2 * area, first + 3 * area);
    (data as Float32Array).set(blue, first + 2 * area);
  }
}

const refusal = ({ path }: WeightsFile, rule: string, found: string, hint: string): ComFaceError =>
  new ComFaceError('INVALID_INPUT', `${path}: expected ${rule} but found ${found}`, { hint });
