/**
 * On an APISIX that differs from what the gateway relies on, the log and `/readyz` name the difference, and the gateway
 * never becomes ready.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Documents } from '../../compiler/emit/emit.ts';
import { APISIX_VERSION } from '../../compiler/image.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import {
  apisixSources,
  type Change,
  changedSource,
  contractTerms,
  missing,
  reasonOf,
  reportOf,
  type Term,
  withOneMore,
} from '../support/apisix-contract.ts';
import { backendKey, CLIENT_KEY, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('the contract with APISIX');

const terms = skipped ? [] : contractTerms();
const sources = apisixSources(skipped ? [] : [...terms.map(({ module }) => module), 'apisix.core.version']);

const QUERY_KEY = 'key-in-the-query-0123456789';
const REDIS = 'redis.test';
const REDIS_PASSWORD = 'password-of-redis-0123456789';
const KEYS = [CLIENT_KEY, backendKey(0), backendKey(1), QUERY_KEY, REDIS_PASSWORD];
const TESTED = APISIX_VERSION;
const UNTESTED = '3.19.0';
const NOT_TESTED = `APISIX ${UNTESTED} is not one of the versions that this gateway was tested with (${TESTED})`;
const REFUSED = `${NOT_TESTED}. Use a tested version, or set GATEWAY_ALLOW_UNTESTED_APISIX=true to start anyway`;
const ALLOWED = `${NOT_TESTED}. It starts because GATEWAY_ALLOW_UNTESTED_APISIX=true`;

/** Two workers and the privileged agent. */
const PROCESSES = 3;
const PATIENCE_MS = 10_000;
/** How long a gateway that was ready stays ready during a reload. */
const GRACE_MS = 10_000;

/** Settings that use every part of the contract. */
const EVERYTHING = {
  APISIX_ACTIVE_HEALTH_CHECKS: 'true',
  ENABLE_AI_RATE_LIMIT: 'true',
  AI_RATE_LIMIT_HIGH_LIMIT: '1000000',
  ENABLE_RATE_LIMIT: 'true',
  RATE_LIMIT_RATE: '10000',
  ENABLE_QUOTA: 'true',
  QUOTA_COUNT: '10000',
  QUOTA_TIME_WINDOW: '60',
  OTEL_COLLECTOR_ENDPOINT: `${REDIS}:4318`,
  OTEL_SAMPLE_RATE: '1',
  RESPONSES_AFFINITY_REDIS_HOST: REDIS,
  RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: '200',
};

type Changes = Readonly<Record<string, readonly Change[]>>;

const byModule = (list: readonly Term[], change: (term: Term) => Change): Changes =>
  Object.fromEntries(
    list.map(({ module }) => [module, list.filter((term) => term.module === module).map(change)]),
  );

const sourceOf = (module: string) => {
  const source = sources.get(module);
  if (!source) throw new Error(`the image has no module ${module}`);
  return source;
};

const changedFiles = (changes: Changes): Record<string, string> =>
  Object.fromEntries(
    Object.entries(changes).map(([module, list]) => {
      const { path, text } = sourceOf(module);
      return [path, changedSource(text, list)];
    }),
  );

const versionFile = (version: string): Record<string, string> => {
  const { path, text } = sourceOf('apisix.core.version');
  return { [path]: text.replace(TESTED, version) };
};

interface Readiness {
  readonly status: number;
  readonly reasons: readonly string[];
}

async function readiness(gateway: Gateway, port: number = PORTS.probes): Promise<Readiness> {
  const answer = await gateway.apisix.request(port, '/readyz', { headers: { connection: 'close' } });
  const { reasons = [] } = (await answer.json()) as { reasons?: string[] };
  return { status: answer.status, reasons };
}

async function readinessWhen(gateway: Gateway, wanted: (state: Readiness) => boolean): Promise<Readiness> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const state = await readiness(gateway);
    if (wanted(state) || Date.now() > deadline) return state;
    await sleep(50);
  }
}

/** The number of containers that run at once: more would only wait for the processors. */
const slots = { free: 3, waiting: [] as (() => void)[] };

async function inSlot<T>(work: () => Promise<T>): Promise<T> {
  if (slots.free > 0) slots.free--;
  else await new Promise<void>((resolve) => slots.waiting.push(resolve));
  try {
    return await work();
  } finally {
    const next = slots.waiting.shift();
    if (next) next();
    else slots.free++;
  }
}

