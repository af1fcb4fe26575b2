/** The pages agree with the repository and with the program. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { COMMAND_NAMES } from '../../compiler/cli.ts';
import { runCli } from '../support/cli.ts';
import { ROOT, repositoryFiles, textOf } from '../support/repository.ts';

const pages = repositoryFiles('*.md');

/** Relative targets of a page's links and images, outside of code blocks. */
const linksOf = (page: string): string[] =>
  [
    ...textOf(page)
      .replace(/^```.*?^```$/gms, '')
      .matchAll(/\]\(([^)\s]+)\)/g),
  ]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target));

/** The anchors of a page's headings, as GitHub derives them. */
const anchorsOf = (file: string): string[] =>
  [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replaceAll(' ', '-'),
  );

test('finds the pages and their links', () => {
  expect(pages).toEqual(
    expect.arrayContaining(['README.md', 'AGENTS.md', 'docs/settings.md', 'docs/traces.md']),
  );
  expect(pages.length).toBeGreaterThan(20);
  expect(pages.flatMap(linksOf).length).toBeGreaterThan(80);
});

test.each(pages)('every link of %s leads to an existing file and heading', (page) => {
  for (const target of linksOf(page)) {
    const [file = '', anchor] = target.split('#');
    const path = file === '' ? join(ROOT, page) : join(ROOT, dirname(page), file);
    expect(existsSync(path), target).toBe(true);
    if (anchor !== undefined) expect(anchorsOf(path), target).toContain(anchor);
  }
});

test('docs/README.md lists each page of docs/ once', () => {
  const listed = linksOf('docs/README.md').filter((target) => !target.startsWith('../'));
  const others = pages.filter((page) => page.startsWith('docs/') && page !== 'docs/README.md');
  expect(listed.map((target) => `docs/${target}`).sort()).toEqual(others.sort());
});

/** The generated pages and the index, which do not name their readers. */
const WITHOUT_READERS = [
  'docs/README.md',
  'docs/settings.md',
  'docs/diagnostics.md',
  'docs/client-errors.md',
];

test.each(pages.filter((page) => page.startsWith('docs/') && !WITHOUT_READERS.includes(page)))(
  '%s begins with whom it is for and what it answers',
  (page) => {
    const [heading = '', first = ''] = textOf(page).split('\n\n');
    expect(heading).toMatch(/^# \S/);
    expect(first.replaceAll('\n', ' ')).toMatch(/^\*\*For\*\* .+\. \*\*Answers:\*\* .+\.$/);
    expect(first.split('\n').length).toBeLessThan(4);
  },
);

describe('YAML and JSON blocks in the pages', () => {
  const shown = pages.flatMap((page) =>
    [...textOf(page).matchAll(/^```(yaml|json)\n(.*?)^```$/gms)].map(([, language, code = '']) => ({
      page,
      language,
      code,
    })),
  );

  test('are found', () => {
    expect(shown.length).toBeGreaterThan(5);
  });

  test.each(shown)('can be parsed in $page: $language', ({ code }) => {
    // Strict JSON is YAML. A page may spread it over several lines.
    expect(parse(code)).toBeTypeOf('object');
  });
});

test('docs/commands.md and --help list exactly the commands of the program', () => {
  const commands = COMMAND_NAMES.filter((name) => name !== 'container').sort();
  const listed = (page: string, pattern: RegExp) =>
    [...page.matchAll(pattern)].map(([, name = '']) => name).sort();
  expect(listed(textOf('docs/commands.md'), /^\| `([a-z0-9]+)\b/gm)).toEqual(commands);
  const [, help = ''] = /^Commands:\n(.*?)^\S/ms.exec(runCli(['--help']).stdout) ?? [];
  expect(listed(help, /^ {2}([a-z0-9]+)\b/gm)).toEqual([...commands, 'help'].sort());
});
