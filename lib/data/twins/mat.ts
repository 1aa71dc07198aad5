// Writes a matrix as a MATLAB file of version 5 (MathWorks, "MAT-File Format", level 5), uncompressed.

/** Data types of the format, and the class of a matrix of doubles. */
const kType = { int8: 1, int32: 5, uint32: 6, double: 9, matrix: 14 } as const;
const kDoubleClass = 6;
const kHeaderBytes = 128;

const padded = (bytes: number): number => 8 * Math.ceil(bytes / 8);

/**
 * A file with one matrix of doubles.
 *
 * @param name Of the variable, ASCII.
 * @param values rows x columns numbers, column by column as MATLAB has them.
 */
export function matrixFile(name: string, rows: number, columns: number, values: ArrayLike<number>): Uint8Array {
  const nameTag = name.length <= 4 ? 0 : 8;
  const nameBytes = nameTag === 0 ? 8 : padded(8 + name.length);
  const contentBytes = 16 + 16 + nameBytes + 8 + 8 * rows * columns;
  const file = Buffer.alloc(kHeaderBytes + 8 + contentBytes);
  file.write('MATLAB 5.0 MAT-file, drawn by comface'.padEnd(116), 'latin1');
  file.writeUInt16LE(0x0100, 124);
  file.write('IM', 126, 'latin1');
  let at = kHeaderBytes;
  const words = (...list: readonly number[]) => {
    for (const word of list) at = file.writeInt32LE(word, at);
  };
  words(kType.matrix, contentBytes);
  words(kType.uint32, 8, kDoubleClass, 0);
  words(kType.int32, 8, rows, columns);
  // A name of up to four letters lies in its tag.
  if (nameTag === 0) words(kType.int8 | (name.length << 16));
  else words(kType.int8, name.length);
  file.write(name, at, 'latin1');
  at += nameBytes - (nameTag === 0 ? 4 : 8);
  words(kType.double, 8 * rows * columns);
  for (let i = 0; i < rows * columns; i++) at = file.writeDoubleLE(values[i]!, at);
  return file;
}
