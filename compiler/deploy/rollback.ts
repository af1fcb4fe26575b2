/** `--rollback`: makes a copy of an earlier revision the newest one. It has the earlier image and the earlier settings. */
import { EXIT } from '../commands/terminal.ts';
import type { Deployment, DeploymentWith } from './deployment.ts';
import { DeployFailure } from './failure.ts';
import { describeRevisions, rollbackTarget } from './revisions.ts';
import { revisionChanges } from './settings-changes.ts';

const STEPS = [
  { name: 'workload', title: 'an earlier revision of the gateway' },
  { name: 'ready', title: 'readiness of the new revision' },
] as const;

/** @returns the exit code @throws DeployFailure */
export async function rollBack(
  deployment: Deployment,
  { environment, options, outside, children, reporter, stacks, ready }: DeploymentWith,
): Promise<number> {
  const app = (await stacks.findBootstrap()) ? await deployment.app() : undefined;
  if (app === undefined)
    throw new DeployFailure(
      'not-begun',
      `${environment.name} has no gateway, so there is nothing to go back to.`,
    );
  const revisions = await ready.azure.revisions(app);
  const target = rollbackTarget(revisions, options.rollback === true ? undefined : options.rollback);
  for (const line of describeRevisions(revisions))
    (options.plan ? reporter.result : reporter.line).call(reporter, line);
  if ('reason' in target)
    throw new DeployFailure('not-begun', `There is nothing to go back to: ${target.reason}.`);
  const { from, to } = target;
  reporter.line(`From ${from.name} back to ${to.name}:`);
  const changes = await revisionChanges(from, to);
  for (const line of changes.length > 0 ? changes : ['image and settings are the same'])
    (options.plan ? reporter.result : reporter.line).call(reporter, `      ${line}`);
  if (options.plan) {
    reporter.line('Nothing was changed.');
    return EXIT.differs;
  }
  if (!options.yes) {
    const answer = await outside.ask(`Go back to ${to.name}? Type yes: `);
    children.stopIfInterrupted();
    if (answer !== 'yes')
      throw new DeployFailure(
        'declined',
        answer === undefined
          ? 'No answer: standard input is not a terminal, or has ended.'
          : 'Stopped, because you did not answer yes.',
        answer === undefined ? 'To go on without a question, add --yes.' : undefined,
      );
  }
  deployment.follow(STEPS);
  await deployment.step(STEPS[0], async () => {
    deployment.begin();
    await ready.azure.copyRevision(app, to.name);
    return `copy of ${to.name}`;
  });
  let url = '';
  await deployment.step(STEPS[1], async () => {
    url = await deployment.waitUntilReady();
    return 'ready';
  });
  await deployment.printResult(url);
  reporter.line(
    `The next deploy brings back what ${environment.files.settings.path} and ${environment.files.variables.path} say: put the earlier values there too. To keep the earlier image, deploy with --no-image-build.`,
  );
  return EXIT.ok;
}
