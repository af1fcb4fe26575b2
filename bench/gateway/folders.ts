/** Folders that gateways of benchmarks read at run time. */
import { chmodSync, mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Creates a folder that APISIX's user can read, or also write. */
export function newFolder(mode = 0o755): string {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-bench-'));
  chmodSync(folder, mode);
  return folder;
}

/** Replaces a file atomically. */
export function replaceFile(folder: string, name: string, text: string): void {
  const next = join(folder, '.next');
  writeFileSync(next, text);
  renameSync(next, join(folder, name));
}
