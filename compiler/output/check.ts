/** Reads each document back as APISIX and the collector would, and holds it against its closed schema. Pure. */

import { apisix, collector, config } from 'virtual:validators';
import type { ErrorObject } from 'ajv';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { readRendered } from './read-rendered.ts';

const VALIDATORS = {
  'config.yaml': config,
  'otel-collector.yaml': collector,
  'apisix.yaml': apisix,
} as const;

/** More findings than this about one document only repeat themselves. */
const MAX_FINDINGS = 20;

export interface Checked {
  readonly diagnostics: readonly Diagnostic[];
  /** What a reader makes of each document; undefined where it is none. */
  readonly parsed: Readonly<Record<DocumentName, unknown>>;
}

/** Findings about documents; `overridden` names the user's own templates, where the cause then is. */
export async function checkDocuments(
  documents: Documents,
  overridden: readonly string[] = [],
): Promise<Checked> {
  const checked = await Promise.all(
    DOCUMENT_NAMES.map(async (name) => ({
      name,
      ...(await checkDocument(name, documents[name], overridden)),
    })),
  );
  return {
    diagnostics: checked.flatMap(({ diagnostics }) => diagnostics),
    parsed: Object.fromEntries(checked.map(({ name, document }) => [name, document])) as Checked['parsed'],
  };
}

async function checkDocument(
  name: DocumentName,
  text: string,
  overridden: readonly string[],
): Promise<{ diagnostics: Diagnostic[]; document?: unknown }> {
  const notYaml = (reason: string) => ({
    diagnostics: [diagnostic('DOCUMENT_NOT_YAML', { setting: name }, { reason, overridden })],
  });
  if (name === 'apisix.yaml' && !text.slice(-10).includes('#END'))
    return notYaml('#END is not within its last 10 bytes');
  const template = name === 'otel-collector.yaml' ? -1 : text.indexOf('${{');
  if (template !== -1)
    return notYaml(
      `line ${text.slice(0, template).split('\n').length} holds \${{, which APISIX would replace`,
    );
  const parsed = overridden.length === 0 ? await readDocument(text) : await readYaml(text);
  if ('reason' in parsed) return notYaml(parsed.reason);
  const validate = VALIDATORS[name];
  const { document } = parsed;
  if (validate(document)) return { diagnostics: [], document };
  const diagnostics = (validate.errors ?? [])
    .filter((each) => each.keyword !== 'if')
    .slice(0, MAX_FINDINGS)
    .map((each) =>
      diagnostic(
        'DOCUMENT_INVALID',
        { setting: name },
        { path: each.instancePath, problem: problem(each), overridden },
      ),
    );
  return { diagnostics, document };
}

/** Reads a document: our own by the quick reader, others by a full one. */
export const readDocument = async (text: string): Promise<{ document: unknown } | { reason: string }> =>
  readRendered(text) ?? (await readYaml(text));

/** YAML 1.1, as libyaml in APISIX and the collector's reader take it; a repeated key is an error. */
export async function readYaml(text: string): Promise<{ document: unknown } | { reason: string }> {
  const { parseDocument } = await import('yaml');
  try {
    const parsed = parseDocument(text, { version: '1.1', uniqueKeys: true, prettyErrors: true });
    const [error] = parsed.errors;
    if (!error) return { document: parsed.toJS() };
    const line = error.linePos?.[0].line;
    return {
      reason: `${line === undefined ? '' : `line ${line}: `}${error.message.split('\n')[0]?.replace(/ at line .*$/, '')}`,
    };
  } catch {
    // Neither the stack nor the memory holds what this one says.
    return { reason: 'it is nested too deeply, or its aliases lead to too much' };
  }
}

/** An Ajv finding in words; never the value itself, which may be a secret. */
function problem({ keyword, message = 'is not valid', params }: ErrorObject): string {
  switch (keyword) {
    case 'additionalProperties':
      return `${JSON.stringify(params.additionalProperty)} is not known there`;
    case 'enum':
      return `must be one of ${params.allowedValues.join(', ')}`;
    case 'const':
      return `must be ${JSON.stringify(params.allowedValue)}`;
    case 'false schema':
      return 'has no effect there';
    default:
      return message;
  }
}
