// Weights files that are not what they should be: programs in disguise, sizes that are not there, damage, other kinds. Each is refused by name.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readWeights, readWeightsFile, type WeightsFile } from '../lib/weights/read.ts';
import { MemorySource } from '../lib/weights/source.ts';
import { dictPickle, latin1, little, storedZip, streamMagic, tensorOpcodes, torchStream, torchZip } from './figures/parsers/archives.mjs';
import { refusal, temporaryFolder } from './support.ts';

const readMemory = (bytes: Uint8Array): Promise<WeightsFile> => readWeights(new MemorySource(bytes, 'a.pth'));

const floats = (count: number) => Buffer.from(Float32Array.from({ length: count }, (_, i) => i).buffer);
const short = (text: string) => `\x8c${String.fromCharCode(text.length)}${text}`;
const bytes4 = (bytes: Uint8Array) => `B${little(bytes.length, 4).toString('latin1')}${Buffer.from(bytes).toString('latin1')}`;

describe('a pickle that runs a program when Python reads it makes nothing happen here', () => {
  const within = mkdtempSync(join(tmpdir(), 'comface-')); // the cases name it before any test runs
  afterAll(() => rmSync(within, { recursive: true }));
  const made = join(within, 'made');
  const call = `cos\nsystem\n(S'touch ${made}'\ntR`;
  const evaluated = `cbuiltins\neval\n(S'__import__("os").system("touch ${made}")'\ntR`;
  const pickles: [what: string, opcodes: string][] = [
    ['os.system', call],
    ['posix.system', call.replace('cos', 'cposix')],
    ['builtins.eval', evaluated],
    ['Python 2 for eval', evaluated.replace('builtins', '__builtin__')],
    ['an instance of os.system', `(S'touch ${made}'\nios\nsystem\n`],
    ['a name on the stack', `${short('os')}${short('system')}\x93(S'touch ${made}'\ntR`],
    ['a new object', `csubprocess\nPopen\n(S'touch ${made}'\nt\x81`],
    ['a tensor made by another name', `ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nN(S'touch ${made}'\ntNtR`],
    ['the factory of a dict', `ccollections\ndefaultdict\n(cos\nsystem\ntR`],
    ['the class of an array', `cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(K\0tS'b'\ntR`],
    ['a state', `cargparse\nNamespace\n)\x81}(X\x0c\0\0\0__setstate__cos\nsystem\nub`],
    ['a stream within', `ctorch.storage\n_load_from_bytes\n(${bytes4(Buffer.concat([streamMagic, latin1(`}.${call}.`)]))}tR`],
    [
      'a stream within a stream',
      `ctorch.storage\n_load_from_bytes\n(${bytes4(torchStream(latin1('ctorch.storage\n_load_from_bytes\n.')))}tR`,
    ],
    ['torch.load itself', `ctorch.serialization\nload\n(S'${made}'\ntR`],
  ];
  const containers: [what: string, make: (opcodes: string) => Buffer][] = [
    ['a pickle', (opcodes) => latin1(`\x80\x02${opcodes}.`)],
    ['a pickle of protocol 0', (opcodes) => latin1(`(dp0\n${opcodes}.`)],
    ['an archive', (opcodes) => torchZip(latin1(`\x80\x02${opcodes}.`))],
    ['a stream', (opcodes) => torchStream(latin1(`\x80\x02${opcodes}.`))],
    ['the system of a stream', (opcodes) => Buffer.concat([streamMagic, latin1(`\x80\x02${opcodes}.`)])],
  ];
  const cases = containers.flatMap(([container, make]) =>
    pickles.map(([what, opcodes]): [string, Buffer] => [`${what} in ${container}`, make(opcodes)]),
  );
  test.each(cases)('%s', async (_, bytes) => {
    const path = join(temporaryFolder(), 'model.pth');
    writeFileSync(path, bytes);
    const { code, message, hint } = await refusal(() => readWeightsFile(path));
    expect({ code, message }).toEqual({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/expected tensors and plain values at byte \d+ but found the code `[\w.]+`/),
    });
    expect(hint).toBeTruthy();
    expect(existsSync(made)).toBe(false);
  });

  test('calls within calls hold no stack', async () => {
    const levels = 'q\x010h\0Nh\x01\x87'.repeat(20_000);
    const bytes = latin1(`\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\0)${levels}R.`);
    expect((await refusal(() => readMemory(bytes))).code).toBe('CORRUPT_FILE');
  });

  test('names that all of JavaScript has are no way out, as keys, names and paths', async () => {
    const keys = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'];
    const dict = keys.map((key) => `${short(key)}}${short('polluted')}K\x01s`).join('');
    const { others } = await readMemory(latin1(`\x80\x04}(${dict}u.`));
    expect([...others]).toEqual(keys.map((key) => [`${key}.polluted`, 1]));
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });
});

