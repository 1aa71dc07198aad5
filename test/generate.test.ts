// Sets that a generator makes: of a small one of random numbers, on the plain loops. What a picture shows is decided by subject, attribute and alpha alone,
// and a set that was stopped ends in the same bytes.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { readDirections } from '../lib/generate/directions.ts';
import { type GenerateOptions, generate, previewSet } from '../lib/generate/generate.ts';
import { loadGenerator } from '../lib/generate/generator.ts';
import { native } from '../lib/native.ts';
import { encodeNpy } from '../lib/use/npy.ts';
import { sharedFolder } from './faces.ts';
import { stylegan1State, stylegan3State, torchFile } from './generators.ts';
import { digest, distance, numbers, refusal, temporaryFolder } from './support.ts';

const shared = sharedFolder();
const [weights, weights3, directions] = ['first.pth', 'third.pt', 'directions'].map((name) => join(shared, name)) as [
  string,
  string,
  string,
];
const state = stylegan1State({ channels: [8, 8, 8, 8, 4, 4, 4, 4], fusedFrom: 16 });

function writeDirection(name: string, seed: number, rows = 1): void {
  writeFileSync(join(directions, name), encodeNpy(numbers(rows * 16, seed, 0.3), rows, 16));
}
beforeAll(() => {
  mkdirSync(directions);
  writeFileSync(weights, torchFile(state));
  const third = { sizes: [36, 52, 52, 32, 32], channels: [8, 8, 6, 4, 3], ups: [2, 4, 2, 2], isRadial: true };
  writeFileSync(weights3, torchFile(stylegan3State(third)));
  for (const [i, name] of [
    'weight.npy',
    'stylegan_ffhq_age_w_boundary.npy',
    'stylegan_ffhq_smile_boundary.npy',
    'Bald_boundary.npy',
    'Bangs_boundary.npy',
  ].entries())
    writeDirection(name, i + 1);
});

const options = (out: string, more: Partial<GenerateOptions> = {}): GenerateOptions => ({
  ...{ out, source: 'stylegan1', weights, directions, device: 'reference', subjects: 2, attributes: ['weight', 'age', 'smile'] },
  ...{ alphas: 3, size: 32, batch: 2, threads: 1 },
  ...more,
});

