// Between an engine and a checkpoint: every tensor that a run needs to go on, under torchvision's names.
import { ComFaceError, show } from '../errors.js';
import type { NativeEngine, NativeTensorInfo, Slot } from '../native.js';
import type { Tensor } from '../weights/safetensors.js';
import type { CheckpointState } from './checkpoint.js';

const kCounter = '.num_batches_tracked';
const moments = [
  ['firstMoment', '.exp_avg'],
  ['secondMoment', '.exp_avg_sq'],
] as const;

/** Numbers copied in one native call: 64 KiB take some 30 us of the event loop, a whole tensor up to 10 ms. */
const kPart = 16 * 1024;

const readTensor = async (engine: NativeEngine, slot: Slot, { name, dims }: NativeTensorInfo): Promise<Tensor> => ({
  dtype: 'F32',
  shape: dims,
  data: await engine.read(slot, name),
});

/** Copies weights and running statistics out of an engine. `step` is the number of updates done. */
export async function readWeights(engine: NativeEngine, step: number): Promise<Map<string, Tensor>> {
  const weights = new Map<string, Tensor>();
  for (const info of engine.parameters) weights.set(info.name, await readTensor(engine, 'parameter', info));
  for (const info of engine.statistics) {
    weights.set(info.name, await readTensor(engine, 'statistic', info));
    const counter = info.name.replace(/\.running_(mean|var)$/, kCounter);
    weights.set(counter, { dtype: 'I64', shape: [], data: BigInt64Array.of(BigInt(step)) });
  }
  return weights;
}

/** fp16's loss scale and the steps since it changed. */
const kLossScale = 'loss_scale';
const lossScale: NativeTensorInfo = { name: kLossScale, dims: [2] };

/** {@link readWeights} and Adam's moments: everything that changes in a step. `isScaled`: in fp16. */
export async function readState(
  engine: NativeEngine,
  step: number,
  isScaled = false,
): Promise<Pick<CheckpointState, 'weights' | 'optimizer'>> {
  const optimizer = new Map<string, Tensor>();
  for (const info of engine.parameters) {
    for (const [slot, suffix] of moments) optimizer.set(info.name + suffix, await readTensor(engine, slot, info));
  }
  if (isScaled) optimizer.set(kLossScale, await readTensor(engine, 'lossScale', lossScale));
  return { weights: await readWeights(engine, step), optimizer };
}

/**
 * Copies weights into an engine, and Adam's moments if given, and what else `readState` took. Tensors that the engine has no place for (heads, counters) are left.
 * @throws ComFaceError INVALID_INPUT when a tensor is missing or has another shape.
 */
export async function writeState(
  engine: NativeEngine,
  weights: ReadonlyMap<string, Tensor>,
  optimizer?: ReadonlyMap<string, Tensor>,
  isScaled = false,
): Promise<void> {
  const write = async (slot: Slot, { name, dims }: NativeTensorInfo, tensor: Tensor | undefined): Promise<void> => {
    const { dtype, shape, data } = tensor ?? {};
    if (dtype !== 'F32' || !Array.isArray(shape) || shape.length !== dims.length || dims.some((size, i) => size !== shape[i])) {
      const found = tensor === undefined ? 'nothing' : `${show(dtype)} ${show(shape)}`;
      throw new ComFaceError('INVALID_INPUT', `Expected F32 [${dims.join(', ')}] for \`${name}\` but received ${found}`, {
        hint: 'These weights are of another network: compare backbone, width and heads.',
      });
    }
    const count = dims.reduce((a, b) => a * b, 1);
    // What is no such tensor is refused at the native door, which names it.
    if (count <= kPart || !(data instanceof Float32Array) || data.length !== count) {
      await engine.write(slot, name, data as Float32Array);
      return;
    }
    for (let at = 0; at < count; at += kPart) await engine.write(slot, name, data.subarray(at, at + kPart), at);
  };
  for (const info of engine.parameters) {
    await write('parameter', info, weights.get(info.name));
    if (optimizer) for (const [slot, suffix] of moments) await write(slot, info, optimizer.get(info.name + suffix));
  }
  if (isScaled && optimizer?.has(kLossScale)) await write('lossScale', lossScale, optimizer.get(kLossScale));
  for (const info of engine.statistics) await write('statistic', info, weights.get(info.name));
}
