import { randomBytes } from 'node:crypto';
import type { StreamEvent } from './behaviour.ts';
import type { Json } from './call.ts';

export interface OutputItem {
  /** The finished item. */
  readonly item: Json & { readonly id: string; readonly type: string };
  /** Its text or the input of its tool, one item for each token. */
  readonly pieces: readonly string[];
}

/** Padding that hides the length of tokens from observers of packets. */
const OBFUSCATION = randomBytes(12).toString('base64url');

/** The names of the events of a tool call, and the field of its item that they fill. */
const CALL_EVENTS: Readonly<Record<string, { readonly event: string; readonly member: string }>> = {
  function_call: { event: 'response.function_call_arguments', member: 'arguments' },
  custom_tool_call: { event: 'response.custom_tool_call_input', member: 'input' },
};

/** The events of a successful response, in Azure's order. */
export function* responseEvents(response: Json, output: readonly OutputItem[]): Generator<StreamEvent> {
  let number = 0;
  const event = (type: string, fields: Json): StreamEvent => ({
    event: type,
    data: JSON.stringify({ type, sequence_number: number++, ...fields }),
  });
  const begun = { ...response, status: 'in_progress', incomplete_details: null, output: [], usage: null };
  yield event('response.created', { response: begun });
  yield event('response.in_progress', { response: begun });
  for (const [index, each] of output.entries()) {
    yield event('response.output_item.added', { output_index: index, item: emptied(each.item) });
    const place = { item_id: each.item.id, output_index: index };
    const call = CALL_EVENTS[each.item.type];
    if (call !== undefined) {
      for (const delta of each.pieces)
        yield event(`${call.event}.delta`, { ...place, delta, obfuscation: OBFUSCATION });
      yield event(`${call.event}.done`, { ...place, [call.member]: each.pieces.join('') });
    } else if (each.item.type === 'message') {
      const inPart = { ...place, content_index: 0 };
      const part = (text: string) => ({ type: 'output_text', annotations: [], logprobs: [], text });
      yield event('response.content_part.added', { ...inPart, part: part('') });
      const rest = JSON.stringify({ ...inPart, logprobs: [], obfuscation: OBFUSCATION }).slice(1);
      for (const delta of each.pieces) {
        // Concatenated from text, because load tests create many of these.
        yield {
          event: 'response.output_text.delta',
          data: `{"type":"response.output_text.delta","sequence_number":${number++},"delta":${JSON.stringify(delta)},${rest}`,
        };
      }
      const text = each.pieces.join('');
      yield event('response.output_text.done', { ...inPart, logprobs: [], text });
      yield event('response.content_part.done', { ...inPart, part: part(text) });
    }
    yield event('response.output_item.done', { output_index: index, item: each.item });
  }
  yield event(`response.${response.status === 'incomplete' ? 'incomplete' : 'completed'}`, { response });
}

/** The item at its start. Reasoning and compaction are complete from the start. */
function emptied(item: Json & { readonly type: string }): Json {
  if (item.type === 'message') return { ...item, status: 'in_progress', content: [] };
  const call = CALL_EVENTS[item.type];
  return call === undefined ? item : { ...item, status: 'in_progress', [call.member]: '' };
}
