/**
 * Generates the answer of the model: text, tool calls, or JSON of a schema.
 * - It calls the tool that `tool_choice` names, or the first one if it is `required`. With `auto` it calls the tools
 * whose names are in the user's last message, unless a tool result follows. Arguments are the smallest that the
 * parameters allow.
 * - With a schema the answer is its smallest value, with `json_object` an empty object.
 * - Text has `answerTokens` tokens. If that is not set, it has 16 tokens if the request has no limit, else 256.
 * - The request's limit cuts text, JSON and arguments that are longer.
 */
import { randomBytes } from 'node:crypto';
import { invalidRequest } from './answers.ts';
import { type Json, Refused } from './call.ts';
import { smallestValue } from './schema-value.ts';
import { completionTokens, DEFAULT_COMPLETION_TOKENS, LIMITED_COMPLETION_TOKENS } from './text.ts';

export interface Tool {
  readonly kind: 'function' | 'custom';
  readonly name: string;
  readonly parameters: unknown;
}

/** The tools to call: chosen by the model, none, at least one, or this one. */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string };

export interface Ask {
  /** Text of the user's last message; empty if a tool result follows it. */
  readonly userText: string;
  readonly tools: readonly Tool[];
  readonly choice: ToolChoice;
  readonly parallel: boolean;
  /** Undefined for text. */
  readonly format: 'json_object' | { readonly schema: unknown; readonly param: string } | undefined;
  /** Limit of tokens; 0 for none. */
  readonly limit: number;
  /** Length of text from the mock's configuration, in tokens; 0 if not set. */
  readonly answerTokens: number;
}

export interface ToolCall {
  readonly id: string;
  readonly tool: Tool;
  /** The arguments, or the input of a custom tool, one item for each token. */
  readonly input: readonly string[];
}

export interface Generated {
  /** One item for each token. */
  readonly text: readonly string[];
  readonly calls: readonly ToolCall[];
  readonly tokens: number;
  /** Whether the limit cut the answer. */
  readonly cut: boolean;
}

const CHARACTERS_OF_A_TOKEN = 4;
const CALL_ID_BYTES = 18;

export function generated(ask: Ask): Generated {
  const called = calledTools(ask);
  let left = ask.limit || Number.POSITIVE_INFINITY;
  let cut = false;
  const limited = (pieces: readonly string[]): readonly string[] => {
    const kept = pieces.slice(0, left);
    left -= kept.length;
    cut ||= kept.length < pieces.length;
    return kept;
  };
  if (called.length > 0) {
    const calls = called.map((tool) => ({
      id: `call_${randomBytes(CALL_ID_BYTES).toString('base64url')}`,
      tool,
      input: limited(piecesOf(inputOf(tool))),
    }));
    const tokens = calls.reduce((sum, { input }) => sum + input.length, 0);
    return { text: [], calls, tokens, cut };
  }
  const natural = ask.answerTokens || (ask.limit ? LIMITED_COMPLETION_TOKENS : DEFAULT_COMPLETION_TOKENS);
  const text = limited(ask.format === undefined ? completionTokens(natural) : piecesOf(jsonOf(ask.format)));
  return { text, calls: [], tokens: text.length, cut };
}

function calledTools({ tools, choice, userText, parallel }: Ask): readonly Tool[] {
  if (choice === 'none' || (tools.length === 0 && choice === 'auto')) return [];
  if (choice === 'required') {
    const [first] = tools;
    if (first) return [first];
    throw new Refused(
      invalidRequest("'tool_choice' is only allowed when 'tools' are specified.", 'tool_choice', null),
    );
  }
  if (typeof choice === 'object') {
    const named = tools.find(({ name }) => name === choice.name);
    if (named) return [named];
    throw new Refused(
      invalidRequest(`Tool choice '${choice.name}' not found in 'tools' parameter.`, 'tool_choice', null),
    );
  }
  const named = tools.filter(({ name }) => names(userText, name));
  return parallel ? named : named.slice(0, 1);
}

/** Whole words only: `read` is not in `thread`. */
function names(userText: string, name: string): boolean {
  if (name === '') return false;
  for (let at = userText.indexOf(name); at >= 0; at = userText.indexOf(name, at + 1)) {
    const around = `${userText[at - 1] ?? ' '}${userText[at + name.length] ?? ' '}`;
    if (!/[\w-]/.test(around)) return true;
  }
  return false;
}

const inputOf = ({ kind, name, parameters }: Tool): string =>
  kind === 'custom' ? completionTokens(1).join('') : argumentsOf(parameters, name);

function argumentsOf(parameters: unknown, name: string): string {
  if (parameters === undefined || parameters === null) return '{}';
  // Some clients omit the type, but arguments are always an object.
  const isObject = typeof parameters === 'object' && !Array.isArray(parameters);
  const schema = isObject ? { type: 'object', ...(parameters as Json) } : parameters;
  return JSON.stringify(smallestValue(schema, `function '${name}'`));
}

const jsonOf = (format: NonNullable<Ask['format']>): string =>
  format === 'json_object' ? '{}' : JSON.stringify(smallestValue(format.schema, format.param));

function piecesOf(text: string): readonly string[] {
  const characters = [...text];
  const count = Math.ceil(characters.length / CHARACTERS_OF_A_TOKEN);
  return Array.from({ length: count }, (_, index) =>
    characters.slice(index * CHARACTERS_OF_A_TOKEN, (index + 1) * CHARACTERS_OF_A_TOKEN).join(''),
  );
}

/** Text of a message, whose content is text or a list of parts. */
export function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content
    .map((part) => (typeof part?.text === 'string' ? part.text : ''))
    .filter((text) => text !== '')
    .join('\n');
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * The tools of chat (members in an object of their kind) or of responses (members next to `type`). Other tools are
 * never called.
 */
export function toolsOf(given: unknown): readonly Tool[] {
  if (!Array.isArray(given)) return [];
  return given.filter(isObject).flatMap((tool): readonly Tool[] => {
    const { type } = tool;
    if (type !== 'function' && type !== 'custom') return [];
    const about = isObject(tool[type]) ? tool[type] : tool;
    return [{ kind: type, name: String(about.name ?? ''), parameters: about.parameters }];
  });
}

/** `tool_choice` in the same two forms. A list of allowed tools limits the choice. */
export function choiceOf(
  given: unknown,
  tools: readonly Tool[],
): { readonly choice: ToolChoice; readonly tools: readonly Tool[] } {
  if (given === 'none' || given === 'required') return { choice: given, tools };
  if (!isObject(given)) return { choice: 'auto', tools };
  const type = String(given.type);
  const about = isObject(given[type]) ? given[type] : given;
  if (type === 'allowed_tools') {
    const allowed = toolsOf(about.tools).map(({ name }) => name);
    const { choice } = choiceOf(about.mode, tools);
    return { choice, tools: tools.filter(({ name }) => allowed.includes(name)) };
  }
  if (type !== 'function' && type !== 'custom') return { choice: 'auto', tools };
  return { choice: { name: String(about.name ?? '') }, tools };
}

/** `response_format` of chat, or `text.format` of responses. */
export function formatOf(given: unknown, param: string): Ask['format'] {
  if (!isObject(given)) return undefined;
  if (given.type === 'json_object') return 'json_object';
  if (given.type !== 'json_schema') return undefined;
  const about = isObject(given.json_schema) ? given.json_schema : given;
  if (about.schema === undefined || about.schema === null) {
    throw new Refused(
      invalidRequest(
        `Missing required parameter: '${param}.schema'.`,
        `${param}.schema`,
        'missing_required_parameter',
      ),
    );
  }
  return { schema: about.schema, param };
}
