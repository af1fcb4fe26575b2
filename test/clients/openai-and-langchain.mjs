/** Asks for a chat and a response, whole and streamed, with each client that docs/clients.md sets up. */

import { model as langchain } from './langchain-node.mjs';
import { model as langchainAzure } from './langchain-node-azure.mjs';
import { client as v1 } from './openai-node.mjs';
import { client as azure } from './openai-node-azure.mjs';

const model = 'gpt-4o';
const messages = [{ role: 'user', content: 'Hello' }];

const said = (step, text) => process.stdout.write(`${JSON.stringify({ step, text })}\n`);

for (const [name, client] of [
  ['openai', v1],
  ['azure', azure],
]) {
  const whole = await client.chat.completions.create({ model, messages });
  said(`${name} chat`, whole.choices[0].message.content);
  let text = '';
  for await (const { choices } of await client.chat.completions.create({ model, messages, stream: true }))
    text += choices[0]?.delta.content ?? '';
  said(`${name} chat stream`, text);
  said(`${name} response`, (await client.responses.create({ model, input: 'Hello' })).output_text);
  text = '';
  for await (const event of await client.responses.create({ model, input: 'Hello', stream: true }))
    if (event.type === 'response.output_text.delta') text += event.delta;
  said(`${name} response stream`, text);
}

for (const [name, chat] of [
  ['langchain', langchain],
  ['langchain azure', langchainAzure],
]) {
  said(`${name} chat`, (await chat.invoke('Hello')).content);
  let text = '';
  for await (const { content } of await chat.stream('Hello')) text += content;
  said(`${name} chat stream`, text);
}
