// Weights files of every container, made by PyTorch, NumPy and safetensors themselves (golden/weights.py): what they hold comes out bit for bit,
// and no more of a file is read than somebody asks for.
import { appendFileSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeNpy } from '../lib/use/npy.ts';
import { readWeights, readWeightsFile, type WeightsFile } from '../lib/weights/read.ts';
import { type ByteSource, MemorySource } from '../lib/weights/source.ts';
import { dictPickle, little, tensorOpcodes, torchStream, torchZip, type ZipOptions } from './figures/parsers/archives.mjs';
import { refusal, temporaryFolder } from './support.ts';

interface Expected {
  dtype: string;
  shape: number[];
  values: (number | 'nan' | 'inf' | '-inf')[];
  whole?: string[];
}

const folder = new URL('golden/weights/', import.meta.url).pathname;
const { cases } = JSON.parse(readFileSync(`${folder}weights.json`, 'utf8')) as {
  cases: { files: Record<string, string>; tensors: Record<string, Expected> }[];
};
const files = cases.flatMap(({ files, tensors }) => Object.entries(files).map(([name, container]) => ({ name, container, tensors })));

const numberOf = (value: Expected['values'][number]): number =>
  typeof value === 'number' ? value : { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY }[value];

describe('what PyTorch, NumPy and safetensors write', () => {
  test.each(files)('$name holds the tensors that they say', async ({ name, container, tensors }) => {
    const file = await readWeightsFile(folder + name);
    expect(file.container).toBe(container);
    const names = [[...file.tensors.keys()], Object.keys(tensors)];
    if (container === 'safetensors') for (const list of names) list.sort(); // it has an order of its own
    expect(names[0]).toEqual(names[1]);
    for (const [key, tensor] of file.tensors) {
      const { dtype, shape, values, whole } = tensors[key]!;
      expect({ key, dtype: tensor.dtype, shape: [...tensor.shape] }).toEqual({ key, dtype, shape });
      expect({ key, values: await tensor.float32() }).toEqual({ key, values: Float32Array.from(values, numberOf) });
      if (whole) expect([...(await tensor.int64())].map(String)).toEqual(whole);
    }
  });

  test.each(['checkpoint.zip.pth', 'checkpoint.stream.pth'])('%s says all else that a checkpoint holds', async (name) => {
    const { others } = await readWeightsFile(folder + name);
    const group = 'optimizer.param_groups.0';
    expect(Object.fromEntries([...others].filter(([key]) => !key.startsWith(group)))).toEqual({
      epoch: 3,
      arch: 'resnet50',
      best: 0.75,
      large: 2n ** 70n,
      'args.lr': 0.1,
      'args.out': null,
      'args.distributed': false,
      'args.steps': '[1, 2]',
      device: 'cuda:0',
      size: '[3, 4]',
      dtype: 'torch.float32',
      history: '[0, 1, 2, 3, 4, 5, 6, 7, ... 20 in all]',
      'by_class.1': 'one',
      seen: '[5]',
    });
    expect(others.get(`${group}.lr`)).toBe(0.5);
    expect(others.get(`${group}.params`)).toBe('[0, 1, 2, 3, 4, 5]');
  });

  test.each([0, 1, 2, 3, 4, 5])('numbers, texts and arrays of objects in a pickle of protocol %i are said too', async (protocol) => {
    const { others } = await readWeightsFile(`${folder}numpy.protocol${protocol}.pkl`);
    expect(Object.fromEntries(others)).toEqual({ names: 'an array of "|O8"', mean: 0.5, count: 2n ** 60n, letter: 'ä€😀\\\n' });
  });

  test('the metadata of safetensors is said too', async () => {
    expect([...(await readWeightsFile(`${folder}types.safetensors`)).others]).toEqual([['format', 'pt']]);
  });

  test.each<[string, string, string]>([
    ['expanded.pth', '1000000: it repeats numbers', 'tensor.contiguous()'],
    ['negative.pth', 'a view of one', 'tensor.clone()'],
    ['module.pth', 'the code `torch.nn.modules.conv.Conv2d`', 'model.state_dict()'],
    ['script.pt', 'a TorchScript program', 'torch.jit.load(file).state_dict()'],
  ])('%s is refused in words', async (name, found, hint) => {
    const error = await refusal(() => readWeightsFile(folder + name));
    expect(error).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining(found), hint: expect.stringContaining(hint) });
  });

  test('matrices that we write ourselves are read', async () => {
    const { tensors } = await readMemory(encodeNpy(Float32Array.of(1, 2, 3, 4, 5, 6), 3, 2));
    expect(tensors.get('tensor')).toMatchObject({ dtype: 'F32', shape: [3, 2] });
    expect(await tensors.get('tensor')?.float32()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  });

  test('a name says nothing: the bytes do', async () => {
    const path = join(temporaryFolder(), 'weights.npy');
    writeFileSync(path, readFileSync(`${folder}tensor.stream.pth`));
    expect((await readWeightsFile(path)).container).toBe('torch-legacy');
  });
});

const readMemory = (bytes: Uint8Array): Promise<WeightsFile> => readWeights(new MemorySource(bytes, 'a.pth'));

