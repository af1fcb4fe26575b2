/** Maps requests to operations. */
import type { Behaviour } from './behaviour.ts';
import type { Call, Json } from './call.ts';
import { notFound } from './collections.ts';
import { chatCompletions, legacyCompletions } from './completions.ts';
import type { LatencyKind } from './config.ts';
import { containerFiles, containers } from './containers.ts';
import * as conversations from './conversations.ts';
import { embeddings, embeddingTokens } from './embeddings.ts';
import { evalRuns, evals } from './evals.ts';
import * as files from './files.ts';
import { fineTuning } from './fine-tuning.ts';
import * as media from './media.ts';
import { moderate } from './moderations.ts';
import * as realtime from './realtime.ts';
import * as responses from './responses.ts';
import * as completions from './stored-completions.ts';
import { DEFAULT_COMPLETION_TOKENS } from './text.ts';
import { batches, vectorStoreBatches, vectorStoreFiles, vectorStores } from './vector-stores.ts';
import { videos } from './videos.ts';

export interface Operation {
  /** The name in messages of 429s. */
  readonly name: string;
  /** Whether the classic API has the operation below the deployment. */
  readonly ofDeployment: boolean;
  /** Whether `[DONE]` ends its streams. */
  readonly done: boolean;
  readonly latency?: LatencyKind;
  /** The classic API does not have the operation. */
  readonly onlyOnV1?: boolean;
  /** The operation needs an ephemeral key that the resource created, not a key of the resource. */
  readonly ephemeral?: boolean;
  /** The cost in rate-limit tokens; undefined if no limit applies. */
  cost?(json: Json): number;
  run(call: Call, ...ids: string[]): Behaviour;
}

/** An operation, and the ids in the path. */
export interface Route {
  readonly operation: Operation;
  readonly ids: readonly string[];
}

/** The estimated cost in tokens, from the prompt and the largest possible answer. */
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

const onV1 = (name: string, run: Operation['run'], more: Partial<Operation> = {}): Operation => ({
  ...resource(name, run),
  onlyOnV1: true,
  ...more,
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
    created: 1_721_260_800,
    created_at: 1_721_260_800,
    owned_by: 'system',
    lifecycle_status: 'generally-available',
  }));

const listModels = (call: Call): Behaviour => ({ body: { data: models(call), object: 'list' } });

const getModel = (call: Call, id: string): Behaviour => {
  const found = models(call).find((model) => model.id === id);
  return found ? { body: found } : notFound(`The model '${id}' does not exist.`);
};

