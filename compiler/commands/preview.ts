import { Argument, InvalidArgumentError } from 'commander';
import { hiding } from '../diagnostics/keys.ts';
import { settingValues } from '../settings/names.ts';
import { Secret } from '../settings/secret.ts';
import type { Command } from './command.ts';
import { settingsOptions } from './options.ts';
import { type CommonOptions, compileAndReport, EXIT, type Terminal } from './terminal.ts';

export const PREVIEWS = ['apisix', 'config', 'collector', 'model', 'settings'] as const;
type Preview = (typeof PREVIEWS)[number];

export const command: Command<CommonOptions, Preview> = {
  description: 'Print a document without writing it. Secrets appear as references or redacted.',
  examples: [
    'genai-gateway preview -e .env',
    'genai-gateway preview collector -e .env',
    'genai-gateway preview model -e .env | jq .backends',
  ],
  argument: new Argument('[what]', 'a document, or the model or settings from which it is made')
    .choices(PREVIEWS)
    .argParser(previewOf)
    .default('apisix'),
  options: settingsOptions(),
  run: ({ argument, options, terminal }) => preview(argument, options, terminal),
};

const DOCUMENTS = { apisix: 'apisix.yaml', config: 'config.yaml', collector: 'otel-collector.yaml' } as const;

/** Accepts the name of a preview, or the name of a rendered file with or without `.yaml`. */
function previewOf(value: string): Preview {
  const file = value.replace(/\.yaml$/, '');
  const known = PREVIEWS.find((each) => each === value || each === file);
  const document = Object.entries(DOCUMENTS).find(([, name]) => name === `${file}.yaml`)?.[0] as
    | Preview
    | undefined;
  const found = document ?? known;
  if (found === undefined)
    throw new InvalidArgumentError(
      `Allowed choices are ${PREVIEWS.join(', ')}, and the names of the rendered files.`,
    );
  return found;
}

/** Prints a document, the model or the settings. Secrets are references or redacted. */
async function preview(what: Preview, options: CommonOptions, terminal: Terminal): Promise<number> {
  const { settings, model, documents, variables } = await compileAndReport(options, terminal, {
    redact: true,
  });
  if (!model || !documents) return EXIT.diagnostics;
  const hide = hiding(settingValues(variables));
  if (what === 'settings') {
    const { values, backends, clients } = settings;
    terminal.out(hide(asJson({ ...values, backends, clients })));
  } else {
    terminal.out(hide(what === 'model' ? asJson(model) : documents[DOCUMENTS[what]]));
  }
  return EXIT.ok;
}

/** A secret appears only as the name of its variable. */
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
