// Pickles without Python: what each protocol says is read, and nothing that a pickle asks for is run.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ComFaceError } from '../lib/errors.ts';
import { joined, plainGlobals } from '../lib/weights/globals.ts';
import { PickleEnd, readPickle } from '../lib/weights/pickle.ts';
import { type PickleCall, PickleDict, PickleGlobal, PickleSet, PickleTuple, type PickleValue } from '../lib/weights/values.ts';
import { latin1 } from './figures/parsers/archives.mjs';

const { plain } = JSON.parse(readFileSync(new URL('golden/weights/weights.json', import.meta.url), 'utf8')) as { plain: string[] };

const globals = joined(plainGlobals, new Map<string, PickleCall | null>([['test.args', (args) => [...args]]]));
const read = (bytes: Uint8Array, more: { persistent?: (id: PickleValue) => PickleValue; at?: number; base?: number } = {}) =>
  readPickle(bytes, { name: 'a.pkl', globals, ...more });
const plainly = (text: string, more = {}): unknown => flat(read(latin1(text), more).value);

/** Containers as plain arrays whose first item says what they are. */
function flat(value: PickleValue): unknown {
  if (Array.isArray(value)) return value[0] === value ? 'itself' : value.map(flat);
  if (value instanceof PickleTuple) return ['tuple', ...value.items.map(flat)];
  if (value instanceof PickleSet) return ['set', ...value.items.map(flat)];
  if (value instanceof PickleDict) return ['dict', ...[...value].map(([key, item]) => [flat(key), flat(item)])];
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString('hex')}`;
  return value instanceof PickleGlobal ? `name ${value.name}` : value;
}

function refusal(text: string | Uint8Array): ComFaceError {
  try {
    read(typeof text === 'string' ? latin1(text) : text);
  } catch (error) {
    if (error instanceof ComFaceError) return error;
    throw error;
  }
  throw new Error('it was read');
}

const all = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256)).toString('hex');

describe('what Python writes', () => {
  test.each(plain.map((text, protocol) => ({ protocol, text })))('protocol $protocol gives every plain value', ({ text }) => {
    const bytes = Buffer.from(text, 'base64');
    const { value, end } = read(bytes);
    expect(end).toBe(bytes.length);
    const dict = value as PickleDict;
    expect(Object.fromEntries([...dict].map(([key, item]) => [key, flat(item)]))).toEqual({
      none: null,
      flags: [true, false],
      integers: [
        ...[0, 255, 256, 65535, 65536, -1, 2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 1],
        ...[2n ** 53n, -(2n ** 63n), 2n ** 200n, -(2n ** 2000n)],
      ],
      floats: [0.5, -0, 1e300, 5e-324, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN],
      texts: ['', 'ä€😀', 'line\nback\\slash\0quote\'"', 'x'.repeat(300)],
      bytes: ['bytes ', 'bytes 00ff0a', `bytes ${all}`, 'bytes 6162'],
      tuples: ['tuple', ['tuple'], ['tuple', 1], ['tuple', 1, 2], ['tuple', 1, 2, 3], ['tuple', 1, 2, 3, 4]],
      sets: [
        ['set', 7],
        ['set', 8],
      ],
      shared: [[1], [1]],
      ordered: ['dict', ['b', 1], ['a', 2]],
      keys: ['dict', [1, 'a'], [null, 'b'], [['tuple', 1, 2], 'c'], ['__proto__', 'd'], ['constructor', 'e']],
      itself: 'itself',
      nothing: [[], ['dict']],
    });
    const [first, second] = dict.get('shared') as PickleValue[];
    expect(first).toBe(second);
    expect(({} as { d?: unknown }).d).toBeUndefined();
  });
});

describe('single opcodes', () => {
  test.each<[string, string, unknown]>([
    ['a text of Python 2 in quotes', "S'a\\'b\\\\\\n\\t\\x41\\xff'\n.", "a'b\\\n\tAÿ"],
    ['one in double quotes', 'S"it\'s"\n.', "it's"],
    ['a short text of Python 2', 'U\x03a\xffc.', 'aÿc'],
    ['a long one, which stays bytes', `T\0\x01\0\0${'\x01'.repeat(256)}.`, `bytes ${'01'.repeat(256)}`],
    ['an escaped text', 'V\\u20ac \\U0001f600 \\x \xe4\n.', '€ 😀 \\x ä'],
    ['an escaped text of Latin-1', 'V\\u0041\\u000a\xff\n.', 'A\nÿ'],
    ['a long of Python 2', 'L-12L\n.', -12],
    ['a long of no bytes', '\x8a\0.', 0],
    ['a long of four bytes of length', '\x8b\x02\0\0\0\xff\x7f.', 32767],
    ['a negative integer of 32 bits', 'J\xfe\xff\xff\xff.', -2],
    ['a float in letters', 'F-1.5e3\n.', -1500],
    ['booleans of protocol 0', '(I01\nI00\nI1\nl.', [true, false, 1]],
    ['a value twice', '(K\x01\x32l.', [1, 1]],
    ['a value dropped', '(K\x01K\x020l.', [1]],
    ['a mark dropped', '(K\x01(0l.', [1]],
    ['all to a mark dropped', '(K\x01(K\x02K\x031l.', [1]],
    ['a dict of pairs', '(K\x01K\x02K\x03K\x04d.', ['dict', [1, 2], [3, 4]]],
    ['an item appended', ']K\x01a.', [1]],
    ['a memo of any number', 'K\x07r\xff\xff\xff\xff0j\xff\xff\xff\xff.', 7],
    ['a memo in letters', 'K\x07p12\n0g12\n.', 7],
    ['a memo in order', ']\x94K\x05\x940h\x01.', 5],
    ['a call', 'ctest\nargs\nK\x01K\x02\x86R.', [1, 2]],
    ['an instance', '(K\x01itest\nargs\n.', [1]],
    ['an object', '(ctest\nargs\nK\x01o.', [1]],
    ['a new object', 'ctest\nargs\nK\x01\x85\x81.', [1]],
    ['a new object with names', 'ctest\nargs\nK\x01\x85}\x92.', [1]],
    ['a name of the stack', '\x8c\x04test\x8c\x04args\x93)R.', []],
    ['a name that is Python 2 for another', 'c__builtin__\nset\n]K\x01a\x85R.', ['set', 1]],
    ['a name that is not called', 'cbuiltins\nlist\n.', 'name builtins.list'],
    ['attributes of a dict', 'ccollections\nOrderedDict\n)R}b.', ['dict']],
    ['pairs of a dict', 'ccollections\nOrderedDict\n](](K\x01K\x02ee\x85R.', ['dict', [1, 2]]],
    ['what is stored elsewhere', '(X\x01\0\0\0aK\x01tQ.', [['tuple', 'a', 1]]],
    ['what is stored elsewhere, in letters', 'Pkey\n.', ['key']],
    ['a frame', '\x80\x04\x95\x03\0\0\0\0\0\0\0K\x01..', 1],
    ['a buffer not to be written to', 'C\x01a\x98.', 'bytes 61'],
  ])('%s', (_, text, value) => {
    expect(plainly(text, { persistent: (id: PickleValue) => [id] })).toEqual(value);
  });

  test('a pickle may begin anywhere, and its place in the file is what messages say', () => {
    expect(read(latin1('xxK\x05.yy'), { at: 2 })).toMatchObject({ value: 5, end: 5, ops: 2 });
    expect(() => read(latin1('xxK\x05\xff'), { at: 2, base: 100 })).toThrow(
      'a.pkl: expected an opcode of a pickle at byte 104 but found 0xff',
    );
  });
});

describe('what is no pickle is refused with its byte', () => {
  const cases: [what: string, text: string, at: number, found: string][] = [
    ['nothing', '', 0, '0 before the end'],
    ['no end', 'K\x01', 2, '0 before the end'],
    ['an unknown opcode', 'K\x01\xff', 2, '0xff'],
    ['nothing on the stack', '.', 0, 'none'],
    ['a stack that ends at a mark', 'K\x01(.', 3, 'none'],
    ['no mark', 't.', 0, 'none'],
    ['a text longer than the file', 'X\xff\xff\xff\xffa.', 0, '2 before the end'],
    ['a text of 2^63 bytes', '\x8d\0\0\0\0\0\0\0\x80a.', 0, '2 before the end'],
    ['bytes longer than the file', '\x8e\0\0\0\0\0\0\x01\0a.', 0, '2 before the end'],
    ['a byte array longer than the file', '\x96\0\0\0\0\0\0\x01\0a.', 0, '2 before the end'],
    ['a frame longer than the file', '\x95\x05\0\0\0\0\0\0\0.', 0, '1 before the end'],
    ['a text that is no UTF-8', 'X\x01\0\0\0\xff.', 0, 'one that is not'],
    ['half a character pair', 'X\x03\0\0\0\xed\xa0\x80.', 0, 'one that is not'],
    ['an integer that is none', 'Iten\n.', 0, '"ten"'],
    ['a float that is none', 'F0x10\n.', 0, '"0x10"'],
    ['an integer of 3,000 digits', `L${'1'.repeat(3000)}L\n.`, 0, 'a longer one'],
    ['an integer of 2,000 bytes', `\x8b\xd0\x07\0\0${'\x01'.repeat(2000)}.`, 0, '2000 bytes'],
    ['a line without an end', `L${'1'.repeat(9)}`, 0, '9 before the end'],
    ['a string without quotes', 'Sabc\n.', 0, 'one without'],
    ['a string with another escape', "S'\\q'\n.", 0, 'a backslash and `q`'],
    ['a string whose escape is cut', "S'\\x4'\n.", 0, 'a backslash and `x`'],
    ['a character past Unicode', 'V\\U00110000\n.', 0, '"00110000"'],
    ['a memo that nobody made', 'h\x05.', 0, 'none under 5'],
    ['a memo with a sign', 'g-1\n.', 0, '"-1"'],
    ['items for no list', 'K\x01K\x02a.', 4, '1'],
    ['items for no set', ']\x28K\x02\x90.', 4, 'a list of 0'],
    ['items for no dict', ']K\x01K\x02s.', 5, 'a list of 0'],
    ['a key without a value', '}(K\x01u.', 4, '1 of both'],
    ['a call of a number', 'K\x01)R.', 3, '1'],
    ['a call of a text', '\x8c\x09os.system)R.', 12, '"os.system"'],
    ['a call of a name that is only named', 'cbuiltins\nint\n)R.', 15, '`builtins.int`'],
    ['arguments that are no tuple', 'ctest\nargs\n]R.', 12, 'a list of 0'],
    ['arguments with names', 'ctest\nargs\n)}K\x01K\x02s\x92.', 18, 'a dict of 1'],
    ['a state for a list', ']}b.', 2, 'a list of 0'],
    ['a name that is a number', 'K\x01K\x02\x93.', 4, '1 and 2'],
    ['something stored elsewhere', 'Pkey\n.', 0, 'one'],
    ['an object of nothing', '(o.', 1, 'None'],
    ['pairs of three', 'ccollections\nOrderedDict\n](](K\x01K\x02K\x03ee\x85R.', 38, 'a list of 3'],
    ['a dict of a number', 'ccollections\nOrderedDict\nK\x01\x85R.', 28, '1'],
    ['bytes out of a longer text', 'c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xac\x8c\x06latin1\x86R.', 33, 'U+20ac'],
    ['bytes in another encoding', 'c_codecs\nencode\nX\x01\0\0\0a\x8c\x05utf-8\x86R.', 30, '"a" and "utf-8"'],
    ['a record with no attributes', 'cargparse\nNamespace\n)\x81K\x01b.', 24, '1'],
    ['a record with arguments', 'cargparse\nNamespace\nK\x01\x85\x81.', 23, '1'],
  ];
  test.each(cases)('%s', (_, text, at, found) => {
    const { code, message, hint } = refusal(text);
    expect({ code, message }).toEqual({
      code: 'CORRUPT_FILE',
      message: expect.stringMatching(/^a\.pkl: expected .+ at byte \d+ but found .+/),
    });
    expect(message).toContain(` at byte ${at} but found ${found}`);
    expect(hint).toBeTruthy();
  });

  test('where the bytes run out the error says that more of them may help', () => {
    expect(refusal('X\xff\0\0\0a')).toBeInstanceOf(PickleEnd);
    expect(refusal('L123')).toBeInstanceOf(PickleEnd);
    expect(refusal('\xff')).not.toBeInstanceOf(PickleEnd);
  });

  test('text that is bytes again and again is copied twice at most', () => {
    const encode = 'c_codecs\nencode\nq\0';
    const call = 'h\0h\x01h\x02\x86R0';
    const text = `${encode}X\xe8\x03\0\0${'a'.repeat(1000)}q\x01\x8c\x06latin1q\x02`;
    expect(plainly(`${text}0${call}${call}N.`)).toBe(null);
    const { code, message } = refusal(`${text}0${call.repeat(3)}N.`);
    expect(code).toBe('CORRUPT_FILE');
    expect(message).toMatch(/calls that copy no more than twice the pickle at byte \d+ but found 3000 bytes/);
  });

  test('more than two million opcodes are refused', () => {
    const bytes = Buffer.alloc(2_000_010, 'N0');
    expect(refusal(bytes)).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('at most 2000000 opcodes at byte 2000000 '),
    });
  });

  test('lists in one another are read however deep they lie', () => {
    const { value } = read(latin1(`${']'.repeat(9e5)}${'a'.repeat(9e5 - 1)}.`));
    expect(value).toHaveLength(1);
  });
});

describe('what is sound and not read is refused by its name', () => {
  test.each<[string, string, string]>([
    ['code', 'cos\nsystem\n.', '`os.system`'],
    ['code by the name that Linux has for it', 'cposix\nsystem\n.', '`posix.system`'],
    ['code on the stack', '\x8c\x08builtins\x8c\x04eval\x93.', '`builtins.eval`'],
    ['code as an instance', '(S"id"\nios\nsystem\n.', '`os.system`'],
    ['a name of JavaScript', 'cObject\nconstructor\n.', '`Object.constructor`'],
    ['a name that every object has', '\x8c\0\x8c\x09__proto__\x93.', '`.__proto__`'],
    ['the reading of attributes', 'cbuiltins\ngetattr\n.', '`builtins.getattr`'],
    ['a class of a model', 'ctorch.nn.modules.conv\nConv2d\n.', '`torch.nn.modules.conv.Conv2d`'],
    ['a later protocol', '\x80\x06N.', 'protocol 6'],
    ['a buffer outside', '\x97.', 'one outside'],
    ['an extension', '\x82\x01.', 'extension registry'],
    ['an extension of two bytes', '\x83\x01\0.', 'extension registry'],
    ['an extension of four bytes', '\x84\x01\0\0\0.', 'extension registry'],
  ])('%s', (_, text, found) => {
    const { code, message, hint } = refusal(text);
    expect({ code, message }).toEqual({ code: 'INVALID_INPUT', message: expect.stringContaining(found) });
    expect(hint).toBeTruthy();
  });

  test('the hint for an attack warns of Python, the one for a class says what to save', () => {
    expect(refusal('cos\nsystem\n.').hint).toContain('Do not load this file with Python either');
    expect(refusal('csubprocess\nPopen\n.').hint).toContain('Do not load this file with Python either');
    expect(refusal('cmodel\nNet\n.').hint).toContain('torch.save(model.state_dict(), file)');
  });
});
