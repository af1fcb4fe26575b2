/** Which operation a request is for. */
import type { Behaviour } from './behaviour.ts';
import type { Call, Json } from './call.ts';
import { notFound } from './collections.ts';
import { chatCompletions, legacyCompletions } from './completions.ts';
import type { LatencyKind } from './config.ts';
import { embeddings, embeddingTokens } from './embeddings.ts';
import * as responses from './responses.ts';
import { DEFAULT_COMPLETION_TOKENS } from './text.ts';
import * as uploads from './uploads.ts';

export interface Operation {
  /** As the messages of 429s name it. */
  readonly name: string;
  /** Whether the classic API has it below the deployment. */
  readonly ofDeployment: boolean;
  /** `[DONE]` ends its streams. */
  readonly done: boolean;
  readonly latency?: LatencyKind;
  /** Rate-limit tokens; undefined where no limit applies. */
  cost?(json: Json): number;
  run(call: Call, ...ids: string[]): Behaviour;
}

/** An operation, and the ids that the path has for it. */
export interface Route {
  readonly operation: Operation;
  readonly ids: readonly string[];
}

/** Estimated before anything is generated, from what may be generated. */
function completionCost(json: Json): number {
  const { max_tokens, max_completion_tokens, max_output_tokens, best_of } = json;
  const tokens = [max_tokens, max_completion_tokens, max_output_tokens].find(
    (each): each is number => typeof each === 'number' && each > 0,
  );
  return (tokens ?? DEFAULT_COMPLETION_TOKENS) * (typeof best_of === 'number' && best_of > 0 ? best_of : 1);
}

const freeOfTokens = () => 0;

const resource = (name: string, run: Operation['run']): Operation => ({
  name,
  ofDeployment: false,
  done: false,
  run,
});

const onDeployment = (name: string, run: Operation['run'], more: Partial<Operation> = {}): Operation => ({
  name,
  ofDeployment: true,
  done: false,
  cost: freeOfTokens,
  run,
  ...more,
});

const createResponse: Operation = {
  ...resource('Responses_Create', responses.createResponse),
  cost: completionCost,
};

const models = ({ deployments = ['gpt-4o-mini', 'text-embedding-ada-002'] }: Call): readonly Json[] =>
  deployments.map((id) => ({
    id,
    object: 'model',
    status: 'succeeded',
    created_at: 1_721_260_800,
    lifecycle_status: 'generally-available',
  }));

const listModels = (call: Call): Behaviour => ({ body: { data: models(call), object: 'list' } });

const getModel = (call: Call, id: string): Behaviour => {
  const found = models(call).find((model) => model.id === id);
  return found ? { body: found } : notFound(`The model '${id}' does not exist.`);
};

/** By method and path; `*` stands for an id. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  'POST /chat/completions': onDeployment('ChatCompletions_Create', chatCompletions, {
    done: true,
    latency: 'open_ai_chat_completions',
    cost: completionCost,
  }),
  'POST /completions': onDeployment('Completions_Create', legacyCompletions, {
    done: true,
    latency: 'open_ai_completions',
    cost: completionCost,
  }),
  'POST /embeddings': onDeployment('Embeddings_Create', embeddings, {
    latency: 'open_ai_embeddings',
    cost: ({ input }) => embeddingTokens(input),
  }),
  'POST /images/generations': onDeployment('ImageGenerations_Create', uploads.generateImages),
  'POST /images/edits': onDeployment('ImageEdits_Create', uploads.editImages),
  'POST /audio/transcriptions': onDeployment('Transcriptions_Create', uploads.transcribe),
  'POST /audio/translations': onDeployment('Translations_Create', uploads.transcribe, {
    latency: 'open_ai_translations',
  }),
  'POST /audio/speech': onDeployment('Speech_Create', uploads.speak),
  'POST /responses': createResponse,
  'GET /responses/*': resource('Responses_Get', responses.getResponse),
  'DELETE /responses/*': resource('Responses_Delete', responses.deleteResponse),
  'POST /responses/*/cancel': resource('Responses_Cancel', responses.cancelResponse),
  'GET /responses/*/input_items': resource('Responses_ListInputItems', responses.responseInputItems),
  'POST /conversations': resource('Conversations_Create', responses.createConversation),
  'GET /conversations/*': resource('Conversations_Get', responses.getConversation),
  'POST /conversations/*': resource('Conversations_Update', responses.updateConversation),
  'DELETE /conversations/*': resource('Conversations_Delete', responses.deleteConversation),
  'GET /conversations/*/items': resource('ConversationItems_List', responses.conversationItems),
  'POST /conversations/*/items': resource('ConversationItems_Create', responses.addConversationItems),
  'GET /conversations/*/items/*': resource('ConversationItems_Get', responses.conversationItem),
  'DELETE /conversations/*/items/*': resource('ConversationItems_Delete', responses.deleteConversationItem),
  'GET /models': resource('Models_List', listModels),
  'GET /models/*': resource('Models_Get', getModel),
  'POST /files': resource('Files_Upload', uploads.uploadFile),
  'GET /files': resource('Files_List', uploads.listFiles),
  'GET /files/*': resource('Files_Get', uploads.getFile),
  'GET /files/*/content': resource('Files_GetContent', uploads.fileContent),
  'DELETE /files/*': resource('Files_Delete', uploads.deleteFile),
  'POST /batches': resource('Batches_Create', uploads.batches.create),
  'GET /batches': resource('Batches_List', uploads.batches.list),
  'GET /batches/*': resource('Batches_Get', uploads.batches.get),
  'POST /batches/*/cancel': resource('Batches_Cancel', (call, id = '') =>
    uploads.batches.change(call, id, { status: 'cancelling' }),
  ),
  'POST /vector_stores': resource('VectorStores_Create', uploads.vectorStores.create),
  'GET /vector_stores': resource('VectorStores_List', uploads.vectorStores.list),
  'GET /vector_stores/*': resource('VectorStores_Get', uploads.vectorStores.get),
  'DELETE /vector_stores/*': resource('VectorStores_Delete', uploads.vectorStores.remove),
};

/** Every second segment of a path is an id. Undefined for what there is not. */
export function routeOf(method: string, path: string): Route | undefined {
  const whole = OPERATIONS[`${method} ${path}`];
  if (whole) return { operation: whole, ids: [] };
  const segments = path.split('/').slice(1);
  const pattern = segments.map((segment, index) => (index % 2 === 1 ? '*' : segment)).join('/');
  const operation = OPERATIONS[`${method} /${pattern}`];
  return operation && { operation, ids: segments.filter((_, index) => index % 2 === 1) };
}
