// Every CUDA kernel by itself on the emulated device, under several orders of its threads, and the doubles of cuDNN and cuBLASLt against loops of
// their own: the programs of test/native/emulation. Some minutes on a busy machine.
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cudaBackend, noCuda } from '../cuda.ts';
import { outcomeOf } from './programs.ts';

const library = cudaBackend();
const kMinutes = 10;

describe.skipIf(library === undefined)(library ? 'each kernel, emulated' : `each kernel: ${noCuda}`, () => {
  test.each(['selftest', 'doubles', 'images', 'losses', 'augment'])('%s', { timeout: kMinutes * 60_000 }, async (name) => {
    const { text, status } = await outcomeOf(join(dirname(library!), `emulation-${name}`), []);
    expect(status, text).toBe(0);
  });
});
