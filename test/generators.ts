// Small generators of random numbers, and the files that their makers would write of them: torch archives, NVIDIA's pickles, TensorFlow's.
import { little, tensorOpcodes, torchStream, torchZip } from './figures/parsers/archives.mjs';
import { numbers } from './support.ts';

/** A tensor of a file. */
export interface Stored {
  shape: number[];
  data: Float32Array;
}
export type StateDict = Record<string, Stored>;

let drawn = 0;
const random = (shape: number[], spread = 1.7): Stored => ({
  shape,
  data: numbers(
    shape.reduce((a, b) => a * b, 1),
    ++drawn,
    spread,
  ),
});
const constant = (shape: number[], value: number): Stored => ({
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value),
});

/** By genforce's names. @param fusedFrom First edge that is up-sampled by a transposed convolution. */
export function stylegan1State({ channels = [8, 8, 8, 8, 4, 4], width = 16, dense = 2, fusedFrom = 16 } = {}): StateDict {
  const state: StateDict = { 'truncation.w_avg': random([width]), 'synthesis.lod': constant([], 0) };
  for (let i = 0; i < dense; i++) {
    state[`mapping.dense${i}.linear.weight`] = random([width, width], 170);
    state[`mapping.dense${i}.wscale.bias`] = random([width], 30);
  }
  state['synthesis.layer0.first_layer'] = random([1, channels[0]!, 4, 4]);
  for (const [l, out] of channels.entries()) {
    const name = `synthesis.layer${l}`;
    const edge = 4 * 2 ** Math.floor(l / 2);
    const inputs = channels[l - 1]!;
    if (l > 0 && l % 2 === 0 && edge >= fusedFrom) state[`${name}.weight`] = random([3, 3, inputs, out]);
    else if (l > 0) state[`${name}.conv.weight`] = random([out, inputs, 3, 3]);
    state[`${name}.epilogue.apply_noise.noise`] = random([1, 1, edge, edge]);
    state[`${name}.epilogue.apply_noise.weight`] = random([out], 0.3);
    state[`${name}.epilogue.bias`] = random([out], 0.3);
    state[`${name}.epilogue.style_mod.dense.linear.weight`] = random([2 * out, width]);
    state[`${name}.epilogue.style_mod.dense.wscale.bias`] = random([2 * out], 0.5);
    if (l % 2 === 1) {
      state[`synthesis.output${(l - 1) / 2}.conv.weight`] = random([3, out, 1, 1]);
      state[`synthesis.output${(l - 1) / 2}.bias`] = random([3], 0.2);
    }
  }
  return state;
}

/** The same as its tensors are called and lie in the official pickle. */
export function tensorFlowState(state: StateDict): { own: StateDict; mapping: StateDict; synthesis: StateDict } {
  const own: StateDict = { dlatent_avg: state['truncation.w_avg']! };
  const mapping: StateDict = {};
  const synthesis: StateDict = {};
  const outputs = Object.keys(state).filter((name) => /output\d+\.bias$/.test(name)).length;
  for (const [name, stored] of Object.entries(state)) {
    const dense = /^mapping\.dense(\d+)\.(?:linear\.(weight)|wscale\.(bias))$/.exec(name);
    if (dense) mapping[`Dense${dense[1]}/${dense[2] ?? dense[3]}`] = stored.shape.length === 2 ? moved(stored, [1, 0]) : stored;
    const output = /^synthesis\.output(\d+)\.(?:conv\.)?(weight|bias)$/.exec(name);
    if (output) {
      const lod = outputs - 1 - Number(output[1]);
      synthesis[`ToRGB_lod${lod}/${output[2]}`] = stored.shape.length === 4 ? moved(stored, [2, 3, 1, 0]) : stored;
    }
    const layer = /^synthesis\.layer(\d+)\.(.+)$/.exec(name);
    if (!layer) continue;
    const l = Number(layer[1]);
    const edge = 4 * 2 ** Math.floor(l / 2);
    const op = `${edge}x${edge}/${l === 0 ? 'Const' : l === 1 ? 'Conv' : l % 2 === 0 ? 'Conv0_up' : 'Conv1'}`;
    const [theirs, axes] = (
      {
        first_layer: [`${op}/const`, undefined],
        weight: [`${op}/weight`, undefined],
        'conv.weight': [`${op}/weight`, [2, 3, 1, 0]],
        'epilogue.apply_noise.noise': [`noise${l}`, undefined],
        'epilogue.apply_noise.weight': [`${op}/Noise/weight`, undefined],
        'epilogue.bias': [`${op}/bias`, undefined],
        'epilogue.style_mod.dense.linear.weight': [`${op}/StyleMod/weight`, [1, 0]],
        'epilogue.style_mod.dense.wscale.bias': [`${op}/StyleMod/bias`, undefined],
      } as Record<string, [string, number[] | undefined]>
    )[layer[2]!]!;
    synthesis[theirs] = axes ? moved(stored, axes) : stored;
  }
  return { own, mapping, synthesis };
}

