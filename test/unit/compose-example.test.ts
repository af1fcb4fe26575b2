/** The files of examples/compose are consistent, and everything they refer to exists. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type CompileResult, compile } from '../../compiler/compile.ts';
import { keyOf } from '../../compiler/mock/start.ts';
import { runCli } from '../support/cli.ts';
import { workspace } from '../support/workspace.ts';

const FOLDER = join(import.meta.dirname, '../../examples/compose');
const inFolder = workspace();

interface Service {
  readonly image: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly command?: readonly string[];
  readonly env_file?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly disable?: boolean };
  readonly mem_limit?: string;
}

const read = (file: string): string => readFileSync(join(FOLDER, file), 'utf8');

const compose: {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
} = parse(read('compose.yaml'), { merge: true });
const services = Object.entries(compose.services);
const serviceOf = (name: string): Service => {
  const service = compose.services[name];
  if (!service) throw new Error(`there is no service ${name}`);
  return service;
};

/** The image that the example builds. Its Dockerfile has a health check. */
const { image: OURS } = serviceOf('gateway');

/** The port that a service of our image listens on, from its command. */
const portOf = (name: string) => {
  const { command = [] } = serviceOf(name);
  return command[command.indexOf('--port') + 1];
};

let gateway: CompileResult;
beforeAll(async () => {
  const [envFile = ''] = serviceOf('gateway').env_file ?? [];
  gateway = await compile({ environment: {}, envFiles: [join(FOLDER, envFile)] });
});

