import { distance } from 'fastest-levenshtein';

/**
 * The candidate that one of these spellings was probably meant to be: the fewest edits, at most a fifth of its length
 * and never more than four; else one that begins like it, or that it begins like.
 */
export function nearestOf(spellings: readonly string[], candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    for (const spelling of spellings) {
      const edits = distance(spelling, candidate);
      if (edits < bestDistance && edits <= Math.max(2, Math.min(4, candidate.length / 5))) {
        best = candidate;
        bestDistance = edits;
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
