/** Waits until the newest revision of the gateway is ready, and its address answers. */
import type { App, AzureCli } from './azure-cli.ts';
import type { Children } from './children.ts';
import { DeployFailure } from './failure.ts';
import type { Outside } from './options.ts';
import type { Reporter } from './report.ts';

export interface ReadyWith {
  readonly azure: AzureCli;
  readonly children: Children;
  readonly reporter: Reporter;
  readonly outside: Outside;
}

/** The containers of the gateway, in the order in which they start. */
const CONTAINERS = ['render', 'gateway'] as const;

/**
 * Waits until Azure calls the newest revision ready. Until then the revision before it serves.
 * @returns the name of the revision
 * @throws DeployFailure with the end of the containers' logs
 */
export async function waitForRevision(app: App, given: ReadyWith): Promise<string> {
  const { azure, children, reporter, outside } = given;
  const { readyMs, pollMs } = outside.patience;
  const begun = Date.now();
  for (;;) {
    const status = await azure.app(app);
    if (status === undefined) throw new DeployFailure('failed', `There is no Container App ${app.name}.`);
    const { latest, latestReady } = status;
    if (latest !== '' && latest === latestReady) return latest;
    const elapsed = Date.now() - begun;
    const revision = (await azure.revisions(app)).find(({ name }) => name === latest);
    if (revision?.provisioning === 'Failed' || elapsed > readyMs)
      throw await notReady(app, latest, latestReady, elapsed > readyMs, given);
    const state = [revision?.provisioning, revision?.running, revision?.health].filter(Boolean).join(', ');
    reporter.waiting(`the revision ${latest}${state === '' ? '' : ` (${state})`}`, elapsed, readyMs);
    await children.wait(pollMs);
  }
}

async function notReady(
  app: App,
  latest: string,
  latestReady: string,
  isTimeOut: boolean,
  { azure }: ReadyWith,
): Promise<DeployFailure> {
  const logs: string[] = [];
  for (const container of CONTAINERS) {
    const text = await azure.logs(app, latest, container);
    if (text !== '') logs.push(`The log of the container ${container}:\n${text}`);
  }
  return new DeployFailure(
    'failed',
    [
      `The revision ${latest} ${isTimeOut ? 'is not ready in time' : 'cannot start'}.`,
      latestReady === '' ? 'No earlier revision is ready.' : `The revision ${latestReady} goes on serving.`,
      ...logs,
    ].join('\n'),
    latestReady === ''
      ? 'The logs of the containers say why: docs/deploy.md, "When it fails".'
      : 'Correct the settings and run the command again, or go back with --rollback.',
  );
}

const OK = 200;

/**
 * Waits until the address answers `/readyz` with 200. With no replica the first request starts one.
 * @throws DeployFailure
 */
export async function waitForAddress(url: string, { children, reporter, outside }: ReadyWith): Promise<void> {
  const { readyMs, pollMs } = outside.patience;
  const begun = Date.now();
  for (;;) {
    const status = await outside.statusOf(`${url}/readyz`, children.signal);
    children.stopIfInterrupted();
    if (status === OK) return;
    const elapsed = Date.now() - begun;
    const answer = status === undefined ? 'no answer yet' : `status ${status}`;
    if (elapsed > readyMs) {
      throw new DeployFailure(
        'failed',
        `${url}/readyz does not answer with 200: ${answer}.`,
        'The revision is ready, so the way to it may be closed: expose_gateway_public, client_address_prefixes, a private network.',
      );
    }
    reporter.waiting(`${url}/readyz (${answer})`, elapsed, readyMs);
    await children.wait(pollMs);
  }
}
