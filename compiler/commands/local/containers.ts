/** The container and the folder that `up` creates. `down` finds both after a crash. */
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Docker } from './docker.ts';

const LABEL = 'genai-gateway';
const PORT_LABEL = `${LABEL}.port`;
const FOLDER_LABEL = `${LABEL}.folder`;

export const containerName = (port: number): string => `genai-gateway-${port}`;

export const labels = (port: number, folder: string): string[] =>
  [`${LABEL}=up`, `${PORT_LABEL}=${port}`, `${FOLDER_LABEL}=${folder}`].flatMap((label) => [
    '--label',
    label,
  ]);

export interface LocalContainer {
  readonly name: string;
  readonly running: boolean;
  /** The folder with its rendered files. */
  readonly folder: string;
}

/** The containers of `up`, for one port or for all; undefined if docker fails. */
export async function listContainers(docker: Docker, port?: number): Promise<LocalContainer[] | undefined> {
  const filters = [`label=${LABEL}=up`, ...(port === undefined ? [] : [`label=${PORT_LABEL}=${port}`])];
  const format = `{{.Names}}\t{{.State}}\t{{.Label "${FOLDER_LABEL}"}}`;
  const { code, stdout } = await docker.run([
    'ps',
    '--all',
    ...filters.flatMap((filter) => ['--filter', filter]),
    '--format',
    format,
  ]);
  if (code !== 0) return undefined;
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'))
    .map(([name = '', state, folder = '']) => ({ name, running: state === 'running', folder }));
}

/**
 * Stops and removes a container.
 * @returns whether the container is gone
 */
export async function removeContainer(docker: Docker, name: string): Promise<boolean> {
  const { code, stderr } = await docker.run(['rm', '--force', '--volumes', name]);
  return code === 0 || /no such container/i.test(stderr);
}

const FOLDER = /^genai-gateway-up-(\d+)-[A-Za-z0-9]{6}$/;

/**
 * Creates a folder for rendered files; its name has the process id. Other users cannot enter it, except that the
 * container's user can read the mounted folder `rendered` in it.
 */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), `genai-gateway-up-${process.pid}-`));
  mkdirSync(renderedIn(folder));
  // mkdir applies the umask; chmod does not.
  chmodSync(renderedIn(folder), 0o755);
  return folder;
}

export const renderedIn = (folder: string): string => join(folder, 'rendered');

/** Removes a folder, but only if it is one that `makeFolder` created for this user. */
export function removeFolder(folder: string): boolean {
  if (!FOLDER.test(basename(folder)) || !isOwnFolder(folder)) return false;
  rmSync(folder, { recursive: true, force: true });
  return true;
}

/** Folders of this user whose process has ended. */
export function abandonedFolders(): string[] {
  return readdirSync(tmpdir())
    .filter((name) => {
      const [, pid] = FOLDER.exec(name) ?? [];
      return pid !== undefined && !isAlive(Number(pid));
    })
    .map((name) => join(tmpdir(), name))
    .filter(isOwnFolder);
}

/** A container label could name any folder, so the owner is checked. */
function isOwnFolder(folder: string): boolean {
  const found = lstatSync(folder, { throwIfNoEntry: false });
  return found?.isDirectory() === true && (process.getuid === undefined || found.uid === process.getuid());
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
