/** Doubles of terraform, az and docker, first in the PATH, with an Azure of files, an environment, and a Key Vault. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { DeployOptions, Outside } from '../../../compiler/deploy/options.ts';
import { realOutside } from '../../../compiler/deploy/outside.ts';
import { deploy } from '../../../compiler/deploy/run.ts';
import type { Patience } from '../../../compiler/deploy/terraform.ts';
import { PROGRAM, type RunResult } from '../cli.ts';
import { ROOT } from '../repository.ts';

export const SUBSCRIPTION = '5b2c4c1e-8d1a-4f3a-9a55-6f5f3a3f7b10';
export const TENANT = '2f1d7c3b-0e2a-4e53-8d0b-3c7f0e9d5a21';

export interface Fault {
  /** Of the command line; for terraform with ` @STACK` at its end. */
  readonly match: string;
  /** How often; 1 by default. */
  readonly times?: number;
  /** After so many resources of an apply. */
  readonly after?: number;
  /** Wait for a signal. */
  readonly hang?: true;
  readonly stderr?: string;
  readonly summary?: string;
  readonly detail?: string;
  readonly code?: number;
}

export interface Call {
  readonly tool: string;
  readonly args: readonly string[];
  readonly stack: string;
  readonly env: Readonly<Record<string, string>>;
}

export const TFVARS = `subscription_id = "${SUBSCRIPTION}"
tenant_id       = "${TENANT}"
location        = "westeurope"
workload_name   = "genai"

azure_openai_network_isolation = false
azure_openai_instances = [
  {
    name_suffix = "swedencentral"
    deployments = [{ name = "gpt-5-mini", model = { name = "gpt-5-mini" } }]
  },
]
`;

export const SETTINGS = 'GATEWAY_CLIENT_NAME_0=app\nAI_PROXY_READ_TIMEOUT=5m\n';

/** A random key, new for each run of the tests, so that it is in nothing by chance. */
export const plantedKey = (): string => `planted-${crypto.randomUUID()}`;

export class Doubles {
  /** The working folder of the user. */
  readonly folder = mkdtempSync(join(tmpdir(), 'genai-gateway-deploy-'));
  /** The Azure of the doubles. */
  readonly azure = join(this.folder, '..', `${this.folder.split('/').at(-1)}-azure`);
  readonly key = plantedKey();
  #server: Server | undefined;
  /** What the Key Vault has. */
  readonly vault = new Map<string, string>();
  /** The status that the gateway answers with. */
  readiness = 200;
  /** The vault denies everything: a role has no effect yet. */
  denied = false;
  /** How many requests the gateway and the vault got. */
  asked = 0;

