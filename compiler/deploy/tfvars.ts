/** To be replaced by the reader of the branch that builds `import`. */
export async function readTfvars(
  path: string,
): Promise<{ readonly values: Readonly<Record<string, unknown>> } | { readonly reason: string }> {
  const { readFileSync } = await import('node:fs');
  try {
    return { values: JSON.parse(readFileSync(path, 'utf8')) };
  } catch {
    return { reason: `${path} cannot be read.` };
  }
}
