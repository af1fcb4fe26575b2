/** Follows env files and secret files, and renders apisix.yaml and otel-collector.yaml again when they change. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CompileOptions, type CompileResult, compileSettings } from '../compile.ts';
import type { DiagnosticCode } from '../diagnostics/catalog.ts';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { DOCUMENT_NAMES, type DocumentName } from '../emit/emit.ts';
import { errnoText } from '../errno.ts';
import { FILE_MODES, type WriteResult, writeDocuments } from '../output/write.ts';
import { listSettings } from '../settings/declarations/index.ts';
import { usesEntra } from '../settings/effective.ts';
import { resolveName } from '../settings/names.ts';
import type { Settings } from '../settings/parse.ts';
import { type RawSettings, type RawValue, readSecretFiles, readSources } from '../settings/sources.ts';
import {
  type Blockers,
  changedSettings,
  type DeferredChange,
  deferChanges,
  type Variables,
} from './deferred-changes.ts';
import { FollowedFiles } from './followed-files.ts';

export interface WatchInput {
  /** Without the variables that came from env files. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly envFiles: readonly string[];
  readonly out: string;
  readonly templates?: string | undefined;
  readonly strict?: CompileOptions['strict'];
  readonly allow?: readonly DiagnosticCode[] | undefined;
}

/** The result of a change, for the log. */
export type WatchEvent =
  | {
      readonly is: 'applied';
      readonly written: readonly DocumentName[];
      /** The settings that changed. */
      readonly changed: readonly string[];
      /** Diagnostics that were not reported before, and those about deferred changes. */
      readonly diagnostics: readonly Diagnostic[];
      /** The settings before this change had errors. */
      readonly isGoodAgain: boolean;
    }
  | { readonly is: 'refused' | 'unwritable'; readonly diagnostics: readonly Diagnostic[] };

/** Poll interval for the files. */
const POLL_MS = 1_000;
/** A change is applied after this time without further changes, because a file may be half written. */
const SETTLE_MS = 400;
/** Wait for a file that disappeared: some tools remove a file before they replace it. */
const MISSING_MS = 3_000;
const WRITE_AGAIN_MS = 5_000;

/** APISIX reads this document only when it starts. */
const CONFIG = 'config.yaml';

export class Watcher {
  readonly #input: WatchInput;
  readonly #files = new FollowedFiles();
  readonly #used = new Set<string>();
  /** The variables that APISIX was started with. */
  #start: Variables = new Map();
  /** The variables that are in effect now. A deferred change keeps its value in here, not that of the start. */
  #applied: Variables = this.#start;
  #config = '';
  /** The variables of the last settings without errors. */
  #last: RawSettings | undefined;
  #settings: Settings | undefined;
  #isGood = true;
  #handled = '';
  #missing: ReadonlySet<string> = new Set();
  /** The time of the last change that is not applied yet. */
  #changedAt: number | undefined;
  #unwritten: { readonly at: number; readonly reason: string } | undefined;
  #reported = new Set<string>();
  #reportedDeferrals = new Map<string, string>();

  constructor(input: WatchInput) {
    this.#input = input;
  }

  /** The number of followed files. */
  get files(): number {
    return this.#files.count;
  }

  /** The last compiled settings, with or without errors. */
  get settings(): Settings | undefined {
    return this.#settings;
  }

  /** The first compilation. Its documents are those with which APISIX is started. */
  async begin(): Promise<CompileResult> {
    const raw = this.#read();
    const result = await this.#compile(raw);
    this.#start = raw.variables;
    this.#applied = raw.variables;
    this.#config = result.documents?.[CONFIG] ?? '';
    this.#last = raw;
    this.#settings = result.settings;
    this.#takeUnreported(result.diagnostics);
    this.#finish();
    return result;
  }

  /**
   * Continues next to an APISIX that was started with these variables and runs on the files of the folder. The first
   * poll reports changes since then.
   * @returns a diagnostic if the files cannot be read
   */
  join(started: WatchInput['environment'], now: number): Diagnostic | undefined {
    const path = join(this.#input.out, CONFIG);
    try {
      this.#config = readFileSync(path, 'utf8');
    } catch (error) {
      return diagnostic('NOT_RENDERED', { setting: path }, { reason: errnoText(error) });
    }
    // Not with readSources: the files in GATEWAY_ENV_FILES may have changed since the start.
    this.#start = new Map(
      Object.entries(started).flatMap(([name, value]): [string, RawValue][] =>
        value === undefined ? [] : [[name, { value, source: { kind: 'environment' } }]],
      ),
    );
    this.#applied = this.#start;
    this.#read();
    this.#changedAt = now;
    return undefined;
  }

