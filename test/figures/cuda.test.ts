// N4 and N5: the CUDA backend computes what the formulas say and what the CPU backend computes, and its kernels are clean. On a device that the
// CPU plays in `npm test`, on a real one in `npm run gpu` (test/cuda.ts). The real one alone shows how cuDNN rounds, and runs compute-sanitizer.
import { spawnSync } from 'node:child_process';
import { beforeAll, expect } from 'vitest';
import { backbone, embeddingWidth } from '../../lib/models/backbone.ts';
import { comfaceGraph } from '../../lib/models/heads.ts';
import type { LayerRecord } from '../../lib/models/layers.ts';
import { chooseDevice, type NativeEngine } from '../../lib/native.ts';
import { generatorCases, type OpCase, opCases } from '../cases.ts';
import { cudaBackend, cudaEngine, cudaName, isOnGpu, kernelPrograms, noCuda, plantedProgram } from '../cuda.ts';
import { sharedFolder } from '../faces.ts';
import { adamAt, distance, engineFor, numbers } from '../support.ts';
import { figure } from './figure.ts';
import { distances, inputsOf, nmse, outcomeOf, parametersOf, seedOf } from './opruns.ts';
import { outcomeOf as ended } from './programs.ts';
import { twin } from './twin.ts';

const library = cudaBackend();
const folder = sharedFolder();
beforeAll(() => {
  process.env.COMFACE_CACHE = folder;
});

/** NMSE: what is reached, with room for other shapes. Nearer to a kink than the margin, rounding may take its other side. */
const limits = { fp32: { nmse: 1e-10, margin: 2e-5 }, bf16: { nmse: 1e-4, margin: 2e-2 }, fp16: { nmse: 1e-5, margin: 2e-3 } } as const;
type Precision = keyof typeof limits;

const ways = [
  { name: 'in order', noFusion: '', deterministic: true },
  { name: 'in any order', noFusion: '', deterministic: false }, // fuses most
  { name: 'not fused', noFusion: '1', deterministic: true },
];

for (const precision of ['fp32', 'bf16', 'fp16'] as const) {
  // In 16 bits rounding turns over some relu of several in a row: whole networks have their own figure.
  const cases = opCases.filter(({ layers }) => precision === 'fp32' || layers.filter(({ op }) => op === 'relu').length < 3);
  const count = cases.length;
  figure(
    `N4 each op in ${precision} is that of a float64 twin on CUDA`,
    { ci: count, long: count, seconds: 240 },
    async ({ say, skip }) => {
      if (library === undefined) skip(noCuda);
      const worst = { value: 0, where: 'nowhere' };
      let near = 0;
      // fp32 has no fused steps.
      for (const way of precision === 'fp32' ? ways.slice(0, 1) : ways) {
        process.env.COMFACE_NO_FUSION = way.noFusion;
        for (const c of cases) {
          const isSharp = await opError(c, precision, way.deterministic, (value, part) => {
            if (value > worst.value) Object.assign(worst, { value, where: `${c.name}, ${part}, ${way.name}` });
          });
          if (!isSharp) near++;
        }
      }
      delete process.env.COMFACE_NO_FUSION;
      say(`${cudaName} ${precision}: ${count} graphs, worst NMSE ${worst.value.toExponential(1)} (${worst.where}); ${near} near a kink`);
      expect(worst.value, worst.where).toBeLessThanOrEqual(limits[precision].nmse);
    },
  );
}

