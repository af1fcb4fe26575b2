/** Reads the files for `diff --against`: rendered files, or an env file. */
import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { STANDARD_INPUT } from '../diagnostics/diagnostic.ts';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { errnoText } from '../errno.ts';
import { type FileContent, MAX_ENV_FILE_BYTES, readStandardInput, readText } from '../settings/sources.ts';

export type Against =
  | {
      readonly kind: 'folder' | 'file';
      readonly documents: Partial<Documents>;
    }
  | { readonly kind: 'env-file'; readonly path: string; readonly text: string };

/** The largest document that is read, in bytes: about ten times one with 10,000 clients. */
const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;

/** Reads each path only once, because it may be a pipe; `-` is standard input. Never throws. */
export function readAgainst(path: string): Against | { readonly reason: string } {
  if (path === '-') return contentOf(STANDARD_INPUT, readStandardInput(MAX_DOCUMENT_BYTES));
  try {
    if (!statSync(path).isDirectory()) return contentOf(path, readText(path, MAX_DOCUMENT_BYTES));
  } catch (error) {
    return { reason: errnoText(error) };
  }
  const documents: Partial<Record<DocumentName, string>> = {};
  for (const name of DOCUMENT_NAMES) {
    const file = join(path, name);
    if (!statSync(file, { throwIfNoEntry: false })) continue;
    const content = readText(file, MAX_DOCUMENT_BYTES);
    if ('reason' in content) return { reason: `${name}: ${content.reason}` };
    documents[name] = content.text;
  }
  return Object.keys(documents).length > 0
    ? { kind: 'folder', documents }
    : { reason: `it holds none of ${DOCUMENT_NAMES.join(', ')}` };
}

function contentOf(path: string, content: FileContent): Against | { readonly reason: string } {
  if ('reason' in content) return content;
  const { text } = content;
  if (text.includes('\0')) return { reason: 'it is no text' };
  const document = recognise(basename(path), text);
  if (document) return { kind: 'file', documents: { [document]: text } };
  if (/\.(?:ya?ml|json)$/i.test(path)) return { reason: `it is none of ${DOCUMENT_NAMES.join(', ')}` };
  return text.length > MAX_ENV_FILE_BYTES
    ? { reason: `it is no rendered file, and has more than ${MAX_ENV_FILE_BYTES} bytes` }
    : { kind: 'env-file', path, text };
}

/** Top-level keys that only one kind of document has. */
const KEYS: Readonly<Record<DocumentName, RegExp>> = {
  'apisix.yaml': /^(?:services|routes|plugin_metadata)$/,
  'config.yaml': /^(?:deployment|apisix|nginx_config|plugin_attr)$/,
  'otel-collector.yaml': /^(?:receivers|processors|exporters|service)$/,
};

/** The kind of document, by file name, else by top-level keys; undefined if unknown. */
function recognise(name: string, text: string): DocumentName | undefined {
  const named = DOCUMENT_NAMES.find((each) => each === name);
  if (named) return named;
  const keys = [...text.matchAll(/^(["']?)([a-z_]+)\1:(?:\s|$)/gm)].map(([, , key = '']) => key);
  return DOCUMENT_NAMES.find((each) => keys.some((key) => KEYS[each].test(key)));
}
