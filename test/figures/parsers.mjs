// @ts-check
// The parsers of untrusted text and what figure F2 feeds them. A parser here is: inputs by index, a call, and what has to hold when it accepts.
// `bombs` are small inputs that ask for more than they bring. `long` ones hold as many parts as a few hundred kilobytes can; how much memory
// these take is said and not judged: a value of V8 takes several times the bytes that it is written with.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { checkTrainOptions, mergeOptions, parseConfig, trainFlags } from '../../dist/config.js';
import { ManifestParser, manifestText } from '../../dist/data/manifest.js';
import { latestCheckpoint, saveCheckpoint } from '../../dist/train/checkpoint.js';
import { parseOwner } from '../../dist/train/lock.js';
import { LogFilter } from '../../dist/train/log.js';
import { decodeSafetensors, encodeSafetensors } from '../../dist/weights/safetensors.js';
import { commonTokens, Draft } from './mutate.mjs';

/** @typedef {import('./mutate.mjs').Random} Random */
/** @typedef {import('../../dist/weights/safetensors.js').Tensor} Tensor */
/**
 * @typedef {object} Parser
 * @property {(random: Random) => unknown} input
 * @property {(input: any, random: Random) => unknown} parse Returns what `check` has to see; undefined and null: refused without an error.
 * @property {(result: any, input: any) => void} check Throws when what was accepted is not sound.
 * @property {[name: string, make: () => unknown][]} bombs
 * @property {[name: string, make: () => unknown][]} long
 * @property {(result: any) => boolean} [isTaken] Whether a result is more than a polite no.
 * @property {number} [slackMiB] What a call may allocate beyond twice the input; 1 when left out.
 */

const bytesOf = (/** @type {string} */ text) => Buffer.from(text);
const tokensOf = (/** @type {string[]} */ ...texts) => [...commonTokens, ...commonTokens, ...texts.map(bytesOf)];
const nest = (/** @type {string} */ open, /** @type {number} */ count, close = '') => open.repeat(count) + close.repeat(count);
const numbered = (/** @type {number} */ count, /** @type {(i: number) => string} */ text, separator = ',') =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);
const draft = new Draft();

/** A seed with a few changes; one in 64 as it is. @param {Random} random @param {Uint8Array[]} seeds @param {Uint8Array[]} tokens */
function mutated(random, seeds, tokens) {
  draft.start(random.pick(seeds));
  if (!random.oneIn(64)) draft.mutate(random, seeds, tokens);
  return draft.bytes;
}

// -- safetensors

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

