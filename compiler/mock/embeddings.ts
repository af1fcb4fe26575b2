import type { Behaviour } from './behaviour.ts';
import { type Call, count, required } from './call.ts';
import { charactersOf, tokensOf } from './text.ts';

const DIMENSIONS = 1536;
const MAX_DIMENSIONS = 3072;

/** A list of numbers is one input of tokens; in any other list each item is an input. */
export function embeddings(call: Call): Behaviour {
  const input = required(call.json, 'input');
  const inputs = Array.isArray(input) && typeof input[0] !== 'number' ? input : [input];
  const dimensions = count(call.json, 'dimensions', DIMENSIONS, MAX_DIMENSIONS);
  const base64 = call.json.encoding_format === 'base64';
  const tokens = embeddingTokens(input);
  return {
    body: {
      object: 'list',
      data: inputs.map((each, index) => {
        const vector = vectorOf(typeof each === 'string' ? each : JSON.stringify(each), dimensions);
        return {
          object: 'embedding',
          index,
          embedding: base64 ? Buffer.from(vector.buffer).toString('base64') : Array.from(vector),
        };
      }),
      model: call.deployment,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    },
  };
}

/** The tokens of each input are rounded up separately. */
export const embeddingTokens = (input: unknown): number =>
  Array.isArray(input) && typeof input[0] !== 'number'
    ? input.reduce<number>((sum, each) => sum + tokensOf(charactersOf(each)), 0)
    : tokensOf(charactersOf(input));

/** A vector of length 1, always the same for a text, and almost always different for two texts. */
function vectorOf(text: string, dimensions: number): Float32Array {
  let state = 2_166_136_261;
  for (let index = 0; index < text.length; index++) {
    state = Math.imul(state ^ text.charCodeAt(index), 16_777_619);
  }
  const vector = new Float32Array(dimensions);
  let squares = 0;
  for (let index = 0; index < dimensions; index++) {
    state = Math.imul(state ^ (state >>> 15), 2_246_822_519) + 374_761_393;
    const value = (state | 0) / 2 ** 31;
    vector[index] = value;
    squares += value * value;
  }
  const length = Math.sqrt(squares) || 1;
  for (let index = 0; index < dimensions; index++) vector[index] = (vector[index] ?? 0) / length;
  return vector;
}
