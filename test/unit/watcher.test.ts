/** What the watcher applies and reports when files change in different ways. The test controls the clock. */
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FILE_MODES, writeDocuments } from '../../compiler/output/write.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import { type WatchEvent, Watcher, type WatchInput } from '../../compiler/watch/watcher.ts';
import { compileVariables } from '../support/scenarios.ts';
import { envText, MountedVolume } from '../support/watching.ts';
import { FILES, GOOD, workspace } from '../support/workspace.ts';

const inFolder = workspace();

interface Driven {
  readonly watcher: Watcher;
  /** The events while this time passes. */
  pass(ms: number): Promise<WatchEvent[]>;
  /** The events until all pending changes are handled. */
  settle(): Promise<WatchEvent[]>;
}

const LONG = 10_000;

function drive(watcher: Watcher, from = 0): Driven {
  let now = from;
  const pass = async (ms: number) => {
    const events: WatchEvent[] = [];
    for (const end = now + ms; now < end; ) {
      const { event, nextMs } = await watcher.poll(now);
      if (event) events.push(event);
      now += Math.min(nextMs, end - now);
    }
    return events;
  };
  return { watcher, pass, settle: () => pass(LONG) };
}

const out = () => inFolder('out');
const rendered = () => FILES.map((file) => readFileSync(join(out(), file), 'utf8'));
const apisix = () => readFileSync(join(out(), 'apisix.yaml'), 'utf8');
const stamps = () => FILES.map((file) => statSync(join(out(), file)).mtimeMs);

/** Starts the watcher as the command does before it starts APISIX. */
async function begun(input: Partial<WatchInput>): Promise<Driven> {
  const watcher = new Watcher({ environment: {}, envFiles: [], out: out(), ...input });
  const { documents, model } = await watcher.begin();
  if (!documents || !model) throw new Error('the settings are not good');
  writeDocuments(out(), documents, FILE_MODES[model.server.secrets]);
  return drive(watcher);
}

/** Starts the watcher next to an APISIX that was started with these variables, all of them from the env file. */
async function beside(started: Record<string, string>, now: Record<string, string>): Promise<Driven> {
  if (!statSync(out(), { throwIfNoEntry: false }))
    writeDocuments(out(), (await compileVariables(started)).documents, FILE_MODES.reference);
  const watcher = new Watcher({ environment: {}, envFiles: [env(now)], out: out() });
  expect(watcher.join(started, 0)).toBeUndefined();
  return drive(watcher);
}

const env = (variables: Record<string, string>) => inFolder('gateway.env', envText(variables));
const TWO = {
  ...GOOD,
  AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
  AZURE_OPENAI_KEY_1: 'key-of-backend-one',
};
const codes = (event: WatchEvent | undefined) => event?.diagnostics.map(({ code }) => code);
const applied = (...changed: string[]) =>
  expect.objectContaining({ is: 'applied', written: ['apisix.yaml'], changed });

