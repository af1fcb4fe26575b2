import { existsSync, statSync } from 'node:fs';
import { Argument, Option } from 'commander';
import { type CompileResult, compile, compileSettings } from '../compile.ts';
import { type Diagnostic, hasErrors, sortDiagnostics, strict } from '../diagnostics/diagnostic.ts';
import { nameWithoutKeys } from '../diagnostics/keys.ts';
import type { EnvFile, RawSettings } from '../settings/sources.ts';
import type { Command } from './command.ts';
import { IMAGE, notEmpty, settingsOptions } from './options.ts';
import {
  type CommonOptions,
  EXIT,
  envFilesOf,
  formatOf,
  printReport,
  type Terminal,
  unreadEnvFile,
} from './terminal.ts';

export interface CheckOptions extends CommonOptions {
  /** Path of a policy file. `false`: use none, not even the default one in the current folder. */
  readonly policy?: string | false;
  /** Also let APISIX load the rendered files. */
  readonly apisix?: boolean;
  readonly image: string;
}

export const command: Command<CheckOptions, string | undefined> = {
  description:
    'Validate the settings of one environment, or of every environment in a folder, and print the diagnostics to stdout.',
  examples: [
    'genai-gateway check -e .env',
    'genai-gateway check -e .env --strict --format github',
    'genai-gateway check -e .env --format sarif > diagnostics.sarif',
    'genai-gateway check environments -e base.env',
    'genai-gateway check -e prod.env --apisix',
  ],
  notes: `Each NAME.env, each .env.NAME and each subfolder with env files is one
environment. The files given with -e are the shared base of all environments.`,
  argument: new Argument('[folder]', 'folder with one or more environments'),
  options: [
    new Option(
      '--policy <file>',
      'file with your policy rules; default: genai-gateway.policy.yaml in the current folder, if it exists',
    ).argParser(notEmpty),
    new Option('--no-policy', 'check no policy rules'),
    new Option('--apisix', 'also start APISIX in Docker and check that it loads the rendered files'),
    IMAGE,
    ...settingsOptions(),
  ],
  run: ({ argument, options, terminal }) => check(argument, options, terminal),
};

/** The policy file that `check` uses by default, if it exists. */
const POLICY_FILE = 'genai-gateway.policy.yaml';

/** One set of settings to check. */
interface Candidate {
  /** Undefined if there is only one set of settings. */
  readonly name: string | undefined;
  /** Files of this environment only. The last one stands for settings that come from no file. */
  readonly files: readonly string[];
  readonly envFiles: readonly EnvFile[];
}

interface Outcome extends Candidate {
  readonly result: CompileResult;
  readonly diagnostics: readonly Diagnostic[];
}

/** Prints the diagnostics to stdout, because they are the result of this command. */
async function check(folder: string | undefined, options: CheckOptions, terminal: Terminal): Promise<number> {
  const candidates = await candidatesOf(folder, options, terminal);
  if (typeof candidates === 'number') return candidates;
  const policy = await policyOf(options);
  const outcomes: Outcome[] = [];
  for (const candidate of candidates) outcomes.push(await checkOne(candidate, policy, options, terminal));
  const atApisix = options.apisix ? await checkInApisix(outcomes, options, terminal) : outcomes;
  if (typeof atApisix === 'number') return atApisix;
  const found = merged(atApisix, policy.diagnostics);
  await print(found, atApisix, folder !== undefined, options, terminal);
  return hasErrors(found) ? EXIT.diagnostics : EXIT.ok;
}