/** And by lernapparat's names: without noise and average. */
export function lernapparatState(state: StateDict): StateDict {
  const out: StateDict = {};
  const outputs = Object.keys(state).filter((name) => /output\d+\.bias$/.test(name)).length;
  for (const [name, stored] of Object.entries(state)) {
    const dense = /^mapping\.dense(\d+)\.(?:linear\.(weight)|wscale\.(bias))$/.exec(name);
    if (dense) out[`g_mapping.dense${dense[1]}.${dense[2] ?? dense[3]}`] = stored;
    const output = /^synthesis\.output(\d+)\.(?:conv\.)?(weight|bias)$/.exec(name);
    if (output && Number(output[1]) === outputs - 1) out[`g_synthesis.torgb.${output[2]}`] = stored;
    const layer = /^synthesis\.layer(\d+)\.(.+)$/.exec(name);
    if (!layer) continue;
    const l = Number(layer[1]);
    const edge = 4 * 2 ** Math.floor(l / 2);
    const block = `g_synthesis.blocks.${edge}x${edge}`;
    const conv = l % 2 === 0 ? 'conv0_up' : l === 1 ? 'conv' : 'conv1';
    const epilogue = `${block}.epi${(l % 2) + 1}`;
    const theirs = (
      {
        first_layer: `${block}.const`,
        weight: `${block}.${conv}.weight`,
        'conv.weight': `${block}.${conv}.weight`,
        'epilogue.apply_noise.weight': `${epilogue}.top_epi.noise.weight`,
        'epilogue.bias': l === 0 ? `${block}.bias` : `${block}.${conv}.bias`,
        'epilogue.style_mod.dense.linear.weight': `${epilogue}.style_mod.lin.weight`,
        'epilogue.style_mod.dense.wscale.bias': `${epilogue}.style_mod.lin.bias`,
      } as Record<string, string>
    )[layer[2]!];
    if (theirs !== undefined) out[theirs] = layer[2] === 'weight' ? moved(stored, [3, 2, 0, 1]) : stored;
  }
  return out;
}

/** With its axes in another order. */
export function moved({ shape, data }: Stored, axes: number[]): Stored {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const sizes = axes.map((axis) => shape[axis]!);
  const out = new Float32Array(data.length);
  for (let i = 0; i < out.length; i++) {
    let rest = i;
    let from = 0;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      from += (rest % sizes[axis]!) * strides[axes[axis]!]!;
      rest = Math.floor(rest / sizes[axis]!);
    }
    out[i] = data[from]!;
  }
  return { shape: sizes, data: out };
}

