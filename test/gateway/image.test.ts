/** The image, from its build to its shutdown: what it starts with which settings, how it ends, and that it shows no secret. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { PORTS } from '../support/apisix.ts';
import { API_VERSION, CLIENT_KEY, HOST, hostAddress } from '../support/gateway.ts';
import {
  answered,
  BUILD_TIMEOUT_MS,
  buildImage,
  type Container,
  type ContainerOptions,
  cannotRunImageTests,
  reachable,
  startContainer,
} from '../support/image.ts';
import { textOf } from '../support/repository.ts';
import { baseImages, isHere, withoutDigest } from '../support/requirements.ts';
import { chatBody, chatOnWire, chatText, until } from '../support/traffic.ts';
import { envText, MountedVolume } from '../support/watching.ts';
import { GOOD } from '../support/workspace.ts';

const IMAGE = `genai-gateway-test:${randomUUID()}`;
const CONF = '/usr/local/apisix/conf';
const SHARED = '/shared-configs/gateway';

/** A key with characters that env files, shells and YAML each treat in their own way. */
const BACKEND_KEY = 'k"e\\y$HOME$(id)#1={{x}} %s !';
const AWKWARD = 'it\'s\ttwo\\n lines:\nand "$more" of ünï # them';
/** The pattern does not match the command itself, which would otherwise kill itself first. */
const KILL_FOLLOWER =
  'for p in /proc/[0-9]*; do if grep -qa "cjs.[w]atch" "$p/cmdline"; then kill -KILL "${p#/proc/}"; fi; done';

/** The official Node image contains its licences. A base image made for tests may have none, and is never published. */
function nodeHasLicense(): boolean {
  const image = baseImages().get('NODE_IMAGE') ?? '';
  const args = ['run', '--rm', '--entrypoint', 'test', isHere(image) ? image : withoutDigest(image)];
  return spawnSync('docker', [...args, '-f', '/usr/local/LICENSE']).status === 0;
}

