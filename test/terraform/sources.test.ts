/** What the files under deploy/ may never say, whatever Terraform thinks of it. */
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, repositoryFiles, textOf } from '../support/repository.ts';

interface Finding {
  readonly file: string;
  readonly line: number;
  readonly says: string;
}

/** Comments may name what is forbidden, and say why. Lines are kept, for findings. */
const withoutComments = (text: string): string =>
  text
    .replaceAll(/^\s*(?:#|\/\/).*$/gm, '')
    .replaceAll(/\/\*[\s\S]*?\*\//g, (all) => all.replaceAll(/[^\n]/g, ''));

const files = repositoryFiles('deploy')
  .filter((file) => /\.(?:tf|tfvars|hcl|example)$/.test(file))
  .map((file) => ({ file, text: withoutComments(textOf(file)) }));

const every = (pattern: RegExp, { file, text }: (typeof files)[number]): Finding[] =>
  [...text.matchAll(pattern)].map((match) => ({
    file,
    line: text.slice(0, match.index).split('\n').length,
    says: match[0].trim().replaceAll(/\s+/g, ' '),
  }));

/** Tests may name what they expect not to be there. */
const found = (...patterns: readonly RegExp[]): Finding[] =>
  files
    .filter(({ file }) => !file.endsWith('.tftest.hcl'))
    .flatMap((each) => patterns.flatMap((pattern) => every(pattern, each)));

test('there are files to look at', () => {
  expect(files.length).toBeGreaterThan(50);
});

test('every module that is called is a folder below deploy/', () => {
  const calls = files.flatMap(({ file, text }) =>
    [...text.matchAll(/^\s*module\s+(?:"[^"]+"\s*)?\{[\s\S]*?^\s*source\s*=\s*"([^"]*)"/gm)].map(
      ([, source = '']) => ({
        file,
        source,
      }),
    ),
  );
  expect(calls.length).toBeGreaterThan(0);
  const elsewhere = calls.filter(({ file, source }) => {
    if (!/^\.\.?\//.test(source)) return true;
    // A test names a module as seen from the folder that terraform runs in.
    const from = file.endsWith('.tftest.hcl') ? dirname(dirname(file)) : dirname(file);
    const folder = normalize(join(from, source));
    return !folder.startsWith('deploy/') || !existsSync(join(ROOT, folder));
  });
  expect(elsewhere).toEqual([]);
});

describe('no role gives more than a gateway needs', () => {
  /** Each can make roles, or change or remove what it likes. */
  const GENERAL = {
    Owner: '8e3af657-a8ff-443c-a75c-2fe8c4bcb635',
    Contributor: 'b24988ac-6180-42a0-ab88-20f7382dd24c',
    'User Access Administrator': '18d7d88d-d35e-4fb5-a5c3-7773c20a72d9',
    'Role Based Access Control Administrator': 'f58310d9-a9f6-439a-9e8d-f62e7b41a168',
    'Log Analytics Contributor': '92aaf0da-9dab-42b6-94a3-d43ce8d16293',
    'Monitoring Contributor': '749f88d5-cbae-40b8-bcfc-e573ddc772fa',
  };

  test.each(Object.entries(GENERAL))('%s is assigned nowhere, by its name or its id', (name, id) => {
    expect(found(new RegExp(`"${name}"`, 'g'), new RegExp(id, 'gi'))).toEqual([]);
  });

  test('the only role of a contributor is for the blobs of the state', () => {
    const contributors = found(/"[A-Z][\w ]*Contributor"/g).filter(
      ({ says }) => says !== '"Storage Blob Data Contributor"',
    );
    expect(contributors).toEqual([]);
  });

  test('no role is assigned on a subscription or a management group', () => {
    const subscription = [
      /^\s*(?:scope|parent_id)\s*=.*data\.azurerm_subscription\b.*$/gm,
      /^\s*(?:scope|parent_id)\s*=.*\bsubscription_id\b(?!.*resourceGroups).*$/gm,
      /^\s*(?:scope|parent_id)\s*=\s*"\/subscriptions\/[^/"]+"\s*$/gm,
      /^\s*(?:scope|parent_id)\s*=.*management_?group.*$/gim,
    ];
    expect(found(...subscription)).toEqual([]);
  });
});

test('no value looks like the key of anything', () => {
  expect(
    found(
      /\b[0-9a-f]{32}\b(?!-)/g,
      /\b[A-Za-z0-9+/]{86}==/g,
      /(?:AccountKey|SharedAccessSignature|InstrumentationKey)=[^"<$.\s;]+/g,
    ),
  ).toEqual([]);
});

test('every exception from a lint has its reason: in the same line, the comment before it, or the description after it', () => {
  const excepted = repositoryFiles('deploy').flatMap((file) => {
    const lines = textOf(file).split('\n');
    return lines.flatMap((line, index) => {
      const [, reason] = /(?:checkov:skip=\w+|tflint-ignore: *\w+)(.*)$/.exec(line) ?? [];
      const before = lines.slice(0, index).findLast((each) => each.trim() !== '') ?? '';
      const after =
        /description *= "(Unused\b.*)"/.exec(lines.slice(index + 1, index + 3).join('\n'))?.[1] ?? '';
      return reason === undefined
        ? []
        : [{ file, line: index + 1, reason: `${reason}${before.replace(/^[^#]*/, '')}${after}` }];
    });
  });
  expect(excepted.length).toBeGreaterThan(0);
  expect(excepted.filter(({ reason }) => !/\w+ \w+|^Unused/.test(reason))).toEqual([]);
});
