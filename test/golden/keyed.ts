// The twin of keyed.py: numbers that Python and TypeScript make alike, and the sketch of a large tensor.
import { Purpose, philox, unit } from '../../lib/data/random.ts';

export const kProjections = 16;

/** FNV-1a, 32 bits, of plain ASCII. */
function hashOf(text: string): bigint {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return BigInt(value >>> 0);
}

/** The first `count` 32-bit words under the key `text`. */
export function words(text: string, count: number): Uint32Array {
  const seed = hashOf(text);
  const out = new Uint32Array(Math.ceil(count / 4) * 4);
  for (let i = 0; i < out.length; i += 4) {
    const draw = philox(seed, Purpose.test, i / 4, 0, 0);
    for (let k = 0; k < 4; k++) out[i + k] = draw[k]!;
  }
  return out.subarray(0, count);
}

/** Uniform in [center - spread, center + spread), rounded to float once at the end. */
export function keyed(text: string, count: number, spread = 1, center = 0): Float32Array {
  const drawn = words(text, count);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = center + spread * (2 * unit(drawn[i]!) - 1);
  return out;
}

const kPeriod = 2039;
const base = keyed('generators/base', kPeriod);

/** A few numbers over and over, uniform, from a place that the name tells; generatorfiles.py (tiled) states the same. */
export function tiled(name: string, count: number, spread = 1, center = 0): Float32Array {
  const begin = words(name, 1)[0]! % kPeriod;
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = center + spread * base[(begin + i) % kPeriod]!;
  return out;
}

/** Norm and projections on signs: bit k of the 16 of entry i is the sign of i in projection k. */
export function sketch(text: string, value: Float32Array): Float64Array {
  const bits = new Uint16Array(words(`${text}#`, Math.ceil(value.length / 2)).slice().buffer);
  const negative = new Float64Array(kProjections);
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < value.length; i++) {
    const x = value[i]!;
    const signs = bits[i]!;
    sum += x;
    squares += x * x;
    for (let k = 0; k < kProjections; k++) negative[k]! += ((signs >> k) & 1) * x;
  }
  return Float64Array.of(Math.sqrt(squares), ...negative.map((x) => sum - 2 * x));
}

/** The keyed value of a parameter or statistic by its name and shape; make.py (weights_of) states the same rule. scale: of a norm. */
export function weightOf(key: string, name: string, dims: readonly number[], scale = 1): Float32Array {
  const count = dims.reduce((a, b) => a * b, 1);
  const text = `${key}/${name}`;
  if (name.endsWith('running_mean')) return keyed(text, count, 0.2);
  if (name.endsWith('running_var')) return keyed(text, count, 0.5, 1);
  if (dims.length > 1) return keyed(text, count, Math.sqrt((dims.length === 4 ? 6 : 3) / (count / dims[0]!)));
  if (name.endsWith('bias')) return keyed(text, count, 0.2);
  return keyed(text, count, 0.3 * scale, scale);
}