describe('a generator', () => {
  test('makes the same picture of a subject each time, whatever else is computed with it', async () => {
    await using generator = await loadGenerator(weights, { device: 'reference', batch: 3 });
    await using single = await loadGenerator(weights, { device: 'reference', batch: 1 });
    expect(generator).toMatchObject({ family: 'stylegan1', resolution: 32, z: 16, w: 16, layers: 8, device: 'reference' });
    const ws = generator.truncate(await generator.map(generator.latent(5)));
    const four = await generator.images(Float32Array.from([...numbers(128, 1), ...ws, ...numbers(128, 2), ...ws]));
    const alone = await single.images(ws);
    expect(alone).toHaveLength(3 * 32 * 32);
    expect(distance(four.subarray(alone.length, 2 * alone.length), alone)).toBeLessThan(1e-6);
    expect(distance(four.subarray(3 * alone.length), alone)).toBeLessThan(1e-6);
  });

  test('calls that overlap have their own results', async () => {
    await using generator = await loadGenerator(weights, { device: 'reference' });
    const each = [1, 2, 3].map((subject) => generator.latent(subject));
    const together = await Promise.all(each.map((z) => generator.map(z)));
    for (const [i, z] of each.entries()) expect(together[i]).toEqual(await generator.map(z));
    expect(await generator.map(Float32Array.from(each.flatMap((z) => [...z])))).toEqual(Float32Array.from(together.flatMap((w) => [...w])));
  });

  test('moves a face smoothly: the further along a direction, the more a picture differs', async () => {
    await using generator = await loadGenerator(weights, { device: 'reference' });
    for (const direction of (await readDirections(directions)).filter(({ attribute }) => ['age', 'smile'].includes(attribute))) {
      const at = async (alpha: number) => generator.images(await generator.edited(3, direction, alpha));
      const still = await at(0);
      const differences = [];
      for (const alpha of [0.25, 0.5, 1, 2]) differences.push(distance(await at(alpha), still));
      expect(differences).toEqual([...differences].sort((a, b) => a - b));
      expect(differences[0]).toBeGreaterThan(0);
    }
  });

  test('truncates to its mean at psi 0, in the first eight layers alone', async () => {
    await using generator = await loadGenerator(weights, { device: 'reference' });
    const w = await generator.map(generator.latent(1));
    const ws = generator.truncate(w, 0);
    for (let l = 0; l < 8; l++) expect(ws.slice(l * 16, l * 16 + 16)).toEqual(generator.average);
    expect(generator.average).toEqual(state['truncation.w_avg']!.data);
    expect(distance(generator.truncate(w, 1).slice(0, 16), w)).toBeLessThan(1e-6);
  });

  test('gives pictures as JPEG files and as pixels, of a size up to its own', async () => {
    await using generator = await loadGenerator(weights3, { device: 'reference' });
    const ws = generator.truncate(await generator.map(generator.latent(1)));
    const { bytes, sizes, crcs } = await generator.pictures(ws, { size: 8 });
    expect([sizes.length, crcs.length, bytes.length]).toEqual([1, 1, sizes[0]]);
    expect(await native().module.decodeJpeg(bytes)).toMatchObject({ width: 8, height: 8 });
    const pixels = (await generator.pictures(ws, { quality: 0 })).bytes;
    const values = await generator.images(ws);
    const plane = 32 * 32;
    expect([...pixels]).toEqual(
      Array.from({ length: 3 * plane }, (_, i) =>
        Math.min(255, Math.max(0, Math.floor(values[(i % 3) * plane + Math.floor(i / 3)]! * 127.5 + 128))),
      ),
    );
    expect(await refusal(() => generator.pictures(ws, { size: 33 }))).toMatchObject({ code: 'INVALID_INPUT' });
  });

  test('refuses what is not its own, and everything once it is disposed of', async () => {
    const generator = await loadGenerator(weights3, { device: 'reference' });
    const [age] = await readDirections(join(directions, 'stylegan_ffhq_age_w_boundary.npy'));
    expect(await refusal(() => generator.edited(1, age!, 1))).toMatchObject({ message: expect.stringContaining('stylegan1-ffhq-1024') });
    expect(await refusal(() => generator.map(new Float32Array(15)))).toMatchObject({ message: expect.stringContaining('`z`') });
    expect(await refusal(() => generator.images(new Float32Array(0)))).toMatchObject({ message: expect.stringContaining('`ws`') });
    generator.dispose();
    generator.dispose();
    expect(await refusal(() => generator.map(generator.latent(1)))).toMatchObject({ code: 'DISPOSED' });
    expect(await refusal(() => generator.images(new Float32Array(6 * 16)))).toMatchObject({ code: 'DISPOSED' });
  });
});

