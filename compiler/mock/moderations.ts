import { randomBytes } from 'node:crypto';
import type { Behaviour } from './behaviour.ts';
import { type Call, required } from './call.ts';

const CATEGORIES = [
  'harassment',
  'harassment/threatening',
  'hate',
  'hate/threatening',
  'illicit',
  'illicit/violent',
  'self-harm',
  'self-harm/instructions',
  'self-harm/intent',
  'sexual',
  'sexual/minors',
  'violence',
  'violence/graphic',
];
const ID_BYTES = 12;

const ofAll = <Value>(value: Value) => Object.fromEntries(CATEGORIES.map((name) => [name, value]));

/** Flags nothing. The result has one entry for each text of a list, and one for a list of parts. */
export function moderate({ json, deployment }: Call): Behaviour {
  const input = required(json, 'input');
  const texts = Array.isArray(input) && typeof input[0] === 'string' ? input : [input];
  return {
    body: {
      id: `modr-${randomBytes(ID_BYTES).toString('hex')}`,
      model: deployment || 'omni-moderation-latest',
      results: texts.map(() => ({
        flagged: false,
        categories: ofAll(false),
        category_scores: ofAll(0),
        category_applied_input_types: ofAll(['text']),
      })),
    },
  };
}
