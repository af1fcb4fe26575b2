/**
 * What tests need in addition to Node, whether it is available, and whether `GENAI_GATEWAY_TESTS` requires it. A test
 * whose needs are missing is skipped with a message on stderr, or fails when they are required. Tests pull no images;
 * packages of real clients are installed into their own cache (client-packages.ts).
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { APISIX_IMAGE } from '../../compiler/image.ts';
import { emulatorProblem } from './azure-emulator.ts';
import { type ClientPackages, lackOf } from './client-packages.ts';
import { multitoolProblem } from './sarif.ts';
import { terraformProblem, tflintProblem } from './terraform.ts';

export { APISIX_IMAGE };
export const REDIS_IMAGE = 'redis:8.2.3-bookworm';
export const REDIS_PROGRAM = 'redis-server';
/** The version that docs/collector.md names and the templates are written for. */
export const COLLECTOR_IMAGE = 'otel/opentelemetry-collector-contrib:0.165.0';
export const PROMETHEUS_IMAGE = 'prom/prometheus:v3.15.1';

export type Availability =
  | { readonly available: true }
  | { readonly available: false; readonly reason: string };

const HERE: Availability = { available: true };

/** Each kind of need, by its name in `GENAI_GATEWAY_TESTS`. */
const KINDS = {
  apisix: () => imageAvailable(APISIX_IMAGE),
  image: imageCanBeBuilt,
  redis: redisAvailable,
  collector: () => imageAvailable(COLLECTOR_IMAGE),
  prometheus: () => imageAvailable(PROMETHEUS_IMAGE),
  luajit: () => programAvailable('luajit', 'luajit', '-v'),
  jq: () => programAvailable('jq', 'jq', '--version'),
  curl: () => programAvailable('curl', 'curl', '--version'),
  openssl: () => programAvailable('openssl', 'openssl', 'version'),
  promtool: () => programAvailable('promtool', 'promtool', '--version'),
  compose: () => programAvailable('docker compose v2', 'docker', 'compose', 'version'),
  sarif: () => lacking(multitoolProblem()),
  bash: () => programAvailable('bash', 'bash', '-c', 'true'),
  zsh: () => programAvailable('zsh', 'zsh', '-c', 'true'),
  fish: () => programAvailable('fish', 'fish', '-c', 'true'),
  python_clients: () => clientsAvailable('python_clients'),
  node_clients: () => clientsAvailable('node_clients'),
  go_clients: () => clientsAvailable('go_clients'),
  java_clients: () => clientsAvailable('java_clients'),
  codex: () => clientsAvailable('codex'),
  opencode: () => clientsAvailable('opencode'),
  actionlint: () => programAvailable('actionlint', 'actionlint', '--version'),
  zizmor: () => programAvailable('zizmor', 'zizmor', '--version'),
  terraform: () => lacking(terraformProblem()),
  terraform_program: () => programAvailable('terraform', process.env.TERRAFORM || 'terraform', 'version'),
  tflint: () => lacking(tflintProblem()),
  checkov: () => programAvailable('checkov', 'checkov', '--version'),
  azure_emulator: () => lacking(emulatorProblem()),
} satisfies Record<string, () => Availability>;

export type Need = keyof typeof KINDS;
export const NEEDS = Object.keys(KINDS) as Need[];

export const VARIABLE = 'GENAI_GATEWAY_TESTS';
const EVERYTHING = 'required';

/** The needs that a value of `GENAI_GATEWAY_TESTS` requires; none when it is unset or empty. */
export function requiredBy(value: string | undefined): ReadonlySet<Need> {
  const names = (value ?? '').split(',').map((name) => name.trim());
  if (names.length === 1 && names[0] === '') return new Set();
  if (names.length === 1 && names[0] === EVERYTHING) return new Set(NEEDS);
  const unknown = names.filter((name) => !NEEDS.includes(name as Need));
  if (unknown.length > 0) {
    const shown = unknown.map((name) => JSON.stringify(name)).join(', ');
    throw new Error(
      `${VARIABLE}: unknown value ${shown}. Write ${EVERYTHING}, for everything, or what must be here, separated by commas: ${NEEDS.join(', ')}.`,
    );
  }
  return new Set(names as Need[]);
}

