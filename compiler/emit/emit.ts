/** Writes the model down: three documents as text. Pure. */
import type { GatewayModel } from '../model/model.ts';
import { runTimeVariables } from '../settings/effective.ts';
import type { Settings } from '../settings/parse.ts';
import type { Secret } from '../settings/secret.ts';
import { apisixSecretFiles, apisixView, configView } from './apisix.ts';
import { collectorView } from './collector.ts';
import type { Encoding } from './json.ts';
import { apisixReference, collectorReference } from './references.ts';
import { renderTemplate, type TemplateOverrides } from './templates.ts';

export const DOCUMENT_NAMES = ['config.yaml', 'otel-collector.yaml', 'apisix.yaml'] as const;
export type DocumentName = (typeof DOCUMENT_NAMES)[number];
export type Documents = Readonly<Record<DocumentName, string>>;

export interface EmitOptions {
  readonly overrides?: TemplateOverrides | undefined;
  /** Inline secrets are shown as `[redacted]`: for output that is looked at, not used. */
  readonly redact?: boolean;
}

/** @throws TemplateError when a template names a value that is not there. */
export function emitDocuments(
  model: GatewayModel,
  { overrides, redact = false }: EmitOptions = {},
): Documents {
  const render = (name: DocumentName, view: object, encoding: Encoding) =>
    renderTemplate(name, view, encoding, overrides);
  const inline = model.server.secrets === 'inline';
  const written = (secret: Secret) => (redact ? '[redacted]' : secret.reveal());
  const apisix: Encoding = {
    text: (value) => value,
    secret: (secret) => (inline ? written(secret) : apisixReference(secret)),
  };
  const collector: Encoding = {
    text: escapeDollars,
    secret: (secret) => (inline ? escapeDollars(written(secret)) : collectorReference(secret)),
  };
  return {
    'config.yaml': render('config.yaml', configView(model), apisix),
    'otel-collector.yaml': render('otel-collector.yaml', collectorView(model), collector),
    'apisix.yaml': render('apisix.yaml', apisixView(model), apisix),
  };
}

/** The collector expands `$NAME` and `${…}` anywhere in its file; `$$` is a dollar sign. */
const escapeDollars = (value: string) => value.replaceAll('$', '$$$$');

/**
 * The variables that APISIX's and the collector's own processes must have: those that the documents refer to, in their
 * order, then those that the gateway itself reads.
 */
export function neededVariables(
  documents: Documents,
  settings: Settings,
): { apisix: string[]; collector: string[] } {
  const unique = (text: string, pattern: RegExp) => [
    ...new Set([...text.matchAll(pattern)].map(([, name = '']) => name)),
  ];
  return {
    apisix: [...unique(documents['apisix.yaml'], /"\$env:\/\/([A-Z0-9_]+)"/g), ...runTimeVariables(settings)],
    collector: unique(documents['otel-collector.yaml'], /"\$\{env:([A-Z0-9_]+)\}"/g),
  };
}

/** The files of secrets that APISIX's and the collector's own processes must be able to read: paths by setting. */
export function neededFiles(model: GatewayModel): Record<'apisix' | 'collector', Record<string, string>> {
  const insights = model.telemetry.collector.applicationInsights;
  return {
    apisix: apisixSecretFiles(model),
    collector:
      model.server.secrets === 'reference' && insights?.file !== undefined
        ? { [insights.variable]: insights.file }
        : {},
  };
}
