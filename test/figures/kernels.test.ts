// Every CUDA kernel by itself against plain loops in double, on the emulated device under several orders of its threads or on a real one (test/cuda.ts);
// there also the doubles of cuDNN and cuBLASLt against loops of their own. Some minutes on a busy machine.
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cudaBackend, cudaName, isOnGpu, kernelPrograms, noCuda } from '../cuda.ts';
import { outcomeOf } from './programs.ts';

const library = cudaBackend();
const kMinutes = 10;

describe.skipIf(library === undefined)(library ? `each kernel on ${cudaName}` : `each kernel: ${noCuda}`, () => {
  const programs = library === undefined ? [] : kernelPrograms();
  const doubles = ['selftest', 'doubles'].map((name) => join(dirname(library ?? ''), `emulation-${name}`));
  test.each([...programs, ...(isOnGpu ? [] : doubles)].map((path) => [basename(path), path] as const))(
    '%s',
    { timeout: kMinutes * 60_000 },
    async (_, path) => {
      const { text, status } = await outcomeOf(path, []);
      expect(status, text).toBe(0);
    },
  );

  const hasFlop = ['infonce', 'attention', 'efficient', 'filtered', 'radial'];
  const timed = [
    ...[
      'infonce 128',
      'augment 1 fp32',
      'adam 1000',
      'norm 100 fp16',
      'layerNorm 20',
      'attention 1',
      'efficient 1',
      'filtered 8',
      'radial 8',
      'filtered 8 fp16',
    ],
    'copy 4096',
  ];
  test.each(timed)('the bench times %s', async (words) => {
    const { text, status } = await outcomeOf(programs[0]!.replace(/images$/, 'kernels'), [...words.split(' '), '--seconds', '0']);
    expect(status, text).toBe(0);
    const { medianMs, bytes, flop, case: name, size } = JSON.parse(text);
    expect(`${name} ${size}`).toBe(words.split(' ').slice(0, 2).join(' '));
    expect([medianMs > 0, bytes > 0, flop > 0]).toEqual([true, true, hasFlop.includes(name)]);
  });
});
