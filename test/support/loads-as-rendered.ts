/**
 * Declares tests that the stock APISIX image loads golden scenarios as rendered, and becomes the gateway that their models
 * describe.
 */
import { readFileSync } from 'node:fs';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { APISIX } from '../../compiler/emit/encodings.ts';
import type { Backend, GatewayModel } from '../../compiler/model/model.ts';
import {
  type Apisix,
  CONTAINER_TIMEOUT_MS,
  cannotRunGatewayTests,
  PORTS,
  parseAsApisix,
  startApisix,
  startValidator,
  type Validator,
} from './apisix.ts';
import { compileGolden, type Scenario } from './scenarios.ts';

/** Log lines that are not caused by the configuration. */
const NOT_OURS = [
  // A limit of the host that nginx cannot raise. Asking Docker for more makes the container fail when it is not allowed.
  /setrlimit\(RLIMIT_NOFILE, \d+\) failed/,
  // /status/ready writes this when it is called before the workers are ready, as the wait for the start does.
  /worker id: \d+ has not received configuration/,
  /worker count: \d+ but status report count/,
];

/** The paths that routes name in full. */
const USUAL_PATHS = ['/openai/v1/chat/completions', '/openai/v1/responses', '/openai/v1/embeddings'];

interface Item {
  readonly id: string;
  readonly uri?: string;
  readonly uris?: readonly string[];
  readonly plugins?: Readonly<Record<string, object>>;
}

interface RenderedFile {
  readonly routes: readonly Item[];
  readonly services: readonly Item[];
  readonly plugin_metadata?: readonly Item[];
}

interface Readiness {
  readonly reasons?: readonly string[];
}

interface Instance {
  readonly name: string;
  readonly priority: number;
  readonly weight: number;
  readonly auth: { readonly header?: Readonly<Record<string, string>> };
  readonly override: { readonly endpoint: string };
}

interface BackendDetails {
  readonly name: string;
  readonly identity?: { readonly resource: string; readonly client_id?: string };
}

/** Its process lacks the settings for its token file, and no other backend can serve instead. */
const CANNOT_SIGN_IN = 'workload-identity-incomplete';

/** Declares the tests of these scenarios. */
export function loadsAsRendered(scenarios: readonly string[]): void {
  const skipped = cannotRunGatewayTests('rendered files in the stock APISIX image');
  describe.skipIf(skipped)('in the stock APISIX image', () => inApisix(scenarios));
}