describe('a change is applied', () => {
  const start = () => begun({ envFiles: [env(TWO)] });
  const DRAINED = { ...TWO, AZURE_OPENAI_WEIGHT_1: '0' };

  test('when the file is written in place', async () => {
    const { settle } = await start();
    expect(await settle()).toEqual([]);
    env(DRAINED);
    expect(await settle()).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
    expect(apisix()).toContain('weight: 0');
    expect(await settle()).toEqual([]);
  });

  test('when the file is replaced', async () => {
    const { settle } = await start();
    renameSync(inFolder('next.env', envText(DRAINED)), inFolder('gateway.env'));
    expect(await settle()).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
  });

  test('when the file keeps its length and is written within the same moment', async () => {
    const { settle } = await begun({ envFiles: [env({ ...TWO, AZURE_OPENAI_WEIGHT_1: '2' })] });
    env({ ...TWO, AZURE_OPENAI_WEIGHT_1: '3' });
    expect(await settle()).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
    expect(apisix()).toContain('weight: 3');
  });

  test('when Kubernetes swaps a ConfigMap or Secret', async () => {
    const volume = new MountedVolume(inFolder('config'), { 'a.env': envText(TWO), 'b.env': '' });
    const { settle } = await begun({ envFiles: [volume.path('a.env'), volume.path('b.env')] });
    volume.swap({ 'a.env': envText(TWO), 'b.env': envText({ AZURE_OPENAI_WEIGHT_1: '0' }) });
    expect(await settle()).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
    volume.swap({ 'a.env': envText(TWO), 'b.env': '' });
    expect(await settle()).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
    expect(apisix()).toContain('weight: 1');
  });

  test('only after the whole file is written', async () => {
    const { pass, settle } = await start();
    truncateSync(inFolder('gateway.env'));
    const text = envText({ ...TWO, LB_ALG: 'latency', AZURE_OPENAI_WEIGHT_1: '0' });
    for (let at = 0; at < text.length; at += 60) {
      appendFileSync(inFolder('gateway.env'), text.slice(at, at + 60));
      expect(await pass(300)).toEqual([]);
    }
    expect(await settle()).toEqual([applied('LB_ALG', 'AZURE_OPENAI_WEIGHT_1')]);
  });

  test('and a file that is missing for a moment is waited for', async () => {
    const { pass, settle } = await start();
    unlinkSync(inFolder('gateway.env'));
    expect(await pass(2_500)).toEqual([]);
    env(TWO);
    expect(await settle()).toEqual([]);
    unlinkSync(inFolder('gateway.env'));
    expect(await pass(2_500)).toEqual([]);
    env(DRAINED);
    expect(await settle()).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
  });

  test('and a file that is empty for a moment is waited for', async () => {
    const { pass, settle } = await start();
    truncateSync(inFolder('gateway.env'));
    expect(await pass(2_500)).toEqual([]);
    env(TWO);
    expect(await settle()).toEqual([]);
  });

  test('once for twenty quick changes', async () => {
    const { pass, settle } = await start();
    const events: WatchEvent[] = [];
    for (let weight = 2; weight <= 21; weight++) {
      env({ ...TWO, AZURE_OPENAI_WEIGHT_1: String(weight) });
      events.push(...(await pass(100)));
    }
    events.push(...(await settle()));
    expect(events).toEqual([applied('AZURE_OPENAI_WEIGHT_1')]);
    expect(apisix()).toContain('weight: 21');
  });

  test('not at all when the settings stay the same', async () => {
    const { settle } = await start();
    const before = stamps();
    inFolder('gateway.env', `# the same\n\n${envText(TWO)}`);
    expect(await settle()).toEqual([]);
    expect(stamps()).toEqual(before);
  });

  test("with a later whole second in the file's time, so that APISIX sees two changes within a second", async () => {
    const { settle } = await start();
    const seconds = () => Math.floor(statSync(join(out(), 'apisix.yaml')).mtimeMs / 1000);
    const seen = [seconds()];
    for (const weight of ['2', '3', '4']) {
      env({ ...TWO, AZURE_OPENAI_WEIGHT_1: weight });
      await settle();
      seen.push(seconds());
    }
    expect(new Set(seen).size).toBe(4);
  });
});