const isHalfOp = ({ op }: LayerRecord): boolean => op === 'modulatedConv' || op === 'filteredRelu';
/** A graph with its modulated convolutions and what filters them in half; a filter alone gets a convolution before it, which makes half. */
function halved(c: OpCase): OpCase {
  const layers = c.layers.map((layer) => (isHalfOp(layer) ? ({ ...layer, half: true } as LayerRecord) : layer));
  const at = layers.findIndex((layer) => layer.op === 'filteredRelu');
  const [input] = layers;
  if (at < 0 || input?.op !== 'input') return { ...c, layers };
  const before: LayerRecord[] = [
    { op: 'token', name: 'first', input: 'images', position: 0 },
    { op: 'linear', name: 'style', input: 'first', out: input.channels, bias: true },
    {
      op: 'modulatedConv',
      name: 'half',
      inputs: ['images', 'style'],
      out: input.channels,
      kernel: 3,
      pad: 1,
      demodulate: true,
      half: true,
    },
  ];
  return { ...c, layers: [...layers.slice(0, at), ...before, { ...layers[at]!, input: 'half' } as LayerRecord, ...layers.slice(at + 1)] };
}
const generatorGraphs: [OpCase, 'fp32' | 'fp16'][] = [
  ...generatorCases.map((c): [OpCase, 'fp32'] => [c, 'fp32']),
  ...generatorCases.filter((c) => c.layers.some(isHalfOp)).map((c): [OpCase, 'fp16'] => [halved(c), 'fp16']),
];

figure(
  'N4 each op of generators is that of plain loops in double on CUDA',
  { ci: generatorGraphs.length, long: generatorGraphs.length, seconds: 240 },
  async ({ count, say, skip }) => {
    if (library === undefined) skip(noCuda);
    const worst = { fp32: { value: 0, where: 'nowhere' }, fp16: { value: 0, where: 'nowhere' } };
    for (const [c, precision] of generatorGraphs) {
      const last = c.layers.at(-1)!.name;
      const { images, targets } = inputsOf(c, 1000);
      const exact = await engineFor({ ...c, training: false, device: 'reference', precision: 'fp64' });
      const parameters = parametersOf(exact, 1000);
      const outputOf = async (engine: NativeEngine) => {
        for (const [name, value] of parameters) await engine.write('parameter', name, value);
        await engine.forward(new Float32Array(images.length).fill(Number.NaN), targets); // what it leaves behind would show
        await engine.forward(images, targets);
        const output = await engine.read('value', last);
        engine.dispose();
        return output;
      };
      const value = nmse(await outputOf(await cudaEngine({ ...c, training: false, precision })), await outputOf(exact));
      if (!(value <= worst[precision].value)) worst[precision] = { value, where: c.name };
    }
    const lines = Object.entries(worst).map(([precision, { value, where }]) => `${precision} ${value.toExponential(1)} (${where})`);
    say(`${cudaName}: ${count} graphs of generators, worst NMSE in ${lines.join(', in ')}`);
    for (const precision of ['fp32', 'fp16'] as const)
      expect(worst[precision].value, worst[precision].where).toBeLessThanOrEqual(limits[precision].nmse);
  },
);

/** Shows `see` how far each part is from double. Returns whether inputs were found whose relus rounding cannot turn over. */
async function opError(
  c: (typeof opCases)[number],
  precision: Precision,
  deterministic: boolean,
  see: (value: number, part: string) => void,
): Promise<boolean> {
  const exact = await engineFor({ ...c, device: 'reference', precision: 'fp64' });
  for (let key = 1000; ; key += 1000) {
    const inputs = inputsOf(c, key);
    const parameters = parametersOf(exact, key);
    const expected = twin(c, parameters, inputs.images, inputs.targets, seedOf);
    const isSharp = expected.margin >= limits[precision].margin;
    if (!isSharp && key < 40_000) continue;
    const engine = await cudaEngine({ ...c, precision, deterministic });
    const outcome = await outcomeOf(engine, c, parameters, inputs, expected.seed);
    for (const { part, value } of distances(outcome, expected)) see(value, part);
    engine.dispose();
    exact.dispose();
    return isSharp;
  }
}

interface StepOutcome {
  losses: number[];
  gradients: Map<string, Float32Array>;
  statistics: Map<string, Float32Array>;
  moments: Map<string, Float32Array>;
}

const flat = (tensors: Map<string, Float32Array>): Float32Array =>
  new Float32Array(Buffer.concat([...tensors.values()].map((value) => new Uint8Array(value.buffer))).buffer);

