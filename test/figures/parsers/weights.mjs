// @ts-check
// Weights files of others: pickles, torch's archives and streams, .npy, safetensors of all types. Small tensors are read to their numbers.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { readdirSync, readFileSync } from 'node:fs';
import { readWeights } from '../../../dist/weights/read.js';
import { MemorySource } from '../../../dist/weights/source.js';
import { beginOf, readZipDirectory } from '../../../dist/weights/zip.js';
import { dictPickle, latin1, little, storedZip, streamMagic, tensorOpcodes, torchStream, torchZip } from './archives.mjs';
import { draft, mutated, numbered, tokensOf } from './common.mjs';
import { safetensors } from './safetensors.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */
/** @typedef {import('./common.mjs').Random} Random */
/** @typedef {import('../../../dist/weights/read.js').WeightsFile} WeightsFile */

const folder = new URL('../../golden/weights/', import.meta.url);
const made = (/** @type {string} */ end) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(end))
    .map((name) => readFileSync(new URL(name, folder)));
/** @type {string[]} */
const plain = JSON.parse(readFileSync(new URL('weights.json', folder), 'utf8')).plain;

const archives = made('.zip.pth');
const streams = made('.stream.pth');
/** A module of NVIDIA's generators and a network of TensorFlow, as their own programs pickle them (test/golden/generators.py). */
const generators = ['module.pkl', 'network.pkl'].map((name) => readFileSync(new URL(`../../golden/generators/${name}`, import.meta.url)));
const pickles = [...made('.pkl'), ...plain.map((text) => Buffer.from(text, 'base64')), ...generators];
/** What an archive's tensors look at, whatever their pickle has become. @type {Record<string, Buffer>} */
const storages = Object.fromEntries(Array.from({ length: 8 }, (_, key) => [key, Buffer.alloc(24 << (key % 3), key + 60)]));
const inner = await Promise.all(
  archives.map(async (bytes) => {
    const source = new MemorySource(bytes, 'seed');
    const [entry] = [...(await readZipDirectory(source)).values()].filter(({ name }) => name.endsWith('/data.pkl'));
    const at = await beginOf(source, /** @type {import('../../../dist/weights/zip.js').ZipEntry} */ (entry));
    return bytes.subarray(at, at + /** @type {any} */ (entry).size);
  }),
);

const text = (/** @type {string} */ word) => `X${little(word.length, 4).toString('latin1')}${word}`;
/** Opcodes that make one value out of none, and ones that make one of what lies there. */
const values = [
  ...[
    'N',
    '\x88',
    'K\x05',
    'M\x05\x01',
    'J\xff\xff\xff\xff',
    'I12\n',
    'L34L\n',
    'F1.5\n',
    'G?\xf0\0\0\0\0\0\0',
    '\x8a\x02\x34\x12',
    '\x8a\x09\0\0\0\0\0\0\0\0\x01',
  ],
  ...[
    text('a'),
    text('latin1'),
    text('storage'),
    text('0'),
    "S'\\x00a'\n",
    'V\\u20ac\n',
    'U\x04\0\0\x80?',
    'C\x04\0\0\x80?',
    '\x8c\x01b',
    '\x96\x02\0\0\0\0\0\0\0ab',
  ],
  ...[']', '}', ')', '\x8f', '(', 'h\0', 'h\x01', 'h\x02', 'g1\n', 'j\x03\0\0\0'],
  ...[
    'ctorch\nFloatStorage\n',
    'ctorch\nByteStorage\n',
    'ctorch\nHalfStorage\n',
    'ctorch\nSize\n',
    'ctorch\ndevice\n',
    'ctorch\nfloat32\n',
  ],
  ...[
    'ctorch._utils\n_rebuild_tensor_v2\n',
    'ctorch._utils\n_rebuild_tensor_v3\n',
    'ctorch._utils\n_rebuild_parameter\n',
    'ctorch._tensor\n_rebuild_from_type_v2\n',
  ],
  ...[
    'ctorch.storage\n_load_from_bytes\n',
    'ccollections\nOrderedDict\n',
    'ccollections\ndefaultdict\n',
    'c_codecs\nencode\n',
    'cbuiltins\nset\n',
    'cbuiltins\nbytearray\n',
  ],
  ...[
    'cnumpy\ndtype\n',
    'cnumpy\nndarray\n',
    'cnumpy.core.multiarray\n_reconstruct\n',
    'cnumpy.core.multiarray\nscalar\n',
    'cnumpy._core.numeric\n_frombuffer\n',
  ],
  ...[
    'ctorch_utils.persistence\n_reconstruct_persistent_obj\n',
    'cdnnlib.util\nEasyDict\n',
    'cdnnlib.tflib.network\nNetwork\n',
    text('class_name'),
    text('state'),
    text('_parameters'),
    text('_modules'),
  ],
  ...['cargparse\nNamespace\n', 'cpathlib\nPosixPath\n', 'cos\nsystem\n', 'c__proto__\nconstructor\n'],
  tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1] }),
  tensorOpcodes({ key: '1', type: 'HalfStorage', count: 24, offset: 3, shape: [2, 3], strides: [1, 2] }),
];
const joiners = [
  '.',
  'a',
  'e',
  's',
  'u',
  't',
  'l',
  'd',
  '\x85',
  '\x86',
  '\x87',
  'R',
  '\x81',
  '\x92',
  'b',
  'o',
  'Q',
  '\x90',
  '\x91',
  '\x93',
  'q\0',
  'q\x01',
  '\x94',
  '0',
  '1',
  '2',
  '\x98',
];
const pickleTokens = [...tokensOf(), ...values, ...values, ...joiners].map((token) => (typeof token === 'string' ? latin1(token) : token));