describe('a set of a generator', () => {
  test('has the pictures that the generator makes of each subject, attribute and alpha, and says what made them', async () => {
    const out = join(temporaryFolder(), 'set');
    const set = await generate(options(out, { quality: 0 }));
    expect(set).toMatchObject({ count: 18, size: 32, attributes: ['weight', 'age', 'smile'] });
    const { made } = JSON.parse(readFileSync(join(out, 'set.json'), 'utf8'));
    expect(made).toMatchObject({
      source: 'stylegan1',
      generator: 'stylegan1',
      psi: 0.7,
      device: 'reference',
      precision: 'fp32',
      batch: 2,
      composition: 'full',
    });
    expect(made.weights).toBe(createHash('sha256').update(readFileSync(weights)).digest('hex'));
    expect(made.directions).toMatch(/^weight W 0-7 [\da-f]{64}, age W 0-7 [\da-f]{64}, smile Z 0-7 [\da-f]{64}$/);
    await using generator = await loadGenerator(weights, { device: 'reference', batch: 2 });
    const all = await readDirections(directions);
    const bytes = readFileSync(join(out, '00000.shard'));
    const pixels = bytes.subarray(bytes.length - 18 * 3072);
    for (const [subject, a, name] of [
      [0, 0, 'weight'],
      [1, 1, 'age'],
      [1, 2, 'smile'],
    ] as const)
      for (const [i, alpha] of [-5, 0, 5].entries()) {
        const ws = await generator.edited(subject, all.find(({ attribute }) => attribute === name)!, alpha);
        const expected = (await generator.pictures(ws, { quality: 0 })).bytes;
        const at = (subject * 9 + a * 3 + i) * 3072;
        expect(pixels.subarray(at, at + 3072).equals(expected)).toBe(true);
      }
    expect(pixels.subarray(0, 3072).equals(pixels.subarray(3072, 6144))).toBe(false);
  });

  test.each(['reference', 'cpu'] as const)(
    'that was stopped goes on and ends in the same bytes, and is then read and not made again (%s)',
    async (device) => {
      const folder = temporaryFolder();
      const [whole, stopped] = [join(folder, 'whole'), join(folder, 'stopped')];
      const more = { device, shardBytes: 3 * 512, subjects: 3 };
      await generate(options(whole, more));
      const controller = new AbortController();
      const stop = generate(
        options(stopped, { ...more, signal: controller.signal, onProgress: ({ done }) => done >= 8 && controller.abort() }),
      );
      await expect(stop).rejects.toMatchObject({ name: 'AbortError' });
      const left = readdirSync(stopped);
      expect(left).toContain('generate.json');
      expect(left.filter((name) => name.endsWith('.shard')).length).toBeGreaterThan(0);
      const first = readdirSync(stopped).filter((name) => name.endsWith('.shard')).length;
      const drawn: number[] = [];
      await generate(options(stopped, { ...more, onProgress: ({ done }) => drawn.push(done) }));
      expect(drawn[0]).toBeGreaterThan(first);
      expect(await digest(stopped)).toBe(await digest(whole));
      let isDrawn = false;
      await generate(options(stopped, { ...more, onProgress: () => (isDrawn = true) }));
      expect(isDrawn).toBe(false);
    },
  );

  test('of StyleGAN3 gives each subject one attribute in turn', async () => {
    const out = join(temporaryFolder(), 'set');
    const set = await generate(options(out, { source: 'stylegan3', weights: weights3, attributes: ['Bald', 'Bangs'], subjects: 3 }));
    expect(set.count).toBe(9);
    expect([0, 3, 6].map((sample) => set.attributes[set.attributeOf(sample)])).toEqual(['Bald', 'Bangs', 'Bald']);
    expect(JSON.parse(readFileSync(join(out, 'set.json'), 'utf8')).made).toMatchObject({ composition: 'single', generator: 'stylegan3-r' });
  });

  test('is not mixed with one of other weights, directions or psi', async () => {
    const out = join(temporaryFolder(), 'set');
    await generate(options(out));
    for (const more of [
      { psi: 0.5 },
      { seed: 2 },
      { batch: 1 },
      { directions: [directions, join(directions, 'stylegan_ffhq_age_w_boundary.npy')], attributes: ['age'] },
    ])
      expect(await refusal(() => generate(options(out, more)))).toMatchObject({
        message: expect.stringContaining('other pictures or options'),
      });
  });

  test.each<[string, Partial<GenerateOptions>, RegExp]>([
    ['an attribute without a direction', { attributes: ['weight', 'Bald'] }, /none of Bald; .*Bald_boundary\.npy is one of stylegan3-r/],
    ['weights of another generator', { source: 'stylegan3' }, /a stylegan3 generator but found a stylegan1/],
    ['no weights', { weights: undefined as never }, /`weights`/],
    ['no directions', { directions: undefined as never }, /`directions`/],
    ['files in place of shards', { format: 'files' }, /`format`/],
    ['a domain', { domain: 1 }, /`domain`/],
    ['a psi out of range', { psi: 1.5 }, /`psi`/],
    [
      '16 bits without CUDA',
      { source: 'stylegan3', weights: weights3, attributes: ['Bald'], precision: 'fp16' },
      /fp32 on the plain loops for `precision`/,
    ],
    ['16 bits for a StyleGAN', { precision: 'fp16' }, /fp32 for this stylegan1, which has no layers in 16 bits, for `precision`/],
    ['a size above the resolution', { size: 64 }, /`size`/],
    ['psi of drawn faces', { source: 'procedural' }, /nothing with source procedural for `weights`/],
  ])('is refused with %s', async (_, more, message) => {
    const out = join(temporaryFolder(), 'set');
    expect(await refusal(() => generate(options(out, more)))).toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(message),
    });
    expect(() => readdirSync(out)).toThrow();
  });
});