async function candidatesOf(
  folder: string | undefined,
  options: CheckOptions,
  terminal: Terminal,
): Promise<readonly Candidate[] | number> {
  const base = options.envFile ?? [];
  if (folder === undefined) return [{ name: undefined, files: base, envFiles: envFilesOf(options) }];
  const shown = nameWithoutKeys(folder);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    terminal.err(
      `error: ${shown} is not a folder; check expects a folder with environments\n(For an env file write -e ${shown})\nRun genai-gateway check --help for its options.\n`,
    );
    return EXIT.usage;
  }
  const { environmentsIn } = await import('./environments.ts');
  const environments = environmentsIn(folder, base);
  if ('reason' in environments) {
    terminal.err(`error: the environments of ${shown} cannot be checked: ${environments.reason}\n`);
    return EXIT.unreadable;
  }
  const shared = envFilesOf(options);
  return environments.map(({ name, files }) => ({ name, files, envFiles: [...shared, ...files] }));
}

interface UsedPolicy {
  readonly policy?: import('../policy/policy-file.ts').Policy;
  readonly diagnostics: readonly Diagnostic[];
}

/** Loads the policy code only if there is a policy file. */
async function policyOf({ policy }: CheckOptions): Promise<UsedPolicy> {
  const path = policy ?? POLICY_FILE;
  if (path === false || (policy === undefined && !existsSync(path))) return { diagnostics: [] };
  const { readPolicy } = await import('../policy/policy-file.ts');
  const read = await readPolicy(path);
  return 'policy' in read ? { policy: read.policy, diagnostics: [] } : read;
}

/**
 * Checks settings that were already read, with the policy of the current folder, as `check` does for an environment. Prints
 * the diagnostics to stderr.
 * @returns whether they have no error
 */
export async function checkSettings(
  raw: RawSettings,
  environment: string,
  options: Pick<CommonOptions, 'strict' | 'allow' | 'color' | 'quiet'>,
  terminal: Terminal,
): Promise<boolean> {
  const policy = await policyOf({ image: '' });
  const result = await compileSettings(raw, {});
  const candidate = { name: environment, files: [], envFiles: [] };
  const { diagnostics } = await judged(candidate, result, policy, options);
  const found = sortDiagnostics([...diagnostics, ...policy.diagnostics]);
  await printReport(found, { ...options, format: 'text' }, terminal);
  return !hasErrors(found);
}

async function checkOne(
  candidate: Candidate,
  policy: UsedPolicy,
  options: CheckOptions,
  terminal: Terminal,
): Promise<Outcome> {
  const result = await compile({
    environment: terminal.environment,
    envFiles: candidate.envFiles,
    templates: options.templates,
  });
  return judged(candidate, result, policy, options, unreadEnvFile(result.diagnostics, options, terminal));
}

/** Adds the diagnostics of the policy, and applies --strict. */
async function judged(
  candidate: Candidate,
  result: CompileResult,
  { policy }: UsedPolicy,
  options: Pick<CommonOptions, 'strict' | 'allow'>,
  more: readonly Diagnostic[] = [],
): Promise<Outcome> {
  const { model, settings } = result;
  const isStrict = options.strict ?? settings.values.GATEWAY_STRICT;
  const outcome = (further: readonly Diagnostic[] = []): Outcome => {
    const all = [...result.diagnostics, ...further, ...more];
    return { ...candidate, result, diagnostics: isStrict ? strict(all, options.allow) : all };
  };
  // Policy rules also run on settings that have only warnings, even with --strict.
  if (!policy || !model) return outcome();
  const { environmentOf, violations } = await import('../policy/evaluate.ts');
  const environment = candidate.name ?? environmentOf(candidate.files.at(-1));
  return outcome(violations(policy, { settings, model }, environment));
}

/**
 * Adds APISIX's diagnostics for settings without errors.
 * @returns an exit code if APISIX cannot be started
 */
async function checkInApisix(
  outcomes: readonly Outcome[],
  options: CheckOptions,
  terminal: Terminal,
): Promise<readonly Outcome[] | number> {
  const { loadInApisix } = await import('./local/apisix-check.ts');
  const sets = outcomes
    .filter(({ diagnostics }) => !hasErrors(diagnostics))
    .map(({ name, envFiles }) => ({ name, envFiles }));
  const loaded = await loadInApisix(sets, options, terminal);
  if (typeof loaded === 'number') return loaded;
  return outcomes.map((each) => ({
    ...each,
    diagnostics: [...each.diagnostics, ...(loaded.get(each.name) ?? [])],
  }));
}

