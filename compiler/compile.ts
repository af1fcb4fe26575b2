/** The whole pipeline, from variables to checked documents. Everything but reading variables and templates is pure. */
import {
  strict as asStrict,
  type Diagnostic,
  diagnostic,
  hasErrors,
  sortDiagnostics,
} from './diagnostics/diagnostic.ts';
import { type Documents, emitDocuments } from './emit/emit.ts';
import { withManifest } from './emit/manifest.ts';
import type { TemplateSources } from './emit/overrides.ts';
import { TemplateError, type TemplateOverrides } from './emit/templates.ts';
import { buildModel } from './model/build.ts';
import type { GatewayModel } from './model/model.ts';
import { checkDocuments } from './output/check.ts';
import { readTemplateFiles } from './output/template-files.ts';
import { parseSettings, type Settings } from './settings/parse.ts';
import { checkRules } from './settings/rules/index.ts';
import { Secret } from './settings/secret.ts';
import { type EnvFile, type RawSettings, readSources } from './settings/sources.ts';

export interface CompileOptions {
  /** Folder of the user's own templates. */
  readonly templates?: string | undefined;
  /** Warnings are errors. */
  readonly strict?: boolean;
  /** Inline secrets are shown as `[redacted]`. */
  readonly redact?: boolean;
}

export interface CompileInput extends CompileOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Later ones win; the environment wins over all. */
  readonly envFiles: readonly EnvFile[];
  /** Changes what was read, before it is looked at. */
  readonly adapt?: ((raw: RawSettings) => Promise<RawSettings>) | undefined;
}

export interface CompileResult {
  /** Sorted; with an error among them there are no documents. */
  readonly diagnostics: readonly Diagnostic[];
  readonly settings: Settings;
  /** Every variable that was read, ours or not, with its raw value: secrets too. */
  readonly variables: RawSettings['variables'];
  readonly model?: GatewayModel;
  readonly documents?: Documents;
  /** The same documents with every secret written in one way, whatever GATEWAY_SECRETS says. */
  readonly documentsWith?: (secrets: GatewayModel['server']['secrets']) => Documents | undefined;
}

/** Never throws on any input; what is wrong is in the diagnostics. */
export async function compile(input: CompileInput): Promise<CompileResult> {
  const given = readSources(input.environment, input.envFiles);
  return compileSettings(input.adapt ? await input.adapt(given) : given, input);
}

/** The same from variables that have been read. */
export async function compileSettings(raw: RawSettings, input: CompileOptions): Promise<CompileResult> {
  const { settings, diagnostics } = parseSettings(raw);
  const found = [...diagnostics];
  // Without an env file that was named, what is missing may well stand in it.
  const unread =
    settings.unusable.has('GATEWAY_ENV_FILES') ||
    raw.diagnostics.some(({ code }) => code === 'ENV_FILE_UNREADABLE' || code === 'ENV_FILE_NOT_TEXT');
  if (!unread) found.push(...checkRules(settings, (name) => raw.variables.has(name)));
  const { variables } = raw;
  const finish = (
    result: Omit<CompileResult, 'diagnostics' | 'settings' | 'variables'> = {},
  ): CompileResult => {
    const sorted = sortDiagnostics(input.strict ? asStrict(found) : found);
    return hasErrors(sorted)
      ? { diagnostics: sorted, settings, variables }
      : { diagnostics: sorted, settings, variables, ...result };
  };
  const overrides = await loadOverrides(input.templates, found);
  if (hasErrors(found)) return finish();
  const model = buildModel(settings);
  const documents = emit(model, overrides, input.redact ?? false, found);
  if (!documents) return finish();
  const { diagnostics: inDocuments, parsed } = await checkDocuments(documents, [
    ...overrides.templates.keys(),
  ]);
  found.push(...(model.server.secrets === 'inline' ? withoutSecrets(inDocuments, settings) : inDocuments));
  const documentsWith: CompileResult['documentsWith'] = (secrets) =>
    emit({ ...model, server: { ...model.server, secrets } }, overrides, false, []);
  return finish({
    model,
    documents: { ...documents, 'apisix.yaml': withManifest(documents['apisix.yaml'], parsed['apisix.yaml']) },
    documentsWith,
  });
}

/** A user's template can put a secret where its text would be named: as a key, say. */
function withoutSecrets(
  diagnostics: readonly Diagnostic[],
  { values, backends, clients }: Settings,
): Diagnostic[] {
  if (diagnostics.length === 0) return [];
  const secrets = [values, ...backends, ...clients]
    .flatMap((group) => Object.values<unknown>({ ...group }))
    .filter((value) => value instanceof Secret)
    .flatMap((secret) => [
      secret.reveal(),
      JSON.stringify(secret.reveal()).slice(1, -1),
      secret.reveal().replaceAll('~', '~0').replaceAll('/', '~1'),
    ]);
  const mask = (text: string) =>
    secrets.reduce((masked, secret) => masked.replaceAll(secret, '[redacted]'), text);
  return diagnostics.map((each) => ({ ...each, message: mask(each.message) }));
}

interface LoadedOverrides {
  readonly templates: TemplateOverrides;
  readonly sources: TemplateSources;
}

async function loadOverrides(folder: string | undefined, found: Diagnostic[]): Promise<LoadedOverrides> {
  if (folder === undefined) return { templates: new Map(), sources: new Map() };
  const read = readTemplateFiles(folder);
  if ('reason' in read) {
    found.push(diagnostic('TEMPLATES_UNREADABLE', { setting: folder }, { reason: read.reason }));
    return { templates: new Map(), sources: new Map() };
  }
  const { compileOverrides } = await import('./emit/overrides.ts');
  const { overrides, diagnostics } = await compileOverrides(read.sources);
  found.push(...diagnostics);
  return { templates: overrides, sources: read.sources };
}

function emit(
  model: GatewayModel,
  overrides: LoadedOverrides,
  redact: boolean,
  found: Diagnostic[],
): Documents | undefined {
  try {
    return emitDocuments(model, { overrides: overrides.templates, redact });
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    const override = overrides.sources.get(error.template);
    const path = override?.path;
    const line = error.line === undefined ? undefined : override?.text.split('\n')[error.line - 1];
    const [expression] = /\{\{json [^}]*\}\}/.exec(line ?? '') ?? [];
    const source =
      path === undefined
        ? undefined
        : { kind: 'file' as const, path, ...(error.line === undefined ? {} : { line: error.line }) };
    found.push(
      diagnostic(
        'TEMPLATE_BROKEN',
        { setting: error.template, source },
        { reason: expression === undefined ? error.message : `${expression}: ${error.message}` },
      ),
    );
    return undefined;
  }
}