/** Operations by method and path; `*` stands for an id. */
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
  'GET /chat/completions': onV1('ChatCompletions_List', completions.listCompletions),
  'GET /chat/completions/*': onV1('ChatCompletions_Get', completions.getCompletion),
  'POST /chat/completions/*': onV1('ChatCompletions_Update', completions.updateCompletion),
  'DELETE /chat/completions/*': onV1('ChatCompletions_Delete', completions.deleteCompletion),
  'GET /chat/completions/*/messages': onV1('ChatCompletions_Messages', completions.completionMessages),
  'POST /images/generations': onDeployment('ImageGenerations_Create', media.generateImages),
  'POST /images/edits': onDeployment('ImageEdits_Create', media.editImages),
  'POST /audio/transcriptions': onDeployment('Transcriptions_Create', media.transcribe),
  'POST /audio/translations': onDeployment('Translations_Create', media.transcribe, {
    latency: 'open_ai_translations',
  }),
  'POST /audio/speech': onDeployment('Speech_Create', media.speak),
  'POST /moderations': resource('Moderations_Create', moderate),
  'POST /responses': createResponse,
  'POST /responses/compact': onV1('Responses_Compact', responses.compactResponse, { cost: freeOfTokens }),
  'POST /responses/input_tokens': onV1('Responses_InputTokens', responses.countInputTokens),
  'GET /responses/*': resource('Responses_Get', responses.getResponse),
  'DELETE /responses/*': resource('Responses_Delete', responses.deleteResponse),
  'POST /responses/*/cancel': resource('Responses_Cancel', responses.cancelResponse),
  'GET /responses/*/input_items': resource('Responses_ListInputItems', responses.responseInputItems),
  'POST /conversations': resource('Conversations_Create', conversations.createConversation),
  'GET /conversations/*': resource('Conversations_Get', conversations.getConversation),
  'POST /conversations/*': resource('Conversations_Update', conversations.updateConversation),
  'DELETE /conversations/*': resource('Conversations_Delete', conversations.deleteConversation),
  'GET /conversations/*/items': resource('ConversationItems_List', conversations.conversationItems),
  'POST /conversations/*/items': resource('ConversationItems_Create', conversations.addConversationItems),
  'GET /conversations/*/items/*': resource('ConversationItems_Get', conversations.conversationItem),
  'DELETE /conversations/*/items/*': resource(
    'ConversationItems_Delete',
    conversations.deleteConversationItem,
  ),
  'POST /realtime/client_secrets': onV1('RealtimeClientSecrets_Create', realtime.createSecret),
  'POST /realtime/calls': onV1('RealtimeCalls_Create', realtime.createCall, { ephemeral: true }),
  'POST /realtime/calls/*/hangup': onV1('RealtimeCalls_Hangup', realtime.hangUp),
  'GET /models': resource('Models_List', listModels),
  'GET /models/*': resource('Models_Get', getModel),
  'POST /files': resource('Files_Upload', files.uploadFile),
  'GET /files': resource('Files_List', files.listFiles),
  'GET /files/*': resource('Files_Get', files.getFile),
  'GET /files/*/content': resource('Files_GetContent', files.fileContent),
  'DELETE /files/*': resource('Files_Delete', files.deleteFile),
  'POST /uploads': resource('Uploads_Create', files.uploads.create),
  'POST /uploads/*/parts': resource('Uploads_AddPart', files.addPart),
  'POST /uploads/*/complete': resource('Uploads_Complete', files.completeUpload),
  'POST /uploads/*/cancel': resource('Uploads_Cancel', files.cancelUpload),
  'POST /batches': resource('Batches_Create', batches.create),
  'GET /batches': resource('Batches_List', batches.list),
  'GET /batches/*': resource('Batches_Get', batches.get),
  'POST /batches/*/cancel': resource('Batches_Cancel', (call, id = '') =>
    batches.change(call, [id], { status: 'cancelling' }),
  ),
  'POST /vector_stores': resource('VectorStores_Create', vectorStores.create),
  'GET /vector_stores': resource('VectorStores_List', vectorStores.list),
  'GET /vector_stores/*': resource('VectorStores_Get', vectorStores.get),
  'POST /vector_stores/*': resource('VectorStores_Update', vectorStores.update),
  'DELETE /vector_stores/*': resource('VectorStores_Delete', vectorStores.remove),
  'POST /vector_stores/*/search': resource('VectorStores_Search', vectorStores.search),
  'POST /vector_stores/*/files': resource('VectorStoreFiles_Create', vectorStoreFiles.create),
  'GET /vector_stores/*/files': resource('VectorStoreFiles_List', vectorStoreFiles.list),
  'GET /vector_stores/*/files/*': resource('VectorStoreFiles_Get', vectorStoreFiles.get),
  'POST /vector_stores/*/files/*': resource('VectorStoreFiles_Update', vectorStoreFiles.update),
  'DELETE /vector_stores/*/files/*': resource('VectorStoreFiles_Delete', vectorStoreFiles.remove),
  'GET /vector_stores/*/files/*/content': resource('VectorStoreFiles_Content', vectorStoreFiles.content),
  'POST /vector_stores/*/file_batches': resource('VectorStoreBatches_Create', vectorStoreBatches.create),
  'GET /vector_stores/*/file_batches/*': resource('VectorStoreBatches_Get', vectorStoreBatches.get),
  'POST /vector_stores/*/file_batches/*/cancel': resource(
    'VectorStoreBatches_Cancel',
    vectorStoreBatches.cancel,
  ),
  'GET /vector_stores/*/file_batches/*/files': resource('VectorStoreBatches_Files', vectorStoreBatches.files),
  'POST /fine_tuning/jobs': resource('FineTuning_Create', fineTuning.create),
  'GET /fine_tuning/jobs': resource('FineTuning_List', fineTuning.list),
  'GET /fine_tuning/jobs/*': resource('FineTuning_Get', fineTuning.get),
  'POST /fine_tuning/jobs/*/cancel': resource('FineTuning_Cancel', fineTuning.cancel),
  'POST /fine_tuning/jobs/*/pause': resource('FineTuning_Pause', fineTuning.pause),
  'POST /fine_tuning/jobs/*/resume': resource('FineTuning_Resume', fineTuning.resume),
  'GET /fine_tuning/jobs/*/events': resource('FineTuning_Events', fineTuning.events),
  'GET /fine_tuning/jobs/*/checkpoints': resource('FineTuning_Checkpoints', fineTuning.checkpoints),
  'POST /evals': resource('Evals_Create', evals.create),
  'GET /evals': resource('Evals_List', evals.list),
  'GET /evals/*': resource('Evals_Get', evals.get),
  'POST /evals/*': resource('Evals_Update', evals.update),
  'DELETE /evals/*': resource('Evals_Delete', evals.remove),
  'POST /evals/*/runs': resource('EvalRuns_Create', evalRuns.create),
  'GET /evals/*/runs': resource('EvalRuns_List', evalRuns.list),
  'GET /evals/*/runs/*': resource('EvalRuns_Get', evalRuns.get),
  'POST /evals/*/runs/*': resource('EvalRuns_Cancel', evalRuns.cancel),
  'DELETE /evals/*/runs/*': resource('EvalRuns_Delete', evalRuns.remove),
  'GET /evals/*/runs/*/output_items': resource('EvalRuns_OutputItems', evalRuns.items),
  'GET /evals/*/runs/*/output_items/*': resource('EvalRuns_OutputItem', evalRuns.item),
  'POST /containers': onV1('Containers_Create', containers.create),
  'GET /containers': onV1('Containers_List', containers.list),
  'GET /containers/*': onV1('Containers_Get', containers.get),
  'DELETE /containers/*': onV1('Containers_Delete', containers.remove),
  'POST /containers/*/files': onV1('ContainerFiles_Create', containerFiles.create),
  'GET /containers/*/files': onV1('ContainerFiles_List', containerFiles.list),
  'GET /containers/*/files/*': onV1('ContainerFiles_Get', containerFiles.get),
  'DELETE /containers/*/files/*': onV1('ContainerFiles_Delete', containerFiles.remove),
  'GET /containers/*/files/*/content': onV1('ContainerFiles_Content', containerFiles.content),
  'POST /videos': onV1('Videos_Create', videos.create, { cost: freeOfTokens }),
  'GET /videos': onV1('Videos_List', videos.list),
  'GET /videos/*': onV1('Videos_Get', videos.get),
  'DELETE /videos/*': onV1('Videos_Delete', videos.remove),
  'GET /videos/*/content': onV1('Videos_Content', videos.content),
  'POST /videos/*/remix': onV1('Videos_Remix', videos.remix),
};

