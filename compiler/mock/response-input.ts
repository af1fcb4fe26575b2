/** The input of responses: text or items, some of which only the resource that created them can read. */
import { randomBytes } from 'node:crypto';
import { invalidEncryptedContent } from './answers.ts';
import { type Json, Refused } from './call.ts';
import { newId } from './collections.ts';

const PREFIX = 'gAAAAA';
const RANDOM_BYTES = 48;

/** Text is a single message. */
export function inputItems(input: unknown): Json[] {
  const items = Array.isArray(input)
    ? (input as Json[])
    : typeof input === 'string'
      ? [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: input }] }]
      : [];
  return items.map((item) => ({ id: newId('msg'), type: 'message', ...item }));
}

/** Encrypted reasoning or compaction, which only this resource can read; other resources return 400. */
export const encrypted = (seal: string): string =>
  `${PREFIX}${Buffer.from(`${seal}${randomBytes(RANDOM_BYTES).toString('hex')}`).toString('base64url')}`;

export function requireReadable(input: readonly Json[], seal: string): void {
  for (const { encrypted_content: content } of input) {
    if (typeof content !== 'string') continue;
    const text = Buffer.from(content.slice(PREFIX.length), 'base64url').toString('latin1');
    if (!text.startsWith(seal)) throw new Refused(invalidEncryptedContent());
  }
}