/** A StyleGAN3 of random numbers, by NVIDIA's names. @param sizes Edge of each layer. */
export function stylegan3State(options: {
  sizes: number[];
  channels: number[];
  ups: number[];
  isRadial?: boolean;
  width?: number;
  hasTransform?: boolean;
}): StateDict {
  const { sizes, channels, ups, isRadial = false, width = 16, hasTransform = true } = options;
  const count = sizes.length - 1;
  const state: StateDict = {};
  for (const i of [0, 1]) {
    state[`mapping.fc${i}.weight`] = random([width, width], 170);
    state[`mapping.fc${i}.bias`] = random([width], 30);
  }
  state['mapping.w_avg'] = random([width]);
  const first = channels[0]!;
  state['synthesis.input.weight'] = random([first, first]);
  state['synthesis.input.affine.weight'] = random([4, width], 0.2);
  state['synthesis.input.affine.bias'] = { shape: [4], data: Float32Array.of(1, 0, 0, 0) };
  if (hasTransform) state['synthesis.input.transform'] = { shape: [3, 3], data: Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1) };
  state['synthesis.input.freqs'] = random([first, 2], 1.5);
  state['synthesis.input.phases'] = random([first], 0.5);
  for (const [i, size] of sizes.entries()) {
    const isLast = i === count;
    const [inputs, out] = [channels[Math.max(0, i - 1)]!, channels[i]!];
    const kernel = isLast || isRadial ? 1 : 3;
    const name = `synthesis.L${i}_${size}_${out}`;
    state[`${name}.weight`] = random([out, inputs, kernel, kernel]);
    state[`${name}.bias`] = random([out], 0.3);
    state[`${name}.magnitude_ema`] = constant([], 0.7);
    state[`${name}.affine.weight`] = random([inputs, width]);
    state[`${name}.affine.bias`] = constant([inputs], 1);
    if (isLast) continue;
    state[`${name}.up_filter`] = constant([6 * ups[i]!], 1 / (6 * ups[i]!));
    const hasSquare = isRadial && i < count - 2;
    state[`${name}.down_filter`] = hasSquare ? constant([12, 12], 1 / 144) : constant([12], 1 / 12);
  }
  return state;
}

/** Four layers at 16 pixels. */
export const small3 = (isRadial = false, hasTransform = true): StateDict =>
  stylegan3State({ sizes: [36, 36, 36, 16, 16], channels: [8, 8, 6, 4, 3], ups: [2, 2, 2, 2], isRadial, hasTransform });

const bytesOf = ({ data }: Stored): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const latin = (bytes: Buffer): string => bytes.toString('latin1');
export const text = (word: string): string => `X${latin(little(Buffer.from(word).length, 4))}${latin(Buffer.from(word))}`;
const integer = (value: number): string => `J${latin(little(value, 4))}`;
const tuple = (...items: string[]): string => `(${items.join('')}t`;
const dict = (entries: Record<string, string>): string =>
  `}(${Object.entries(entries)
    .map(([key, value]) => text(key) + value)
    .join('')}u`;
const rowMajor = (shape: number[]): number[] => shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
const pickleOf = (opcodes: string): Buffer => Buffer.from(`\x80\x02${opcodes}.`, 'latin1');

/** What torch.save() writes of a state dict. */
export function torchFile(state: StateDict): Buffer {
  const entries = Object.entries(state);
  const tensors = entries.map(([, stored], i) => {
    const { shape } = stored;
    return tensorOpcodes({ key: String(i), count: stored.data.length, shape, strides: rowMajor(shape) });
  });
  const pickle = pickleOf(dict(Object.fromEntries(entries.map(([name], i) => [name, tensors[i]!]))));
  return torchZip(pickle, Object.fromEntries(entries.map(([, stored], i) => [String(i), bytesOf(stored)])));
}

/** A tensor in a plain pickle: its storage is a stream of torch by itself. */
function tensorInPickle(stored: Stored): string {
  const { shape, data } = stored;
  const id = tuple(text('storage'), 'ctorch\nFloatStorage\n', text('0'), text('cpu'), integer(data.length), 'N');
  const stream = torchStream(pickleOf(`${id}Q`), [['0', data.length, bytesOf(stored)]]);
  const storage = `ctorch.storage\n_load_from_bytes\n${tuple(`B${latin(little(stream.length, 4))}${latin(stream)}`)}R`;
  const layout = [tuple(...shape.map(integer)), tuple(...rowMajor(shape).map(integer))];
  return `ctorch._utils\n_rebuild_tensor_v2\n${tuple(storage, integer(0), ...layout, '\x89', 'ccollections\nOrderedDict\n)R')}R`;
}