/** Opcodes in an order that a stack likes. @param {Random} random */
function drawPickle(random) {
  let opcodes = random.oneIn(2) ? '\x80\x02' : '\x80\x04';
  for (let i = random.below(24); i >= 0; i--) opcodes += random.oneIn(3) ? random.pick(joiners.slice(1)) : random.pick(values);
  return latin1(`${opcodes}.`);
}

/** A dict of a few tensors whose layouts mostly fit. @param {Random} random */
function drawTensors(random) {
  let opcodes = '\x80\x02}(';
  for (let i = random.below(4); i >= 0; i--) {
    const key = String(random.below(3));
    const [type, size] = random.pick(
      /** @type {const} */ ([
        ['FloatStorage', 4],
        ['ByteStorage', 1],
        ['LongStorage', 8],
        ['BFloat16Storage', 2],
        ['BoolStorage', 1],
      ]),
    );
    const count = /** @type {Buffer} */ (storages[key]).length / size + (random.oneIn(24) ? random.below(3) - 1 : 0);
    const shape = Array.from({ length: random.below(4) }, () => (random.oneIn(40) ? 2 ** random.below(54) : random.below(4)));
    const strides = random.oneIn(3)
      ? shape.map(() => random.below(4))
      : shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    const part = random.oneIn(12) ? `${text('v')}K${String.fromCharCode(random.below(4))}K${String.fromCharCode(random.below(9))}\x87` : '';
    if (random.oneIn(50)) strides.pop();
    opcodes +=
      text(random.oneIn(16) ? 'a' : `a${i}`) +
      tensorOpcodes({ key, type, count, offset: random.below(3), shape, strides: strides.map((stride) => stride % 2 ** 53), part });
  }
  return latin1(`${opcodes}u.`);
}

/** @param {Random} random @param {readonly Buffer[]} seeds */
function pickleOf(random, seeds) {
  const kind = random.below(8);
  if (kind === 0) return drawPickle(random);
  if (kind === 7 && random.oneIn(2)) return Buffer.from(mutated(random, [latin1(`\x80\x02${moduleOpcodes(modules)}.`)], pickleTokens));
  if (kind < 3) return drawTensors(random);
  return Buffer.from(mutated(random, /** @type {Buffer[]} */ (seeds), pickleTokens));
}

