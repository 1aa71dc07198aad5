// N6: what ComFace computes is what PyTorch computes. test/golden/make.py wrote what is expected, in double; the backends have to reach it in float.
// CUDA's is the emulated one in `npm test` and a real one in `npm run gpu` (test/cuda.ts).
// Limits: 1e-4 for outputs, gradients and statistics (the worst tensor's relative L2 distance), 1e-5 for losses.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { backbone, embeddingWidth } from '../../lib/models/backbone.ts';
import { comfaceGraph } from '../../lib/models/heads.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import { visionTransformer } from '../../lib/models/vit.ts';
import { type NativeAdam, type NativeEngine, native } from '../../lib/native.ts';
import { saveCheckpoint } from '../../lib/train/checkpoint.ts';
import { learningRateAt } from '../../lib/train/schedule.ts';
import { readWeights } from '../../lib/train/state.ts';
import { decodeSafetensors } from '../../lib/weights/safetensors.ts';
import { cudaBackend, cudaName } from '../cuda.ts';
import { plainAugment, planOf } from '../faces.ts';
import {
  blockOf,
  cases,
  Errors,
  Golden,
  type HeadCase,
  type NetDesign,
  normScale,
  picture,
  relative,
  short,
  squaresOf,
  tokenOpOf,
  torchvisionNames,
} from '../golden/golden.ts';
import { keyed, sketch, weightOf, words } from '../golden/keyed.ts';
import { engineFor, temporaryFolder } from '../support.ts';
import { figure } from './figure.ts';

const kLimit = 1e-4;
const kLossLimit = 1e-5;
const none = new Float32Array();
const hasCuda = cudaBackend() !== undefined;

/** How an engine computes. */
type Way = { device: 'cpu' | 'reference' | 'cuda'; precision: 'fp32' | 'bf16' | 'fp64' };
const ways: Way[] = [
  { device: 'cpu', precision: 'fp32' },
  { device: 'reference', precision: 'fp32' },
  ...(hasCuda ? [{ device: 'cuda', precision: 'fp32' } as const] : []),
];
const nameOf = ({ device }: Way) => ({ cpu: 'cpu', reference: 'plain loops', cuda: cudaName })[device];

/** Keyed weights and statistics, with what the golden has under `bias/` in their place. */
async function setKeyed(engine: NativeEngine, golden: Golden, key: string, net?: NetDesign): Promise<void> {
  const own = new Set(golden.under(`${key}/bias/`));
  for (const { name, dims } of engine.parameters) {
    const scale = net === undefined ? 1 : normScale(net, name);
    await engine.write('parameter', name, own.has(name) ? golden.get(`${key}/bias/${name}`) : weightOf(key, name, dims, scale));
  }
  for (const { name, dims } of engine.statistics) await engine.write('statistic', name, weightOf(key, name, dims));
}

/** One training step and one inference of a graph without losses, as one_step of make.py. */
async function measureStep(errors: Errors, golden: Golden, key: string, graph: StepCase['graph'], way: Way) {
  const engine = await engineFor({ ...graph, ...way });
  await setKeyed(engine, golden, key, graph.net);
  const [first, last] = [graph.layers[0]!, graph.layers.at(-1)!.name];
  if (first.op !== 'input') throw new Error('the first record is the input');
  const images = keyed(`${key}/input`, graph.batch * first.channels * first.height * first.width, 1.7);
  const add = (kind: string, name: string, value: Float32Array) =>
    errors.add(kind, `${key}/${name}`, golden.squares(`${key}/${name}`, value));
  await engine.forward(images, none);
  const output = await engine.read('value', last);
  add('output', 'output', output);
  await engine.write('valueGradient', last, keyed(`${key}/seed`, output.length));
  await engine.backward();
  add('gradient', 'gradient/input', await engine.read('valueGradient', first.name));
  for (const { name } of engine.parameters) add('gradient', `gradient/${name}`, await engine.read('gradient', name));
  const inference = await engineFor({ ...graph, ...way, training: false });
  for (const { name } of engine.parameters) await inference.write('parameter', name, await engine.read('parameter', name));
  for (const { name } of engine.statistics) {
    const value = await engine.read('statistic', name);
    add('statistic', `statistic/${name}`, value);
    await inference.write('statistic', name, value);
  }
  // The golden has no tensor that was not compared.
  expect(engine.parameters.map(({ name }) => name).sort()).toEqual(
    golden
      .under(`${key}/gradient/`)
      .filter((name) => name !== 'input')
      .sort(),
  );
  expect(engine.statistics.map(({ name }) => name).sort()).toEqual(golden.under(`${key}/statistic/`).sort());
  await inference.forward(images, none);
  add('output', 'inference', await inference.read('value', last));
  engine.dispose();
  inference.dispose();
}

