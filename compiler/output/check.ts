/** Parses each rendered document like APISIX and the collector, and validates it against its closed schema. Pure. */

import { apisix, collector, config } from 'virtual:validators';
import type { ErrorObject } from 'ajv';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { clientLines } from '../emit/client-lines.ts';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import type { Secret } from '../settings/secret.ts';
import { readRendered } from './read-rendered.ts';

const IS_VALID = {
  'config.yaml': config,
  'otel-collector.yaml': collector,
  'apisix.yaml': apisix,
} as const;

/** Most diagnostics about one document: further ones only repeat the first. */
const MAX_DIAGNOSTICS = 20;

export interface Checked {
  readonly diagnostics: readonly Diagnostic[];
  /** The parsed documents; undefined for one that cannot be parsed. */
  readonly parsed: Readonly<Record<DocumentName, unknown>>;
}

/**
 * Validates the documents. `overridden` names the user's own templates, which are then the likely cause. `secrets` are
 * the inline secrets, which must be hidden in diagnostics: a template can write a secret into a place that is quoted.
 */
export async function checkDocuments(
  documents: Documents,
  overridden: readonly string[] = [],
  secrets: readonly Secret[] = [],
): Promise<Checked> {
  const hide = hiding(secrets);
  const checked = await Promise.all(
    DOCUMENT_NAMES.map(async (name) => ({
      name,
      ...(await checkDocument(name, documents[name], overridden, hide)),
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
  hide: (text: string) => string,
): Promise<{ diagnostics: Diagnostic[]; document?: unknown }> {
  const notYaml = (reason: string) => ({
    diagnostics: [diagnostic('DOCUMENT_NOT_YAML', { setting: name }, { reason: hide(reason), overridden })],
  });
  if (name === 'apisix.yaml' && !text.slice(-10).includes('#END'))
    return notYaml('#END is not within its last 10 bytes');
  const template = name === 'otel-collector.yaml' ? -1 : text.indexOf('${{');
  if (template !== -1)
    return notYaml(
      `line ${text.slice(0, template).split('\n').length} holds \${{, which APISIX would replace`,
    );
  const parsed = await readDocument(name, text, overridden.length > 0);
  if ('reason' in parsed) return notYaml(parsed.reason);
  const { document } = parsed;
  if (IS_VALID[name](document)) return { diagnostics: [], document };
  const { documentErrors } = await import('../libraries.ts');
  const { errorsOf } = await documentErrors();
  const diagnostics = errorsOf(name, document)
    .filter((each) => each.keyword !== 'if')
    .slice(0, MAX_DIAGNOSTICS)
    .map((each) =>
      diagnostic(
        'DOCUMENT_INVALID',
        { setting: name },
        { path: hide(each.instancePath), problem: hide(problem(each)), overridden },
      ),
    );
  return { diagnostics, document };
}

/** Hides secrets in a text, in every form in which a diagnostic can contain them. */
function hiding(secrets: readonly Secret[]): (text: string) => string {
  const forms = secrets
    .map((secret) => secret.reveal())
    .flatMap((value) => [
      value,
      JSON.stringify(value).slice(1, -1),
      value.replaceAll('~', '~0').replaceAll('/', '~1'),
    ])
    // Longest first, because one secret can be the beginning of another.
    .sort((a, b) => b.length - a.length);
  return (text) => forms.reduce((masked, form) => masked.replaceAll(form, '[redacted]'), text);
}

type Read = { document: unknown } | { reason: string };

/**
 * Parses a document, with its clients as a list: rendered documents with the fast reader, others with a full parser.
 */
export async function readDocument(name: DocumentName, text: string, isOverridden = false): Promise<Read> {
  const read = (isOverridden ? undefined : readRendered(text)) ?? (await readYaml(text));
  return name === 'apisix.yaml' && 'document' in read ? withClients(read.document, text) : read;
}

function withClients(document: unknown, text: string): Read {
  const isMapping = typeof document === 'object' && document !== null && !Array.isArray(document);
  if (isMapping && 'clients' in document)
    return {
      reason: 'clients is no key there: clients are comments that begin with # genai-gateway client:',
    };
  const clients: unknown[] = [];
  for (const { number, json } of clientLines(text)) {
    try {
      clients.push(JSON.parse(json));
    } catch {
      // The parser's message may quote a key.
      return { reason: `line ${number}: the client is not a JSON object` };
    }
  }
  return { document: isMapping && clients.length > 0 ? { ...document, clients } : document };
}

/** Parses as YAML 1.1, like libyaml in APISIX and the collector. A repeated key is an error. */
export async function readYaml(text: string): Promise<Read> {
  const { yaml } = await import('../libraries.ts');
  const { parseDocument } = await yaml();
  try {
    const parsed = parseDocument(text, { version: '1.1', uniqueKeys: true, prettyErrors: true });
    const [error] = parsed.errors;
    if (!error) return { document: parsed.toJS() };
    const line = error.linePos?.[0].line;
    return {
      reason: `${line === undefined ? '' : `line ${line}: `}${error.message.split('\n')[0]?.replace(/ at line .*$/, '')}`,
    };
  } catch {
    // Deep nesting exhausts the stack, and nested aliases exhaust the memory.
    return { reason: 'it is nested too deeply, or its aliases expand to too much' };
  }
}

/** An error of Ajv as text. It never contains the value, which may be a secret. */
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