describe('sizes that are not there', () => {
  const quadrillion = 10 ** 15;
  const tensor = (more: object) => dictPickle(tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1], ...more }));
  const cases: [what: string, pickle: Buffer, found: string][] = [
    ['10^15 elements', tensor({ shape: [quadrillion], strides: [1] }), 'one that reaches number 999999999999999'],
    ['10^15 elements of one number', tensor({ shape: [quadrillion], strides: [0] }), '1000000000000000: it repeats numbers'],
    ['a storage of 10^15 numbers', tensor({ count: quadrillion, shape: [quadrillion], strides: [1] }), ''],
    ['2^53 elements', tensor({ shape: [2 ** 27, 2 ** 27], strides: [0, 0] }), 'the shape [134217728, 134217728]'],
    ['2^53 elements before none', tensor({ shape: [2 ** 27, 2 ** 27, 0], strides: [0, 0, 0] }), 'the shape [134217728, 134217728, 0]'],
    ['65 dimensions', tensor({ shape: Array(65).fill(1), strides: Array(65).fill(1) }), '65'],
    ['a step past the end', tensor({ strides: [3, 2] }), 'one that reaches number 7'],
    ['an offset past the end', tensor({ offset: 1 }), 'one that reaches number 6'],
    ['an offset of 2^52', tensor({ offset: 2 ** 52 }), 'one that reaches number'],
    ['a stride too few', tensor({ strides: [3] }), '[3]'],
    ['a storage of another size', tensor({ count: 7 }), ''],
    ['a shape of texts', latin1(tensor({}).toString('latin1').replace('(K\x02K\x03t', '(K\x02Nt')), 'the shape [2, null]'],
    [
      'a shape of large numbers',
      latin1(tensor({}).toString('latin1').replace('(K\x02K\x03t', '(\x8a\x09\0\0\0\0\0\0\0\0\x01K\x03t')),
      'the shape [18446744073709551616, 3]',
    ],
    ['a negative size', latin1(tensor({}).toString('latin1').replace('(K\x02K\x03t', '(J\xff\xff\xff\xffK\x03t')), 'the shape [-1, 3]'],
    ['a negative stride', latin1(tensor({}).toString('latin1').replace('(K\x03K\x01t', '(K\x03J\xff\xff\xff\xfft')), '[3, -1]'],
    ['a negative offset', latin1(tensor({}).toString('latin1').replace('tQK\0', 'tQJ\xff\xff\xff\xff')), '-1'],
  ];
  const isRepeat = (found: string) => found.endsWith('repeats numbers');
  test.each(cases)('%s in an archive', async (_, pickle, found) => {
    const error = await refusal(() => readMemory(torchZip(pickle, { '0': floats(6) })));
    expect(error).toMatchObject({
      code: isRepeat(found) ? 'INVALID_INPUT' : 'CORRUPT_FILE',
      message: expect.stringMatching(/ at byte \d+ but found /),
    });
    expect(error.message).toContain(found);
  });

  test.each(cases)('%s in a stream', async (_, pickle, found) => {
    const error = await refusal(() => readMemory(torchStream(pickle, [['0', 6, floats(6)]])));
    expect(error).toMatchObject({
      code: isRepeat(found) ? 'INVALID_INPUT' : 'CORRUPT_FILE',
      message: expect.stringMatching(/ at byte \d+ but found /),
    });
    expect(error.message).toContain(found);
  });

  const npy = (header: string, data: Uint8Array = floats(6), version = 1) =>
    Buffer.concat([latin1('\x93NUMPY'), Buffer.of(version, 0), little(header.length, version === 1 ? 2 : 4), latin1(header), data]);
  const fields = (shape: string, descr = "'<f4'", order = 'False') =>
    `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }\n`;
  test.each<[string, Buffer, 'CORRUPT_FILE' | 'INVALID_INPUT', string]>([
    ['10^15 elements', npy(fields('(1000000000000000,)')), 'CORRUPT_FILE', 'one that reaches number 999999999999999'],
    ['a number too many', npy(fields('(5,)')), 'CORRUPT_FILE', 'expected 20 bytes of numbers at byte 10 but found 24'],
    ['half a number', npy(fields('(6,)'), floats(6).subarray(1)), 'CORRUPT_FILE', 'reaches number 5'],
    ['a size that is none', npy(fields('(2L, 3 3)')), 'CORRUPT_FILE', 'the shape [2, NaN]'],
    ['a header longer than the file', npy(fields('(6,)')).subarray(0, 40), 'CORRUPT_FILE', '40 bytes in all'],
    ['a header of 4 GiB', Buffer.concat([latin1('\x93NUMPY\x02\0\xff\xff\xff\xff'), floats(6)]), 'INVALID_INPUT', '4294967295 bytes'],
    ['no shape', npy("{'descr': '<f4', 'fortran_order': False, }"), 'CORRUPT_FILE', "{'descr': '<f4'"],
    ['a shape twice', npy(fields("(6,), 'shape': (6,)")), 'CORRUPT_FILE', 'shape again'],
    ['code in the header', npy("{'descr': __import__('os').system('id')}"), 'CORRUPT_FILE', "'descr': __import__"],
    ['text behind the header', npy(`${fields('(6,)')}x`), 'CORRUPT_FILE', 'x"'],
    ['objects', npy(fields('(6,)', "'|O'")), 'INVALID_INPUT', 'the type "|O"'],
    ['texts', npy(fields('(6,)', "'<U1'")), 'INVALID_INPUT', 'the type "<U1"'],
    ['records', npy(fields('(6,)', "[('a', '<f4')]")), 'INVALID_INPUT', "the type \"[('a', '<f4')]\""],
    ['complex numbers', npy(fields('(3,)', "'<c8'")), 'INVALID_INPUT', 'the type "<c8"'],
    ['a later version', npy(fields('(6,)'), floats(6), 4), 'INVALID_INPUT', 'version 4'],
  ])('%s in a .npy', async (_, bytes, code, found) => {
    const error = await refusal(() => readMemory(bytes));
    expect(error).toMatchObject({ code, message: expect.stringContaining(found) });
  });

  const array = (shape: string, data: string, type = 'f4') =>
    dictPickle(
      `cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01${shape}cnumpy\ndtype\nU${String.fromCharCode(type.length)}${type}K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89${data}tb`,
    );
  const transposed = (axes: string) =>
    dictPickle(
      `cnumpy._core.numeric\n_frombuffer\n(C\x18${floats(6).toString('latin1')}cnumpy\ndtype\nU\x02f4\x85RK\x02K\x03\x86U\x01K${axes}tR`,
    );
  test.each<[string, Buffer, string]>([
    [
      '10^15 elements',
      array(`\x8a\x07${little(quadrillion, 7).toString('latin1')}\x85`, 'U\x04\0\0\0\0'),
      'one that reaches number 999999999999999',
    ],
    ['fewer bytes than elements', array('K\x02\x85', 'U\x04\0\0\0\0'), 'one that reaches number 1'],
    ['more bytes than elements', array('K\x01\x85', 'U\x05\0\0\0\0\0'), 'expected 4 bytes of numbers'],
    ['a shape that is a number', array('K\x01', 'U\x04\0\0\0\0'), 'expected the shape and the dtype of an array'],
    ['a shape of texts', array('U\x011\x85', 'U\x04\0\0\0\0'), 'the shape ["1"]'],
    ['a shape of large numbers', array('\x8a\x09\0\0\0\0\0\0\0\0\x01\x85', 'U\x04\0\0\0\0'), 'the shape [18446744073709551616]'],
    ['axes that stand there twice', transposed('K\0K\0\x86'), 'expected an order of 2 axes'],
    ['an axis too many', transposed('K\0K\x01K\x02\x87'), 'expected an order of 2 axes'],
    ['no bytes', array('K\x01\x85', 'N'), 'expected the bytes of an array'],
  ])('%s in an array of a pickle', async (_, bytes, found) => {
    expect(await refusal(() => readMemory(bytes))).toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringContaining(found) });
  });

  test('the same array without a flaw is read', async () => {
    const { tensors } = await readMemory(array('K\x01\x85', 'U\x04\0\0\x80?'));
    expect([...(await tensors.get('a')!.float32())]).toEqual([1]);
    const turned = (await readMemory(transposed('K\x01K\0\x86'))).tensors.get('a')!;
    expect(turned.shape).toEqual([3, 2]);
    expect([...(await turned.float32())]).toEqual([0, 3, 1, 4, 2, 5]);
  });
});

