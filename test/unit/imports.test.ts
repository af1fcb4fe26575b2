import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The relative imports of a file, as paths from the root of the repository. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const specifiers = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\(\s*)['"](\.[^'"]+)['"]/g);
  return [...specifiers].map(([, specifier = '']) =>
    relative(ROOT, join(ROOT, dirname(file), specifier))
      .split(sep)
      .join('/'),
  );
}

describe('the imports of compiler/', () => {
  const files = readdirSync(join(ROOT, 'compiler'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|mts|mjs|cjs)$/.test(file))
    .map((file) => `compiler/${file.split(sep).join('/')}`);
  const imports = files.flatMap((file) => importsOf(file).map((imported) => ({ file, imported })));

  it('are found in its source files', () => {
    expect(imports).toContainEqual({ file: 'compiler/main.ts', imported: 'compiler/cli.ts' });
    expect(imports).toContainEqual({ file: 'compiler/cli.ts', imported: 'compiler/commands/mock.ts' });
    expect(imports).toContainEqual({
      file: 'compiler/commands/mock.ts',
      imported: 'compiler/mock/start.ts',
    });
  });

  it('lead only to compiler/, schemas and the example env files, because the image is built from nothing else', () => {
    const inImage = /^(compiler\/|examples\/[\w-]+\.env$|schemas\/[\w.-]+\.json$)/;
    const outside = imports.filter(({ imported }) => !inImage.test(imported));
    expect(outside).toEqual([]);
  });
});
