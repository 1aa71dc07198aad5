// Directions: every shape that they are published in is read, what they belong to is known from manifests and names, and what does not fit is refused.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chooseDirections, type Fitting } from '../lib/generate/choose.ts';
import { type Direction, projectDirection, readDirections } from '../lib/generate/directions.ts';
import { saveDirection } from '../lib/generate/save.ts';
import { numbers, refusal, temporaryFolder } from './support.ts';

/** A .npy file of these numbers. */
function npy(values: Float32Array, shape: number[], isDouble = false): Buffer {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const words = `{'descr': '<f${isDouble ? 8 : 4}', 'fortran_order': False, 'shape': (${sizes}), }`.padEnd(117);
  const head = Buffer.from(`\x93NUMPY\x01\0\x76\0${words}\n`, 'latin1');
  const body = isDouble ? Float64Array.from(values) : values;
  return Buffer.concat([head, Buffer.from(body.buffer, body.byteOffset, body.byteLength)]);
}

function write(folder: string, name: string, values = numbers(512, 3), shape = [1, values.length], isDouble = false): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, npy(values, shape, isDouble));
  return path;
}
const one = async (path: string): Promise<Direction> => (await readDirections(path))[0]!;

const stylegan1: Fitting = { family: 'stylegan1', z: 512, w: 512, layers: 18 };
const stylegan3: Fitting = { family: 'stylegan3-r', z: 512, w: 512, layers: 16 };
const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const unit = (seed: number): Float32Array => {
  const values = numbers(512, seed);
  const length = Math.sqrt(dot(values, values));
  return values.map((value) => value / length);
};

describe('reading', () => {
  test.each<[number[], number, boolean]>([
    [[512], 1, false],
    [[1, 512], 1, false],
    [[1, 512], 1, true],
    [[18, 512], 18, false],
    [[16, 512], 16, true],
  ])('an array of %j is %i rows (float64: %s)', async (shape, rows, isDouble) => {
    const values = numbers(rows * 512, 9);
    const found = await one(write(temporaryFolder(), 'weight.npy', values, shape, isDouble));
    expect(found).toMatchObject({ rows, width: 512, values, space: rows === 1 ? 'W' : 'W+', attribute: 'weight' });
  });

  test.each<[string, string, Partial<Direction>]>([
    ['InterFaceGAN, W', 'stylegan_ffhq_age_w_boundary.npy', { attribute: 'age', generator: 'stylegan1-ffhq-1024', space: 'W' }],
    ['InterFaceGAN, Z', 'stylegan_celebahq_gender_boundary.npy', { attribute: 'Male', generator: 'stylegan1-celebahq-1024', space: 'Z' }],
    ['InterFaceGAN, conditional', 'stylegan_ffhq_age_c_gender_boundary.npy', { attribute: 'age_c_gender', space: 'Z' }],
    ['InterFaceGAN of another generator', 'pggan_celebahq_smile_boundary.npy', { generator: 'pggan-celebahq-1024', space: 'Z' }],
    ['InterFaceGAN++', 'stylegan_ffhq_w/boundary_Gender.npy', { attribute: 'Male', generator: 'stylegan1-ffhq-1024', space: 'W' }],
    [
      'InterFaceGAN++ of StyleGAN3',
      'stylegan3_ffhq_z/boundary_Bald.npy',
      { attribute: 'Bald', generator: 'stylegan3-t-ffhq-1024', space: 'Z' },
    ],
    ['stylegan3-editing', 'ffhq/Smiling_boundary.npy', { attribute: 'Smiling', generator: 'stylegan3-r-ffhq-1024', space: 'W' }],
    ['the facial weight', 'StyleGAN1/weight_orth_mouth.npy', { attribute: 'weight', generator: 'stylegan1-ffhq-1024', space: 'W' }],
    ['the facial weight of StyleGAN2', 'StyleGAN2/weight_2.npy', { attribute: 'weight', generator: 'stylegan2-ffhq-1024' }],
    ['a name of somebody', 'mine.npy', { attribute: 'mine', generator: null, space: null }],
  ])('the name of %s', async (_, name, facts) => {
    expect(await one(write(temporaryFolder(), name))).toMatchObject(facts);
  });

  test('a manifest above a file says what it is, and is believed before its name', async () => {
    const folder = temporaryFolder();
    const file = write(folder, 'a/stylegan_ffhq_age_w_boundary.npy');
    const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');
    const entry = {
      file: 'a/stylegan_ffhq_age_w_boundary.npy',
      generator: 'stylegan3-r-ffhq-1024',
      space: 'Z',
      attribute: 'gender',
      sha256,
    };
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ files: [entry] }));
    expect(await one(file)).toMatchObject({ attribute: 'Male', generator: 'stylegan3-r-ffhq-1024', space: 'Z', sha256 });
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ files: [{ ...entry, sha256: sha256.replace(/^./, 'x') }] }));
    expect(await refusal(() => one(file))).toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringContaining('SHA-256') });
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ files: [{ ...entry, space: 'V' }] }));
    expect(await refusal(() => one(file))).toMatchObject({ code: 'CORRUPT_FILE', message: expect.stringContaining('`space`') });
  });

  test('what nothing says may be given', async () => {
    const file = write(temporaryFolder(), 'mine.npy');
    expect((await readDirections(file, { generator: 'stylegan1', space: 'W' }))[0]).toMatchObject({ generator: 'stylegan1', space: 'W' });
  });

  test.each<[string, () => string, RegExp]>([
    ['three dimensions', () => write(temporaryFolder(), 'a.npy', numbers(8, 1), [2, 2, 2]), /found \(2, 2, 2\)/],
    ['zeros', () => write(temporaryFolder(), 'a.npy', new Float32Array(512)), /not all of them 0/],
    ['a number that is none', () => write(temporaryFolder(), 'a.npy', new Float32Array(512).fill(Number.NaN)), /finite numbers/],
    ['rows of Z', () => write(temporaryFolder(), 'stylegan_ffhq_age_boundary.npy', numbers(18 * 512, 1), [18, 512]), /one row of Z/],
    ['a folder without any', () => temporaryFolder(), /1 to 10000 \.npy files but found 0/],
  ])('%s are refused', async (_, make, message) => {
    expect(await refusal(() => readDirections(make()))).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringMatching(message) });
  });
});

