// Winograd's convolution on the CPU: where it is taken it computes the same up to rounding, and what was taken once is taken again.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { native } from '../lib/native.ts';
import { distance, type EngineOptions, engineFor, numbers, temporaryFolder } from './support.ts';

// 127 million operations; of a small convolution nobody asks.
const [batch, channels, size, out] = [8, 32, 24, 48];
const network: Pick<EngineOptions, 'layers' | 'batch'> = {
  batch,
  layers: [
    { op: 'input', name: 'images', channels, height: size, width: size },
    { op: 'conv', name: 'conv', input: 'images', out, kernel: 3, stride: 1, pad: 1 },
  ],
};
const key = (pass: string) => `${pass} ${batch}x${channels}x${size}x${size} to ${out}`;
const passes = ['backward', 'forward', 'gradient'];
const lines = (algorithm: string) => passes.map((pass) => `${algorithm}\t${key(pass)}\n`).join('');

async function results(options: EngineOptions) {
  const engine = await engineFor(options);
  await engine.initialize(3n);
  await engine.forward(numbers(batch * channels * size * size, 1), new Float32Array());
  await engine.write('valueGradient', 'conv', numbers(batch * out * size * size, 2));
  await engine.backward();
  return {
    choices: engine.choices,
    forward: await engine.read('value', 'conv'),
    backward: await engine.read('valueGradient', 'images'),
    gradient: await engine.read('gradient', 'conv.weight'),
  };
}

describe.skipIf(!native().module.cpu.avx512)('with AVX-512', () => {
  let cache: string;
  beforeEach(() => {
    cache = temporaryFolder();
    vi.stubEnv('COMFACE_CACHE', cache);
  });
  afterEach(() => vi.unstubAllEnvs());

  test("a run's choices are taken, and Winograd's numbers are those of the plain loops up to rounding", async () => {
    const expected = await results({ ...network, device: 'reference', precision: 'fp64' });
    const direct = await results({ ...network, choices: lines('direct') });
    const winograd = await results({ ...network, choices: lines('winograd') });
    expect(direct.choices).toBe(lines('direct'));
    expect(winograd.choices).toBe(lines('winograd'));
    for (const pass of ['forward', 'backward', 'gradient'] as const) {
      expect(distance(winograd[pass], expected[pass]), pass).toBeLessThan(1e-5);
      expect(distance(winograd[pass], direct[pass]), `${pass} is computed in another way`).toBeGreaterThan(0);
    }
    expect(readdirSync(cache), 'nothing was timed').toEqual([]);
  });

  test('one of a pass leaves the others alone', async () => {
    const choices = `winograd\t${key('backward')}\ndirect\t${key('forward')}\ndirect\t${key('gradient')}\n`;
    const [mixed, direct] = [await results({ ...network, choices }), await results({ ...network, choices: lines('direct') })];
    expect(mixed.choices).toBe(choices);
    expect(distance(mixed.forward, direct.forward)).toBe(0);
    expect(distance(mixed.gradient, direct.gradient)).toBe(0);
    expect(distance(mixed.backward, direct.backward)).toBeGreaterThan(0);
  });

  test('what was timed once is remembered on this machine', async () => {
    const first = await results(network);
    expect(first.choices.trimEnd().split('\n')).toEqual(
      passes.map((pass) => expect.stringMatching(new RegExp(`^(direct|winograd)\t${key(pass)}$`))),
    );
    const [file] = readdirSync(cache);
    const text = readFileSync(join(cache, file!), 'utf8');
    expect(text.slice(text.indexOf('\n') + 1)).toBe(first.choices);
    // The other way round, as if the machine had been slower: what is written there counts.
    const turned = first.choices.replace(/^\w+/gm, (word) => (word === 'direct' ? 'winograd' : 'direct'));
    writeFileSync(join(cache, file!), text.replace(first.choices, turned));
    expect((await results(network)).choices).toBe(turned);
    expect((await results({ ...network, choices: first.choices })).choices, "a run's own come first").toBe(first.choices);
  });

  test('a cache that cannot be written, or holds something else, only costs the time', async () => {
    writeFileSync(join(cache, 'a file'), '');
    vi.stubEnv('COMFACE_CACHE', join(cache, 'a file'));
    expect((await results(network)).choices).toMatch(/^(direct|winograd)\t/);
    const odd = join(cache, 'odd');
    mkdirSync(odd);
    vi.stubEnv('COMFACE_CACHE', odd);
    await results(network);
    const [file] = readdirSync(odd);
    writeFileSync(join(odd, file!), 'neither a head\nnor\tchoices\n');
    expect((await results(network)).choices).toMatch(/^(direct|winograd)\t/);
  });

  test.each([
    ['inference', { training: false }],
    ['bf16', { precision: 'bf16' }],
    ['a small convolution', { batch: 1 }],
  ] as const)('nothing is chosen in %s', async (_, options) => {
    expect((await engineFor({ ...network, ...options })).choices).toBe('');
    expect(readdirSync(cache)).toEqual([]);
  });
});
