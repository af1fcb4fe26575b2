/** Every id in a path or a body leads to the owner of the object, and to no other backend. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { endpointsOf, type OwningBackend, startOwningBackends } from '../support/owning-backends.ts';
import { NO_COOLDOWN } from '../support/traffic.ts';

type Json = Record<string, unknown>;

const RESPONSES = '/openai/v1/responses';
const CHAT = '/openai/v1/chat/completions';
const ROUNDS = 10;

interface Sent {
  readonly method?: string;
  readonly path: string;
  /** A string is sent as a form. */
  readonly body?: Json | string;
}

interface Case {
  readonly makes: Sent;
  /** The request with an id from the answer to the first request. */
  readonly names: (made: Json) => Sent;
}

const respond = (input: unknown, more: Json = {}): Sent => ({
  path: RESPONSES,
  body: { model: 'm', input, ...more },
});
const chat = (message: Json, more: Json = {}): Sent => ({
  path: CHAT,
  body: { model: 'm', messages: [message], ...more },
});
const upload: Sent = { path: '/openai/v1/files', body: 'x' };
const idOf = ({ id }: Json) => String(id);
const itemOf = (made: Json, prefix: string): string => {
  const item = (made.output as { id: string }[]).find(({ id }) => id.startsWith(prefix));
  if (!item) throw new Error(`no item ${prefix}`);
  return item.id;
};
const audioOf = (made: Json): Json => {
  const [choice] = made.choices as { message?: { audio: Json }; delta?: { audio: Json } }[];
  return { id: (choice?.message ?? choice?.delta)?.audio.id };
};
const containerOf = (made: Json) => String((made.output as Json[])[1]?.container_id);
const item = (prefix: string): Case => ({
  makes: respond('x'),
  names: (made) =>
    respond([
      { type: 'item_reference', id: itemOf(made, prefix) },
      { role: 'user', content: 'y' },
    ]),
});
const made = (kind: string, body: Json | string, names: Case['names']): Case => ({
  makes: { path: `/openai/v1/${kind}`, body },
  names,
});
const byPath =
  (kind: string, below = '', method = 'GET', body?: Json) =>
  (each: Json): Sent => ({
    method,
    path: `/openai/v1/${kind}/${idOf(each)}${below}`,
    ...(body ? { body } : {}),
  });

