/** Follows env files and secret files, and keeps the files that APISIX reads while it runs as they say. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CompileResult, compileSettings } from '../compile.ts';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { DOCUMENT_NAMES, type DocumentName, neededVariables } from '../emit/emit.ts';
import { errnoText } from '../errno.ts';
import { FILE_MODES, type WriteResult, writeDocuments } from '../output/write.ts';
import { listSettings } from '../settings/declarations/index.ts';
import { usesEntra } from '../settings/effective.ts';
import { resolveName } from '../settings/names.ts';
import type { Settings } from '../settings/parse.ts';
import { type RawSettings, type RawValue, readSecretFiles, readSources } from '../settings/sources.ts';
import { FollowedFiles } from './followed-files.ts';
import { changedSettings, type HeldBack, holdBack, type Obstacles, type Variables } from './hold-back.ts';

export interface WatchInput {
  /** Without what came from env files. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly envFiles: readonly string[];
  readonly out: string;
  readonly templates?: string | undefined;
  readonly strict?: boolean;
}

/** What there is to say about a change. */
export type WatchEvent =
  | {
      readonly is: 'applied';
      readonly written: readonly DocumentName[];
      /** The settings that are others than before. */
      readonly changed: readonly string[];
      /** What was not said before of these settings, and what is held back. */
      readonly diagnostics: readonly Diagnostic[];
      /** The settings before were not good. */
      readonly isGoodAgain: boolean;
    }
  | { readonly is: 'refused' | 'unwritable'; readonly diagnostics: readonly Diagnostic[] };

/** Between two looks at the files. */
const LOOK_MS = 1_000;
/** A change is taken when nothing has changed for so long: a file may be half written. */
const SETTLE_MS = 400;
/** What has gone is waited for: those who replace files may remove them first. */
const MISSING_MS = 3_000;
const WRITE_AGAIN_MS = 5_000;

/** What APISIX reads only when it starts. */
const CONFIG = 'config.yaml';

export class Watcher {
  readonly #input: WatchInput;
  readonly #files = new FollowedFiles();
  readonly #used = new Set<string>();
  /** The variables that APISIX was started with. */
  #start: Variables = new Map();
  /** What the gateway runs with since; what is held back keeps these values, not those of the start. */
  #applied: Variables = this.#start;
  #config = '';
  /** The variables of the last good settings. */
  #last: RawSettings | undefined;
  #settings: Settings | undefined;
  #isGood = true;
  #handled = '';
  #missing: ReadonlySet<string> = new Set();
  /** When the last change was seen that is not taken yet. */
  #changedAt: number | undefined;
  #unwritten: { readonly at: number; readonly reason: string } | undefined;
  #said = new Set<string>();
  #saidHeld = new Map<string, string>();

  constructor(input: WatchInput) {
    this.#input = input;
  }

  /** How many files it follows. */
  get files(): number {
    return this.#files.count;
  }

  /** As they were last compiled, good or not. */
  get settings(): Settings | undefined {
    return this.#settings;
  }

  /** The first compilation, for who renders; what it gave is what APISIX is started with. */
  async begin(): Promise<CompileResult> {
    const raw = this.#read();
    const result = await this.#compile(raw);
    this.#start = raw.variables;
    this.#applied = raw.variables;
    this.#config = result.documents?.[CONFIG] ?? '';
    this.#last = raw;
    this.#settings = result.settings;
    this.#say(result.diagnostics);
    this.#done();
    return result;
  }

