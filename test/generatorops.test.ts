// The ops of StyleGAN and StyleGAN3 against their public implementations: test/golden/generators.py wrote what those compute in double.
import { describe, expect, test } from 'vitest';
import { cudaBackend, cudaName } from './cuda.ts';
import { generatorOps, inputOf, layersOf, opGolden, setParameters } from './golden/generators.ts';
import { relative } from './golden/golden.ts';
import { engineFor } from './support.ts';

const none = new Float32Array();
/** In fp32; in fp64 what is left is the rounding of the stored numbers. */
const limits = { fp32: 1e-5, fp64: 1e-7 };

const ways = [
  { name: 'plain loops in double', device: 'reference', precision: 'fp64' },
  { name: 'plain loops', device: 'reference', precision: 'fp32' },
  { name: 'cpu', device: 'cpu', precision: 'fp32' },
  ...(cudaBackend() === undefined ? [] : [{ name: cudaName, device: 'cuda', precision: 'fp32' } as const]),
] as const;

describe.each(ways)('$name', ({ device, precision }) => {
  test.each(generatorOps)('$key is what the public implementation computes', async (c) => {
    const engine = await engineFor({ layers: layersOf(c), batch: c.batch, device, precision, training: false });
    await setParameters(engine, c);
    await engine.forward(inputOf(c), none);
    const squares = opGolden.squares(`${c.key}/result`, await engine.read('value', 'op'));
    expect(relative(squares)).toBeLessThan(limits[precision]);
  });
});

test('every op of the generators has a case', () => {
  const ops = new Set(generatorOps.map(({ record }) => (record as { op: string }).op));
  expect([...ops].sort()).toEqual([
    'blur',
    'constant',
    'convTranspose',
    'filteredRelu',
    'fourierFeatures',
    'modulatedConv',
    'pixelNorm',
    'styleEpilogue',
    'upsample',
  ]);
});
