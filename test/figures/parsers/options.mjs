// @ts-check
// Options: a value, a YAML text, flags.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { checkTrainOptions, mergeOptions, parseConfig, trainFlags } from '../../../dist/config.js';
import { commonTokens } from '../mutate.mjs';
import { bytesOf, longWords, mutated, nest, numbered, tokensOf } from './common.mjs';

/** @typedef {import('./common.mjs').Parser} Parser */
/** @typedef {import('./common.mjs').Random} Random */

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
export const options = {
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
export const yaml = {
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
export const words = {
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
