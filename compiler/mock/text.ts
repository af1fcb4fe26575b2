/** Generated text: a few words repeated, each one token. */
const WORDS = [' upon', ' a', ' time', ' there', ' was', ' a', ' gateway', ',', ' and', ' once'];

/** Tokens of a text without a limit. */
export const DEFAULT_COMPLETION_TOKENS = 16;
/** Tokens of a text with a limit; a lower limit cuts it. Tests use this to get texts of a certain length. */
export const LIMITED_COMPLETION_TOKENS = 256;
export const MAX_COMPLETION_TOKENS = 128_000;

/** A deployment with this name is a router: it chooses a model for each request, and answers name that model. */
export const ROUTER = 'model-router';
export const ROUTED_MODEL = 'gpt-5-mini-2025-08-07';

/** The token at a position of a completion, from 0. The first one has no leading space. */
const tokenAt = (index: number): string => (index === 0 ? 'Once' : (WORDS[(index - 1) % WORDS.length] ?? ''));

/** A text of `count` tokens. */
export const completionTokens = (tokens: number): readonly string[] =>
  Array.from({ length: tokens }, (_, index) => tokenAt(index));

/** A list of `count` tokens. */
export const completionText = (tokens: number): string => completionTokens(tokens).join('');

/** The number of tokens of a text: a quarter of its characters, rounded up. */
export const tokensOf = (characters: number): number => Math.ceil(characters / 4);

/**
 * The characters of all natural-language content: text, messages, parts of messages, input items. A token of a token
 * list counts as four.
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
