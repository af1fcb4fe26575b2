/** The mock's generated answers: their length, tool calls, and values that match a schema. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Refused } from '../../compiler/mock/call.ts';
import { smallestValue } from '../../compiler/mock/schema-value.ts';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';

const MODEL = 'gpt-4o';
const WEATHER = {
  type: 'object',
  properties: { city: { type: 'string', minLength: 3 }, days: { type: 'integer', minimum: 2 } },
  required: ['city', 'days'],
  additionalProperties: false,
};
const ARGUMENTS = '{"city":"xxx","days":2}';
const CHAT_TOOLS = [
  { type: 'function' as const, function: { name: 'get_weather', parameters: WEATHER } },
  { type: 'function' as const, function: { name: 'get_time' } },
];
const RESPONSE_TOOLS = [
  { type: 'function' as const, name: 'get_weather', parameters: WEATHER, strict: true },
  { type: 'function' as const, name: 'get_time', parameters: {}, strict: false },
];
const PERSON = {
  $defs: { name: { type: 'string', minLength: 2 } },
  type: 'object',
  properties: {
    name: { $ref: '#/$defs/name' },
    age: { type: 'integer' },
    kind: { enum: ['human', 'robot'] },
    friends: { type: 'array', items: { $ref: '#' } },
  },
  required: ['name', 'age', 'kind', 'friends'],
  additionalProperties: false,
};

let backend: MockBackend;
let openai: OpenAI;
beforeAll(async () => {
  backend = await startMockAzureOpenAI();
  openai = new OpenAI({ baseURL: `${backend.url}/openai/v1`, apiKey: 'any', maxRetries: 0 });
});
afterAll(() => backend.stop());
beforeEach(() => backend.configure({ answerTokens: 0 }));

const user = (content: string) => ({ role: 'user' as const, content });

describe('an answer of the mock', () => {
  test.each([
    [{}, 16, 'stop'],
    [{ max_tokens: 32_000 }, 256, 'stop'],
    [{ max_completion_tokens: 256 }, 256, 'stop'],
    [{ max_completion_tokens: 255 }, 255, 'length'],
    [{ max_tokens: 4 }, 4, 'length'],
  ] as const)('with %j has %i tokens and the finish reason %s', async (limits, tokens, reason) => {
    const answer = await openai.chat.completions.create({ model: MODEL, messages: [user('Hi')], ...limits });
    expect(answer.usage?.completion_tokens).toBe(tokens);
    expect(answer.choices[0]?.finish_reason).toBe(reason);
    const stream = await openai.chat.completions.create({
      model: MODEL,
      messages: [user('Hi')],
      stream: true,
      ...limits,
    });
    const finished = [];
    for await (const { choices } of stream) finished.push(choices[0]?.finish_reason);
    expect(finished.at(-1)).toBe(reason);
  });

  test('is as long as the configuration says', async () => {
    backend.configure({ answerTokens: 1000 });
    const answer = await openai.chat.completions.create({ model: MODEL, messages: [user('Hi')] });
    expect(answer.usage?.completion_tokens).toBe(1000);
    const { output_text: text } = await openai.responses.create({
      model: MODEL,
      input: 'Hi',
      max_output_tokens: 2,
    });
    expect(text).toBe('Once upon');
  });
});

/** The tool calls of a chat by name and arguments, checked to be the same whole and streamed. */
async function chatCalls(request: {
  readonly messages: OpenAI.ChatCompletionMessageParam[];
  readonly [name: string]: unknown;
}) {
  const whole = await openai.chat.completions.create({ model: MODEL, tools: CHAT_TOOLS, ...request });
  const runner = openai.chat.completions.stream({ model: MODEL, tools: CHAT_TOOLS, ...request });
  const streamed = await runner.finalChatCompletion();
  const shown = ({ choices }: OpenAI.ChatCompletion) => ({
    reason: choices[0]?.finish_reason,
    text: choices[0]?.message.content,
    calls: (choices[0]?.message.tool_calls ?? []).map((call) =>
      call.type === 'function'
        ? [call.function.name, call.function.arguments]
        : [call.custom.name, call.custom.input],
    ),
  });
  expect(shown(streamed as OpenAI.ChatCompletion)).toEqual(shown(whole));
  return shown(whole);
}

