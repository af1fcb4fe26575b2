/** zstd frames by RFC 8878: some that can be written without a compressor, and one from a compressor. */

/** A request by libzstd at level 3, as Codex sends it: `{"model":"alias","stream":false,"messages":[…]}` of 1,314 bytes. */
export const COMPRESSED_CHAT = Buffer.from(
  'KLUv/WAiBK0DACIIGhtwa3MoElW7mn7Z7d9sm8xmsAjAodLyEkCVeAHNoLkBqaGbggp9lCYzGricybPLhHoPbCl4oYibQh3BhkNZEM4kcPTX8jU9' +
    'fu5yl6PnUndGgL6pcDfZT+5CBJ1hurc/X1QWHn1lUnYmAgCXBOEjX6ycAQ==',
  'base64',
);

/** The decoded content. */
export const PLAIN_CHAT = JSON.stringify({
  model: 'alias',
  stream: false,
  messages: [
    {
      role: 'user',
      content: 'The quick brown fox jumps over the lazy dog, again and again. '.repeat(20),
    },
  ],
});

const MAX_BLOCK = 100_000;
const KINDS = { stored: 0, repeated: 1 } as const;

function frame(
  kind: keyof typeof KINDS,
  length: number,
  content: (from: number, to: number) => Uint8Array,
  windowLog: number,
): Buffer {
  const parts: Uint8Array[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3])];
  for (let from = 0; from === 0 || from < length; from += MAX_BLOCK) {
    const to = Math.min(length, from + MAX_BLOCK);
    const header = Buffer.alloc(3);
    header.writeUIntLE((to === length ? 1 : 0) + KINDS[kind] * 2 + (to - from) * 8, 0, 3);
    parts.push(header, content(from, to));
  }
  return Buffer.concat(parts);
}

/** A frame of stored blocks. */
export const zstdStored = (body: Buffer | string, windowLog = 17): Buffer => {
  const bytes = Buffer.from(body);
  return frame('stored', bytes.length, (from, to) => bytes.subarray(from, to), windowLog);
};

/** A frame that repeats one letter: a hundred thousand of them take four bytes. */
export const zstdRepeated = (letter: string, length: number, windowLog = 17): Buffer =>
  frame('repeated', length, () => Buffer.from(letter), windowLog);
