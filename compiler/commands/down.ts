import { abandonedFolders, listContainers, removeContainer, removeFolder } from './local/containers.ts';
import { Docker } from './local/docker.ts';
import { EXIT, type Terminal } from './terminal.ts';

export interface DownOptions {
  /** Of one gateway; undefined for all of them. */
  readonly port?: number;
}

/** Removes what `up` left behind, and what it still runs. */
export async function down({ port }: DownOptions, terminal: Terminal): Promise<number> {
  const docker = new Docker(terminal.environment);
  const problem = await docker.problem();
  if (problem !== undefined) {
    terminal.err(`${problem}\n`);
    return EXIT.unwritable;
  }
  const containers = await listContainers(docker, port);
  if (containers === undefined) {
    terminal.err('Docker does not list its containers.\n');
    return EXIT.unwritable;
  }
  const removed: string[] = [];
  const left: string[] = [];
  for (const { name } of containers)
    ((await removeContainer(docker, name)) ? removed : left).push(`container ${name}`);
  const folders = [
    ...containers.map(({ folder }) => folder),
    ...(port === undefined ? abandonedFolders() : []),
  ];
  for (const folder of folders) {
    try {
      if (removeFolder(folder)) removed.push(`folder ${folder}`);
    } catch {
      left.push(`folder ${folder}`);
    }
  }
  for (const each of removed) terminal.out(`removed ${each}\n`);
  for (const each of left) terminal.err(`could not remove ${each}\n`);
  if (removed.length + left.length === 0)
    terminal.out(
      port === undefined ? 'There is nothing to remove.\n' : `There is nothing to remove for port ${port}.\n`,
    );
  return left.length > 0 ? EXIT.unwritable : EXIT.ok;
}
