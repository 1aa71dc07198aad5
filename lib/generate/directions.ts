// Directions in which an attribute of a generated face changes: arrays of NumPy, with the generator and the space that they belong to. A direction of
// one generator means nothing to another, so nothing is used of which that is not known.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { checkInteger, checkNumber, checkObject, checkOneOf, checkText, floatsOf, textsOf } from '../check.js';
import { ComFaceError, invalid, messageOf, show } from '../errors.js';
import { readWeights } from '../weights/read.js';
import { MemorySource } from '../weights/source.js';
import { attributeOf, type Described, described } from './naming.js';

/** Spaces that a direction may be of: z, w, or a w for each layer. */
export const spaces = ['Z', 'W', 'W+'] as const;
/** The space of a direction: of z, of w, or of a w for each layer. */
export type DirectionSpace = (typeof spaces)[number];

/** A direction as {@link readDirections} gives it. */
export interface Direction {
  /** Its file, as an absolute path. */
  file: string;
  /** What changes along it, by the name that comface has for it where it has one. */
  attribute: string;
  /** The generator that it belongs to, as in `stylegan1-ffhq-1024`; null where nothing says it. */
  generator: string | null;
  /** Its space; null where nothing says it. */
  space: DirectionSpace | null;
  /** Numbers in a row: the width of z or w. */
  width: number;
  /** 1, or one row for each layer. */
  rows: number;
  /** `rows` x `width` numbers. */
  values: Float32Array;
  /** Length of the first row. */
  norm: number;
  /** SHA-256 of the file, hexadecimal. */
  sha256: string;
}

/** What is not known of directions otherwise. */
export interface DirectionOptions {
  /** The generator of files of which nothing says it, as in `stylegan1`. */
  generator?: string | undefined;
  /** Their space. */
  space?: DirectionSpace | undefined;
}

const kManifestName = 'manifest.json';
const kMostFiles = 10_000;
const kMostBytes = 2 ** 22;
const kMostWidth = 4096;
/** Folders above a file in which its manifest may be. */
const kManifestLevels = 4;

/**
 * Reads directions: .npy files of 512, 1 x 512, 18 x 512 or 16 x 512 numbers, or all in a folder and the folders in it. What they belong to is known from a
 * `manifest.json` in their folder or above it, or from the names that InterFaceGAN, InterFaceGAN++ and stylegan3-editing gave them.
 *
 * @param from Files or folders.
 * @throws ComFaceError INVALID_INPUT for another shape, a direction that is zero; CORRUPT_FILE for one that is not what the manifest lists; IO.
 * @example
 * ```ts
 * import { projectDirection, readDirections } from 'comface';
 *
 * const all = await readDirections('directions');
 * const find = (name: string) => all.find((one) => one.attribute === name && one.generator?.startsWith('stylegan1') && one.space === 'W')!;
 * const { values } = projectDirection(find('Chubby'), [find('Smiling'), find('Young')]);
 * console.log(values.length); // 512
 * ```
 */
export async function readDirections(from: string | readonly string[], options: DirectionOptions = {}): Promise<Direction[]> {
  checkObject('options', options);
  const { generator, space } = options;
  if (generator !== undefined) checkText('generator', generator);
  if (space !== undefined) checkOneOf('space', space, spaces);
  const paths = typeof from === 'string' ? [from] : textsOf('directions', from);
  if (paths.length === 0) throw invalid('directions', 'at least one file or folder', paths, 'Name the folder of the .npy files.');
  const found: Direction[] = [];
  for (const path of paths) {
    checkText('directions', path);
    for (const file of await filesIn(resolve(path))) found.push(await readDirection(file, { generator, space }));
  }
  return found;
}

async function filesIn(path: string): Promise<string[]> {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = (await readdir(path, { recursive: true })).filter((name) => name.endsWith('.npy')).sort();
    if (names.length === 0 || names.length > kMostFiles)
      throw new ComFaceError('INVALID_INPUT', `${path}: expected 1 to ${kMostFiles} .npy files but found ${names.length}`, {
        hint: 'Name the folder that the directions are in.',
      });
    return names.map((name) => join(path, name));
  } catch (cause) {
    throw cause instanceof ComFaceError ? cause : unreadable(path, cause);
  }
}

const unreadable = (path: string, cause: unknown) =>
  new ComFaceError('IO', `Cannot read ${path}: ${messageOf(cause)}`, { hint: 'Check the path and its permissions.', cause });

