/** Settings compiled for a gateway in a container of this machine. */
import { accessSync, constants } from 'node:fs';
import { type CompileResult, compile } from '../../compile.ts';
import {
  type Diagnostic,
  diagnostic,
  hasErrors,
  sortDiagnostics,
  strict,
} from '../../diagnostics/diagnostic.ts';
import { type Documents, neededVariables } from '../../emit/emit.ts';
import { errnoText } from '../../errno.ts';
import type { GatewayModel } from '../../model/model.ts';
import type { Settings } from '../../settings/parse.ts';
import type { RawSettings } from '../../settings/sources.ts';
import { lackOfPorts } from '../mock.ts';
import { type CommonOptions, EXIT, formatOf, printReport, type Terminal } from '../terminal.ts';
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
  /** Of this machine's loopback; 0 for any that is free. */
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
  /** For APISIX's process alone. */
  readonly variables: Readonly<Record<string, string>>;
  /** Paths of files that it reads, the same inside and outside. */
  readonly files: readonly string[];
  readonly mocks: readonly (MockedBackend & { readonly port: number })[];
}

/** The settings, made for a container, compiled; or the exit code where they are not good. */
export async function prepare(options: UpOptions, terminal: Terminal): Promise<Prepared | number> {
  let raw: RawSettings | undefined;
  let mocks: Prepared['mocks'] = [];
  let tooMany: string | undefined;
  const adapt = async (given: RawSettings): Promise<RawSettings> => {
    raw = withSecretsAsVariables(given);
    if (!options.mock) return raw;
    const mocked = backendsToMock(raw);
    tooMany = lackOfPorts(mocked.length, options.mockPort);
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
    envFiles: options.envFile ?? [],
    templates: options.templates,
    adapt,
  });
  if (tooMany !== undefined) {
    terminal.err(tooMany);
    return EXIT.usage;
  }
  const { settings, model, documents } = result;
  const needed = documents && neededVariables(documents, settings).apisix;
  const value = (name: string) => raw?.variables.get(name)?.value ?? '';
  const files = needed ? filesToMount(settings, needed, value) : [];
  const found = diagnosticsOf(result, options, [
    ...(raw ? loopbackWarnings(raw) : []),
    ...files.flatMap((file) => file.problem ?? []),
  ]);
  await printReport(found, { ...options, format: formatOf(options, settings) }, terminal);
  if (hasErrors(found) || !model || !documents || !needed) return EXIT.diagnostics;
  const variables = Object.fromEntries(needed.map((name) => [name, value(name)]));
  return { settings, model, documents, variables, files: files.map(({ path }) => path), mocks };
}

function diagnosticsOf(
  { diagnostics }: CompileResult,
  { mock = false, strict: asErrors = false }: UpOptions,
  further: readonly Diagnostic[],
): Diagnostic[] {
  const found = sortDiagnostics([...diagnostics.filter((each) => !(mock && isAboutMocks(each))), ...further]);
  return asErrors ? sortDiagnostics(strict(found)) : found;
}

/** Files that APISIX itself opens; those of secrets are none of them. */
function filesToMount(
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
