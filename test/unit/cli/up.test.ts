/** What `up` and `down` run with Docker, and what they print when Docker fails. A fake `docker` records its calls. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { APISIX_IMAGE } from '../../../compiler/image.ts';
import { PROGRAM, runCli } from '../../support/cli.ts';
import { until } from '../../support/traffic.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

/** The folder for temporary files. Docker's --mount option would split this name at the comma. */
const TMP = 'tmp, with a comma';

/** A fake docker that records its arguments and the files it would mount. It answers as the shell cases in `answers` do. */
function fakeDocker(answers: string) {
  const bin = inFolder('bin');
  mkdirSync(bin);
  mkdirSync(inFolder(TMP));
  const script = inFolder(
    'bin/docker',
    `#!/bin/bash
printf '%s\\n' "$*" >> "$CALLS"
if [ "$1" = run ]; then
  env > "$CALLS.environment"
  for each in "$TMPDIR"/genai-gateway-up-*/rendered; do cp -R "$each" "$CALLS.rendered"; ls -ld "$each/.." "$each" > "$CALLS.modes"; done
fi
case "$*" in
${answers}
esac
exit 0
`,
  );
  chmodSync(script, 0o755);
  const calls = inFolder('calls');
  const environment = {
    PATH: `${bin}:${dirname(process.execPath)}:/usr/bin:/bin`,
    TMPDIR: inFolder(TMP),
    CALLS: calls,
  };
  return {
    run: (args: readonly string[], env: Readonly<Record<string, string>> = GOOD) =>
      runCli(args, { env: { ...env, ...environment } }),
    start: (args: readonly string[], env: Readonly<Record<string, string>>) => {
      const program = spawn(PROGRAM, args, {
        env: { ...env, ...environment },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let text = '';
      for (const stream of [program.stdout, program.stderr])
        stream.setEncoding('utf8').on('data', (more) => {
          text += more;
        });
      return { text: () => text, exit: once(program, 'close').then(([code]) => code as number) };
    },
    /** A file `$CALLS.NAME` for use in `answers`. */
    note: (name: string) => inFolder(`calls.${name}`, ''),
    calls: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : []),
    read: (what: 'environment' | 'modes' | 'rendered/apisix.yaml' | 'rendered/config.yaml') =>
      readFileSync(`${calls}.${what}`, 'utf8'),
    leftOver: () => readdirSync(inFolder(TMP)),
  };
}

const DENIED = `run*) echo 'docker: Error response from daemon: no, and why.' >&2; echo "Run 'docker run --help' for more information" >&2; exit 125 ;;`;

describe('up', () => {
  test('exits with 3 and says so when there is no docker command', () => {
    mkdirSync(inFolder('bin'));
    symlinkSync(process.execPath, inFolder('bin/node'));
    const { code, stderr } = runCli(['up'], { env: { ...GOOD, PATH: inFolder('bin') } });
    expect({ code, stderr }).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('The docker command is missing'),
    });
  });

  test("exits with 3 and prints Docker's message when the daemon does not answer", () => {
    const docker = fakeDocker(`version*) echo 'Cannot connect to the Docker daemon.' >&2; exit 1 ;;`);
    const { code, stderr } = docker.run(['up']);
    expect(code).toBe(3);
    expect(stderr).toContain(
      'Docker does not answer. Is it running? Its message: Cannot connect to the Docker daemon.',
    );
  });

  test("exits with 3 and prints Docker's message when the image cannot be pulled", () => {
    const docker = fakeDocker(`image*) exit 1 ;;
pull*) echo 'pull access denied'; exit 1 ;;`);
    const { code, stdout, stderr } = docker.run(['up', '--port', '0', '--image', 'nobody/nothing:1']);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(
      /Pulling the image nobody\/nothing:1[\s\S]*pull access denied[\s\S]*nobody\/nothing:1 could not be pulled/,
    );
    expect(docker.calls()).toContain('pull nobody/nothing:1');
    expect(docker.leftOver()).toEqual([]);
  });

  test('exits with 1 for wrong settings and does not call Docker', () => {
    const docker = fakeDocker('');
    const { code, stderr } = docker.run(['up'], { ...GOOD, AZURE_OPENAI_WEIGHT_0: 'abc' });
    expect(code).toBe(1);
    expect(stderr).toContain('error AZURE_OPENAI_WEIGHT_0');
    expect(docker.run(['up', '--mock', '--mock-port', '0'], { LB_ALG: 'nonsense' }).code).toBe(1);
    expect(docker.calls()).toEqual([]);
  });

  test('exits with 3 and names the port when a port is in use', async () => {
    const docker = fakeDocker(`network*) echo '127.0.0.1 127.0.0.0/8' ;;
${DENIED}`);
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    for (const option of ['--port', '--metrics-port']) {
      const other = option === '--port' ? [] : ['--port', '0'];
      const { code, stderr } = docker.run(['up', ...other, option, String(port)]);
      expect({ code, stderr }).toEqual({
        code: 3,
        stderr: `Port ${port} of 127.0.0.1 is in use: choose another ${option}, or 0 for any free port.\n`,
      });
    }
    const mocked = docker.run(['up', '--mock', '--port', '0', '--mock-port', String(port)], {});
    expect(mocked.code).toBe(3);
    expect(mocked.stderr).toContain(`The mock cannot listen on port ${port} of 127.0.0.1: it is in use.`);
    taken.close();
  });

  test('names the port and the option when only Docker knows that the port is in use', () => {
    const docker = fakeDocker(
      "run*) echo 'docker: Error: Bind for 127.0.0.1:19080 failed: port is already allocated.' >&2; exit 125 ;;",
    );
    for (const [port, option] of [
      ['19080', '--port'],
      ['19081', '--metrics-port'],
    ] as const) {
      const { code, stderr } = docker.run(['up', '--port', port]);
      expect(code).toBe(3);
      expect(stderr).toMatch(`Port 19080 of 127.0.0.1 is in use: choose another ${option},`);
    }
  });

  test('does not touch a running gateway on the same port, and exits with 3', () => {
    const running = fakeDocker(`ps*) printf 'genai-gateway-9080\\trunning\\t/x\\n' ;;
${DENIED}`);
    const { code, stderr } = running.run(['up', '--port', '9080']);
    expect(code).toBe(3);
    expect(stderr).toContain('is already running on port 9080: stop it with genai-gateway down --port 9080');
    expect(running.calls().filter((call) => /^(?:rm|run)/.test(call))).toEqual([]);
  });

  test('first removes the container and the folder of a gateway that crashed on the same port', () => {
    const left =
      fakeDocker(`ps*) printf 'genai-gateway-19080\\texited\\t%s\\n' "$TMPDIR/genai-gateway-up-1-abcdef" ;;
${DENIED}`);
    mkdirSync(inFolder(`${TMP}/genai-gateway-up-1-abcdef`));
    left.run(['up', '--port', '19080']);
    expect(left.calls()).toContain('rm --force --volumes genai-gateway-19080');
    expect(left.leftOver()).toEqual([]);
  });

  test('passes secrets to docker through its environment only', () => {
    const docker = fakeDocker(DENIED);
    const secrets = {
      AZURE_OPENAI_KEY_0: 'key-of-backend-zero',
      GATEWAY_CLIENT_KEY_0: 'key-of-client-zero',
      AZURE_OPENAI_KEY_1: 'key-in-a-file-of-its-own',
    };
    const settings = {
      ...GOOD,
      GATEWAY_SECRETS: 'inline',
      AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
      AZURE_OPENAI_KEY_1_FILE: inFolder('key', `${secrets.AZURE_OPENAI_KEY_1}\n`),
    };
    const { code, stdout, stderr } = docker.run(['up', '--port', '0'], settings);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toContain(
      'Docker could not start the container: docker: Error response from daemon: no, and why.',
    );
    const environment = docker.read('environment');
    const call = docker.calls().find((each) => each.startsWith('run ')) ?? '';
    for (const [name, secret] of Object.entries(secrets)) {
      expect(environment).toContain(`${name}=${secret}\n`);
      expect(call).toContain(` --env ${name} `);
      for (const text of [
        docker.calls().join('\n'),
        docker.read('rendered/apisix.yaml'),
        docker.read('rendered/config.yaml'),
        stderr,
      ])
        expect(text).not.toContain(secret);
    }
    expect(docker.read('rendered/apisix.yaml')).toContain('$env://AZURE_OPENAI_KEY_1');
    // Other users of this machine cannot enter the outer folder. The container's user sees only the inner folder and can
    // read it.
    expect(docker.read('modes')).toMatch(/^drwx------.*\/rendered\/\.\.$/m);
    expect(docker.read('modes')).toMatch(/^drwxr-xr-x.*\/rendered$/m);
    expect(docker.leftOver()).toEqual([]);
  });

  test('publishes on loopback only, and runs the APISIX image or the one given with --image', () => {
    const docker = fakeDocker(DENIED);
    docker.run(['up', '--port', '19080', '--metrics-port', '19091']);
    const call = docker.calls().find((each) => each.startsWith('run ')) ?? '';
    const published = [...call.matchAll(/--publish (\S+)/g)].map(([, port]) => port);
    expect(published).toEqual(expect.arrayContaining(['127.0.0.1:19080:9080', '127.0.0.1:19091:9091']));
    for (const port of published) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(call).toContain(` ${APISIX_IMAGE} `);
    expect(call).toContain('--add-host host.docker.internal:host-gateway');
    expect(call).not.toContain('--network');
  });

  test('mounts the files that APISIX reads, and exits with 1 when one does not exist', () => {
    const docker = fakeDocker(DENIED);
    const ca = inFolder('ca.pem', 'PEM');
    docker.run(['up', '--port', '0'], { ...GOOD, GATEWAY_TRUSTED_CA_FILE: ca });
    const call = docker.calls().find((each) => each.startsWith('run ')) ?? '';
    expect(call).toContain(`--mount type=bind,source=${ca},target=${ca},readonly`);
    expect(call).toMatch(
      /--mount type=bind,"source=[^"]*tmp, with a comma[^"]*\/rendered",target=\/run\/genai-gateway,readonly/,
    );
    const { code, stderr } = docker.run(['up'], {
      ...GOOD,
      GATEWAY_TRUSTED_CA_FILE: inFolder('missing.pem'),
    });
    expect(code).toBe(1);
    expect(stderr).toContain("cannot be mounted into the gateway's container: it does not exist");
  });

  test('warns of an endpoint on loopback, which is an error under --strict', () => {
    const docker = fakeDocker(DENIED);
    const settings = { ...GOOD, OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318' };
    const { code, stderr } = docker.run(['up', '--port', '0'], settings);
    expect(code).toBe(3);
    expect(stderr).toContain('write OTEL_COLLECTOR_ENDPOINT=host.docker.internal:4318');
    expect(docker.run(['up', '--port', '0', '--strict'], settings).code).toBe(1);
  });

  test('with --mock reports nothing about settings that the user did not write, even under --strict', () => {
    const docker = fakeDocker(`network*) echo '127.0.0.1 127.0.0.0/8' ;;
${DENIED}`);
    const { code, stderr } = docker.run(['up', '--mock', '--strict', '--port', '0', '--mock-port', '0'], {});
    expect(code).toBe(3);
    expect(stderr).toMatch(/^Docker could not start/);
  });

  test('warns when a packet filter blocks the mocks, and exits with 3 when APISIX ends', async () => {
    const ready = createHttpServer((_, response) => response.end()).listen(0, '127.0.0.1');
    await once(ready, 'listening');
    const { port } = ready.address() as AddressInfo;
    const docker = fakeDocker(`network*) echo '127.0.0.1 127.0.0.0/8' ;;
port*) printf '9080/tcp -> 127.0.0.1:${port}\n9091/tcp -> 127.0.0.1:${port}\n' ;;
exec*) exit 1 ;;
logs*) while [ ! -e "$CALLS.end" ]; do sleep 0.1; done; echo '2026/11/26 08:25:57 [emerg] 1#1: it broke' >&2 ;;
inspect*) echo '1 false' ;;`);
    const program = docker.start(['up', '--mock', '--port', '0', '--mock-port', '0'], {});
    await until(() => program.text().includes('warning: the container cannot reach the mocks'), 10_000);
    expect(program.text()).toContain('curl -i http://127.0.0.1:');
    docker.note('end');
    expect(await program.exit).toBe(3);
    expect(program.text()).toMatch(/\[emerg\] it broke\nAPISIX stopped by itself with exit code 1\.\n$/);
    expect(docker.leftOver()).toEqual([]);
    ready.close();
  });

  test.each([
    [['--port', '70000']],
    [['--port', '']],
    [['--mock-port', '-1']],
    [['--image', '']],
    [['--mock', '--mock-port', '65535']],
    [['extra']],
  ])('exits with 64 for the wrong usage %j', (args) => {
    const docker = fakeDocker('');
    const { code, stdout } = docker.run(['up', ...args], {});
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
  });
});