/** Counts what is read of it. */
class Counting implements ByteSource {
  readonly name = 'a.pth';
  readonly size: number;
  count = 0;
  readonly #source: MemorySource;

  constructor(bytes: Uint8Array) {
    this.#source = new MemorySource(bytes, this.name);
    this.size = bytes.length;
  }

  read(at: number, into: Uint8Array): Promise<void> {
    this.count += into.length;
    return this.#source.read(at, into);
  }

  during<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }
}

const million = 2 ** 20;
const floats = (count: number) => Buffer.from(Float32Array.from({ length: count }, (_, i) => i).buffer);
const matrix = (more = {}) => dictPickle(tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1], ...more }));

describe('reading', () => {
  const large = floats(4 * million);
  const pickle = dictPickle(tensorOpcodes({ count: 4 * million, offset: 5, shape: [2, 3], strides: [3, 1] }));
  test.each<[string, Uint8Array]>([
    ['an archive', torchZip(pickle, { '0': large })],
    ['a stream', torchStream(pickle, [['0', 4 * million, large]])],
  ])('a tensor of %s of 16 MiB takes no more than its own bytes', async (_, bytes) => {
    const source = new Counting(bytes);
    const { tensors } = await readWeights(source);
    expect(source.count).toBeLessThan(400_000);
    const before = source.count;
    expect([...(await tensors.get('a')!.float32())]).toEqual([5, 6, 7, 8, 9, 10]);
    expect(source.count - before).toBe(24);
  });

  test.each(['FloatStorage', 'IntStorage'])('a tensor of several megabytes of %s comes out whole', async (type) => {
    const count = 700_001;
    const bytes = floats(count);
    const shape = { count, shape: [count], strides: [1] };
    const { tensors } = await readMemory(torchZip(dictPickle(tensorOpcodes({ type, ...shape })), { '0': bytes }));
    const numbers = type === 'FloatStorage' ? Float32Array : Int32Array;
    const expected = Float32Array.from(new numbers(bytes.buffer, bytes.byteOffset, count));
    expect(Buffer.from((await tensors.get('a')!.float32()).buffer).equals(Buffer.from(expected.buffer))).toBe(true);
  });

  test('a file stays open for nobody, and all tensors may be read at once', async () => {
    const path = `${folder}types.zip.pth`;
    const { tensors } = await readWeightsFile(path);
    const open = () => readdirSync('/proc/self/fd').filter((fd) => linkOf(`/proc/self/fd/${fd}`) === path).length;
    expect(open()).toBe(0);
    const work = [...tensors.values()].map((tensor) => tensor.float32());
    expect(await Promise.all(work)).toHaveLength(13);
    expect(open()).toBe(0);
  });

  test('a file that changes in the meantime is an error', async () => {
    const path = join(temporaryFolder(), 'a.pth');
    writeFileSync(path, torchZip(matrix(), { '0': floats(6) }));
    const { tensors } = await readWeightsFile(path);
    appendFileSync(path, 'x');
    const { code, message } = await refusal(() => tensors.get('a')!.float32());
    expect({ code, message }).toEqual({ code: 'IO', message: `${path} has changed since it was first read` });
  });

  test('a missing file and a folder are named', async () => {
    expect(await refusal(() => readWeightsFile('/nowhere/a.pth'))).toMatchObject({
      code: 'IO',
      message: 'Cannot read /nowhere/a.pth: there is no such file',
    });
    expect(await refusal(() => readWeightsFile(folder))).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('a folder'),
    });
  });

  test.each<[string, ZipOptions]>([
    ['of 64 bits', { is64: true }],
    ['with a comment', { comment: 'PK\x05\x06 is not the end of this archive' }],
    ['without checksums', { sum: () => 0 }],
  ])('an archive %s is read', async (_, options) => {
    const { tensors } = await readMemory(torchZip(matrix(), { '0': floats(6) }, options));
    expect([...(await tensors.get('a')!.float32())]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('a stream with more in its pickles than is read at first', async () => {
    const note = 'x'.repeat(600_000);
    const text = `X\x04\0\0\0noteX${little(note.length, 4).toString('latin1')}${note}`;
    const { tensors, others } = await readMemory(
      torchStream(dictPickle(`${tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1] })}${text}`), [['0', 6, floats(6)]]),
    );
    expect(others.get('note')).toBe(note);
    expect([...(await tensors.get('a')!.float32())]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('parts of storages in old streams are read', async () => {
    const part = 'X\x01\0\0\x00vK\x04K\x06\x87';
    const stream = torchStream(dictPickle(tensorOpcodes({ count: 10, shape: [2, 3], strides: [3, 1], part })), [['0', 10, floats(10)]]);
    const { tensors } = await readMemory(stream);
    expect([...(await tensors.get('a')!.float32())]).toEqual([4, 5, 6, 7, 8, 9]);
  });

  test('only whole numbers of 64 bits are given as such', async () => {
    const { tensors } = await readMemory(torchZip(matrix(), { '0': floats(6) }));
    expect(await refusal(() => tensors.get('a')!.int64())).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('F32'),
    });
  });
});

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
