// Which of oneDNN's convolutions the CPU takes: Winograd's computes the same up to rounding, what was taken once is taken again, and reference
// loops are never taken.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { native } from '../lib/native.ts';
import { sharedFolder, smallFaces, smallRun } from './faces.ts';
import { distance, type EngineOptions, engineFor, numbers, temporaryFolder } from './support.ts';

// 170 million operations; of a small convolution nobody asks.
const [batch, channels, size, out] = [8, 32, 24, 64];
const network: Pick<EngineOptions, 'layers' | 'batch'> = {
  batch,
  layers: [
    { op: 'input', name: 'images', channels, height: size, width: size },
    { op: 'conv', name: 'conv', input: 'images', out, kernel: 3, stride: 1, pad: 1 },
  ],
};
const key = (pass: string, precision = 'fp32') => `${pass} ${precision} ${batch}x${channels}x${size}x${size} to ${out}`;
const plansOf = (folder: string) => readdirSync(folder).filter((name) => name.startsWith('plans-'));
const passes = ['backward', 'forward', 'gradient'];
const lines = (algorithm: string, precision?: string) => passes.map((pass) => `${algorithm}\t${key(pass, precision)}\n`).join('');

async function results(options: EngineOptions) {
  const engine = await engineFor(options);
  await engine.initialize(3n);
  const [images, conv] = options.layers;
  if (images?.op !== 'input' || conv?.op !== 'conv') throw new Error('images, then conv');
  const pixels = options.batch * images.height * images.width;
  await engine.forward(numbers(pixels * images.channels, 1), new Float32Array());
  await engine.write('valueGradient', 'conv', numbers(pixels * conv.out, 2));
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
    const [file] = plansOf(cache);
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
    const [file] = plansOf(odd);
    const text = readFileSync(join(odd, file!), 'utf8');
    for (const other of ['neither a head\nnor\tchoices\n', text.replace(/^(direct|winograd)\t/gm, 'another\t')]) {
      writeFileSync(join(odd, file!), other);
      expect((await results(network)).choices).toMatch(/^((direct|winograd)\t.*\n){3}$/);
    }
    expect((await results({ ...network, choices: lines('another') })).choices).toMatch(/^((direct|winograd)\t.*\n){3}$/);
  });

  // Images that do not come in pairs or whole tiles, many and few channels, pictures of one tile.
  test.each([
    [3, 32, 64, 31],
    [7, 96, 32, 18],
    [5, 160, 32, 13],
    [2, 256, 64, 15],
    [33, 128, 64, 6],
    [64, 32, 160, 5],
    [30, 288, 288, 2],
    [66, 224, 256, 1],
  ])("in bf16 Winograd's errors are bf16's own: %i images of %i channels to %i, %i pixels", async (n, from, to, edge) => {
    const images = { op: 'input', name: 'images', channels: from, height: edge, width: edge - Number(edge > 20) } as const;
    const conv = { op: 'conv', name: 'conv', input: 'images', out: to, kernel: 3, stride: 1, pad: 1 } as const;
    const of = { layers: [images, conv], batch: n };
    const shape = `bf16 ${n}x${from}x${edge}x${images.width} to ${to}`;
    const choose = (algorithm: string) => passes.map((pass) => `${algorithm}\t${pass} ${shape}\n`).join('');
    const expected = await results({ ...of, device: 'reference', precision: 'fp64' });
    const direct = await results({ ...of, precision: 'bf16', choices: choose('direct') });
    const winograd = await results({ ...of, precision: 'bf16', choices: choose('winograd') });
    expect(winograd.choices).toBe(choose('winograd'));
    for (const pass of ['forward', 'backward', 'gradient'] as const) {
      const error = distance(winograd[pass], expected[pass]);
      expect(error, pass).toBeLessThan(2.5 * distance(direct[pass], expected[pass]));
      expect(error, `${pass} is computed in another way`).not.toBe(distance(direct[pass], expected[pass]));
    }
    for (const threads of [1, 4]) {
      const others = await results({ ...of, precision: 'bf16', choices: choose('winograd'), threads });
      for (const pass of ['forward', 'backward', 'gradient'] as const) {
        expect(distance(others[pass], winograd[pass]), `${pass}, ${threads} threads`).toBe(0);
      }
    }
  });

  test.each([
    ['inference', { training: false }],
    ['a small convolution', { batch: 1 }],
  ] as const)('nothing is chosen in %s', async (_, options) => {
    expect((await engineFor({ ...network, ...options })).choices).toBe('');
    expect(readdirSync(cache)).toEqual([]);
  });
});

describe.each(['AVX2', 'SSE41'])('held to %s', (isa) => {
  const folder = sharedFolder();
  const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

  // With 2 x 2 pixels at the end, for which oneDNN has no gradient of blocked layouts.
  test.each(['resnet18', 'resnet50'] as const)('no primitive of a step of %s falls to reference loops', async (backbone) => {
    const data = await smallFaces(temporaryFolder());
    const config = join(folder, `${backbone}.json`);
    const sizes = { backbone, width: 64, size: 64, pairs: 2, pairsPerEpoch: 2, epochs: 1, curriculum: { stageEnds: [1] } };
    writeFileSync(config, JSON.stringify({ ...smallRun, ...sizes, data, out: join(folder, `run-${backbone}`), precision: 'auto' }));
    const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'train', '--config', config], {
      env: { ...process.env, ONEDNN_MAX_CPU_ISA: isa, ONEDNN_VERBOSE: '1' },
      encoding: 'utf8',
    });
    expect(status, stderr).toBe(0);
    const ran = stdout.split('\n').flatMap((line) => /^onednn_verbose,exec,cpu,(\w+,[^,]+,\w+)/.exec(line)?.[1] ?? []);
    for (const pass of ['forward_training', 'backward_data', 'backward_weights']) {
      expect(ran.filter((each) => each.startsWith('convolution') && each.endsWith(pass)).length, pass).toBeGreaterThan(15);
    }
    expect([...new Set(ran)].filter((each) => /,ref/.test(each))).toEqual([]);
  });
});