/** Operations by method and segments of their path. */
interface Branch {
  readonly below: Map<string, Branch>;
  operation?: Operation;
}

const newBranch = (): Branch => ({ below: new Map() });

const ROOT = newBranch();
for (const [pattern, operation] of Object.entries(OPERATIONS)) {
  let branch = ROOT;
  for (const segment of pattern.split(/ ?\//)) {
    const next = branch.below.get(segment) ?? newBranch();
    branch.below.set(segment, next);
    branch = next;
  }
  branch.operation = operation;
}

/** Undefined for assistants and threads: they are retired, and Azure returns 404 as for any unknown path. */
export function routeOf(method: string, path: string): Route | undefined {
  const whole = OPERATIONS[`${method} ${path}`];
  return whole ? { operation: whole, ids: [] } : found(ROOT, [method, ...path.split('/').slice(1)], []);
}

/** A literal name has precedence over an id. */
function found(
  branch: Branch,
  [segment, ...rest]: readonly string[],
  ids: readonly string[],
): Route | undefined {
  if (segment === undefined) return branch.operation && { operation: branch.operation, ids };
  const named = segment === '*' ? undefined : branch.below.get(segment);
  const route = named && found(named, rest, ids);
  if (route) return route;
  const other = segment === '' ? undefined : branch.below.get('*');
  return other && found(other, rest, [...ids, segment]);
}
