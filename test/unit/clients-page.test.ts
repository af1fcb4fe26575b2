/** The snippets of docs/clients.md are the ones that the tests of real clients run. */
import { expect, test } from 'vitest';
import { CLIENT_PACKAGES } from '../support/client-packages.ts';
import { NODE_SNIPPETS, PAGE, snippetsOf } from '../support/clients.ts';
import { textOf } from '../support/repository.ts';

const page = textOf(PAGE);

test('the tests use exactly the named code blocks of docs/clients.md', () => {
  const shown = [...page.matchAll(/^```\w+ (\S+)$/gm)].map(([, name]) => name);
  const used = [
    ...['openai_and_langchain.py', 'main.go', 'Main.java'].flatMap(snippetsOf),
    ...Object.keys(NODE_SNIPPETS),
    ...['codex', 'opencode', 'tls'],
  ];
  expect(shown.sort()).toEqual(used.sort());
  expect(page).not.toMatch(/^```(?!$)\w+$/m);
});

test('docs/clients.md names exactly the tested versions', () => {
  const table = [...page.matchAll(/^\| \[(\S+).*?\]\(#.*?\) \| (\S+) \|$/gm)].map(([, , version]) => version);
  const tested = Object.values(CLIENT_PACKAGES).flatMap(({ packages }) =>
    Object.entries(packages)
      .filter(([name]) => name !== '@langchain/core')
      .map(([, version]) => version),
  );
  expect(table.sort()).toEqual(tested.sort());
});