type StepCase = { key: string; graph: { layers: LayerRecord[]; batch: number; net?: NetDesign } };

const blockCases = (): StepCase[] =>
  cases.blocks.map(({ net, block, channels, size, batch }) => ({
    key: `${net}.${block}`,
    graph: { layers: blockOf(backbone(net, { size: 64, width: 16 }), block, channels, size), batch },
  }));

const netCases = (): StepCase[] =>
  cases.nets.map((c) => ({ key: `${c.net}.${c.width}`, graph: { layers: backbone(c.net, c), batch: c.batch, net: c } }));

const tokenOpCases = (): StepCase[] => cases.tokenOps.map((c) => ({ key: c.key, graph: { layers: tokenOpOf(c), batch: c.batch } }));

const transformerCases = (): StepCase[] =>
  cases.transformers.map(({ key, size, batch, ...design }) => ({ key, graph: { layers: visionTransformer(size, design), batch } }));

/** Rounding is the same at any width, and the plain loops take their time. */
const narrowCases = (): StepCase[] => netCases().filter((_, i) => cases.nets[i]!.width < 64);

const stepKinds = ['output', 'gradient', 'statistic'];
/** Layer norms keep no statistics. */
const tokenKinds = ['output', 'gradient'];

/** Measures all cases in both fp32 ways; says the worst of each kind, then judges. */
async function judgeSteps(
  list: StepCase[],
  golden: Golden,
  say: (line: string) => void,
  subject: string,
  kinds = stepKinds,
): Promise<void> {
  const said: string[] = [];
  const all: Errors[] = [];
  for (const way of ways) {
    const errors = new Errors();
    for (const { key, graph } of list) await measureStep(errors, golden, key, graph, way);
    all.push(errors);
    said.push(`${nameOf(way)} ${errors}`);
  }
  say(`${subject}: ${said.join('; ')}; PyTorch's own fp32 ${torchWorst(golden, kinds)} (limit ${short(kLimit)})`);
  for (const errors of all)
    for (const kind of kinds) expect(errors.worst.get(kind), `${kind}: ${errors.where.get(kind)}`).toBeLessThanOrEqual(kLimit);
}

/** The worst over all cases of what make.py measured of PyTorch in float32. */
function torchWorst(golden: Golden, kinds: readonly string[]): string {
  return kinds
    .map((kind) => {
      const found = [...golden.made.matchAll(new RegExp(`\\b${kind}s? (\\S+)`, 'g'))].map(([, error]) => Number(error));
      return `${kind.replace(/s$/, '')}s ${short(Math.max(...found))}`;
    })
    .join(', ');
}

test('keyed numbers, words and sketches are those of make.py', () => {
  const golden = new Golden('keys');
  expect(keyed('numbers', 1001, 1.7, 0.3)).toEqual(golden.get('numbers'));
  const drawn = words('words', 1001);
  expect(Float32Array.of(...drawn.map((word) => word >>> 16), ...drawn.map((word) => word & 0xffff))).toEqual(golden.get('halves'));
  expect(Float32Array.from(sketch('sketch', keyed('sketched', 5001)))).toEqual(golden.get('sketch'));
});

figure('N6 blocks of ResNets compute what PyTorch computes', { ci: cases.blocks.length, long: cases.blocks.length }, async ({ say }) => {
  await judgeSteps(blockCases(), new Golden('blocks'), say, 'resnet18/50/101 blocks');
});

figure(
  'N6 whole ResNets compute what PyTorch computes',
  { ci: cases.nets.length, long: cases.nets.length, seconds: 300 },
  async ({ say }) => {
    await judgeSteps(netCases(), new Golden('nets'), say, 'resnet18/50/101');
  },
);

