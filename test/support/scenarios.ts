/** The golden scenarios that give documents, compiled for tests of the running gateway. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseDotenv } from 'dotenv';
import { type CompileResult, compile } from '../../compiler/compile.ts';
import { type Documents, neededFiles, neededVariables } from '../../compiler/emit/emit.ts';
import type { GatewayModel } from '../../compiler/model/model.ts';
import { goldenEnvFile, goldenFolder, goldenScenarios } from './golden.ts';

export interface Scenario {
  readonly model: GatewayModel;
  readonly documents: Documents;
  /** What APISIX's own process needs, by the compiler's own account: nothing else of the settings reaches it. */
  readonly environment: Readonly<Record<string, string>>;
  /** The same of the collector's process. */
  readonly collectorEnvironment: Readonly<Record<string, string>>;
  /** The files of secrets that APISIX needs, by their path. */
  readonly mountedFiles: Readonly<Record<string, string>>;
  /** The same of the collector. */
  readonly collectorFiles: Readonly<Record<string, string>>;
}

/** Names of the golden scenarios that give documents. */
export const goodScenarios = (): string[] =>
  goldenScenarios().filter((name) => existsSync(join(goldenFolder(name), 'expected', 'apisix.yaml')));

export async function compileGolden(name: string): Promise<Scenario> {
  const file = goldenEnvFile(name);
  const result = await compile({ environment: {}, envFiles: [file] });
  return scenarioOf(result, parseDotenv(readFileSync(file, 'utf8')));
}

export async function compileVariables(variables: Readonly<Record<string, string>>): Promise<Scenario> {
  return scenarioOf(await compile({ environment: variables, envFiles: [] }), variables);
}

function scenarioOf(
  { model, documents, diagnostics, settings }: CompileResult,
  variables: Readonly<Record<string, string>>,
): Scenario {
  if (!model || !documents) {
    const errors = diagnostics.flatMap(({ severity, message }) => (severity === 'error' ? [message] : []));
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
  const needed = neededVariables(documents, settings);
  const contentsOf = (paths: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.values(paths).map((path) => [path, readFileSync(path, 'utf8')]));
  const files = neededFiles(model);
  return {
    model,
    documents,
    environment: valuesOf(needed.apisix),
    collectorEnvironment: valuesOf(needed.collector),
    mountedFiles: contentsOf(files.apisix),
    collectorFiles: contentsOf(files.collector),
  };
}
