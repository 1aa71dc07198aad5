// Every function, method and accessor that comface gives away, with right arguments: what the hostile calls are made of.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as comface from '../../../lib/index.ts';
import { chooseDevice, type NativeAugment, type NativeEngine, type NativeSource, native } from '../../../lib/native.ts';
import { latestCheckpoint } from '../../../lib/train/checkpoint.ts';

const { module } = native();
const everything: Record<string, unknown> = { ...comface };
/** The class of native errors, to put back after a hostile one. */
const errorClass = (() => {
  try {
    module.philox(1n, -1, 0, 0, 0);
  } catch (error) {
    return (error as Error).constructor;
  }
  throw new Error('philox takes everything');
})();

export interface Target {
  name: string;
  /** How often, against the others. */
  weight: number;
  /** What it is called on; none for a function. */
  self?: () => unknown;
  call: (...args: unknown[]) => unknown;
  args: () => unknown[];
  isClass?: boolean;
}

const size = 8;
const batch = 6;
const input = { op: 'input', name: 'images', channels: 3, height: size, width: size };
const layers = [
  input,
  { op: 'conv', name: 'conv', input: 'images', out: 4, kernel: 3, stride: 2, pad: 1, bias: true },
  { op: 'batchNorm', name: 'norm', input: 'conv', eps: 1e-5, momentum: 0.1 },
  { op: 'relu', name: 'relu', input: 'norm' },
  { op: 'maxPool', name: 'max', input: 'relu', kernel: 2, stride: 2, pad: 0 },
  { op: 'avgPool', name: 'pool', input: 'max' },
];
const heads = [
  { op: 'rows', name: 'views', input: 'pool', from: 0, to: 2, of: 3 },
  { op: 'l2Normalize', name: 'z', input: 'views' },
  { op: 'infoNce', name: 'inter', input: 'z', temperature: 0.5, weight: 1 },
  { op: 'rows', name: 'x', input: 'pool', from: 0, to: 1, of: 3 },
  { op: 'rows', name: 'y', input: 'pool', from: 2, to: 3, of: 3 },
  { op: 'reluDifference', name: 'difference', inputs: ['y', 'x'] },
  { op: 'linear', name: 'change', input: 'difference', out: 1, bias: true },
  { op: 'squaredError', name: 'intra', input: 'change', weight: 1 },
];
const graph = (training: boolean) => ({
  layers: training ? [...layers, ...heads] : layers,
  batch,
  training,
  precision: 'fp32',
  threads: 1,
});
const augment: NativeAugment = {
  ...{ cropAreaMin: 0.5, cropAreaMax: 1, cropAspectMax: 1.3, flipProbability: 0.5, jitterProbability: 0.8, grayscaleProbability: 0.2 },
  ...{ brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 },
  ...{ mean: [0.5, 0.5, 0.5], deviation: [0.2, 0.2, 0.2] },
};
const plan = (step = 1) => ({
  seed: 1n,
  step,
  pairs: 2,
  views: 3,
  x: Uint32Array.of(0, 1, 1),
  y: Uint32Array.of(1, 0, 1),
  target: new Float32Array(3),
});
const adam = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, step: 1 };
const shots = () => ({
  ...{ seed: 1n, subject: Uint32Array.of(1), photo: Uint32Array.of(2), attribute: Int32Array.of(0), alpha: Float32Array.of(1) },
  ...{ frame: Int32Array.of(3), domain: 0, size: 32 },
});

/** The objects that calls are made on; made anew from time to time, as hostile calls dispose and bend them. */
export interface Cast {
  engine: NativeEngine;
  inference: NativeEngine;
  source: NativeSource;
  model: comface.Model;
  generator: comface.Generator;
}

export interface Fixtures {
  /** A data folder of 32-pixel faces and a run on it. */
  data: string;
  run: string;
  files: readonly string[];
  /** Weights of a small StyleGAN. */
  weights: string;
}

