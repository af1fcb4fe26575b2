/** Escapes text for Markdown as GitHub, GitLab and Azure DevOps render it. Pure. */

/** Escapes newlines and terminal escapes. */
const tamed = (text: string): string =>
  text.replace(/\p{C}/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);

/** Inline code that stays code, even if the text contains backticks. */
export function code(text: string): string {
  const tame = tamed(text);
  if (tame.trim() === '') return '` `';
  const longest = Math.max(0, ...[...tame.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  const padding = longest > 0 || /^ | $/.test(tame) ? ' ' : '';
  return `${fence}${padding}${tame}${padding}${fence}`;
}

/** Inline code in a table, where a pipe ends the cell even in code. */
export const cell = (text: string): string => code(text).replaceAll('|', '\\|');

/** Plain words that may come from files: escapes markup, links and mentions. */
export const plain = (text: string): string => tamed(text).replace(/[\\`*_{}[\]<>|~@#!&]/g, '\\$&');