function inApisix(scenarios: readonly string[]): void {
  let validator: Validator;

  beforeAll(async () => {
    // A scenario that does not compile fails in its own tests.
    const compiled = await Promise.allSettled(scenarios.map(compileGolden));
    const plugins = compiled.flatMap((each) => (each.status === 'fulfilled' ? pluginsOf(each.value) : []));
    validator = await startValidator([...new Set(plugins)]);
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => validator?.stop());

  describe.each(scenarios)('the golden scenario %s', (name) => {
    let scenario: Scenario;
    let model: GatewayModel;
    let rendered: RenderedFile;
    let apisix: Apisix;
    let logAfterLoading: string;

    beforeAll(async () => {
      scenario = await compileGolden(name);
      model = scenario.model;
      rendered = parseAsApisix(scenario.documents['apisix.yaml']) as RenderedFile;
      const { accessLogPath } = model.telemetry;
      const redis = model.limits.redis?.host;
      const { trustedCaFile } = model.server;
      // Probes resolve these names from the start, and there is no name server.
      const probed = model.healthChecks ? model.backends.map(({ origin }) => new URL(origin).hostname) : [];
      apisix = await startApisix({
        ...scenario,
        // The identity of this machine, if it has one, must not affect the tests.
        environment: { ...scenario.environment, AZURE_POD_IDENTITY_AUTHORITY_HOST: 'http://127.0.0.1:1' },
        logsClients: true,
        writableFolders: accessLogPath === undefined ? [] : [dirname(accessLogPath)],
        // There is no Redis: limiters that use one must let requests pass.
        refusingHosts: [...probed, ...(redis === undefined || isIP(redis) !== 0 ? [] : [redis])],
        mountedFiles: {
          ...scenario.mountedFiles,
          ...(trustedCaFile === undefined ? {} : { [trustedCaFile]: SOME_CA }),
        },
      });
      logAfterLoading = await apisix.log();
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => apisix?.stop());

    const send = async (path: string, headers = {}, method = 'GET', patience = 5): Promise<Response> => {
      const answer = await apisix.request(PORTS.proxy, path, { method, headers });
      const { requestRate } = model.limits;
      if (answer.status !== 429 || !requestRate || patience === 0) return answer;
      // The limiter lets one request pass in each interval, and these tests are about something else.
      await sleep(1000 / requestRate.perSecond);
      return send(path, headers, method, patience - 1);
    };

    test('becomes ready and logs no error', async () => {
      const answer = await apisix.request(PORTS.status, '/status/ready');
      expect(answer.status).toBe(200);
      const truth = await apisix.request(PORTS.probes, '/readyz');
      const isUsable = name !== CANNOT_SIGN_IN && model.backends.some(({ weight }) => weight > 0);
      expect({ status: truth.status, reasons: ((await truth.json()) as Readiness).reasons }).toEqual(
        isUsable
          ? { status: 200, reasons: undefined }
          : { status: 503, reasons: [expect.stringContaining('no backend has both a weight and')] },
      );
      expect(errorsIn(logAfterLoading)).toEqual([]);
    });

    test('passes the validation of the Admin API', async () => {
      expect(await validator.validate(scenario.documents['apisix.yaml'])).toEqual([]);
    });

    test('has exactly the rendered routes, services and plugin metadata', async () => {
      const loaded = async (path: string) =>
        listOf<{ value: Item }>(await apisix.control(path)).map(({ value }) => value);
      const routes = await loaded('/v1/routes');
      expect(byId(routes)).toMatchObject(byId(rendered.routes));
      expect(ids(routes)).toEqual(ids(rendered.routes));
      const services = await loaded('/v1/services');
      expect(byId(services)).toMatchObject(byId(rendered.services));
      expect(ids(services)).toEqual(ids(rendered.services));
      const metadata = listOf<Item>(await apisix.control('/v1/plugin_metadatas'));
      expect(byId(metadata)).toMatchObject(byId(rendered.plugin_metadata ?? []));
      expect(ids(metadata)).toEqual(ids(rendered.plugin_metadata ?? []));
    });

    test('has the routes, plugins and backends of the model', async () => {
      const routes = listOf<{ value: Item }>(await apisix.control('/v1/routes'));
      expect(
        Object.fromEntries(routes.map(({ value }) => [value.id, value.uri ?? value.uris])),
      ).toMatchObject({
        'openai-v1': [...USUAL_PATHS, '/openai/v1/*'],
        'openai-deployments': '/openai/deployments/*',
        openai: '/openai/*',
        'not-found': '/*',
        ...Object.fromEntries(
          model.pools.map(({ name, path }) => [
            `pool-${name}`,
            [...USUAL_PATHS.map((each) => path + each), `${path}/*`],
          ]),
        ),
      });
      expect(routes.length).toBe(4 + model.pools.length + (model.preferred ? 1 : 0));
      const services = listOf<{ value: Item }>(await apisix.control('/v1/services'));
      expect(services.length).toBe(1 + model.pools.length);
      const service = services.find(({ value }) => value.id === 'azure-openai');
      const plugins = service?.value.plugins ?? {};
      expect(Object.keys(plugins).sort()).toEqual(expectedPlugins(model));
      const { instances } = plugins['ai-proxy-multi'] as { instances: Instance[] };
      expect(instances.map(asExpected)).toEqual(model.backends.map(expectedInstance));
      const { backends = [] } = plugins['azure-openai-proxy'] as { backends?: BackendDetails[] };
      const identities = backends.filter(({ identity }) => identity);
      expect(identities.map(({ name, identity }) => ({ name, ...identity }))).toEqual(
        model.backends.flatMap(({ name, credential }) =>
          credential.kind === 'entra'
            ? [{ name, resource: credential.resource, client_id: credential.clientId }]
            : [],
        ),
      );
      const metadata = listOf<Item>(await apisix.control('/v1/plugin_metadatas'));
      expect(ids(metadata)).toEqual([]);
    });

    /** The status of an answer. An answer of the gateway itself must have the shape of OpenAI's errors. */
    const statusOf = async (answer: Response): Promise<number> => {
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(await answer.json()).toEqual({
        error: {
          message: expect.stringMatching(/./),
          type: expect.stringMatching(/./),
          param: null,
          code: expect.stringMatching(/./),
        },
      });
      return answer.status;
    };

    /** The outcome of a request that the gateway would send to a backend. */
    const SERVED = 'no backend can be reached';

    /** Whether a request reached the backends, none of which is reachable from here, or else its status. */
    const outcomeOf = async (answer: Response): Promise<number | typeof SERVED> => {
      const status = await statusOf(answer);
      return [502, 503].includes(status) ? SERVED : status;
    };

    test('identifies each client by each of its keys, and no client by another key', async () => {
      let count = 0;
      const ask = async (key?: string) => {
        const request = String(count++);
        // The gateway itself lists models, if all backends name their deployments.
        const answer = await send('/openai/v1/files', {
          'x-test-request': request,
          ...(key === undefined ? {} : { 'api-key': key }),
        });
        return { outcome: await outcomeOf(answer), client: await apisix.clientOf(request) };
      };
      const shutOut = await isShutOut(model, apisix);
      const known = (client: string | null) => ({ outcome: shutOut ? 403 : SERVED, client });
      // APISIX checks the key before the address.
      const stranger = model.authentication.required ? { outcome: 401, client: null } : known(null);
      const answers = [];
      const expected = [];
      for (const { name: client, key, secondaryKey } of model.clients) {
        answers.push(await ask(key.reveal()), await ask(`${key.reveal()}x`));
        expected.push(known(client), stranger);
        if (!secondaryKey) continue;
        answers.push(await ask(secondaryKey.reveal()), await ask(`x${secondaryKey.reveal()}`));
        expected.push(known(client), stranger);
      }
      answers.push(await ask(), await ask('no-such-key-0123456789'));
      expected.push(stranger, stranger);
      expect(answers).toEqual(expected);
    });

    test('accepts requests on every kind of path, and no others', async () => {
      const key = model.clients[0]?.key.reveal();
      const headers: Record<string, string> = key === undefined ? {} : { 'api-key': key };
      const ask = async (path: string, method = 'GET') => outcomeOf(await send(path, headers, method));
      const mayEnter = key !== undefined || !model.authentication.required;
      const served = (await isShutOut(model, apisix)) ? 403 : mayEnter ? SERVED : 401;
      expect(await ask('/openai/v1/x')).toBe(served);
      expect(await ask(`/openai/deployments/${servedDeployment(model)}/x?api-version=1`, 'POST')).toBe(
        served,
      );
      expect(await ask('/openai/foo', 'DELETE')).toBe(served);
      expect(await ask('/')).toBe(404);
      expect(await ask('/openai')).toBe(404);
      expect(await ask('/no-such-pool/openai/v1/x')).toBe(404);
      for (const { path, clients } of model.pools)
        if (clients === undefined) expect(await ask(`${path}/openai/v1/x`), path).toBe(served);
      expect(await ask('/apisix/admin/routes')).toBe(404);
      expect(await ask(model.telemetry.metrics.path)).toBe(404);
    });

    test('serves metrics and its status, and listens only on the documented ports', async () => {
      const metrics = await apisix.request(PORTS.metrics, model.telemetry.metrics.path);
      expect(metrics.status).toBe(200);
      expect(await metrics.text()).toContain('apisix_http_requests_total');
      const sockets = (await apisix.listening()).map((socket) => socket.replace('[::]', '0.0.0.0'));
      expect([...new Set(sockets)].sort()).toEqual(
        [
          `0.0.0.0:${PORTS.status}`,
          `0.0.0.0:${PORTS.probes}`,
          `0.0.0.0:${PORTS.proxy}`,
          `127.0.0.1:${PORTS.control}`,
          `0.0.0.0:${PORTS.metrics}`,
        ].sort(),
      );
    });

    test('writes its access log as one JSON object a line', async () => {
      await send('/no/such/path');
      const lines = (await apisix.log()).split('\n').filter((line) => line.startsWith('{'));
      expect(lines.map((line) => JSON.parse(line))).toContainEqual(
        expect.objectContaining({ method: 'GET', path: '/no/such/path', status: '404' }),
      );
    });

    test('writes no secret to its log', async () => {
      const log = await apisix.log();
      expect(
        Object.entries(scenario.environment).flatMap(([variable, value]) =>
          log.includes(value) ? [variable] : [],
        ),
      ).toEqual([]);
    });
  });
}

/** The plugins that a scenario loads, from the list in config.yaml. */
export function pluginsOf({ documents }: Scenario): string[] {
  return (parseAsApisix(documents['config.yaml']) as { plugins: string[] }).plugins;
}

const errorsIn = (log: string): string[] =>
  log
    .split('\n')
    .filter(
      (line) => /\[(?:error|crit|alert|emerg)\]/.test(line) && !NOT_OURS.some((each) => each.test(line)),
    );

/** Lua does not distinguish an empty list from an empty table, so it arrives as an object. */
const listOf = <T>(answer: unknown): T[] => (Array.isArray(answer) ? answer : []);

const ids = (items: readonly Item[]): string[] => items.map(({ id }) => id).sort();

const byId = (items: readonly Item[]): Record<string, Item> =>
  Object.fromEntries(items.map((item) => [item.id, item]));

const SOME_CA = readFileSync(new URL('../support/tls/self-signed.crt', import.meta.url), 'utf8');

function expectedPlugins({
  limits,
  pools,
  clients,
  cors,
  ipRestriction,
  hardenResponses,
  telemetry,
}: GatewayModel): string[] {
  const limited = (limit: 'tokensPerDay' | 'tokensPerMinute' | 'requestsPerMinute') =>
    clients.some((each) => each[limit] !== undefined);
  const tokens = limits.lanes !== undefined || limited('tokensPerDay') || limited('tokensPerMinute');
  const counted = limits.requestQuota !== undefined || limited('requestsPerMinute');
  const rate = limits.requestRate !== undefined;
  const budgets = limits.shared !== undefined || pools.some(({ budget }) => budget !== undefined);
  const plugins: Record<string, boolean> = {
    'azure-openai-errors': true,
    'request-id': true,
    'azure-openai-metrics': true,
    'azure-openai-auth': true,
    'azure-openai-proxy': true,
    'ai-proxy-multi': true,
    'azure-openai-limits': tokens || counted || rate || budgets,
    'ai-rate-limiting': tokens,
    'limit-req': rate,
    'limit-count': counted,
    cors: cors !== undefined,
    'ip-restriction': ipRestriction !== undefined,
    'response-rewrite': hardenResponses,
    'azure-openai-traces': telemetry.traces !== undefined,
    'file-logger': telemetry.accessLogPath !== undefined,
    'apim-gateway-logger': telemetry.apimRecords !== undefined,
  };
  return Object.keys(plugins)
    .filter((plugin) => plugins[plugin])
    .sort();
}

const asExpected = ({ name, priority, weight, auth, override: { endpoint } }: Instance): object => ({
  name,
  priority,
  weight,
  endpoint,
  auth,
});

function expectedInstance({ name, priority, weight, origin, credential }: Backend): object {
  const common = { name, priority, weight, endpoint: origin };
  if (credential.kind === 'entra') return { ...common, auth: {} };
  return { ...common, auth: { header: { 'api-key': APISIX.secret(credential.key) } } };
}

/** A deployment that some backend serves. */
function servedDeployment({ backends, clients }: GatewayModel): string {
  const [first] = backends;
  const [allowed] = clients[0]?.models ?? [];
  if (allowed !== undefined) return allowed.replaceAll('*', '');
  return backends.every((each) => each.deployments) ? (first?.deployments?.[0]?.name ?? '') : 'any';
}

/** Whether the model's address rules reject requests from here. */
async function isShutOut({ ipRestriction }: GatewayModel, apisix: Apisix): Promise<boolean> {
  if (!ipRestriction) return false;
  const list = new BlockList();
  for (const range of ipRestriction.ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return list.check(await apisix.hostAddress()) !== (ipRestriction.kind === 'allow');
}