const device = 'cpu';
let checkpoint: Awaited<ReturnType<typeof latestCheckpoint>> | undefined;
export async function makeCast({ run, files, weights }: Fixtures): Promise<Cast> {
  const { library } = chooseDevice(device, 'fp32');
  const engine = await module.createEngine('', graph(true) as never);
  const inference = await module.createEngine(library, graph(false) as never);
  await Promise.all([engine.initialize(1n), inference.initialize(1n)]);
  checkpoint ??= await latestCheckpoint(run);
  const design = checkpoint!.info.config as comface.ModelDesign;
  const model = await comface.Model.from(design, checkpoint!.weights, { device, precision: 'fp32', threads: 1, batch: 2 });
  const generator = await comface.loadGenerator(weights, { device: 'reference', threads: 1, batch: 2 });
  return { engine, inference, source: module.openFiles(files, size, 1, 0), model, generator };
}

export function endCast({ engine, inference, source, model, generator }: Cast): void {
  for (const one of [engine, inference, source, model, generator]) Object.getPrototypeOf(one)?.dispose?.call(one);
}

const getter = (object: object, key: string) =>
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(object), key)!.get as (...args: unknown[]) => unknown;

function ofEngine(name: 'engine' | 'inference', cast: Cast): Target[] {
  const self = () => cast[name];
  const engine = cast[name];
  const images = () => new Float32Array(batch * 3 * size * size).fill(0.5);
  const methods: Record<string, () => unknown[]> = {
    initialize: () => [1n],
    step: () => [cast.source, plan(), plan(2), augment, adam],
    reserve: () => [cast.source, 4],
    collect: () => [],
    embed: () => [cast.source, Uint32Array.of(0, 1), 'pool', augment],
    forward: () => [images(), new Float32Array(name === 'engine' ? batch / 3 : 0)],
    backward: () => [],
    update: () => [adam],
    read: () => ['parameter', 'conv.weight'],
    write: () => ['parameter', 'conv.weight', new Float32Array(4 * 27)],
    dispose: () => [],
  };
  const method = engine as unknown as Record<string, (...args: unknown[]) => unknown>;
  const accessors = ['parameters', 'statistics', 'sizeBytes', 'description', 'choices', 'state'];
  const disposes = new Set(['dispose']);
  return [
    ...Object.entries(methods).map(
      ([key, args]): Target => ({
        name: `NativeEngine.${key}`,
        weight: disposes.has(key) ? 0.2 : args().length > 1 ? 4 : 1.5,
        self,
        call: method[key]!,
        args,
      }),
    ),
    ...accessors.map((key): Target => ({ name: `NativeEngine.${key}`, weight: 0.7, self, call: getter(engine, key), args: () => [] })),
    { name: 'NativeEngine.constructor', weight: 0.3, isClass: true, call: engine.constructor as never, args: () => [] },
  ];
}

function ofSource(cast: Cast, files: readonly string[]): Target[] {
  const self = () => cast.source;
  const { source } = cast;
  return [
    { name: 'NativeSource.fill', weight: 5, self, call: source.fill as never, args: () => [plan(), augment] },
    { name: 'NativeSource.dispose', weight: 0.2, self, call: source.dispose as never, args: () => [] },
    { name: 'NativeSource.count', weight: 0.5, self, call: getter(source, 'count'), args: () => [] },
    { name: 'NativeSource.size', weight: 0.5, self, call: getter(source, 'size'), args: () => [] },
    { name: 'NativeSource.constructor', weight: 0.5, isClass: true, call: source.constructor as never, args: () => [files, 8, 1, 0] },
  ];
}

/** Sets a hostile class, lets it make an error here and on the way back from a thread, and puts ours back. */
function setErrorClass(value: never): unknown {
  try {
    module.setErrorClass(value);
    const failing = [() => module.philox(1n, -1, 0, 0, 0), () => module.openFiles([], 8, 1, 0), () => module.decodeJpeg(new Uint8Array())];
    for (const call of failing) {
      try {
        Promise.resolve(call()).catch(() => undefined);
      } catch {}
    }
    return module.decodeJpeg(new Uint8Array(1)).catch(() => undefined);
  } finally {
    module.setErrorClass(errorClass as never);
  }
}

