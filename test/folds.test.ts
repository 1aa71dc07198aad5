// Who is tested, and on which pairs: the same for every method. That no subject is on two sides is figure N8.
import { describe, expect, test } from 'vitest';
import { drawPairs, subjectFolds } from '../lib/transfer/folds.ts';

const code = (name: string) => expect.objectContaining({ name: 'ComFaceError', code: name });

describe('subjectFolds', () => {
  test('is a function of the seed and the set of subjects, not of the order of rows', () => {
    const subjects = Array.from({ length: 60 }, (_, row) => (row * 7) % 20);
    const testedSubjects = (list: number[], seed: bigint) =>
      subjectFolds(list, 4, seed).map(({ test }) => [...new Set(Array.from(test, (row) => list[row]!))].sort((a, b) => a - b));
    expect(testedSubjects(subjects, 3n)).toEqual(testedSubjects([...subjects].reverse(), 3n));
    expect(testedSubjects(subjects, 3n)).not.toEqual(testedSubjects(subjects, 4n));
  });

  test('gives every subject about the same chance of being tested first', () => {
    const counts = new Array<number>(10).fill(0);
    for (let seed = 0n; seed < 2000n; seed++) for (const row of subjectFolds([...counts.keys()], 5, seed)[0]!.test) counts[row]!++;
    // 400 each; 5 standard deviations of a binomial are 90.
    for (const count of counts) expect(Math.abs(count - 400)).toBeLessThan(90);
  });

  test('refuses fewer subjects than folds, and two folds of three subjects', () => {
    expect(() => subjectFolds([1, 1, 2, 3], 4, 1n)).toThrow(
      'Expected at least 4 different subjects for 4 folds for `subjects` but received 3',
    );
    expect(() => subjectFolds([1, 2, 3], 2, 1n)).toThrow(code('INVALID_INPUT'));
    expect(() => subjectFolds([1, 2, 3], 1, 1n)).toThrow(code('INVALID_INPUT'));
    expect(subjectFolds([1, 2, 3], 3, 1n)).toHaveLength(3);
  });
});

describe('drawPairs', () => {
  const subject = Array.from({ length: 90 }, (_, row) => 100 + (row % 9));
  const value = Array.from({ length: 90 }, (_, row) => Math.floor(row / 9) - 4.5);

  test('pairs two different rows of one subject, as many for each subject, with the signed change', () => {
    const pairs = drawPairs({ subject, value }, 50, 7n);
    expect(pairs.x).toHaveLength(450);
    pairs.x.forEach((x, i) => {
      const y = pairs.y[i]!;
      expect(x).not.toBe(y);
      expect([subject[x], subject[y]]).toEqual([pairs.subject[i], pairs.subject[i]]);
      expect(pairs.target[i]).toBe(value[y]! - value[x]!);
    });
  });

  test('draws increases and decreases about equally often, and every ordered pair', () => {
    const { target, x, y } = drawPairs({ subject, value }, 2000, 1n);
    const up = target.filter((change) => change > 0).length / target.length;
    expect(Math.abs(up - 0.5)).toBeLessThan(0.02);
    expect(new Set(Array.from(x, (row, i) => `${row} ${y[i]}`)).size).toBe(9 * 10 * 9);
  });

  test('draws the same again, something else for another seed, and no differently for one subject when others leave', () => {
    const all = drawPairs({ subject, value }, 20, 5n);
    expect(drawPairs({ subject, value }, 20, 5n)).toEqual(all);
    expect(drawPairs({ subject, value }, 20, 6n).x).not.toEqual(all.x);
    const rows = [...subject.keys()].filter((row) => subject[row] === 104);
    const alone = drawPairs({ subject: rows.map((row) => subject[row]!), value: rows.map((row) => value[row]!) }, 20, 5n);
    expect(alone.target).toEqual(all.target.filter((_, i) => all.subject[i] === 104));
  });

  test('refuses a subject that has nothing to be compared with', () => {
    expect(() => drawPairs({ subject: [1, 1, 2], value: [0, 1, 2] }, 3, 1n)).toThrow('received "one row of subject 2"');
    expect(() => drawPairs({ subject: [1, 1], value: [0] }, 3, 1n)).toThrow(code('INVALID_INPUT'));
    expect(() => drawPairs({ subject: [1, 1], value: [0, 1] }, 0, 1n)).toThrow(code('INVALID_INPUT'));
  });
});