/** How many tensors are read to their numbers. */
const kRead = 4;
const kMostElements = 1 << 14;

/** @param {Uint8Array} input */
async function readAll(input) {
  const file = await readWeights(new MemorySource(input, 'fuzz.pth'));
  const arrays = [];
  for (const tensor of [...file.tensors.values()].slice(0, kRead)) {
    if (tensor.elements <= kMostElements) arrays.push(await tensor.float32());
  }
  return { file, arrays };
}

/** @param {{ file: WeightsFile, arrays: Float32Array[] }} result @param {Buffer} input */
function checkWeights({ file, arrays }, input) {
  for (const [name, { shape, elements, dtype }] of file.tensors) {
    assert(typeof name === 'string' && dtype !== undefined);
    assert(shape.every((size) => Number.isSafeInteger(size) && size >= 0));
    assert.equal(
      shape.reduce((a, b) => a * b, 1),
      elements,
    );
    assert(elements <= input.length, 'no more elements than bytes');
  }
  for (const [i, tensor] of [...file.tensors.values()].slice(0, kRead).entries()) assert.equal(arrays[i]?.length, tensor.elements);
  for (const value of file.others.values()) assert(value === null || ['boolean', 'number', 'bigint', 'string'].includes(typeof value));
  for (const odd of ['a', 'polluted', '0']) assert(!(odd in {}), 'every object has a new property');
}

/** A module as NVIDIA's generators are pickled. @param {string} state */
const moduleOpcodes = (state) =>
  `ctorch_utils.persistence\n_reconstruct_persistent_obj\n(}(${text('class_name')}${text('G')}${text('state')}${state}utR`;
const modules = `}(${text('_buffers')}}(${text('a')}${tensorOpcodes({ count: 6, shape: [2, 3], strides: [3, 1] })}u${text('_modules')}}(${text('b')}${moduleOpcodes('}')}uu`;

const common = { parse: readAll, check: checkWeights };
const twice = (/** @type {string} */ opcodes, count = 8000) => latin1(`\x80\x04${opcodes.repeat(Math.floor(count / opcodes.length))}.`);
const quadrillion = { count: 10 ** 15, shape: [10 ** 15], strides: [1] };
const laughs = (/** @type {number} */ levels) =>
  latin1(
    `\x80\x04]q\0${numbered(levels, (i) => `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}eq${String.fromCharCode(i + 1)}`, '')}.`,
  );
