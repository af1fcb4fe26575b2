import { Argument, InvalidArgumentError, Option } from 'commander';
import type { DeployOptions } from '../deploy/options.ts';
import { SELECTABLE } from '../deploy/steps.ts';
import type { Command } from './command.ts';
import { notEmpty, settingsOptions } from './options.ts';

/** What `deploy` takes of the options of commands that compile settings: its settings come from the environment's files. */
const SHARED = new Set(['--strict', '--allow', '--no-color', '--quiet']);

function stepName(value: string, all: readonly string[] = []): readonly string[] {
  if (SELECTABLE.includes(value)) return [...all, value];
  throw new InvalidArgumentError(
    `There is no such step. The steps are ${SELECTABLE.slice(0, 7).join(', ')}.`,
  );
}

export const command: Command<DeployOptions, string> = {
  description:
    'Deploy the gateway of one environment to Azure with Terraform, or change, roll back or remove it.',
  examples: [
    'genai-gateway deploy dev --plan',
    'genai-gateway deploy dev',
    'genai-gateway deploy prod --settings-only',
    'genai-gateway deploy prod --stack image --stack workload',
    'genai-gateway deploy prod --rollback',
    'genai-gateway deploy e2e --deploy-e2e',
    'genai-gateway deploy dev --destroy',
  ],
  notes: `An environment is NAME.tfvars, NAME.env and NAME.secrets.env in the folder of the
environments. Running the command again continues where it stopped.

Exit codes: 0 done, 1 the settings have errors, 2 --plan has changes, 3 a check or
a step failed, 64 wrong usage, 130 interrupted.`,
  argument: new Argument('<environment>', 'name of the environment, such as dev'),
  options: [
    new Option('--environments <dir>', 'folder of the environments')
      .argParser(notEmpty)
      .default('environments'),
    new Option('--plan', 'change nothing; print what would change'),
    new Option('--stack <name>', 'run this step only; repeatable').choices(SELECTABLE).argParser(stepName),
    new Option(
      '--settings-only',
      'make a new revision with the settings and secrets of the files, nothing else',
    ).conflicts(['stack', 'destroy', 'rollback']),
    new Option('--no-azure-openai', 'make no Azure OpenAI accounts and no network'),
    new Option('--no-image-build', 'build no image; deploy the one that runs'),
    new Option('--local-docker', 'build the image with Docker on this machine, not in the registry'),
    new Option(
      '--deploy-e2e',
      "three simulators in place of accounts, and the toolkit's scenarios; never in production",
    ).conflicts(['destroy', 'rollback']),
    new Option('--rollback [revision]', 'go back to the revision before, or to this one').conflicts([
      'stack',
      'destroy',
    ]),
    new Option('--destroy', 'remove everything, or the stacks of --stack; asks first'),
    new Option('--yes', 'do not ask before resources are deleted or replaced'),
    ...settingsOptions().filter(({ long }) => SHARED.has(long ?? '')),
  ],
  hint: () => undefined,
  run: async ({ argument, options, terminal }) => {
    const { deploy } = await import('../deploy/run.ts');
    return deploy(argument, options, terminal);
  },
};
