// Weights files of every container, made by PyTorch, NumPy and safetensors themselves (golden/weights.py): what they hold comes out bit for bit.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readWeightsFile } from '../lib/weights/read.ts';

interface Expected {
  dtype: string;
  shape: number[];
  values: (number | 'nan' | 'inf' | '-inf')[];
  whole?: string[];
}

const folder = new URL('golden/weights/', import.meta.url).pathname;
const { cases } = JSON.parse(readFileSync(`${folder}weights.json`, 'utf8')) as {
  cases: { files: Record<string, string>; tensors: Record<string, Expected> }[];
};
const files = cases.flatMap(({ files, tensors }) => Object.entries(files).map(([name, container]) => ({ name, container, tensors })));

const numberOf = (value: Expected['values'][number]): number =>
  typeof value === 'number' ? value : { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, '-inf': Number.NEGATIVE_INFINITY }[value];

describe('what PyTorch, NumPy and safetensors write', () => {
  test.each(files)('$name holds the tensors that they say', async ({ name, container, tensors }) => {
    const file = await readWeightsFile(folder + name);
    expect(file.container).toBe(container);
    expect([...file.tensors.keys()]).toEqual(Object.keys(tensors));
    for (const [key, tensor] of file.tensors) {
      const { dtype, shape, values, whole } = tensors[key]!;
      expect({ key, dtype: tensor.dtype, shape: [...tensor.shape] }).toEqual({ key, dtype, shape });
      expect({ key, values: await tensor.float32() }).toEqual({ key, values: Float32Array.from(values, numberOf) });
      if (whole) expect([...(await tensor.int64())].map(String)).toEqual(whole);
    }
  });
});