describe('a wrong change', () => {
  test('is reported once with all errors, and leaves the files unchanged', async () => {
    const { settle } = await begun({ envFiles: [env(TWO)] });
    const [before, times] = [rendered(), stamps()];
    env({ ...TWO, AZURE_OPENAI_WEIGHT_1: 'x', LB_ALG: 'y', AZURE_OPENAI_KEY_0: '' });
    const [event, ...more] = await settle();
    expect(more).toEqual([]);
    expect(event?.is).toBe('refused');
    expect(codes(event)).toEqual(expect.arrayContaining(['BLANK_SECRET', 'INVALID_VALUE', 'INVALID_VALUE']));
    expect(rendered()).toEqual(before);
    expect(stamps()).toEqual(times);
  });

  test('is reported again when the errors change, but not when the file is only touched', async () => {
    const { pass, settle } = await begun({ envFiles: [env(TWO)] });
    const bad = { ...TWO, LB_ALG: 'y' };
    env(bad);
    expect(await settle()).toHaveLength(1);
    env(bad);
    expect(await settle()).toEqual([]);
    unlinkSync(inFolder('gateway.env'));
    expect(await pass(1_500)).toEqual([]);
    env(bad);
    expect(await settle()).toEqual([]);
    env({ ...bad, AZURE_OPENAI_WEIGHT_1: 'x' });
    expect((await settle()).map(({ is }) => is)).toEqual(['refused']);
  });

  test('ends when the settings are good again, whether or not they are the old ones', async () => {
    const { settle } = await begun({ envFiles: [env(TWO)] });
    const before = stamps();
    env({ ...TWO, LB_ALG: 'y' });
    await settle();
    env(TWO);
    expect(await settle()).toEqual([
      { is: 'applied', written: [], changed: [], diagnostics: [], isGoodAgain: true },
    ]);
    expect(stamps()).toEqual(before);
    env({ ...TWO, LB_ALG: 'y' });
    expect((await settle()).map(({ is }) => is)).toEqual(['refused']);
    env({ ...TWO, LB_ALG: 'latency' });
    expect(await settle()).toEqual([
      expect.objectContaining({ written: ['apisix.yaml'], isGoodAgain: true }),
    ]);
  });

  test('includes a file that stays away', async () => {
    const { settle } = await begun({ envFiles: [env(TWO)] });
    const before = rendered();
    unlinkSync(inFolder('gateway.env'));
    const [event, ...more] = await settle();
    expect(more).toEqual([]);
    expect(codes(event)).toContain('ENV_FILE_UNREADABLE');
    expect(rendered()).toEqual(before);
    env(TWO);
    expect(await settle()).toEqual([expect.objectContaining({ isGoodAgain: true })]);
  });

  test('and a change with a new warning is reported once', async () => {
    const { settle } = await begun({ envFiles: [env(TWO)] });
    env({ ...TWO, CORS_MAX_AGE: '5' });
    const [event] = await settle();
    expect(codes(event)).toEqual(['SETTING_WITHOUT_EFFECT']);
    env({ ...TWO, CORS_MAX_AGE: '5', AZURE_OPENAI_WEIGHT_1: '3' });
    expect(codes((await settle())[0])).toEqual([]);
    env(TWO);
    await settle();
    env({ ...TWO, CORS_MAX_AGE: '5' });
    expect(codes((await settle())[0])).toEqual(['SETTING_WITHOUT_EFFECT']);
  });
});

describe('a secret file', () => {
  const { AZURE_OPENAI_KEY_0: _, ...withoutKey } = GOOD;
  const inline = () => ({
    ...withoutKey,
    GATEWAY_SECRETS: 'inline',
    AZURE_OPENAI_KEY_0_FILE: inFolder('secrets/key'),
  });

  test('is followed, including in a volume that Kubernetes swaps', async () => {
    const volume = new MountedVolume(inFolder('secrets'), { key: 'first-key-of-backend\n' });
    const { settle } = await begun({ envFiles: [env(inline())] });
    expect(apisix()).toContain('first-key-of-backend');
    volume.swap({ key: 'second-key-of-backend\n' });
    const events = await settle();
    expect(events).toEqual([applied('AZURE_OPENAI_KEY_0_FILE')]);
    expect(JSON.stringify(events)).not.toContain('key-of-backend');
    expect(apisix()).toContain('second-key-of-backend');
    expect(statSync(join(out(), 'apisix.yaml')).mode & 0o777).toBe(0o640);
  });

  test('that stays blank or missing is reported after a while', async () => {
    const volume = new MountedVolume(inFolder('secrets'), { key: 'first-key-of-backend\n' });
    const { pass, settle } = await begun({ envFiles: [env(inline())] });
    volume.swap({ key: '\n' });
    expect(await pass(2_500)).toEqual([]);
    expect(codes((await settle())[0])).toContain('BLANK_SECRET');
    volume.swap({});
    expect(codes((await settle())[0])).toContain('SECRET_FILE_UNREADABLE');
    volume.swap({ key: 'third-key-of-backend' });
    expect(await settle()).toEqual([
      expect.objectContaining({ written: ['apisix.yaml'], isGoodAgain: true }),
    ]);
  });

  test('is no longer followed when the setting names another file', async () => {
    mkdirSync(inFolder('secrets'));
    inFolder('secrets/key', 'first-key-of-backend');
    const other = inFolder('secrets/other', 'other-key-of-backend');
    const { settle } = await begun({ envFiles: [env(inline())] });
    env({ ...inline(), AZURE_OPENAI_KEY_0_FILE: other });
    expect(await settle()).toEqual([applied('AZURE_OPENAI_KEY_0_FILE')]);
    inFolder('secrets/key', 'nobody looks at this any more');
    expect(await settle()).toEqual([]);
    inFolder('secrets/other', 'last-key-of-backend');
    expect(await settle()).toEqual([applied('AZURE_OPENAI_KEY_0_FILE')]);
    expect(apisix()).toContain('last-key-of-backend');
  });
});