describe("the mock's chats call tools", () => {
  test("when a tool is required, chosen, or named in the user's message", async () => {
    const called = { reason: 'tool_calls', text: null, calls: [['get_weather', ARGUMENTS]] };
    const hello = [user('Hello')];
    expect(await chatCalls({ messages: hello, tool_choice: 'required' })).toEqual(called);
    const named = { type: 'function', function: { name: 'get_time' } };
    expect((await chatCalls({ messages: hello, tool_choice: named })).calls).toEqual([['get_time', '{}']]);
    expect(await chatCalls({ messages: [user('Please use get_weather.')] })).toEqual(called);
    const both = [user('get_time and get_weather')];
    expect((await chatCalls({ messages: both })).calls).toHaveLength(2);
    expect((await chatCalls({ messages: both, parallel_tool_calls: false })).calls).toHaveLength(1);
    const allowed = { type: 'allowed_tools', allowed_tools: { mode: 'required', tools: [named] } };
    expect((await chatCalls({ messages: hello, tool_choice: allowed })).calls).toEqual([['get_time', '{}']]);
  });

  test('in no other case, and not after a tool result', async () => {
    for (const content of ['Hello', 'forget_time get_weathers', 'my-get_time']) {
      const { reason, text, calls } = await chatCalls({ messages: [user(content)] });
      expect([reason, calls]).toEqual(['stop', []]);
      expect(text).toMatch(/^Once upon/);
    }
    expect((await chatCalls({ messages: [user('get_time')], tool_choice: 'none' })).calls).toEqual([]);
    const call = { id: 'call_1', type: 'function' as const, function: { name: 'get_time', arguments: '{}' } };
    const messages: OpenAI.ChatCompletionMessageParam[] = [
      user('get_time'),
      { role: 'assistant', tool_calls: [call] },
      { role: 'tool', tool_call_id: 'call_1', content: 'get_time said noon' },
    ];
    expect((await chatCalls({ messages })).reason).toBe('stop');
  });

  test('with arguments cut at the token limit, and reject the choice of an unknown tool', async () => {
    const cut = await openai.chat.completions.create({
      model: MODEL,
      messages: [user('Hello')],
      tools: CHAT_TOOLS,
      tool_choice: 'required',
      max_tokens: 2,
    });
    expect(cut.choices[0]).toMatchObject({
      finish_reason: 'length',
      message: { tool_calls: [{ function: { arguments: '{"city":' } }] },
    });
    const request = { model: MODEL, messages: [user('Hello')] };
    await expect(
      openai.chat.completions.create({ ...request, tool_choice: 'required' }),
    ).rejects.toMatchObject({ status: 400, param: 'tool_choice' });
    const other = { type: 'function' as const, function: { name: 'other' } };
    await expect(
      openai.chat.completions.create({ ...request, tools: CHAT_TOOLS, tool_choice: other }),
    ).rejects.toMatchObject({ status: 400, message: expect.stringContaining("'other'") });
  });
});

/** The items of a response without their ids, checked to be the same whole and streamed. */
async function outputOf(request: {
  readonly [name: string]: unknown;
  readonly input: OpenAI.Responses.ResponseInput | string;
}) {
  const whole = await openai.responses.create({ model: MODEL, ...request });
  const stream = await openai.responses.create({ model: MODEL, ...request, stream: true });
  let final: OpenAI.Responses.Response | undefined;
  const deltas: string[] = [];
  const done: unknown[] = [];
  for await (const event of stream) {
    if (event.type === 'response.output_item.done') done.push(event.item);
    if (
      event.type === 'response.function_call_arguments.delta' ||
      event.type === 'response.custom_tool_call_input.delta' ||
      event.type === 'response.output_text.delta'
    ) {
      deltas.push(event.delta);
    }
    if (event.type === 'response.completed' || event.type === 'response.incomplete') final = event.response;
  }
  const shown = (response: OpenAI.Responses.Response | undefined) => ({
    status: response?.status,
    output: response?.output
      .filter(({ type }) => type !== 'reasoning')
      .map(({ id: _, ...item }) => ('call_id' in item ? { ...item, call_id: '' } : item)),
  });
  expect(shown(final)).toEqual(shown(whole));
  expect(final?.output).toEqual(done);
  return { ...shown(whole), streamed: deltas.join('') };
}

