/** `--destroy`: removes the stacks in the reverse order, after it has shown what goes and has asked. */
import { rmSync } from 'node:fs';
import { EXIT } from '../commands/terminal.ts';
import type { Deployment, DeploymentWith } from './deployment.ts';
import { DeployFailure } from './failure.ts';
import { countsOf, describePlan } from './report.ts';
import { destroyOrder, STEPS, type StackName, type Step } from './steps.ts';
import { platformHasPrivateEndpoint, stateKey } from './variables.ts';

/** An image that is valid for Terraform. Nothing is pulled while a gateway is removed. */
const ANY_IMAGE = { image: `registry.invalid/genai-gateway@sha256:${'0'.repeat(64)}` };

/** @returns the exit code @throws DeployFailure */
export async function destroyEverything(deployment: Deployment, given: DeploymentWith): Promise<number> {
  const { environment, options, outside, children, reporter, stacks, workspace } = given;
  if (!(await stacks.findBootstrap())) {
    reporter.line(`${environment.name} is not deployed: there is nothing to remove.`);
    return EXIT.ok;
  }
  const order = destroyOrder(options, {
    platformHasPrivateEndpoint: platformHasPrivateEndpoint(environment.variables),
  });
  const { stacksToGo, kept } = await withoutSharedStorage(order, given);
  if (kept !== undefined) reporter.line(kept);
  const present: StackName[] = [];
  for (const name of stacksToGo) {
    const plan = await stacks.look(name, ANY_IMAGE, true);
    if (plan === undefined) continue;
    present.push(name);
    reporter.line(`${name}: ${countsOf(plan.changes)}`);
    for (const line of describePlan(plan.changes))
      (options.plan ? reporter.result : reporter.line).call(reporter, `      ${line}`);
  }
  if (present.length === 0) {
    reporter.line('There is nothing to remove.');
    return EXIT.ok;
  }
  if (options.plan) {
    reporter.line('Nothing was changed.');
    return EXIT.differs;
  }
  if (!options.yes) {
    const answer = await outside.ask(
      `All of this is deleted, with ${present.join(', ')} of ${environment.name}. Type the name of the environment to go on: `,
    );
    children.stopIfInterrupted();
    if (answer !== environment.name)
      throw new DeployFailure(
        'declined',
        answer === undefined
          ? 'No answer: standard input is not a terminal, or has ended.'
          : 'Stopped: this is not the name of the environment.',
        answer === undefined ? 'To go on without a question, add --yes.' : undefined,
      );
  }
  const steps = present.map((name): Step => ({ name, title: `removing ${titleOf(name)}` }));
  deployment.follow(steps);
  for (const step of steps) {
    const name = step.name as StackName;
    await deployment.step(step, async () => {
      deployment.begin();
      return stacks.apply(name, ANY_IMAGE, { confirm: async () => undefined }, true);
    });
    // The copy of its state is gone with the storage.
    if (name === 'bootstrap') rmSync(workspace.folder, { recursive: true, force: true });
    else await stacks.keepBootstrapState();
  }
  reporter.line(
    `Removed: ${present.join(', ')}. A Key Vault stays restorable, and its name taken, for its retention: docs/azure.md, "Remove everything".`,
  );
  return EXIT.ok;
}

const titleOf = (name: StackName): string => STEPS.find((step) => step.name === name)?.title ?? name;

/** The storage has the states of all environments that share it. It stays while it has those of others. */
async function withoutSharedStorage(
  order: readonly StackName[],
  { stacks, ready }: DeploymentWith,
): Promise<{ readonly stacksToGo: readonly StackName[]; readonly kept?: string }> {
  if (!order.includes('bootstrap')) return { stacksToGo: order };
  const outputs = await stacks.outputs('bootstrap');
  const [account, container] = [String(outputs.storage_account_name), String(outputs.state_container_name)];
  const own = new Set(STEPS.map(({ name }) => stateKey(ready.place.environmentCode, name as StackName)));
  const others = (await ready.azure.blobs({ account, container })).filter((name) => !own.has(name));
  if (others.length === 0) return { stacksToGo: order };
  return {
    stacksToGo: order.filter((name) => name !== 'bootstrap'),
    kept: `The storage account ${account} stays: it has states of others (${others.slice(0, 5).join(', ')}).`,
  };
}