function ofModule(files: readonly string[], folder: string): Target[] {
  const made = (name: keyof typeof module, weight: number, args: () => unknown[]): Target => ({
    name: `native.${name}`,
    weight,
    call: module[name] as never,
    args,
  });
  return [
    made('createEngine', 6, () => ['', graph(true)]),
    made('openFiles', 2, () => [files, size, 1, 32]),
    made('openShards', 2, () => [[{ folder, counts: Uint32Array.of(3, 4), size: 16, raw: false, id: '0123456789abcdef' }], 8, 1]),
    made('drawFaces', 2, () => [shots(), 1]),
    made('faceLandmarks', 2, () => [shots()]),
    made('encodeFaces', 2, () => [shots(), 90, 1]),
    made('encodeImages', 2, () => [new Float32Array(2 * 3 * 25), { count: 2, edge: 5, size: 3, quality: 90 }, 1]),
    made('crc32c', 1, () => [new Uint8Array(8)]),
    made('writeFaces', 2, () => [shots(), [join(folder, 'face.jpg')], 90, 1]),
    made('decodeJpeg', 1, () => [new Uint8Array(64).fill(255)]),
    made('encodeJpeg', 2, () => [new Uint8Array(8 * 8 * 3), 8, 8, 90]),
    made('philox', 2, () => [1n, 1, 2, 3, 4]),
    made('liveObjects', 1, () => []),
    made('cuda', 1, () => []),
    made('planFor', 1, () => [chooseDevice(device, 'fp32').library, graph(true), '{"deviceVer":900}']),
    { ...made('setErrorClass', 0.5, () => [errorClass]), call: setErrorClass as never },
  ];
}

const trainOptions = (data: string, out: string) => ({
  ...{ data, out, backbone: 'resnet18', width: 16, size: 32, pairs: 4, epochs: 1, pairsPerEpoch: 4, curriculum: { stageEnds: [1] } },
  ...{ projection: { hidden: 4, out: 4 }, device, precision: 'fp32', threads: 1, loaderThreads: 1, validation: 0.2, augment: {} },
});
const transferOptions = (data: string, out: string) => ({
  ...{ data, out, attribute: 'smile', unit: 'steps', backbone: 'resnet18', width: 16, size: 32, pairs: 4, epochs: 1, pairsPerSubject: 2 },
  ...{ learningRates: [1e-3], patience: 1, seed: 1, device, precision: 'fp32', threads: 1, loaderThreads: 1, weightDecay: 0, augment: {} },
  ...{ signal: soon(), onEvent: () => undefined },
});
const faces = { subjects: 1, attributes: ['smile'], alphas: [-1, 1], size: 32, threads: 1, seed: 1, domain: 0, quality: 90 };
const latents = (weights: string, folder: string) => ({
  ...{
    source: 'stylegan1',
    weights,
    directions: [folder],
    space: 'W',
    psi: 0.7,
    device: 'reference',
    batch: 1,
  },
  domain: undefined,
});
const direction = (seed: number) => ({
  ...{ file: 'a.npy', attribute: 'age', generator: 'stylegan1', space: 'W', width: 4, rows: 1, norm: 1, sha256: 'a' },
  values: Float32Array.of(seed, 1, 2, 3),
});
/** Nothing that begins lasts: what is legal after all has a fiftieth of a second. */
const soon = () => AbortSignal.timeout(20);

async function runToEnd(...args: Parameters<typeof comface.train>): Promise<unknown> {
  const run = comface.train(...args);
  for await (const event of run) if (event.type === 'step') break;
  return run[Symbol.asyncIterator]().next();
}

