export interface Section {
  readonly date: string | undefined;
  readonly text: string;
}
export function sectionsOf(changelog: string): Map<string, Section>;
export function problemsOf(
  tag: string,
  given: { readonly version: string; readonly lockedVersion: string; readonly changelog: string },
): string[];
export function notesOf(tag: string, changelog: string): string | undefined;