figure('N6 ops on tokens compute what PyTorch computes', { ci: cases.tokenOps.length, long: cases.tokenOps.length }, async ({ say }) => {
  const subject = [...new Set(cases.tokenOps.map(({ op }) => op))].join(', ');
  await judgeSteps(tokenOpCases(), new Golden('transformers'), say, subject, tokenKinds);
});

figure(
  "N6 whole vision transformers compute what timm's compute",
  { ci: cases.transformers.length, long: cases.transformers.length },
  async ({ say }) => {
    const subject = "vision transformers, timm's and its CLIP variant";
    await judgeSteps(transformerCases(), new Golden('transformers'), say, subject, tokenKinds);
  },
);

figure(
  'N6 bf16 is as near as rounding allows',
  { ci: narrowCases().length + transformerCases().length, long: narrowCases().length + transformerCases().length, seconds: 300 },
  async ({ say, skip }) => {
    if (!native().module.cpu.avx512) skip('bf16 needs a processor with AVX-512; run it on one');
    const said: string[] = [];
    const ratios: [string, number][] = [];
    for (const [file, list, kinds] of [
      ['nets', narrowCases(), stepKinds],
      ['transformers', transformerCases(), tokenKinds],
    ] as const) {
      const golden = new Golden(file);
      for (const { key, graph } of list) {
        const [actual, plain] = [new Errors(), new Errors()];
        await measureStep(actual, golden, key, graph, { device: 'cpu', precision: 'bf16' });
        await measureStep(plain, golden, key, graph, { device: 'reference', precision: 'bf16' });
        const of = (errors: Errors, kind: string) => relative(errors.squares.get(kind)!);
        said.push(
          `${key} ${kinds.map((kind) => `${kind}s ${of(actual, kind).toPrecision(2)} / ${of(plain, kind).toPrecision(2)}`).join(', ')}`,
        );
        for (const kind of kinds) ratios.push([`${key} ${kind}`, of(actual, kind) / of(plain, kind)]);
      }
    }
    say(`bf16, all tensors together, cpu / plain loops rounded to bf16: ${said.join('; ')} (limit 1.5 x plain loops)`);
    for (const [what, ratio] of ratios) expect(ratio, what).toBeLessThanOrEqual(1.5);
  },
);

/** Embeddings as the weight of a linear layer that reads the identity: its gradient is theirs, transposed. */
function embeddings(name: string, rows: number, out: number): LayerRecord[] {
  return [
    { op: 'input', name: 'images', channels: rows, height: 1, width: 1 },
    { op: 'linear', name, input: 'images', out, bias: false },
  ];
}

function identity(rows: number): Float32Array {
  return Float32Array.from({ length: rows * rows }, (_, i) => (i % (rows + 1) === 0 ? 1 : 0));
}

interface LossCase {
  key: string;
  layers: LayerRecord[];
  rows: number;
  targets: Float32Array;
  /** Places in the golden's losses. */
  losses: number[];
}

function lossCases(): LossCase[] {
  const pure = cases.infoNce.map(({ pairs, channels, temperature }, i): LossCase => {
    const layers: LayerRecord[] = [
      ...embeddings('rows', 2 * pairs, channels),
      { op: 'l2Normalize', name: 'z', input: 'rows' },
      { op: 'infoNce', name: 'inter', input: 'z', temperature, weight: 1 },
    ];
    return { key: `infoNce.${i}`, layers, rows: 2 * pairs, targets: none, losses: [0] };
  });
  const heads = cases.heads.map((c, i): LossCase => {
    const key = `heads.${i}`;
    const layers = comfaceGraph(embeddings('avgpool', 3 * c.pairs, c.embedding), { ...c, projection: c });
    const losses = lossPlaces(c);
    return { key, layers, rows: 3 * c.pairs, targets: c.intraPersonal > 0 ? keyed(`${key}/targets`, c.pairs, 2, 2) : none, losses };
  });
  return [...pure, ...heads];
}

/** Which of inter, intra a graph has. */
const lossPlaces = ({ interPersonal, intraPersonal }: HeadCase): number[] => [
  ...(interPersonal > 0 ? [0] : []),
  ...(intraPersonal > 0 ? [1] : []),
];