  /**
   * Checks the files, and applies a change once it is complete.
   * @param now milliseconds of a monotonic clock
   * @returns an event to log, if any, and the time until the next poll in milliseconds
   */
  async poll(now: number): Promise<{ event?: WatchEvent | undefined; nextMs: number }> {
    if (this.#files.poll(now)) {
      this.#changedAt = now;
      return { nextMs: SETTLE_MS };
    }
    if (this.#changedAt === undefined) {
      if (this.#unwritten === undefined || now - this.#unwritten.at < WRITE_AGAIN_MS)
        return { nextMs: POLL_MS };
      return { event: await this.#applyChange(this.#read(), now), nextMs: POLL_MS };
    }
    const quietMs = now - this.#changedAt;
    if (quietMs < SETTLE_MS) return { nextMs: SETTLE_MS - quietMs };
    const raw = this.#read();
    const isMissing = this.#files.missing().some((path) => !this.#missing.has(path));
    if (isMissing && quietMs < MISSING_MS) return { nextMs: SETTLE_MS };
    this.#changedAt = undefined;
    if (this.#files.digest() === this.#handled) return { nextMs: POLL_MS };
    return { event: await this.#applyChange(raw, now), nextMs: POLL_MS };
  }

  async #applyChange(raw: RawSettings, now: number): Promise<WatchEvent | undefined> {
    try {
      return await this.#apply(raw, now);
    } finally {
      this.#finish();
    }
  }

  async #apply(raw: RawSettings, now: number): Promise<WatchEvent | undefined> {
    const whole = await this.#compile(raw);
    this.#settings = whole.settings;
    if (!whole.documents) {
      this.#isGood = false;
      return { is: 'refused', diagnostics: whole.diagnostics };
    }
    let result: CompileResult = whole;
    const { variables, deferred } = await deferChanges(this.#applied, raw.variables, async (candidate) => {
      result = candidate === raw.variables ? whole : await this.#compile(this.#settingsOf(raw, candidate));
      return this.#blockersOf(candidate, result);
    });
    const deferrals = this.#deferralDiagnostics(raw, deferred, variables !== undefined);
    if (variables) result = await this.#compile(this.#settingsOf(raw, variables));
    const names = new Set(deferred.map(({ name }) => name));
    const event = this.#write(
      raw,
      variables && result,
      whole.diagnostics,
      { names, diagnostics: deferrals },
      now,
    );
    if (variables && this.#unwritten === undefined) this.#applied = variables;
    return event;
  }

  #write(
    raw: RawSettings,
    result: CompileResult | undefined,
    found: readonly Diagnostic[],
    deferrals: { readonly names: ReadonlySet<string>; readonly diagnostics: readonly Diagnostic[] },
    now: number,
  ): WatchEvent | undefined {
    const { documents, model } = result ?? {};
    let written: DocumentName[] = [];
    if (documents && model) {
      const { [CONFIG]: _, ...others } = documents;
      const outcome = writeDocuments(this.#input.out, others, FILE_MODES[model.server.secrets]);
      if (!outcome.ok) return this.#unwritable(outcome, now);
      written = DOCUMENT_NAMES.filter((name) => outcome.outcomes[name] === 'written');
    }
    this.#unwritten = undefined;
    const before = this.#last;
    const isGoodAgain = !this.#isGood;
    this.#last = raw;
    this.#isGood = true;
    const changed = changedOf(before ?? { variables: this.#start, secretFiles: new Map() }, raw).filter(
      (name) => !deferrals.names.has(name),
    );
    // Diagnostics unchanged since the start were already printed by `render`.
    const isKnown = before === undefined && changedSettings(this.#start, raw.variables).length === 0;
    const unreported = this.#takeUnreported(found);
    const diagnostics = [...deferrals.diagnostics, ...(isKnown ? [] : unreported)];
    const isNothing = written.length + diagnostics.length + (before ? changed.length : 0) === 0;
    return isNothing && !isGoodAgain
      ? undefined
      : { is: 'applied', written, changed, diagnostics, isGoodAgain };
  }

  /** Writing is retried until it works, but reported only once. */
  #unwritable({ path, reason }: Extract<WriteResult, { ok: false }>, now: number): WatchEvent | undefined {
    const isKnown = this.#unwritten?.reason === reason;
    this.#unwritten = { at: now, reason };
    if (isKnown) return undefined;
    return {
      is: 'unwritable',
      diagnostics: [diagnostic('OUTPUT_UNWRITABLE', { setting: path }, { reason })],
    };
  }

  #readFile(path: string, maxBytes: number) {
    this.#used.add(path);
    return this.#files.read(path, maxBytes);
  }

  #read(): RawSettings {
    this.#used.clear();
    return readSources(this.#input.environment, this.#input.envFiles, (path, maxBytes) =>
      this.#readFile(path, maxBytes),
    );
  }

