// Which direction an attribute is changed along: of those that were read the one that fits the generator. What does not fit is refused by name, for a
// direction of another generator changes a face at random.
import { basename, resolve } from 'node:path';
import { ComFaceError, someOf } from '../errors.js';
import type { Direction } from './directions.js';
import type { GeneratorFile } from './file.js';
import type { Shift } from './latents.js';
import { publishedAt } from './naming.js';

/** What a direction has to fit. */
export type Fitting = Pick<GeneratorFile, 'family' | 'z' | 'w' | 'layers'>;

/** A direction that is used. */
export interface ChosenDirection extends Shift {
  attribute: string;
  /** W+ counts as W: a row for each layer. */
  space: 'Z' | 'W';
  file: string;
  sha256: string;
}

/** The facial weight is changed in these layers alone: what they decide is shape (Pinnimty et al., arXiv 2011.02606). */
const kWeightLayers = 8;
const kShown = 4;

/** `stylegan1` of `stylegan1-ffhq-1024`; null for none that is known. */
export function familyOf(generator: string | null): string | null {
  return /^(stylegan1|stylegan2|stylegan3-[tr]|stylegan3|pggan)(?![\w])/.exec(generator ?? '')?.[1] ?? null;
}

/** Why a direction cannot be used with a generator; undefined where it can. */
function misfit(direction: Direction, { family, z, w, layers }: Fitting): { found: string; hint: string } | undefined {
  const { generator, space, width, rows } = direction;
  const own = familyOf(generator);
  if (own === null || space === null) {
    const lacks = own === null && space === null ? 'generator and space' : own === null ? 'generator' : 'space';
    const hint = `Write a manifest.json beside it: {"files": [{"file": "${basename(direction.file)}", "generator": "${family}", "space": "W", "attribute": "..."}]}.`;
    return { found: `one of which nothing says the ${lacks}`, hint };
  }
  // A name that says no more than stylegan3 may be of either configuration.
  if (own !== family && !(own === 'stylegan3' && family.startsWith('stylegan3')))
    return { found: `one of ${generator}`, hint: `Directions belong to one generator. Of ${family}: ${publishedAt[family]}.` };
  const wanted = space === 'Z' ? z : w;
  if (width !== wanted) return { found: `one of ${width} numbers`, hint: `This generator has ${wanted} in ${space}.` };
  if (rows > 1 && rows !== layers) return { found: `one for ${rows} layers`, hint: `This generator has ${layers}.` };
  return undefined;
}

const chosen = ({ attribute, space, file, sha256, values, rows }: Direction, layers: number): ChosenDirection => ({
  ...{ attribute, space: space === 'Z' ? 'Z' : 'W', file, sha256, values, rows },
  ...{ from: 0, to: attribute === 'weight' ? Math.min(kWeightLayers, layers) : layers },
});

/** Higher is preferred: of FFHQ, on which the paper's generators were trained, and of W. */
const rankOf = ({ generator, space }: Direction): number => (generator?.includes('celebahq') ? 0 : 2) + (space === 'Z' ? 0 : 1);

/**
 * The direction of each attribute.
 *
 * @param named Files and folders that the directions come from: a file that is named itself is preferred to those of folders.
 * @throws ComFaceError INVALID_INPUT naming attributes without one, with where to get them; a file that was named and does not fit; attributes of which
 * several fit equally well.
 */
export function chooseDirections(
  all: readonly Direction[],
  attributes: readonly string[],
  generator: Fitting,
  named: readonly string[],
): ChosenDirection[] {
  const isNamed = ({ file }: Direction) => named.some((path) => resolve(path) === file);
  for (const direction of all) if (isNamed(direction) && attributes.includes(direction.attribute)) checkFits(direction, generator);
  const missing: string[] = [];
  const found = attributes.flatMap((attribute) => {
    const fitting = all.filter((one) => one.attribute === attribute && !misfit(one, generator));
    const preferred = fitting.some(isNamed) ? fitting.filter(isNamed) : fitting;
    const most = Math.max(...preferred.map(rankOf));
    const best = preferred.filter((one) => rankOf(one) === most);
    if (best.length === 0) missing.push(attribute);
    if (new Set(best.map(({ sha256 }) => sha256)).size > 1) throw ambiguous(attribute, best);
    return best.slice(0, 1).map((one) => chosen(one, generator.layers));
  });
  if (missing.length > 0) throw lacking(missing, all, generator);
  return found;
}

/** @throws ComFaceError INVALID_INPUT saying why a direction cannot be used with a generator. */
export function checkFits(direction: Direction, generator: Fitting): void {
  const why = misfit(direction, generator);
  if (why)
    throw new ComFaceError('INVALID_INPUT', `${direction.file}: expected a direction of ${generator.family} but found ${why.found}`, {
      hint: why.hint,
    });
}

const ambiguous = (attribute: string, best: readonly Direction[]): ComFaceError =>
  new ComFaceError(
    'INVALID_INPUT',
    `Expected one direction of ${attribute} for \`directions\` but received ${someOf(
      best.map(({ file }) => file),
      kShown,
    )}`,
    { hint: 'Name the file of the one to use besides the folder, or remove the others.' },
  );

/** The first that would be the attribute's, were it of this generator, says why. */
function lacking(missing: readonly string[], all: readonly Direction[], generator: Fitting): ComFaceError {
  const near = all.find(({ attribute }) => missing.includes(attribute));
  const why = near && misfit(near, generator);
  const but = why ? `; ${near.file} is ${why.found}` : '';
  return new ComFaceError(
    'INVALID_INPUT',
    `Expected a direction of ${generator.family} for each of \`attributes\` but \`directions\` has none of ${someOf(missing, 40)}${but}`,
    { hint: `Leave these attributes out, or get their directions: ${publishedAt[generator.family]}.` },
  );
}
