// A model as an ONNX file (opset 17): the layer records become nodes, one after the other, and the weights initializers under their own names.
// Images are N C H W; a sequence of tokens, which in our records is an image of height T and width 1, is N T C there, as linear layers want it.
import { ComFaceError } from '../errors.js';
import { type LayerRecord, windowsAlong } from '../models/layers.js';
import { Message } from './protobuf.js';
import type { Tensor } from './safetensors.js';

const kOpset = 17;
/** Of the format; opset 17 came with it. */
const kIrVersion = 8;
const types = { float: 1, int64: 7 } as const;
const attributeTypes = { float: 1, integer: 2, integers: 7 } as const;

/** Attributes of a node: a whole number that is to be a float is given as { float }. */
type Attributes = Readonly<Record<string, number | readonly number[] | { float: number }>>;

/** How a layer's value lies: `image` N C H W, `tokens` N T C, `vector` N C. */
interface Value {
  name: string;
  kind: 'image' | 'tokens' | 'vector';
  channels: number;
  /** Of an image. */
  height: number;
  width: number;
}

/** What a file is about, beside its network. */
export interface OnnxFacts {
  /** Of the program that writes it. */
  version: string;
  /** Said of the file in a sentence or two. */
  description: string;
  /** Free texts by name. */
  metadata: Readonly<Record<string, string>>;
}

/**
 * A network as the bytes of an ONNX file. Input `images`: batch x 3 x size x size, normalized. Outputs: `embedding`, batch x D; and where there is a change
 * head `change`, batch: the estimated change from the first picture of the batch to each, which for the first is the head's bias.
 *
 * @param layers Of a backbone.
 * @param weights Its tensors by name, with `change.weight` and `change.bias` if it has that head.
 * @throws ComFaceError INVALID_INPUT naming a tensor that is missing.
 */
export function encodeOnnx(layers: readonly LayerRecord[], weights: ReadonlyMap<string, Tensor>, facts: OnnxFacts): Uint8Array {
  const graph = new GraphWriter(weights);
  const embedding = graph.backbone(layers);
  graph.rename(embedding.name, 'embedding');
  const hasChange = weights.has('change.weight');
  if (hasChange) graph.changeHead('embedding', embedding.channels);
  const [input] = layers as [LayerRecord & { op: 'input' }];
  const model = new Message()
    .integer(1, kIrVersion)
    .text(2, 'comface')
    .text(3, facts.version)
    .text(6, facts.description)
    .message(
      7,
      graph.encode({
        inputs: [['images', ['batch', input.channels, input.height, input.width]]],
        outputs: [['embedding', ['batch', embedding.channels]], ...(hasChange ? [['change', ['batch']] as const] : [])],
      }),
    )
    .message(8, new Message().text(1, '').integer(2, kOpset));
  for (const [key, value] of Object.entries(facts.metadata)) model.message(14, new Message().text(1, key).text(2, value));
  return model.encode();
}

type Sizes = readonly (number | string)[];

class GraphWriter {
  readonly #weights: ReadonlyMap<string, Tensor>;
  readonly #nodes: { op: string; inputs: string[]; outputs: string[]; attributes: Attributes }[] = [];
  /** By name, in the order of their first use. */
  readonly #initializers = new Map<string, Message>();
  readonly #values = new Map<string, Value>();

  constructor(weights: ReadonlyMap<string, Tensor>) {
    this.#weights = weights;
  }

  /** Adds a backbone's nodes; returns its last value. */
  backbone(layers: readonly LayerRecord[]): Value {
    for (const layer of layers) this.#values.set(layer.name, this.#layer(layer));
    return this.#values.get(layers.at(-1)!.name)!;
  }

