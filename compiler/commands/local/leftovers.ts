import { EXIT, type Terminal } from '../terminal.ts';
import { abandonedFolders, listContainers, removeContainer, removeFolder } from './containers.ts';
import { Docker } from './docker.ts';

/** Removes the containers and folders of `up`, even if an `up` is still running. */
export async function removeLeftovers(port: number | undefined, terminal: Terminal): Promise<number> {
  const docker = new Docker(terminal.environment);
  const problem = await docker.problem();
  if (problem !== undefined) {
    terminal.err(`${problem}\n`);
    return EXIT.unwritable;
  }
  const containers = await listContainers(docker, port);
  if (containers === undefined) {
    terminal.err('Docker failed to list its containers.\n');
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
