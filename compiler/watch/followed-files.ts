/** Caches files and reads them again only if they may have changed, so that polling hundreds of files is cheap. */
import { createHash } from 'node:crypto';
import { type BigIntStats, statSync } from 'node:fs';
import { type FileContent, type ReadFile, readText } from '../settings/sources.ts';

interface Known {
  readonly maxBytes: number;
  readonly content: FileContent;
  readonly signature: string;
  /** It was written so shortly before it was read that a later write could have the same time stamp. */
  readonly isFresh: boolean;
}

/** Time stamps of file systems have a resolution of up to two seconds. */
const FRESH_MS = 2_500;

/** Some mounts report time stamps and sizes late or never, so every file is read again after this time. */
const READ_ANYWAY_MS = 30_000;

const NO_FILE = 'none';

export class FollowedFiles {
  #known = new Map<string, Known>();
  #readAll = 0;

  /** Like `readText`, but cached. Follows the file from now on. */
  readonly read: ReadFile = (path, maxBytes) => {
    const known = this.#known.get(path);
    if (known) return known.content;
    return this.#readNow(path, maxBytes).content;
  };

  /** The followed files that cannot be read or are empty. */
  missing(): string[] {
    return [...this.#known].flatMap(([path, { content }]) =>
      'text' in content && content.text.trim() !== '' ? [] : [path],
    );
  }

  get count(): number {
    return this.#known.size;
  }

  /** Stops following all other files. */
  keep(paths: ReadonlySet<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }

  /**
   * Checks every file.
   * @param now milliseconds of a monotonic clock
   * @returns whether the content of a file has changed
   */
  poll(now: number): boolean {
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

  /** A digest of the contents of all files. */
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
    // The signature is read first, so that a write after it is noticed at the next poll.
    const { signature, stats } = signatureOf(path);
    // A pipe can be read only once.
    if (known && stats?.isFIFO()) return known;
    const content = readText(path, maxBytes);
    const read = { maxBytes, content, signature, isFresh: stats !== undefined && isFresh(stats) };
    this.#known.set(path, read);
    return read;
  }
}

/** Follows links, to notice when a whole folder of links is swapped, as in Kubernetes. */
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

/** Also true for time stamps in the future, from another machine's clock. */
const isFresh = ({ mtimeMs }: BigIntStats): boolean => Date.now() - Number(mtimeMs) < FRESH_MS;

const same = (a: FileContent, b: FileContent): boolean =>
  'text' in a ? 'text' in b && a.text === b.text : 'reason' in b && a.reason === b.reason;