function ofPackage({ data, run, weights }: Fixtures, folder: string): Target[] {
  const made = (name: string, weight: number, args: () => unknown[], call = everything[name]): Target => ({
    name: `comface.${name}`,
    weight,
    call: call as never,
    args,
  });
  const out = () => join(folder, `out-${Math.floor(performance.now() * 1000)}`);
  const design = { backbone: 'resnet18', width: 16, size: 32, augment };
  const options = { device, precision: 'fp32', threads: 1, batch: 2 };
  const tensors = new Map([['change.weight', { dtype: 'F32', shape: [1, 128], data: new Float32Array(128) }]]);
  return [
    made('checkTrainOptions', 4, () => [trainOptions(data, 'run')]),
    made('readConfigFile', 0.5, () => [join(run, 'config.json')]),
    made('readManifest', 0.5, () => [data]),
    made('readData', 0.5, () => [data]),
    made('generate', 0.1, () => [{ ...faces, out: out(), signal: soon(), onProgress: () => undefined }]),
    made('generate', 0.1, () => [{ ...faces, ...latents(weights, folder), out: out(), signal: soon(), onProgress: () => undefined }]),
    made('previewSet', 0.1, () => [{ ...faces, ...latents(weights, folder), out: out(), signal: soon() }]),
    made('joinSets', 0.3, () => [{ sets: [data, run], out: out(), renumber: true }]),
    made('loadGenerator', 0.3, () => [weights, { device: 'reference', threads: 1, batch: 1 }]),
    made('readDirections', 0.5, () => [[join(folder, 'direction.npy')], { generator: 'stylegan1', space: 'W' }]),
    made('projectDirection', 1, () => [direction(1), [direction(2)]]),
    made('saveDirection', 0.3, () => [direction(1), join(folder, 'direction.npy')]),
    made('twin', 0.1, () => [
      {
        ...{ kind: 'disfa', out: out(), seed: 1, size: 32, frames: 2, subjects: 1, threads: 1 },
        signal: soon(),
        onProgress: () => undefined,
      },
    ]),
    made('pack', 0.1, () => [
      { from: data, out: out(), size: 16, quality: 90, attribute: 'smile', threads: 1, signal: soon(), onProgress: () => undefined },
    ]),
    made('pack', 0.05, () => [
      { from: data, out: out(), format: 'disfa', site: 'a', dataset: 'b', frames: out(), onListing: () => undefined },
    ]),
    made('readPictures', 0.5, () => [data]),
    made('inspect', 0.1, () => [data, { verify: 'some', signal: soon(), onProgress: () => undefined }]),
    made('dataSheet', 0.05, () => [data]),
    made('contactSheet', 1.5, () => [{ subjects: 1, attributes: ['smile'], alphas: [1], size: 32, seed: 1, domain: 0, firstSubject: 3 }]),
    { ...made('ComFaceError', 1, () => ['IO', 'message', { hint: 'hint', cause: 1 }]), isClass: true },
    made('loadModel', 0.05, () => [run, { ...options }]),
    { ...made('Model', 0.3, () => [design, { seed: 1 }, options]), isClass: true },
    made('Model.from', 0.1, () => [design, { seed: 1 }, options], comface.Model.from),
    made('Model.from', 0.1, () => [design, tensors, options], comface.Model.from),
    made('embeddingWidth', 1, () => ['pcl', { size: 64, width: 16 }]),
    made('train', 0.12, () => [trainOptions(data, out()), { signal: soon() }], runToEnd),
    made('transfer', 0.12, () => [{ ...transferOptions(data, out()), evaluation: 'linear', folds: 2, final: false, testData: data }]),
    made('patientTransfer', 0.1, () => [{ ...transferOptions(data, out()), days: 1 }]),
    made('readTransferResult', 0.5, () => [run]),
    made('importWeights', 0.1, () => [{ file: join(checkpoint!.path, 'weights.safetensors'), out: out(), as: 'barlowtwins', size: 32 }]),
    made('exportModel', 0.1, () => [{ model: run, out: out(), formats: ['safetensors', 'onnx'] }]),
    made('reproduce', 0.1, () => [
      {
        ...{ table: 'table6', out: out(), scale: 'smoke', seeds: [1], sites: ['A', 'B'], disfa: data, fgnet: data, weight: data },
        rivals: { imagenet: run },
        ...{ device, precision: 'fp32', threads: 1, loaderThreads: 1, signal: soon(), onEvent: () => undefined },
      },
    ]),
  ];
}

/** Functions that are handed a model. */
function withModel(cast: Cast, { files, run }: Fixtures, folder: string): Target[] {
  const pairs = join(folder, 'pairs.csv');
  writeFileSync(pairs, `x,y\n${files[0]},${files[1]}\n`);
  const made = (name: 'saveEmbeddings' | 'comparePairs' | 'saliencyPng' | 'report', weight: number, args: () => unknown[]): Target => ({
    name: `comface.${name}`,
    weight,
    call: everything[name] as never,
    args,
  });
  return [
    made('saveEmbeddings', 0.5, () => [cast.model, files.slice(0, 2), join(folder, 'h.npy'), { signal: undefined }]),
    made('comparePairs', 0.5, () => [
      cast.model,
      { pairs, out: join(folder, 'changes.csv'), threads: 1, signal: soon(), onProgress: () => undefined },
    ]),
    made('saliencyPng', 0.3, () => [cast.model, files[0]]),
    made('report', 0.1, () => [run, { out: join(folder, 'report.html'), includeFaces: false, signal: soon() }]),
  ];
}

