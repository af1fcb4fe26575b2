/** Files that are read anew only when they may hold something else, so that asking hundreds of them is cheap. */
import { createHash } from 'node:crypto';
import { type BigIntStats, statSync } from 'node:fs';
import { type FileContent, type ReadFile, readText } from '../settings/sources.ts';

interface Known {
  readonly maxBytes: number;
  readonly content: FileContent;
  readonly signature: string;
  /** Written so shortly before it was read that what was written after that may have the same time. */
  readonly isFresh: boolean;
}

/** File systems count time in steps of up to two seconds. */
const FRESH_MS = 2_500;

/** Some mounts tell the time and size of a file late, or never: it is read anew after this long in any case. */
const READ_ANYWAY_MS = 30_000;

const NO_FILE = 'none';

export class FollowedFiles {
  #known = new Map<string, Known>();
  #readAll = 0;

  /** As `readText`, from memory where nothing hints at a change since; the file is followed from then on. */
  readonly read: ReadFile = (path, maxBytes) => {
    const known = this.#known.get(path);
    if (known) return known.content;
    return this.#readNow(path, maxBytes).content;
  };

  /** The files that cannot be read, or hold nothing. */
  missing(): string[] {
    return [...this.#known].flatMap(([path, { content }]) =>
      'text' in content && content.text.trim() !== '' ? [] : [path],
    );
  }

  get count(): number {
    return this.#known.size;
  }

  /** Follows these only. */
  keep(paths: ReadonlySet<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }

  /** Looks at every file; whether what one of them holds is another than it was. */
  look(now: number): boolean {
    const anyway = now - this.#readAll >= READ_ANYWAY_MS;
    if (anyway) this.#readAll = now;
    let changed = false;
    for (const [path, known] of this.#known) {
      const { signature } = signatureOf(path);
      if (!anyway && !known.isFresh && signature === known.signature) continue;
      const { content } = this.#readNow(path, known.maxBytes);
      changed ||= !same(content, known.content);
    }
    return changed;
  }

  /** Of what all files hold: the same for the same contents. */
  digest(): string {
    const hash = createHash('sha256');
    for (const path of [...this.#known.keys()].sort()) {
      const content = this.#known.get(path)?.content ?? { reason: '' };
      hash.update(JSON.stringify([path, content]));
    }
    return hash.digest('base64');
  }

  #readNow(path: string, maxBytes: number): Known {
    const known = this.#known.get(path);
    // The signature first: what is written in between shows at the next look.
    const { signature, stats } = signatureOf(path);
    // A pipe gives its text once.
    if (known && stats?.isFIFO()) return known;
    const content = readText(path, maxBytes);
    const read = { maxBytes, content, signature, isFresh: stats !== undefined && isFresh(stats) };
    this.#known.set(path, read);
    return read;
  }
}

/** Follows links, so that a folder of links that is swapped as a whole shows. */
function signatureOf(path: string): { signature: string; stats?: BigIntStats } {
  try {
    const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (!stats) return { signature: NO_FILE };
    const { dev, ino, size, mtimeNs, ctimeNs } = stats;
    return { signature: `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`, stats };
  } catch {
    return { signature: NO_FILE };
  }
}

/** Also of what was written in the future, by another machine's clock. */
const isFresh = ({ mtimeMs }: BigIntStats): boolean => Date.now() - Number(mtimeMs) < FRESH_MS;

const same = (a: FileContent, b: FileContent): boolean =>
  'text' in a ? 'text' in b && a.text === b.text : 'reason' in b && a.reason === b.reason;
