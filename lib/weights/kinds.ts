// Tells what a weights file is by its bytes, whatever its name ends in; a file of another kind gets a name that people know and a thing to do.
import { ComFaceError, show } from '../errors.js';
import type { ByteSource } from './source.js';
import { readBytes } from './source.js';
import { isTorchStream } from './torchfile.js';

export type Container = 'safetensors' | 'torch' | 'torch-legacy' | 'pickle' | 'npy';

const kHeadBytes = 512;
const again = 'Download or copy the file again.';
const elsewhere = 'Convert the weights to safetensors or a torch file with the program that wrote them.';
const unpack = 'Unpack it and name the weights file in it.';

/** Other kinds by what they begin with, at a place. */
const others: readonly (readonly [start: string, at: number, kind: string, hint: string])[] = [
  [
    'version https://git-lfs.github.com/spec/',
    0,
    'a Git LFS pointer',
    'The weights themselves are elsewhere: run `git lfs pull`, or download the file from its page.',
  ],
  ['\x1f\x8b', 0, 'a gzip file', unpack],
  ['BZh', 0, 'a bzip2 file', unpack],
  ['\xfd7zXZ\0', 0, 'an xz file', unpack],
  ['\x28\xb5\x2f\xfd', 0, 'a zstd file', unpack],
  ["7z\xbc\xaf'\x1c", 0, 'a 7-Zip archive', unpack],
  ['Rar!', 0, 'a RAR archive', unpack],
  ['\x89HDF\r\n\x1a\n', 0, 'an HDF5 file (Keras, MATLAB 7.3)', elsewhere],
  ['GGUF', 0, 'a GGUF file', elsewhere],
  ['TFL3', 4, 'a TensorFlow Lite model', elsewhere],
  ['MATLAB 5.0', 0, 'a MATLAB file', elsewhere],
  ['%PDF', 0, 'a PDF', again],
  ['\x89PNG', 0, 'a picture', again],
  ['\xff\xd8\xff', 0, 'a picture', again],
  ['\x7fELF', 0, 'a program', again],
];

/** How pickles of protocol 0 and 1 begin that hold a dict, a list or an object. */
const oldPickle = /^(\(dp\d+\n|\(d[qr]|\}[qr(.]|\(lp\d+\n|\][qr(.]|c[\w.]+\n\w+\n|\(i[\w.]+\n)/;
/** The members of an archive of torch before 0.1.10. */
const tarMembers = ['sys_info', 'pickle', 'storages', 'tensors'];
/** The end of a TensorFlow checkpoint's index, a table of LevelDB. */
const kTableEnd = '\x57\xfb\x80\x8b\x24\x75\x47\xdb';

/** What a file is. @throws ComFaceError CORRUPT_FILE when it is empty; INVALID_INPUT when it is another kind, with its name; IO. */
export async function containerOf(source: ByteSource): Promise<Container> {
  if (source.size === 0)
    throw new ComFaceError('CORRUPT_FILE', `${source.name}: expected weights but found an empty file`, { hint: again });
  const bytes = await readBytes(source, 0, Math.min(kHeadBytes, source.size));
  const head = Buffer.from(bytes).toString('latin1');
  const container = knownContainer(bytes, head);
  if (container) return container;
  const tail = Buffer.from(await readBytes(source, Math.max(0, source.size - 8), Math.min(8, source.size))).toString('latin1');
  const [kind, hint] = otherKind(bytes, head, tail);
  throw new ComFaceError('INVALID_INPUT', `${source.name}: expected a torch, safetensors, pickle or .npy file but found ${kind}`, { hint });
}

function knownContainer(bytes: Uint8Array, head: string): Container | undefined {
  if (head.startsWith('PK\x03\x04') || head.startsWith('PK\x05\x06')) return 'torch';
  if (isTorchStream(bytes)) return 'torch-legacy';
  if (head.startsWith('\x93NUMPY')) return 'npy';
  // A header of less than 4 GiB, then its brace.
  if (head.slice(4, 9) === '\0\0\0\0{') return 'safetensors';
  if ((bytes[0] === 0x80 && bytes.length > 1 && bytes[1]! < 0x10) || oldPickle.test(head)) return 'pickle';
  return undefined;
}

function otherKind(bytes: Uint8Array, head: string, tail: string): [kind: string, hint: string] {
  for (const [start, at, kind, hint] of others) if (head.startsWith(start, at)) return [kind, hint];
  if (/^(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|!--|\?xml)/i.test(head))
    return ['a web page', 'The download gave a page in place of the file; open the address in a browser and download the file itself.'];
  if (head.slice(257, 262) === 'ustar') {
    if (!tarMembers.includes(head.slice(0, head.indexOf('\0')).replace(/^\.\//, ''))) return ['a tar archive', unpack];
    return ['a torch file of before 0.1.10 (tar)', 'Load it in PyTorch and save it again with torch.save().'];
  }
  if (tail === kTableEnd) return ['the index of a TensorFlow checkpoint', 'Convert the checkpoint to PyTorch or safetensors first.'];
  if (bytes[0] === 8 && bytes[1]! <= 20 && [0x12, 0x1a, 0x22, 0x32, 0x3a, 0x42].includes(bytes[2]!)) {
    return bytes[1]! < 3 ? ['a TensorFlow SavedModel', elsewhere] : ['an ONNX model', 'Name the weights that the model was exported from.'];
  }
  if (/^\s*[{[]/.test(head)) return ['a JSON file', 'Name the weights file itself; an index of several files is not read.'];
  return [`bytes that begin with ${show(head.slice(0, 16))}`, 'Name a weights file; if it is one, it may be incomplete or damaged.'];
}