const CASES: Readonly<Record<string, Case>> = {
  'a response to go on with': {
    makes: respond('x'),
    names: (each) => respond('y', { previous_response_id: idOf(each) }),
  },
  'a conversation by its id': made('conversations', {}, (each) => respond('y', { conversation: idOf(each) })),
  'a conversation as an object': made('conversations', {}, (each) =>
    respond('y', { conversation: { id: idOf(each) } }),
  ),
  'items of a conversation': made(
    'conversations',
    {},
    byPath('conversations', '/items', 'POST', { items: [] }),
  ),
  ...Object.fromEntries(
    ['rs_', 'msg_', 'fc_', 'ws_', 'ig_', 'cu_', 'mcp_'].map((prefix) => [`an item ${prefix}…`, item(prefix)]),
  ),
  'all items as a whole': {
    makes: respond('x'),
    names: (each) =>
      respond([
        ...(each.output as Json[]).map(({ encrypted_content: _, ...rest }) => rest),
        { role: 'user' },
      ]),
  },
  'an item of a stream': { makes: respond('x', { stream: true }), names: item('fc_').names },
  'an approval': {
    makes: respond('x'),
    names: (each) =>
      respond([{ type: 'mcp_approval_response', approval_request_id: itemOf(each, 'mcpr_'), approve: true }]),
  },
  'encrypted reasoning': {
    makes: respond('x', { store: false, include: ['reasoning.encrypted_content'] }),
    names: (each) => respond([(each.output as Json[])[0]], { store: false }),
  },
  'encrypted reasoning of a stream': {
    makes: respond('x', { store: false, stream: true }),
    names: (each) => respond([(each.output as Json[])[0]], { store: false }),
  },
  'a file in the input': made('files', 'x', (each) =>
    respond([{ role: 'user', content: [{ type: 'input_file', file_id: idOf(each) }] }]),
  ),
  'an image in the input': made('files', 'x', (each) =>
    respond([{ role: 'user', content: [{ type: 'input_image', file_id: idOf(each) }] }]),
  ),
  'a file in a chat': made('files', 'x', (each) =>
    chat({ role: 'user', content: [{ type: 'file', file: { file_id: idOf(each) } }] }),
  ),
  'a file of an image to edit': made('files', 'x', (each) => ({
    path: '/openai/v1/images/edits',
    body: { model: 'm', prompt: 'x', images: [{ file_id: idOf(each) }] },
  })),
  'a stored chat completion': {
    makes: chat({ role: 'user', content: 'x' }, { store: true }),
    names: byPath('chat/completions'),
  },
  'messages of a stored chat completion': {
    makes: chat({ role: 'user', content: 'x' }, { store: true }),
    names: byPath('chat/completions', '/messages'),
  },
  'metadata of a stored chat completion': {
    makes: chat({ role: 'user', content: 'x' }, { store: true }),
    names: byPath('chat/completions', '', 'POST', { metadata: { a: 'b' } }),
  },
  'a stored chat completion to delete': {
    makes: chat({ role: 'user', content: 'x' }, { store: true }),
    names: byPath('chat/completions', '', 'DELETE'),
  },
  'a stored chat completion of a stream': {
    makes: chat({ role: 'user', content: 'x' }, { store: true, stream: true }),
    names: byPath('chat/completions'),
  },
  'audio of an earlier turn': {
    makes: chat({ role: 'user', content: 'x' }, { modalities: ['text', 'audio'], audio: { voice: 'alloy' } }),
    names: (each) => chat({ role: 'assistant', audio: audioOf(each) }),
  },
  'audio of a stream': {
    makes: chat({ role: 'user', content: 'x' }, { audio: { voice: 'alloy' }, stream: true }),
    names: (each) => chat({ role: 'assistant', audio: audioOf(each) }),
  },
  'parts of an upload': made('uploads', { filename: 'x' }, (each) => ({
    path: `/openai/v1/uploads/${idOf(each)}/parts`,
    body: 'x',
  })),
  'an upload to complete': made(
    'uploads',
    { filename: 'x' },
    byPath('uploads', '/complete', 'POST', { part_ids: ['part_1'] }),
  ),
  'a container': made('containers', { name: 'x' }, (each) =>
    respond('x', { tools: [{ type: 'code_interpreter', container: idOf(each) }] }),
  ),
  'files of a container': made('containers', { name: 'x' }, byPath('containers', '/files')),
  'a container that a response made': {
    makes: respond('x'),
    names: (each) => ({ method: 'GET', path: `/openai/v1/containers/${containerOf(each)}/files` }),
  },
  'a vector store': made('vector_stores', {}, (each) =>
    respond('x', { tools: [{ type: 'file_search', vector_store_ids: [idOf(each)] }] }),
  ),
  'a vector store of a file': made('files', 'x', (each) => ({
    path: '/openai/v1/vector_stores',
    body: { file_ids: [idOf(each)] },
  })),
  'a search of a vector store': made(
    'vector_stores',
    {},
    byPath('vector_stores', '/search', 'POST', { query: 'x' }),
  ),
  'a batch of a file': made('files', 'x', (each) => ({
    path: '/openai/v1/batches',
    body: { input_file_id: idOf(each), endpoint: '/v1/responses' },
  })),
  'a job of a file': made('files', 'x', (each) => ({
    path: '/openai/v1/fine_tuning/jobs',
    body: { training_file: idOf(each), model: 'm' },
  })),
  'events of a job': made('fine_tuning/jobs', { model: 'm' }, byPath('fine_tuning/jobs', '/events')),
  'runs of an evaluation': made('evals', { name: 'x' }, byPath('evals', '/runs', 'POST', { name: 'x' })),
  'a video': made('videos', { model: 'm', prompt: 'x' }, byPath('videos', '/content')),
  'a video to edit': made('videos', { model: 'm', prompt: 'x' }, (each) => ({
    path: '/openai/v1/videos/edits',
    body: { video: { id: idOf(each) }, prompt: 'y' },
  })),
  'resources of tools': made('vector_stores', {}, (each) => ({
    path: '/openai/v1/threads',
    body: { tool_resources: { file_search: { vector_store_ids: [idOf(each)] } } },
  })),
};