/** @param {number[]} values @param {number[]} [shape] @returns {Tensor} */
const f32 = (values, shape = [values.length]) => ({ dtype: 'F32', shape, data: Float32Array.from(values) });
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
const safetensors = {
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

// -- the manifest of a checkpoint

const sha256 = (/** @type {string | Uint8Array} */ bytes) => createHash('sha256').update(bytes).digest('hex');
const kStep = 'step-00000003';
/** @type {Map<string, Uint8Array>} Files of a good checkpoint. */
const checkpointFiles = new Map();
/** @type {import('../../dist/train/files.js').FileSystem} */
const memoryDisk = {
  mkdir: async () => undefined,
  writeFile: async (path, bytes) => void checkpointFiles.set(nameOf(path), bytes),
  syncDirectory: async () => undefined,
  rename: async () => undefined,
  readdir: async () => (checkpointFiles.size < 3 ? [] : [kStep]),
  async readFile(path) {
    const bytes = checkpointFiles.get(nameOf(path));
    if (!bytes) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
    return bytes;
  },
  rm: async () => undefined,
};
const nameOf = (/** @type {string} */ path) => path.slice(path.lastIndexOf('/') + 1);
await saveCheckpoint(
  '/run',
  {
    step: 3,
    weights: new Map([['w', f32([1, 2])]]),
    optimizer: new Map(),
    info: { config: { backbone: 'resnet18', augment: { mean: [0, 0, 0] } }, seed: 1, dataHash: sha256('') },
  },
  { keep: 1, files: memoryDisk },
);
const goodManifest = Buffer.from(/** @type {Uint8Array} */ (checkpointFiles.get('manifest.json')));
/** With the hash that belongs to it, when it is a JSON object at all. @param {Buffer} bytes */
function rehashed(bytes) {
  try {
    const { sha256: _, ...body } = JSON.parse(bytes.toString());
    return bytesOf(JSON.stringify({ ...body, sha256: sha256(JSON.stringify(body)) }));
  } catch {
    return bytes;
  }
}
const { sha256: _, ...goodBody } = JSON.parse(goodManifest.toString());
const manifestSeeds = [goodManifest, bytesOf(JSON.stringify(goodBody))];
const manifestTokens = tokensOf(
  '"format":',
  '"comface-checkpoint"',
  '"version":1',
  '"step":',
  '"info":{',
  '"files":{',
  '"sha256":"',
  '"bytes":',
  'weights.safetensors',
);
/** @param {object} change */
const changedManifest = (change) => () => rehashed(bytesOf(JSON.stringify({ ...goodBody, ...change })));
const deepInfo = (/** @type {number} */ levels) => () => bytesOf(`{"info":${nest('[', levels)}${nest(']', levels)},"sha256":""}`);

/** @type {Parser} */
const checkpoint = {
  input(random) {
    const bytes = mutated(random, manifestSeeds, manifestTokens);
    return random.oneIn(4) ? bytes : rehashed(bytes);
  },
  async parse(input) {
    checkpointFiles.set('manifest.json', input);
    let warnings = 0;
    const state = await latestCheckpoint('/run', { files: memoryDisk, onWarning: () => warnings++ });
    assert.equal(warnings, state === null ? 1 : 0, 'a checkpoint is taken, or passed over with a warning');
    return state;
  },
  check({ step, weights, info }) {
    assert.equal(step, 3);
    assert.deepEqual([...weights.keys()], ['w']);
    assert.equal(typeof info, 'object');
  },
  bombs: [
    ['12,000 levels', deepInfo(12_000)],
    ['5,000 levels', deepInfo(5_000)],
    [
      '2^53 - 1 bytes',
      changedManifest({ files: { ...goodBody.files, 'weights.safetensors': { bytes: 2 ** 53 - 1, sha256: sha256('') } } }),
    ],
    ['a step of 1e308', changedManifest({ step: 1e308 })],
  ],
  long: [
    ['a million empty lines', () => Buffer.alloc(1_000_000, 0x0a)],
    ['a line without an end', () => Buffer.alloc(1_100_000, 0x61)],
    ['10,000 names for one slot', () => listText({}, flood(10_000))],
    ['a wrong attribute among 20,000', () => listText({ attributes: longWords(20_000, 40) }, [{ ...row(1), attribute: 'y'.repeat(40) }])],
    [
      'a wrong attribute of a megabyte',
      () => listText({ attributes: longWords(10, 50_000) }, [{ ...row(1), attribute: 'y'.repeat(500_000) }]),
    ],
    ['an attribute of 100,000 levels', () => listWith(nest('[', 100_000, ']'))],
    ['100,000 levels', () => Buffer.concat([listText({}, []), bytesOf(nest('[', 100_000, ']'))])],
    ['100,000 levels', deepInfo(100_000)],
    ['a hash of a megabyte', () => bytesOf(`{"sha256":"${'0'.repeat(1_000_000)}"}`)],
    ['a megabyte and more of spaces', () => Buffer.alloc(1_100_000, 0x20)],
    ['objects', () => rehashed(bytesOf(JSON.stringify({ ...goodBody, info: { list: Array.from({ length: 64_000 }, () => ({})) } })))],
  ],
};

// -- the list of pictures

const listHeader = { size: 64, count: 3, seed: '1', domain: 0, attributes: ['smile', 'Big_Nose', '__proto__'] };
const listRows = [
  { file: '000012/smile/03.jpg', subject: 12, attribute: 'smile', alpha: 2.5 },
  { file: '000012/Big_Nose/03.jpg', subject: 12, attribute: 'Big_Nose', alpha: -5 },
  { file: 'käse.jpg', subject: 4294967295, attribute: '__proto__', alpha: 0 },
];
const listText = (/** @type {Partial<typeof listHeader>} */ header, /** @type {typeof listRows} */ rows) =>
  bytesOf([...manifestText({ ...listHeader, count: rows.length, ...header }, rows)].join(''));
const row = (/** @type {number} */ i) => ({ file: `${i}.jpg`, subject: i, attribute: 'smile', alpha: 1 });
const rows = (/** @type {number} */ count) => Array.from({ length: count }, (_, i) => row(i));
const listSeeds = [listText({}, listRows), listText({}, rows(1)), listText({}, rows(12))];
const listTokens = tokensOf(
  '"file":"',
  '"subject":',
  '"attribute":"smile"',
  '"alpha":',
  '"count":',
  '"attributes":[',
  '"format":"comface-faces"',
  '"size":',
  '../',
  'a\\\\b',
  '"attribute":{"toString":1,"valueOf":1}',
);
/** Names that fall on one slot of a table with FNV-1a and no key: they differ above its low bits only. */
const flood = (/** @type {number} */ count) =>
  Array.from({ length: count }, (_, i) => ({
    ...row(i),
    file: `${numbered(14, (bit) => String.fromCharCode(0x61 + 0x4000 * ((i >> bit) & 1)), '')}.jpg`,
  }));
const longWords = (/** @type {number} */ count, /** @type {number} */ length) =>
  Array.from({ length: count }, (_, i) => `${i}`.padEnd(length, 'x'));

/** One row whose attribute is this JSON. @param {string} attribute */
const listWith = (attribute) =>
  bytesOf(`${listText({ count: 1 }, [])}{"file":"a","subject":1,"alpha":1,"attribute":${attribute}}${' '.repeat(64)}`);

/** @type {Parser} */
const manifest = {
  input: (random) => mutated(random, listSeeds, listTokens),
  parse(input, random) {
    const parser = new ManifestParser('/data', input.length);
    const cut = random.oneIn(2) ? random.below(input.length + 1) : 0;
    if (cut > 0) parser.push(input.subarray(0, cut));
    parser.push(input.subarray(cut));
    return parser.finish();
  },
  check({ files, lines, subject, attribute, alpha, attributes, size, hash }, input) {
    assert(files.length > 0 && [lines, subject, attribute, alpha].every(({ length }) => length === files.length), 'lists of one length');
    assert.equal(new Set(files).size, files.length);
    for (const file of files)
      assert(file.startsWith('/data/') && !/\/\.{0,2}(\/|$)|[\\\0]/.test(file.slice(5)), `outside the folder: ${file}`);
    assert(alpha.every(Number.isFinite) && attribute.every((/** @type {number} */ index) => index < attributes.length));
    assert(size >= 8 && size <= 65535);
    assert.equal(hash, sha256(input));
  },
  bombs: [
    ['a count of 2^32 - 1', () => listText({ count: 4294967295 }, rows(3))],
    ['an attribute of 12,000 levels', () => listWith(nest('[', 12_000, ']'))],
    ['a count that the bytes just allow', () => listText({ count: 7 }, rows(3))],
    ['an attribute that is no text', () => listWith('{"toString":1,"valueOf":1}')],
  ],
  long: [
    ['rows', () => listText({}, rows(4000))],
    ['objects', () => bytesOf(`{"x":[${numbered(80_000, () => '{}')}]}`)],
  ],
};

// -- options: a value, a YAML text, flags

const flags = trainFlags();
const least = { data: 'faces', out: 'run' };
const configSeeds = [
  'pairs: 4\nepochs: 2\nbackbone: resnet18\n',
  '# a run\ndata: faces\naugment:\n  hue: 0.1\n  mean: [0.5, 0.5, 0.5]\ncurriculum: none\n',
  'augment: { mean: &m [0.5, 0.5, 0.5], deviation: *m }\n',
  'curriculum:\n  maxRange: 8\n  stageEnds:\n    - 1\n    - 2\nprojection: {out: 16}\nseed: 0x10\nresume: true\n',
  '{"data": "a", "out": "b", "width": 16, "temperature": 1e-1}',
  'data: >-\n  long\n  name\nout: |\n  x\n? seed\n: 5\n"epochs": \'3\'\n',
].map(bytesOf);
const configTokens = tokensOf(
  'augment:\n',
  '  hue: ',
  'seed: ',
  'pairs: ',
  '\n- ',
  '\n  ',
  '!!set',
  '!!merge <<: ',
  '!!js/function ',
  '%YAML 1.1\n',
  '---\n',
  '&m ',
  '*m',
  ': ',
  '? ',
  '...\n',
  '| ',
  '>-\n',
);
const oddValues = [
  ...[
    null,
    undefined,
    Number.NaN,
    -0,
    0,
    1,
    -1,
    2,
    1.5,
    2 ** 53,
    Number.POSITIVE_INFINITY,
    1e-320,
    '',
    'none',
    'auto',
    '4',
    'x'.repeat(1000),
  ],
  ...[
    true,
    false,
    7n,
    Symbol('s'),
    () => 1,
    Object.assign(() => 1, { toString: 1, valueOf: 1 }),
    new Date(0),
    new Map(),
    new Set(),
    [],
    {},
    [1, 2, 3],
    [3, 6, 9],
    [0.5, 0.5, 0.5],
    [[[]]],
  ],
  ...[new Float32Array(3), new Uint8Array(2), Buffer.from('a'), Object.create(null), JSON.parse('{"__proto__":1}'), new Error('e')],
  ...['resnet18', 'bf16', 'cpu', 'signed', 16, 32, 64, '\ud800', '__proto__', /x/, Promise.resolve()],
];
const oddNames = ['__proto__', 'constructor', 'temprature', '', 'augment.hue', 'x'.repeat(3000), '\u001b[31m', 'toString', '0', 'länge'];

/** Options by value: each of a few places gets a value that may or may not fit. @param {Random} random */
function drawOptions(random) {
  /** @type {Record<string, any>} */
  const options = random.oneIn(16) ? {} : { ...least };
  if (random.oneIn(64)) return random.pick(oddValues);
  const groups = new Set([options]); // the odd values stay as they are, for the next input
  for (let i = random.below(5); i > 0; i--) {
    const path = random.oneIn(6) ? [random.pick(oddNames)] : [...random.pick(flags).path];
    if (random.oneIn(8)) path.splice(random.below(path.length + 1), random.below(2), random.pick(oddNames));
    let place = options;
    for (const name of path.slice(0, -1)) {
      if (!Object.hasOwn(place, name) || !groups.has(place[name])) {
        const group = {};
        put(place, name, group);
        groups.add(group);
      }
      place = place[name];
    }
    if (path.length > 0) put(place, /** @type {string} */ (path.at(-1)), random.pick(oddValues));
  }
  return options;
}

/** As an own property, also `__proto__`. @param {object} place @param {string} name @param {unknown} value */
function put(place, name, value) {
  Object.defineProperty(place, name, { value, writable: true, enumerable: true, configurable: true });
}

/** @param {any} config */
function checkConfig(config) {
  assert(Object.isFrozen(config) && Object.isFrozen(config.augment.mean), 'frozen');
  assert.deepEqual(checkTrainOptions(config), config, 'checked twice');
}
const deepValue = (/** @type {number} */ levels) => () => JSON.parse(nest('[', levels, ']'));

/** @type {Parser} */
const options = {
  input: drawOptions,
  parse: (input) => checkTrainOptions(input),
  check: checkConfig,
  bombs: [],
  long: [
    ['a name of a million letters', () => ({ ...least, ['x'.repeat(1_000_000)]: 1 })],
    ['a group of 100,000 levels', () => ({ ...least, augment: deepValue(100_000)() })],
    ['options of 100,000 levels', deepValue(100_000)],
    ['a value of 100,000 levels', () => ({ ...least, pairs: deepValue(100_000)() })],
    ['names', () => ({ ...least, ...Object.fromEntries(longWords(1000, 60).map((name) => [name, 1])) })],
    ['stages', () => ({ ...least, curriculum: { stageEnds: Array.from({ length: 10_000 }, (_, i) => i + 1) } })],
  ],
};

/** @type {Parser} */
const yaml = {
  // The library's tree is some kilobytes for each word; 16 KiB of text and 2,000 words are the most that gets to it.
  slackMiB: 16,
  input: (random) => mutated(random, configSeeds, configTokens),
  parse(input) {
    try {
      return parseConfig(input.toString(), 'fuzz.yaml');
    } catch (error) {
      // With a little less of it left, the process would have ended.
      assert(!(error instanceof Error && error.message.includes('call stack')), 'the stack ran out');
      throw error;
    }
  },
  check(result) {
    assert.equal(typeof result, 'object');
    // What a file may hold is refused by name later at most, as in data and out being one folder.
    try {
      checkConfig(checkTrainOptions(mergeOptions({ ...least, ...result }, {})));
    } catch (error) {
      if (/** @type {any} */ (error).code !== 'INVALID_CONFIG') throw error;
    }
  },
  bombs: [
    ...[1000, 1950, 5000, 10_000, 16_000].map(
      (count) => /** @type {[string, () => Buffer]} */ ([`${count} brackets`, () => bytesOf(`a: ${'['.repeat(count)}`)]),
    ),
    ['8,000 lists', () => bytesOf(nest('[', 8000, ']'))],
    ['3,000 groups', () => bytesOf(nest('{a: ', 3000, '}'))],
    ['8,000 dashes', () => bytesOf('- '.repeat(8000))],
    ['8,000 question marks', () => bytesOf('? '.repeat(8000))],
    ['170 indents', () => bytesOf(numbered(170, (i) => `${' '.repeat(i)}a:`, '\n'))],
    ['3,000 names', () => bytesOf(numbered(3000, (i) => `${i.toString(36)}:`, '\n'))],
    ['900 names', () => bytesOf(numbered(450, (i) => `${i.toString(36)}: 1`, '\n'))],
    ['4,000 anchors', () => bytesOf(`a: ${'&a '.repeat(4000)}`)],
    ['an alias bomb', () => bytesOf(`a: &a0 [1, 1]\n${numbered(20, (i) => `b${i}: &a${i + 1} [*a${i}, *a${i}, *a${i}]`, '\n')}`)],
    [
      'a merge bomb',
      () => bytesOf(`a0: &a0 {k: 1}\n${numbered(9, (i) => `a${i + 1}: &a${i + 1} {!!merge <<: [${numbered(10, () => `*a${i}`)}]}`, '\n')}`),
    ],
    [
      'a merge bomb of YAML 1.1',
      () =>
        bytesOf(
          `%YAML 1.1\n---\na0: &a0 {k: 1}\n${numbered(9, (i) => `a${i + 1}: &a${i + 1} {<<: [${numbered(10, () => `*a${i}`)}]}`, '\n')}`,
        ),
    ],
    ['names that are lists', () => bytesOf(numbered(100, (i) => `[a, ${i}]: 1`, '\n'))],
    ['a million bytes', () => bytesOf('['.repeat(1_000_000))],
    ['a line of 16,000 letters', () => bytesOf(`${'x'.repeat(1000)}: ${'y'.repeat(15_000)}`)],
  ],
  long: [['values', () => bytesOf(`curriculum: {stageEnds: [${numbered(600, (i) => String(i + 1))}]}`)]],
};

/** @type {Parser} */
const words = {
  input(random) {
    /** @type {[number, string][]} */
    const given = [];
    for (let i = random.below(5); i >= 0; i--) {
      const text = random.oneIn(2)
        ? random.pick(commonTokens).toString()
        : `${random.below(20) - 2}${random.oneIn(4) ? `,${random.below(9)},${random.below(99)}` : ''}`;
      given.push([
        random.below(flags.length),
        random.oneIn(8) ? random.pick(['none', 'true', 'resnet18', 'auto', '0.5,0.5,0.5', '1,2,3', ',', 'Infinity', '0x1p3']) : text,
      ]);
    }
    return given;
  },
  parse(input) {
    /** @type {Record<string, unknown>} */
    const values = { data: 'faces', out: 'run' };
    for (const [index, text] of input)
      values[/** @type {any} */ (flags[index]).path.join('.')] = /** @type {any} */ (flags[index]).parse(text);
    return checkTrainOptions(mergeOptions({ augment: { hue: 0 }, curriculum: 'none' }, values));
  },
  check: checkConfig,
  bombs: [['a list of 100,000', () => [[flags.findIndex(({ path }) => path.at(-1) === 'stageEnds'), ','.repeat(100_000)]]]],
  long: [['a list', () => [[flags.findIndex(({ path }) => path.at(-1) === 'stageEnds'), numbered(50_000, (i) => String(i + 1))]]]],
};

// -- the log of a run and its lock

const logSeeds = [
  '{"type":"start","step":0}\n{"type":"step","step":1,"loss":2.5}\n{"type":"step","step":2,"loss":1e-3}\n{"type":"step","step":3}\n',
  '{"step":9}\n\0\0\0\n{"step":1,"late":true}\n{"ste',
  '{"type":"broken","file":"a\\nb"}\n[1]\nnull\n5\n"x"\n{}\n',
].map(bytesOf);
const kLastStep = 2;
const filtered = (/** @type {Buffer} */ bytes) => {
  const filter = new LogFilter(kLastStep);
  return { kept: filter.push(bytes), isWhole: filter.isWhole };
};

const logTokens = tokensOf('{"step":', '"step":2', '"step":3', '\n', '}\n');

/** @type {Parser} */
const log = {
  input: (random) => mutated(random, logSeeds, logTokens),
  parse(input, random) {
    const filter = new LogFilter(kLastStep);
    const cut = random.below(input.length + 1);
    return { kept: Buffer.concat([filter.push(input.subarray(0, cut)), filter.push(input.subarray(cut))]), isWhole: filter.isWhole };
  },
  isTaken: ({ isWhole }) => isWhole,
  check({ kept, isWhole }, input) {
    assert(kept.equals(filtered(input).kept), 'the same in one piece');
    assert.equal(isWhole, kept.equals(input));
    for (const line of kept.toString().split('\n').slice(0, -1)) {
      const { step } = JSON.parse(line);
      assert(typeof step !== 'number' || step <= kLastStep, 'no later step stays');
    }
    assert(filtered(kept).isWhole, 'what stays stays');
  },
  bombs: [],
  long: [
    ['a step of a million digits', () => bytesOf(`{"step":${'1'.repeat(1_000_000)}}\n`)],
    ['a megabyte of zeros', () => Buffer.alloc(1_000_000)],
    ['a line of 100,000 levels', () => bytesOf(`${nest('[', 100_000, ']')}\n`)],
    ['a line without an end', () => Buffer.alloc(1_100_000, 0x61)],
    ['empty lines', () => Buffer.alloc(250_000, 0x0a)],
    ['steps', () => bytesOf('{"step":1}\n'.repeat(20_000))],
  ],
};

const lockSeeds = ['{"pid":12,"start":"345","id":"6"}', '{"pid":-1}', '{"pid":1,"start":null}', '{}'].map(bytesOf);
const lockTokens = tokensOf('"pid":', '"start":');

/** @type {Parser} */
const lock = {
  input: (random) => mutated(random, lockSeeds, lockTokens),
  parse: (input) => parseOwner(input.toString()),
  check({ pid, start }) {
    assert(Number.isSafeInteger(pid) && pid > 0 && (start === null || typeof start === 'string'));
  },
  bombs: [],
  long: [
    ['a pid of a million digits', () => bytesOf(`{"pid":${'1'.repeat(1_000_000)}}`)],
    ['100,000 levels', () => bytesOf(nest('[', 100_000, ']'))],
    ['objects', () => bytesOf(`[${numbered(80_000, () => '{}')}]`)],
  ],
};

/** @type {Record<string, Parser>} */
export const parsers = { safetensors, checkpoint, manifest, options, yaml, words, log, lock };
