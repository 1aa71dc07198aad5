// Opens the weights of a StyleGAN or StyleGAN3 in any of the files that their makers and converters publish. What a file is, is told by what it holds;
// what is no such generator is told by name, too.
import { createHash } from 'node:crypto';
import { normals, Purpose } from '../data/random.js';
import { type ComFaceError, counted, someOf } from '../errors.js';
import type { LayerRecord } from '../models/layers.js';
import { readWeightsFile, type WeightsFile } from '../weights/read.js';
import type { Tensor } from '../weights/safetensors.js';
import { FileSource } from '../weights/source.js';
import type { StoredTensor } from '../weights/stored.js';
import { genforceNames, lernapparatNames, tensorFlowNames } from './names.js';
import { checkRecipes, type GeneratorTensors, type Recipe, readRecipes, refuseFile } from './recipe.js';
import {
  edgeOf,
  mappingRecipes,
  type StyleGan1Names,
  stylegan1Design,
  stylegan1Mapping,
  stylegan1Synthesis,
  synthesisRecipes,
} from './stylegan1.js';
import {
  isRadial,
  mapping3Recipes,
  settingsIn,
  stylegan3Design,
  stylegan3Mapping,
  stylegan3Synthesis,
  synthesis3Recipes,
} from './stylegan3.js';

/** A family of generators whose directions are of one kind. */
export const families = ['stylegan1', 'stylegan3-t', 'stylegan3-r'] as const;
/** What a generator is: StyleGAN, or a configuration of StyleGAN3. */
export type GeneratorFamily = (typeof families)[number];

/** A list of layers and the tensors in them. */
export interface GraphWeights {
  layers: LayerRecord[];
  weights: Map<string, Tensor>;
}

/** A generator as it lies in a file, in the terms of our graphs. */
export interface GeneratorFile {
  path: string;
  family: GeneratorFamily;
  /** In words: which of the known files it is like. */
  title: string;
  /** SHA-256 of the file, hexadecimal. */
  sha256: string;
  /** Edge of its pictures in pixels. */
  resolution: number;
  /** Widths of z and w, and how many layers take a w. */
  z: number;
  w: number;
  layers: number;
  mapping: GraphWeights;
  synthesis: GraphWeights;
  /** Mean of w; undefined where the file has none. */
  average: Float32Array | undefined;
  /** Whether the file has no noise, so that some was drawn. */
  isNoiseDrawn: boolean;
}

/** Tensors by which other files are known, and what to do about them. */
const others: readonly (readonly [pattern: RegExp, kind: string, hint: string])[] = [
  [
    /(^|\.)(progression\.\d+\.|generator\.progression\.)|\.adain1\.style\./,
    'a StyleGAN that rosinality/style-based-gan-pytorch trained',
    'It is another network than the one that directions are published for: use the official pickle or stylegan_ffhq.pth of genforce.',
  ],
  [
    /(^|\.)synthesis\.b4\.const$|noise_strength$|mod_weight$|\.modulation\.weight$|early_layer\.const$/,
    'a StyleGAN2',
    'StyleGAN2 is not read: the paper uses StyleGAN and StyleGAN3. Name the weights of one of these.',
  ],
  [
    /(^|\.)projection\.0\.weight$|(^|\.)change\.weight$/,
    'a network that comface trained',
    'Name the weights of a generator: docs/data.md says where to get them.',
  ],
  [
    /(^|\.)(layer1\.0\.conv1\.weight|blocks\.0\.attn\.qkv\.weight)$/,
    'a network that embeds pictures',
    'Name the weights of a generator; comface import reads those of a backbone.',
  ],
];
const kShown = 4;
/** The seed of noise that a file lacks: the same in all runs. */
const kNoiseSeed = 1n;