/** As torch_utils.persistence reduces an object. */
export const persistent = (className: string, state: string): string =>
  `ctorch_utils.persistence\n_reconstruct_persistent_obj\n${tuple(
    dict({ type: text('class'), version: integer(6), module_src: text('raise SystemExit'), class_name: text(className), state }),
  )}R`;

/** A module tree whose tensors have these dotted names; buffers are told by their names. */
function moduleOf(className: string, state: StateDict, more: Record<string, string> = {}): string {
  const groups: Record<string, StateDict> = {};
  const parameters: Record<string, string> = {};
  const buffers: Record<string, string> = { missing: 'N' };
  for (const [name, stored] of Object.entries(state)) {
    const [first, ...rest] = name.split('.');
    if (rest.length > 0) {
      groups[first!] ??= {};
      groups[first!]![rest.join('.')] = stored;
    } else if (/filter$|ema$|avg$|freqs|phases|transform/.test(name)) buffers[name] = tensorInPickle(stored);
    else parameters[name] = `ctorch._utils\n_rebuild_parameter\n${tuple(tensorInPickle(stored), '\x88', 'ccollections\nOrderedDict\n)R')}R`;
  }
  const modules = Object.fromEntries(Object.entries(groups).map(([name, part]) => [name, moduleOf(`${name}Layer`, part)]));
  return persistent(
    className,
    dict({ training: '\x89', _parameters: dict(parameters), _buffers: dict(buffers), _modules: dict(modules), ...more }),
  );
}

/** A pickle as NVIDIA's StyleGAN3 saves its training. */
export function nvidiaFile(state: StateDict, className = 'Generator'): Buffer {
  const kwargs = `cdnnlib.util\nEasyDict\n)\x81(${text('z_dim')}${integer(16)}u`;
  const network = moduleOf(className, state, { z_dim: integer(16), _init_kwargs: kwargs });
  const other = moduleOf('Discriminator', { 'b4.conv.weight': random([2, 2, 1, 1]) });
  return pickleOf(dict({ G: other, D: other, G_ema: network, training_set_kwargs: kwargs, augment_pipe: 'N' }));
}

const shortText = (word: string): string => `U${String.fromCharCode(word.length)}${word}`;
const order = tuple(integer(3), shortText('<'), 'N', 'N', 'N', integer(-1 >>> 0), integer(-1 >>> 0), integer(0));
const floats = `cnumpy\ndtype\n${tuple(shortText('f4'), integer(0), integer(1))}R${order}b`;

/** An array of NumPy in a pickle. */
function arrayInPickle(stored: Stored): string {
  const bytes = bytesOf(stored);
  const made = `cnumpy.core.multiarray\n_reconstruct\n${tuple('cnumpy\nndarray\n', tuple(integer(0)), 'C\x01b')}R`;
  const content = `B${latin(little(bytes.length, 4))}${latin(bytes)}`;
  return `${made}${tuple(integer(1), tuple(...stored.shape.map(integer)), floats, '\x89', content)}b`;
}

function networkInPickle(variables: StateDict, components: Record<string, string>, more: Record<string, string> = {}): string {
  const list = `](${Object.entries(variables)
    .map(([name, stored]) => tuple(text(name), arrayInPickle(stored)))
    .join('')}e`;
  const state = dict({
    version: integer(3),
    name: text('G'),
    static_kwargs: dict(more),
    components: dict(components),
    build_module_src: text('raise SystemExit'),
    build_func_name: text('G_style'),
    variables: list,
  });
  return `cdnnlib.tflib.network\nNetwork\n)\x81${state}b`;
}

/** The official pickle of StyleGAN: G, D and Gs, of which the last is the one to use. */
export function tensorFlowFile(state: StateDict, more: Record<string, string> = {}): Buffer {
  const { own, mapping, synthesis } = tensorFlowState(state);
  const network = (isLast: boolean) =>
    networkInPickle(
      isLast ? own : { dlatent_avg: random([2]) },
      { mapping: networkInPickle(isLast ? mapping : {}, {}), synthesis: networkInPickle(isLast ? synthesis : {}, {}) },
      more,
    );
  return pickleOf(tuple(network(false), network(false), network(true)));
}
