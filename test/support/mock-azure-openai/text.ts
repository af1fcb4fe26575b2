/** What models say here: a few words over and over, a token each. */
const WORDS = [' upon', ' a', ' time', ' there', ' was', ' a', ' gateway', ',', ' and', ' once'];

/** Tokens of a completion whose length the request does not say. */
export const DEFAULT_COMPLETION_TOKENS = 16;
export const MAX_COMPLETION_TOKENS = 128_000;

/** The token at a place of a completion, from 0; without the space before it at the beginning. */
export const tokenAt = (index: number): string =>
  index === 0 ? 'Once' : (WORDS[(index - 1) % WORDS.length] ?? '');

/** So many tokens in a row. */
export function completionText(tokens: number): string {
  let text = '';
  for (let index = 0; index < tokens; index++) text += tokenAt(index);
  return text;
}

/** Tokens of a text: a quarter of its characters, rounded up. */
export const tokensOf = (characters: number): number => Math.ceil(characters / 4);

/**
 * Characters of everything in it that is written by people: text, messages, parts of messages, items of input. Of a list of
 * tokens, four for each.
 */
export function charactersOf(input: unknown): number {
  if (typeof input === 'string') return input.length;
  if (typeof input === 'number') return 4;
  if (Array.isArray(input)) return input.reduce<number>((sum, each) => sum + charactersOf(each), 0);
  if (typeof input !== 'object' || input === null) return 0;
  const { content, text, output, arguments: given } = input as Record<string, unknown>;
  return charactersOf(content) + charactersOf(text) + charactersOf(output) + charactersOf(given);
}

const SAFE = { filtered: false, severity: 'safe' };
export const CONTENT_FILTER_RESULTS = { hate: SAFE, self_harm: SAFE, sexual: SAFE, violence: SAFE };
export const PROMPT_FILTER_RESULTS = [
  {
    prompt_index: 0,
    content_filter_results: { ...CONTENT_FILTER_RESULTS, jailbreak: { filtered: false, detected: false } },
  },
];
