/** Starts APISIX with our plugins and rendered files in a local container. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Terminal } from '../terminal.ts';
import type { Docker } from './docker.ts';

/** An error that does not come from the settings; its message is shown to the user. */
export class Failure extends Error {}

const RENDERED_IN_CONTAINER = '/run/genai-gateway';
const LUA_IN_CONTAINER = '/opt/genai-gateway/lua-plugins';
/**
 * The whole folder is mounted, because a mount of a single file does not show when that file is replaced: files
 * rendered later must reach APISIX.
 */
const START = `ln -sf ${RENDERED_IN_CONTAINER}/config.yaml ${RENDERED_IN_CONTAINER}/apisix.yaml /usr/local/apisix/conf/ && exec /docker-entrypoint.sh docker-start`;

export interface Launched {
  /** The folder with the rendered files. */
  readonly rendered: string;
  /** Paths of files that APISIX reads; the paths are the same inside and outside the container. */
  readonly files: readonly string[];
  /** Variables for the APISIX process. Docker takes their values from its own environment. */
  readonly variables: Readonly<Record<string, string>>;
  readonly image: string;
}

/** The last arguments of `docker run`: mounts, environment, image and command. */
export function launchArguments({ rendered, files, variables, image }: Launched): string[] {
  const mounts = [
    [luaPlugins(), LUA_IN_CONTAINER],
    [rendered, RENDERED_IN_CONTAINER],
    ...files.map((path) => [path, path] as const),
  ] as const;
  return [
    ...['--stop-signal', 'SIGQUIT'],
    // With SELinux labels the container could not read the mounts; relabelling the user's files would be worse.
    ...['--security-opt', 'label=disable'],
    ...mounts.flatMap(([source, target]) => [
      '--mount',
      ['type=bind', `source=${source}`, `target=${target}`, 'readonly'].map(inCsv).join(','),
    ]),
    ...['--env', 'APISIX_STAND_ALONE=true'],
    // Only the name: docker takes the value from its own environment.
    ...Object.keys(variables).flatMap((variable) => ['--env', variable]),
    ...['--entrypoint', 'bash', image, '-c', START],
  ];
}

const inCsv = (field: string) => (/[",]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field);

/** The folder of the Lua plugins, next to the bundle in the package. */
function luaPlugins(): string {
  const folder = join(__dirname, '..', 'lua-plugins');
  if (!existsSync(folder))
    throw new Failure(`The Lua plugins are missing from ${folder}: reinstall the package.`);
  return folder;
}

/**
 * Pulls the image if it is missing, and shows the progress.
 * @returns false if interrupted
 * @throws Failure if the pull fails
 */
export async function haveImage(
  docker: Docker,
  image: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<boolean> {
  const { code } = await docker.run(['image', 'inspect', '--format', '{{.Id}}', image]);
  if (code === 0) return true;
  terminal.err(`Pulling the image ${image}.\n`);
  if (await docker.show(['pull', image], signal)) return true;
  if (signal.aborted) return false;
  throw new Failure(`The image ${image} could not be pulled: see Docker's message above.`);
}