async function all(engine: NativeEngine, slot: 'gradient' | 'statistic' | 'secondMoment'): Promise<Map<string, Float32Array>> {
  const list = slot === 'statistic' ? engine.statistics : engine.parameters;
  return new Map(await Promise.all(list.map(async ({ name }) => [name, await engine.read(slot, name)] as const)));
}

/** One training step of a whole network with its heads. */
async function stepOf(engine: NativeEngine, images: Float32Array, targets: Float32Array): Promise<StepOutcome> {
  await engine.initialize(5n);
  // Residual branches begin small: 50 layers with norms over a dozen values would amplify rounding until relus flip.
  for (const { name, dims } of engine.parameters)
    if (/^layer.*bn3\.weight$/.test(name)) await engine.write('parameter', name, new Float32Array(dims[0]!).fill(0.2));
  const losses = await engine.forward(images, targets);
  await engine.backward();
  const [gradients, statistics] = [await all(engine, 'gradient'), await all(engine, 'statistic')];
  await engine.update(adamAt(1));
  const outcome = { losses, gradients, statistics, moments: await all(engine, 'secondMoment') };
  engine.dispose();
  return outcome;
}

// The emulated device multiplies in plain loops: there the networks are small, and double is what they are compared with.
const [kWidth, kSize, kPairs] = isOnGpu ? [64, 64, 8] : [16, 32, 4];

figure('N4 whole networks on CUDA compute what the CPU does', { ci: 4, long: 4, seconds: 240 }, async ({ say, skip }) => {
  if (library === undefined) skip(noCuda);
  const said: string[] = [];
  const judged: (() => void)[] = [];
  for (const name of ['resnet18', 'resnet50', 'vit_b_16', 'pcl'] as const) {
    const embedding = embeddingWidth(name, { size: kSize, width: kWidth });
    const heads = { embedding, projection: { hidden: 32, out: 16 }, temperature: 0.2, interPersonal: 1, intraPersonal: 0.3 };
    const graph = { layers: comfaceGraph(backbone(name, { size: kSize, width: kWidth }), heads), batch: 3 * kPairs };
    const images = numbers(graph.batch * 3 * kSize * kSize, 51);
    const targets = numbers(kPairs, 52, 5).map(Math.abs);
    const expected = await stepOf(
      await engineFor({ ...graph, ...(isOnGpu ? {} : { device: 'reference', precision: 'fp64' }) }),
      images,
      targets,
    );
    const found = await stepOf(await cudaEngine({ ...graph, parts: 3 }), images, targets);
    const loss = distance(found.losses, expected.losses);
    let worst = 0;
    for (const part of ['gradients', 'statistics', 'moments'] as const)
      for (const [tensor, value] of expected[part]) worst = Math.max(worst, distance(found[part].get(tensor)!, value));
    // 16 bits: no farther than the plain loops with the same rounding are, all tensors together. A GPU's bigger network takes them minutes, so
    // there it is the CPU backend where that has bf16.
    const isPlain = !isOnGpu || chooseDevice('cpu', 'auto').precision !== 'bf16';
    const rounded = await stepOf(
      await engineFor({ ...graph, ...(isPlain ? { device: 'reference' } : {}), precision: 'bf16' }),
      images,
      targets,
    );
    const reach = distance(flat(rounded.gradients), flat(expected.gradients));
    const bf16: number[] = [];
    for (const { noFusion, deterministic } of ways) {
      process.env.COMFACE_NO_FUSION = noFusion;
      const { gradients, losses } = await stepOf(
        await cudaEngine({ ...graph, parts: 3, precision: 'bf16', deterministic }),
        images,
        targets,
      );
      bf16.push(distance(flat(gradients), flat(expected.gradients)));
      judged.push(() => expect(distance(losses, rounded.losses)).toBeLessThan(0.02));
    }
    delete process.env.COMFACE_NO_FUSION;
    const texts = bf16.map((value, i) => `${value.toPrecision(2)} ${ways[i]!.name}`).join(', ');
    said.push(
      `${name} fp32 losses ${loss.toExponential(1)}, worst tensor ${worst.toExponential(1)}, ` +
        `bf16 gradients ${texts} (${isPlain ? 'plain loops' : 'CPU'} ${reach.toPrecision(2)})`,
    );
    judged.push(() => {
      expect(loss).toBeLessThan(1e-5);
      expect(worst).toBeLessThan(1e-3);
      for (const value of bf16) expect(value).toBeLessThan(1.5 * reach);
    });
  }
  say(
    `${cudaName} against ${isOnGpu ? 'the CPU backend' : 'double'}, width ${kWidth}, ${kSize} pixels, ${kPairs} pairs: ${said.join('; ')}`,
  );
  for (const judge of judged) judge();
});