describe('damage', () => {
  const pickle = dictPickle(tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1] }));
  const zip = torchZip(pickle, { '0': floats(6) });
  const stream = torchStream(pickle, [['0', 6, floats(6)]]);
  const changed = (bytes: Buffer, at: number, by: Uint8Array) => Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + by.length)]);
  const end = zip.length - 22;
  const plain = { count: 6, shape: [2, 3], strides: [3, 1] };
  const twoOf = (other: object) => dictPickle(`${tensorOpcodes(plain)}X\x01\0\0\0b${tensorOpcodes({ ...plain, ...other })}`);
  const partOf = (offset: number, count: number | string) => {
    const part = `X\x01\0\0\0vK${String.fromCharCode(offset)}${typeof count === 'string' ? count : `K${String.fromCharCode(count)}`}\x87`;
    return dictPickle(tensorOpcodes({ ...plain, shape: [0], strides: [1], part }));
  };

  test.each([
    ['in rows', [3, 1]],
    ['in columns', [1, 2]],
  ])('a changed number in an archive is found out when its tensor, %s, is read', async (_, strides) => {
    const whole = torchZip(dictPickle(tensorOpcodes({ count: 6, shape: [2, 3], strides })), { '0': floats(6) });
    const { tensors } = await readMemory(changed(whole, whole.indexOf(floats(6)), Buffer.of(1)));
    const { code, message } = await refusal(() => tensors.get('a')!.float32());
    expect({ code, message }).toEqual({
      code: 'CORRUPT_FILE',
      message: expect.stringMatching(/expected bytes with the checksum 0x[\da-f]{8} at byte \d+/),
    });
  });

  test.each<[string, Buffer, string]>([
    ['an archive without its end', zip.subarray(0, end), 'none: it may be cut off'],
    ['half an archive', zip.subarray(0, zip.length / 2), 'none: it may be cut off'],
    [
      'an archive without its beginning',
      Buffer.concat([latin1('PK\x03\x04'), zip.subarray(40)]),
      'an archive|a directory|the header|an entry',
    ],
    ['a changed pickle', changed(zip, zip.indexOf(pickle) + 2, latin1(')')), 'the checksum'],
    ['a directory past the end', changed(zip, end + 16, little(zip.length, 4)), 'a directory that ends before its end record'],
    ['a directory of 2^32 bytes', changed(zip, end + 12, little(0xffffffff, 4)), 'a directory that ends before its end record'],
    ['65,535 entries', changed(zip, end + 10, little(65535, 2)), '65535 in'],
    ['an entry too few', changed(zip, end + 10, little(3, 2)), 'the end of the archive'],
    ['an entry too many', changed(zip, end + 10, little(5, 2)), 'the end of its directory|5 in'],
    [
      'a name twice',
      storedZip([
        ['a/data.pkl', pickle],
        ['a/data.pkl', pickle],
      ]),
      '"a/data.pkl" again',
    ],
    [
      'two pickles',
      storedZip([
        ['a/data.pkl', pickle],
        ['b/data.pkl', pickle],
      ]),
      'found 2',
    ],
    ['a storage that is missing', torchZip(pickle), 'an entry "archive/data/0" in the archive'],
    ['a storage that is cut', torchZip(pickle, { '0': floats(5) }), 'a storage of the 20 bytes of "archive/data/0"'],
    [
      'a storage whose header leads past the end',
      changed(zip, zip.indexOf('archive/data/0') - 4, little(0xffff, 2)),
      '24 bytes of "archive/data/0"',
    ],
    ['a storage whose header is none', changed(zip, zip.indexOf('archive/data/0') - 30, little(0, 4)), 'the header of "archive/data/0"'],
    ['a storage past the end', changed(zip, zip.lastIndexOf('archive/data/0') - 4, little(zip.length, 4)), '30 bytes'],
    ['a storage of two sizes', changed(zip, zip.lastIndexOf('archive/data/0') - 26, little(20, 4)), '24 bytes of "archive/data/0"'],
    [
      'a name longer than the directory',
      changed(zip, zip.lastIndexOf('archive/version') - 18, little(0xffff, 2)),
      'the end of its directory',
    ],
    ['a directory without its last byte', changed(zip, end + 12, little(zip.readUInt32LE(end + 12) - 1, 4)), 'the end of its directory'],
    ['64-bit sizes that are missing', changed(zip, zip.lastIndexOf('archive/data/0') - 22, little(0xffffffff, 4)), 'the 64-bit sizes of'],
    ['a byte order that is none', torchZip(pickle, { '0': floats(6) }, { order: 'middle' }), '"middle"'],
    ['a stream without its storages', stream.subarray(0, stream.length - 32), 'a storage of 24 bytes'],
    ['a stream without its last number', stream.subarray(0, stream.length - 4), 'a storage of 24 bytes'],
    ['a stream that names a storage as two types', torchStream(twoOf({ type: 'IntStorage' }), [['0', 6, floats(6)]]), '6 numbers of I32'],
    ['a stream that names a storage in two sizes', torchStream(twoOf({ count: 7 }), [['0', 6, floats(6)]]), '7 numbers of F32'],
    ['a part past the end of its storage', torchStream(partOf(4, 3), [['0', 6, floats(6)]]), 'one that reaches number 6'],
    ['a part of less than nothing', torchStream(partOf(4, 'J\xff\xff\xff\xff'), [['0', 6, floats(6)]]), 'the shape [-1]'],
    ['a stream of another count', torchStream(pickle, [['0', 7, floats(7)]]), 'one of 7'],
    ['a stream without a storage', torchStream(pickle), 'storage "0" in the list of storages'],
    ['a stream with one that nobody names', torchStream(latin1('N.'), [['0', 6, floats(6)]]), 'the storages that were named'],
    ['half the pickles of a stream', stream.subarray(0, streamMagic.length + 40), 'before the end'],
    ['another version of streams', changed(stream, 18, Buffer.of(1)), 'version 1001'],
    ['a pickle with more behind it', latin1('\x80\x02}.N.'), 'the end of the file'],
    ['nothing', Buffer.alloc(0), 'an empty file'],
  ])('%s', async (_, bytes, found) => {
    const error = await refusal(() => readMemory(bytes));
    expect(error).toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringMatching(new RegExp(found.replaceAll(/[()[\]]/g, '\\$&'))) });
    expect(error.hint).toBeTruthy();
  });
});