async function measureLoss(errors: Errors, golden: Golden, { key, layers, rows, targets, losses }: LossCase, way: Way): Promise<number> {
  const engine = await engineFor({ layers, batch: rows, ...way });
  for (const { name, dims } of engine.parameters) {
    const isEmbedding = name === 'rows.weight' || name === 'avgpool.weight';
    const values = isEmbedding
      ? keyed(name === 'rows.weight' ? `${key}/rows` : `${key}/${name}`, dims[0]! * dims[1]!)
      : weightOf(key, name, dims);
    await engine.write('parameter', name, values);
  }
  const actual = await engine.forward(identity(rows), targets);
  const expected = golden.get(`${key}/loss`);
  const worst = Math.max(...losses.map((place, i) => Math.abs(actual[i]! / expected[place]! - 1)));
  await engine.backward();
  expect(engine.parameters.map(({ name }) => name).sort()).toEqual(golden.under(`${key}/gradient/`).sort());
  for (const { name } of engine.parameters) {
    const place = `${key}/gradient/${name}`;
    errors.add('gradient', place, golden.squares(place, await engine.read('gradient', name)));
  }
  return worst;
}

const lossCount = cases.infoNce.length + cases.heads.length;
figure('N6 InfoNCE and the change head give the losses and gradients of PyTorch', { ci: lossCount, long: lossCount }, async ({ say }) => {
  const golden = new Golden('losses');
  const said: string[] = [];
  const judged: [number, Errors][] = [];
  for (const way of ways) {
    const errors = new Errors();
    let worst = 0;
    for (const c of lossCases()) worst = Math.max(worst, await measureLoss(errors, golden, c, way));
    said.push(`${nameOf(way)} losses ${short(worst)}, ${errors}`);
    judged.push([worst, errors]);
  }
  const sizes = `${Math.min(...cases.infoNce.map((c) => c.pairs))} to ${Math.max(...cases.infoNce.map((c) => c.pairs))}`;
  say(`InfoNCE of ${sizes} pairs and both heads: ${said.join('; ')} (limits ${short(kLossLimit)}, ${short(kLimit)})`);
  for (const [worst, errors] of judged) {
    expect(worst).toBeLessThanOrEqual(kLossLimit);
    expect(errors.worst.get('gradient'), errors.where.get('gradient')).toBeLessThanOrEqual(kLimit);
  }
});

const adamWith = (c: { learningRate: number; halveAtEpoch: number; epsilon?: number; weightDecay?: number }, step: number): NativeAdam => ({
  learningRate: learningRateAt(c, step),
  beta1: 0.9,
  beta2: 0.999,
  epsilon: c.epsilon ?? 1e-8,
  weightDecay: c.weightDecay ?? 0,
  step,
});

const minus = (a: Float32Array, b: Float32Array): Float32Array => a.map((x, i) => x - b[i]!);

async function measureAdam(errors: Errors, golden: Golden, index: number, way: Way): Promise<void> {
  const [key, c] = [`adam.${index}`, cases.adam[index]!];
  const layers: LayerRecord[] = [
    { op: 'input', name: 'images', channels: 24, height: 1, width: 1 },
    { op: 'linear', name: 'linear', input: 'images', out: 16, bias: true },
  ];
  const engine = await engineFor({ layers, batch: 8, ...way });
  const started = new Map<string, Float32Array>();
  for (const { name, dims } of engine.parameters) {
    started.set(
      name,
      keyed(
        `${key}/${name}`,
        dims.reduce((a, b) => a * b, 1),
        0.02,
      ),
    );
    await engine.write('parameter', name, started.get(name)!);
  }
  const add = (kind: string, name: string, value: Float32Array) => errors.add(kind, name, golden.squares(`${key}/${name}`, value));
  for (let step = 1; step <= c.steps; step++) {
    await engine.forward(keyed(`${key}/x${step}`, 8 * 24), none);
    await engine.write('valueGradient', 'linear', keyed(`${key}/dy${step}`, 8 * 16));
    await engine.backward();
    await engine.update(adamWith(c, step));
    for (const [name, before] of started)
      add('weight change', `${step}/change/${name}`, minus(await engine.read('parameter', name), before));
  }
  for (const slot of ['firstMoment', 'secondMoment'] as const) {
    for (const { name } of engine.parameters) add('moment', `${slot}/${name}`, await engine.read(slot, name));
  }
}