describe('choosing', () => {
  const choose = async (names: [string, number?][], attributes: string[], generator: Fitting, more: string[] = []) => {
    const folder = temporaryFolder();
    for (const [name, seed = 1] of names) write(folder, name, numbers(512, seed));
    const paths = [folder, ...more.map((name) => join(folder, name))];
    return chooseDirections(await readDirections(paths), attributes, generator, paths);
  };

  test('W of FFHQ is preferred to Z and to CelebA-HQ, and weight changes the first eight layers alone', async () => {
    const found = await choose(
      [
        ['stylegan_ffhq_age_boundary.npy'],
        ['stylegan_ffhq_age_w_boundary.npy', 2],
        ['stylegan_celebahq_age_w_boundary.npy', 3],
        ['weight.npy', 4],
      ],
      ['weight', 'age'],
      stylegan1,
    );
    expect(found).toMatchObject([
      { attribute: 'weight', space: 'W', from: 0, to: 8, values: numbers(512, 4) },
      { attribute: 'age', space: 'W', from: 0, to: 18, values: numbers(512, 2) },
    ]);
  });

  test('a direction of Z is used where there is none of W', async () => {
    expect(await choose([['stylegan3_ffhq_z/boundary_Bald.npy']], ['Bald'], { ...stylegan3, family: 'stylegan3-t' })).toMatchObject([
      { space: 'Z' },
    ]);
  });

  test('of two that fit the one that is named itself is used, and else both are named', async () => {
    const both: [string, number?][] = [['stylegan_ffhq_gender_w_boundary.npy'], ['stylegan_ffhq_w/boundary_Gender.npy', 2]];
    expect(await choose(both, ['Male'], stylegan1, ['stylegan_ffhq_w/boundary_Gender.npy'])).toMatchObject([{ values: numbers(512, 2) }]);
    const { message, hint } = await refusal(() => choose(both, ['Male'], stylegan1));
    expect(message).toMatch(/one direction of Male .* received .*gender_w_boundary\.npy, .*boundary_Gender\.npy/);
    expect(hint).toContain('Name the file');
  });

  test.each<[string, [string, number?][], string[], Fitting, RegExp]>([
    [
      'of StyleGAN on StyleGAN3',
      [['stylegan_ffhq_age_w_boundary.npy']],
      ['age'],
      stylegan3,
      /none of age; .* is one of stylegan1-ffhq-1024/,
    ],
    ['of a T on an R', [['stylegan3_ffhq_z/boundary_Bald.npy']], ['Bald'], stylegan3, /is one of stylegan3-t-ffhq-1024/],
    ['of StyleGAN2', [['stylegan2_ffhq_z/boundary_Bald.npy']], ['Bald'], stylegan1, /is one of stylegan2-ffhq-1024/],
    ['of nobody knows what', [['age.npy']], ['age'], stylegan1, /nothing says the generator and space/],
    ['of another width', [['weight.npy']], ['weight'], { ...stylegan1, w: 256 }, /is one of 512 numbers/],
    ['that is not there', [['weight.npy']], ['age', 'smile'], stylegan1, /none of age, smile/],
  ])('a direction %s is refused with where to get one', async (_, names, attributes, generator, message) => {
    const error = await refusal(() => choose(names, attributes, generator));
    expect({ code: error.code, message: error.message }).toEqual({ code: 'INVALID_INPUT', message: expect.stringMatching(message) });
    expect(error.hint).toMatch(/interfacegan|stylegan3-editing/i);
  });
});