/** The tensors of the file without what is before `landmark`, where one name alone ends in it, or one of `G_ema`. */
function under(file: WeightsFile, landmark: string): { prefix: string; tensors: Map<string, StoredTensor> } | undefined {
  const prefixes = [...file.tensors.keys()]
    .filter((name) => name === landmark || name.endsWith(`.${landmark}`))
    .map((name) => name.slice(0, -landmark.length));
  const prefix = prefixes.find((each) => each === 'G_ema.') ?? (prefixes.length === 1 ? prefixes[0] : undefined);
  if (prefix === undefined) return undefined;
  const own = [...file.tensors].filter(([name]) => name.startsWith(prefix));
  return { prefix, tensors: new Map(own.map(([name, tensor]) => [name.slice(prefix.length), tensor])) };
}

/** The variables of a pickled network of TensorFlow, `mapping/Dense0/weight` say: Gs of the three that a file has, or the only one. */
function tensorFlowVariables(file: WeightsFile): { prefix: string; tensors: Map<string, StoredTensor> } | undefined {
  if (file.container !== 'pickle') return undefined;
  const prefix = ['2.', ''].find((each) => file.others.has(`${each}build_func_name`));
  if (prefix === undefined) return undefined;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of file.others) {
    const [, component, variable] =
      /^(?:components\.(\w+)\.)?(variables\.\d+)\.0$/.exec(name.startsWith(prefix) ? name.slice(prefix.length) : '') ?? [];
    const tensor = variable === undefined ? undefined : file.tensors.get(name.replace(/0$/, '1'));
    if (tensor && typeof value === 'string') tensors.set(component === undefined ? value : `${component}/${value}`, tensor);
  }
  return { prefix, tensors };
}

/**
 * Reads the weights of a generator.
 *
 * @throws ComFaceError INVALID_INPUT for a file of anything else, with what it is, and naming tensors that are missing, odd or too many; CORRUPT_FILE with
 * the byte offset; NOT_FINITE naming the tensor; IO.
 */
export async function readGenerator(path: string): Promise<GeneratorFile> {
  const source = new FileSource(path);
  const file = await readWeightsFile(path);
  const known = knownAs(file);
  if (!known) throw refuseOther(file);
  const sha256 = await hashOf(source);
  return source.during(() => known(sha256));
}

type Reader = (sha256: string) => Promise<GeneratorFile>;

function knownAs(file: WeightsFile): Reader | undefined {
  const { path } = file;
  const third = under(file, 'synthesis.input.freqs');
  if (third) return (sha256) => readThird({ path, tensors: third.tensors }, file, third.prefix, sha256);
  const official = tensorFlowVariables(file);
  if (official?.tensors.has('synthesis/4x4/Const/const') && official.tensors.has('synthesis/4x4/Const/StyleMod/weight')) {
    const names = tensorFlowNames(file.others.get(`${official.prefix}static_kwargs.fused_scale`));
    return (sha256) => readFirst({ path, tensors: official.tensors }, names, sha256);
  }
  const genforce = under(file, 'synthesis.layer0.first_layer');
  if (genforce)
    return (sha256) =>
      readFirst(
        { path, tensors: genforce.tensors },
        genforceNames((name) => genforce.tensors.has(name)),
        sha256,
      );
  const lernapparat = under(file, 'g_synthesis.blocks.4x4.const');
  if (lernapparat) return (sha256) => readFirst({ path, tensors: lernapparat.tensors }, lernapparatNames(), sha256);
  return undefined;
}

function refuseOther(file: WeightsFile): ComFaceError {
  const names = [...file.tensors.keys(), ...(tensorFlowVariables(file)?.tensors.keys() ?? [])];
  const rule = 'the weights of a StyleGAN or StyleGAN3 generator';
  const found = others.find(([pattern]) => names.some((name) => pattern.test(name)));
  if (found) return refuseFile(file.path, rule, found[1], found[2]);
  const hint = 'docs/data.md lists the files that are read and where to get them.';
  return refuseFile(file.path, rule, `${counted(names.length, 'tensor')}: ${someOf(names, kShown)}`, hint);
}