figure('N6 Adam with the halved learning rate moves weights as PyTorch does', { ci: 10, long: 10 }, async ({ say }) => {
  const golden = new Golden('adam');
  const said: string[] = [];
  const judged: Errors[] = [];
  for (const way of ways) {
    const errors = new Errors();
    for (const index of cases.adam.keys()) await measureAdam(errors, golden, index, way);
    said.push(`${nameOf(way)} ${errors}`);
    judged.push(errors);
  }
  say(`Adam, 10 steps, halved after 5, weight decay 0 and 0.01: ${said.join('; ')} (limit ${short(kLimit)})`);
  for (const errors of judged) for (const [kind, worst] of errors.worst) expect(worst, errors.where.get(kind)).toBeLessThanOrEqual(kLimit);
});

/** Ten steps as comface_run of make.py; returns the worst relative error of a loss (inter, intra, total). */
async function measureRun(errors: Errors, golden: Golden, c: (typeof cases.steps)[number], way: Way): Promise<number> {
  const { key } = c;
  const layers = comfaceGraph(backbone(c.net, c), { ...c, embedding: embeddingWidth(c.net, c) });
  const engine = await engineFor({ layers, batch: 3 * c.pairs, ...way });
  await setKeyed(engine, golden, key, c);
  const started = new Map<string, Float32Array>();
  for (const { name } of engine.parameters) started.set(name, await engine.read('parameter', name));
  const count = c.pairs * 3 * c.size ** 2;
  const person = keyed(`${key}/person`, count, 1.5);
  const images = new Float32Array(3 * count);
  for (const v of [0, 1, 2])
    images.set(
      keyed(`${key}/view${v}`, count, 0.75).map((x, i) => x + person[i]!),
      v * count,
    );
  const targets = keyed(`${key}/targets`, c.pairs, 2, 2);
  const expected = golden.get(`${key}/losses`);
  let worst = 0;
  for (let step = 1; step <= c.steps; step++) {
    for (const name of golden.under(`${key}/shift/`)) await shift(engine, name, golden.get(`${key}/shift/${name}`), step);
    const [inter, intra] = (await engine.forward(images, targets)) as [number, number];
    const losses = [inter, intra, c.interPersonal * inter + c.intraPersonal * intra];
    for (const [i, loss] of losses.entries()) worst = Math.max(worst, Math.abs(loss / expected[(step - 1) * 3 + i]! - 1));
    await engine.backward();
    await engine.update(adamWith(c, step));
  }
  for (const { name } of engine.statistics) {
    errors.add('statistic', name, golden.squares(`${key}/statistic/${name}`, await engine.read('statistic', name)));
  }
  for (const [name, before] of started) {
    errors.add('weight change', name, golden.squares(`${key}/change/${name}`, minus(await engine.read('parameter', name), before)));
  }
  engine.dispose();
  return worst;
}

/** Adds row `step` of the shifts to a bias; comface_run of make.py says why. */
async function shift(engine: NativeEngine, name: string, shifts: Float32Array, step: number): Promise<void> {
  const value = await engine.read('parameter', name);
  await engine.write(
    'parameter',
    name,
    value.map((x, i) => x + shifts[(step - 1) * value.length + i]!),
  );
}

figure('N6 the first 10 losses of a ComFace run are those of PyTorch', { ci: 10, long: 10, seconds: 300 }, async ({ say }) => {
  const golden = new Golden('steps');
  const said: string[] = [];
  const judged: { worst: number; statistic: number; change: number }[] = [];
  const runs: [string, Way, typeof cases.steps][] = [
    ['cpu', { device: 'cpu', precision: 'fp32' }, cases.steps],
    ...(hasCuda ? [[cudaName, { device: 'cuda', precision: 'fp32' }, cases.steps] as [string, Way, typeof cases.steps]] : []),
    ...(['fp32', 'fp64'] as const).map((precision): [string, Way, typeof cases.steps] => [
      `plain loops ${precision}`,
      { device: 'reference', precision },
      cases.steps.filter(({ plainLoops }) => plainLoops === precision),
    ]),
  ];
  for (const [what, way, list] of runs) {
    const errors = new Errors();
    let worst = 0;
    for (const c of list) worst = Math.max(worst, await measureRun(errors, golden, c, way));
    // All weights at once: Adam's first steps go by the sign of a gradient, so a weight whose gradient is near 0 may differ by a whole step.
    const [statistic, change] = [errors.worst.get('statistic')!, relative(errors.squares.get('weight change')!)];
    said.push(`${what} losses ${short(worst)}, statistics ${short(statistic)}, weight changes ${short(change)}`);
    judged.push({ worst, statistic, change });
  }
  const own = torchWorst(golden, ['losses', 'statistic', 'change']);
  const nets = cases.steps.map(({ net }) => net).join(', ');
  say(`10 ComFace steps of ${nets}: ${said.join('; ')}; PyTorch's own fp32 ${own} (limits ${short(kLossLimit)}, ${short(kLimit)})`);
  for (const { worst, statistic, change } of judged) {
    expect(worst).toBeLessThanOrEqual(kLossLimit);
    expect(statistic).toBeLessThanOrEqual(kLimit);
    expect(change).toBeLessThanOrEqual(kLimit);
  }
});