  /**
   * Goes on beside an APISIX that runs on the files of the folder and was started with these variables. Files may have
   * changed since: the first look says what that leads to.
   * @returns why it cannot
   */
  join(started: WatchInput['environment'], now: number): Diagnostic | undefined {
    const path = join(this.#input.out, CONFIG);
    try {
      this.#config = readFileSync(path, 'utf8');
    } catch (error) {
      return diagnostic('NOT_RENDERED', { setting: path }, { reason: errnoText(error) });
    }
    // Not by readSources: GATEWAY_ENV_FILES names files that may be others by now.
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
   * Looks at the files; takes a change when it has settled.
   * @param now milliseconds of a clock that never goes back
   * @returns what to say, and when to look again
   */
  async look(now: number): Promise<{ event?: WatchEvent | undefined; nextMs: number }> {
    if (this.#files.look(now)) {
      this.#changedAt = now;
      return { nextMs: SETTLE_MS };
    }
    if (this.#changedAt === undefined) {
      if (this.#unwritten === undefined || now - this.#unwritten.at < WRITE_AGAIN_MS)
        return { nextMs: LOOK_MS };
      return { event: await this.#take(this.#read(), now), nextMs: LOOK_MS };
    }
    const quietMs = now - this.#changedAt;
    if (quietMs < SETTLE_MS) return { nextMs: SETTLE_MS - quietMs };
    const raw = this.#read();
    const isMissing = this.#files.missing().some((path) => !this.#missing.has(path));
    if (isMissing && quietMs < MISSING_MS) return { nextMs: SETTLE_MS };
    this.#changedAt = undefined;
    if (this.#files.digest() === this.#handled) return { nextMs: LOOK_MS };
    return { event: await this.#take(raw, now), nextMs: LOOK_MS };
  }

  async #take(raw: RawSettings, now: number): Promise<WatchEvent | undefined> {
    try {
      return await this.#apply(raw, now);
    } finally {
      this.#done();
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
    const { variables, heldBack } = await holdBack(this.#applied, raw.variables, async (candidate) => {
      result = candidate === raw.variables ? whole : await this.#compile(this.#settingsOf(raw, candidate));
      return this.#obstacles(candidate, result);
    });
    const held = this.#heldDiagnostics(raw, heldBack, variables !== undefined);
    if (variables) result = await this.#compile(this.#settingsOf(raw, variables));
    const names = new Set(heldBack.map(({ name }) => name));
    const event = this.#write(raw, variables && result, whole.diagnostics, { names, diagnostics: held }, now);
    if (variables && this.#unwritten === undefined) this.#applied = variables;
    return event;
  }

  #write(
    raw: RawSettings,
    result: CompileResult | undefined,
    found: readonly Diagnostic[],
    held: { readonly names: ReadonlySet<string>; readonly diagnostics: readonly Diagnostic[] },
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
      (name) => !held.names.has(name),
    );
    // Who started APISIX has said what there is to say of what has not changed since.
    const isKnown = before === undefined && changedSettings(this.#start, raw.variables).length === 0;
    const unsaid = this.#say(found);
    const diagnostics = [...held.diagnostics, ...(isKnown ? [] : unsaid)];
    const isNothing = written.length + diagnostics.length + (before ? changed.length : 0) === 0;
    return isNothing && !isGoodAgain
      ? undefined
      : { is: 'applied', written, changed, diagnostics, isGoodAgain };
  }

  /** Tried again until it works, said once. */
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

  /** What was read, with other variables. */
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
    const { templates, strict = false } = this.#input;
    return compileSettings(raw, { templates, strict });
  }

  /** What was read up to now has been dealt with. */
  #done(): void {
    this.#files.keep(this.#used);
    this.#handled = this.#files.digest();
    this.#missing = new Set(this.#files.missing());
  }

  #obstacles(variables: Variables, { documents, settings }: CompileResult): Obstacles {
    if (!documents) return { errors: true, start: false, process: [] };
    const isOther = (name: string) => variables.get(name)?.value !== this.#start.get(name)?.value;
    const read = neededVariables(documents, settings).apisix;
    const gone = usesEntra(settings)
      ? listSettings().flatMap(({ name, declaration }) => (declaration.readAtRunTime ? [name] : []))
      : [];
    return {
      errors: false,
      start: documents[CONFIG] !== this.#config || isOther('GATEWAY_WATCH'),
      process: [...new Set([...read, ...gone])].filter(isOther),
    };
  }

  /** Those that were not said before of the same value. */
  #heldDiagnostics(raw: RawSettings, heldBack: readonly HeldBack[], isApplied: boolean): Diagnostic[] {
    const said = this.#saidHeld;
    this.#saidHeld = new Map(heldBack.map(({ name }) => [name, raw.variables.get(name)?.value ?? '']));
    const all = heldBack.map((each) => heldDiagnostic(each, raw.variables));
    if (!isApplied && heldBack.length === 0) {
      // No setting has changed: the file is not what those of the start give.
      this.#saidHeld.set(CONFIG, '');
      all.push(diagnostic('CONFIG_OF_OTHER_SETTINGS', { setting: CONFIG }, {}));
    }
    return all.filter(({ setting }) => said.get(setting) !== this.#saidHeld.get(setting));
  }

  /** Those that were not said of the settings before. */
  #say(all: readonly Diagnostic[]): Diagnostic[] {
    const keyOf = ({ code, setting, message }: Diagnostic) => JSON.stringify([code, setting, message]);
    const said = this.#said;
    this.#said = new Set(all.map(keyOf));
    return all.filter((each) => !said.has(keyOf(each)));
  }
}

function heldDiagnostic({ name, reason }: HeldBack, variables: Variables): Diagnostic {
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

/** The settings that differ, secrets by the variable that names their file. */
function changedOf(before: Pick<RawSettings, 'variables' | 'secretFiles'>, now: RawSettings): string[] {
  const files = [...new Set([...before.secretFiles.keys(), ...now.secretFiles.keys()])]
    .filter((name) => before.secretFiles.get(name)?.value !== now.secretFiles.get(name)?.value)
    .map((name) => `${name}_FILE`);
  return [...new Set([...changedSettings(before.variables, now.variables), ...files])];
}