const encoded = `c_codecs\nencode\nq\0${text('x'.repeat(4000))}q\x01${text('latin1')}q\x02`;
/** @type {[string, string][]} */
const repeated = [
  ['dicts', '}'],
  ['lists', ']'],
  ['sets', '\x8f'],
  ['tuples', ')'],
  ['marks', '('],
  ['memos', ']\x94'],
  ['memos of one value', '\x94'],
  ['numbered memos', 'Nr\xff\xff\xff\xffNr\0\0\0\0'],
  ['dicts of one entry', '}NNs'],
  ['lists of one item', ']Na'],
  ['records', 'cargparse\nNamespace\n)R'],
  ['dtypes', 'cnumpy\ndtype\nU\x02f4\x85R'],
  ['texts', 'X\0\0\0\0'],
  ['long integers', '\x8a\x09\0\0\0\0\0\0\0\0\x01'],
];
/** @type {[string, () => Buffer][]} */
const pickleBombs = [
  ...repeated.map(([what, opcodes]) => /** @type {[string, () => Buffer]} */ ([`8,000 bytes of ${what}`, () => twice(opcodes)])),
  ['a text of 2^62 bytes', () => latin1('\x80\x04\x8d\0\0\0\0\0\0\0\x40a.')],
  ['bytes of 4 GiB', () => latin1('\x80\x04B\xff\xff\xff\xffa.')],
  ['an integer of 2 GiB', () => latin1('\x80\x04\x8b\xff\xff\xff\x7f\x01.')],
  ['lists that double thirty times', () => laughs(30)],
  ['lists in one another', () => latin1(`\x80\x04${']'.repeat(4000)}${'a'.repeat(3999)}.`)],
  ['one text encoded again and again', () => latin1(`\x80\x04${encoded}000${'h\0h\x01h\x02\x86R0'.repeat(400)}N.`)],
  [
    'one stream read again and again',
    () =>
      latin1(
        `\x80\x04ctorch.storage\n_load_from_bytes\nq\0B${little(1000, 4).toString('latin1')}${streamMagic.toString('latin1').padEnd(1000, ']')}\x85q\x01${'h\0h\x01R0'.repeat(1000)}N.`,
      ),
  ],
  [
    'one list copied again and again',
    () => latin1(`\x80\x04cbuiltins\nset\nq\0](${'N'.repeat(2000)}e\x85q\x01${'h\0h\x01R0'.repeat(900)}N.`),
  ],
  [
    'one state of many modules',
    () =>
      latin1(
        `\x80\x04](}(${text('_parameters')}}(${numbered(400, (i) => `M${little(i, 2).toString('latin1')}N`, '')}uuq\0${moduleOpcodes('h\0').repeat(60)}e.`,
      ),
  ],
  [
    'a long name for many',
    () => latin1(`\x80\x04}${text('n'.repeat(4000))}}(${numbered(1300, (i) => `M${little(i, 2).toString('latin1')}N`, '')}us.`),
  ],
  [
    '10^15 elements of an array',
    () =>
      latin1(
        `\x80\x02cnumpy.core.multiarray\n_reconstruct\nNNN\x87R(K\x01\x8a\x07${little(10 ** 15, 7).toString('latin1')}\x85cnumpy\ndtype\nU\x02f4\x85R\x89U\x04\0\0\0\0tb.`,
      ),
  ],
];
/** @type {[string, () => Buffer][]} */
const longPickles = [
  ['dicts', () => twice('}', 300_000)],
  ['memos', () => twice(']\x94', 200_000)],
  ['marks', () => twice('(', 300_000)],
  ['items of a dict', () => latin1(`\x80\x04}(${numbered(50_000, (i) => `J${little(i, 4).toString('latin1')}N`, '')}u.`)],
  ['integers of 1,000 bytes', () => twice(`\x8b\xe8\x03\0\0${'\x01'.repeat(1000)}0`, 1e6)],
  ['an escaped text', () => latin1(`V${'\\u20ac'.repeat(50_000)}\n.`)],
  ['a quoted string', () => latin1(`(dp0\nS'${'\\x41'.repeat(50_000)}'\n0.`)],
];

/** @type {Parser} */
export const pickle = { ...common, slackMiB: 4, input: (random) => pickleOf(random, pickles), bombs: pickleBombs, long: longPickles };

/** @type {Parser} */
export const torch = {
  ...common,
  slackMiB: 4,
  input(random) {
    if (random.oneIn(3)) return mutated(random, archives, pickleTokens);
    return torchZip(pickleOf(random, inner), storages, { is64: random.oneIn(8), ...(random.oneIn(16) && { sum: () => 0 }) });
  },
  bombs: [
    ['10^15 elements', () => torchZip(dictPickle(tensorOpcodes(quadrillion)), storages)],
    ['10^15 elements of one number', () => torchZip(dictPickle(tensorOpcodes({ count: 6, shape: [10 ** 15], strides: [0] })), storages)],
    ['a step of 2^52', () => torchZip(dictPickle(tensorOpcodes({ count: 6, shape: [2, 2], strides: [2 ** 52, 1] })), storages)],
    ['100 entries', () => storedZip(Array.from({ length: 100 }, (_, i) => [`a/${i}`, Buffer.alloc(0)]))],
    [
      'entries of nothing, one over the other',
      () => Buffer.concat([latin1('PK\x03\x04'), latin1('PK\x05\x06'.padEnd(22, '\xff')).subarray(0, 20), little(0, 2)]),
    ],
    ...pickleBombs.map(([what, make]) => /** @type {[string, () => Buffer]} */ ([`an archive: ${what}`, () => torchZip(make(), storages)])),
  ],
  long: [
    [
      'an archive of 5,000 entries',
      () =>
        storedZip([
          ['a/data.pkl', latin1('N.')],
          ...Array.from({ length: 5000 }, (_, i) => /** @type {const} */ ([`a/data/${i}`, Buffer.alloc(8)])),
        ]),
    ],
  ],
};

