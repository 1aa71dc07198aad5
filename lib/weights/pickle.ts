// Reads pickles, protocols 0 to 5, and runs nothing: numbers, texts, bytes and their containers are made here, and a name stands for what the
// caller's table has under it or is refused. Every length is held against the bytes that are there before anything of it is made.
import { isUtf8 } from 'node:buffer';
import { ComFaceError, show } from '../errors.js';
import { byteText, corrupt, unread } from './source.js';
import {
  kindOf,
  type PickleCall,
  PickleDict,
  PickleGlobal,
  PickleObject,
  PickleSet,
  type PickleSite,
  PickleTuple,
  type PickleValue,
} from './values.js';

export interface PickleOptions {
  /** What to call the file in messages: its path. */
  name: string;
  /** Names that the pickle may use, and what calling one makes. */
  globals: ReadonlyMap<string, PickleCall | null>;
  /** Finds what is stored elsewhere; without it a pickle may not ask. */
  persistent?: (id: PickleValue, site: PickleSite) => PickleValue;
  /** Where in the bytes the pickle begins. @default 0 */
  at?: number;
  /** Byte of the file where the bytes begin, for messages. @default 0 */
  base?: number;
}

/** The bytes end before the pickle does; whoever gave only the beginning of a file may give more. */
export class PickleEnd extends ComFaceError {}

/** Opcodes of one pickle. A checkpoint of a thousand tensors has some 60,000. */
const kMostOps = 2_000_000;
const kMostIntegerBytes = 1024;
const kMostDigits = 2500;
const kMostNameBytes = 256;
/** V8 makes no longer strings. */
const kMostTextBytes = 2 ** 29 - 25;
/** From here on a string of Python 2 stays bytes: it is an array's memory then, and no text. */
const kLongString = 256;
const kProtocols = 5;

/** Modules that do things to the machine when Python loads them; naming one is an attack or looks like one. */
const dangerous: ReadonlySet<string> = new Set(
  'os posix nt subprocess sys builtins importlib runpy socket shutil pty commands ctypes multiprocessing webbrowser code timeit pdb bdb pip _pickle pickle'.split(
    ' ',
  ),
);
const renamed: ReadonlyMap<string, string> = new Map([
  ['__builtin__', 'builtins'],
  ['copy_reg', 'copyreg'],
]);

/**
 * Reads one pickle.
 *
 * @returns Its value, the place behind it and how many opcodes it took.
 * @throws ComFaceError CORRUPT_FILE with the byte offset (a {@link PickleEnd} where the bytes run out); INVALID_INPUT for a name that is not in the table.
 */
export function readPickle(bytes: Uint8Array, options: PickleOptions): { value: PickleValue; end: number; ops: number } {
  const reader = new PickleReader(bytes, options);
  const value = reader.run();
  return { value, end: reader.at, ops: reader.ops };
}

class PickleReader implements PickleSite {
  readonly name: string;
  at: number;
  ops = 0;
  readonly memo = new Map<number, PickleValue>();
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #options: PickleOptions;
  readonly #stack: PickleValue[] = [];
  /** Heights of the stack where marks stand. */
  readonly #marks: number[] = [];
  #opAt = 0;
  #spent = 0;
  #isDone = false;

  constructor(bytes: Uint8Array, options: PickleOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#options = options;
    this.name = options.name;
    this.at = options.at ?? 0;
  }

