// What can happen to the files of a checkpoint on a shelf: every kind of damage that R5 draws, each a pure function of its draw.
import { below, Purpose, philox } from '../../lib/data/random.ts';

export type Part = 'weights.safetensors' | 'optimizer.safetensors' | 'manifest.json';
export const parts: readonly Part[] = ['weights.safetensors', 'optimizer.safetensors', 'manifest.json'];

/** The three files of a checkpoint. */
export type Files = Record<Part, Uint8Array>;
/** What is left of them; a part that is null is gone. */
export type Damaged = Record<Part, Uint8Array | null>;

/** Integers in [0, n), the same for the same number. */
export type Draw = (n: number) => number;

export function drawer(number: number): Draw {
  let at = 0;
  return (n) => below(philox(5n, Purpose.test, number, at++, 0)[0], n);
}

const kSector = 512;

function flipped(bytes: Uint8Array, draw: Draw): Uint8Array {
  const out = bytes.slice();
  for (let flips = 1 + draw(3); flips > 0; flips--) {
    const bit = draw(out.length * 8);
    out[bit >> 3]! ^= 1 << (bit & 7);
  }
  return out;
}

function zeroed(bytes: Uint8Array, draw: Draw): Uint8Array {
  const from = kSector * draw(Math.ceil(bytes.length / kSector));
  return bytes.slice().fill(0, from, from + kSector * (1 + draw(8)));
}

/** One sector lies where another belongs. */
function misplaced(bytes: Uint8Array, draw: Draw): Uint8Array {
  const sectors = Math.floor(bytes.length / kSector);
  if (sectors < 2) return bytes.slice(draw(bytes.length));
  const out = bytes.slice();
  const from = kSector * draw(sectors);
  out.set(bytes.subarray(from, from + kSector), kSector * draw(sectors));
  return out;
}

function extended(bytes: Uint8Array, draw: Draw): Uint8Array {
  const out = new Uint8Array(bytes.length + 1 + draw(2 * kSector));
  out.fill(draw(2) * 0x20, bytes.length);
  out.set(bytes);
  return out;
}

export interface Around {
  /** The same run at another step. */
  earlier: Files;
  /** The same step of another run. */
  other: Files;
}

/** By name: what becomes of a checkpoint. */
export const damages: Record<string, (files: Files, part: Part, draw: Draw, around: Around) => Damaged> = {
  flips: (files, part, draw) => ({ ...files, [part]: flipped(files[part], draw) }),
  'cut short': (files, part, draw) => ({ ...files, [part]: files[part].slice(0, draw(files[part].length)) }),
  extended: (files, part, draw) => ({ ...files, [part]: extended(files[part], draw) }),
  'zero blocks': (files, part, draw) => ({ ...files, [part]: zeroed(files[part], draw) }),
  'misplaced blocks': (files, part, draw) => ({ ...files, [part]: misplaced(files[part], draw) }),
  'swapped between steps': (files, part, _, { earlier }) => ({ ...files, [part]: earlier[part] }),
  'swapped between runs': (files, part, _, { other }) => ({ ...files, [part]: other[part] }),
  'swapped with another': (files, part) => ({ ...files, [part]: files[parts[(parts.indexOf(part) + 1) % parts.length]!] }),
  'of another step': (_files, _part, _, { earlier }) => earlier,
  missing: (files, part) => ({ ...files, [part]: null }),
};

/** Whether a manifest still says the same, as when an exponent's e becomes an E or blanks follow the last line. */
export function saysTheSame(a: Uint8Array, b: Uint8Array): boolean {
  const parse = (bytes: Uint8Array) => JSON.stringify(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  try {
    return parse(a) === parse(b);
  } catch {
    return false;
  }
}
