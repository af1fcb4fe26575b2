import { readdirSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import type { TemplateSources } from '../emit/overrides.ts';
import { errnoText } from '../errno.ts';

/** Reads the user's own templates: every `.hbs` file below a folder. */
export function readTemplateFiles(folder: string): { sources: TemplateSources } | { reason: string } {
  try {
    const sources = new Map<string, { path: string; text: string }>();
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
      if (!file.endsWith('.hbs')) continue;
      const path = join(folder, file);
      sources.set(file.slice(0, -'.hbs'.length).split(sep).join('/'), {
        path,
        text: readFileSync(path, 'utf8'),
      });
    }
    return sources.size > 0 ? { sources } : { reason: 'it holds no .hbs file' };
  } catch (error) {
    return { reason: errnoText(error) };
  }
}
