import { distance } from 'fastest-levenshtein';

/** The edit distance of two texts; swapping two neighbours is one edit. */
export function edits(a: string, b: string): number {
  if (a.length === b.length) {
    const at = [...a].findIndex((letter, index) => letter !== b[index]);
    if (at >= 0 && a[at] === b[at + 1] && a[at + 1] === b[at] && a.slice(at + 2) === b.slice(at + 2))
      return 1;
  }
  return distance(a, b);
}

/** The most edits after which a word is still recognisable: a third of its length. */
export const editLimit = (word: string): number => Math.max(1, Math.floor(word.length / 3));

/**
 * The candidate most similar to one of the spellings: with the fewest edits, at most a fifth of its length and never
 * more than four; else a candidate with a common beginning.
 */
export function nearestOf(spellings: readonly string[], candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    for (const spelling of spellings) {
      const count = edits(spelling, candidate);
      if (count < bestDistance && count <= Math.max(2, Math.min(4, candidate.length / 5))) {
        best = candidate;
        bestDistance = count;
      }
    }
  }
  const beginsLike = (a: string, b: string) => b.length > 4 && a.startsWith(b);
  return (
    best ??
    candidates.find((each) =>
      spellings.some((spelling) => beginsLike(spelling, each) || beginsLike(each, spelling)),
    )
  );
}
