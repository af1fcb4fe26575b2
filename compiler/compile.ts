/**
 * The whole pipeline, from variables to checked documents. All of it is pure, except for reading variables and
 * templates.
 */
import type { DiagnosticCode } from './diagnostics/catalog.ts';
import {
  strict as asStrict,
  type Diagnostic,
  diagnostic,
  hasErrors,
  sortDiagnostics,
} from './diagnostics/diagnostic.ts';
import { type Documents, type Emitted, emitDocuments, type Needs } from './emit/emit.ts';
import { withManifest } from './emit/manifest.ts';
import type { TemplateSources } from './emit/overrides.ts';
import { TemplateError, type TemplateOverrides } from './emit/templates.ts';
import { buildModel } from './model/build.ts';
import type { GatewayModel } from './model/model.ts';
import { checkDocuments } from './output/check.ts';
import { readTemplateFiles } from './output/template-files.ts';
import { parseSettings, type Settings } from './settings/parse.ts';
import { checkRules } from './settings/rules/index.ts';
import { runTimeVariables } from './settings/run-time.ts';
import { Secret } from './settings/secret.ts';
import { type EnvFile, isUnreadFile, type RawSettings, readSources } from './settings/sources.ts';

export interface CompileOptions {
  /** Folder of the user's own templates. */
  readonly templates?: string | undefined;
  /** Treat warnings as errors: always, never, or if GATEWAY_STRICT is set. Default: never. */
  readonly strict?: boolean | 'as-set';
  /** Codes that stay warnings with `strict`. */
  readonly allow?: readonly DiagnosticCode[] | undefined;
  /** The documents will be used by a gateway, so placeholders are errors; `now`: also an example as a whole. */
  readonly toRun?: 'later' | 'now' | undefined;
  /** Show inline secrets as `[redacted]`. */
  readonly redact?: boolean;
}

export interface CompileInput extends CompileOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Later files win; the environment overrides all files. */
  readonly envFiles: readonly EnvFile[];
  /** Changes the variables before they are parsed. */
  readonly adapt?: ((raw: RawSettings) => Promise<RawSettings>) | undefined;
}

export interface CompileResult {
  /** Sorted. If one is an error, there are no documents. */
  readonly diagnostics: readonly Diagnostic[];
  readonly settings: Settings;
  /** All variables that were read, including foreign ones, with raw values and secrets. */
  readonly variables: RawSettings['variables'];
  readonly model?: GatewayModel;
  readonly documents?: Documents;
  /** Variables that the APISIX and collector processes need, including those that the gateway reads at run time. */
  readonly needs?: Needs;
  /** The user's own templates, to render the model again in another form. */
  readonly overrides?: TemplateOverrides;
}

/** Reads and compiles the settings. Never throws: errors are in the diagnostics. */
export async function compile(input: CompileInput): Promise<CompileResult> {
  const given = readSources(input.environment, input.envFiles);
  return compileSettings(input.adapt ? await input.adapt(given) : given, input);
}

/** Compiles variables that were already read. */
export async function compileSettings(raw: RawSettings, input: CompileOptions): Promise<CompileResult> {
  const { settings, diagnostics } = parseSettings(raw);
  const found = [...diagnostics];
  // If an env file could not be read, missing settings may be in it, so rules about missing settings do not run.
  const unread = settings.unusable.has('GATEWAY_ENV_FILES') || raw.diagnostics.some(isUnreadFile);
  if (!unread) {
    const broken = checkRules(settings, (name) => raw.variables.has(name));
    found.push(...broken.map((each) => asRejected(each, input.toRun)));
  }
  const { variables } = raw;
  const finish = (
    result: Omit<CompileResult, 'diagnostics' | 'settings' | 'variables'> = {},
  ): CompileResult => {
    const isStrict = input.strict === 'as-set' ? settings.values.GATEWAY_STRICT : input.strict;
    const sorted = sortDiagnostics(isStrict ? asStrict(found, input.allow) : found);
    return hasErrors(sorted)
      ? { diagnostics: sorted, settings, variables }
      : { diagnostics: sorted, settings, variables, ...result };
  };
  const overrides = await loadOverrides(input.templates, found);
  if (hasErrors(found)) return finish();
  const secrets = settings.values.GATEWAY_SECRETS;
  const model = buildModel(settings, secrets === 'inline' && input.redact ? 'redacted' : secrets);
  const emitted = emit(model, overrides, found);
  if (!emitted) return finish();
  const { documents, needs } = emitted;
  const { diagnostics: inDocuments, parsed } = await checkDocuments(
    documents,
    [...overrides.templates.keys()],
    secrets === 'inline' ? secretsOf(settings) : [],
  );
  found.push(...inDocuments);
  return finish({
    model,
    documents: { ...documents, 'apisix.yaml': withManifest(documents['apisix.yaml'], parsed['apisix.yaml']) },
    needs: {
      ...needs,
      variables: {
        ...needs.variables,
        apisix: [...needs.variables.apisix, ...runTimeVariables(settings)],
      },
    },
    overrides: overrides.templates,
  });
}

const asRejected = (each: Diagnostic, toRun: CompileOptions['toRun']): Diagnostic => {
  const isRejected =
    (each.code === 'PLACEHOLDER' && toRun !== undefined) ||
    (each.code === 'EXAMPLE_SETTINGS' && toRun === 'now');
  return isRejected ? { ...each, severity: 'error' } : each;
};

function secretsOf({ values, backends, clients }: Settings): Secret[] {
  return [values, ...backends, ...clients]
    .flatMap((group) => Object.values<unknown>({ ...group }))
    .filter((value) => value instanceof Secret);
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

function emit(model: GatewayModel, overrides: LoadedOverrides, found: Diagnostic[]): Emitted | undefined {
  try {
    return emitDocuments(model, overrides.templates);
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
