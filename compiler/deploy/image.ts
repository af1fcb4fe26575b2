/**
 * The image of the gateway. It is made of this program itself, the Lua plugins and the templates: the package has all of
 * that, so no checkout is needed. Its tag is a digest of its contents, so an image that exists is not built again.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { errnoText } from '../errno.ts';
import type { AzureCli, BuildRequest } from './azure-cli.ts';
import type { Children } from './children.ts';
import { DeployFailure } from './failure.ts';
import type { Reporter } from './report.ts';
import { duration } from './report.ts';
import { failureOf, lastLines } from './terraform.ts';

export const REPOSITORY = 'genai-gateway';

/** What the image is made of. The code cache of the bundle belongs to one version of Node, and is made in the image. */
const CONTENTS = [
  'dist/bundle.cjs',
  'dist/genai-gateway.cjs',
  'dist/libraries.cjs',
  'dist/THIRD_PARTY_LICENSES.txt',
  'examples/minimal.env',
  'lua-plugins',
  'templates',
  'docker/entrypoint.sh',
  'docker/healthcheck.sh',
  'LICENSE',
] as const;

const DOCKERFILE = 'docker/Dockerfile';

/** The part of the Dockerfile that compiles the program out of its sources. */
const FROM_SOURCES = /^COPY package\.json[\s\S]*?^RUN npm run build\n/m;

/** The same from the program that is already built: the code cache is written by the Node of the image. */
const FROM_PACKAGE = `COPY dist dist
COPY examples examples
COPY templates templates
RUN GENAI_GATEWAY_BUILD=code-cache node dist/genai-gateway.cjs render --quiet --env-file examples/minimal.env --out /tmp/rendered
`;

/**
 * The Dockerfile for the contents above.
 * @throws Error if the Dockerfile has another form
 */
export function dockerfileFromPackage(dockerfile: string): string {
  if (!FROM_SOURCES.test(dockerfile)) throw new Error(`${DOCKERFILE} has no part that builds the program`);
  return dockerfile
    .replace(FROM_SOURCES, FROM_PACKAGE)
    .replace('ARG VERSION=unknown', `ARG VERSION=${PACKAGE_VERSION}`);
}

/** What an image is made of. */
export interface ImageSource {
  /** Of each file, by its path in the build context. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** Without registry: `genai-gateway:0.1.0-1a2b3c4d5e6f`. */
  readonly image: string;
}

const TAG_LENGTH = 12;

/** Reads everything that the image is made of. @throws DeployFailure */
export function imageSource(source: string): ImageSource {
  try {
    const files = new Map<string, Buffer>();
    for (const path of CONTENTS) {
      for (const file of filesIn(source, path)) files.set(file, readFileSync(join(source, file)));
    }
    files.set(
      'Dockerfile',
      Buffer.from(dockerfileFromPackage(readFileSync(join(source, DOCKERFILE), 'utf8'))),
    );
    const hash = createHash('sha256');
    for (const [path, content] of files) hash.update(`${path}\0${content.length}\0`).update(content);
    const digest = hash.digest('hex').slice(0, TAG_LENGTH);
    return { files, image: `${REPOSITORY}:${PACKAGE_VERSION}-${digest}` };
  } catch (error) {
    throw new DeployFailure(
      'failed',
      `The files of the image cannot be read from ${source}: ${errnoText(error)}. Reinstall the package.`,
    );
  }
}

/** The files at or below a path, with slashes, sorted. */
function filesIn(source: string, path: string): readonly string[] {
  if (!statSync(join(source, path)).isDirectory()) return [path];
  return readdirSync(join(source, path), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(source, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}

/** Writes the build context into a new folder. */
export function writeContext({ files }: ImageSource): string {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-image-'));
  for (const [path, content] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    // Scripts are made executable in the image.
    writeFileSync(join(folder, path), content);
  }
  return folder;
}

export interface Registry {
  readonly name: string;
  readonly loginServer: string;
}

/** `HOST/genai-gateway@sha256:…`: what is deployed. @param image with tag, without registry */
export const byDigest = ({ loginServer }: Registry, image: string, digest: string): string =>
  `${loginServer}/${image.replace(/:.*/, '')}@${digest}`;

export interface ImageTools {
  readonly azure: AzureCli;
  readonly children: Children;
  readonly reporter: Reporter;
}

const HEARTBEAT_MS = 30_000;

/**
 * Builds the image, unless the registry has it.
 * @returns the image by digest, and whether it was built
 * @throws DeployFailure
 */
export async function haveImage(
  registry: Registry,
  { made, localDocker }: { readonly made: ImageSource; readonly localDocker: boolean },
  { azure, children, reporter }: ImageTools,
): Promise<{ readonly image: string; readonly built: boolean; readonly tag: string }> {
  const { image: tag } = made;
  const present = await azure.digestOf(registry.name, tag);
  if (present !== undefined) return { image: byDigest(registry, tag, present), built: false, tag };
  reporter.detail(
    localDocker ? `building ${tag} with Docker` : `building ${tag} in the registry, which takes some minutes`,
  );
  const folder = writeContext(made);
  const progress = heartbeat(reporter);
  try {
    const request = { registry: registry.name, image: tag, dockerfile: join(folder, 'Dockerfile'), folder };
    if (localDocker) await buildLocally(registry, request, { azure, children, reporter }, progress.line);
    else await azure.build(request, progress.line);
  } finally {
    progress.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  const digest = await azure.digestOf(registry.name, tag);
  if (digest === undefined)
    throw new DeployFailure(
      'failed',
      `The registry ${registry.name} does not have the image that was built: ${tag}.`,
    );
  return { image: byDigest(registry, tag, digest), built: true, tag };
}

async function buildLocally(
  registry: Registry,
  { folder, dockerfile, image }: BuildRequest,
  { azure, children, reporter }: ImageTools,
  onLine: (line: string) => void,
): Promise<void> {
  const full = `${registry.loginServer}/${image}`;
  const build = ['build', '--platform', 'linux/amd64', '--tag', full, '--file', dockerfile, folder];
  const built = await children.run('docker', build, { onLine });
  if (built.code !== 0)
    throw failureOf('Docker could not build the image', lastLines(`${built.stdout}\n${built.stderr}`));
  await azure.loginToRegistry(registry.name);
  reporter.detail(`pushing ${full}`);
  const pushed = await children.run('docker', ['push', full], { onLine });
  if (pushed.code !== 0) throw failureOf('Docker could not push the image', lastLines(pushed.stderr));
}

/** Reports twice a minute that a build goes on, and where it is. */
function heartbeat(reporter: Reporter): { line(text: string): void; stop(): void } {
  const begun = Date.now();
  let step = '';
  const timer = setInterval(() => {
    reporter.detail(`still building, ${duration(Date.now() - begun)}${step === '' ? '' : `: ${step}`}`);
  }, HEARTBEAT_MS);
  return {
    // Docker's steps, not what programs print inside them.
    line: (text) => {
      const [found] = /^(?:Step \d+\/\d+|#\d+ \[[^\]]*\d+\/\d+\]).{0,80}/.exec(text) ?? [];
      if (found !== undefined) step = found.trim();
    },
    stop: () => clearInterval(timer),
  };
}