  run(): PickleValue {
    while (!this.#isDone) {
      this.#opAt = this.at;
      const op = opcodes[this.uint(1)];
      if (!op) throw this.fault('an opcode of a pickle', byteText(this.#bytes[this.#opAt]));
      if (++this.ops > kMostOps)
        throw this.refuse(`at most ${kMostOps} opcodes`, 'more', 'Save the weights alone, without what else is in the file.');
      op(this);
    }
    return this.pop();
  }

  stop(): void {
    this.#isDone = true;
  }

  fault(rule: string, found: string): ComFaceError {
    return corrupt(this.name, rule, this.#place(), found);
  }

  refuse(rule: string, found: string, hint: string): ComFaceError {
    return unread(this.name, rule, this.#place(), found, hint);
  }

  spend(bytes: number): void {
    this.#spent += bytes;
    if (this.#spent > 2 * this.#bytes.length) throw this.fault('calls that copy no more than twice the pickle', `${this.#spent} bytes`);
  }

  #place(): number {
    return this.#opAt + (this.#options.base ?? 0);
  }

  // Bytes.

  take(length: number): Uint8Array {
    const left = this.#bytes.length - this.at;
    if (!(length <= left)) {
      const { message, hint } = this.fault(`${length} bytes`, `${left} before the end`);
      throw new PickleEnd('CORRUPT_FILE', message, { hint: hint! });
    }
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  /** Of 1, 2, 4 or 8 bytes. */
  uint(length: 1 | 2 | 4 | 8): number {
    const { at } = this;
    this.take(length);
    if (length === 1) return this.#view.getUint8(at);
    if (length === 2) return this.#view.getUint16(at, true);
    if (length === 4) return this.#view.getUint32(at, true);
    return Number(this.#view.getBigUint64(at, true)); // rounded from 2^53 on, which no file reaches
  }

  int32(): number {
    return new DataView(this.#bytes.buffer, this.take(4).byteOffset).getInt32(0, true);
  }

  float(): number {
    return new DataView(this.#bytes.buffer, this.take(8).byteOffset).getFloat64(0, false);
  }

  /** Up to the end of the line, which is passed. */
  line(most: number): Uint8Array {
    const end = this.#bytes.indexOf(10, this.at);
    if (end < 0 && this.#bytes.length - this.at <= most) this.take(this.#bytes.length - this.at + 1); // throws PickleEnd
    if (end < 0 || end - this.at > most) throw this.fault(`a line of at most ${most} bytes`, 'a longer one');
    const line = this.take(end - this.at);
    this.at++;
    return line;
  }

  ascii(most: number): string {
    return latin1(this.line(most));
  }

  text(length: number): string {
    const bytes = this.take(length);
    if (length > kMostTextBytes)
      throw this.refuse(`texts of at most ${kMostTextBytes} bytes`, String(length), 'Save the weights as safetensors.');
    const text = utf8(bytes);
    if (text === undefined) throw this.fault('a text in UTF-8', 'one that is not');
    return text;
  }

  // Stack.

  push(value: PickleValue): void {
    this.#stack.push(value);
  }

  /** What lies on top, above the last mark. */
  top(): PickleValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.fault('a value on the stack', 'none');
    return this.#stack[this.#stack.length - 1]!;
  }

  pop(): PickleValue {
    const value = this.top();
    this.#stack.pop();
    return value;
  }

  /** Takes the topmost value or mark away. */
  drop(): void {
    if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
    else this.pop();
  }

  mark(): void {
    this.#marks.push(this.#stack.length);
  }

  /** All above the last mark, which is taken away too. */
  popMark(): PickleValue[] {
    const from = this.#marks.pop();
    if (from === undefined) throw this.fault('a mark on the stack', 'none');
    return this.#stack.splice(from);
  }

  tuple(length: number): void {
    const items = new Array<PickleValue>(length);
    for (let i = length - 1; i >= 0; i--) items[i] = this.pop();
    this.push(new PickleTuple(items));
  }

  // Containers.

  append(items: readonly PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.fault('a list to append to', kindOf(list));
    for (const item of items) list.push(item);
  }

  add(items: readonly PickleValue[]): void {
    const set = this.top();
    if (!(set instanceof PickleSet)) throw this.fault('a set to add to', kindOf(set));
    for (const item of items) set.items.push(item);
  }

  /** @param items Key, value, key, value, ... */
  setItems(items: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof PickleDict)) throw this.fault('a dict to set items of', kindOf(dict));
    if (items.length % 2 !== 0) throw this.fault('keys with values', `${items.length} of both`);
    for (let i = 0; i < items.length; i += 2) dict.set(items[i]!, items[i + 1]!);
  }

  dict(items: readonly PickleValue[]): void {
    this.push(new PickleDict());
    this.setItems(items);
  }

  // Memo.

  remember(index: number): void {
    this.memo.set(index, this.top());
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.fault('a value under this number', `none under ${index}`);
    this.push(value);
  }

  /** A number in the text form of protocol 0. */
  index(): number {
    const text = this.ascii(20);
    if (!/^\d+$/.test(text)) throw this.fault('a whole number', show(text));
    return Number(text);
  }

  // Names and calls.

  global(module: string, name: string): PickleGlobal {
    const full = `${renamed.get(module) ?? module}.${name}`;
    const call = this.#options.globals.get(full);
    if (call !== undefined) return new PickleGlobal(full, call);
    const isAttack = dangerous.has(full.split('.')[0]!);
    throw this.refuse(
      'tensors and plain values',
      `the code \`${full.slice(0, 100)}\``,
      isAttack
        ? 'Do not load this file with Python either: code of this kind can do anything to a machine. Get the weights from a source that you trust.'
        : 'No code of a file is ever run here. Save the tensors alone in Python: torch.save(model.state_dict(), file).',
    );
  }

  call(callee: PickleValue, args: readonly PickleValue[]): void {
    if (!(callee instanceof PickleGlobal)) throw this.fault('a name to call', kindOf(callee));
    if (!callee.call) throw this.fault('a name that can be called', `\`${callee.name}\``);
    this.push(callee.call(args, this));
  }

  /** The arguments and what is called with them lie on the stack. */
  reduce(): void {
    const args = this.pop();
    if (!(args instanceof PickleTuple)) throw this.fault('a tuple of arguments', kindOf(args));
    this.call(this.pop(), args.items);
  }

  build(): void {
    const state = this.pop();
    const object = this.top();
    if (object instanceof PickleDict) return; // an OrderedDict's attributes, such as the versions of a state dict's modules
    if (!(object instanceof PickleObject)) throw this.fault('an object to give a state to', kindOf(object));
    object.build(state, this);
  }

  persistent(id: PickleValue): void {
    const { persistent } = this.#options;
    if (!persistent) throw this.fault('no value that is stored elsewhere', 'one');
    this.push(persistent(id, this));
  }
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

/** Undefined when it is not UTF-8. TextDecoder makes two bytes of each letter, and these texts may be arrays of many megabytes. */
const utf8 = (bytes: Uint8Array): string | undefined =>
  isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8') : undefined;

const integer = (value: bigint): number | bigint =>
  value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;

/** Two's complement, little-endian. */
function longOf(reader: PickleReader, length: number): number | bigint {
  const bytes = reader.take(length);
  if (length > kMostIntegerBytes) throw reader.fault(`an integer of at most ${kMostIntegerBytes} bytes`, `${length} bytes`);
  if (length === 0) return 0;
  return integer(BigInt.asIntN(8 * length, BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)));
}

/** In digits, with or without Python 2's L. */
function decimalOf(reader: PickleReader): number | bigint {
  const text = reader.ascii(kMostDigits);
  if (!/^-?\d+L?$/.test(text)) throw reader.fault('an integer', show(text));
  return integer(BigInt(text.replace('L', '')));
}

/** Protocol 0 writes booleans as integers of two digits. */
function intOf(reader: PickleReader): PickleValue {
  const start = reader.at;
  const text = reader.ascii(kMostDigits);
  if (text === '00' || text === '01') return text === '01';
  reader.at = start;
  return decimalOf(reader);
}

function floatOf(reader: PickleReader): number {
  const text = reader.ascii(64);
  const named = /^(-?)(inf|nan)$/.exec(text);
  if (named) return named[2] === 'nan' ? Number.NaN : named[1] ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (!/^-?\d+(\.\d*)?(e[-+]?\d+)?$/i.test(text)) throw reader.fault('a float', show(text));
  return Number(text);
}

/** Python 2's str: a text where it is short, else bytes. */
const stringOf = (bytes: Uint8Array): string | Uint8Array => (bytes.length < kLongString ? latin1(bytes) : bytes);

const letters: ReadonlyMap<number, number> = new Map(
  [...'abfnrtv\\\'"'].map((letter, i) => [letter.charCodeAt(0), '\x07\b\f\n\r\t\v\\\'"'.charCodeAt(i)]),
);

/** Python 2's repr of a str, as protocol 0 writes it. */
function quotedOf(reader: PickleReader): string | Uint8Array {
  const line = reader.line(Number.MAX_SAFE_INTEGER);
  const quote = line[0];
  const last = line.length - 1;
  if (last < 1 || (quote !== 0x27 && quote !== 0x22) || line[last] !== quote) throw reader.fault('a string in quotes', 'one without');
  const out = new Uint8Array(last - 1);
  let length = 0;
  for (let i = 1; i < last; length++) {
    const byte = line[i++]!;
    if (byte !== 0x5c) {
      out[length] = byte;
      continue;
    }
    const letter = letters.get(line[i]!);
    const hex = letter === undefined ? /^x[\da-f]{2}/i.exec(latin1(line.subarray(i, Math.min(i + 3, last)))) : null;
    if (letter === undefined && !hex) throw reader.fault("a string with Python's escapes", `a backslash and ${byteText(line[i])}`);
    out[length] = letter ?? Number.parseInt(hex![0].slice(1), 16);
    i += hex ? 3 : 1;
  }
  return stringOf(out.subarray(0, length));
}

/** Protocol 0's texts: Latin-1 with escapes of four and eight digits for the rest. */
function escapedOf(reader: PickleReader): string {
  const line = reader.line(kMostTextBytes);
  if (!line.includes(0x5c)) return latin1(line);
  const narrow = unescaped(reader, line, new Uint8Array(line.length), 0xff);
  if (narrow) return latin1(narrow);
  const wide = unescaped(reader, line, new Uint16Array(line.length), 0x10ffff)!;
  return Buffer.from(wide.buffer, wide.byteOffset, wide.byteLength).toString('utf16le');
}

/** Fills `out`; undefined when a character is more than `most`. */
function unescaped<T extends Uint8Array | Uint16Array>(reader: PickleReader, line: Uint8Array, out: T, most: number): T | undefined {
  let length = 0;
  for (let i = 0; i < line.length; ) {
    const digits = line[i] !== 0x5c ? 0 : line[i + 1] === 0x75 ? 4 : line[i + 1] === 0x55 ? 8 : 0;
    if (digits === 0) {
      out[length++] = line[i++]!;
      continue;
    }
    const text = latin1(line.subarray(i + 2, i + 2 + digits));
    const code = /^[\da-f]+$/i.test(text) && text.length === digits ? Number.parseInt(text, 16) : Number.NaN;
    if (!(code <= 0x10ffff)) throw reader.fault('an escaped character', show(text));
    if (code > most) return undefined;
    for (const unit of code > 0xffff ? [0xd800 + ((code - 0x10000) >> 10), 0xdc00 + ((code - 0x10000) & 0x3ff)] : [code])
      out[length++] = unit;
    i += 2 + digits;
  }
  return out.subarray(0, length) as T;
}

function nameOf(reader: PickleReader): string {
  const name = utf8(reader.line(kMostNameBytes));
  if (name === undefined) throw reader.fault('a name in UTF-8', 'one that is not');
  return name;
}

function stackGlobal(reader: PickleReader): void {
  const [name, module] = [reader.pop(), reader.pop()];
  if (typeof name !== 'string' || typeof module !== 'string')
    throw reader.fault('the texts of a name', `${kindOf(module)} and ${kindOf(name)}`);
  reader.push(reader.global(module, name));
}

function newObject(reader: PickleReader): void {
  const named = reader.pop();
  if (!(named instanceof PickleDict) || named.size > 0) throw reader.fault('no arguments with names', kindOf(named));
  reader.reduce();
}

function protocol(reader: PickleReader): void {
  const version = reader.uint(1);
  if (version <= kProtocols) return;
  throw reader.refuse(`a pickle of protocol 0 to ${kProtocols}`, `protocol ${version}`, 'Save it again with pickle_protocol=2.');
}

/** Bytes that follow in one block: told beforehand so that a reader may get them all. */
function frame(reader: PickleReader): void {
  const length = reader.uint(8);
  const { at } = reader;
  reader.take(length);
  reader.at = at;
}

const outOfBand = (reader: PickleReader): never => {
  throw reader.refuse('all buffers within the pickle', 'one outside', 'Pickle it without buffer_callback.');
};
const extension = (reader: PickleReader): never => {
  throw reader.refuse('names in words', 'a number of the extension registry', 'Save the weights as safetensors.');
};

type Opcode = (reader: PickleReader) => void;

/** Of Python's pickletools; a code is its character or its number. */
const opcodeTable: readonly (readonly [code: string | number, run: Opcode])[] = [
  ['.', (r) => r.stop()],
  ['(', (r) => r.mark()],
  ['0', (r) => r.drop()],
  ['1', (r) => void r.popMark()],
  ['2', (r) => r.push(r.top())],
  // Numbers.
  ['N', (r) => r.push(null)],
  ['I', (r) => r.push(intOf(r))],
  ['J', (r) => r.push(r.int32())],
  ['K', (r) => r.push(r.uint(1))],
  ['M', (r) => r.push(r.uint(2))],
  ['L', (r) => r.push(decimalOf(r))],
  ['F', (r) => r.push(floatOf(r))],
  ['G', (r) => r.push(r.float())],
  [0x88, (r) => r.push(true)],
  [0x89, (r) => r.push(false)],
  [0x8a, (r) => r.push(longOf(r, r.uint(1)))],
  [0x8b, (r) => r.push(longOf(r, r.uint(4)))],
  // Texts and bytes.
  ['S', (r) => r.push(quotedOf(r))],
  ['T', (r) => r.push(stringOf(r.take(r.uint(4))))],
  ['U', (r) => r.push(stringOf(r.take(r.uint(1))))],
  ['V', (r) => r.push(escapedOf(r))],
  ['X', (r) => r.push(r.text(r.uint(4)))],
  [0x8c, (r) => r.push(r.text(r.uint(1)))],
  [0x8d, (r) => r.push(r.text(r.uint(8)))],
  ['B', (r) => r.push(r.take(r.uint(4)))],
  ['C', (r) => r.push(r.take(r.uint(1)))],
  [0x8e, (r) => r.push(r.take(r.uint(8)))],
  [0x96, (r) => r.push(r.take(r.uint(8)))],
  [0x97, outOfBand],
  [0x98, () => undefined], // marks a buffer as not to be written to
  // Containers.
  [']', (r) => r.push([])],
  ['l', (r) => r.push(r.popMark())],
  ['a', (r) => r.append([r.pop()])],
  ['e', (r) => r.append(r.popMark())],
  [')', (r) => r.tuple(0)],
  ['t', (r) => r.push(new PickleTuple(r.popMark()))],
  [0x85, (r) => r.tuple(1)],
  [0x86, (r) => r.tuple(2)],
  [0x87, (r) => r.tuple(3)],
  ['}', (r) => r.push(new PickleDict())],
  ['d', (r) => r.dict(r.popMark())],
  ['s', (r) => r.setItems([r.pop(), r.pop()].reverse())],
  ['u', (r) => r.setItems(r.popMark())],
  [0x8f, (r) => r.push(new PickleSet())],
  [0x90, (r) => r.add(r.popMark())],
  [0x91, (r) => r.push(new PickleSet(r.popMark()))],
  // Memo.
  ['p', (r) => r.remember(r.index())],
  ['q', (r) => r.remember(r.uint(1))],
  ['r', (r) => r.remember(r.uint(4))],
  [0x94, (r) => r.remember(r.memo.size)],
  ['g', (r) => r.recall(r.index())],
  ['h', (r) => r.recall(r.uint(1))],
  ['j', (r) => r.recall(r.uint(4))],
  // Names, calls and what is stored elsewhere.
  ['c', (r) => r.push(r.global(nameOf(r), nameOf(r)))],
  [0x93, stackGlobal],
  ['R', (r) => r.reduce()],
  [0x81, (r) => r.reduce()],
  [0x92, newObject],
  ['i', (r) => r.call(r.global(nameOf(r), nameOf(r)), r.popMark())],
  ['o', (r) => called(r, r.popMark())],
  ['b', (r) => r.build()],
  ['P', (r) => r.persistent(r.ascii(kMostNameBytes))],
  ['Q', (r) => r.persistent(r.pop())],
  [0x82, extension],
  [0x83, extension],
  [0x84, extension],
  [0x80, protocol],
  [0x95, frame],
];

/** What is called lies below its arguments. */
const called = (reader: PickleReader, [callee, ...args]: PickleValue[]): void => reader.call(callee ?? null, args);

const opcodes: readonly (Opcode | undefined)[] = (() => {
  const all = new Array<Opcode | undefined>(256).fill(undefined);
  for (const [code, run] of opcodeTable) all[typeof code === 'string' ? code.charCodeAt(0) : code] = run;
  return all;
})();