/** Each diagnostic once, with the environments that have it. */
function merged(outcomes: readonly Outcome[], ofAll: readonly Diagnostic[]): Diagnostic[] {
  const [only, ...others] = outcomes;
  if (only && others.length === 0 && only.name === undefined)
    return sortDiagnostics([...only.diagnostics, ...ofAll]);
  const found = new Map<string, { readonly each: Diagnostic; readonly names: string[] }>();
  for (const { name = '', diagnostics } of outcomes) {
    for (const each of diagnostics) {
      const key = JSON.stringify(each);
      const known = found.get(key);
      if (!known) found.set(key, { each, names: [name] });
      else if (known.names.at(-1) !== name) known.names.push(name);
    }
  }
  const ofSome = [...found.values()].map(({ each, names }) => ({
    ...each,
    environments: names.length === outcomes.length && outcomes.length > 1 ? `all ${names.length}` : names,
  }));
  return sortDiagnostics([...ofSome, ...ofAll]);
}

async function print(
  found: readonly Diagnostic[],
  outcomes: readonly Outcome[],
  isFolder: boolean,
  options: CheckOptions,
  terminal: Terminal,
): Promise<void> {
  const [first] = outcomes;
  // GATEWAY_LOG_FORMAT can set the format for one set of settings; for several only --format does.
  const format = isFolder ? formatOf(options) : formatOf(options, first?.result.settings);
  const files = outcomes.flatMap((each) => each.files);
  const ofEnvironment = new Map(outcomes.map((each) => [each.name, each.files.at(-1)]));
  const places = {
    files: [...(options.envFile ?? []), ...(isFolder ? [] : files)],
    of: ({ environments }: Diagnostic) =>
      typeof environments === 'object' ? ofEnvironment.get(environments[0]) : undefined,
  };
  const environments = isFolder
    ? outcomes.map((each) => ({
        name: each.name ?? '',
        files: each.files,
        good: !hasErrors(each.diagnostics),
      }))
    : undefined;
  await printReport(found, { ...options, format }, terminal, 'out', { places, environments });
  if (options.quiet || format !== 'text') return;
  const bad = outcomes.filter(({ diagnostics }) => hasErrors(diagnostics));
  if (!isFolder && first?.result.model && !hasErrors(found)) {
    const { backends, clients, pools } = first.result.model;
    const counts = [count(backends, 'backend'), count(clients, 'client')];
    if (pools.length > 0) counts.push(count(pools, 'pool'));
    terminal.err(
      `The settings are valid: ${counts.join(', ')}${options.apisix ? '; APISIX loads the rendered files' : ''}.\n`,
    );
  } else if (isFolder && !hasErrors(found))
    terminal.err(
      `The settings of ${outcomes.length === 1 ? 'the one environment' : `all ${outcomes.length} environments`} are valid${options.apisix ? ', and APISIX loads the rendered files' : ''}.\n`,
    );
  else if (isFolder && bad.length > 0)
    terminal.err(
      `${bad.length} of ${count(outcomes, 'environment')} ${bad.length === 1 ? 'has' : 'have'} errors: ${names(bad)}.\n`,
    );
}

const count = (list: readonly unknown[], noun: string) =>
  `${list.length} ${noun}${list.length === 1 ? '' : 's'}`;

const SHOWN = 20;
const names = (outcomes: readonly Outcome[]): string => {
  const shown = outcomes
    .slice(0, SHOWN)
    .map(({ name = '' }) => nameWithoutKeys(name))
    .join(', ');
  return outcomes.length > SHOWN ? `${shown} and ${outcomes.length - SHOWN} more` : shown;
};
