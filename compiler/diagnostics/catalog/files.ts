/** Diagnostics about templates, documents, and files to read and write. */
import { error, list } from './entry.ts';

export const files = {
  TEMPLATES_UNREADABLE: error((a: { reason: string }, name) => ({
    message: `the templates cannot be read: ${a.reason}`,
    expected: 'a readable folder of templates',
    hint: `check --templates ${name}`,
  })),
  TEMPLATE_UNKNOWN: error((a: { nearest?: string | undefined }, name) => ({
    message: `${name} does not override any template`,
    expected: 'the name of a template of this version',
    hint: a.nearest ? `did you mean ${a.nearest}?` : 'see templates/ for the names',
  })),
  TEMPLATE_BROKEN: error((a: { reason: string }) => ({
    message: `the template is not usable: ${a.reason}`,
    expected: 'a Handlebars template',
    hint: 'compare it with the template of this version that it overrides',
  })),
  TEMPLATE_RAW_VALUE: error((a: { expression: string }) => ({
    message: `${a.expression} writes a value without encoding it, which can break the document or change its meaning`,
    expected: '{{json value}}',
    hint: `write {{json ${a.expression.replace(/[{}]/g, '').trim()}}}`,
  })),
  DOCUMENT_NOT_YAML: error((a: { reason: string; overridden: readonly string[] }, name) => ({
    message: `${name} is not valid YAML: ${a.reason}`,
    expected: 'a document that APISIX can read',
    hint: overridden(a.overridden),
  })),
  DOCUMENT_INVALID: error((a: { path: string; problem: string; overridden: readonly string[] }, name) => ({
    message: `${name} is not valid at ${a.path || '/'}: ${a.problem}`,
    expected: 'only fields and values that APISIX 3.18 and the collector support',
    hint: overridden(a.overridden),
  })),
  APISIX_REJECTS: error(
    (a: { problem: string; causes: readonly string[]; overridden: readonly string[] }, name) => ({
      message: `APISIX does not load all of ${name}: ${a.problem}${a.causes.length > 0 ? `. Its error log: ${a.causes.join(' | ')}` : ''}`,
      expected: 'documents that APISIX loads completely',
      hint: overridden(a.overridden),
    }),
  ),
  FILE_EXISTS: error((_, name) => ({
    message: `${name} already exists`,
    expected: 'a file that does not exist yet',
    hint: 'choose another file name, or remove the file',
  })),
  TFVARS_UNREADABLE: error((a: { reason: string }, name) => ({
    message: `the file cannot be read: ${a.reason}`,
    expected: "a readable file of values for Terraform's variables, of at most 4 MiB",
    hint: `check the path ${name}`,
  })),
  TFVARS_INVALID: error((a: { problem: string; fix: string }) => ({
    message: a.problem,
    expected: 'NAME = VALUE, as Terraform reads it in a file of values, without expressions',
    hint: `${a.fix}; no file was written`,
  })),
  AGAINST_UNREADABLE: error((a: { reason: string }, name) => ({
    message: `${name} cannot be compared: ${a.reason}`,
    expected: 'a folder with rendered files, one of them, or an env file',
    hint: 'check the path given with --against',
  })),
  OUTPUT_UNWRITABLE: error((a: { reason: string }, name) => ({
    message: `${name} cannot be written: ${a.reason}`,
    expected: 'a folder that can be written',
    hint: 'give this user write access (in a container: mount a volume there), or choose another --out; no file was changed',
  })),
};

const overridden = (templates: readonly string[]) =>
  templates.length > 0
    ? `check your own templates: ${list(templates)}`
    : 'this is a bug in genai-gateway: please report it with this message';