describe('the compose example', () => {
  test.each(services)('%s uses the image built here, or one pinned by tag and digest', (_, { image }) => {
    if (image === OURS) return;
    expect(image).toMatch(/^[a-z-]+\/[a-z-]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}$/);
  });

  test('exactly one service builds our image, from this repository', () => {
    const building = services.filter(([, { build }]) => build);
    expect(building.map(([name]) => name)).toEqual(['gateway']);
    const { context = '', dockerfile = '' } = serviceOf('gateway').build ?? {};
    expect(readdirSync(join(FOLDER, context))).toEqual(
      expect.arrayContaining(['package.json', 'lua-plugins', 'compiler']),
    );
    expect(existsSync(join(FOLDER, context, dockerfile)), dockerfile).toBe(true);
  });

  test.each(services)('everything that %s mounts exists', (_, { volumes = [], env_file = [] }) => {
    for (const volume of volumes) {
      const [source = '', target = ''] = volume.split(':');
      expect(target).toMatch(/^\//);
      if (source.startsWith('.')) expect(existsSync(join(FOLDER, source)), source).toBe(true);
      else expect(Object.keys(compose.volumes)).toContain(source);
    }
    for (const file of env_file) expect(existsSync(join(FOLDER, file)), file).toBe(true);
  });

  test.each(services)(
    '%s has a memory limit and is published on loopback only',
    (_, { mem_limit, ports = [] }) => {
      expect(mem_limit).toMatch(/^\d+m$/);
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    },
  );

  test.each(services)(
    '%s only waits for services that report when they are ready',
    (_, { depends_on = {} }) => {
      for (const [name, { condition }] of Object.entries(depends_on)) {
        const { healthcheck, image, command } = serviceOf(name);
        if (condition === 'service_healthy')
          expect(healthcheck ? !healthcheck.disable : image === OURS && !command, name).toBe(true);
        else expect([name, condition]).toEqual(['render', 'service_completed_successfully']);
      }
    },
  );

  test('the settings have no errors', () => {
    const errors = gateway.diagnostics.filter(({ severity }) => severity === 'error');
    expect(errors).toEqual([]);
    const warnings = gateway.diagnostics.filter(({ severity }) => severity === 'warning');
    // The mocks serve plain HTTP.
    expect(new Set(warnings.map(({ code }) => code))).toEqual(new Set(['ENDPOINT_INSECURE']));
  });

  test('each backend is a mock, on its port and with its key', () => {
    const { backends = [] } = gateway.model ?? {};
    expect(backends.map(({ origin }) => origin)).toEqual(
      ['mock-ptu', 'mock-payg'].map((name) => `http://${name}:${portOf(name)}`),
    );
    for (const { credential } of backends)
      expect(credential.kind === 'api-key' && credential.key.reveal()).toBe(keyOf(0));
  });

  test('our program accepts the commands of its services', () => {
    const { command: render = [], env_file: envFiles = [] } = serviceOf('render');
    const target = serviceOf('render').volumes?.[0]?.split(':')[1] ?? '';
    expect(render).toContain(target);
    const out = inFolder('rendered');
    const args = [...render.map((each) => (each === target ? out : each)), '--quiet'];
    const files = envFiles.flatMap((file) => ['--env-file', join(FOLDER, file)]);
    expect(runCli([...args, ...files])).toMatchObject({ code: 0 });
    expect(existsSync(join(out, 'otel-collector.yaml'))).toBe(true);
    for (const name of ['mock-ptu', 'mock-payg']) {
      // Only the last option is wrong: the program knows the others and accepts their values.
      const { code, stderr } = runCli([...(serviceOf(name).command ?? []), '--backends', '0']);
      expect(code).toBe(64);
      expect(stderr).toContain("option '--backends <count>' argument '0' is invalid");
    }
  });

  test("the collector reads the rendered file and limits itself to a part of its container's memory", () => {
    const { command = [], volumes = [] } = serviceOf('otel-collector');
    const [, folder] = serviceOf('render').volumes?.[0]?.split(':') ?? [];
    expect(command).toEqual([`--config=${folder}/otel-collector.yaml`]);
    expect(volumes).toContain(`rendered:${folder}:ro`);
    const { telemetry } = gateway.model ?? {};
    expect(gateway.documents?.['otel-collector.yaml']).toContain('limit_percentage:');
    expect(telemetry?.traces?.collector).toBe('otel-collector:4318');
  });

  test('Prometheus and the collector scrape the address that serves the metrics', () => {
    const { metrics } = gateway.model?.telemetry ?? {};
    const { scrape_configs: jobs, rule_files: rules } = parse(read('prometheus.yml'));
    const [job, ...others] = jobs;
    expect(others).toEqual([]);
    expect(job.metrics_path).toBe(metrics?.path);
    expect(job.static_configs[0].targets).toEqual([metrics?.target]);
    expect(metrics?.target).toBe('gateway:9091');
    const { volumes = [] } = serviceOf('prometheus');
    const mounted = volumes.map((volume) => volume.split(':')[1]);
    expect(rules).not.toEqual([]);
    for (const file of rules) expect(mounted).toContain(`/etc/prometheus/${file}`);
  });

  test('Grafana finds its data source and its dashboards', () => {
    const { volumes = [], environment = {} } = serviceOf('grafana');
    const mounted = (target: string) => volumes.find((volume) => volume.split(':')[1] === target);
    const source = parse(read('grafana/provisioning/datasources/prometheus.yaml')).datasources[0];
    expect(new URL(source.url).hostname).toBe('prometheus');
    const [provider] = parse(read('grafana/provisioning/dashboards/dashboards.yaml')).providers;
    const dashboards = mounted(provider.options.path)?.split(':')[0] ?? '';
    const files = readdirSync(join(FOLDER, dashboards));
    expect(files).not.toEqual([]);
    for (const file of files) {
      const { templating } = JSON.parse(readFileSync(join(FOLDER, dashboards, file), 'utf8'));
      // The dashboard selects the data source by type, and there is one of that type.
      const chosen = templating.list.find(({ type }: { type: string }) => type === 'datasource');
      expect(chosen.query).toBe(source.type);
      expect(source.isDefault).toBe(true);
    }
    const home = environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH ?? '';
    expect(files.map((file) => `${provider.options.path}/${file}`)).toContain(home);
    expect(Object.keys(environment).join()).not.toContain('PASSWORD');
  });
});