describe('another kind of file is named', () => {
  const pickle = dictPickle('N');
  const tar = (name: string) => {
    const bytes = Buffer.alloc(1024);
    bytes.write(name);
    bytes.write('ustar', 257);
    return bytes;
  };
  test.each<[string, Buffer]>([
    ['a web page', latin1('\n <!DOCTYPE html><html>')],
    ['a web page', latin1('<html><head><title>Quota exceeded')],
    ['a Git LFS pointer', latin1('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n')],
    ['a gzip file', latin1('\x1f\x8b\x08\0')],
    ['an HDF5 file (Keras, MATLAB 7.3)', latin1('\x89HDF\r\n\x1a\n')],
    ['an ONNX model', latin1('\x08\x08\x12\x07pytorch')],
    ['a TensorFlow SavedModel', latin1('\x08\x01\x12\x07')],
    [
      'the index of a TensorFlow checkpoint',
      Buffer.concat([latin1('\0\0\x01\x02'), Buffer.alloc(100), Buffer.from('57fb808b247547db', 'hex')]),
    ],
    ['a tar archive', tar('weights/model.bin')],
    ['a torch file of before 0.1.10 (tar)', tar('./storages')],
    ['a JSON file', latin1('{"metadata": {}, "weight_map": {}}')],
    ['bytes that begin with "nothing"', latin1('nothing')],
    ["NumPy's .npz", storedZip([['arr_0.npy', pickle]])],
    [
      'a Keras model',
      storedZip([
        ['model.weights.h5', pickle],
        ['config.json', pickle],
      ]),
    ],
    ['a zip archive of 1 other files', storedZip([['readme.txt', pickle]])],
    [
      'a TorchScript program',
      storedZip([
        ['a/data.pkl', pickle],
        ['a/constants.pkl', pickle],
      ]),
    ],
    [
      'a TorchScript program',
      storedZip([
        ['a/data.pkl', pickle],
        ['a/code/a.py', pickle],
      ]),
    ],
    ['big-endian ones', torchZip(pickle, {}, { order: 'big' })],
    ['big-endian ones', torchStream(pickle, [], false)],
    ['"archive/byteorder", compressed (method 8)', torchZip(pickle, {}, { method: 8 })],
    ['"archive/byteorder", encrypted', torchZip(pickle, {}, { flags: 1 })],
    [
      'F8_E5M2',
      Buffer.concat([little(56, 8), latin1('{"a":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,1]}}'.padEnd(56)), latin1('x')]),
    ],
  ])('%s', async (kind, bytes) => {
    const error = await refusal(() => readMemory(bytes));
    expect(error).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining(`but found ${kind}`) });
    expect(error.hint).toBeTruthy();
  });
});

