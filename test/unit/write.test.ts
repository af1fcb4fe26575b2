import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DOCUMENT_NAMES, type Documents } from '../../compiler/emit/emit.ts';
import { writeDocuments } from '../../compiler/output/write.ts';
import { GOOD } from '../support/workspace.ts';

const documents = (version: string): Documents => ({
  'config.yaml': `config: ${version}\n`,
  'otel-collector.yaml': `collector: ${version}\n`,
  'apisix.yaml': `apisix: ${version}\n#END\n`,
});

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-write-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const read = (name: string) => readFileSync(join(folder, name), 'utf8');
const stat = (name: string) => statSync(join(folder, name));
const second = (name: string) => Math.floor(stat(name).mtimeMs / 1000);

describe('a set of documents', () => {
  test('is written completely, into a new folder', () => {
    folder = join(folder, 'a', 'b');
    expect(writeDocuments(folder, documents('1'), 0o644)).toMatchObject({
      ok: true,
      outcomes: { 'apisix.yaml': 'written' },
    });
    for (const name of DOCUMENT_NAMES) expect(read(name)).toBe(documents('1')[name]);
    expect(readdirSync(folder).sort()).toEqual([...DOCUMENT_NAMES].sort());
  });

  test.each([0o644, 0o640])('has its file mode whatever the umask is: %o', (mode) => {
    const before = process.umask(0o077);
    try {
      writeDocuments(folder, documents('1'), mode);
    } finally {
      process.umask(before);
    }
    for (const name of DOCUMENT_NAMES) expect(stat(name).mode & 0o777).toBe(mode);
  });

  test('keeps unchanged files untouched, but corrects their mode', () => {
    writeDocuments(folder, documents('1'), 0o644);
    const before = DOCUMENT_NAMES.map((name) => [stat(name).ino, stat(name).mtimeMs]);
    chmodSync(join(folder, 'apisix.yaml'), 0o600);
    expect(writeDocuments(folder, documents('1'), 0o644)).toMatchObject({
      outcomes: {
        'config.yaml': 'unchanged',
        'otel-collector.yaml': 'unchanged',
        'apisix.yaml': 'unchanged',
      },
    });
    expect(DOCUMENT_NAMES.map((name) => [stat(name).ino, stat(name).mtimeMs])).toEqual(before);
    expect(stat('apisix.yaml').mode & 0o777).toBe(0o644);
  });

  test('never has two versions with the same second in their times', () => {
    const seconds = new Set<number>();
    for (let version = 0; version < 5; version++) {
      writeDocuments(folder, documents(String(version)), 0o644);
      seconds.add(second('apisix.yaml'));
    }
    expect(seconds.size).toBe(5);
  });

  test('gets a later time than a file from the future', () => {
    writeDocuments(folder, documents('1'), 0o644);
    const future = Math.floor(Date.now() / 1000) + 3600;
    utimesSync(join(folder, 'apisix.yaml'), future, future);
    writeDocuments(folder, documents('2'), 0o644);
    expect(second('apisix.yaml')).toBe(future + 1);
  });

  test.each(DOCUMENT_NAMES)('is not written at all when %s cannot be written', (blocked) => {
    writeDocuments(folder, documents('1'), 0o644);
    rmSync(join(folder, blocked));
    mkdirSync(join(folder, blocked, 'in-the-way'), { recursive: true });
    expect(writeDocuments(folder, documents('2'), 0o644)).toMatchObject({
      ok: false,
      path: join(folder, blocked),
    });
    for (const name of DOCUMENT_NAMES) if (name !== blocked) expect(read(name)).toBe(documents('1')[name]);
    expect(readdirSync(folder).sort()).toEqual([...DOCUMENT_NAMES].sort());
  });

  test('cannot be written below a file, and the reason is reported', () => {
    writeFileSync(join(folder, 'file'), '');
    expect(writeDocuments(join(folder, 'file', 'out'), documents('1'), 0o644)).toEqual({
      ok: false,
      path: join(folder, 'file', 'out'),
      // Node's versions report this case differently.
      reason: expect.stringMatching(/^(?:a part of the path is not a folder|a file is in the way)$/),
    });
    expect(existsSync(join(folder, 'file', 'out'))).toBe(false);
  });

  test('keeps the owner of an existing file, and links within the folder', () => {
    writeDocuments(folder, documents('1'), 0o640);
    const elsewhere = join(folder, 'versions');
    mkdirSync(elsewhere);
    try {
      renameSync(join(folder, 'apisix.yaml'), join(elsewhere, 'real.yaml'));
      symlinkSync(join(elsewhere, 'real.yaml'), join(folder, 'apisix.yaml'));
      // Only root may give files away. Any user may give a file to itself.
      const [uid, gid] =
        process.getuid?.() === 0 ? [0, 636] : [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
      chownSync(join(elsewhere, 'real.yaml'), uid, gid);
      expect(writeDocuments(folder, documents('2'), 0o640)).toMatchObject({ ok: true });
      expect(lstatSync(join(folder, 'apisix.yaml')).isSymbolicLink()).toBe(true);
      expect(readFileSync(join(elsewhere, 'real.yaml'), 'utf8')).toBe(documents('2')['apisix.yaml']);
      expect(statSync(join(elsewhere, 'real.yaml'))).toMatchObject({ uid, gid });
      expect(readdirSync(elsewhere)).toEqual(['real.yaml']);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  test('is not written through a link that leads out of the folder, whatever path names the folder', () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'genai-gateway-elsewhere-'));
    try {
      const victim = join(realpathSync(elsewhere), 'victim');
      writeFileSync(victim, 'a secret', { mode: 0o600 });
      for (const name of DOCUMENT_NAMES) {
        rmSync(folder, { recursive: true });
        writeDocuments(folder, documents('1'), 0o644);
        rmSync(join(folder, name));
        symlinkSync(victim, join(folder, name));
        expect(writeDocuments(folder, documents('2'), 0o644)).toEqual({
          ok: false,
          path: join(folder, name),
          reason: `it is a symbolic link to ${victim}, outside of the folder: remove the link, or render to ${dirname(victim)}`,
        });
        expect(readFileSync(victim, 'utf8')).toBe('a secret');
        expect(statSync(victim).mode & 0o777).toBe(0o600);
        for (const each of DOCUMENT_NAMES)
          if (each !== name) expect(readFileSync(join(folder, each), 'utf8')).toBe(documents('1')[each]);
      }
      const byLink = join(elsewhere, 'link');
      rmSync(folder, { recursive: true });
      mkdirSync(folder);
      symlinkSync(folder, byLink);
      expect(writeDocuments(byLink, documents('1'), 0o644)).toMatchObject({ ok: true });
      expect(writeDocuments(byLink, documents('2'), 0o644)).toMatchObject({ ok: true });
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  test('removes files and the lock of a render that was killed', () => {
    writeDocuments(folder, documents('1'), 0o640);
    for (const left of ['.apisix.yaml.99.abc.new', '.config.yaml.99.abc.old', '.genai-gateway.lock']) {
      writeFileSync(join(folder, left), 'a key');
    }
    utimesSync(join(folder, '.genai-gateway.lock'), 1, 1);
    expect(writeDocuments(folder, documents('2'), 0o640)).toMatchObject({ ok: true });
    expect(readdirSync(folder).sort()).toEqual([...DOCUMENT_NAMES].sort());
  });

  test('is always complete from one render when several run at once', async () => {
    const module = fileURLToPath(new URL('../../dist/genai-gateway.cjs', import.meta.url));
    const render = (name: string) =>
      new Promise((resolve) => {
        const env = {
          ...GOOD,
          OTEL_SERVICE_NAME: name,
          ENVIRONMENT: name,
          OTEL_COLLECTOR_ENDPOINT: '127.0.0.1:4318',
        };
        spawn(process.execPath, ['--', module, 'render', '--quiet', '--out', folder], { env }).on(
          'exit',
          resolve,
        );
      });
    for (let round = 0; round < 5; round++) {
      const codes = await Promise.all(['a', 'b', 'c', 'd'].map((each) => render(`${each}${round}`)));
      expect(codes).toEqual([0, 0, 0, 0]);
      const [, winner = ''] = /service.name: "(..)"/.exec(read('apisix.yaml')) ?? [];
      expect(read('otel-collector.yaml')).toContain(`"value": "${winner}"`);
    }
  });
});