describe.skipIf(cannotRunImageTests('the image'))('the image', () => {
  let mock: MockBackend;
  let folder = '';
  const started: Container[] = [];
  const start = (options: Omit<ContainerOptions, 'image'> = {}) => {
    const container = startContainer({ image: IMAGE, ...options });
    started.push(container);
    return container;
  };
  const file = (name: string, content: string) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    chmodSync(path, 0o644);
    return path;
  };
  const sharedFolder = (name: string) => {
    const path = join(folder, name);
    mkdirSync(path);
    // World-writable like an emptyDir.
    chmodSync(path, 0o777);
    return path;
  };
  /** Settings for a gateway in front of the mock. */
  const settings = () => ({
    AZURE_OPENAI_ENDPOINT_0: `http://${HOST}:${mock.port}`,
    AZURE_OPENAI_KEY_0: BACKEND_KEY,
    GATEWAY_CLIENT_NAME_0: 'app',
    GATEWAY_CLIENT_KEY_0: CLIENT_KEY,
    GATEWAY_WORKERS: '1',
  });
  const chat = (container: Container, key = CLIENT_KEY) =>
    answered(container, () =>
      fetch(
        `${container.url(PORTS.proxy)}/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}`,
        {
          method: 'POST',
          headers: { 'api-key': key, 'content-type': 'application/json' },
          body: chatBody('gpt-4o'),
        },
      ),
    );

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'genai-gateway-image-'));
    chmodSync(folder, 0o755);
    mock = await startMockAzureOpenAI({ host: await hostAddress(), keys: [BACKEND_KEY] });
    await buildImage(IMAGE, ['--build-arg=VERSION=1.2.3', '--build-arg=REVISION=abc']);
  }, BUILD_TIMEOUT_MS);
  afterEach(() => {
    for (const each of started.splice(0)) each.remove();
    mock.reset();
  });
  afterAll(async () => {
    await mock?.stop();
    rmSync(folder, { recursive: true, force: true });
    execFileSync('docker', ['rmi', '--force', IMAGE], { stdio: 'ignore' });
  }, 60_000);

  test("has labels, runs as APISIX's user, and drains when it is stopped", () => {
    const [inspected] = JSON.parse(execFileSync('docker', ['inspect', IMAGE], { encoding: 'utf8' }));
    expect(inspected.Config).toMatchObject({ User: '636', StopSignal: 'SIGQUIT' });
    expect(inspected.Config.Labels).toMatchObject({
      'org.opencontainers.image.title': 'genai-gateway',
      'org.opencontainers.image.licenses': 'MIT AND Apache-2.0',
      'org.opencontainers.image.version': '1.2.3',
      'org.opencontainers.image.revision': 'abc',
    });
  });

  test('contains what it needs only: no env file, no sources, no npm', async () => {
    const script = 'cd /opt/genai-gateway && ls -A . dist && ls /usr/local/bin && command -v npm; true';
    const container = start({ command: ['mock'] });
    expect(container.exec('bash', '-c', script).output.trim().split(/\s+/)).toEqual([
      ...['.:', 'LICENSE', ...(nodeHasLicense() ? ['NODE_LICENSE'] : []), 'conf', 'dist', 'entrypoint'],
      ...['healthcheck', 'lua-plugins', 'templates'],
      ...[
        'dist:',
        'THIRD_PARTY_LICENSES.txt',
        'bundle.cache',
        'bundle.cjs',
        'genai-gateway.cjs',
        'libraries.cjs',
      ],
      ...['genai-gateway', 'node'],
    ]);
    const licenses = container.exec('cat', '/opt/genai-gateway/dist/THIRD_PARTY_LICENSES.txt').output;
    // The image has no deploy.cjs: `deploy` needs programs that it does not have. So it has not all licences, and fewer
    // packages before a text that several have.
    const partsOf = (text: string) => {
      const [list = '', ...sections] = text.split(`\n${'-'.repeat(80)}\n`).map((part) => part.trim());
      return [list, ...sections.map((section) => section.replace(/^.*\n\n/, ''))];
    };
    const [list = '', ...texts] = partsOf(licenses);
    const [ourList, ...ourTexts] = partsOf(textOf('dist/THIRD_PARTY_LICENSES.txt'));
    expect(ourList?.startsWith(`${list}\n`)).toBe(true);
    expect(texts.length).toBeGreaterThan(5);
    expect(ourTexts).toEqual(expect.arrayContaining(texts));
    const rejected =
      'const { Script } = require("vm"); const { readFileSync } = require("fs"); const d = "/opt/genai-gateway/dist/";' +
      'console.log(new Script(readFileSync(d + "bundle.cjs", "latin1"), { cachedData: readFileSync(d + "bundle.cache") }).cachedDataRejected)';
    expect(container.exec('node', '-e', rejected).output.trim(), 'V8 takes the code cache').toBe('false');
  });

  describe('with settings in an env file, a read-only root and no capabilities', () => {
    const MOUNTS = [CONF, '/usr/local/apisix/logs', '/tmp'];
    let gateway: Container;
    beforeAll(async () => {
      const quoted = Object.entries(settings())
        .map(([name, value]) => `${name}='${value}'\n`)
        .join('');
      const path = file('gateway.env', quoted);
      gateway = startContainer({
        image: IMAGE,
        environment: { GATEWAY_ENV_FILES: '/etc/gateway/gateway.env' },
        options: [
          ...reachable(PORTS.proxy, PORTS.status),
          '--read-only',
          '--cap-drop=ALL',
          '--security-opt=no-new-privileges',
          ...MOUNTS.map((each) => `--tmpfs=${each}:uid=636`),
          `--volume=${path}:/etc/gateway/gateway.env:ro`,
        ],
      });
      await chat(gateway);
    }, 60_000);
    afterAll(() => gateway?.remove());

    test('is healthy for Docker', async () => {
      await until(() => gateway.inspect('{{.State.Health.Status}}') === 'healthy', 15_000);
    });

    test('sends the exact key of the env file to the backend', async () => {
      mock.reset();
      await chat(gateway);
      expect(mock.requests.map((request) => request.header('api-key'))).toEqual([BACKEND_KEY]);
    });

    test("shows no secret in a file, an argument, the log or Docker's metadata", () => {
      const script =
        'find /usr/local/apisix/conf /usr/local/apisix/logs /tmp -type f -exec cat {} +; cat /proc/[0-9]*/cmdline /proc/1/environ';
      const inside = gateway.exec('bash', '-c', script).output;
      expect(inside, 'what was rendered is in there').toContain('azure-openai-auth');
      const { stdout, stderr } = gateway.output();
      const inspected = execFileSync('docker', ['inspect', gateway.name, IMAGE], { encoding: 'utf8' });
      const layers = execFileSync('docker', ['history', '--no-trunc', IMAGE], { encoding: 'utf8' });
      for (const text of [inside, stdout, stderr, inspected, layers]) {
        expect(text).not.toContain(CLIENT_KEY);
        expect(text).not.toContain('$HOME$(id)');
      }
    });

    test('runs as user 636 and leaves no zombies', async () => {
      expect(gateway.exec('id', '-u').output.trim()).toBe('636');
      // Their parent ends first, so they become children of the first process.
      gateway.exec('bash', '-c', 'for _ in 1 2 3; do (sleep 0.1 &); done');
      const states = () => gateway.exec('bash', '-c', 'cut -d " " -f 2,3 /proc/[0-9]*/stat').output;
      await until(() => !states().includes('(sleep)'));
      expect(states()).not.toMatch(/ Z$/m);
    });
  });

  test("passes the values of env files to APISIX unchanged, and lets the container's own variables win", async () => {
    const path = file(
      'awkward.env',
      `AZURE_OPENAI_KEY_0='${BACKEND_KEY}'\nGATEWAY_CLIENT_NAME_0=of-the-file\nOF_NOBODY="plain"\nBLANK=\nAWKWARD=\`${AWKWARD}\`\nUID=0\nwith.dot=1\n`,
    );
    // This replaces APISIX's start, because nginx writes its title over the environment in /proc.
    const stub = file('docker-entrypoint.sh', '#!/bin/bash\nbase64 -w0 /proc/self/environ\n');
    chmodSync(stub, 0o755);
    const { AZURE_OPENAI_KEY_0: _, ...environment } = settings();
    const { code, stdout } = await start({
      environment: { ...environment, BLANK: 'not-at-all', GATEWAY_ENV_FILES: '/gateway.env' },
      options: [`--volume=${path}:/gateway.env:ro`, `--volume=${stub}:/docker-entrypoint.sh:ro`],
    }).ended();
    expect(code).toBe(0);
    const given = Buffer.from(stdout, 'base64').toString('utf8').split('\0');
    expect(given).toEqual(
      expect.arrayContaining([
        `AZURE_OPENAI_KEY_0=${BACKEND_KEY}`,
        'GATEWAY_CLIENT_NAME_0=app',
        'OF_NOBODY=plain',
        'BLANK=not-at-all',
        `AWKWARD=${AWKWARD}`,
        'APISIX_STAND_ALONE=true',
      ]),
    );
    // Names that a shell cannot set are no settings of the gateway either.
    expect(given.filter((each) => /^(?:UID|with\.dot)=/.test(each))).toEqual([]);
  });

  test('is not affected by variables of the entrypoint, bash or Node in env files', async () => {
    const given = [
      ...['HOME', 'CONF', 'DELAY', 'NODE', 'PROGRAM', 'PREFIX'].map(
        (each) => `${each.toLowerCase()}=/nowhere`,
      ),
      "delay='exported[$(touch /tmp/injected)]'",
      ...['FUNCNEST=1', 'IFS=/', 'NODE_OPTIONS=--nope', 'POSIXLY_CORRECT=1'],
    ];
    const path = file('names.env', `${given.join('\n')}\n`);
    const gateway = start({
      environment: { ...settings(), GATEWAY_ENV_FILES: '/gateway.env', GATEWAY_WATCH: 'true' },
      options: [...reachable(PORTS.proxy), `--volume=${path}:/gateway.env:ro`],
    });
    await chat(gateway);
    const followers = () =>
      gateway.exec('bash', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "').output.split('cjs watch').length -
      1;
    await until(() => followers() === 1, 10_000);
    gateway.exec('bash', '-c', KILL_FOLLOWER);
    await until(() => /watch ended with code 137/.test(gateway.output().stderr), 10_000);
    await until(() => followers() === 1, 10_000);
    expect(gateway.output().stderr).not.toMatch(/watch ended with code (?!137)|entrypoint: line/);
    expect(gateway.exec('ls', '/tmp').output.trim()).toBe('genai-gateway');
  });

  test.each<[string, Record<string, string>, RegExp]>([
    ['no backend', { GATEWAY_CLIENT_KEY: CLIENT_KEY }, /^error AZURE_OPENAI_ENDPOINT_0: .*NO_BACKEND/ms],
    ['a value that is none', { ...GOOD, LB_ALG: 'fastest' }, /^error LB_ALG: /m],
    ['a blank key', { ...GOOD, AZURE_OPENAI_KEY_0: '' }, /^error AZURE_OPENAI_KEY_0: .*BLANK_SECRET/ms],
    [
      'settings that contradict',
      { ...GOOD, ENABLE_CORS: 'on', CORS_ALLOW_ORIGINS: '*', CORS_ALLOW_CREDENTIALS: 'on' },
      /^error CORS_/m,
    ],
    [
      'an env file that is not there',
      { GATEWAY_ENV_FILES: '/no.env' },
      /^error \/no\.env: .*ENV_FILE_UNREADABLE/ms,
    ],
    ['a path that is none', { ...GOOD, GATEWAY_ENV_FILES: 'gateway.env' }, /^error GATEWAY_ENV_FILES: /m],
  ])('exits with 1 and starts no APISIX for %s', async (_, environment, said) => {
    const { code, stdout, stderr } = await start({ environment }).ended();
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(said);
    expect(stderr).toMatch(/^\d+ errors?\b.*\n$/m);
  });

  test('reports errors as one line of JSON with GATEWAY_LOG_FORMAT=json', async () => {
    const environment = { ...GOOD, LB_ALG: 'fastest', GATEWAY_LOG_FORMAT: 'json' };
    const { code, stdout, stderr } = await start({ environment }).ended();
    expect({ code, stdout, lines: stderr.split('\n').length }).toEqual({ code: 1, stdout: '', lines: 2 });
    expect(JSON.parse(stderr)).toMatchObject({
      diagnostics: [{ setting: 'LB_ALG', severity: 'error', received: 'fastest' }],
    });
  });

  test.each<[string, string[], string]>([
    ['the conf folder', [], CONF],
    ['the logs folder', [`--tmpfs=${CONF}:uid=636`], '/usr/local/apisix/logs'],
    ['the temporary folder', [`--tmpfs=${CONF}:uid=636`, '--tmpfs=/usr/local/apisix/logs:uid=636'], '/tmp'],
  ])('exits with 3 when %s cannot be written', async (_, mounts, path) => {
    const { code, stdout, stderr } = await start({
      environment: GOOD,
      options: ['--read-only', ...mounts],
    }).ended();
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^error:? ${path}.* cannot be written`, 'm'));
  });

  test.each(['TERM', 'QUIT', 'INT'])('finishes a stream after SIG%s', async (signal) => {
    const gateway = start({ environment: settings(), options: reachable(PORTS.proxy) });
    await chat(gateway);
    let released = false;
    mock.script({
      events: (async function* () {
        yield chatText('<first>');
        await until(() => released, 20_000);
        yield chatText('<last>');
      })(),
    });
    const wire = chatOnWire({ url: gateway.url(PORTS.proxy) }, 'gpt-4o');
    await wire.waitFor('<first>');
    gateway.kill(signal);
    // New connections are refused from then on.
    const workers = () => gateway.exec('bash', '-c', 'cat /proc/[0-9]*/cmdline').output;
    await until(() => workers().includes('shutting down'));
    await expect(fetch(gateway.url(PORTS.proxy))).rejects.toThrow();
    expect(gateway.inspect('{{.State.Running}}')).toBe('true');
    released = true;
    const answer = await wire.end();
    expect(answer.isWhole).toBe(true);
    expect(answer.body.toString()).toMatch(/<last>.*\[DONE\]\s*$/s);
    expect((await gateway.ended()).code).toBe(0);
  });

  test('ends at once on a signal before there is anything to drain', async () => {
    const gateway = start({ environment: settings() });
    gateway.kill('TERM');
    expect([0, 143]).toContain((await gateway.ended()).code);
  });

  describe('in two containers, one that renders and one that serves', () => {
    const render = async (volume: string) => {
      const { code, stdout } = await start({
        command: ['render', '--out', SHARED],
        environment: settings(),
        options: [`--volume=${volume}:${SHARED}`],
      }).ended();
      expect(code).toBe(0);
      expect(stdout).toContain(`${SHARED}/apisix.yaml  written`);
    };
    const secrets = () => ({ AZURE_OPENAI_KEY_0: BACKEND_KEY, GATEWAY_CLIENT_KEY_0: CLIENT_KEY });

    test("serves files from APISIX's own folder", async () => {
      const volume = sharedFolder('own-folder');
      await render(volume);
      const gateway = start({
        command: ['docker-start'],
        environment: secrets(),
        options: [...reachable(PORTS.proxy), `--volume=${volume}:${CONF}`],
      });
      await chat(gateway);
    });

    test('serves files from a read-only GATEWAY_SHARED_DIR, with secrets from an env file', async () => {
      const volume = sharedFolder('shared');
      await render(volume);
      const env = file(
        'secrets.env',
        `AZURE_OPENAI_KEY_0='${BACKEND_KEY}'\nGATEWAY_CLIENT_KEY_0=${CLIENT_KEY}\n`,
      );
      const gateway = start({
        environment: { GATEWAY_SHARED_DIR: SHARED, GATEWAY_ENV_FILES: '/secrets.env' },
        options: [
          ...reachable(PORTS.proxy),
          `--volume=${volume}:${SHARED}:ro`,
          `--volume=${env}:/secrets.env:ro`,
        ],
      });
      await chat(gateway);
      expect(gateway.output().stderr, 'no settings are missed there').not.toMatch(/NO_CLIENT|NO_BACKEND/);
    });

    test.each<[string, Partial<ContainerOptions>, string]>([
      ['docker-start', { command: ['docker-start'] }, `${CONF}/apisix.yaml`],
      ['GATEWAY_SHARED_DIR', { environment: { GATEWAY_SHARED_DIR: SHARED } }, `${SHARED}/config.yaml`],
    ])('exits with 1 when there are no files, with %s', async (_, options, path) => {
      const { code, stdout, stderr } = await start(options).ended();
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toContain(`${path} is not there`);
    });
  });

  test.each<[string[], number, RegExp]>([
    [['--help'], 0, /^Usage: genai-gateway /],
    [['check', '--env-file', '/etc/no.env'], 1, /ENV_FILE_UNREADABLE/],
    [['import', '/etc/no.tfvars'], 3, /no\.tfvars/],
    [['publish'], 64, /unknown command 'publish'/],
  ])('runs genai-gateway %s', async (command, expected, said) => {
    const { code, stdout, stderr } = await start({ command }).ended();
    expect(code).toBe(expected);
    expect(stdout + stderr).toMatch(said);
  });

  test('ends a command that runs until it is stopped', async () => {
    const container = start({ command: ['mock'] });
    await until(() => container.output().stdout.includes('AZURE_OPENAI_ENDPOINT_0'));
    container.kill('QUIT');
    expect((await container.ended()).code).toBe(0);
  });

  test('is healthy for Docker while /readyz on port 7086 returns 200', { timeout: 60_000 }, async () => {
    // This server replaces the gateway's: it answers with the status in a file.
    const server =
      'require("http").createServer((q, r) => { r.statusCode = q.url === "/readyz" ? +require("fs").readFileSync("/tmp/status", "utf8") : 404; r.end(); }).listen(7086, "127.0.0.1")';
    const container = start({
      command: ['mock'],
      options: ['--health-interval=500ms', '--health-retries=1', '--health-start-period=1ms'],
    });
    const health = () => container.inspect('{{.State.Health.Status}}');
    await until(() => health() === 'unhealthy', 10_000);
    container.exec('bash', '-c', `echo 200 >/tmp/status; node -e '${server}' >/dev/null 2>&1 &`);
    await until(() => health() === 'healthy', 10_000);
    container.exec('bash', '-c', 'echo 503 >/tmp/status');
    await until(() => health() === 'unhealthy', 10_000);
  });

  test('follows env files with GATEWAY_WATCH, also after kill -9, and reports deferred changes', {
    timeout: 60_000,
  }, async () => {
    const of = (more: Record<string, string>) => ({
      'gateway.env': envText({
        ...settings(),
        GATEWAY_WATCH: 'true',
        GATEWAY_BACKEND_HEADER: 'true',
        AZURE_OPENAI_NAME_0: 'first',
        ...more,
      }),
    });
    const volume = new MountedVolume(join(folder, 'followed'), of({}));
    const gateway = start({
      environment: { GATEWAY_ENV_FILES: '/followed/gateway.env' },
      options: [
        ...reachable(PORTS.proxy),
        '--read-only',
        ...[CONF, '/usr/local/apisix/logs', '/tmp'].map((each) => `--tmpfs=${each}:uid=636`),
        `--volume=${join(folder, 'followed')}:/followed:ro`,
      ],
    });
    const servedBy = async () => (await chat(gateway)).headers.get('x-gateway-backend');
    const untilServedBy = async (name: string) => {
      for (let patience = 50; patience > 0 && (await servedBy()) !== name; patience--) await sleep(200);
      expect(await servedBy()).toBe(name);
    };
    expect(await servedBy()).toBe('first');
    volume.swap(
      of({ AZURE_OPENAI_NAME_0: 'second', APISIX_LOG_LEVEL: 'info', AZURE_OPENAI_KEY_0: 'another-key' }),
    );
    await untilServedBy('second');
    const said = () => gateway.output().stderr;
    expect(said()).toContain('watch: apisix.yaml written (changed: AZURE_OPENAI_NAME_0)');
    for (const finding of [
      'APISIX_LOG_LEVEL: the change is deferred',
      'AZURE_OPENAI_KEY_0: the change is deferred',
    ])
      expect(said()).toContain(`error ${finding}`);
    gateway.exec('bash', '-c', KILL_FOLLOWER);
    volume.swap(of({ AZURE_OPENAI_NAME_0: 'third' }));
    await untilServedBy('third');
    volume.swap(of({ AZURE_OPENAI_NAME_0: 'in valid' }));
    await until(() => said().includes('[INVALID_VALUE]'), 10_000);
    expect(await servedBy()).toBe('third');
    expect(said()).not.toContain(BACKEND_KEY);
  });

  test('drains a backend with the render command of docs/operations.md', async () => {
    const [command = ''] = /env AZURE_OPENAI_WEIGHT_1=0 .*$/m.exec(textOf('docs/operations.md')) ?? [];
    const gateway = start({
      environment: {
        ...settings(),
        GATEWAY_BACKEND_HEADER: 'true',
        AZURE_OPENAI_NAME_0: 'first',
        AZURE_OPENAI_ENDPOINT_1: settings().AZURE_OPENAI_ENDPOINT_0,
        AZURE_OPENAI_KEY_1: BACKEND_KEY,
        AZURE_OPENAI_NAME_1: 'second',
      },
      options: reachable(PORTS.proxy),
    });
    const serving = async () => {
      const names = new Set<string | null>();
      for (let count = 0; count < 4; count++) {
        names.add((await chat(gateway)).headers.get('x-gateway-backend'));
      }
      return [...names].sort();
    };
    expect(await serving()).toEqual(['first', 'second']);
    expect(gateway.exec(...command.split(' '))).toMatchObject({ code: 0 });
    for (let patience = 50; patience > 0 && (await serving()).length > 1; patience--) await sleep(200);
    expect(await serving()).toEqual(['first']);
  });

  test('gives the watcher the env files, restarts it when it dies, and stops it at the end', async () => {
    // A stub of the compiler: it answers the entrypoint, and its watcher dies once and then keeps running.
    const stub = file(
      'stub.cjs',
      `const { appendFileSync, copyFileSync, existsSync } = require('node:fs');
const [command, ...args] = process.argv.slice(2);
if (command === 'container') {
  for (const name of ['apisix.yaml', 'config.yaml']) copyFileSync('/files/' + name, '${CONF}/' + name);
  console.log("env_files=('/a.env' '/b.env')\\nexported=('AZURE_OPENAI_KEY_0=it\\'\\\\\\'\\'s' 'OTHER=1')\\nfollow=true\\njson=true");
} else {
  const { GENAI_GATEWAY_EXPORTED, AZURE_OPENAI_KEY_0 } = process.env;
  const second = existsSync('/tmp/followed');
  appendFileSync('/tmp/followed', JSON.stringify([command, ...args, GENAI_GATEWAY_EXPORTED, AZURE_OPENAI_KEY_0]) + '\\n');
  if (!second) process.exit(7);
  setInterval(() => {}, 1000);
}
`,
    );
    const files = sharedFolder('files');
    await start({
      command: ['render', '--out', '/files'],
      environment: settings(),
      options: [`--volume=${files}:/files`],
    }).ended();
    const gateway = start({
      environment: { GATEWAY_CLIENT_KEY_0: CLIENT_KEY },
      options: [
        ...reachable(PORTS.proxy),
        `--volume=${files}:/files:ro`,
        `--volume=${stub}:/opt/genai-gateway/dist/genai-gateway.cjs:ro`,
      ],
    });
    const starts = () => gateway.exec('cat', '/tmp/followed').output.trim().split('\n');
    await until(() => starts().length === 2);
    for (const each of starts()) {
      expect(JSON.parse(each)).toEqual([
        ...['watch', '--out', CONF, '--env-file', '/a.env', '--env-file', '/b.env'],
        'AZURE_OPENAI_KEY_0,OTHER',
        "it's",
      ]);
    }
    expect(gateway.output().stderr).toMatch(
      /^\{"level":"warning","message":"[^"]*watch ended with code 7"\}$/m,
    );
    gateway.exec('bash', '-c', KILL_FOLLOWER);
    await until(() => starts().length === 3, 10_000);
    expect(await answered(gateway, () => fetch(gateway.url(PORTS.proxy)), 404)).toBeDefined();
    gateway.kill('TERM');
    const { code, stderr } = await gateway.ended();
    expect(code).toBe(0);
    expect(stderr).toMatch(/code 137/);
  });
});
