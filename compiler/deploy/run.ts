/** Runs `genai-gateway deploy`. */

import { onInterruption } from '../commands/local/interruption.ts';
import { EXIT, type Terminal } from '../commands/terminal.ts';
import { hiding } from '../diagnostics/keys.ts';
import { Children } from './children.ts';
import { Deployment } from './deployment.ts';
import { DeployFailure, type FailureKind } from './failure.ts';
import { takeLock } from './lock.ts';
import { type DeployOptions, type Outside, repeated } from './options.ts';
import { realOutside } from './outside.ts';
import { checkAll, readFiles } from './preflight.ts';
import { Reporter } from './report.ts';
import { Stacks } from './stacks.ts';
import { Terraform } from './terraform.ts';
import { Workspace } from './workspace.ts';

const CODES: Readonly<Record<FailureKind, number>> = {
  settings: EXIT.diagnostics,
  'not-begun': EXIT.failed,
  failed: EXIT.failed,
  declined: EXIT.failed,
  interrupted: EXIT.interrupted,
};

/** @returns the exit code */
export async function deploy(
  name: string,
  options: DeployOptions,
  terminal: Terminal,
  outside: Outside = realOutside(),
): Promise<number> {
  const interruption = onInterruption();
  const children = new Children(terminal.environment, interruption);
  let reporter = new Reporter(terminal, { quiet: options.quiet === true, hide: (text) => text });
  let deployment: Deployment | undefined;
  let unlock: () => void = () => undefined;
  try {
    const environment = await readFiles(name, options, outside, terminal);
    const secrets = [...environment.secrets.values()].map((secret) => secret.reveal());
    children.withhold(secrets);
    const hide = hidingSecrets(secrets);
    reporter = new Reporter(terminal, { quiet: options.quiet === true, hide });
    const given = { children, reporter, source: outside.source, process: terminal.environment };
    const ready = await checkAll(environment, options, given, terminal);
    const workspace = Workspace.open(options.environments, name, outside.source);
    unlock = takeLock(workspace.lockFile, `genai-gateway deploy ${name}${repeated(options)}`, name);
    workspace.refresh();
    const patiently = { children, reporter, patience: outside.patience };
    const terraform = new Terraform({ ...patiently, workspace, environment: terminal.environment });
    const stacks = new Stacks({
      environment,
      ready,
      azure: ready.azure,
      terraform,
      workspace,
      reporter,
      patiently,
    });
    deployment = new Deployment({
      environment,
      options,
      outside,
      terminal,
      children,
      reporter,
      workspace,
      stacks,
      ready,
    });
    return await deployment.run();
  } catch (error) {
    if (!(error instanceof DeployFailure)) throw error;
    report(error, name, options, reporter, deployment);
    return CODES[error.kind];
  } finally {
    unlock();
    interruption.dispose();
  }
}

/** Hides the values of secrets themselves, also those that do not look like keys, and what looks like a key in them. */
function hidingSecrets(secrets: readonly string[]): (text: string) => string {
  const keys = hiding(secrets);
  // A short value would hide parts of ordinary words.
  const long = secrets.filter((secret) => secret.length >= 6).sort((a, b) => b.length - a.length);
  return (text) => keys(long.reduce((hidden, secret) => hidden.replaceAll(secret, '[secret]'), text));
}

/** Why it stopped, what was done, what was not, and how to go on. */
function report(
  { kind, message, advice }: DeployFailure,
  name: string,
  options: DeployOptions,
  reporter: Reporter,
  deployment: Deployment | undefined,
): void {
  reporter.foreign(message);
  const progress = deployment?.progress() ?? [];
  for (const line of progress) reporter.error(line);
  if (advice !== undefined) reporter.foreign(advice);
  const again = `genai-gateway deploy ${name}${repeated(options)}`;
  if (deployment === undefined || !deployment.hasBegun) reporter.error('Nothing was changed.');
  else if (kind === 'declined') reporter.error(`To go on: ${again}`);
  else
    reporter.error(
      `To go on, run it again: ${again}\nWhat is done stays; it continues with what is missing.`,
    );
}
