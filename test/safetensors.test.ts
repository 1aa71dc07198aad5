// Safetensors files: what is written is read back bit for bit, and nothing hostile gets through.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ComFaceError } from '../lib/errors.ts';
import { decodeSafetensors, encodeSafetensors, type Tensor } from '../lib/weights/safetensors.ts';

const f32 = (shape: number[], ...values: number[]): Tensor => ({ dtype: 'F32', shape, data: new Float32Array(values) });
const i64 = (shape: number[], ...values: bigint[]): Tensor => ({ dtype: 'I64', shape, data: new BigInt64Array(values) });

const sample = new Map<string, Tensor>([
  ['conv1.weight', f32([2, 1, 3], 1, -2.5, 3, 4, 5, -0)],
  ['bn1.num_batches_tracked', i64([], 2n ** 63n - 1n)],
  ['scalar', f32([], 7)],
  ['empty', f32([0, 3])],
  ['__proto__', f32([1], Number.NaN)],
  ['käse "7"\n', i64([2], -1n, 5n)],
]);

/** A file of this header text and so many bytes of data. */
function file(header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

function refusal(bytes: Uint8Array): ComFaceError {
  try {
    decodeSafetensors(bytes, 'weights.safetensors');
  } catch (error) {
    if (error instanceof ComFaceError) return error;
    throw error;
  }
  throw new Error('decoded');
}

describe('round trips', () => {
  test('tensors, their order and the metadata come back bit for bit', () => {
    const metadata = { format: 'pt', ['__proto__']: 'x' };
    const decoded = decodeSafetensors(encodeSafetensors(sample, metadata), 'a');
    expect([...decoded.tensors]).toEqual([...sample]);
    expect(Object.entries(decoded.metadata)).toEqual(Object.entries(metadata));
  });

  test('no tensors at all is a file too', () => {
    expect(decodeSafetensors(encodeSafetensors(new Map()), 'a')).toEqual({ tensors: new Map(), metadata: {} });
  });

  test('any names and shapes come back', () => {
    const tensor = fc.tuple(fc.boolean(), fc.array(fc.nat(3), { maxLength: 4 })).map(([float, shape]) => {
      const count = shape.reduce((a, b) => a * b, 1);
      return float ? f32(shape, ...Array(count).keys()) : i64(shape, ...[...Array(count).keys()].map(BigInt));
    });
    const names = fc.string({ unit: 'binary' }).filter((name) => name !== '__metadata__');
    fc.assert(
      fc.property(fc.array(fc.tuple(names, tensor), { maxLength: 8 }), (entries) => {
        const tensors = new Map(entries);
        expect([...decodeSafetensors(encodeSafetensors(tensors), 'a').tensors]).toEqual([...tensors]);
      }),
    );
  });

  test('data starts at a multiple of 8 and every tensor at a multiple of its item', () => {
    const bytes = encodeSafetensors(sample);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(length % 8).toBe(0);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    for (const { dtype, data_offsets } of Object.values<{ dtype: string; data_offsets: number[] }>(header)) {
      expect((data_offsets[0] ?? 0) % (dtype === 'F32' ? 4 : 8)).toBe(0);
    }
  });

  test('decoded arrays are fresh even from an unaligned view or a Buffer', () => {
    const bytes = encodeSafetensors(sample);
    const shifted = new Uint8Array(bytes.length + 3).subarray(3);
    shifted.set(bytes);
    for (const source of [shifted, Buffer.from(bytes)]) {
      const { tensors } = decodeSafetensors(source, 'a');
      source.fill(0);
      expect([...tensors]).toEqual([...sample]);
    }
  });

  test('a file as the reference library writes it is read: spaces between and after, data in another order than the names', () => {
    const header = ' '.repeat(3);
    const text = `{ "b": {"dtype" : "F32", "data_offsets": [4, 8], "shape": [ 1 ] }, "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]} }${header}`;
    expect([...decodeSafetensors(file(text, 8), 'a').tensors.keys()]).toEqual(['b', 'a']);
  });

  test('shapes that do not match their data and the reserved name are refused', () => {
    expect(() => encodeSafetensors(new Map([['a', f32([3], 1)]]))).toThrow('Expected a shape of 1 elements for `a` but received [3]');
    expect(() => encodeSafetensors(new Map([['a', f32([-1, -1], 1)]]))).toThrow(ComFaceError);
    expect(() => encodeSafetensors(new Map([['__metadata__', f32([], 1)]]))).toThrow(ComFaceError);
  });
});

const entry = (shape: string, offsets: string, dtype = 'F32') => `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const lengthOnly = (length: bigint, total: number) => {
  const bytes = new Uint8Array(total);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
};

describe('hostile files are refused, each with its byte', () => {
  const cases: [string, Uint8Array, number][] = [
    ['an empty file', new Uint8Array(), 0],
    ['seven bytes', new Uint8Array(7), 0],
    ['a header longer than the file', lengthOnly(9n, 16), 0],
    ['a header length of 2^64 - 1', lengthOnly(2n ** 64n - 1n, 16), 0],
    ['a header over 100 MB', lengthOnly(100_000_001n, 100_000_100), 0],
    ['a header of no bytes', lengthOnly(0n, 8), 8],
    ['a header of no bytes before a brace', new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0x7b]), 8],
    ['a space before the brace', file(' {}'), 8],
    ['a list', file('[]'), 8],
    ['an unclosed header', file('{'), 9],
    ['an unclosed string', file('{"a'), 11],
    ['a string that ends in a backslash', file('{"a\\'), 12],
    ['text after the header', file('{}x'), 10],
    ['a comma at the end', file(`{"a":${entry('[]', '[0,4]')},}`, 4), 61],
    ['bytes that are not UTF-8', file(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x7b, 0x7d, 0x7d])), 9],
    ['a control character in a name', file('{"\u0001":{}}'), 9],
    ['a name twice', file(`{"a":${entry('[]', '[0,4]')},"a":${entry('[]', '[0,4]')}}`, 4), 61],
    ['a name twice, once escaped', file(`{"a":${entry('[]', '[0,4]')},"\\u0061":${entry('[]', '[0,4]')}}`, 4), 61],
    ['a field twice', file('{"a":{"dtype":"F32","dtype":"F32"}}'), 28],
    ['a metadata key twice', file('{"__metadata__":{"k":"1","k":"2"}}'), 33],
    ['metadata that is no text', file('{"__metadata__":{"k":1}}'), 29],
    ['a field that the format has not', file('{"a":{"size":1}}'), 14],
    ['a missing dtype', file('{"a":{"shape":[],"data_offsets":[0,0]}}'), 9],
    ['a missing shape', file('{"a":{"dtype":"F32","data_offsets":[0,0]}}'), 9],
    ['missing offsets', file('{"a":{"dtype":"F32","shape":[]}}'), 9],
    ['three offsets', file(`{"a":${entry('[]', '[0,4,4]')}}`, 4), 9],
    ['an unknown dtype', file(`{"a":${entry('[]', '[0,4]', 'F33')}}`, 4), 22],
    ['a negative size', file(`{"a":${entry('[-1]', '[0,4]')}}`, 4), 37],
    ['a broken size', file(`{"a":${entry('[1.5]', '[0,4]')}}`, 4), 38],
    ['a size with a leading zero', file(`{"a":${entry('[01]', '[0,4]')}}`, 4), 37],
    ['a size of 2^53', file(`{"a":${entry('[9007199254740992]', '[0,4]')}}`, 4), 37],
    ['a size of a thousand digits', file(`{"a":${entry(`[1${'0'.repeat(999)}]`, '[0,4]')}}`, 4), 37],
    ['sizes whose product passes 2^53', file(`{"a":${entry('[4294967296,4294967296]', '[0,0]')}}`), 9],
    ['sizes whose product passes 2^53 before a zero', file(`{"a":${entry('[4294967296,4294967296,0]', '[0,0]')}}`), 9],
    ['65 sizes', file(`{"a":${entry(`[${Array(65).fill(1).join()}]`, '[0,4]')}}`, 4), 165],
    ['offsets that run backwards', file(`{"a":${entry('[]', '[0,4]')},"b":${entry('[]', '[4,0]')}}`, 8), 61],
    ['offsets that do not fit the shape', file(`{"a":${entry('[2]', '[0,4]')}}`, 4), 9],
    ['a hole at the start', file(`{"a":${entry('[]', '[4,8]')}}`, 8), 9],
    ['a hole between two', file(`{"a":${entry('[]', '[0,4]')},"b":${entry('[]', '[8,12]')}}`, 12), 61],
    ['an overlap', file(`{"a":${entry('[2]', '[0,8]')},"b":${entry('[2]', '[4,12]')}}`, 12), 62],
    ['a byte too many', file(`{"a":${entry('[]', '[0,4]')}}`, 5), 65],
    ['a byte too few', file(`{"a":${entry('[]', '[0,4]')}}`, 3), 64],
    ['a terabyte that is not there', file(`{"a":${entry('[274877906944]', '[0,1099511627776]')}}`), 85],
  ];
  test.each(cases)('%s', (_, bytes, offset) => {
    const { code, message, hint } = refusal(bytes);
    expect({ code, message }).toEqual({ code: 'CORRUPT_FILE', message: expect.stringContaining(` at byte ${offset} `) });
    expect(message).toMatch(/^weights.safetensors: expected .+ but found .+/);
    expect(hint).toBeTruthy();
  });

  test.each(['F16', 'BF16', 'F64', 'U8'])('%s, legal and not read here, is refused by its name', (dtype) => {
    const { code, message } = refusal(file(`{"a":${entry('[]', '[0,2]', dtype)}}`, 2));
    expect(code).toBe('INVALID_INPUT');
    expect(message).toContain(dtype);
  });

  test('2,000 mutations of a valid file are decoded or refused with ComFaceError, nothing else', () => {
    const valid = encodeSafetensors(sample, { format: 'pt' });
    const place = fc.nat(valid.length - 1);
    const mutation = fc.oneof(
      fc.tuple(fc.constant('set'), place, fc.nat(255)),
      fc.tuple(fc.constant('cut'), place, fc.nat(40)),
      fc.tuple(fc.constant('double'), place, fc.nat(40)),
    );
    let refused = 0;
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
        let bytes = valid.slice();
        for (const [kind, at, value] of mutations) {
          if (kind === 'set') bytes.fill(value, Math.min(at, bytes.length), Math.min(at + 1, bytes.length));
          else
            bytes = Buffer.concat([bytes.subarray(0, kind === 'cut' ? at : at + value), bytes.subarray(kind === 'cut' ? at + value : at)]);
        }
        try {
          decodeSafetensors(bytes, 'a');
        } catch (error) {
          refused++;
          if (!(error instanceof ComFaceError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
    expect(refused).toBeGreaterThan(1000);
  });
});