figure('N6 each augmentation is the formula of torchvision', { ci: cases.augment.length, long: cases.augment.length }, async ({ say }) => {
  const golden = new Golden('augment');
  const { rgb } = await native().module.decodeJpeg(await readFile(picture));
  expect(Float32Array.from(rgb), 'the decoded picture').toEqual(golden.get('picture'));
  const errors = new Errors();
  for (const { name, size, ...settings } of cases.augment) {
    const expected = golden.get(name);
    const pairs = expected.length / (9 * size * size);
    const source = native().module.openFiles([picture], size, 1, 0);
    const { images } = await source.fill(planOf(new Array(pairs).fill(0)), { ...plainAugment, ...settings });
    source.dispose();
    // View by view: one that is wrong must not hide among the others.
    const length = 3 * size * size;
    for (let at = 0; at < images.length; at += length) {
      errors.add('view', `${name}, view ${at / length}`, squaresOf(images.subarray(at, at + length), expected.subarray(at, at + length)));
    }
    errors.add(name, name, squaresOf(images, expected));
  }
  const all = cases.augment.map(({ name }) => `${name} ${short(errors.worst.get(name)!)}`).join(', ');
  say(`augmentations: ${all}; worst view ${short(errors.worst.get('view')!)} (limit ${short(kLimit)})`);
  expect(errors.worst.get('view'), errors.where.get('view')).toBeLessThanOrEqual(kLimit);
});

figure('N6 a saved ResNet-50 has the names and shapes of torchvision', { ci: 318, long: 318 }, async ({ count, say }) => {
  const head = { embedding: 2048, projection: { hidden: 2048, out: 128 }, temperature: 0.1, interPersonal: 1, intraPersonal: 1 };
  const engine = await engineFor({ layers: comfaceGraph(backbone('resnet50', { size: 32 }), head), batch: 6, training: false });
  const folder = temporaryFolder();
  const path = await saveCheckpoint(
    folder,
    { step: 7, weights: await readWeights(engine, 7), optimizer: new Map(), info: {} },
    { keep: 1 },
  );
  const { tensors } = decodeSafetensors(await readFile(join(path, 'weights.safetensors')), path);
  const theirs = torchvisionNames();
  const missing = [...theirs.keys()].filter((name) => !tensors.has(name));
  const added = [...tensors.keys()].filter((name) => !theirs.has(name));
  const same = [...tensors].filter(
    ([name, { dtype, shape }]) => JSON.stringify(theirs.get(name)) === JSON.stringify([dtype === 'F32' ? 'float32' : 'int64', shape]),
  );
  const [floats, counters] = ['F32', 'I64'].map((type) => same.filter(([, { dtype }]) => dtype === type).length);
  const of = (type: string) => [...theirs.values()].filter(([dtype]) => dtype === type).length;
  say(
    `resnet50: ${floats} of ${of('float32')} float entries and ${counters} of ${of('int64')} counters have torchvision's names and shapes; not there: ${missing.join(', ')}; heads beside them: ${added.join(', ')}`,
  );
  expect([of('float32'), of('int64')]).toEqual([267, 53]);
  expect(missing).toEqual(['fc.weight', 'fc.bias']);
  expect(added.every((name) => /^(projection|change)\./.test(name))).toBe(true);
  expect(same.length).toBe(count);
});
