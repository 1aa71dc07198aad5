// A float64 twin of every op, written apart from native/: forward as its formula says, gradients by reverse differentiation of that formula.
// An op is a few products and maps; a product's gradient walks the same terms as its value, so no gradient is written by hand here.
import { type LayerRecord, windowsAlong } from '../../lib/models/layers.ts';
import type { OpCase } from '../cases.ts';

/** Some roundings to bf16 of numbers of size 1 to 5. */
const kNear = 0.06;

type Tensors = ReadonlyMap<string, ArrayLike<number>>;

/** Numbers with the gradient of what they lead to. */
interface Variable {
  value: Float64Array;
  gradient: Float64Array;
}

/** N C H W. */
type Shape = [n: number, c: number, h: number, w: number];

/** Calls `visit(out, a, b)` for every term of out += a * b. */
type Terms = (visit: (out: number, a: number, b: number) => void) => void;

export interface TwinResult {
  losses: number[];
  /** Of the last layer, when that is not a loss. */
  output: Float64Array;
  gradients: Map<string, Float64Array>;
  statistics: Map<string, Float64Array>;
  /** Gradient of the last layer: 0 near the kink of a relu that ends the case, where rounding may take the other side. */
  seed: Float32Array;
  /** Smallest distance of an inner relu's input from 0. */
  margin: number;
}

const variable = (values: number | ArrayLike<number>): Variable => {
  const value = typeof values === 'number' ? new Float64Array(values) : Float64Array.from(values);
  return { value, gradient: new Float64Array(value.length) };
};

/** What was computed, to be walked back. */
class Tape {
  readonly back: (() => void)[] = [];

  product(count: number, a: Variable, b: Variable, terms: Terms, factor = 1): Variable {
    const y = variable(count);
    terms((o, i, j) => {
      y.value[o]! += factor * a.value[i]! * b.value[j]!;
    });
    this.back.push(() =>
      terms((o, i, j) => {
        const g = factor * y.gradient[o]!;
        a.gradient[i]! += g * b.value[j]!;
        b.gradient[j]! += g * a.value[i]!;
      }),
    );
    return y;
  }

  /** out += factor * a over terms (out, a). */
  sum(count: number, a: Variable, terms: (visit: (out: number, a: number) => void) => void, factor = 1): Variable {
    return this.product(count, a, variable([1]), (visit) => terms((o, i) => visit(o, i, 0)), factor);
  }

  map(x: Variable, f: (x: number, i: number) => number, slope: (x: number, y: number) => number): Variable {
    const y = variable(Float64Array.from(x.value, f));
    this.back.push(() => {
      for (let i = 0; i < y.value.length; i++) x.gradient[i]! += y.gradient[i]! * slope(x.value[i]!, y.value[i]!);
    });
    return y;
  }

  add(a: Variable, b: Variable, sign = 1): Variable {
    const each = (visit: (o: number, i: number) => void) => {
      for (let i = 0; i < a.value.length; i++) visit(i, i);
    };
    const [left, right] = [this.sum(a.value.length, a, each), this.sum(a.value.length, b, each, sign)];
    const y = variable(left.value.map((v, i) => v + right.value[i]!));
    this.back.push(() => {
      for (const part of [left, right]) for (let i = 0; i < y.value.length; i++) part.gradient[i]! += y.gradient[i]!;
    });
    return y;
  }
}

const each = (count: number, visit: (i: number) => void): void => {
  for (let i = 0; i < count; i++) visit(i);
};

const countOf = ([n, c, h, w]: Shape): number => n * c * h * w;

/** Layers in order; each finds its inputs by name. */
class Twin {
  readonly tape = new Tape();
  readonly values = new Map<string, { x: Variable; shape: Shape }>();
  readonly parameters = new Map<string, Variable>();
  readonly statistics = new Map<string, Float64Array>();
  readonly losses: { loss: Variable; weight: number }[] = [];
  /** What relus read. */
  readonly kinks: Variable[] = [];
  readonly #given: Tensors;
  readonly #targets: ArrayLike<number>;

