/** Renders the model as three documents. Pure. */
import type { GatewayModel } from '../model/model.ts';
import type { DocumentName } from '../settings/declaration.ts';
import { limitRules } from './apisix/limit-rules.ts';
import { usedPlugins } from './apisix/plugins.ts';
import { apisixFiles, type FilesBySetting, filesOf } from './apisix/secret-files.ts';
import { apisixView } from './apisix/view.ts';
import { collectorView } from './collector.ts';
import { configView } from './config.ts';
import { APISIX, COLLECTOR, type ProcessEncoding } from './encodings.ts';
import { renderTemplate, type TemplateOverrides } from './templates.ts';

export type { DocumentName };

/** In the order in which they are written. */
export const DOCUMENT_NAMES: readonly DocumentName[] = ['config.yaml', 'otel-collector.yaml', 'apisix.yaml'];
export type Documents = Readonly<Record<DocumentName, string>>;

type ByProcess<T> = Readonly<Record<'apisix' | 'collector', T>>;

/** The variables and files that the documents refer to, and that the processes need. */
export interface Needs {
  /** Variables in the order of the documents. */
  readonly variables: ByProcess<readonly string[]>;
  /** Secret files. */
  readonly files: ByProcess<FilesBySetting>;
}

export interface Emitted {
  readonly documents: Documents;
  readonly needs: Needs;
}

/** @throws TemplateError when a template uses a value that does not exist */
export function emitDocuments(model: GatewayModel, overrides: TemplateOverrides = new Map()): Emitted {
  const rules = limitRules(model);
  const uses = usedPlugins(model, rules);
  const apisix = new Writer(APISIX, overrides);
  const collector = new Writer(COLLECTOR, overrides);
  return {
    documents: {
      'config.yaml': apisix.write('config.yaml', configView(model, uses)),
      'otel-collector.yaml': collector.write('otel-collector.yaml', collectorView(model)),
      'apisix.yaml': apisix.write('apisix.yaml', apisixView(model, rules, uses)),
    },
    needs: {
      variables: { apisix: [...apisix.variables], collector: [...collector.variables] },
      files: {
        apisix: apisixFiles(model, uses),
        collector: filesOf([model.telemetry.collector.applicationInsights]),
      },
    },
  };
}

/** Renders the documents of one process and collects the variables that they refer to. */
class Writer {
  readonly variables = new Set<string>();
  readonly #encoding: ProcessEncoding;
  readonly #overrides: TemplateOverrides;

  constructor(encoding: ProcessEncoding, overrides: TemplateOverrides) {
    this.#overrides = overrides;
    this.#encoding = {
      ...encoding,
      secret: (secret) => {
        if (secret.form.kind === 'variable') this.variables.add(secret.variable);
        return encoding.secret(secret);
      },
    };
  }

  write(name: DocumentName, view: object): string {
    const text = renderTemplate(name, view, this.#encoding, this.#overrides);
    // A user's template can contain a literal reference, which does not pass through the encoding.
    if (this.#overrides.size > 0)
      for (const [, variable = ''] of text.matchAll(this.#encoding.variable)) this.variables.add(variable);
    return text;
  }
}