const stored = Object.entries(storages).map(([key, bytes]) => /** @type {[string, number, Buffer]} */ ([key, bytes.length / 4, bytes]));

/** @type {Parser} */
export const stream = {
  ...common,
  slackMiB: 4,
  input(random) {
    if (random.oneIn(2)) return mutated(random, streams, pickleTokens);
    return torchStream(random.oneIn(4) ? drawPickle(random) : drawTensors(random), stored.slice(0, random.below(4)));
  },
  bombs: [
    ['10^15 elements', () => torchStream(dictPickle(tensorOpcodes(quadrillion)), [['0', 10 ** 15, Buffer.alloc(24)]])],
    [
      '10^15 elements of one number',
      () => torchStream(dictPickle(tensorOpcodes({ count: 6, shape: [10 ** 15], strides: [0] })), [['0', 6, Buffer.alloc(24)]]),
    ],
    ...pickleBombs.map(([what, make]) => /** @type {[string, () => Buffer]} */ ([`a stream: ${what}`, () => torchStream(make())])),
  ],
  long: longPickles.map(([what, make]) => [what, () => torchStream(make())]),
};

const arrays = made('.npy');
const headerTokens = tokensOf(
  "'descr': ",
  "'<f4'",
  "'>f8'",
  "'|b1'",
  "'<f2'",
  "'|O'",
  "'fortran_order': True",
  "'shape': (",
  '(2, 3)',
  '()',
  '(',
  ')',
  '(6,)',
  'L',
  "[('a', '<f4')]",
  '}\n',
  "'",
);

/** @type {Parser} */
export const npy = {
  ...common,
  input(random) {
    const bytes = mutated(random, arrays, headerTokens);
    if (bytes.length < 12 || random.oneIn(4)) return bytes;
    // Mostly a header length that leads to its end, and as many numbers as the first seeds have.
    const end = bytes.indexOf(10) + 1;
    const wide = bytes[6] === 1 ? 2 : 4;
    if (end > 8 + wide) bytes.set(little(end - 8 - wide, wide), 8);
    return bytes;
  },
  bombs: [
    [
      '10^15 elements',
      () => latin1("\x93NUMPY\x01\0\x50\0{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }".padEnd(90)),
    ],
    ['a header of 4 GiB', () => latin1('\x93NUMPY\x02\0\xff\xff\xff\xff{')],
    [
      '8,000 sizes',
      () => latin1(`\x93NUMPY\x01\0\x40\x1f${`{'descr': '<f4', 'fortran_order': False, 'shape': (${'1,'.repeat(3900)}), }`.padEnd(8000)}`),
    ],
    ['8,000 blanks', () => latin1(`\x93NUMPY\x01\0\x40\x1f${'{'.padEnd(8000)}`)],
  ],
  long: [['60,000 letters', () => latin1(`\x93NUMPY\x01\0\x60\xea${"{'descr': '<f4', 'shape': (".padEnd(60_000, '1')}`)]],
};

const typed = made('.safetensors');

/** @type {Parser} */
export const allTypes = {
  ...common,
  input(random) {
    if (random.oneIn(2)) return /** @type {Buffer} */ (safetensors.input(random));
    draft.start(/** @type {Buffer} */ (typed[0]));
    if (!random.oneIn(64)) draft.mutate(random, typed, tokensOf('"BF16"', '"F64"', '"BOOL"', '"F16"', '"U64"', '"shape":[', '[0,4]'));
    const bytes = draft.bytes;
    const end = bytes.lastIndexOf(0x7d) + 1;
    if (end > 8 && !random.oneIn(5)) bytes.writeBigUInt64LE(BigInt(end - 8));
    return bytes;
  },
  bombs: safetensors.bombs,
  long: safetensors.long,
};