describe('projecting', () => {
  const direction = (values: Float32Array, more: Partial<Direction> = {}): Direction => ({
    ...{
      file: '/a.npy',
      attribute: 'a',
      generator: 'stylegan1-ffhq-1024',
      space: 'W',
      width: 512,
      rows: values.length / 512,
      values,
      norm: 1,
      sha256: 'a',
    },
    ...more,
  });

  test('what is left is at right angles to all others, has the length that it had, and is the nearest such', () => {
    const [a, b, c] = [unit(1), unit(2), unit(3)];
    const near = a.map((value, i) => 2 * (value + 0.5 * b[i]! - 0.4 * c[i]!));
    const { values, norm } = projectDirection(direction(near), [direction(b), direction(c)]);
    expect(Math.abs(dot(values, b))).toBeLessThan(1e-6);
    expect(Math.abs(dot(values, c))).toBeLessThan(1e-6);
    expect(norm).toBeCloseTo(Math.sqrt(dot(near, near)), 5);
    // The Gram matrix solved by hand for two.
    const g = dot(b, c);
    const [p, q] = [dot(near, b), dot(near, c)];
    const [x, y] = [(p - g * q) / (1 - g * g), (q - g * p) / (1 - g * g)];
    const rest = near.map((value, i) => value - x * b[i]! - y * c[i]!);
    const factor = norm / Math.sqrt(dot(rest, rest));
    expect(Math.max(...values.map((value, i) => Math.abs(value - rest[i]! * factor)))).toBeLessThan(1e-6);
  });

  test('each row of a direction for every layer is projected by itself', () => {
    const values = Float32Array.from([...unit(1), ...unit(4)]);
    const projected = projectDirection(direction(values, { space: 'W+' }), [direction(unit(2))]);
    for (const row of [0, 1]) expect(Math.abs(dot(projected.values.subarray(row * 512, (row + 1) * 512), unit(2)))).toBeLessThan(1e-6);
  });

  test.each<[string, Direction[], RegExp]>([
    ['itself', [direction(unit(1))], /is no mixture/],
    ['others of which one is a mixture', [direction(unit(2)), direction(unit(2).map((v) => 3 * v))], /none is a mixture/],
    ['one of another generator', [direction(unit(2), { generator: 'stylegan3-r-ffhq-1024' })], /stylegan3-r-ffhq-1024/],
    ['one of another space', [direction(unit(2), { space: 'Z' })], /Z, 512/],
  ])('%s is refused', async (_, others, message) => {
    expect(await refusal(async () => projectDirection(direction(unit(1)), others))).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(message),
    });
  });

  test('a saved direction is read as what it is', async () => {
    const folder = temporaryFolder();
    const saved = await saveDirection(direction(unit(1), { attribute: 'weight' }), join(folder, 'own', 'chubby.npy'));
    await saveDirection(direction(unit(2), { attribute: 'age' }), join(folder, 'own', 'older.npy'));
    expect(await readDirections(folder)).toMatchObject([
      { attribute: 'weight', generator: 'stylegan1-ffhq-1024', space: 'W', values: unit(1), sha256: saved.sha256 },
      { attribute: 'age' },
    ]);
  });
});
