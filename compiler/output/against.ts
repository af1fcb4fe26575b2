/** Reads what the settings are compared with: rendered files, or an env file. */
import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { errnoText } from '../errno.ts';
import { MAX_ENV_FILE_BYTES, readText } from '../settings/sources.ts';

export type Against =
  | {
      readonly kind: 'folder' | 'file';
      readonly documents: Partial<Documents>;
    }
  | { readonly kind: 'env-file'; readonly path: string; readonly text: string };

/** The largest document that is read: some ten times one of 10,000 clients. */
const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;

/** Reads each path once, so that it may be a pipe. Never throws. */
export function readAgainst(path: string): Against | { readonly reason: string } {
  try {
    if (!statSync(path).isDirectory()) return readFile(path);
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

function readFile(path: string): Against | { readonly reason: string } {
  const content = readText(path, MAX_DOCUMENT_BYTES);
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

/** Keys that one document has at its outside and the others have not. */
const KEYS: Readonly<Record<DocumentName, RegExp>> = {
  'apisix.yaml': /^(?:services|routes|consumers|plugin_metadata)$/,
  'config.yaml': /^(?:deployment|apisix|nginx_config|plugin_attr)$/,
  'otel-collector.yaml': /^(?:receivers|processors|exporters|service)$/,
};

/** Which document it is, by its name or else by the keys at its outside; undefined: none. */
function recognise(name: string, text: string): DocumentName | undefined {
  const named = DOCUMENT_NAMES.find((each) => each === name);
  if (named) return named;
  const keys = [...text.matchAll(/^(["']?)([a-z_]+)\1:(?:\s|$)/gm)].map(([, , key = '']) => key);
  return DOCUMENT_NAMES.find((each) => keys.some((key) => KEYS[each].test(key)));
}