describe('trees that name more than they hold', () => {
  test('a dict that holds itself is said to', async () => {
    expect([...(await readMemory(latin1('\x80\x04}q\0(X\x01\0\0\0ah\0X\x01\0\0\0bK\x05u.'))).others]).toEqual([
      ['a', 'itself'],
      ['b', 5],
    ]);
  });

  test('a part that stands in two places is named in both', async () => {
    expect([...(await readMemory(latin1('\x80\x04}(X\x01\0\0\0a}q\0X\x01\0\0\0xK\x05sX\x01\0\0\0bh\0u.'))).others.keys()]).toEqual([
      'a.x',
      'b.x',
    ]);
  });

  test.each<[string, string, string]>([
    [
      'thirty lists of two that are the one before',
      `]q\0${Array.from({ length: 30 }, (_, i) => `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}eq${String.fromCharCode(i + 1)}`).join('')}.`,
      'too many places',
    ],
    ['lists a hundred deep', `${']'.repeat(100)}${'a'.repeat(99)}.`, 'at most 64 deep'],
    [
      'a long name for many',
      `}X\0\x80\0\0${'n'.repeat(32768)}}q\x01(${Array.from({ length: 256 }, (_, i) => `K${String.fromCharCode(i)}N`).join('')}us.`,
      'too many places',
    ],
    ['two tensors of one name', '', 'two called "a.b"'],
  ])('%s', async (what, opcodes, found) => {
    const tensor = tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1] });
    const two = dictPickle(`}X\x01\0\0\0b${tensor}sX\x03\0\0\0a.b${tensor}`);
    const bytes = what === 'two tensors of one name' ? torchZip(two, { '0': floats(6) }) : latin1(`\x80\x02${opcodes}`);
    const error = await refusal(() => readMemory(bytes));
    expect(error).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining(found) });
  });
});
