/** What a command line asks of `deploy`, and what a deployment gets from outside, so that tests can replace it. */
import type { DiagnosticCode } from '../diagnostics/catalog.ts';
import type { SeedRequest, SeedResult } from './key-vault.ts';
import type { Selection } from './steps.ts';
import { PATIENCE, type Patience } from './terraform.ts';
import type { Values } from './variables.ts';

export interface DeployOptions extends Selection {
  readonly environments: string;
  readonly plan?: boolean;
  readonly destroy?: boolean;
  readonly localDocker?: boolean;
  /** Three simulators in place of accounts, and the test mode. */
  readonly deployE2e?: boolean;
  readonly yes?: boolean;
  /** A revision; true: the one before. */
  readonly rollback?: string | true;
  readonly quiet?: boolean;
  readonly color?: boolean;
  readonly strict?: boolean;
  readonly allow?: readonly DiagnosticCode[];
}

export type ReadVariables = (
  path: string,
) => Promise<{ readonly values: Values } | { readonly reason: string }>;

export interface Outside {
  /** The package or checkout with deploy/azure. */
  readonly source: string;
  readonly patience: Patience;
  readonly readVariables: ReadVariables;
  seed(request: Omit<SeedRequest, 'credential'>, tenantId: string): Promise<SeedResult>;
  /** Asks the user a question. @returns undefined if nobody can answer */
  ask(question: string): Promise<string | undefined>;
  /** The status of a GET request; undefined if nothing answers. */
  statusOf(url: string, signal: AbortSignal): Promise<number | undefined>;
}

/** The rest of the command line, to repeat it: ` --stack image --yes`. */
export function repeated(options: DeployOptions): string {
  const words = [
    ...(options.environments === 'environments' ? [] : ['--environments', options.environments]),
    ...(options.stack ?? []).flatMap((name) => ['--stack', name]),
    ...(options.settingsOnly ? ['--settings-only'] : []),
    ...(options.plan ? ['--plan'] : []),
    ...(options.destroy ? ['--destroy'] : []),
    ...(options.rollback === undefined ? [] : ['--rollback']),
    ...(typeof options.rollback === 'string' ? [options.rollback] : []),
    ...(options.azureOpenai === false ? ['--no-azure-openai'] : []),
    ...(options.imageBuild === false ? ['--no-image-build'] : []),
    ...(options.localDocker ? ['--local-docker'] : []),
    ...(options.deployE2e ? ['--deploy-e2e'] : []),
    ...(options.yes ? ['--yes'] : []),
  ];
  return words.map((word) => ` ${word}`).join('');
}

export { PATIENCE };
