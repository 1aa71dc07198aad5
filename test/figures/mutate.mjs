// @ts-check
// Makes hostile inputs out of good ones, fast. An input is a pure function of (parser, index), so that a failure names all it takes to make it again.
import { Buffer } from 'node:buffer';

const kMostBytes = 8192;

/** Small keyed numbers (splitmix32): not for statistics, for speed. */
export class Random {
  #state = 0;

  /** @param {number} seed @param {number} index */
  reset(seed, index) {
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
    this.#next();
  }

  #next() {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let word = this.#state ^ (this.#state >>> 16);
    word = Math.imul(word, 0x21f0aaad);
    word ^= word >>> 15;
    word = Math.imul(word, 0x735a2d97);
    return (word ^ (word >>> 15)) >>> 0;
  }

  /** A whole number from 0 to `end` - 1. @param {number} end */
  below(end) {
    return this.#next() % Math.max(1, end);
  }

  /** True once in so many. @param {number} times */
  oneIn(times) {
    return this.below(times) === 0;
  }

  /** @template T @param {readonly T[]} list @returns {T} */
  pick(list) {
    return /** @type {T} */ (list[this.below(list.length)]);
  }
}

/** Pieces that mean something to JSON, YAML or a reader of either. */
export const commonTokens = [
  ...[
    '{',
    '}',
    '[',
    ']',
    '"',
    ':',
    ',',
    '\\',
    '\n',
    '\r\n',
    '\0',
    ' ',
    '\t',
    '-',
    '.',
    '#',
    '&a ',
    '*a',
    '!!',
    '---\n',
    '%',
    '|',
    '>',
    '?',
  ],
  ...['null', 'true', 'false', 'NaN', 'Infinity', '-0', '1e308', '1e999', '-1', '0', '1.5', '00', '0x10', '1_000', '1e-400'],
  ...['9007199254740991', '9007199254740992', '18446744073709551615', '4294967295', '4294967296', '2147483648', '1'.repeat(400)],
  ...['"__proto__":', '"constructor":{"prototype":', '"toString":1,', '"valueOf":1,', '"length":-1,', '"then":1,', '"toJSON":1,'],
  ...[
    '\\u0000',
    '\\ud800',
    '\\udfff',
    '\\u0061',
    '\\u202e',
    '\ud7ff',
    '\ufeff',
    '\u2028',
    'ä',
    '😀',
    '\u001b[31m',
    '{"a":',
    '[[[[',
    ']]]]',
  ],
  ...['[[[[[[[['.repeat(20), '{"a":'.repeat(60), ' '.repeat(200), '"'.repeat(50), ',,', '{}', '[]', '""', '<<: ', '../', '/', '..'],
].map((text) => Buffer.from(text));
// Bytes that are no UTF-8: a lone start, a lone end, an overlong slash.
commonTokens.push(Buffer.of(0xff), Buffer.of(0xc3), Buffer.of(0x80), Buffer.of(0xc0, 0xaf), Buffer.of(0xed, 0xa0, 0x80));

const isDigit = (/** @type {number | undefined} */ byte) => byte !== undefined && byte >= 0x30 && byte <= 0x39;

/** One input under way, in memory that is used again for the next. */
export class Draft {
  #memory = Buffer.alloc(kMostBytes);
  #length = 0;

  get bytes() {
    return this.#memory.subarray(0, this.#length);
  }

  /** @param {Uint8Array} bytes */
  start(bytes) {
    this.#length = Math.min(bytes.length, kMostBytes);
    this.#memory.set(bytes.subarray(0, this.#length));
  }

  /** Replaces `count` bytes at `at`; nothing happens when there is no room. @param {number} at @param {number} count @param {Uint8Array} by */
  replace(at, count, by) {
    const [from, end] = [Math.min(at, this.#length), Math.min(at + count, this.#length)];
    const length = this.#length - (end - from) + by.length;
    if (length > kMostBytes) return;
    this.#memory.copyWithin(from + by.length, end, this.#length);
    this.#memory.set(by, from);
    this.#length = length;
  }

  /**
   * A few random changes.
   * @param {Random} random @param {readonly Uint8Array[]} seeds @param {readonly Uint8Array[]} tokens
   */
  mutate(random, seeds, tokens) {
    const changes = random.oneIn(16) ? 8 + random.below(24) : 1 + random.below(4);
    for (let i = 0; i < changes; i++) this.#change(random, seeds, tokens);
  }

  /** @param {Random} random @param {readonly Uint8Array[]} seeds @param {readonly Uint8Array[]} tokens */
  #change(random, seeds, tokens) {
    const at = random.below(this.#length + 1);
    const count = 1 + random.below(random.oneIn(4) ? 200 : 12);
    switch (random.below(10)) {
      case 0: // a bit
        if (at < this.#length) this.#memory[at] = /** @type {number} */ (this.#memory[at]) ^ (1 << random.below(8));
        return;
      case 1: // a byte
        if (at < this.#length) this.#memory[at] = random.below(256);
        return;
      case 2:
        return this.replace(at, 0, random.pick(tokens));
      case 3:
        return this.replace(at, count, random.pick(tokens));
      case 4: // cut out
        return this.replace(at, count, Buffer.alloc(0));
      case 5: // say twice
        return this.replace(at, 0, Buffer.from(this.bytes.subarray(at, at + count)));
      case 6: // a piece of another place or input
        return this.replace(
          at,
          random.oneIn(2) ? 0 : count,
          piece(random, random.oneIn(2) ? Buffer.from(this.bytes) : random.pick(seeds), count),
        );
      case 7: // another number
        return this.#number(random, at, tokens);
      case 8: // a whole line twice or away
        return this.#line(random, at);
      default: // cut short
        if (random.oneIn(4)) this.#length = at;
    }
  }

  /** @param {Random} random @param {number} at @param {readonly Uint8Array[]} tokens */
  #number(random, at, tokens) {
    let from = at;
    while (from < this.#length && !isDigit(this.#memory[from])) from++;
    let end = from;
    while (end < this.#length && isDigit(this.#memory[end])) end++;
    const value = Number(this.#memory.toString('latin1', from, Math.min(end, from + 15)));
    const near = random.oneIn(2) ? value + random.below(5) - 2 : value * (1 + random.below(9));
    this.replace(from, end - from, random.oneIn(3) ? random.pick(tokens) : Buffer.from(String(near)));
  }

  /** @param {Random} random @param {number} at */
  #line(random, at) {
    const from = at === 0 ? 0 : this.bytes.lastIndexOf(10, at - 1) + 1;
    const next = this.bytes.indexOf(10, at);
    const line = Buffer.from(this.bytes.subarray(from, next < 0 ? this.#length : next + 1));
    if (random.oneIn(2)) this.replace(from, line.length, Buffer.alloc(0));
    else this.replace(random.oneIn(2) ? from : this.#length, 0, line);
  }
}

/** @param {Random} random @param {Uint8Array} from @param {number} count */
function piece(random, from, count) {
  const at = random.below(from.length);
  return from.subarray(at, at + count);
}
