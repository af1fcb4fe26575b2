export const CONCERNS: Readonly<Record<string, readonly string[]>>;
export function fileOf(suite: string): string;
export function matches(glob: string, path: string): boolean;
export function concerned(
  changed: readonly string[] | undefined,
): { readonly suite: string; readonly because: readonly string[] }[];