  /** `raw` with other variables, and with the secret files that they name. */
  #settingsOf(raw: RawSettings, variables: Variables): RawSettings {
    if (variables === raw.variables) return raw;
    const secrets = readSecretFiles(variables, (path, maxBytes) => this.#readFile(path, maxBytes));
    const aboutEnvFiles = raw.diagnostics.filter(({ code }) => code !== 'SECRET_FILE_UNREADABLE');
    return {
      variables,
      secretFiles: secrets.files,
      diagnostics: [...aboutEnvFiles, ...secrets.diagnostics],
    };
  }

  async #compile(raw: RawSettings): Promise<CompileResult> {
    const { templates, strict = false, allow } = this.#input;
    return compileSettings(raw, { templates, strict, allow, toRun: 'now' });
  }

  /** Marks everything that was read as handled. */
  #finish(): void {
    this.#files.keep(this.#used);
    this.#handled = this.#files.digest();
    this.#missing = new Set(this.#files.missing());
  }

  #blockersOf(variables: Variables, { documents, needs, settings }: CompileResult): Blockers {
    if (!documents || !needs) return { errors: true, start: false, process: [] };
    const isOther = (name: string) => variables.get(name)?.value !== this.#start.get(name)?.value;
    const gone = usesEntra(settings)
      ? listSettings().flatMap(({ name, declaration }) => (declaration.readAtRunTime ? [name] : []))
      : [];
    return {
      errors: false,
      start: documents[CONFIG] !== this.#config || isOther('GATEWAY_WATCH'),
      process: [...new Set([...needs.variables.apisix, ...gone])].filter(isOther),
    };
  }

  /** Diagnostics about deferred changes that were not reported before with the same value. */
  #deferralDiagnostics(
    raw: RawSettings,
    deferred: readonly DeferredChange[],
    isApplied: boolean,
  ): Diagnostic[] {
    const reported = this.#reportedDeferrals;
    this.#reportedDeferrals = new Map(
      deferred.map(({ name }) => [name, raw.variables.get(name)?.value ?? '']),
    );
    const all = deferred.map((each) => deferralDiagnostic(each, raw.variables));
    if (!isApplied && deferred.length === 0) {
      // No setting has changed, so config.yaml itself does not match the settings of the start.
      this.#reportedDeferrals.set(CONFIG, '');
      all.push(diagnostic('CONFIG_OF_OTHER_SETTINGS', { setting: CONFIG }, {}));
    }
    return all.filter(({ setting }) => reported.get(setting) !== this.#reportedDeferrals.get(setting));
  }

  /** Diagnostics that were not reported for the settings before. Remembers all as reported. */
  #takeUnreported(all: readonly Diagnostic[]): Diagnostic[] {
    const keyOf = ({ code, setting, args }: Diagnostic) => JSON.stringify([code, setting, args]);
    const reported = this.#reported;
    this.#reported = new Set(all.map(keyOf));
    return all.filter((each) => !reported.has(keyOf(each)));
  }
}

function deferralDiagnostic({ name, reason }: DeferredChange, variables: Variables): Diagnostic {
  const place = { setting: name, source: variables.get(name)?.source };
  switch (reason.is) {
    case 'start':
      return diagnostic('CHANGE_NEEDS_START', place, {});
    case 'process': {
      const isGone = !variables.has(name);
      const isFollowed = resolveName(`${name}_FILE`).is === 'secret-file';
      return diagnostic('CHANGE_NEEDS_PROCESS', place, { isGone, isFollowed });
    }
    case 'with':
      return diagnostic('CHANGE_NEEDS_OTHERS', place, { others: reason.others });
  }
}

/** The settings that differ. A changed secret file appears as its NAME_FILE variable. */
function changedOf(before: Pick<RawSettings, 'variables' | 'secretFiles'>, now: RawSettings): string[] {
  const files = [...new Set([...before.secretFiles.keys(), ...now.secretFiles.keys()])]
    .filter((name) => before.secretFiles.get(name)?.value !== now.secretFiles.get(name)?.value)
    .map((name) => `${name}_FILE`);
  return [...new Set([...changedSettings(before.variables, now.variables), ...files])];
}