export const isAvailable = (need: Need): Availability => KINDS[need]();

/** For `skipIf`: whether one of the needs is missing. Prints the reason on stderr, or throws when that need is required. */
export function cannotRun(tests: string, ...needs: readonly [Need, ...Need[]]): boolean {
  const required = requiredBy(process.env[VARIABLE]);
  const states = needs.map((need) => ({ need, state: isAvailable(need) }));
  const reasons = states.flatMap(({ need, state }) =>
    state.available ? [] : [{ need, reason: state.reason }],
  );
  const failure = reasons.find(({ need }) => required.has(need));
  if (failure) {
    throw new Error(
      `${tests} cannot be tested: ${failure.reason}. ${VARIABLE} requires ${failure.need}: make it available, or take it out of the variable.`,
    );
  }
  for (const { reason } of reasons) process.stderr.write(`\nSKIPPED ${tests}: ${reason}\n`);
  return reasons.length > 0;
}

/** Whether a container of this image can be started here. */
export function imageAvailable(image: string): Availability {
  const engine = engineAvailable();
  if (!engine.available || isHere(image)) return engine;
  return { available: false, reason: `the image ${image} is not here: docker pull ${image}` };
}

function engineAvailable(): Availability {
  try {
    execFileSync('docker', ['version', '--format', '{{.Server.Version}}'], { stdio: 'pipe' });
    return HERE;
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    return { available: false, reason: missing ? 'there is no docker command' : 'no Docker daemon answers' };
  }
}

const succeeds = (program: string, ...args: string[]): boolean =>
  spawnSync(program, args, { stdio: 'ignore' }).status === 0;

/** Whether Docker has the image; false without Docker. */
export const isHere = (image: string): boolean =>
  succeeds('docker', 'image', 'inspect', '--format', '{{.Id}}', image);

const programAvailable = (name: string, program: string, ...args: string[]): Availability =>
  succeeds(program, ...args) ? HERE : { available: false, reason: `there is no ${name}` };

const lacking = (reason: string | undefined): Availability =>
  reason === undefined ? HERE : { available: false, reason };

/** Whether the packages are installed, or their registry answers. */
const clientsAvailable = (name: ClientPackages): Availability => lacking(lackOf(name));

/** Whether Docker has the image or this host has the program. */
function redisAvailable(): Availability {
  if (isHere(REDIS_IMAGE) || succeeds(REDIS_PROGRAM, '--version')) return HERE;
  return {
    available: false,
    reason: `neither the image ${REDIS_IMAGE} nor the program ${REDIS_PROGRAM} is here: docker pull ${REDIS_IMAGE}`,
  };
}

/** The base images of the gateway's own image, by build argument. */
export function baseImages(): ReadonlyMap<string, string> {
  const text = readFileSync(fileURLToPath(new URL('../../docker/Dockerfile', import.meta.url)), 'utf8');
  return new Map(
    [...text.matchAll(/^ARG (\w+_IMAGE)=(\S+)$/gm)].map(([, name = '', image = '']) => [name, image]),
  );
}

/** Every image that a test runs or builds on. */
export const testImages = (): string[] => [
  ...[APISIX_IMAGE, REDIS_IMAGE, COLLECTOR_IMAGE, PROMETHEUS_IMAGE],
  ...baseImages().values(),
];

/** The image's name by tag only, because an image that was not pulled from a registry has no digest. */
export const withoutDigest = (image: string): string => image.replace(/@.*/, '');

function imageCanBeBuilt(): Availability {
  const state = imageAvailable(APISIX_IMAGE);
  if (!state.available) return state;
  const missing = [...baseImages().values()].find((image) => !isHere(image) && !isHere(withoutDigest(image)));
  return missing === undefined
    ? HERE
    : { available: false, reason: `the image ${missing} is not here: docker pull ${missing}` };
}