describe("the mock's responses call tools", () => {
  test("when a tool is required, chosen, or named in the user's message", async () => {
    const call = {
      type: 'function_call',
      status: 'completed',
      call_id: '',
      name: 'get_weather',
      arguments: ARGUMENTS,
    };
    const tools = RESPONSE_TOOLS;
    const called = { status: 'completed', output: [call], streamed: ARGUMENTS };
    expect(await outputOf({ input: 'Hello', tools, tool_choice: 'required' })).toEqual(called);
    expect(await outputOf({ input: 'get_weather, please', tools })).toEqual(called);
    const named = { type: 'function', name: 'get_time' };
    expect(await outputOf({ input: 'Hello', tools, tool_choice: named })).toMatchObject({
      output: [{ name: 'get_time', arguments: '{}' }],
    });
    const custom = { type: 'custom', name: 'apply_patch' };
    expect(await outputOf({ input: 'Hello', tools: [custom], tool_choice: custom })).toMatchObject({
      output: [{ type: 'custom_tool_call', name: 'apply_patch', input: 'Once' }],
      streamed: 'Once',
    });
    const allowed = { type: 'allowed_tools', mode: 'auto', tools: [named] };
    expect(await outputOf({ input: 'get_weather and get_time', tools, tool_choice: allowed })).toMatchObject({
      output: [{ name: 'get_time' }],
    });
  });

  test('but answer with text after a tool result', async () => {
    const { output } = await outputOf({
      input: [
        { role: 'user', content: 'get_time' },
        { type: 'function_call', call_id: 'call_1', name: 'get_time', arguments: '{}' },
        { type: 'function_call_output', call_id: 'call_1', output: 'noon' },
      ],
      tools: RESPONSE_TOOLS,
    });
    expect(output).toMatchObject([{ type: 'message' }]);
  });

  test('and are incomplete when a structured output exceeds the token limit', async () => {
    const format = { type: 'json_schema', name: 'person', schema: PERSON, strict: true };
    const cut = await outputOf({ input: 'Hello', text: { format }, max_output_tokens: 2 });
    expect(cut).toMatchObject({ status: 'incomplete', streamed: '{"name":' });
  });
});

