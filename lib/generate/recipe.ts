// How the tensors of a generator's graphs come from those of a file: each has a recipe. Shapes are all looked at before a number is read, so that a
// file of another network is refused at once, with the name of what is not as it should be.
import { ComFaceError, counted, someOf } from '../errors.js';
import type { Tensor } from '../weights/safetensors.js';
import type { StoredTensor } from '../weights/stored.js';

/** One tensor of a graph. */
export interface Recipe {
  /** As the graph calls it. */
  name: string;
  shape: readonly number[];
  /** The tensor of the file, and what its shape has to be. */
  from: string;
  dims: readonly number[];
  /** Makes the numbers out of those of the file; without it they are the same. */
  convert?: (values: Float32Array) => Float32Array;
}

/** The tensors of a generator in a file, by its names for them. */
export interface GeneratorTensors {
  /** The file, for messages. */
  path: string;
  tensors: ReadonlyMap<string, StoredTensor>;
}

/** Of names in a message. */
const kShown = 4;

/** The error for a sound file that is not the generator it seemed to be. */
export const refuseFile = (path: string, rule: string, found: string, hint: string): ComFaceError =>
  new ComFaceError('INVALID_INPUT', `${path}: expected ${rule} but found ${found}`, { hint });

export const kAgain = 'Download the file again from where its makers publish it, or name another.';

/** The shape of a tensor that has to be there, with so many dimensions. @throws ComFaceError INVALID_INPUT naming it. */
export function shapeOf({ path, tensors }: GeneratorTensors, name: string, dimensions: number): readonly number[] {
  const shape = tensors.get(name)?.shape;
  if (shape === undefined) throw refuseFile(path, `the tensor ${name}`, `none among ${counted(tensors.size, 'tensor')}`, kAgain);
  if (shape.length === dimensions && shape.every((size) => size > 0)) return shape;
  throw refuseFile(path, `${dimensions} dimensions of ${name}`, `the shape ${listed(shape)}`, kAgain);
}

const listed = (shape: readonly number[]): string => `[${shape.join(', ')}]`;

/**
 * Looks at the shapes of all tensors.
 *
 * @param what They are of, for messages.
 * @param isKnown Whether a tensor of the file that no recipe has may be there.
 * @throws ComFaceError INVALID_INPUT naming what is missing, has another shape, or is there besides.
 */
export function checkRecipes(
  { path, tensors }: GeneratorTensors,
  recipes: readonly Recipe[],
  what: string,
  isKnown: (name: string) => boolean,
): void {
  const missing = recipes.filter(({ from }) => !tensors.has(from)).map(({ from }) => from);
  if (missing.length > 0)
    throw refuseFile(path, `the ${recipes.length} tensors of ${what}`, `none called ${someOf(missing, kShown)}`, kAgain);
  const odd = recipes.filter(({ from, dims }) => {
    const { shape } = tensors.get(from)!;
    return shape.length !== dims.length || shape.some((size, i) => size !== dims[i]);
  });
  const [first] = odd;
  if (first) {
    const more = odd.length > 1 ? ` (and ${odd.length - 1} more)` : '';
    const found = listed(tensors.get(first.from)!.shape);
    throw refuseFile(path, `${listed(first.dims)} for ${first.from} of ${what}`, `${found}${more}`, kAgain);
  }
  const used = new Set(recipes.map(({ from }) => from));
  const others = [...tensors.keys()].filter((name) => !used.has(name) && !isKnown(name));
  if (others.length > 0)
    throw refuseFile(
      path,
      `the tensors of ${what} alone`,
      `${someOf(others, kShown)} besides`,
      'Is it another network? Name the file of a StyleGAN or StyleGAN3 generator.',
    );
}

/** Reads the numbers. @throws ComFaceError NOT_FINITE naming the tensor; CORRUPT_FILE, IO. */
export async function readRecipes({ path, tensors }: GeneratorTensors, recipes: readonly Recipe[]): Promise<Map<string, Tensor>> {
  const made = new Map<string, Tensor>();
  for (const { name, shape, from, convert } of recipes) {
    const values = await tensors.get(from)!.float32();
    if (!values.every(Number.isFinite))
      throw new ComFaceError('NOT_FINITE', `${path}: expected finite numbers in ${from}`, { hint: kAgain });
    made.set(name, { dtype: 'F32', shape: [...shape], data: convert ? convert(values) : values });
  }
  return made;
}

/** Times a factor, which is rounded once for each number. */
export const scaledBy =
  (factor: number) =>
  (values: Float32Array): Float32Array =>
    values.map((value) => value * factor);

/** Rows as columns. */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c]!;
  return out;
}

/** TensorFlow's k x k x in x out -> out x in x k x k. */
export function outFirst(values: Float32Array, area: number, inputs: number, outputs: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let k = 0; k < area; k++)
    for (let i = 0; i < inputs; i++)
      for (let o = 0; o < outputs; o++) out[(o * inputs + i) * area + k] = values[(k * inputs + i) * outputs + o]!;
  return out;
}