interface StartOptions {
  readonly files?: Readonly<Record<string, string>>;
  readonly settings?: Readonly<Record<string, string>>;
  readonly adapt?: (documents: Documents) => Documents;
}

/** Starts a gateway, runs the work, and stops the gateway. Returns the log, which must never contain a key. */
async function withGateway(
  { files = {}, settings = {}, adapt = (documents) => documents }: StartOptions,
  work: (gateway: Gateway) => Promise<void>,
): Promise<string> {
  return inSlot(async () => {
    const gateway = await startGateway({
      settings: { ...EVERYTHING, ...settings },
      mountedFiles: files,
      adapt: (documents) => adapt(quickMetrics(documents)),
      namesOfThisHost: [REDIS],
    });
    try {
      await work(gateway);
      const log = await gateway.apisix.log();
      for (const key of KEYS) expect(log).not.toContain(key);
      return log;
    } finally {
      await gateway.stop();
    }
  });
}

/** Sends a request with keys in every place. Its result does not matter here. */
async function chat(gateway: Gateway): Promise<number> {
  const answer = await gateway.fetch(`/openai/v1/chat/completions?api-key=${QUERY_KEY}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] }),
  });
  await answer.text();
  return answer.status;
}

const countOf = (log: string, text: string): number => log.split(text).length - 1;

/** Expects these reasons, perhaps among others, in the log and on the probe port of a gateway with changed files. */
async function expectReasons(options: StartOptions, reasons: readonly string[]): Promise<void> {
  const log = await withGateway(options, async (gateway) => {
    const state = await readinessWhen(gateway, (now) =>
      reasons.every((reason) => now.reasons.includes(reason)),
    );
    expect(state.status).toBe(503);
    expect(state.reasons).toEqual(expect.arrayContaining([...reasons]));
    // The public port names nothing.
    expect(await readiness(gateway, PORTS.proxy)).toEqual({ status: 503, reasons: [] });
    await chat(gateway);
    expect((await readiness(gateway)).status).toBe(503);
  });
  for (const reason of reasons) {
    expect(countOf(log, reason), reason).toBeGreaterThan(0);
    expect(countOf(log, reason), reason).toBeLessThanOrEqual(PROCESSES);
  }
}

const of = (...kinds: readonly Term['kind'][]) => terms.filter(({ kind }) => kinds.includes(kind));

/** lua-resty-redis treats an unknown function as a command of Redis, so it is never missing. */
const reasonOfMissing = (term: Term): string =>
  reportOf(
    term.module === 'resty.redis'
      ? `the function ${term.name} of resty.redis takes 1 or more parameters, not 4 (${term.shape})`
      : reasonOf(term),
  );

/** Code that breaks each behaviour without changing the shape of the functions. */
const OTHER_BEHAVIOUR: Readonly<Record<string, string>> = {
  'a span goes to its processor when it ends, and can be encoded':
    'M.new = function(span_processors, opts) return { tracer = function() return { provider = { span_processors = {} } } end } end',
  'an object has its shared memory as dict':
    'local new = M.new; M.new = function(...) local limiter = new(...); limiter.memory, limiter.dict = limiter.dict, nil; return limiter end',
  'get_response_source returns what set_response_source has set':
    'M.response.set_response_source = function(ctx, source) ctx.source = source end',
  'is_secret_ref knows references from other texts':
    'local is_ref = M.is_secret_ref; M.is_secret_ref = function(value, schema) return is_ref(value, schema) or value == "$5" end',
  'resolve_var returns the number of variables found as its third result':
    'local resolve = M.utils.resolve_var; M.utils.resolve_var = function(tpl, ctx, escaper) local text, err, n = resolve(tpl, ctx, escaper); return text, n, err end',
};

describe.skipIf(skipped).concurrent('the contract with APISIX', { timeout: CONTAINER_TIMEOUT_MS * 3 }, () => {
  test('holds on the tested version', async () => {
    const log = await withGateway({}, async (gateway) => {
      expect(await readinessWhen(gateway, ({ status }) => status === 200)).toEqual({
        status: 200,
        reasons: [],
      });
      expect(await chat(gateway)).toBe(200);
      expect(await readiness(gateway)).toEqual({ status: 200, reasons: [] });
    });
    expect(log).not.toContain('APISIX differs');
    expect(log).not.toContain('is not one of the versions');
  });

  test('keeps a gateway on an untested version from becoming ready', async () => {
    const settings = {
      AI_RATE_LIMIT_POLICY: 'redis',
      AI_RATE_LIMIT_REDIS_HOST: REDIS,
      AI_RATE_LIMIT_REDIS_PASSWORD: REDIS_PASSWORD,
    };
    await expectReasons({ files: versionFile(UNTESTED), settings }, [REFUSED]);
  });

  test('logs a warning about an untested version when GATEWAY_ALLOW_UNTESTED_APISIX is true', async () => {
    const settings = { GATEWAY_ALLOW_UNTESTED_APISIX: 'true' };
    const log = await withGateway({ files: versionFile(UNTESTED), settings }, async (gateway) => {
      expect((await readinessWhen(gateway, ({ status }) => status === 200)).status).toBe(200);
      expect(await chat(gateway)).toBe(200);
    });
    expect(log).toMatch(new RegExp(`\\[warn\\].*${ALLOWED.replace(/[.()]/g, '\\$&')}`));
    expect(countOf(log, ALLOWED)).toBe(PROCESSES);
    expect(log).not.toContain(REFUSED);
  });

  test('is broken by a changed function in any version, whatever the setting says', async () => {
    const [term] = of('replaced');
    if (!term) throw new Error('the terms name no function that is replaced');
    await expectReasons(
      {
        files: { ...versionFile(UNTESTED), ...changedFiles(byModule([term], withOneMore)) },
        settings: { GATEWAY_ALLOW_UNTESTED_APISIX: 'true' },
      },
      [reportOf(reasonOf(term, { hasOneMore: true }))],
    );
  });

  test('is broken when APISIX has no version', async () => {
    const change = missing({ kind: 'functions', name: 'VERSION' });
    await expectReasons({ files: changedFiles({ 'apisix.core.version': [change] }) }, [
      reportOf('apisix.core.version has no string VERSION'),
    ]);
  });

  test('reports all missing functions and fields at once', async () => {
    const list = of('functions', 'replaced', 'fields');
    await expectReasons({ files: changedFiles(byModule(list, missing)) }, list.map(reasonOfMissing));
  });

  test('reports all functions with another number of parameters at once', async () => {
    const list = of('functions', 'replaced');
    await expectReasons(
      { files: changedFiles(byModule(list, withOneMore)) },
      list.map((term) => reportOf(reasonOf(term, { hasOneMore: true }))),
    );
  });

  test('reports all missing pieces of source at once', async () => {
    const list = of('mentions');
    await expectReasons(
      { files: changedFiles(byModule(list, ({ name }) => ({ mention: name }))) },
      list.map((term) => reportOf(reasonOf(term))),
    );
  });

  test('reports all changed behaviours at once', async () => {
    const list = of('behaviour');
    expect(list.map(({ name }) => name).sort()).toEqual(Object.keys(OTHER_BEHAVIOUR).sort());
    await expectReasons(
      { files: changedFiles(byModule(list, ({ name }) => ({ code: OTHER_BEHAVIOUR[name] ?? '' }))) },
      list.map((term) => reportOf(reasonOf(term))),
    );
  });

  // nginx does not start without the other functions.
  test('reports missing functions of nginx', async () => {
    const list = of('symbols').filter(({ module }) => module === 'resty.apisix.upstream');
    expect(list).not.toHaveLength(0);
    const { path, text } = sourceOf('resty.apisix.upstream');
    const renamed = list.reduce((before, { name }) => before.replaceAll(name, `${name}_renamed`), text);
    await expectReasons(
      { files: { [path]: renamed } },
      list.map(({ name }) => reportOf(`nginx has no function ${name}`)),
    );
  });

  test('reports a module that cannot be loaded', async () => {
    const { path } = sourceOf('opentelemetry.resource');
    const log = await withGateway({ files: { [path]: 'error("it is gone")\n' } }, async (gateway) => {
      const state = await readinessWhen(gateway, ({ reasons }) => reasons.length > 0);
      expect(state.status).toBe(503);
      expect(state.reasons.join('\n')).toMatch(
        /the module opentelemetry\.resource cannot be loaded: .*it is gone\. Use APISIX 3\.18\.0/,
      );
    });
    expect(log).toContain('the module opentelemetry.resource cannot be loaded');
  });

  // One function at a time, as another version would have it, with all other functions unchanged.
  describe.each(of('replaced').map((term) => ({ ...term })))('for $module $name', (term) => {
    test('is broken when the function is missing', async () => {
      await expectReasons({ files: changedFiles(byModule([term], missing)) }, [reasonOfMissing(term)]);
    });

    test('is broken when the function has another number of parameters', async () => {
      await expectReasons({ files: changedFiles(byModule([term], withOneMore)) }, [
        reportOf(reasonOf(term, { hasOneMore: true })),
      ]);
    });
  });

  test('is applied once, also when APISIX reloads its plugins', async () => {
    // The addresses of the functions show whether they were replaced again.
    const names = of('replaced').map(({ module, name }) => `{'${module}', '${name}'}`);
    const location =
      'location = /functions { content_by_lua_block {' +
      ` for _, each in ipairs({${names.join(', ')}}) do ngx.say(tostring(require(each[1])[each[2]])) end } }`;
    const settings = { GATEWAY_WORKERS: '1', QUOTA_COUNT: '4' };
    const adapt = (documents: Documents): Documents => ({
      ...documents,
      'config.yaml': documents['config.yaml'].replace('location = /healthz {', `${location}\\n$&`),
    });
    const log = await withGateway({ settings, adapt }, async (gateway) => {
      const functions = async () => (await gateway.apisix.request(PORTS.proxy, '/functions')).text();
      const loaded = async () => countOf(await gateway.apisix.log(), 'load(): new plugins');
      const [before, loadedBefore] = [await functions(), await loaded()];
      expect(before.trim().split('\n')).toHaveLength(names.length);

      const request = `PUT /v1/plugins/reload HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n`;
      const answer = await gateway.apisix.asRoot(
        `exec 3<>/dev/tcp/127.0.0.1/${PORTS.control} && printf '${request}' >&3 && cat <&3`,
      );
      expect(answer).toMatch(/^HTTP\/1\.1 200 /);
      await eventually(async () => (await loaded()) >= loadedBefore * 2);
      expect(await functions()).toBe(before);

      const statuses = [];
      for (let i = 0; i < 6; i++) statuses.push(await chat(gateway));
      expect(statuses).toEqual([200, 200, 200, 200, 429, 429]);
      const lines = (await gateway.metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
      expect(lines.some((line) => line.startsWith('apisix_genai_'))).toBe(true);
      expect(new Set(lines).size).toBe(lines.length);
      expect(await readiness(gateway)).toEqual({ status: 200, reasons: [] });
    });
    expect(log).not.toContain('APISIX differs');
  });

  test('is broken when only the privileged agent finds a difference', async () => {
    const code =
      'local get = M.get_prometheus; M.get_prometheus = function()' +
      ' if require("ngx.process").type() == "privileged agent" then return {} end return get() end';
    await expectReasons({ files: changedFiles({ 'apisix.plugins.prometheus.exporter': [{ code }] }) }, [
      reportOf("the exporter's object has no function metric_data"),
    ]);
  });

  test('is broken by the first request whose query cannot be removed from the request line', async () => {
    const reason = reportOf(
      "the query of a request cannot be overwritten in nginx's request line, and would be in the error log",
    );
    const code =
      'if ngx and ngx.req then' +
      ' ngx.req.raw_header = function() return "GET /?api-key=visible HTTP/1.1\\r\\n\\r\\n" end end';
    const log = await withGateway(
      { files: changedFiles({ 'apisix.core.version': [{ code }] }) },
      async (gateway) => {
        const ready = await readinessWhen(gateway, ({ status }) => status === 200);
        expect(ready).toEqual({ status: 200, reasons: [] });
        const without = await gateway.chat('gpt-4o');
        await without.text();
        expect(without.status).toBe(200);

        expect(await chat(gateway)).toBe(503);
        const began = Date.now();
        const state = await readinessWhen(gateway, ({ status }) => status === 503);
        // The grace period of a reload does not apply to a broken contract.
        expect(Date.now() - began).toBeLessThan(GRACE_MS / 2);
        expect(state).toEqual({ status: 503, reasons: [reason] });
        for (let i = 0; i < 8; i++) expect(await chat(gateway)).toBe(503);
        expect((await readiness(gateway)).reasons).toEqual([reason]);
      },
    );
    expect(countOf(log, reason)).toBeGreaterThan(0);
    expect(countOf(log, reason)).toBeLessThanOrEqual(PROCESSES);
  });
});
