/** What a deployment prints about its progress. */

import type { Terminal } from '../commands/terminal.ts';
import { withoutKeys } from '../diagnostics/keys.ts';
import type { Step } from './steps.ts';
import type { ChangeKind, PlannedChange, TerraformEvent } from './terraform-json.ts';

/** A resource that takes longer is reported each time this has passed. */
const STILL_SECONDS = 30;

type Progress = Exclude<TerraformEvent, { readonly kind: 'diagnostic' }>;

export class Reporter {
  readonly #terminal: Terminal;
  readonly #quiet: boolean;
  readonly #hide: (text: string) => string;
  #lastWait = Number.NEGATIVE_INFINITY;

  /** @param hide hides the values of secrets in a text */
  constructor(
    terminal: Terminal,
    { quiet = false, hide }: { quiet?: boolean; hide: (text: string) => string },
  ) {
    this.#terminal = terminal;
    this.#quiet = quiet;
    this.#hide = hide;
  }

  /** Progress, on stderr. */
  line(text: string): void {
    if (!this.#quiet) this.error(text);
  }

  /** Also printed with --quiet. */
  error(text: string): void {
    this.#terminal.err(`${this.#hide(text)}\n`);
  }

  /** What another program said. It may contain what looks like a key. */
  foreign(text: string): void {
    this.error(withoutKeysButDigests(text));
  }

  /** A result, on stdout. */
  result(text: string): void {
    this.#terminal.out(`${this.#hide(text)}\n`);
  }

  step({ name, title }: Step, number: number, of: number): void {
    this.line(`[${number}/${of}] ${name}: ${title}`);
  }

  detail(text: string): void {
    this.line(
      text
        .split('\n')
        .map((line) => `      ${line}`)
        .join('\n'),
    );
  }

  /** What is awaited, for how long already and at most. Repeated no more than twice a minute. */
  waiting(what: string, elapsedMs: number, atMostMs: number): void {
    if (elapsedMs < this.#lastWait) this.#lastWait = Number.NEGATIVE_INFINITY;
    if (elapsedMs - this.#lastWait < (STILL_SECONDS * 1000) / 2) return;
    this.#lastWait = elapsedMs;
    this.detail(`waiting for ${what} (${duration(elapsedMs)} of at most ${duration(atMostMs)})`);
  }

  /** Reports the progress of an apply with so many changes. */
  applying(total: number): (event: Progress) => void {
    let done = 0;
    const reported = new Map<string, number>();
    return (event) => {
      const { address, action, seconds } = event;
      if (event.kind === 'ended') {
        if (event.ok) done++;
        const end = event.ok ? `${DONE[action] ?? `${action} done`} after` : `${action} failed after`;
        this.detail(`${done}/${total} ${address}: ${end} ${duration(seconds * 1000)}`);
      } else if (event.kind === 'running' && seconds - (reported.get(address) ?? 0) >= STILL_SECONDS) {
        reported.set(address, seconds);
        this.detail(`still waiting for ${address}: ${action}, ${duration(seconds * 1000)}`);
      }
    };
  }
}

/** A digest of an image looks like a key, and is none. */
const withoutKeysButDigests = (text: string): string =>
  text
    .split(/(sha256:[0-9a-f]{64})/)
    .map((part, index) => (index % 2 === 1 ? part : withoutKeys(part)))
    .join('');

const DONE: Readonly<Record<string, string>> = { create: 'created', update: 'updated', delete: 'deleted' };

/** `1 min 30 s`. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes === 0) return `${seconds} s`;
  return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`;
}

const SIGN: Readonly<Record<ChangeKind, string>> = {
  create: '+ create ',
  update: '~ update ',
  replace: '! replace',
  delete: '- delete ',
};

/** One line for each object of a plan. Values of attributes are not shown. */
export const describePlan = (changes: readonly PlannedChange[]): string[] =>
  changes.map(({ kind, address, name, attributes }) => {
    const named = name === undefined || address.endsWith(name) ? '' : ` (${name})`;
    const changed = attributes.length === 0 ? '' : `: ${attributes.join(', ')}`;
    return `${SIGN[kind]} ${address}${named}${changed}`;
  });

/** `3 to create, 1 to update`. */
export function countsOf(changes: readonly PlannedChange[]): string {
  const of = (kind: ChangeKind) => changes.filter((each) => each.kind === kind).length;
  const parts = (['create', 'update', 'replace', 'delete'] as const).flatMap((kind) =>
    of(kind) > 0 ? [`${of(kind)} to ${kind}`] : [],
  );
  return parts.length > 0 ? parts.join(', ') : 'only outputs change';
}