async function readFirst(file: GeneratorTensors, names: StyleGan1Names, sha256: string): Promise<GeneratorFile> {
  const design = stylegan1Design(file, names);
  const w = design.mapping.at(-1)!;
  const recipes = {
    mapping: mappingRecipes(design, names),
    synthesis: synthesisRecipes(design, names),
    average: averageRecipe(names.average, w),
  };
  checkRecipes(file, Object.values(recipes).flat(), `${names.title} of ${design.resolution} pixels`, names.isSpare);
  const synthesis = { layers: stylegan1Synthesis(design), weights: await readRecipes(file, recipes.synthesis) };
  const isNoiseDrawn = names.layer(0).noise === undefined;
  if (isNoiseDrawn) for (const l of design.channels.keys()) synthesis.weights.set(`layer${l}.noise`, drawnNoise(l));
  return {
    ...{ path: file.path, family: 'stylegan1', title: names.title, sha256, resolution: design.resolution },
    ...{ z: design.z, w, layers: design.channels.length, synthesis, isNoiseDrawn },
    mapping: { layers: stylegan1Mapping(design), weights: await readRecipes(file, recipes.mapping) },
    average: await averageOf(file, recipes.average),
  };
}

async function readThird(file: GeneratorTensors, { others: said }: WeightsFile, prefix: string, sha256: string): Promise<GeneratorFile> {
  if (file.tensors.has('mapping.embed.weight'))
    throw refuseFile(
      file.path,
      'a generator without labels',
      'one that wants them',
      'Use a generator of faces, such as stylegan3-r-ffhq-1024x1024.pkl.',
    );
  const design = stylegan3Design(file, settingsIn(said, prefix));
  const w = design.mapping.at(-1)!;
  const hasTransform = file.tensors.has('synthesis.input.transform');
  const recipes = {
    mapping: mapping3Recipes(design),
    synthesis: synthesis3Recipes(design, hasTransform),
    average: averageRecipe('mapping.w_avg', w),
  };
  const family = isRadial(design) ? 'stylegan3-r' : 'stylegan3-t';
  // A pickle also has the sizes of pictures as arrays.
  checkRecipes(file, Object.values(recipes).flat(), `a ${family} of ${design.resolution} pixels`, (name) =>
    /\.(in_|out_)?size$/.test(name),
  );
  const weights = await readRecipes(file, recipes.synthesis);
  if (!hasTransform)
    weights.set('input.features.transform', { dtype: 'F32', shape: [3, 3], data: Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1) });
  return {
    ...{ path: file.path, family, title: "NVIDIA's StyleGAN3", sha256, resolution: design.resolution },
    ...{ z: design.z, w, layers: design.layers.length + 1, isNoiseDrawn: false },
    synthesis: { layers: stylegan3Synthesis(design), weights },
    mapping: { layers: stylegan3Mapping(design), weights: await readRecipes(file, recipes.mapping) },
    average: await averageOf(file, recipes.average),
  };
}

const averageRecipe = (from: string | undefined, width: number): Recipe[] =>
  from === undefined ? [] : [{ name: 'average', shape: [width], from, dims: [width] }];

async function averageOf(file: GeneratorTensors, recipes: readonly Recipe[]): Promise<Float32Array | undefined> {
  return (await readRecipes(file, recipes)).get('average')?.data as Float32Array | undefined;
}

function drawnNoise(layer: number): Tensor {
  const edge = edgeOf(layer);
  return { dtype: 'F32', shape: [1, 1, edge, edge], data: normals(kNoiseSeed, Purpose.latent, layer, 1, edge ** 2) };
}

const kPieceBytes = 2 ** 20;

async function hashOf(source: FileSource): Promise<string> {
  const hash = createHash('sha256');
  const piece = new Uint8Array(kPieceBytes);
  await source.during(async () => {
    for (let at = 0; at < source.size; at += kPieceBytes) {
      const part = piece.subarray(0, Math.min(kPieceBytes, source.size - at));
      await source.read(at, part);
      hash.update(part);
    }
  });
  return hash.digest('hex');
}