describe('a change that takes effect at the next start', () => {
  test('is deferred if it concerns config.yaml or the variables of the process; everything else is applied', async () => {
    const { settle } = await begun({ envFiles: [env(TWO)] });
    const [config] = rendered();
    env({
      ...TWO,
      APISIX_LOG_LEVEL: 'debug',
      ENABLE_QUOTA: 'true',
      QUOTA_COUNT: '5',
      QUOTA_TIME_WINDOW: '60',
      AZURE_OPENAI_KEY_1: 'another-key-of-backend-one',
      AZURE_OPENAI_WEIGHT_0: '4',
    });
    const [event, ...more] = await settle();
    expect(more).toEqual([]);
    expect(event?.diagnostics.map(({ code, setting }) => [code, setting])).toEqual(
      expect.arrayContaining([
        ['CHANGE_NEEDS_START', 'APISIX_LOG_LEVEL'],
        ['CHANGE_NEEDS_START', 'ENABLE_QUOTA'],
        ['CHANGE_NEEDS_PROCESS', 'AZURE_OPENAI_KEY_1'],
      ]),
    );
    expect(JSON.stringify(event)).not.toContain('another-key');
    expect(rendered()[0]).toBe(config);
    expect(apisix()).toContain('weight: 4');
    expect(apisix()).not.toContain('limit-count');
    // It is reported once, and other changes are still applied.
    env({ ...TWO, APISIX_LOG_LEVEL: 'debug', AZURE_OPENAI_WEIGHT_0: '5' });
    expect(await settle()).toEqual([expect.objectContaining({ written: ['apisix.yaml'], diagnostics: [] })]);
    env({ ...TWO, APISIX_LOG_LEVEL: 'info', AZURE_OPENAI_WEIGHT_0: '5' });
    expect(codes((await settle())[0])).toEqual(['CHANGE_NEEDS_START']);
    env({ ...TWO, AZURE_OPENAI_WEIGHT_0: '5' });
    expect((await settle()).flatMap(({ diagnostics }) => diagnostics)).toEqual([]);
  });

  test('does not include a secret that moves from a variable to a file, or a new backend with a key file', async () => {
    const { settle } = await begun({ envFiles: [env({ ...TWO, GATEWAY_SECRETS: 'inline' })] });
    const file = inFolder('key', 'key-from-a-file-0123');
    const { AZURE_OPENAI_KEY_1: _, ...others } = TWO;
    env({
      ...others,
      GATEWAY_SECRETS: 'inline',
      AZURE_OPENAI_KEY_1_FILE: file,
      AZURE_OPENAI_ENDPOINT_5: 'https://five.openai.azure.com',
      AZURE_OPENAI_KEY_5_FILE: file,
    });
    const [event] = await settle();
    expect(codes(event)?.filter((code) => code.startsWith('CHANGE_NEEDS_'))).toEqual([]);
    expect(apisix()).toContain('https://five.openai.azure.com');
  });

  test('keeps the values that were applied last, not those of the start', async () => {
    const { settle } = await begun({ envFiles: [env(GOOD)] });
    const backend = { AZURE_OPENAI_ENDPOINT_1: TWO.AZURE_OPENAI_ENDPOINT_1 };
    const file = inFolder('key', 'key-from-a-file-0123');
    const drained = { ...GOOD, ...backend, AZURE_OPENAI_KEY_1_FILE: file, AZURE_OPENAI_WEIGHT_0: '0' };
    env(drained);
    expect(await settle()).toEqual([
      applied('AZURE_OPENAI_ENDPOINT_1', 'AZURE_OPENAI_KEY_1_FILE', 'AZURE_OPENAI_WEIGHT_0'),
    ]);
    const served = apisix();
    env({ ...TWO, AZURE_OPENAI_WEIGHT_0: '0' });
    const [event] = await settle();
    const held = event?.diagnostics.filter(({ code }) => code.startsWith('CHANGE_NEEDS_'));
    expect(held?.map(({ code, setting }) => [code, setting])).toEqual([
      ['CHANGE_NEEDS_PROCESS', 'AZURE_OPENAI_KEY_1'],
      ['CHANGE_NEEDS_OTHERS', 'AZURE_OPENAI_KEY_1_FILE'],
    ]);
    expect(apisix()).toBe(served);
    env({ ...drained, AZURE_OPENAI_WEIGHT_1: '3' });
    expect(await settle()).toEqual([expect.objectContaining({ written: ['apisix.yaml'], diagnostics: [] })]);
  });

  test('includes identity variables that the gateway itself reads', async () => {
    const { AZURE_OPENAI_KEY_1: _, ...others } = TWO;
    const entra = {
      ...others,
      AZURE_OPENAI_AUTH_MODE_1: 'entra',
      IDENTITY_ENDPOINT: 'http://127.0.0.1:42356/msi/token',
      IDENTITY_HEADER: 'header-of-the-platform-0123',
    };
    const { settle } = await begun({ envFiles: [env(entra)] });
    env({ ...entra, IDENTITY_HEADER: 'another-header-0123', AZURE_OPENAI_WEIGHT_0: '4' });
    expect(codes((await settle())[0])).toContain('CHANGE_NEEDS_PROCESS');
    const { IDENTITY_HEADER: __, ...without } = entra;
    env(without);
    const [event] = await settle();
    expect(event?.diagnostics).toEqual([
      expect.objectContaining({ code: 'CHANGE_NEEDS_PROCESS', setting: 'IDENTITY_HEADER' }),
    ]);
  });
});