describe.skipIf(cannotRunGatewayTests('owners by every name'))('with two equal backends', () => {
  let gateway: Gateway;
  let backends: OwningBackend[];

  beforeAll(async () => {
    backends = await startOwningBackends(2);
    gateway = await startGateway({ settings: { ...NO_COOLDOWN, ...endpointsOf(backends) } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    await Promise.all(backends.map((each) => each.stop()));
  });
  afterEach(() => {
    for (const each of backends) {
      each.throttledFor = undefined;
      each.failsWith = undefined;
      each.asked.length = 0;
    }
  });

  const send = ({ method = 'POST', path, body }: Sent) =>
    gateway.fetch(path, {
      method,
      ...(body === undefined
        ? {}
        : typeof body === 'string'
          ? { body, headers: { 'content-type': 'multipart/form-data; boundary=b' } }
          : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });

  /** The object in an answer. In a stream it is in the last event that has one. */
  async function make(request: Sent): Promise<Json> {
    const answer = await send(request);
    const text = await answer.text();
    expect(answer.status, text).toBe(200);
    if (!answer.headers.get('content-type')?.includes('event-stream')) return JSON.parse(text) as Json;
    const events = text
      .split('\n\n')
      .filter((each) => each.startsWith('data: {'))
      .map((each) => JSON.parse(each.slice(6)) as Json);
    const last = events.at(-1) ?? {};
    return (last.response as Json | undefined) ?? last;
  }

  const lastAsked = (method: string, path: string): number =>
    backends.findIndex(({ asked }) => asked.some((each) => each.method === method && each.path === path));

  test.each(Object.entries(CASES))('%s leads to its owner every time', async (_, { makes, names }) => {
    for (let round = 0; round < ROUNDS; round++) {
      const request = names(await make(makes));
      for (const each of backends) each.asked.length = 0;
      const answer = await send(request);
      expect(answer.status, await answer.text()).toBe(200);
      expect(backends.flatMap(({ asked }) => asked)).toHaveLength(1);
      // Alternate the rotation, so that both backends own objects.
      if (round % 2 === 1) await make(respond('x'));
    }
  });

  test.each(Object.entries(CASES))(
    '%s gets 429 with the delay of its owner, without a call to another backend',
    async (_, { makes, names }) => {
      const request = names(await make(makes));
      for (const each of backends) each.asked.length = 0;
      expect((await send(request)).status).toBe(200);
      const owner = backends[lastAsked(request.method ?? 'POST', request.path)];
      if (!owner) throw new Error('there is no owner');
      for (const each of backends) each.asked.length = 0;
      owner.throttledFor = 7;
      const answer = await send(request);
      expect(answer.status).toBe(429);
      expect(answer.headers.get('retry-after')).toBe('7');
      expect(backends.map(({ asked }) => asked.length)).toEqual(
        backends.map((each) => (each === owner ? 1 : 0)),
      );
    },
  );

  test.each(['an item msg_…', 'encrypted reasoning', 'audio of an earlier turn', 'parts of an upload'])(
    '%s gets the 503 of its owner, without a call to another backend',
    async (name) => {
      const { makes, names } = CASES[name] ?? { makes: respond('x'), names: () => respond('x') };
      const request = names(await make(makes));
      expect((await send(request)).status).toBe(200);
      for (const each of backends) each.asked.length = 0;
      for (const each of backends) each.failsWith = 503;
      expect((await send(request)).status).toBe(503);
      expect(backends.flatMap(({ asked }) => asked)).toHaveLength(1);
    },
  );

  test('requests without an id are spread over the backends', async () => {
    for (let count = 0; count < 20; count++) {
      expect((await send(chat({ role: 'user', content: 'x' }))).status).toBe(200);
    }
    for (const { asked } of backends) expect(asked.length).toBeGreaterThanOrEqual(8);
  });

  test('all files of a client are uploaded to the same backend', async () => {
    for (let count = 0; count < 4; count++) await make(upload);
    expect(backends.filter(({ asked }) => asked.length > 0)).toHaveLength(1);
  });
});
