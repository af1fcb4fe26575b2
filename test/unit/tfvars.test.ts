/** Reading files of values for Terraform's variables, compared with Terraform itself where it is installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseTfvars, readTfvars } from '../../compiler/deploy/tfvars.ts';
import { cannotRun } from '../support/requirements.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-tfvars-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileWith(text: string | Buffer): string {
  const path = join(folder, 'given.tfvars');
  writeFileSync(path, text);
  return path;
}

async function valuesOf(text: string): Promise<unknown> {
  const read = await readTfvars(fileWith(text));
  expect(read).toHaveProperty('values');
  return 'values' in read ? read.values : undefined;
}

/** Files that Terraform reads, with the values that it reads. */
const READABLE: Readonly<Record<string, readonly [text: string, values: Readonly<Record<string, unknown>>]>> =
  {
    'an empty file': ['', {}],
    'a file with comments only': ['# one\n// two\n/* three\n */\n', {}],
    'no line break at the end': ['a = 1', { a: 1 }],
    'texts with escapes': [
      'a = "x$${y}"\nb = "%%{if}"\nc = "l\\n\\"q\\" \\u00e9 \\\\ \\t|"\nd = "$$ $x % %x %%"\n',
      { a: 'x${y}', b: '%{if}', c: 'l\n"q" é \\ \t|', d: '$$ $x % %x %%' },
    ],
    heredocs: [
      'a = <<EOT\n  one\n  two "q" \\n\n\nEOT\nb = <<-EOT\n   in\n  two\n  EOT\nc = <<X\nX\nd = <<EOT\nx $${y} z\nEOT\n',
      { a: '  one\n  two "q" \\n\n\n', b: ' in\ntwo\n', c: '', d: 'x ${y} z\n' },
    ],
    'heredocs in maps and lists': [
      'm = {\n A = <<EOT\nx\nEOT\n B = 1\n}\nl = [<<EOT\nx\nEOT\n, "y"]\nz = 3\n',
      { m: { A: 'x\n', B: 1 }, l: ['x\n', 'y'], z: 3 },
    ],
    'comments between everything': [
      '# a "x\n// d {\n/* e "\n */\na = 1 # t "\nm = { # x\n // y "\n A = 1 # z\n /* q */ B = 2\n}\n',
      { a: 1, m: { A: 1, B: 2 } },
    ],
    'numbers, booleans and null': [
      'a = null\nb = 1.50\nc = true\nd = -5\ne = 0.10\nf = 007\n',
      { a: null, b: 1.5, c: true, d: -5, e: 0.1, f: 7 },
    ],
    'maps in every form': [
      'm = { A = "1", "B" : 2, D = { E = [1, "x", null] } }\nn = {\n A = 1,\n B = 2,\n}\no = { 1 = 2 }\np = { null = 1, true = 2 }\n',
      {
        m: { A: '1', B: 2, D: { E: [1, 'x', null] } },
        n: { A: 1, B: 2 },
        o: { '1': 2 },
        p: { null: 1, true: 2 },
      },
    ],
    'a name twice in a map, of which the last one counts': ['m = {\n A = 1\n A = 2\n}\n', { m: { A: 2 } }],
    'a byte order mark and the line ends of Windows': [
      '\uFEFFa = "1"\r\nb = {\r\n C = "2"\r\n}\r\n',
      { a: '1', b: { C: '2' } },
    ],
    'letters of every script': [
      'ä_1-x = "ü€😀"\nm = { "naïve-☃" = "日本" }\n',
      { 'ä_1-x': 'ü€😀', m: { 'naïve-☃': '日本' } },
    ],
    'tabs and parentheses': [
      '\ta\t=\t("x")\t\nl = [\n  { a = 1 }, {\n b = 2\n }\n]\n',
      { a: 'x', l: [{ a: 1 }, { b: 2 }] },
    ],
  };

