import { Secret } from '../settings/secret.ts';
import { type CommonOptions, compileAndReport, EXIT, type Terminal } from './terminal.ts';

export const PREVIEWS = ['apisix', 'config', 'collector', 'model', 'settings'] as const;
export type Preview = (typeof PREVIEWS)[number];

const DOCUMENTS = { apisix: 'apisix.yaml', config: 'config.yaml', collector: 'otel-collector.yaml' } as const;

/** Prints what would be written, or a stage before it; secrets as references or redacted. */
export async function preview(what: Preview, options: CommonOptions, terminal: Terminal): Promise<number> {
  const { settings, model, documents } = await compileAndReport(options, terminal, { redact: true });
  if (!model || !documents) return EXIT.diagnostics;
  if (what === 'settings') {
    const { values, backends, clients } = settings;
    terminal.out(asJson({ ...values, backends, clients }));
  } else {
    terminal.out(what === 'model' ? asJson(model) : documents[DOCUMENTS[what]]);
  }
  return EXIT.ok;
}

/** A secret says only whose it is: which variable or file it came from. */
function asJson(value: object): string {
  return `${JSON.stringify(withNamedSecrets(value), null, 2)}\n`;
}

function withNamedSecrets(value: unknown): unknown {
  if (value instanceof Secret)
    return `[redacted: ${value.file !== undefined ? `${value.variable}_FILE` : value.variable}]`;
  if (Array.isArray(value)) return value.map(withNamedSecrets);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, withNamedSecrets(each)]));
  }
  return value;
}