  constructor(given: Tensors, targets: ArrayLike<number>) {
    this.#given = given;
    this.#targets = targets;
  }

  parameter(name: string): Variable {
    const made = variable(this.#given.get(name)!);
    this.parameters.set(name, made);
    return made;
  }

  run(layer: LayerRecord): void {
    if (layer.op === 'input') return;
    const at = (name: string) => this.values.get(name)!;
    const { x, shape } = at('input' in layer ? layer.input : layer.inputs[0]);
    const [n, c, h, w] = shape;
    const done = (y: Variable, of: Shape = shape) => this.values.set(layer.name, { x: y, shape: of });
    if (layer.op === 'conv') this.conv(layer, x, shape);
    if (layer.op === 'batchNorm') done(this.norm(layer.name, x, shape, layer.eps ?? Math.fround(1e-5), layer.momentum ?? Math.fround(0.1)));
    if (layer.op === 'relu') done(this.relu(x, Math.fround(layer.slope ?? 0)));
    if (layer.op === 'add') done(this.tape.add(x, at(layer.inputs[1]).x));
    if (layer.op === 'reluDifference') done(this.relu(this.tape.add(x, at(layer.inputs[1]).x, -1)));
    if (layer.op === 'maxPool') this.maxPool(layer, x, shape);
    if (layer.op === 'avgPool')
      done(
        this.tape.sum(n * c, x, (visit) => each(n * c * h * w, (i) => visit(Math.floor(i / (h * w)), i)), 1 / (h * w)),
        [n, c, 1, 1],
      );
    if (layer.op === 'linear') done(this.linear(layer, x, shape), [n, layer.out, h, w]);
    if (layer.op === 'tokens') this.tokens(layer, x, shape);
    if (layer.op === 'layerNorm') done(this.layerNorm(layer.name, x, shape, Math.fround(layer.eps ?? 1e-5)));
    if (layer.op === 'gelu') done(layer.quick ? this.quickGelu(x) : this.gelu(x));
    if (layer.op === 'attention') done(this.attention(layer.heads, x, shape), [n, c / 3, h, w]);
    if (layer.op === 'efficientAttention') done(this.efficientAttention(layer.heads, x, shape), [n, c / 3, h, w]);
    if (layer.op === 'flatten') done(x, [n, c * h * w, 1, 1]);
    if (layer.op === 'token')
      done(
        this.tape.sum(n * c, x, (visit) => each(n * c, (i) => visit(i, i * h * w + layer.position))),
        [n, c, 1, 1],
      );
    if (layer.op === 'rows') {
      const [from, to] = [(n * layer.from) / layer.of, (n * layer.to) / layer.of];
      done(
        this.tape.sum((to - from) * c, x, (visit) => each((to - from) * c, (i) => visit(i, from * c + i))),
        [to - from, c, 1, 1],
      );
    }
    if (layer.op === 'l2Normalize') done(this.normalize(x, n, c));
    if (layer.op === 'infoNce') this.losses.push({ loss: this.infoNce(x, n, c, Math.fround(layer.temperature)), weight: layer.weight });
    if (layer.op === 'squaredError') {
      const error = this.tape.add(x, variable(this.#targets), -1);
      const loss = this.tape.product(1, error, error, (visit) => each(n, (i) => visit(0, i, i)), 1 / n);
      this.losses.push({ loss, weight: layer.weight });
    }
  }

  relu(x: Variable, slope = 0): Variable {
    this.kinks.push(x);
    return this.tape.map(
      x,
      (v) => Math.max(v, 0) + slope * Math.min(v, 0),
      (v) => (v > 0 ? 1 : slope),
    );
  }

  /** y[n,o,i,j] = sum of w[o,c,k,l] x[n, c, i stride + k - pad, j stride + l - pad] (+ b[o]). */
  conv(layer: LayerRecord & { op: 'conv' }, x: Variable, [n, c, h, w]: Shape): void {
    const { out, kernel, stride, pad } = layer;
    const size = (edge: number) => Math.floor((edge + 2 * pad - kernel) / stride) + 1;
    const shape: Shape = [n, out, size(h), size(w)];
    const [, , rows, columns] = shape;
    const terms: Terms = (visit) => {
      for (let b = 0; b < n; b++)
        for (let o = 0; o < out; o++)
          for (let i = 0; i < rows; i++)
            for (let j = 0; j < columns; j++) {
              const y = ((b * out + o) * rows + i) * columns + j;
              for (let k = 0; k < kernel; k++)
                for (let l = 0; l < kernel; l++) {
                  const [row, column] = [i * stride + k - pad, j * stride + l - pad];
                  if (row < 0 || row >= h || column < 0 || column >= w) continue;
                  for (let d = 0; d < c; d++) visit(y, ((b * c + d) * h + row) * w + column, ((o * c + d) * kernel + k) * kernel + l);
                }
            }
    };
    let y = this.tape.product(countOf(shape), x, this.parameter(`${layer.name}.weight`), terms);
    if (layer.bias) y = this.tape.add(y, this.spread(this.parameter(`${layer.name}.bias`), shape));
    this.values.set(layer.name, { x: y, shape });
  }

  /** One number a channel, everywhere in it. */
  spread(x: Variable, [n, c, h, w]: Shape): Variable {
    return this.tape.sum(n * c * h * w, x, (visit) => each(n * c * h * w, (i) => visit(i, Math.floor(i / (h * w)) % c)));
  }

  /** (x - mean) / sqrt(variance + eps) weight + bias, of the batch; statistics begin at 0 and 1. */
  norm(name: string, x: Variable, shape: Shape, eps: number, momentum: number): Variable {
    const [n, c, h, w] = shape;
    const [total, count] = [n * c * h * w, n * h * w];
    const channel = (i: number) => Math.floor(i / (h * w)) % c;
    const perChannel = (visit: (o: number, i: number) => void) => each(total, (i) => visit(channel(i), i));
    const mean = this.tape.sum(c, x, perChannel, 1 / count);
    const centered = this.tape.add(x, this.spread(mean, shape), -1);
    const squares = (visit: (o: number, a: number, b: number) => void) => each(total, (i) => visit(channel(i), i, i));
    const variance = this.tape.product(c, centered, centered, squares, 1 / count);
    const scale = this.tape.map(
      variance,
      (v) => 1 / Math.sqrt(v + eps),
      (_, y) => -(y ** 3) / 2,
    );
    const wide: Terms = (visit) => each(total, (i) => visit(i, i, channel(i)));
    const normalized = this.tape.product(total, centered, scale, wide);
    const scaled = this.tape.product(total, normalized, this.parameter(`${name}.weight`), wide);
    this.statistics.set(
      `${name}.running_mean`,
      mean.value.map((m) => momentum * m),
    );
    this.statistics.set(
      `${name}.running_var`,
      variance.value.map((v) => 1 - momentum + (momentum * v * count) / (count - 1)),
    );
    return this.tape.add(scaled, this.spread(this.parameter(`${name}.bias`), shape));
  }

  maxPool(layer: LayerRecord & { op: 'maxPool' }, x: Variable, [n, c, h, w]: Shape): void {
    const { name, kernel, stride, pad } = layer;
    const shape: Shape = [n, c, windowsAlong(h, layer), windowsAlong(w, layer)];
    const taken = new Int32Array(countOf(shape));
    for (let y = 0; y < taken.length; y++) {
      const [j, i, image] = [y % shape[3], Math.floor(y / shape[3]) % shape[2], Math.floor(y / (shape[2] * shape[3]))];
      const window: number[] = [];
      for (let row = i * stride - pad; row < i * stride - pad + kernel; row++)
        for (let column = j * stride - pad; column < j * stride - pad + kernel; column++)
          if (row >= 0 && row < h && column >= 0 && column < w) window.push((image * h + row) * w + column);
      window.sort((a, b) => x.value[b]! - x.value[a]! || a - b);
      taken[y] = window[0]!;
    }
    const y = this.tape.sum(taken.length, x, (visit) => each(taken.length, (i) => visit(i, taken[i]!)));
    this.values.set(name, { x: y, shape });
  }

  /** y[n,o,p] = sum of w[o,c] x[n,c,p] (+ b[o]). */
  linear({ name, out, bias }: LayerRecord & { op: 'linear' }, x: Variable, [n, c, h, w]: Shape): Variable {
    const area = h * w;
    const terms: Terms = (visit) =>
      each(n * out * area, (i) => {
        const [p, o, image] = [i % area, Math.floor(i / area) % out, Math.floor(i / (area * out))];
        each(c, (d) => visit(i, (image * c + d) * area + p, o * c + d));
      });
    const y = this.tape.product(n * out * area, x, this.parameter(`${name}.weight`), terms);
    return bias ? this.tape.add(y, this.spread(this.parameter(`${name}.bias`), [n, out, h, w])) : y;
  }

  /** The class token before the positions of an image, and what is added to each of them. */
  tokens({ name, classToken, positions }: LayerRecord & { op: 'tokens' }, x: Variable, [n, c, h, w]: Shape): void {
    const [area, first] = [h * w, Number(classToken)];
    const count = area + first;
    let y = this.tape.sum(n * c * count, x, (visit) =>
      each(n * c * area, (i) => visit(Math.floor(i / area) * count + first + (i % area), i)),
    );
    if (classToken) {
      const token = this.tape.sum(n * c * count, this.parameter('cls_token'), (visit) => each(n * c, (i) => visit(i * count, i % c)));
      y = this.tape.add(y, token);
    }
    if (positions) {
      const shift = this.tape.sum(n * c * count, this.parameter('pos_embed'), (visit) =>
        each(n * c * count, (i) => visit(i, (i % count) * c + (Math.floor(i / count) % c))),
      );
      y = this.tape.add(y, shift);
    }
    this.values.set(name, { x: y, shape: [n, c, count, 1] });
  }

  /** (x - mean) / sqrt(variance + eps) weight + bias, both of the channels at a position. */
  layerNorm(name: string, x: Variable, shape: Shape, eps: number): Variable {
    const [n, c, h, w] = shape;
    const [total, area] = [n * c * h * w, h * w];
    const position = (i: number) => Math.floor(i / (c * area)) * area + (i % area);
    const perPosition = (visit: (o: number, i: number) => void) => each(total, (i) => visit(position(i), i));
    const mean = this.tape.sum(n * area, x, perPosition, 1 / c);
    const spread = this.tape.sum(total, mean, (visit) => each(total, (i) => visit(i, position(i))));
    const centered = this.tape.add(x, spread, -1);
    const squares: Terms = (visit) => each(total, (i) => visit(position(i), i, i));
    const variance = this.tape.product(n * area, centered, centered, squares, 1 / c);
    const scale = this.tape.map(
      variance,
      (v) => 1 / Math.sqrt(v + eps),
      (_, y) => -(y ** 3) / 2,
    );
    const normalized = this.tape.product(total, centered, scale, (visit) => each(total, (i) => visit(i, i, position(i))));
    const channel = (i: number) => Math.floor(i / area) % c;
    const scaled = this.tape.product(total, normalized, this.parameter(`${name}.weight`), (visit) =>
      each(total, (i) => visit(i, i, channel(i))),
    );
    return this.tape.add(scaled, this.spread(this.parameter(`${name}.bias`), shape));
  }

  /** x (1 + erf(x / sqrt 2)) / 2; erf by its series, for the inputs of cases are small. */
  gelu(x: Variable): Variable {
    const share = this.tape.map(
      x,
      (v) => {
        let [term, sum] = [v, v];
        for (let k = 1; Math.abs(term) > 1e-17; k++) {
          term *= (v * v) / (2 * k + 1);
          sum += term;
        }
        return 0.5 + (sum * Math.exp((-v * v) / 2)) / Math.sqrt(2 * Math.PI);
      },
      (v) => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI),
    );
    return this.tape.product(x.value.length, x, share, (visit) => each(x.value.length, (i) => visit(i, i, i)));
  }

  quickGelu(x: Variable): Variable {
    const share = this.tape.map(
      x,
      (v) => 1 / (1 + Math.exp(-1.702 * v)),
      (_, y) => 1.702 * y * (1 - y),
    );
    return this.tape.product(x.value.length, x, share, (visit) => each(x.value.length, (i) => visit(i, i, i)));
  }

  /** softmax(q k' / sqrt(size)) v for each head of each image; all scores at once. */
  attention(heads: number, x: Variable, [n, c, h, w]: Shape): Variable {
    const [tokens, channels] = [h * w, c / 3];
    const size = channels / heads;
    /** Where channel j of part `part` (query, key, value) of a head begins. */
    const start = (head: number, part: number, j: number) =>
      ((Math.floor(head / heads) * 3 + part) * channels + (head % heads) * size + j) * tokens;
    const count = n * heads * tokens * tokens;
    const headOf = (i: number) => Math.floor(i / (tokens * tokens));
    const [query, key] = [(i: number) => Math.floor(i / tokens) % tokens, (i: number) => i % tokens];
    const scoreTerms: Terms = (visit) =>
      each(count, (i) => each(size, (j) => visit(i, start(headOf(i), 0, j) + query(i), start(headOf(i), 1, j) + key(i))));
    const scores = this.tape.product(count, x, x, scoreTerms, 1 / Math.sqrt(size));
    const shares = this.softmax(scores, count / tokens, (i) => Math.floor(i / tokens));
    const place = (head: number, j: number) => (Math.floor(head / heads) * channels + (head % heads) * size + j) * tokens;
    const valueTerms: Terms = (visit) =>
      each(count, (i) => each(size, (j) => visit(place(headOf(i), j) + query(i), i, start(headOf(i), 2, j) + key(i))));
    return this.tape.product(n * channels * tokens, shares, x, valueTerms);
  }

  /** exp(x) over its sum in each of `groups` groups of numbers. Inputs of cases are small enough for exp as they are. */
  softmax(x: Variable, groups: number, groupOf: (i: number) => number): Variable {
    const count = x.value.length;
    const powers = this.tape.map(
      x,
      (v) => Math.exp(v),
      (_, y) => y,
    );
    const sums = this.tape.sum(groups, powers, (visit) => each(count, (i) => visit(groupOf(i), i)));
    const inverse = this.tape.map(
      sums,
      (v) => 1 / v,
      (_, y) => -(y ** 2),
    );
    return this.tape.product(count, powers, inverse, (visit) => each(count, (i) => visit(i, i, groupOf(i))));
  }

  /** v (softmax over positions of k)' (softmax over channels of q) for each head of each image, as channels x positions. */
  efficientAttention(heads: number, x: Variable, [n, c, h, w]: Shape): Variable {
    const [area, channels] = [h * w, c / 3];
    const size = channels / heads;
    const count = n * channels * area;
    /** Number i of a part (query, key, value), an image of `channels` channels, in x. */
    const inX = (part: number) => (i: number) => (Math.floor(i / (channels * area)) * 2 + part) * channels * area + i;
    const taken = (part: number) => this.tape.sum(count, x, (visit) => each(count, (i) => visit(i, inX(part)(i))));
    const head = (i: number) => Math.floor(i / (size * area));
    const query = this.softmax(taken(0), n * heads * area, (i) => head(i) * area + (i % area));
    const key = this.softmax(taken(1), n * channels, (i) => Math.floor(i / area));
    const value = taken(2);
    /** Row j of a head in its part. */
    const row = (of: number, j: number) => (of * size + j) * area;
    const contextTerms: Terms = (visit) =>
      each(n * heads * size * size, (i) => {
        const [of, o, j] = [Math.floor(i / (size * size)), Math.floor(i / size) % size, i % size];
        each(area, (p) => visit(i, row(of, o) + p, row(of, j) + p));
      });
    const context = this.tape.product(n * heads * size * size, value, key, contextTerms);
    return this.tape.product(count, context, query, (visit) =>
      each(count, (i) => each(size, (j) => visit(i, Math.floor(i / area) * size + j, row(head(i), j) + (i % area)))),
    );
  }

  normalize(x: Variable, n: number, c: number): Variable {
    const squares = this.tape.product(n, x, x, (visit) => each(n * c, (i) => visit(Math.floor(i / c), i, i)));
    const inverse = this.tape.map(
      squares,
      (v) => 1 / Math.sqrt(v),
      (_, y) => -(y ** 3) / 2,
    );
    return this.tape.product(n * c, x, inverse, (visit) => each(n * c, (i) => visit(i, i, Math.floor(i / c))));
  }

  /** Equation (1): the mean of log( sum over k != j of exp(s[j,k]) ) - s[j,p(j)], s = z z^T / temperature, p(j) half the rows away. */
  infoNce(z: Variable, rows: number, width: number, temperature: number): Variable {
    const pairs: Terms = (visit) => {
      for (let j = 0; j < rows; j++)
        for (let k = 0; k < rows; k++) if (k !== j) for (let d = 0; d < width; d++) visit(j * rows + k, j * width + d, k * width + d);
    };
    const s = this.tape.product(rows * rows, z, z, pairs, 1 / temperature);
    // A constant of each row, taken out of the logarithm again; exp would overflow without.
    const top = Float64Array.from({ length: rows }, (_, j) => s.value.subarray(j * rows, (j + 1) * rows).reduce((a, b) => Math.max(a, b)));
    const powers = this.tape.map(
      s,
      (v, i) => Math.exp(v - top[Math.floor(i / rows)]!),
      (_, y) => y,
    );
    const others = (visit: (o: number, i: number) => void) =>
      each(rows * rows, (i) => {
        if (Math.floor(i / rows) !== i % rows) visit(Math.floor(i / rows), i);
      });
    const logs = this.tape.map(
      this.tape.sum(rows, powers, others),
      (v, j) => Math.log(v) + top[j]!,
      (v) => 1 / v,
    );
    const mean = this.tape.sum(1, logs, (visit) => each(rows, (j) => visit(0, j)), 1 / rows);
    const positives = (visit: (o: number, i: number) => void) => each(rows, (j) => visit(0, j * rows + ((j + rows / 2) % rows)));
    return this.tape.add(mean, this.tape.sum(1, s, positives, 1 / rows), -1);
  }
}

/**
 * Runs a case forward and back.
 * @param seed Gradient of the last layer, for a graph without a loss, by its size.
 */
export function twin(
  c: Pick<OpCase, 'layers' | 'batch'>,
  parameters: Tensors,
  images: ArrayLike<number>,
  targets: ArrayLike<number>,
  seed: (count: number) => Float32Array,
): TwinResult {
  const run = new Twin(parameters, targets);
  const input = c.layers[0]!;
  if (input.op !== 'input') throw new Error('the first record is the input');
  run.values.set(input.name, { x: variable(images), shape: [c.batch, input.channels, input.height, input.width] });
  for (const layer of c.layers) run.run(layer);
  for (const { loss, weight } of run.losses) loss.gradient[0] = Math.fround(weight);
  const { op, name: end } = c.layers.at(-1)!;
  const last = run.values.get(end)?.x;
  const near = op === 'relu' || op === 'reluDifference' ? run.kinks.pop() : undefined;
  const entering = last ? seed(last.value.length).map((v, i) => (Math.abs(near?.value[i] ?? 1) < kNear ? 0 : v)) : new Float32Array();
  last?.gradient.set(entering);
  for (const back of run.tape.back.reverse()) back();
  const gradients = new Map([[input.name, run.values.get(input.name)!.x.gradient]]);
  for (const [name, { gradient }] of run.parameters) gradients.set(name, gradient);
  return {
    losses: run.losses.map(({ loss }) => loss.value[0]!),
    output: last?.value ?? new Float64Array(),
    gradients,
    statistics: run.statistics,
    seed: entering,
    margin: Math.min(...run.kinks.map(({ value }) => value.reduce((least, v) => Math.min(least, Math.abs(v)), Number.POSITIVE_INFINITY))),
  };
}
