// NumPy's file format, version 1.0 (numpy.lib.format): one header, then the numbers as they lie in memory.

const kMagic = '\x93NUMPY\x01\x00';
/** So that the numbers begin where any of them may. */
const kAlignment = 64;

/** A matrix as the bytes of an .npy file: little-endian float32, rows x columns, row after row. */
export function encodeNpy(values: Float32Array, rows: number, columns: number): Uint8Array {
  const words = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const before = kMagic.length + 2;
  const length = Math.ceil((before + words.length + 1) / kAlignment) * kAlignment;
  const header = Buffer.from(`${kMagic}..${words.padEnd(length - before - 1)}\n`, 'latin1');
  header.writeUInt16LE(length - before, kMagic.length);
  return Buffer.concat([header, Buffer.from(values.buffer, values.byteOffset, values.byteLength)]);
}