/** The table of docs/hot-reload.md. */
describe('a change of', () => {
  const CLIENT_1 = { GATEWAY_CLIENT_NAME_1: 'second', GATEWAY_CLIENT_KEY_1: 'key-of-client-one' };
  const QUOTA = { ENABLE_QUOTA: 'true', QUOTA_COUNT: '5', QUOTA_TIME_WINDOW: '60' };
  const CORS = { ENABLE_CORS: 'true', CORS_ALLOW_ORIGINS: 'https://a.example' };
  type Row = [what: string, before: Record<string, string>, change: Record<string, string | undefined>];

  test.each<Row>([
    ['a weight', {}, { AZURE_OPENAI_WEIGHT_0: '3' }],
    ['a priority', {}, { AZURE_OPENAI_PRIORITY_0: '3' }],
    ['a name', {}, { AZURE_OPENAI_NAME_0: 'other' }],
    ['an endpoint', {}, { AZURE_OPENAI_ENDPOINT_1: 'https://other.openai.azure.com' }],
    ['deployments', {}, { AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o' }],
    ['a backend that goes', {}, { AZURE_OPENAI_ENDPOINT_1: undefined, AZURE_OPENAI_KEY_1: undefined }],
    ['a client that goes', CLIENT_1, { GATEWAY_CLIENT_NAME_1: undefined, GATEWAY_CLIENT_KEY_1: undefined }],
    [
      'a client’s name, lane and models',
      {},
      {
        GATEWAY_CLIENT_NAME_0: 'other',
        GATEWAY_CLIENT_PRIORITY_0: 'low',
        GATEWAY_CLIENT_MODELS_0: 'gpt-*',
      },
    ],
    ['balancing', {}, { LB_ALG: 'latency' }],
    ['failover', {}, { AI_PROXY_MAX_ATTEMPTS: '1', AI_PROXY_COOLDOWN: '30s', AI_PROXY_READ_TIMEOUT: '9s' }],
    ['health checks', {}, { APISIX_ACTIVE_HEALTH_CHECKS: 'true' }],
    ['the amount of a limit', QUOTA, { QUOTA_COUNT: '6' }],
    ['CORS', CORS, { CORS_ALLOW_ORIGINS: 'https://b.example' }],
    ['authentication', {}, { GATEWAY_REQUIRE_AUTH: 'false' }],
    ['how secrets are written', {}, { GATEWAY_SECRETS: 'inline' }],
  ])('%s takes effect at once', async (_, before, change) => {
    const { settle } = await begun({ envFiles: [env({ ...TWO, ...before })] });
    env(given({ ...TWO, ...before, ...change }));
    const events = await settle();
    expect(events).toEqual([expect.objectContaining({ is: 'applied' })]);
    expect(events[0]).toMatchObject({ written: expect.arrayContaining(['apisix.yaml']) });
    expect(codes(events[0])?.filter((code) => code.startsWith('CHANGE_NEEDS_'))).toEqual([]);
  });

  test.each<Row>([
    ['the log level', {}, { APISIX_LOG_LEVEL: 'info' }],
    ['workers', {}, { GATEWAY_WORKERS: '3' }],
    ['the size of bodies', {}, { GATEWAY_MAX_BODY_SIZE: '1m' }],
    ['proxies', {}, { GATEWAY_TRUSTED_PROXIES: '10.0.0.0/8' }],
    ['CAs', {}, { GATEWAY_TRUSTED_CA_FILE: '/etc/ssl/own.pem' }],
    ['the log mode', {}, { GATEWAY_LOG_MODE: 'test' }],
    ['the path of metrics', {}, { APISIX_METRICS_PATH: '/metrics' }],
    ['the first limit', {}, QUOTA],
    ['the last limit that goes', QUOTA, { ENABLE_QUOTA: undefined }],
    ['a client’s first limit', {}, { GATEWAY_CLIENT_REQUESTS_PER_MINUTE_0: '5' }],
    ['CORS', {}, CORS],
    ['IP lists', {}, { ENABLE_IP_RESTRICTION: 'true', IP_WHITELIST: '10.0.0.0/8' }],
    ['traces', {}, { OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318' }],
    ['hardened responses', {}, { ENABLE_RESPONSE_REWRITE: 'true' }],
    ['a log file', {}, { APISIX_LOGS_PATH: '/var/log/a.json' }],
    ['a new client with its key in a variable', {}, CLIENT_1],
    ['a key in a variable', {}, { GATEWAY_CLIENT_KEY_0: 'another-key-of-client-zero' }],
  ])('%s takes effect at the next start', async (_, before, change) => {
    const { settle } = await begun({ envFiles: [env({ ...TWO, ...before })] });
    const files = [rendered(), stamps()];
    env(given({ ...TWO, ...before, ...change }));
    const [event, ...more] = await settle();
    expect(more).toEqual([]);
    const held = event?.diagnostics.flatMap(({ code, setting }) =>
      code.startsWith('CHANGE_NEEDS_') ? [setting] : [],
    );
    expect(held).not.toEqual([]);
    expect(Object.keys(change)).toEqual(expect.arrayContaining(held ?? []));
    expect([rendered()[0], rendered()[1]]).toEqual([files[0]?.[0], files[0]?.[1]]);
  });

  test('docs/hot-reload.md lists every setting that is written to config.yaml', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/hot-reload.md'), 'utf8');
    const names = listSettings().flatMap(({ name, declaration }) =>
      declaration.output.some((each) => each.startsWith('config.yaml: ')) ? [name] : [],
    );
    expect(names.length).toBeGreaterThan(8);
    for (const name of names) expect(page).toContain(`\`${name}\``);
  });

  const given = (variables: Record<string, string | undefined>) =>
    Object.fromEntries(
      Object.entries(variables).filter((each): each is [string, string] => each[1] !== undefined),
    );
});

describe('next to a running APISIX', () => {
  test('nothing is written or reported when nothing changed since the start', async () => {
    const { settle } = await beside(TWO, TWO);
    const before = stamps();
    expect(await settle()).toEqual([]);
    expect(stamps()).toEqual(before);
  });

  test('changes made while no watcher ran are applied and reported', async () => {
    const { settle } = await beside(TWO, { ...TWO, AZURE_OPENAI_WEIGHT_1: '0', GATEWAY_WORKERS: '7' });
    const [config] = rendered();
    const [event, ...more] = await settle();
    expect(more).toEqual([]);
    expect(event).toEqual(applied('AZURE_OPENAI_WEIGHT_1'));
    expect(codes(event)).toEqual(expect.arrayContaining(['CHANGE_NEEDS_START']));
    expect(rendered()[0]).toBe(config);
    // A new watcher, as after kill -9.
    const again = await beside(TWO, { ...TWO, AZURE_OPENAI_WEIGHT_1: '0', GATEWAY_WORKERS: '7' });
    expect((await again.settle())[0]).toMatchObject({ is: 'applied', written: [] });
  });

  test('a change can be taken back to the values of the start', async () => {
    const first = await beside(TWO, { ...TWO, AZURE_OPENAI_WEIGHT_1: '0' });
    await first.settle();
    const second = await beside(TWO, TWO);
    expect(await second.settle()).toEqual([expect.objectContaining({ written: ['apisix.yaml'] })]);
    expect(apisix()).toContain('weight: 1');
  });

  test('variables of the environment win over the env file, as they did at the start', async () => {
    writeDocuments(out(), (await compileVariables(TWO)).documents, FILE_MODES.reference);
    const watcher = new Watcher({
      environment: { AZURE_OPENAI_ENDPOINT_1: TWO.AZURE_OPENAI_ENDPOINT_1 },
      envFiles: [env({ ...TWO, AZURE_OPENAI_ENDPOINT_1: 'https://other.openai.azure.com' })],
      out: out(),
    });
    watcher.join(TWO, 0);
    expect(await drive(watcher).settle()).toEqual([]);
  });

  test('settings that became wrong are reported, and nothing is written', async () => {
    const { settle } = await beside(TWO, { ...TWO, LB_ALG: 'x' });
    const before = rendered();
    expect((await settle()).map(({ is }) => is)).toEqual(['refused']);
    expect(rendered()).toEqual(before);
  });

  test('a change of GATEWAY_WATCH takes effect at the next start', async () => {
    const { settle } = await beside({ ...TWO, GATEWAY_WATCH: 'true' }, TWO);
    const [event] = await settle();
    expect(event?.diagnostics.map(({ code, setting }) => [code, setting])).toContainEqual([
      'CHANGE_NEEDS_START',
      'GATEWAY_WATCH',
    ]);
  });

  test('every change is deferred when config.yaml does not match the settings of the start', async () => {
    mkdirSync(out());
    for (const file of FILES) writeFileSync(join(out(), file), '# by hand\n#END\n');
    const { settle } = await beside(TWO, { ...TWO, AZURE_OPENAI_WEIGHT_1: '0' });
    const [event] = await settle();
    expect(event).toMatchObject({ is: 'applied', written: [] });
    expect(apisix()).toBe('# by hand\n#END\n');
    const unchanged = await beside(TWO, TWO);
    expect(codes((await unchanged.settle())[0])).toContain('CONFIG_OF_OTHER_SETTINGS');
  });

  test('missing rendered files are reported', () => {
    const watcher = new Watcher({ environment: {}, envFiles: [env(TWO)], out: out() });
    expect(watcher.join(TWO, 0)).toMatchObject({ code: 'NOT_RENDERED' });
  });
});

test('files that cannot be written are reported once, and written as soon as possible', async () => {
  const { settle } = await begun({ envFiles: [env(TWO)] });
  rmSync(out(), { recursive: true });
  writeFileSync(out(), 'a file where the folder was');
  env({ ...TWO, AZURE_OPENAI_WEIGHT_1: '0' });
  const events = await settle();
  expect(events.map(({ is }) => is)).toEqual(['unwritable']);
  expect(codes(events[0])).toEqual(['OUTPUT_UNWRITABLE']);
  expect(await settle()).toEqual([]);
  unlinkSync(out());
  expect((await settle()).map(({ is }) => is)).toEqual(['applied']);
  expect(apisix()).toContain('weight: 0');
});
