import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { below, keyedPermutation, Purpose, philox, unit } from '../lib/data/random.ts';

const ones = 0xffffffff;

describe('random numbers', () => {
  it('are those of Random123: zero key and counter', () => {
    expect(philox(0n, 0, 0, 0, 0)).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  });

  it('are those of Random123: all bits set', () => {
    expect(philox(2n ** 64n - 1n, ones, ones, ones, ones)).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  });

  it('are those of Random123: digits of pi', () => {
    const words = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344] as const;
    const key = 0x299f31d0a4093822n;
    expect(philox(key, words[3], words[0], words[1], words[2])).toEqual([0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
  });

  it('agree with the definition in big integers', () => {
    const word = fc.integer({ min: 0, max: ones });
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), word, word, word, word, (seed, purpose, a, b, c) => {
        expect(philox(seed, purpose, a, b, c)).toEqual(definition(seed, [a, b, c, purpose]));
      }),
    );
  });

  it('as shares of one lie in [0, 1) and hold 24 bits', () => {
    expect([unit(0), unit(255), unit(256), unit(ones)]).toEqual([0, 0, 2 ** -24, 1 - 2 ** -24]);
  });

  it('below n never reach n', () => {
    for (const n of [1, 2, 3, 1000, 2 ** 31, 2 ** 32 - 1, 2 ** 32]) {
      expect(below(0, n)).toBe(0);
      expect(below(ones, n)).toBe(n - 1);
    }
  });
});

describe('a keyed permutation', () => {
  it('is one to one for every size from 1 to 2000', () => {
    for (let n = 1; n <= 2000; n++) expect(isPermutation(n, keyedPermutation(7n, Purpose.order, n, n))).toBe(true);
  });

  it('is one to one for large sizes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2001, max: 200_000 }), fc.nat(), (n, epoch) =>
        isPermutation(n, keyedPermutation(1n, Purpose.order, epoch, n)),
      ),
      { numRuns: 8 },
    );
  });

  it('stays inside and keeps neighbors apart at four billion', () => {
    const n = 2 ** 32 - 5;
    const at = keyedPermutation(3n, Purpose.order, 1, n);
    const places = Array.from({ length: 2000 }, (_, i) => at(n - 1 - i));
    expect(new Set(places).size).toBe(places.length);
    expect(places.every((place) => Number.isInteger(place) && place >= 0 && place < n)).toBe(true);
    expect(places.reduce((sum, place) => sum + place, 0) / places.length / n).toBeCloseTo(0.5, 1);
  });

  it('differs between seeds, purposes and epochs', () => {
    const list = (seed: bigint, purpose: number, epoch: number) =>
      Array.from({ length: 100 }, (_, i) => keyedPermutation(seed, purpose, epoch, 100)(i)).join();
    const lists = [list(1n, 4, 1), list(2n, 4, 1), list(1n, 5, 1), list(1n, 4, 2), list(2n ** 40n + 1n, 4, 1)];
    expect(new Set(lists).size).toBe(lists.length);
  });

  it('puts every number at every place about equally often', () => {
    const counts = Array.from({ length: 5 }, () => new Array<number>(5).fill(0));
    for (let epoch = 1; epoch <= 5000; epoch++) {
      const at = keyedPermutation(1n, Purpose.order, epoch, 5);
      for (let i = 0; i < 5; i++) counts[i]![at(i)]!++;
    }
    // 1000 expected, standard deviation 28.
    for (const count of counts.flat()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });
});

function isPermutation(n: number, at: (index: number) => number): boolean {
  const seen = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    const place = at(i);
    if (place < 0 || place >= n) return false;
    seen[place] = 1;
  }
  return seen.every((one) => one === 1);
}

function definition(seed: bigint, counter: number[]): number[] {
  const mask = 0xffffffffn;
  let [x0, x1, x2, x3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = [seed & mask, seed >> 32n];
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * x0, 0xcd9e8d57n * x2];
    [x0, x1, x2, x3] = [(p1 >> 32n) ^ x1 ^ k0, p1 & mask, (p0 >> 32n) ^ x3 ^ k1, p0 & mask];
    [k0, k1] = [(k0 + 0x9e3779b9n) & mask, (k1 + 0xbb67ae85n) & mask];
  }
  return [x0, x1, x2, x3].map(Number);
}