/** Files that Terraform does not read, and the line of the mistake. */
const UNREADABLE: Readonly<Record<string, readonly [text: string, line: number, message: RegExp]>> = {
  'an interpolation': ['a = "1"\nb = "x${y}z"\n', 2, /interpolation/],
  'an interpolation in a heredoc': ['a = 1\nb = <<EOT\nx ${y} z\nEOT\n', 3, /interpolation/],
  'an interpolation in the name of an entry': ['m = { "a${b}" = 1 }\n', 1, /interpolation/],
  'the name of a variable': ['a = 1\nb = var.b\n', 2, /expression/],
  'a text without quotes': ['a = 1\nb = foo\n', 2, /a name, not a value/],
  'a function': ['a = upper("x")\n', 1, /expression/],
  'a name in parentheses as the name of an entry': ['m = { (C) = 3 }\n', 1, /name of this entry/],
  'a quote that is not closed': ['a = 1\nb = {\n C = "x\n D = "y"\n}\n', 3, /quote is not closed/],
  'a bracket that is not closed': ['a = 1\nb = [1,\nc = 2\n', 2, /\[ is not closed/],
  'a bracket that closes nothing': ['a = 1\n}\n', 2, /closes nothing/],
  'brackets in the wrong order': ['m = {\n a = [1\n}\n', 3, /line 2 opens \[/],
  'a heredoc without an end': ['a = 1\nb = <<EOT\nx\ny\n', 2, /no end/],
  'a comment without an end': ['a = 1\n/* x', 2, /comment has no end/],
  'two assignments on one line': ['a = 1 b = 2\n', 1, /second assignment/],
  'two entries on one line': ['m = { A = 1 B = 2 }\n', 1, /two entries/],
  'a value on the next line': ['a =\n 1\n', 1, /not on the line of its name/],
  'an assignment without a value': ['a = 1\nb = \nc = 2\n', 2, /not an assignment/],
  'an assignment without its sign': ['x = 2\na 1\nc = 2\n', 2, /not an assignment/],
  'an entry without its sign': [
    'm = {\n A = "1"\n B = "2"\n C "3"\n D = "4"\n}\nn = 1\n',
    4,
    /not an assignment/,
  ],
  'two values': ['a = "x" "y"\n', 1, /not an assignment/],
  'a list without commas': ['z = 1\na = [1 2]\n', 2, /not an assignment/],
  'an escape that does not exist': ['a = 1\nb = "\\q"\n', 2, /not an assignment/],
  'single quotes': ["a = 'x'\n", 1, /not an assignment/],
  'a semicolon': ['a = 1;\n', 1, /not an assignment/],
  'a variable twice': ['a = 1\na = 2\n', 2, /line 1 sets it too/],
  'a block': ['a = 1\nm {\n a = 1\n}\n', 2, /is a block/],
  JSON: ['{"a": 1}\n', 1, /JSON/],
};

describe('a file of values', () => {
  test.each(Object.entries(READABLE))('is read: %s', async (_, [text, values]) => {
    expect(await valuesOf(text)).toEqual(values);
  });

  test.each(Object.entries(UNREADABLE))('is refused with the line: %s', async (_, [text, line, message]) => {
    const { problems } = await parseTfvars(text);
    expect(problems?.[0]).toMatchObject({ line, message: expect.stringMatching(message) });
    expect(await readTfvars(fileWith(text))).toEqual({
      reason: expect.stringMatching(new RegExp(`given\\.tfvars:${line}: `)),
    });
  });

  test('is refused for expressions that Terraform evaluates', async () => {
    const { problems } = await parseTfvars('a = 1 + 2\nb = true ? 1 : 2\nc = [for x in [1] : x]\n');
    expect(problems?.map(({ line }) => line)).toEqual([1, 2, 3]);
  });

  test('is refused if it is missing, a folder, or not UTF-8', async () => {
    expect(await readTfvars(join(folder, 'missing.tfvars'))).toEqual({
      reason: expect.stringContaining('it does not exist'),
    });
    expect(await readTfvars(folder)).toEqual({ reason: expect.stringContaining('it is a folder') });
    for (const bytes of [Buffer.from('a = "x"', 'utf16le'), Buffer.from([0x61, 0x3d, 0xff])]) {
      expect(await readTfvars(fileWith(bytes))).toEqual({ reason: expect.stringContaining('UTF-8') });
    }
  });

  test('never shows a value in a problem', async () => {
    const planted = 'plantedValue';
    const texts = [
      `a = ${planted}\n`,
      `a = "${planted}\n`,
      `a = { B = "${planted}" C = "${planted}" }\n`,
      `a = "${planted}" "${planted}"\n`,
      `${'a = 1\n'}b = "${planted}\${x}"\n`,
      `a = f("${planted}")\n`,
    ];
    for (const text of texts) {
      const { problems } = await parseTfvars(text);
      expect(problems, text).toBeDefined();
      expect(JSON.stringify(problems), text).not.toContain(planted);
    }
  });

  test('keeps numbers that JavaScript cannot hold', async () => {
    expect(await valuesOf('a = 12345678901234567890\nb = 123456789\n')).toEqual({
      a: '12345678901234567890',
      b: 123456789,
    });
  });

  test('is read and refused in moderate time when it is large', async () => {
    const entries = Array.from({ length: 5_000 }, (_, index) => `  NAME_${index} = "value ${index}"`);
    const text = (all: readonly string[]) => `m = {\n${all.join('\n')}\n}\n`;
    const started = Date.now();
    const good = await parseTfvars(text(entries));
    expect(good.variables?.[0]?.value).toMatchObject({ kind: 'map', entries: { length: 5_000 } });
    const bad = await parseTfvars(text([...entries.slice(0, 4000), '  BROKEN "x"', ...entries.slice(4000)]));
    expect(bad.problems).toMatchObject([{ line: 4002 }]);
    expect(Date.now() - started).toBeLessThan(60_000);
  }, 90_000);

  test('has for each variable its text, the comments above, and whether a group begins', async () => {
    const { variables } = await parseTfvars(
      '# head\n\n# of a\na = 1 # not kept\nb = [\n 1, # kept\n]\n\nc = 3\n',
    );
    expect(
      variables?.map(({ name, source, comments, beginsGroup }) => [name, source, comments, beginsGroup]),
    ).toEqual([
      ['a', 'a = 1', '# head\n# of a\n', true],
      ['b', 'b = [\n 1, # kept\n]', '', false],
      ['c', 'c = 3', '', true],
    ]);
  });
});

describe.skipIf(cannotRun('the reader of .tfvars against Terraform', 'terraform_program'))(
  'Terraform itself',
  () => {
    /** What Terraform has for the variables that have a value in the file; undefined: it does not read the file. */
    function byTerraform(text: string, names: readonly string[]): unknown {
      const declared = names.map((name) => `variable "${name}" {\n type = any\n default = null\n}\n`);
      writeFileSync(join(folder, 'main.tf'), declared.join(''));
      const path = fileWith(text);
      const { status, stdout } = spawnSync(
        process.env.TERRAFORM || 'terraform',
        ['console', '-no-color', '-var-file', path],
        {
          cwd: folder,
          input: `jsonencode({${names.map((name) => `"${name}" = var.${name}`).join(', ')}})\n`,
          encoding: 'utf8',
        },
      );
      return status === 0 ? JSON.parse(JSON.parse(stdout)) : undefined;
    }

    test('reads the same values', () => {
      for (const [what, [text, values]] of Object.entries(READABLE)) {
        expect(byTerraform(text, Object.keys(values)), what).toEqual(values);
      }
    }, 300_000);

    test('does not read the files that are refused', () => {
      for (const [what, [text]] of Object.entries(UNREADABLE)) {
        const names = [...text.matchAll(/^(\w+) =/gm)].map(([, name = '']) => name);
        expect(byTerraform(text, [...new Set(names)]), what).toBeUndefined();
      }
    }, 300_000);
  },
);