test('a preview shows the first people of a set, a row for each of their attributes, and makes no set', async () => {
  const out = join(temporaryFolder(), 'set');
  const { jpeg, rows, alphas } = await previewSet(options(out));
  expect(alphas).toEqual([-5, -2.5, 0, 2.5, 5]);
  const named = { weight: 'weight', age: 'stylegan_ffhq_age_w_boundary', smile: 'stylegan_ffhq_smile_boundary' };
  const all = Object.entries(named).map(([attribute, name]) => ({ attribute, direction: join(directions, `${name}.npy`) }));
  expect(rows).toEqual([0, 1].flatMap((subject) => all.map((each) => ({ subject, ...each }))));
  expect(await native().module.decodeJpeg(jpeg)).toMatchObject({ width: 5 * 32, height: 6 * 32 + 5 * 4 });
  expect(() => readdirSync(out)).toThrow();
});

describe('on the command line', () => {
  const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
  const comface = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: shared, timeout: 60_000 });
  const small = ['--source', 'stylegan1', '--weights', weights, '--directions', directions, '--device', 'reference', '--size', '32'];

  test('a preview, then the set, joined with another', () => {
    const sheet = comface('generate', '--out', 'made', ...small, '--subjects', '1', '--preview', 'sheet.jpg');
    expect([sheet.status, sheet.stdout]).toEqual([0, 'sheet.jpg\n']);
    expect(sheet.stderr).toContain('Rows: weight of 0, age of 0, smile of 0.');
    const made = comface('generate', '--out', 'made', ...small, '--subjects', '1', '--alphas', '3');
    expect([made.status, made.stdout]).toEqual([0, '9 pictures in made\n']);
    const drawn = comface('generate', '--out', 'drawn', '--subjects', '2', '--alphas', '3', '--size', '32', '--composition', 'single');
    expect([drawn.status, drawn.stdout]).toEqual([0, '6 pictures in drawn\n']);
    const joined = comface('join', 'made', 'drawn', '--renumber', '--out', 'both');
    expect([joined.status, joined.stdout]).toEqual([0, '15 pictures of 3 subjects in both\n']);
    const missing = comface('generate', '--out', 'more', ...small, '--attributes', 'age,Bald');
    expect([missing.status, missing.stderr]).toEqual([2, expect.stringContaining('none of Bald')]);
  });

  test('directions are listed, shown and projected', () => {
    const [listed, shown] = [
      comface('directions', 'list', 'directions', '--json'),
      comface('directions', 'show', 'directions/weight.npy', '--json'),
    ];
    expect(JSON.parse(listed.stdout).directions.map(({ attribute }: { attribute: string }) => attribute)).toEqual([
      'Bald',
      'Bangs',
      'age',
      'smile',
      'weight',
    ]);
    expect(JSON.parse(shown.stdout)).toMatchObject({ attribute: 'weight', space: 'W', width: 16, rows: 1, values: expect.any(Array) });
    const without = ['--without', 'directions/stylegan_ffhq_age_w_boundary.npy'];
    const projected = comface('directions', 'project', 'directions/weight.npy', ...without, '--out', 'own/weight.npy');
    expect([projected.status, projected.stdout]).toEqual([0, 'own/weight.npy\n']);
    expect(readdirSync(join(shared, 'own')).sort()).toEqual(['manifest.json', 'weight.npy']);
    expect(comface('directions', 'project', 'directions/weight.npy', '--out', 'own/b.npy')).toMatchObject({ status: 2 });
  });
});
