// The name that somebody meant who wrote another. Names may come from anywhere: it looks at the first thousand only, and at no long ones.

// Longer names are no slips of the pen.
const kNameLetters = 64;
const kCandidates = 1000;

/** The candidate with the fewest changed letters, or undefined when none is similar. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > kNameLetters) return undefined;
  let best: string | undefined;
  let least = Math.ceil(word.length / 2) + 1;
  for (const candidate of candidates.slice(0, kCandidates)) {
    if (Math.abs(candidate.length - word.length) >= least) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  const row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    let before = row[0]!; // of the row above, one to the left
    row[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j]!;
      row[j] = Math.min(above + 1, row[j - 1]! + 1, before + (a[i - 1] === b[j - 1] ? 0 : 1));
      before = above;
    }
  }
  return row[b.length]!;
}

/** As a hint ends: the nearest name where there is one and it is not the word itself. */
export function didYouMean(word: unknown, candidates: readonly string[]): string {
  const near = typeof word === 'string' ? nearest(word, candidates) : undefined;
  return near === undefined ? '' : ` Did you mean ${near}?`;
}