  /** change_i = w relu(h_i - h_0) + b (paper, section 3.2). */
  changeHead(embedding: string, width: number): void {
    const first = this.#node(
      'Slice',
      [embedding, this.#list('first', [0]), this.#list('second', [1]), this.#list('rows', [0])],
      'change.first',
    );
    const difference = this.#node('Relu', [this.#node('Sub', [embedding, first], 'change.difference')], 'change.increase');
    this.#linear('change', difference, 'change.all', true);
    this.#node('Reshape', ['change.all', this.#list('flat', [-1])], 'change');
    if (width !== this.#tensor('change.weight').shape[1]) throw missing('change.weight', 'of the width of the embedding');
  }

  /** Gives a node's output another name. */
  rename(from: string, to: string): void {
    for (const node of this.#nodes) {
      node.outputs = node.outputs.map((name) => (name === from ? to : name));
      node.inputs = node.inputs.map((name) => (name === from ? to : name));
    }
  }

  encode({ inputs, outputs }: { inputs: readonly (readonly [string, Sizes])[]; outputs: readonly (readonly [string, Sizes])[] }): Message {
    const graph = new Message();
    for (const node of this.#nodes) graph.message(1, encodeNode(node));
    graph.text(2, 'comface');
    for (const tensor of this.#initializers.values()) graph.message(5, tensor);
    for (const [name, sizes] of inputs) graph.message(11, encodeValue(name, sizes));
    for (const [name, sizes] of outputs) graph.message(12, encodeValue(name, sizes));
    return graph;
  }

  #tensor(name: string): Tensor & { dtype: 'F32' } {
    const tensor = this.#weights.get(name);
    if (tensor?.dtype !== 'F32') throw missing(name, 'F32');
    return tensor;
  }

  /** A tensor of the weights, or one made of it, as an initializer. */
  #weight(name: string, { shape, data }: { shape: readonly number[]; data: Float32Array } = this.#tensor(name)): string {
    if (!this.#initializers.has(name))
      this.#initializers.set(name, encodeTensor(name, types.float, shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
    return name;
  }

  #list(name: string, numbers: readonly number[]): string {
    const key = `list.${name}`;
    const data = BigInt64Array.from(numbers, BigInt);
    if (!this.#initializers.has(key))
      this.#initializers.set(key, encodeTensor(key, types.int64, [data.length], new Uint8Array(data.buffer)));
    return key;
  }

  #scalar(name: string, value: number): string {
    return this.#weight(`scalar.${name}`, { shape: [], data: Float32Array.of(value) });
  }

  #node(op: string, inputs: string[], output: string, attributes: Attributes = {}): string {
    this.#nodes.push({ op, inputs, outputs: [output], attributes });
    return output;
  }

