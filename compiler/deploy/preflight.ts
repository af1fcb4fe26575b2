/** Everything that is checked before anything is touched: files, tools, login, variables, settings. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkSettings } from '../commands/check.ts';
import { printReport, type Terminal } from '../commands/terminal.ts';
import { AzureCli } from './azure-cli.ts';
import type { Children, Tool } from './children.ts';
import {
  type EnvironmentFiles,
  type EnvironmentSettings,
  environmentFiles,
  readEnvironment,
} from './environment-files.ts';
import { DeployFailure } from './failure.ts';
import { textOf } from './json.ts';
import type { DeployOptions, Outside } from './options.ts';
import type { Reporter } from './report.ts';
import { provisionalSettings } from './settings.ts';
import { STACK_FOLDERS, type StackName } from './steps.ts';
import { hasTestMode, productionWarning, testModeProblems } from './test-mode.ts';
import { checkTools } from './tools.ts';
import { hasFoundry, type Place, problemsOf, type Values } from './variables.ts';

export interface Environment extends EnvironmentSettings {
  readonly name: string;
  readonly files: EnvironmentFiles;
  /** `NAME.tfvars`. */
  readonly variables: Values;
}

/** Reads the three files of an environment. @throws DeployFailure */
export async function readFiles(
  name: string,
  options: DeployOptions,
  outside: Outside,
  terminal: Terminal,
): Promise<Environment> {
  const files = environmentFiles(options.environments, name);
  if ('reason' in files)
    throw new DeployFailure('not-begun', `${name} cannot be an environment: ${files.reason}.`);
  if (!files.variables.exists) {
    throw new DeployFailure(
      'not-begun',
      `${files.variables.path} does not exist. It has the variables of Terraform: subscription_id, location, and what docs/deploy.md lists.`,
      'To take over the files of the accelerator: genai-gateway import FILE.tfvars',
    );
  }
  const read = readEnvironment(files);
  if ('diagnostics' in read) {
    await printReport(read.diagnostics, { ...options, format: 'text' }, terminal);
    throw new DeployFailure('not-begun', 'A file with settings cannot be read.');
  }
  const variables = await outside.readVariables(files.variables.path);
  if ('reason' in variables) throw new DeployFailure('not-begun', variables.reason);
  return { ...read, name, files, variables: variables.values };
}

/** What the variables and options come to. */
interface Known {
  /** Empty: missing. */
  readonly subscription: string;
  /** Empty: missing. */
  readonly location: string;
  readonly useFoundry: boolean;
  /** Simulators take the place of accounts. */
  readonly testMode: boolean;
}

export interface Ready extends Pick<Known, 'useFoundry' | 'testMode'> {
  readonly azure: AzureCli;
  readonly place: Place;
}

interface Given {
  readonly children: Children;
  readonly reporter: Reporter;
  readonly source: string;
  readonly process: Terminal['environment'];
}

/**
 * Checks variables, tools and settings, then the login.
 * @throws DeployFailure with all that is wrong
 */
export async function checkAll(
  environment: Environment,
  options: DeployOptions,
  given: Given,
  terminal: Terminal,
): Promise<Ready> {
  const known = knownOf(environment, options, given);
  const tools: Tool[] = ['terraform', 'az', ...(options.localDocker ? (['docker'] as const) : [])];
  const hasSettings = !options.destroy && options.rollback === undefined;
  const [, versions] = await together(
    async () => checkVariables(environment, options, given, known),
    () => checkTools(tools, given.children),
    async () => (hasSettings ? checkProvisional(environment, options, known, terminal) : undefined),
  );
  return signIn(environment, options, { ...given, known, versions });
}

/**
 * Runs all checks, also those after one that fails.
 * @throws DeployFailure with what all of them found
 */
async function together<T extends readonly unknown[]>(
  ...checks: { readonly [K in keyof T]: () => Promise<T[K]> }
): Promise<T> {
  const failures: DeployFailure[] = [];
  const results: unknown[] = [];
  for (const check of checks) {
    try {
      results.push(await check());
    } catch (error) {
      const isFound =
        error instanceof DeployFailure && (error.kind === 'not-begun' || error.kind === 'settings');
      if (!isFound) throw error;
      failures.push(error);
    }
  }
  const [first, ...others] = failures;
  if (first === undefined) return results as unknown as T;
  if (others.length === 0) throw first;
  const advice = failures.flatMap((each) => each.advice ?? []);
  throw new DeployFailure(
    'not-begun',
    failures.map(({ message }) => message).join('\n'),
    advice.length > 0 ? advice.join('\n') : undefined,
  );
}

