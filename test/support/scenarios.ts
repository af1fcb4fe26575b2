/** The golden scenarios that give documents, compiled for tests of the running gateway. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse as parseDotenv } from 'dotenv';
import { type CompileResult, compile } from '../../compiler/compile.ts';
import { type Documents, referencedVariables } from '../../compiler/emit/emit.ts';
import type { GatewayModel } from '../../compiler/model/model.ts';

const GOLDEN = fileURLToPath(new URL('../golden/', import.meta.url));

export interface Scenario {
  readonly model: GatewayModel;
  readonly documents: Documents;
  /** What APISIX's own process needs, by the compiler's own account: nothing else of the settings reaches it. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Names of the golden scenarios that give documents. */
export function goodScenarios(): string[] {
  if (!existsSync(GOLDEN)) return [];
  return readdirSync(GOLDEN)
    .filter((name) => existsSync(`${GOLDEN}${name}/expected/apisix.yaml`))
    .sort();
}

export async function compileGolden(name: string): Promise<Scenario> {
  const file = `${GOLDEN}${name}/input.env`;
  const result = await compile({ environment: {}, envFiles: [file] });
  return scenarioOf(result, parseDotenv(readFileSync(file, 'utf8')));
}

export async function compileVariables(variables: Readonly<Record<string, string>>): Promise<Scenario> {
  return scenarioOf(await compile({ environment: variables, envFiles: [] }), variables);
}

function scenarioOf(
  { model, documents, diagnostics }: CompileResult,
  variables: Readonly<Record<string, string>>,
): Scenario {
  if (!model || !documents)
    throw new Error(`these settings give no documents: ${JSON.stringify(diagnostics, null, 2)}`);
  const environment = Object.fromEntries(
    referencedVariables(documents).apisix.map((name) => {
      const value = variables[name];
      if (value === undefined) throw new Error(`apisix.yaml refers to ${name}, which is not set`);
      return [name, value];
    }),
  );
  return { model, documents, environment };
}