  #layer(layer: LayerRecord): Value {
    const { name } = layer;
    if (layer.op === 'input') return { name, kind: 'image', channels: layer.channels, height: layer.height, width: layer.width };
    const [from, second] = ('inputs' in layer ? layer.inputs : [layer.input]).map((each) => this.#values.get(each)!);
    const x = from!;
    const same = (op: string, inputs = [x.name]): Value => ({ ...x, name: this.#node(op, inputs, name) });
    switch (layer.op) {
      case 'conv':
        return this.#conv(layer, x);
      case 'batchNorm': {
        const inputs = ['weight', 'bias', 'running_mean', 'running_var'].map((part) => this.#weight(`${name}.${part}`));
        return { ...x, name: this.#node('BatchNormalization', [x.name, ...inputs], name, { epsilon: { float: layer.eps ?? 1e-5 } }) };
      }
      case 'relu':
        return layer.slope ? { ...x, name: this.#node('LeakyRelu', [x.name], name, { alpha: { float: layer.slope } }) } : same('Relu');
      case 'add':
        return same('Add', [x.name, second!.name]);
      case 'maxPool':
        return this.#maxPool(layer, x);
      case 'avgPool':
        this.#node('GlobalAveragePool', [x.name], `${name}.mean`);
        return { ...x, name: this.#node('Flatten', [`${name}.mean`], name), kind: 'vector' };
      case 'flatten':
        return {
          name: this.#node('Flatten', [x.name], name),
          kind: 'vector',
          channels: x.channels * x.height * x.width,
          height: 1,
          width: 1,
        };
      case 'linear':
        return { ...x, name: this.#linear(name, x.name, name, layer.bias), channels: layer.out };
      case 'tokens':
        return this.#tokens(layer, x);
      case 'layerNorm': {
        const inputs = ['weight', 'bias'].map((part) => this.#weight(`${name}.${part}`));
        const attributes = { axis: -1, epsilon: { float: layer.eps ?? 1e-5 } };
        return { ...x, name: this.#node('LayerNormalization', [x.name, ...inputs], name, attributes) };
      }
      case 'gelu':
        return { ...x, name: this.#gelu(name, x.name, layer.quick === true) };
      case 'attention':
        return { ...x, name: this.#attention(layer, x), channels: x.channels / 3 };
      case 'efficientAttention':
        return { ...x, name: this.#efficientAttention(layer, x), channels: x.channels / 3 };
      case 'token':
        return { ...x, name: this.#token(layer, x), kind: 'vector' };
      default:
        throw new ComFaceError('INVALID_INPUT', `Expected a layer of a backbone but received \`${name}\` (${layer.op})`, {
          hint: 'Heads are added by themselves.',
        });
    }
  }

  #conv(layer: LayerRecord & { op: 'conv' }, x: Value): Value {
    const { name, out, kernel, stride, pad } = layer;
    const inputs = [x.name, this.#weight(`${name}.weight`), ...(layer.bias ? [this.#weight(`${name}.bias`)] : [])];
    this.#node('Conv', inputs, name, { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] });
    return { ...x, name, channels: out, height: windowsAlong(x.height, layer), width: windowsAlong(x.width, layer) };
  }

  /** Padding at the end is said in numbers: runtimes read `ceil_mode` each in their way. */
  #maxPool(layer: LayerRecord & { op: 'maxPool' }, x: Value): Value {
    const { name, kernel, stride, pad } = layer;
    const [height, width] = [windowsAlong(x.height, layer), windowsAlong(x.width, layer)];
    const after = (edge: number, count: number) => Math.max(0, (count - 1) * stride + kernel - edge - pad);
    const pads = [pad, pad, after(x.height, height), after(x.width, width)];
    this.#node('MaxPool', [x.name], name, { kernel_shape: [kernel, kernel], strides: [stride, stride], pads });
    return { ...x, name, height, width };
  }

  /** x W^T + b, W as it is stored: out x in. */
  #linear(layer: string, input: string, output: string, hasBias: boolean): string {
    const name = `${layer}.weight`;
    const { shape, data } = this.#tensor(name);
    const [out, inner] = shape as [number, number];
    const turned = new Float32Array(data.length);
    for (let o = 0; o < out; o++) for (let i = 0; i < inner; i++) turned[i * out + o] = data[o * inner + i]!;
    const weight = this.#weight(`${name}.T`, { shape: [inner, out], data: turned });
    if (!hasBias) return this.#node('MatMul', [input, weight], output);
    return this.#node('Add', [this.#node('MatMul', [input, weight], `${output}.product`), this.#weight(`${layer}.bias`)], output);
  }

  /** N C H W -> N T C, with a class token in front and positions added. */
  #tokens({ name, classToken, positions }: LayerRecord & { op: 'tokens' }, x: Value): Value {
    const module = name.slice(0, name.lastIndexOf('.') + 1);
    const flat = this.#node('Reshape', [x.name, this.#list(`${name}.flat`, [0, x.channels, -1])], `${name}.flat`);
    let value = this.#node('Transpose', [flat], `${name}.patches`, { perm: [0, 2, 1] });
    if (classToken) {
      const count = this.#node(
        'Slice',
        [this.#node('Shape', [x.name], `${name}.shape`), this.#list('first', [0]), this.#list('second', [1])],
        `${name}.count`,
      );
      const shape = this.#node('Concat', [count, this.#list(`${name}.one`, [1, x.channels])], `${name}.classShape`, { axis: 0 });
      const token = this.#node('Expand', [this.#weight(`${module}cls_token`), shape], `${name}.class`);
      value = this.#node('Concat', [token, value], `${name}.sequence`, { axis: 1 });
    }
    if (positions) value = this.#node('Add', [value, this.#weight(`${module}pos_embed`)], `${name}.positions`);
    return { ...x, name: value, kind: 'tokens' };
  }

  /** x times the normal distribution function of x, or x sigmoid(1.702 x). */
  #gelu(name: string, x: string, isQuick: boolean): string {
    if (isQuick) {
      const inner = this.#node('Mul', [x, this.#scalar('1.702', 1.702)], `${name}.inner`);
      return this.#node('Mul', [x, this.#node('Sigmoid', [inner], `${name}.sigmoid`)], name);
    }
    const inner = this.#node('Mul', [x, this.#scalar('sqrt(1/2)', Math.SQRT1_2)], `${name}.inner`);
    const normal = this.#node('Add', [this.#node('Erf', [inner], `${name}.erf`), this.#scalar('1', 1)], `${name}.twice`);
    return this.#node('Mul', [this.#node('Mul', [x, normal], `${name}.product`), this.#scalar('1/2', 0.5)], name);
  }

  /** softmax(q k^T / sqrt(d)) v of each head; N T 3C -> N T C. */
  #attention({ name, heads }: LayerRecord & { op: 'attention' }, x: Value): string {
    const width = x.channels / 3 / heads;
    const split = this.#node('Reshape', [x.name, this.#list(`${name}.split`, [0, -1, 3, heads, width])], `${name}.heads`);
    const part = (which: number, label: string, perm: readonly number[]) => {
      const one = this.#node('Gather', [split, this.#index(which)], `${name}.${label}s`, { axis: 2 });
      return this.#node('Transpose', [one], `${name}.${label}`, { perm });
    };
    const query = part(0, 'query', [0, 2, 1, 3]);
    const key = part(1, 'key', [0, 2, 3, 1]);
    const value = part(2, 'value', [0, 2, 1, 3]);
    const scores = this.#node('MatMul', [query, key], `${name}.products`);
    const scaled = this.#node('Mul', [scores, this.#scalar(`1/sqrt(${width})`, 1 / Math.sqrt(width))], `${name}.scores`);
    const shares = this.#node('Softmax', [scaled], `${name}.shares`, { axis: -1 });
    const mixed = this.#node('Transpose', [this.#node('MatMul', [shares, value], `${name}.mixed`)], `${name}.turned`, {
      perm: [0, 2, 1, 3],
    });
    return this.#node('Reshape', [mixed, this.#list(`${name}.join`, [0, -1, heads * width])], name);
  }

  /** (v softmax(k over positions)^T) softmax(q over channels) of each head, these as channels x positions; N 3C H W -> N C H W. */
  #efficientAttention({ name, heads }: LayerRecord & { op: 'efficientAttention' }, x: Value): string {
    const channels = x.channels / 3;
    const split = this.#node('Reshape', [x.name, this.#list(`${name}.split`, [0, 3, heads, channels / heads, -1])], `${name}.heads`);
    const part = (which: number, label: string) => this.#node('Gather', [split, this.#index(which)], `${name}.${label}`, { axis: 1 });
    const query = this.#node('Softmax', [part(0, 'query')], `${name}.queryShares`, { axis: 2 });
    const key = this.#node('Softmax', [part(1, 'key')], `${name}.keyShares`, { axis: 3 });
    const turned = this.#node('Transpose', [key], `${name}.keyTurned`, { perm: [0, 1, 3, 2] });
    const context = this.#node('MatMul', [part(2, 'value'), turned], `${name}.context`);
    const mixed = this.#node('MatMul', [context, query], `${name}.mixed`);
    return this.#node('Reshape', [mixed, this.#list(`${name}.join`, [0, channels, x.height, x.width])], name);
  }

  #token({ name, position }: LayerRecord & { op: 'token' }, x: Value): string {
    return this.#node('Gather', [x.name, this.#index(position)], name, { axis: 1 });
  }

  /** A single whole number, of no dimension: what it picks loses that dimension. */
  #index(value: number): string {
    const key = `index.${value}`;
    if (!this.#initializers.has(key))
      this.#initializers.set(key, encodeTensor(key, types.int64, [], new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)));
    return key;
  }
}

const missing = (name: string, what: string): ComFaceError =>
  new ComFaceError('INVALID_INPUT', `Expected a tensor \`${name}\` (${what}) but received none`, {
    hint: 'These weights are of another network: compare backbone, width and heads.',
  });

function encodeTensor(name: string, type: number, shape: readonly number[], bytes: Uint8Array): Message {
  const tensor = new Message();
  for (const size of shape) tensor.integer(1, size);
  return tensor.integer(2, type).text(8, name).bytes(9, bytes);
}

function encodeNode({
  op,
  inputs,
  outputs,
  attributes,
}: {
  op: string;
  inputs: string[];
  outputs: string[];
  attributes: Attributes;
}): Message {
  const node = new Message();
  for (const input of inputs) node.text(1, input);
  for (const output of outputs) node.text(2, output);
  node.text(3, outputs[0]!).text(4, op);
  for (const [name, value] of Object.entries(attributes)) node.message(5, encodeAttribute(name, value));
  return node;
}

function encodeAttribute(name: string, value: Attributes[string]): Message {
  const attribute = new Message().text(1, name);
  if (typeof value === 'number') return attribute.integer(3, value).integer(20, attributeTypes.integer);
  if ('float' in value) return attribute.float(2, value.float).integer(20, attributeTypes.float);
  for (const each of value) attribute.integer(8, each);
  return attribute.integer(20, attributeTypes.integers);
}

function encodeValue(name: string, sizes: Sizes): Message {
  const shape = new Message();
  for (const size of sizes) {
    const dimension = new Message();
    shape.message(1, typeof size === 'number' ? dimension.integer(1, size) : dimension.text(2, size));
  }
  const tensor = new Message().integer(1, types.float).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}