function knownOf({ variables }: Environment, options: DeployOptions, { process }: Given): Known {
  const testMode = hasTestMode(options, variables);
  return {
    subscription: textOf(variables.subscription_id) ?? process.AZURE_SUBSCRIPTION_ID ?? '',
    location: textOf(variables.location) ?? process.AZURE_LOCATION ?? '',
    useFoundry: options.azureOpenai !== false && !testMode && hasFoundry(variables),
    testMode,
  };
}

/** @throws DeployFailure with all that is wrong in the variables */
function checkVariables(
  environment: Environment,
  options: DeployOptions,
  given: Given,
  { subscription, location, testMode }: Known,
): void {
  const { variables } = environment;
  const secrets = [...environment.secrets.keys()];
  const problems = [
    ...problemsOf({
      given: variables,
      declared: allDeclared(given.source),
      settings: environment.settings,
      secrets,
    }),
    ...(testMode && !options.destroy ? testModeProblems(variables, environment.settings, secrets) : []),
  ].map(({ name, problem }) => `${name}: ${problem}`);
  if (subscription === '')
    problems.push('subscription_id: it is missing. Write the id that `az account show --query id` prints');
  if (location === '') problems.push('location: it is missing. Write a region, such as westeurope');
  if (differs(variables.subscription_id, given.process.AZURE_SUBSCRIPTION_ID))
    problems.push(
      'subscription_id: the variable AZURE_SUBSCRIPTION_ID of your shell names another one. Change one of the two',
    );
  if (problems.length === 0) return;
  const path = environment.files.variables.path;
  throw new DeployFailure(
    'not-begun',
    problems.map((problem) => `${path}: ${problem}${problem.endsWith('?') ? '' : '.'}`).join('\n'),
  );
}

/** @throws DeployFailure if `az` is not signed in to the subscription */
async function signIn(
  environment: Environment,
  options: DeployOptions,
  {
    children,
    reporter,
    known,
    versions,
  }: Given & { readonly known: Known; readonly versions: readonly string[] },
): Promise<Ready> {
  const { variables } = environment;
  const azure = new AzureCli(children);
  const login = await azure.login(known.subscription);
  const tenant = textOf(variables.tenant_id);
  if (tenant !== undefined && tenant.toLowerCase() !== login.tenantId.toLowerCase()) {
    throw new DeployFailure(
      'not-begun',
      `The subscription ${login.subscriptionName} belongs to the tenant ${login.tenantId}, and tenant_id is ${tenant}.`,
      `Correct tenant_id in ${environment.files.variables.path}, or subscription_id.`,
    );
  }
  reporter.line(
    `${environment.name}: subscription ${login.subscriptionName} (${login.subscriptionId}), as ${login.user}; ${versions.join(', ')}`,
  );
  const environmentCode = textOf(variables.environment_code) ?? environment.name;
  const warning = known.testMode && !options.destroy ? productionWarning(environmentCode) : undefined;
  if (warning !== undefined) reporter.line(warning);
  return {
    azure,
    place: {
      subscriptionId: login.subscriptionId,
      tenantId: tenant ?? login.tenantId,
      location: known.location,
      environmentCode,
    },
    useFoundry: known.useFoundry,
    testMode: known.testMode,
  };
}

/** The program's own check, of the settings as far as they are known now. @throws DeployFailure */
async function checkProvisional(
  environment: Environment,
  options: DeployOptions,
  known: Known,
  terminal: Terminal,
): Promise<void> {
  const raw = provisionalSettings(environment.raw, environment.variables, known);
  if (!(await checkSettings(raw, environment.name, options, terminal))) {
    throw new DeployFailure(
      'settings',
      'The settings have errors: see above.',
      `Correct ${environment.files.settings.path}${environment.files.secrets.exists ? ` or ${environment.files.secrets.path}` : ''}. Secrets that are in the vault already need their names in secret_settings of ${environment.files.variables.path}.`,
    );
  }
}

/** The variables that the stacks declare. */
function allDeclared(source: string): ReadonlySet<string> {
  const names = (Object.keys(STACK_FOLDERS) as StackName[]).flatMap((stack) => {
    const path = join(source, 'deploy/azure/stacks', STACK_FOLDERS[stack], 'variables.tf');
    const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
    return [...text.matchAll(/^variable "(\w+)"/gm)].map(([, name = '']) => name);
  });
  return new Set(names);
}

const differs = (given: unknown, of: string | undefined): boolean => {
  const text = textOf(given);
  return text !== undefined && of !== undefined && of !== '' && text.toLowerCase() !== of.toLowerCase();
};
