/** The golden scenarios without errors, compiled for tests of the running gateway. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseDotenv } from 'dotenv';
import { type CompileResult, compile } from '../../compiler/compile.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
import type { Documents } from '../../compiler/emit/emit.ts';
import type { GatewayModel } from '../../compiler/model/model.ts';
import { goldenEnvFile, goldenFolder, goldenScenarios } from './golden.ts';

export interface Scenario {
  readonly model: GatewayModel;
  readonly documents: Documents;
  /** The environment that APISIX's process needs according to the compiler. It gets no other settings. */
  readonly environment: Readonly<Record<string, string>>;
  /** The same for the collector's process. */
  readonly collectorEnvironment: Readonly<Record<string, string>>;
  /** The secret files that APISIX needs, by path. */
  readonly mountedFiles: Readonly<Record<string, string>>;
  /** The same for the collector. */
  readonly collectorFiles: Readonly<Record<string, string>>;
}

/** The names of the golden scenarios without errors. */
export const goodScenarios = (): string[] =>
  goldenScenarios().filter((name) => existsSync(join(goldenFolder(name), 'expected', 'apisix.yaml')));

/** The scenarios that every test run loads into APISIX. */
export const FEW_SCENARIOS: readonly string[] = [
  'accelerator-prod',
  'apim-records-elsewhere',
  'cors-for-browsers',
  'every-limit-in-redis',
  'ip-deny-list',
  'json-log-file',
  'pools',
  'secrets-from-files',
];

export async function compileGolden(name: string): Promise<Scenario> {
  const file = goldenEnvFile(name);
  const result = await compile({ environment: {}, envFiles: [file] });
  return scenarioOf(result, parseDotenv(readFileSync(file, 'utf8')));
}

export async function compileVariables(variables: Readonly<Record<string, string>>): Promise<Scenario> {
  return scenarioOf(await compile({ environment: variables, envFiles: [] }), variables);
}

function scenarioOf(
  { model, documents, needs, diagnostics }: CompileResult,
  variables: Readonly<Record<string, string>>,
): Scenario {
  if (!model || !documents || !needs) {
    const errors = diagnostics
      .map(worded)
      .flatMap(({ severity, message }) => (severity === 'error' ? [message] : []));
    throw new Error(`these settings give no documents: ${errors.join('; ')}`);
  }
  const valuesOf = (names: readonly string[]) =>
    Object.fromEntries(
      names.map((name) => {
        const value = variables[name];
        if (value === undefined) throw new Error(`a process needs ${name}, which is not set`);
        return [name, value];
      }),
    );
  const contentsOf = (paths: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.values(paths).map((path) => [path, readFileSync(path, 'utf8')]));
  return {
    model,
    documents,
    environment: valuesOf(needs.variables.apisix),
    collectorEnvironment: valuesOf(needs.variables.collector),
    mountedFiles: contentsOf(needs.files.apisix),
    collectorFiles: contentsOf(needs.files.collector),
  };
}
