// @ts-check
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { decodeSafetensors, encodeSafetensors } from '../../../dist/weights/safetensors.js';
import { bytesOf, draft, f32, mutated, nest, numbered, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */
/** @typedef {import('./common.mjs').Random} Random */
/** @typedef {import('./common.mjs').Tensor} Tensor */

/** @param {string} header @param {number} dataBytes @param {bigint} [length] */
function tensorFile(header, dataBytes, length) {
  const text = bytesOf(header);
  const file = Buffer.alloc(8 + text.length + dataBytes);
  file.writeBigUInt64LE(length ?? BigInt(text.length));
  text.copy(file, 8);
  return file;
}

/** A header of a few tensors that is right but for, at times, one thing. @param {Random} random */
function drawTensorFile(random) {
  const entries = [];
  const flaw = random.below(24);
  let at = 0;
  for (let i = random.below(4); i >= 0; i--) {
    const dtype = random.pick(['F32', 'I64', 'F32', 'I64', flaw === 0 ? 'BF16' : flaw === 1 ? 'X' : 'F32']);
    const shape = Array.from({ length: random.below(4) }, () => random.below(4));
    if (flaw === 2) shape.push(2 ** (random.below(54) + 1) - random.below(2), 0);
    // A hole before it, or an overlap with the one before; all the rest fits.
    if (flaw === 8) at = Math.max(0, at + 4 * (random.below(5) - 2));
    const size = shape.reduce((a, b) => a * b, 1) * (dtype === 'I64' ? 8 : 4);
    const end = at + size + (flaw === 3 ? random.below(9) - 4 : 0);
    const begin = flaw === 4 ? at + random.below(9) - 4 : at;
    const name = JSON.stringify(
      random.pick(['a', 'b', '__proto__', 'conv1.weight', 'käse', '\ud800', '', 'constructor']) + (flaw === 5 ? '' : i),
    );
    const fields = [`"dtype":"${dtype}"`, `"shape":${JSON.stringify(shape)}`, `"data_offsets":[${begin},${end}]`];
    if (flaw === 6) fields.push(random.pick(fields));
    entries.push(`${name}:{${(random.oneIn(2) ? fields : fields.reverse()).join(random.oneIn(4) ? ' ,\n' : ',')}}`);
    at = end;
  }
  if (random.oneIn(3)) entries.push(`"__metadata__":{"format":"pt"${random.oneIn(4) ? ',"__proto__":"x"' : ''}}`);
  const extra = flaw === 7 ? random.below(9) - 4 : 0;
  return tensorFile(`{${entries.reverse().join(',')}}${' '.repeat(random.below(9))}`, Math.max(0, Math.min(at, 4096) + extra));
}

const tensorSeeds = [
  encodeSafetensors(new Map([['a', f32([1])]])),
  encodeSafetensors(
    new Map([
      ['conv1.weight', f32([1, 2, 3, 4, 5, 6], [2, 1, 3])],
      ['n', /** @type {Tensor} */ ({ dtype: 'I64', shape: [], data: BigInt64Array.of(7n) })],
      ['__proto__', f32([Number.NaN])],
      ['none', f32([], [0, 3])],
    ]),
    { format: 'pt' },
  ),
  tensorFile(
    '{ "b": {"dtype" : "F32", "data_offsets": [4, 8], "shape": [ 1 ] }, "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]} }  ',
    8,
  ),
  tensorFile('{}', 0),
];
const tensorTokens = tokensOf(
  ...[
    '"dtype":"F32",',
    '"shape":[',
    '"data_offsets":[0,4]',
    '"__metadata__":{',
    'F64',
    'I64',
    'BF16',
    '"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},',
  ],
);
const tensorEntry = (/** @type {string} */ name, /** @type {string} */ shape, /** @type {string} */ offsets) =>
  `"${name}":{"dtype":"F32","shape":${shape},"data_offsets":${offsets}}`;

/** @type {Parser} */
export const safetensors = {
  input(random) {
    const bytes = random.oneIn(3) ? drawTensorFile(random) : mutated(random, tensorSeeds, tensorTokens);
    if (random.oneIn(3)) {
      draft.start(Buffer.from(bytes));
      draft.mutate(random, tensorSeeds, tensorTokens);
    } else draft.start(Buffer.from(bytes));
    // Mostly with the length that a header of these bytes has, or few would get past the first check.
    const made = draft.bytes;
    const end = made.lastIndexOf(0x7d) + 1;
    if (made.length >= 8 && end > 8 && !random.oneIn(5)) made.writeBigUInt64LE(BigInt(end - 8));
    return made;
  },
  parse: (input) => decodeSafetensors(input, 'fuzz.safetensors'),
  check({ tensors, metadata }, input) {
    let size = 8 + Number(input.readBigUInt64LE());
    for (const { data } of tensors.values()) size += data.byteLength;
    assert.equal(size, input.length, 'every byte of the file is in one tensor');
    const again = decodeSafetensors(encodeSafetensors(tensors, metadata), 'again');
    assert.deepEqual(Object.entries(again.metadata), Object.entries(metadata));
    assert.equal(again.tensors.size, tensors.size);
    for (const [name, { dtype, shape, data }] of tensors) {
      const twin = /** @type {Tensor} */ (again.tensors.get(name));
      const same = twin.dtype === dtype && String(twin.shape) === String(shape) && bufferOf(twin.data).equals(bufferOf(data));
      assert(same, `the tensor ${JSON.stringify(name)} came back changed`);
    }
  },
  bombs: [
    ['a header length of 2^64 - 1', () => tensorFile('{}', 0, 2n ** 64n - 1n)],
    ['a header length of 100 MB', () => tensorFile('{}', 0, 100_000_000n)],
    ['a terabyte that is not there', () => tensorFile(`{${tensorEntry('a', '[274877906944]', '[0,1099511627776]')}}`, 0)],
    ['2^53 - 1 elements', () => tensorFile(`{${tensorEntry('a', '[9007199254740991]', '[0,36028797018963964]')}}`, 0)],
    ['2^53 elements', () => tensorFile(`{${tensorEntry('a', '[9007199254740992]', '[0,0]')}}`, 0)],
    ['a product over 2^53', () => tensorFile(`{${tensorEntry('a', '[4294967296,4294967296,0]', '[0,0]')}}`, 0)],
    ['60,000 sizes', () => tensorFile(`{${tensorEntry('a', `[${numbered(60_000, () => '1')}]`, '[0,4]')}}`, 4)],
    ['60,000 levels', () => tensorFile(nest('{"a":', 60_000), 0)],
    ['60,000 lists', () => tensorFile(`{"a":{"shape":${nest('[', 60_000)}`, 0)],
  ],
  long: [
    ['a million spaces', () => tensorFile(`{${' '.repeat(1e6)}`, 0)],
    ['a name of a million letters', () => tensorFile(`{${tensorEntry('a'.repeat(1e6), '[]', '[0,4]')}}`, 0)],
    ['a name of a million backslashes', () => tensorFile(`{"${'\\'.repeat(1e6)}":`, 0)],
    ['a number of a million digits', () => tensorFile(`{${tensorEntry('a', `[1${'0'.repeat(1e6)}]`, '[0,4]')}}`, 4)],
    ['empty tensors', () => tensorFile(`{${numbered(4000, (i) => tensorEntry(i.toString(36), '[0]', '[0,0]'))}}`, 0)],
    ['metadata', () => tensorFile(`{"__metadata__":{${numbered(16_000, (i) => `"${i.toString(36)}":""`)}}}`, 0)],
  ],
};

/** @param {NodeJS.ArrayBufferView} view */
const bufferOf = (view) => Buffer.from(view.buffer, view.byteOffset, view.byteLength);