function bytesOf(path: string, most: number): Buffer {
  try {
    const { size } = statSync(path);
    if (size > most)
      throw new ComFaceError('INVALID_INPUT', `${path}: expected at most ${most} bytes but found ${size}`, {
        hint: 'Name the file of a direction.',
      });
    return readFileSync(path);
  } catch (cause) {
    throw cause instanceof ComFaceError ? cause : unreadable(path, cause);
  }
}

async function readDirection(file: string, given: DirectionOptions): Promise<Direction> {
  const bytes = bytesOf(file, kMostBytes);
  const { container, tensors } = await readWeights(new MemorySource(bytes, file));
  const tensor = tensors.get('tensor');
  const [columns = 0, ...above] = [...(tensor?.shape ?? [])].reverse();
  const rows = above[0] ?? 1;
  if (container !== 'npy' || !tensor || above.length > 1 || columns < 1 || columns > kMostWidth || rows < 1)
    throw new ComFaceError(
      'INVALID_INPUT',
      `${file}: expected an array of (512), (1, 512), (18, 512) or (16, 512) but found ${shapeText(tensor?.shape, container)}`,
      {
        hint: 'Name the .npy file of a direction.',
      },
    );
  const values = await tensor.float32();
  const norm = lengthOf(values.subarray(0, columns));
  if (!values.every(Number.isFinite) || !(lengthOf(values) > 0))
    throw new ComFaceError('INVALID_INPUT', `${file}: expected finite numbers, not all of them 0`, {
      hint: 'Download the direction again.',
    });
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const known = listedAs(file, sha256) ?? described(file);
  const space = known.space ?? (known.generator === undefined ? given.space : undefined);
  if (rows > 1 && space === 'Z')
    throw new ComFaceError('INVALID_INPUT', `${file}: expected one row of Z but found ${rows}`, {
      hint: 'A row for each layer is a direction of W+.',
    });
  return {
    ...{ file, attribute: attributeOf(known.attribute), generator: known.generator ?? given.generator ?? null },
    ...{ space: rows > 1 ? 'W+' : space === 'W+' ? 'W' : (space ?? null), width: columns, rows, values, norm, sha256 },
  };
}

const shapeText = (shape: readonly number[] | undefined, container: string): string =>
  shape ? `(${shape.join(', ')})` : `a file of the kind ${container}`;

const lengthOf = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

/** What the nearest manifest above a file says of it. */
function listedAs(file: string, sha256: string): Described | undefined {
  let folder = dirname(file);
  for (let level = 0; level < kManifestLevels; level++, folder = dirname(folder)) {
    const path = join(folder, kManifestName);
    if (!existsSync(path)) continue;
    const entry = entriesOf(path)?.find((each) => each.file === relative(folder, file));
    if (!entry) continue;
    if (entry.sha256 !== undefined && entry.sha256 !== sha256)
      throw new ComFaceError('CORRUPT_FILE', `${file}: expected the SHA-256 ${show(entry.sha256)} of ${path} but found ${sha256}`, {
        hint: 'Copy or download it again.',
      });
    return fieldsOf(path, entry);
  }
  return undefined;
}

type Entry = Record<'file' | 'generator' | 'space' | 'attribute' | 'sha256', unknown>;

/** A manifest.json of anything else is none of ours. */
function entriesOf(path: string): Entry[] | undefined {
  try {
    const { files } = JSON.parse(bytesOf(path, kMostBytes).toString('utf8')) as { files?: unknown };
    return Array.isArray(files) ? files.filter((each): each is Entry => typeof each === 'object' && each !== null) : undefined;
  } catch (error) {
    if (error instanceof ComFaceError) throw error;
    throw new ComFaceError('CORRUPT_FILE', `${path}: it is not JSON (${messageOf(error)})`, { hint: 'Correct it, or remove it.' });
  }
}

function fieldsOf(path: string, { file, generator, space, attribute }: Entry): Described {
  const wrong = (rule: string, found: unknown) =>
    new ComFaceError('CORRUPT_FILE', `${path}: expected ${rule} of ${show(file)} but found ${show(found)}`, {
      hint: 'Correct the manifest.',
    });
  if (typeof generator !== 'string') throw wrong('a text for `generator`', generator);
  if (!(spaces as readonly unknown[]).includes(space)) throw wrong('Z, W or W+ for `space`', space);
  if (typeof attribute !== 'string' || attribute === '') throw wrong('a text for `attribute`', attribute);
  return { attribute, generator, space: space as DirectionSpace };
}

/** The entry of a direction in a manifest.json. */
export const entryOf = ({ file, generator, space, attribute, sha256, rows, width, norm }: Direction) => ({
  ...{ file: basename(file), shape: [rows, width], dtype: 'float32', l2norm: norm, sha256, generator, space, attribute },
});

