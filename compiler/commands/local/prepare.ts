/** Compiles the settings for a gateway in a local container. */
import { accessSync, constants } from 'node:fs';
import { type CompileResult, compile } from '../../compile.ts';
import {
  type Diagnostic,
  diagnostic,
  hasErrors,
  sortDiagnostics,
  strict,
} from '../../diagnostics/diagnostic.ts';
import type { Documents } from '../../emit/emit.ts';
import { errnoText } from '../../errno.ts';
import { portRangeProblem } from '../../mock/start.ts';
import type { GatewayModel } from '../../model/model.ts';
import type { Settings } from '../../settings/parse.ts';
import type { RawSettings } from '../../settings/sources.ts';
import {
  type CommonOptions,
  EXIT,
  envFilesOf,
  formatOf,
  printReport,
  type Terminal,
  unreadEnvFile,
} from '../terminal.ts';
import { freePorts } from './docker.ts';
import {
  backendsToMock,
  isAboutMocks,
  loopbackWarnings,
  type MockedBackend,
  withMocks,
  withSecretsAsVariables,
} from './settings.ts';

export interface UpOptions extends CommonOptions {
  /** Port on 127.0.0.1; 0 for any free port. */
  readonly port: number;
  readonly metricsPort: number;
  readonly image: string;
  readonly mock?: boolean;
  readonly mockPort: number;
}

export interface Prepared {
  readonly settings: Settings;
  readonly model: GatewayModel;
  readonly documents: Documents;
  /** Variables for the APISIX process. */
  readonly variables: Readonly<Record<string, string>>;
  /** Paths of files that APISIX reads; the paths are the same inside and outside the container. */
  readonly files: readonly string[];
  readonly mocks: readonly (MockedBackend & { readonly port: number })[];
}

/**
 * Adapts the settings to a container and compiles them.
 * @returns the exit code if they have errors
 */
export async function prepare(options: UpOptions, terminal: Terminal): Promise<Prepared | number> {
  let raw: RawSettings | undefined;
  let mocks: Prepared['mocks'] = [];
  let tooMany: string | undefined;
  const adapt = async (given: RawSettings): Promise<RawSettings> => {
    raw = withSecretsAsVariables(given);
    if (!options.mock) return raw;
    const mocked = backendsToMock(raw);
    tooMany = portRangeProblem(mocked.length, options.mockPort);
    const ports =
      options.mockPort === 0
        ? await freePorts(mocked.length)
        : mocked.map((_, position) => options.mockPort + position);
    mocks = mocked.map((each, position) => ({ ...each, port: ports[position] ?? 0 }));
    raw = withMocks(raw, mocked, ports);
    return raw;
  };
  const result = await compile({
    environment: terminal.environment,
    envFiles: envFilesOf(options),
    templates: options.templates,
    adapt,
    // With mocks, placeholders in the replaced backends are not an error.
    toRun: options.mock === true ? undefined : 'now',
  });
  if (tooMany !== undefined) {
    terminal.err(tooMany);
    return EXIT.usage;
  }
  const { settings, model, documents, needs } = result;
  const needed = needs?.variables.apisix;
  const value = (name: string) => raw?.variables.get(name)?.value ?? '';
  const files = needed ? filesToMount(settings, needed, value) : [];
  const found = diagnosticsOf(result, options, [
    ...(raw ? loopbackWarnings(raw) : []),
    ...unreadEnvFile(result.diagnostics, options, terminal),
    ...files.flatMap((file) => file.problem ?? []),
  ]);
  await printReport(found, { ...options, format: formatOf(options, settings) }, terminal);
  if (hasErrors(found) || !model || !documents || !needed) return EXIT.diagnostics;
  const variables = Object.fromEntries(needed.map((name) => [name, value(name)]));
  return { settings, model, documents, variables, files: files.map(({ path }) => path), mocks };
}

function diagnosticsOf(
  { diagnostics, settings }: CompileResult,
  { mock = false, strict: asErrors = settings.values.GATEWAY_STRICT, allow }: UpOptions,
  further: readonly Diagnostic[],
): Diagnostic[] {
  const found = sortDiagnostics([...diagnostics.filter((each) => !(mock && isAboutMocks(each))), ...further]);
  return asErrors ? sortDiagnostics(strict(found, allow)) : found;
}

/** Files that APISIX opens itself. Secret files are not among them: their values become variables. */
export function filesToMount(
  { values, sources }: Settings,
  needed: readonly string[],
  value: (name: string) => string,
): { readonly path: string; readonly problem?: Diagnostic }[] {
  const named = [
    ...(values.GATEWAY_TRUSTED_CA_FILE === undefined
      ? []
      : [['GATEWAY_TRUSTED_CA_FILE', values.GATEWAY_TRUSTED_CA_FILE] as const]),
    ...needed
      .filter((name) => name === 'AZURE_FEDERATED_TOKEN_FILE')
      .map((name) => [name, value(name).trim()] as const),
  ];
  return named.map(([setting, path]) => {
    try {
      accessSync(path, constants.R_OK);
      return { path };
    } catch (error) {
      const place = { setting, source: sources.get(setting), received: path };
      return {
        path,
        problem: diagnostic('FILE_NOT_FOR_CONTAINER', place, { reason: errnoText(error) }),
      };
    }
  });
}
