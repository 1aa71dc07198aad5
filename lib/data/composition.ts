// Which subjects of a drawn set have which attributes, and so its groups of pictures, by arithmetic: by subject, then attribute.
import type { GroupTable } from './shards.js';

/** Who has which attributes. */
export const compositions = ['full', 'paper', 'single'] as const;
/** Which subjects of a made set have which attributes: each all, as in the paper, or each a single one in turn. */
export type Composition = (typeof compositions)[number];

/** Of composition paper: one subject in `kShare` has the first `kSharedAttributes`, the others one of the rest. */
const kShare = 5;
export const kSharedAttributes = 3;

/** Who is in a set. */
export interface Cast {
  firstSubject: number;
  subjects: number;
  /** Their number. */
  attributes: number;
  composition: Composition;
}

export function groupCount({ subjects, attributes, composition }: Cast): number {
  if (composition === 'full') return subjects * attributes;
  if (composition === 'single') return subjects;
  return subjects + (kSharedAttributes - 1) * Math.ceil(subjects / kShare);
}

/** Group `index`: the subject's number, the attribute's, and which of the subject's groups it is. */
export function groupAt(
  { firstSubject, attributes, composition }: Cast,
  index: number,
): { subject: number; attribute: number; turn: number } {
  if (composition === 'full') {
    const turn = index % attributes;
    return { subject: firstSubject + Math.floor(index / attributes), attribute: turn, turn };
  }
  if (composition === 'single') return { subject: firstSubject + index, attribute: index % attributes, turn: 0 };
  const inRound = kSharedAttributes + kShare - 1;
  const [round, turn] = [Math.floor(index / inRound), index % inRound];
  if (turn < kSharedAttributes) return { subject: firstSubject + round * kShare, attribute: turn, turn };
  const other = turn - kSharedAttributes;
  const attribute = kSharedAttributes + ((round * (kShare - 1) + other) % (attributes - kSharedAttributes));
  return { subject: firstSubject + round * kShare + other + 1, attribute, turn: 0 };
}

export function groupTable(cast: Cast): GroupTable {
  const count = groupCount(cast);
  const table = { subject: new Uint32Array(count), attribute: new Uint32Array(count) };
  for (let g = 0; g < count; g++) {
    const { subject, attribute } = groupAt(cast, g);
    table.subject[g] = subject;
    table.attribute[g] = attribute;
  }
  return table;
}