  async start(): Promise<this> {
    const bin = join(this.azure, 'bin');
    mkdirSync(bin, { recursive: true });
    for (const tool of ['terraform', 'az', 'docker']) {
      copyFileSync(join(import.meta.dirname, 'double.mjs'), join(bin, tool));
      chmodSync(join(bin, tool), 0o755);
    }
    // Without the extension, Node has to be told that they are modules.
    writeFileSync(join(bin, 'package.json'), '{"type": "module"}');
    this.#server = createServer((request, response) =>
      this.#answer(request.url ?? '', request, response),
    ).listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    this.keep('endpoints.json', { vault: `http://127.0.0.1:${port}/`, gateway: `http://127.0.0.1:${port}` });
    this.keep('login.json', {
      id: SUBSCRIPTION,
      name: 'Team',
      tenantId: TENANT,
      state: 'Enabled',
      user: { name: 'someone@example.com' },
    });
    mkdirSync(join(this.folder, 'environments'));
    this.write('environments/dev.tfvars', TFVARS);
    this.write('environments/dev.env', SETTINGS);
    this.write('environments/dev.secrets.env', `GATEWAY_CLIENT_KEY_0=${this.key}\n`);
    return this;
  }

  #answer(
    url: string,
    request: import('node:http').IncomingMessage,
    response: import('node:http').ServerResponse,
  ): void {
    this.asked++;
    if (url === '/readyz') {
      response.writeHead(this.readiness).end();
      return;
    }
    const [, name = ''] = /^\/secrets\/([^/?]+)/.exec(url) ?? [];
    const json = (status: number, value: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    const bundle = (value: string) => ({
      value,
      id: `http://127.0.0.1/secrets/${name}/0123456789abcdef0123456789abcdef`,
      attributes: { enabled: true, created: 1, updated: 1 },
    });
    if (this.denied) {
      json(403, { error: { code: 'Forbidden', message: 'denied', innererror: { code: 'ForbiddenByRbac' } } });
      return;
    }
    if (request.method === 'PUT') {
      let body = '';
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        const { value } = JSON.parse(body) as { readonly value: string };
        this.vault.set(name, value);
        json(200, bundle(value));
      });
      return;
    }
    const value = this.vault.get(name);
    if (value === undefined || url.startsWith('/deletedsecrets'))
      json(404, { error: { code: 'SecretNotFound', message: 'not found' } });
    else json(200, bundle(value));
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    this.#server?.close();
    rmSync(this.folder, { recursive: true, force: true });
    rmSync(this.azure, { recursive: true, force: true });
  }

  write(name: string, text: string): void {
    mkdirSync(dirname(join(this.folder, name)), { recursive: true });
    writeFileSync(join(this.folder, name), text);
  }

  keep(name: string, value: unknown): void {
    writeFileSync(join(this.azure, name), JSON.stringify(value));
  }

  kept<Value>(name: string): Value | undefined {
    const path = join(this.azure, name);
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Value) : undefined;
  }

  faults(...faults: readonly Fault[]): void {
    this.keep('faults.json', faults);
  }

  #lines<Value>(name: string): readonly Value[] {
    const path = join(this.azure, name);
    if (!existsSync(path)) return [];
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Value);
  }

  calls(): readonly Call[] {
    return this.#lines<Call>('calls.jsonl');
  }

  /** `terraform apply @10-platform`, `az acr build`. */
  commands(): readonly string[] {
    return this.calls().map(({ tool, args, stack }) =>
      tool === 'terraform' ? `terraform ${args[0]} @${stack}` : `${tool} ${args.slice(0, 2).join(' ')}`,
    );
  }

  forget(): void {
    for (const name of ['calls.jsonl', 'signals.jsonl']) rmSync(join(this.azure, name), { force: true });
  }

  signals(): readonly { readonly line: string; readonly stack: string }[] {
    return this.#lines('signals.jsonl');
  }

  get environment(): Record<string, string> {
    return {
      PATH: `${join(this.azure, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`,
      HOME: this.folder,
      DOUBLE_FOLDER: this.azure,
    };
  }

  begin(args: readonly string[], more: Readonly<Record<string, string>> = {}): ChildProcess {
    return spawn(PROGRAM, ['deploy', ...args], {
      cwd: this.folder,
      env: { ...this.environment, ...more },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  }

  /** Runs commands of a user in a shell. */
  shell(code: string, folder: string): ChildProcess {
    return spawn('sh', ['-e', '-c', code], {
      cwd: folder,
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Runs the built program as a user does, to its end. */
  async run(
    args: readonly string[],
    {
      answer,
      env = {},
      during,
    }: {
      readonly answer?: string;
      readonly env?: Readonly<Record<string, string>>;
      /** Runs while the program does. */
      during?(child: ChildProcess): Promise<void>;
    } = {},
  ): Promise<RunResult> {
    const child = this.begin(args, env);
    const result = { stdout: '', stderr: '' };
    child.stdout?.on('data', (chunk) => {
      result.stdout += chunk;
    });
    child.stderr?.on('data', (chunk) => {
      result.stderr += chunk;
    });
    child.stdin?.end(answer === undefined ? '' : `${answer}\n`);
    const ended = once(child, 'close');
    try {
      await during?.(child);
    } catch (error) {
      child.kill('SIGKILL');
      await ended;
      throw error;
    }
    const [code] = await ended;
    return { code: code as number | null, ...result };
  }
}

/** Short waits, so that a test of what never happens ends soon. */
export const SHORT: Patience = { roleMs: 300, pausesMs: [20], readyMs: 300, pollMs: 20 };

/** Runs `deploy` in this process, with short waits. */
export async function deployHere(
  doubles: Doubles,
  options: Partial<DeployOptions> = {},
  outside: Partial<Outside> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<RunResult> {
  const written = { stdout: '', stderr: '' };
  const code = await deploy(
    'dev',
    { environments: join(doubles.folder, 'environments'), azureOpenai: true, imageBuild: true, ...options },
    {
      environment: { ...doubles.environment, ...env },
      wantsColor: () => false,
      out: (text) => {
        written.stdout += text;
      },
      err: (text) => {
        written.stderr += text;
      },
    },
    { ...realOutside(), source: ROOT, patience: SHORT, ask: async () => undefined, ...outside },
  );
  return { code, ...written };
}
