/** Runs the scenarios that the options choose, and prints their results. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { E2eOptions } from '../commands/e2e.ts';
import { onInterruption } from '../commands/local/interruption.ts';
import { Failure as DockerFailure } from '../commands/local/launch.ts';
import { EXIT, envFilesOf, type Terminal } from '../commands/terminal.ts';
import { backendName } from '../settings/effective.ts';
import { parseSettings } from '../settings/parse.ts';
import { readSources } from '../settings/sources.ts';
import { Failure } from './gateway-client.ts';
import { BACKENDS } from './names.ts';
import { hasFailed, type ScenarioResult, scenarioTable, summaryTable } from './report.ts';
import { type RunOptions, runScenario, type Target } from './run.ts';
import { isDefault, type Scenario, SHORT_VARIANT, scenariosFor, type Variant } from './scenarios.ts';
import { simulatorsAt, warmUp } from './simulators.ts';
import { checkToolkit, writeOutputs } from './toolkit.ts';

const MINUTE_SECONDS = 60;

/** @returns the exit code: 0 if every assertion holds, 2 if one does not */
export async function e2e(options: E2eOptions, terminal: Terminal): Promise<number> {
  const problem = usageProblem(options);
  if (problem !== undefined) {
    terminal.err(`${problem}\n`);
    return EXIT.usage;
  }
  const interruption = onInterruption();
  const undo: (() => unknown)[] = [];
  try {
    const place = await targetFor(options, terminal, interruption, undo);
    if (place === undefined) return EXIT.ok;
    return await runAll(options, terminal, place, interruption.signal);
  } catch (error) {
    if (!(error instanceof Failure || error instanceof DockerFailure)) throw error;
    terminal.err(`${error.message}\n`);
    return EXIT.unreadable;
  } finally {
    for (const each of undo.reverse()) await each();
    interruption.dispose();
  }
}

/** Why these options cannot be used together. */
function usageProblem(options: E2eOptions): string | undefined {
  const { mock, timeScale, toolkit, requestType, maxTokens } = options;
  if (timeScale !== undefined && !mock)
    return '--time-scale needs --mock: the limits of simulators, and the budgets of a running gateway, count by the minute.';
  if (timeScale !== undefined && timeScale > 1 && toolkit !== undefined)
    return '--time-scale cannot be used with --toolkit, whose load has its own length.';
  if (maxTokens !== undefined && requestType !== 'chat') return '--max-tokens needs --request-type chat.';
  return undefined;
}

interface Place {
  readonly target: Target;
  readonly timeScale: number;
  readonly budgetMinute: number;
}

async function targetFor(
  options: E2eOptions,
  terminal: Terminal,
  interruption: ReturnType<typeof onInterruption>,
  undo: (() => unknown)[],
): Promise<Place | undefined> {
  const { timeScale = 1, image, containerApp } = options;
  if (!options.mock)
    return { target: runningTarget(options, terminal), timeScale: 1, budgetMinute: MINUTE_SECONDS };
  const { startLocalGateway } = await import('./local.ts');
  terminal.err('Starting a gateway in Docker, with three mocks.\n');
  const local = await startLocalGateway({ image, timeScale }, terminal, interruption);
  if (!local) return undefined;
  undo.push(local.stop);
  return { target: { ...local.target, containerApp }, timeScale, budgetMinute: local.budgetMinute };
}