/** What hangs is ended and counts as an error. */
const kCommandMs = 200_000;
const kTools = ['memcheck', 'racecheck', 'initcheck', 'synccheck'] as const;

/** Where it is: on the path, in the toolkit, or beside cuDNN as NVIDIA packs it for Python. */
function sanitizer(): string | undefined {
  const { CUDA_HOME = '/usr/local/cuda', COMFACE_CUDA_LIBRARIES = '' } = process.env;
  const folders = ['', `${CUDA_HOME}/bin/`, `${COMFACE_CUDA_LIBRARIES}/cu13/compute-sanitizer/`];
  return folders
    .map((folder) => `${folder}compute-sanitizer`)
    .find((program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0);
}

/** Runs a tool over programs, one after the other. What each of them reported, with its words when that is not nothing. */
async function checked(program: string, tool: string, commands: readonly (readonly string[])[]): Promise<{ errors: number; text: string }> {
  const outcome = { errors: 0, text: '' };
  // Our own kernels only: NVIDIA's are theirs to check, and slow. What the driver answers, our code looks at itself.
  const options = [
    '--target-processes',
    'all',
    '--kernel-name',
    'kns=comface',
    '--report-api-errors',
    'no',
    '--require-cuda-init',
    'no',
    '--error-exitcode',
    '86',
  ];
  for (const command of commands) {
    const env = { ...process.env, COMFACE_FIGURES: '' };
    const { text, status } = await ended(program, ['--tool', tool, ...options, ...command], env, kCommandMs);
    const counts = [...text.matchAll(/(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)/g)].map(([, count]) => Number(count));
    outcome.errors += counts.reduce((sum, count) => sum + count, 0);
    if (status !== 0 || counts.length === 0 || outcome.errors > 0)
      outcome.text += `${command.join(' ')} ended with ${status}: ${text.slice(-4000)}\n`;
  }
  return outcome;
}

figure(
  'N5 compute-sanitizer finds nothing in the kernels',
  { ci: kTools.length, long: kTools.length, seconds: 240 },
  async ({ say, skip }) => {
    if (!isOnGpu) skip('compute-sanitizer needs a GPU (npm run gpu); emulated kernels run under several orders of their threads instead');
    const program = sanitizer() ?? skip('compute-sanitizer was not found; it comes with the CUDA toolkit');
    const steps = [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--config',
      'test/vitest.config.ts',
      'test/cuda.test',
      '-t',
      'steps on pictures',
      '--testTimeout',
      '400000',
    ];
    const commands = [...kernelPrograms().map((path) => [path]), [process.execPath, ...steps]];
    const runs = await Promise.all(
      kTools.map(async (tool) => {
        const planted = await checked(program, tool, [[plantedProgram(), tool]]);
        return { tool, planted, ...(await checked(program, tool, commands)) };
      }),
    );
    const found = runs.filter(({ planted }) => planted.errors > 0).length;
    say(
      `${runs.map(({ tool, errors }) => `${tool} ${errors}`).join(', ')} errors in ${commands.length} programs each: every kernel, and whole steps; ` +
        `${found} of ${kTools.length} tools find what was planted for them`,
    );
    for (const { tool, planted } of runs) expect(planted.errors, `${tool} misses what was planted: ${planted.text}`).toBeGreaterThan(0);
    for (const { tool, errors, text } of runs) expect([tool, errors, text]).toEqual([tool, 0, '']);
  },
);