describe('a schema', () => {
  const value = { name: 'xx', age: 0, kind: 'human', friends: [] };

  test('determines the output of a chat and of a response', async () => {
    const json_schema = { name: 'person', schema: PERSON, strict: true };
    const request = {
      model: MODEL,
      messages: [user('Who?')],
      response_format: { type: 'json_schema' as const, json_schema },
    };
    const { choices, usage } = await openai.chat.completions.create(request);
    expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual(value);
    expect([choices[0]?.finish_reason, usage?.completion_tokens]).toEqual([
      'stop',
      Math.ceil(JSON.stringify(value).length / 4),
    ]);
    const stream = openai.chat.completions.stream(request);
    expect(JSON.parse((await stream.finalContent()) ?? '')).toEqual(value);
    const { streamed, output } = await outputOf({
      input: 'Who?',
      text: { format: { type: 'json_schema', ...json_schema } },
    });
    expect(JSON.parse(streamed)).toEqual(value);
    expect(output).toMatchObject([{ content: [{ text: streamed }] }]);
    const object = await openai.chat.completions.create({
      model: MODEL,
      messages: [user('JSON')],
      response_format: { type: 'json_object' },
    });
    expect(object.choices[0]?.message.content).toBe('{}');
  });

  test.each([
    ['no value', { enum: [] }, 'no value is valid'],
    [
      'no end',
      { type: 'object', properties: { next: { $ref: '#' } }, required: ['next'] },
      'no value is valid',
    ],
    ['a keyword that is not permitted', { type: 'string', not: { const: '' } }, "'not' is not permitted"],
    ['a reference that leads nowhere', { $ref: '#/$defs/none' }, 'leads nowhere'],
    ['a type that there is not', { type: 'text' }, "no type 'text'"],
  ])('with %s is rejected', async (_, schema, reason) => {
    await expect(
      openai.chat.completions.create({
        model: MODEL,
        messages: [user('Who?')],
        response_format: { type: 'json_schema', json_schema: { name: 'it', schema } },
      }),
    ).rejects.toMatchObject({ status: 400, message: expect.stringContaining(reason) });
  });

  const tree = {
    $defs: {
      node: {
        type: 'object',
        properties: {
          left: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
          right: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
          middle: { oneOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
        },
        required: ['left', 'right', 'middle'],
      },
    },
    $ref: '#/$defs/node',
  };
  test.each<[string, unknown, unknown]>([
    ['nothing', {}, ''],
    ['anything', true, ''],
    ['a constant', { const: { a: 1 } }, { a: 1 }],
    ['one of several types', { type: ['null', 'string'] }, null],
    ['a boolean', { type: 'boolean' }, false],
    ['a number below zero', { type: 'number', maximum: -1.5, multipleOf: 0.5 }, -1.5],
    ['a number between bounds', { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 }, 0.5],
    ['an integer above', { type: 'integer', exclusiveMinimum: 3, multipleOf: 5 }, 5],
    ['a text of a length', { type: 'string', minLength: 2, maxLength: 2 }, 'xx'],
    ['a text of a format', { type: 'string', format: 'date' }, '2026-01-31'],
    ['a text of a pattern', { type: 'string', pattern: '^[A-Z]{2}-\\d{3,}(?:x|y)?$' }, 'AA-000'],
    ['a text of a pattern and a length', { type: 'string', pattern: '^\\w+$', minLength: 4 }, 'xxxx'],
    ['a text of a class that excludes', { type: 'string', pattern: '^[^a-z]$' }, '0'],
    ['items', { type: 'array', minItems: 2, items: { type: 'integer' } }, [0, 0]],
    [
      'different items',
      { type: 'array', minItems: 3, uniqueItems: true, items: { type: 'string' } },
      ['', '1', '2'],
    ],
    [
      'different items of an enumeration',
      { minItems: 2, uniqueItems: true, items: { enum: ['a', 'b'] } },
      ['a', 'b'],
    ],
    [
      'different objects',
      { minItems: 2, uniqueItems: true, items: { properties: { a: { type: 'integer' } }, required: ['a'] } },
      [{ a: 0 }, { a: 1 }],
    ],
    [
      'a tuple',
      { type: 'array', minItems: 2, prefixItems: [{ type: 'null' }, { type: 'boolean' }] },
      [null, false],
    ],
    [
      'a number of properties',
      { type: 'object', minProperties: 1, properties: { a: { type: 'integer' } } },
      { a: 0 },
    ],
    [
      'properties that all parts require',
      {
        allOf: [
          { type: 'object', properties: { a: { minLength: 1, type: 'string' } }, required: ['a'] },
          { properties: { a: { minLength: 2 } }, required: ['a'] },
        ],
      },
      { a: 'xx' },
    ],
    [
      'the first alternative that has an end',
      { anyOf: [false, { type: 'integer', minimum: 2, maximum: 1 }, { type: 'null' }] },
      null,
    ],
    ['a tree', tree, { left: null, right: null, middle: null }],
    [
      'names like members of objects',
      {
        type: 'object',
        properties: { constructor: { type: 'null' } },
        required: ['constructor', '__proto__'],
      },
      JSON.parse('{"constructor":null,"__proto__":""}'),
    ],
  ])('with %s has a small value that is valid', (_, schema, smallest) => {
    const found = smallestValue(schema, 'it');
    expect(found).toEqual(smallest);
    const validate = new Ajv2020({ strict: false, validateFormats: false }).compile(schema as object);
    expect(validate(found), JSON.stringify(validate.errors)).toBe(true);
  });

  test('that refers to itself in many places is given up soon', () => {
    const names = ['a', 'b', 'c', 'd'];
    const node = {
      type: 'object',
      properties: Object.fromEntries(
        names.map((name) => [name, { anyOf: [{ $ref: '#' }, { $ref: '#/properties/a' }] }]),
      ),
      required: names,
    };
    const begin = performance.now();
    expect(() => smallestValue(node, 'it')).toThrow(Refused);
    expect(performance.now() - begin).toBeLessThan(2_000);
  });
});