/** A gateway that runs already. Its keys and simulators are those of the settings. */
function runningTarget(options: E2eOptions, terminal: Terminal): Target {
  const { settings } = parseSettings(readSources(terminal.environment, envFilesOf(options)));
  const { values, clients, backends } = settings;
  const single = values.GATEWAY_CLIENT_KEY;
  const keyed = clients.filter(({ KEY }) => KEY !== undefined);
  const keys = single ? [single.reveal()] : keyed.map(({ KEY }) => KEY?.reveal() ?? '');
  if (keys.length === 0)
    throw new Failure(
      'There is no client key: set GATEWAY_CLIENT_KEY_0, _1 and _2 in the environment or in an env file (-e).',
    );
  const named = BACKENDS.map((name) => backends.find((each) => backendName(settings, each).value === name));
  const urls = options.simulator ?? named.map((each) => each?.ENDPOINT?.origin ?? '');
  const missing = BACKENDS.filter((_, index) => urls[index] === '');
  if (missing.length > 0)
    throw new Failure(
      `The addresses of the simulators are not known: the settings have no backend ${missing.join(', ')}. Add them, or write --simulator URL,URL,URL.`,
    );
  const byEnvironment = terminal.environment.SIMULATOR_API_KEY ?? '';
  const simulatorKeys = named.map((each) => each?.KEY?.reveal() ?? byEnvironment);
  return {
    url: options.gateway,
    keys,
    clientNames: single ? ['gateway-client'] : keyed.map(({ NAME }) => NAME),
    metrics: options.metrics,
    helperSecret: values.CONFIG_API_SHARED_SECRET?.reveal(),
    simulators: simulatorsAt(urls, simulatorKeys),
    containerApp: options.containerApp,
  };
}

function variantOf(options: E2eOptions): Variant {
  const { loadPattern, requestType, maxTokens, rampRate, timeScale = 1 } = options;
  return {
    loadPattern,
    requestType,
    rampRate,
    coarseness: timeScale > 1 ? SHORT_VARIANT.coarseness : 1,
    ...(maxTokens === undefined ? {} : { maxTokens }),
  };
}

/** The scenarios that the options choose, in the order in which they run. */
export function chosen(options: E2eOptions): readonly Scenario[] {
  const { scenario: only, skip = [], containerApp } = options;
  return scenariosFor(variantOf(options))
    .filter((each) => only?.includes(each.name) ?? (isDefault(each) || containerApp !== undefined))
    .filter(({ name }) => !skip.includes(name));
}

async function runAll(
  options: E2eOptions,
  terminal: Terminal,
  { target, timeScale, budgetMinute }: Place,
  signal: AbortSignal,
): Promise<number> {
  const scenarios = chosen(options);
  if (scenarios.length === 0) throw new Failure('No scenario is left to run: remove a --skip.');
  const clients = Math.max(...scenarios.map((each) => each.clients));
  if (target.keys.length < clients)
    throw new Failure(
      `The scenarios need the keys of ${clients} clients, and the settings have ${target.keys.length}: set GATEWAY_CLIENT_KEY_0, _1 and _2, or write --skip usage-tracking.`,
    );
  const toolkit = toolkitOf(options, target, terminal);
  const run: RunOptions = {
    timeScale,
    budgetMinute,
    variant: variantOf(options),
    toolkit,
    environment: terminal.environment,
    signal,
    note: (text) => terminal.err(`${text}\n`),
  };
  if (!options.mock) await warmUp(target.simulators);
  const results: ScenarioResult[] = [];
  for (const scenario of scenarios) {
    terminal.err(`Running ${scenario.name}.\n`);
    const result = await runScenario(scenario, target, run);
    if (signal.aborted) {
      terminal.err(`Interrupted: ${scenario.name} did not run to its end.\n`);
      return EXIT.differs;
    }
    results.push(result);
    if (options.format === 'text') terminal.out(`${scenarioTable(result)}\n`);
    if (options.stopOnFailure && hasFailed(result)) break;
  }
  terminal.out(
    options.format === 'json'
      ? `${JSON.stringify({ scenarios: results }, null, 2)}\n`
      : summaryTable(results),
  );
  return results.some(hasFailed) ? EXIT.differs : EXIT.ok;
}

/** Writes the toolkit's files, and finds a folder for the output of locust. */
function toolkitOf(options: E2eOptions, target: Target, terminal: Terminal): RunOptions['toolkit'] {
  const { toolkit: folder, locust } = options;
  if (folder === undefined) return undefined;
  checkToolkit(folder);
  const { simulators, keys, url } = target;
  const paths = writeOutputs(folder, {
    simulators,
    keys,
    gatewayUrl: url,
    environment: terminal.environment,
  });
  for (const path of paths) terminal.err(`Written: ${path}\n`);
  return { folder, locust, logs: mkdtempSync(join(tmpdir(), 'genai-gateway-e2e-')) };
}
