import { randomBytes } from 'node:crypto';
import type { StreamEvent } from './behaviour.ts';
import type { Json } from './call.ts';
import { completionText, tokenAt } from './text.ts';

export interface StreamedResponse {
  /** As it is when it is completed. */
  readonly response: Json;
  readonly reasoning: Json & { readonly id: string };
  readonly message: Json & { readonly id: string };
  readonly tokens: number;
}

/** So that nobody learns the length of a token from that of a packet. */
const OBFUSCATION = randomBytes(12).toString('base64url');

/** The events of a response that succeeds, in the order in which Azure sends them. */
export function* responseEvents({
  response,
  reasoning,
  message,
  tokens,
}: StreamedResponse): Generator<StreamEvent> {
  let number = 0;
  const event = (type: string, fields: Json): StreamEvent => ({
    event: type,
    data: JSON.stringify({ type, sequence_number: number++, ...fields }),
  });
  const begun = { ...response, status: 'in_progress', output: [], usage: null };
  yield event('response.created', { response: begun });
  yield event('response.in_progress', { response: begun });
  yield event('response.output_item.added', { output_index: 0, item: reasoning });
  yield event('response.output_item.done', { output_index: 0, item: reasoning });
  yield event('response.output_item.added', {
    output_index: 1,
    item: { ...message, status: 'in_progress', content: [] },
  });
  const place = { item_id: message.id, output_index: 1, content_index: 0 };
  const part = (text: string) => ({ type: 'output_text', annotations: [], logprobs: [], text });
  yield event('response.content_part.added', { ...place, part: part('') });
  const rest = `${JSON.stringify({ ...place, logprobs: [], obfuscation: OBFUSCATION }).slice(1)}`;
  for (let index = 0; index < tokens; index++) {
    // Written together from text: a load test has a great many of these.
    yield {
      event: 'response.output_text.delta',
      data: `{"type":"response.output_text.delta","sequence_number":${number++},"delta":"${tokenAt(index)}",${rest}`,
    };
  }
  const text = completionText(tokens);
  yield event('response.output_text.done', { ...place, logprobs: [], text });
  yield event('response.content_part.done', { ...place, part: part(text) });
  yield event('response.output_item.done', { output_index: 1, item: message });
  yield event('response.completed', { response });
}