function ofModel(cast: Cast, files: readonly string[]): Target[] {
  const self = () => cast.model;
  const { model } = cast;
  const bare = model as unknown as Record<PropertyKey, (...args: unknown[]) => unknown>;
  const h = () => new Float32Array(model.width);
  const methods: [PropertyKey, number, () => unknown[]][] = [
    ['embed', 1.5, () => [files.slice(0, 2), { threads: 1 }]],
    ['compare', 1, () => [files[0], files[1]]],
    ['changeOf', 2, () => [h(), h()]],
    ['comparisonOf', 2, () => [h(), h()]],
    ['saliency', 0.5, () => [files[0], { signal: undefined }]],
    ['load', 1, () => [new Map([['conv1.weight', { dtype: 'F32', shape: [16, 3, 7, 7], data: new Float32Array(16 * 147) }]])]],
    ['dispose', 0.1, () => []],
    [Symbol.asyncDispose, 0.1, () => []],
  ];
  return methods.map(([key, weight, args]) => ({ name: `Model.${String(key)}`, weight, self, call: bare[key]!, args }));
}

function ofGenerator({ generator }: Cast): Target[] {
  const { w, z, layers } = generator;
  const bare = generator as unknown as Record<PropertyKey, (...args: unknown[]) => unknown>;
  const own = { ...direction(1), width: w, values: new Float32Array(w).fill(1) };
  const methods: [PropertyKey, number, () => unknown[]][] = [
    ['latent', 1, () => [3, { seed: 1 }]],
    ['map', 1, () => [new Float32Array(z).fill(1)]],
    ['truncate', 1, () => [new Float32Array(w), 0.7]],
    ['edited', 1, () => [3, own, 1, { seed: 1, psi: 0.7 }]],
    ['images', 0.5, () => [new Float32Array(layers * w)]],
    ['pictures', 0.5, () => [new Float32Array(layers * w), { size: 8, quality: 90 }]],
    ['dispose', 0.1, () => []],
    [Symbol.asyncDispose, 0.1, () => []],
  ];
  const self = () => generator;
  return [
    ...methods.map(([key, weight, args]): Target => ({ name: `Generator.${String(key)}`, weight, self, call: bare[key]!, args })),
    { name: 'Generator.choices', weight: 0.2, self, call: getter(generator, 'choices'), args: () => [] },
  ];
}

export function targetsOf(cast: Cast, fixtures: Fixtures, folder: string): Target[] {
  const { files } = fixtures;
  return [
    ...ofEngine('engine', cast),
    ...ofEngine('inference', cast),
    ...ofSource(cast, files),
    ...ofModule(files, folder),
    ...ofPackage(fixtures, folder),
    ...ofModel(cast, files),
    ...ofGenerator(cast),
    ...withModel(cast, fixtures, folder),
  ];
}

/** What comface gives away and no target calls. */
export function uncalled({ engine, source, model, generator }: Cast, targets: readonly Target[]): string[] {
  const called = new Set(targets.map(({ name }) => name));
  const ofClass = (name: string, object: object) =>
    Reflect.ownKeys(Object.getPrototypeOf(object)).flatMap((key) =>
      key === 'constructor' && (name === 'Model' || name === 'Generator') ? [] : `${name}.${String(key)}`,
    );
  const functions = (name: string, from: object) =>
    Object.entries(from).flatMap(([key, value]) => (typeof value === 'function' ? `${name}.${key}` : []));
  const given = [
    ...ofClass('NativeEngine', engine),
    ...ofClass('NativeSource', source),
    ...ofClass('Model', model),
    ...ofClass('Generator', generator),
    ...functions('native', module),
    ...functions('comface', comface),
  ];
  return given.filter((name) => !called.has(name));
}