/**
 * A direction without what it has of others: from each row its projection on the space that they span is taken away (Shen et al., InterFaceGAN,
 * section 3.3), and what is left gets the length it had. So the change of an attribute carries less of another along.
 *
 * @param direction The one to change.
 * @param others Of the same generator and space, none of them a mixture of the rest.
 * @throws ComFaceError INVALID_INPUT for others that do not fit, or where nothing is left.
 */
export function projectDirection(direction: Direction, others: readonly Direction[]): Direction {
  const one = checkedDirection('direction', direction);
  if (!Array.isArray(others)) throw invalid('others', 'a list of directions', others, 'Pass an array.');
  return projected(
    one,
    Array.from(others, (other, i) => checkedDirection(`others[${i}]`, other)),
  );
}

function projected(direction: Direction, others: readonly Direction[]): Direction {
  for (const other of others) checkKin(direction, other);
  const { width, rows } = direction;
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const rowOf = (one: Direction) => one.values.subarray((one.rows === 1 ? 0 : row) * width, ((one.rows === 1 ? 0 : row) + 1) * width);
    values.set(withoutSpan(rowOf(direction), others.map(rowOf), direction), row * width);
  }
  const sha256 = createHash('sha256').update(values).digest('hex');
  return { ...direction, values, sha256, norm: lengthOf(values.subarray(0, width)) };
}

/** A copy of what ought to be a direction, each part of it read once. @throws ComFaceError INVALID_INPUT. */
export function checkedDirection(name: string, value: unknown): Direction {
  checkObject(name, value);
  const { file, attribute, generator, space, width, rows, values, norm, sha256 } = value as Direction;
  for (const [key, part] of Object.entries({ file, attribute, sha256 })) checkText(`${name}.${key}`, part);
  if (generator !== null) checkText(`${name}.generator`, generator);
  if (space !== null) checkOneOf(`${name}.space`, space, spaces);
  checkInteger(`${name}.width`, width, 1, kMostWidth);
  checkInteger(`${name}.rows`, rows, 1, kMostWidth);
  checkNumber(`${name}.norm`, norm, 0, Number.MAX_VALUE);
  const own = floatsOf(values);
  if (own.length !== rows * width || !own.every(Number.isFinite))
    throw invalid(`${name}.values`, `a Float32Array of ${rows} x ${width} finite numbers`, values, 'Pass what readDirections() gives.');
  return { file, attribute, generator, space, width, rows, values: own, norm, sha256 };
}

function checkKin(direction: Direction, other: Direction): void {
  const flat = (space: DirectionSpace | null) => (space === 'W+' ? 'W' : space);
  const isKin = flat(direction.space) === flat(other.space) && direction.generator === other.generator && direction.width === other.width;
  const text = ({ file, generator, space, width }: Direction) =>
    `${basename(file)} (${generator ?? 'no generator'}, ${space ?? 'no space'}, ${width})`;
  if (!isKin || (other.rows > 1 && other.rows !== direction.rows))
    throw new ComFaceError('INVALID_INPUT', `Expected directions like ${text(direction)} for \`others\` but received ${text(other)}`, {
      hint: 'Project directions of one generator and space alone.',
    });
}

/** Relative to the lengths: less is rounding. */
const kLeast = 1e-6;

/** Modified Gram-Schmidt over the others, then over the vector: the same as solving with their Gram matrix. */
function withoutSpan(vector: Float32Array, others: readonly Float32Array[], { file }: Direction): Float64Array {
  const basis: Float64Array[] = [];
  const remove = (from: Float32Array): Float64Array => {
    const rest = Float64Array.from(from);
    // Twice, as once leaves what rounding has spoiled.
    for (let round = 0; round < 2; round++) for (const one of basis) subtract(rest, one, dot(rest, one));
    return rest;
  };
  for (const [i, other] of others.entries()) {
    const rest = remove(other);
    const length = Math.sqrt(dot(rest, rest));
    if (!(length > kLeast * lengthOf(other)))
      throw invalid('others', 'directions of which none is a mixture of the rest', `number ${i + 1}`, 'Leave it out.');
    basis.push(rest.map((value) => value / length));
  }
  const rest = remove(vector);
  const length = Math.sqrt(dot(rest, rest));
  const wanted = lengthOf(vector);
  if (!(length > kLeast * wanted))
    throw invalid('others', `directions of which ${basename(file)} is no mixture`, others.length, 'Project fewer of them out.');
  return rest.map((value) => (value * wanted) / length);
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
function subtract(from: Float64Array, one: Float64Array, factor: number): void {
  for (let i = 0; i < from.length; i++) from[i] = from[i]! - factor * one[i]!;
}