describe('down', () => {
  test('removes every container that up started and its folder, and lists them', () => {
    const docker = fakeDocker(`ps*) for port in 9080 9081; do
  printf 'genai-gateway-%s\\texited\\t%s\\n' "$port" "$TMPDIR/genai-gateway-up-1-p$port"a
done ;;`);
    const folders = [9080, 9081].map((port) => inFolder(`${TMP}/genai-gateway-up-1-p${port}a`));
    for (const folder of folders) mkdirSync(join(folder, 'rendered'), { recursive: true });
    const { code, stdout } = docker.run(['down'], {});
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: [
        'removed container genai-gateway-9080',
        'removed container genai-gateway-9081',
        ...folders.map((folder) => `removed folder ${folder}`),
        '',
      ].join('\n'),
    });
    expect(docker.calls()).toContain(
      'ps --all --filter label=genai-gateway=up --format {{.Names}}\t{{.State}}\t{{.Label "genai-gateway.folder"}}',
    );
    expect(docker.leftOver()).toEqual([]);
  });

  test('removes the folders of processes that have ended, and no others', () => {
    const docker = fakeDocker('');
    const { pid } = spawnSync('true');
    for (const name of [`genai-gateway-up-${pid}-abcdef`, `genai-gateway-up-${process.pid}-abcdef`, 'others'])
      mkdirSync(inFolder(`${TMP}/${name}`));
    const { code, stdout } = docker.run(['down'], {});
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `removed folder ${inFolder(`${TMP}/genai-gateway-up-${pid}-abcdef`)}\n`,
    });
    expect(docker.leftOver().toSorted()).toEqual([`genai-gateway-up-${process.pid}-abcdef`, 'others']);
  });

  test("keeps a folder that a container's label names but up did not create", () => {
    const docker = fakeDocker(`ps*) printf 'genai-gateway-9080\\texited\\t%s\\n' "$TMPDIR" ;;`);
    mkdirSync(inFolder(`${TMP}/mine`));
    expect(docker.run(['down'], {}).code).toBe(0);
    expect(docker.leftOver()).toEqual(['mine']);
  });

  test('removes only the gateway of the port given with --port', () => {
    const docker = fakeDocker('');
    const { code, stdout } = docker.run(['down', '--port', '9081'], {});
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'There is nothing to remove for port 9081.\n' });
    expect(docker.calls().join('\n')).toContain('--filter label=genai-gateway.port=9081');
  });

  test('exits with 0 and says so when there is nothing to remove', () => {
    expect(fakeDocker('').run(['down'], {})).toMatchObject({
      code: 0,
      stdout: 'There is nothing to remove.\n',
    });
  });

  test('exits with 3 and names what it could not remove', () => {
    const docker = fakeDocker(`ps*) printf 'genai-gateway-9080\\trunning\\t/x\\n' ;;
rm*) echo 'permission denied' >&2; exit 1 ;;`);
    const { code, stderr } = docker.run(['down'], {});
    expect({ code, stderr }).toEqual({ code: 3, stderr: 'could not remove container genai-gateway-9080\n' });
  });
});
