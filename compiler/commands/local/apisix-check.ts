/**
 * Checks that APISIX loads the rendered files: starts the image with our plugins and the files in a container without a
 * network.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { compile } from '../../compile.ts';
import { type Diagnostic, diagnostic } from '../../diagnostics/diagnostic.ts';
import { withoutCredentials } from '../../diagnostics/keys.ts';
import type { Documents } from '../../emit/emit.ts';
import { readTemplateFiles } from '../../output/template-files.ts';
import { writeDocuments } from '../../output/write.ts';
import type { EnvFile, RawSettings } from '../../settings/sources.ts';
import { EXIT, type Terminal } from '../terminal.ts';
import { labels, makeFolder, removeContainer, removeFolder, renderedIn } from './containers.ts';
import { Docker, lastLine } from './docker.ts';
import { type Interruption, onInterruption } from './interruption.ts';
import { Failure, haveImage, launchArguments } from './launch.ts';
import { filesToMount } from './prepare.ts';
import { withSecretsAsVariables } from './settings.ts';

/** One set of settings without errors. */
export interface SettingsToLoad {
  readonly name: string | undefined;
  readonly envFiles: readonly EnvFile[];
}

interface Options {
  readonly templates?: string | undefined;
  readonly image: string;
}

type Found = ReadonlyMap<string | undefined, readonly Diagnostic[]>;

/**
 * Lets APISIX load each set of settings, one after the other.
 * @returns the diagnostics by environment, or an exit code if the check is not possible
 */
export async function loadInApisix(
  all: readonly SettingsToLoad[],
  options: Options,
  terminal: Terminal,
): Promise<Found | number> {
  if (all.length === 0) return new Map();
  const interruption = onInterruption();
  try {
    const docker = new Docker(terminal.environment);
    const problem = await docker.problem();
    if (problem !== undefined) throw new Failure(`The check with APISIX is not possible. ${problem}`);
    if (!(await haveImage(docker, options.image, terminal, interruption.signal))) return EXIT.unreadable;
    const found = new Map<string | undefined, readonly Diagnostic[]>();
    for (const each of all) {
      if (interruption.signal.aborted) return EXIT.unreadable;
      found.set(each.name, await load(docker, each, options, terminal, interruption));
    }
    return found;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    terminal.err(`${error.message}\n`);
    return EXIT.unreadable;
  } finally {
    interruption.dispose();
  }
}

async function load(
  docker: Docker,
  { envFiles }: SettingsToLoad,
  { templates, image }: Options,
  { environment }: Terminal,
  interruption: Interruption,
): Promise<readonly Diagnostic[]> {
  let raw: RawSettings | undefined;
  // APISIX gets secrets through its environment, as with `up`, even if they are in files.
  const adapt = async (given: RawSettings) => {
    raw = withSecretsAsVariables(given);
    return raw;
  };
  const { documents, needs, settings, diagnostics } = await compile({
    environment,
    envFiles,
    templates,
    adapt,
  });
  if (!documents || !needs) return diagnostics;
  const needed = needs.variables.apisix;
  const value = (name: string) => raw?.variables.get(name)?.value ?? '';
  const files = filesToMount(settings, needed, value);
  const problems = files.flatMap(({ problem }) => problem ?? []);
  if (problems.length > 0) return problems;
  const variables = Object.fromEntries(needed.map((name) => [name, value(name)]));
  const mounted = { files: files.map(({ path }) => path), variables, image };
  const rejections = await rejectionsOf(docker, documents, mounted, interruption);
  return rejections.map(({ document, problem, causes }) =>
    diagnostic(
      'APISIX_REJECTS',
      { setting: document },
      { problem, causes: causes.map(withoutCredentials), overridden: overriddenBy(templates) },
    ),
  );
}

function overriddenBy(templates: string | undefined): readonly string[] {
  const read = templates === undefined ? undefined : readTemplateFiles(templates);
  return read && 'sources' in read ? [...read.sources.keys()] : [];
}

interface Rejection {
  readonly document: 'apisix.yaml' | 'config.yaml';
  readonly problem: string;
  /** Lines of APISIX's error log. */
  readonly causes: readonly string[];
}

async function rejectionsOf(
  docker: Docker,
  documents: Documents,
  mounted: {
    readonly files: readonly string[];
    readonly variables: Readonly<Record<string, string>>;
    readonly image: string;
  },
  interruption: Interruption,
): Promise<readonly Rejection[]> {
  const folder = makeFolder();
  const name = `genai-gateway-check-${folder.slice(-6)}`;
  try {
    const written = writeDocuments(renderedIn(folder), documents, 0o644);
    if (!written.ok) throw new Failure(`${written.path} cannot be written: ${written.reason}.`);
    const args = [
      'run',
      '--detach',
      ...['--name', name],
      ...labels(0, folder),
      // The check must not call any server: no backend, Redis or identity endpoint.
      ...['--network', 'none'],
      ...launchArguments({ rendered: renderedIn(folder), ...mounted }),
    ];
    const { code, stderr } = await docker.run(args, mounted.variables);
    if (code !== 0) throw new Failure(`Docker could not start the container: ${lastLine(stderr)}`);
    return await waitForLoaded(docker, name, interruption);
  } finally {
    await removeContainer(docker, name);
    removeFolder(folder);
  }
}

const TIMEOUT_MS = 60_000;
const POLL_MS = 200;
/** Workers report once a second. A readiness reason that stays the same for this time is final. */
const STABLE_MS = 4_000;

/** The probe port lists each item of the manifest that is not loaded. */
const READINESS_PROBE = `exec 3<>/dev/tcp/127.0.0.1/7086 && printf 'GET /readyz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && cat <&3`;

async function waitForLoaded(
  docker: Docker,
  name: string,
  interruption: Interruption,
): Promise<readonly Rejection[]> {
  const deadline = Date.now() + TIMEOUT_MS;
  let last: { readonly text: string; readonly since: number } | undefined;
  while (Date.now() < deadline && !interruption.signal.aborted) {
    const { stdout } = await docker.run(['exec', name, 'bash', '-c', READINESS_PROBE]);
    const answer = readinessIn(stdout);
    if (answer) {
      const { status, reasons = [] } = answer;
      if (status === 'ready' && reasons.length === 0) {
        // Items outside the manifest, such as a plugin that fails to load, are only in the error log.
        const causes = causesIn(await log(docker, name));
        return causes.length === 0
          ? []
          : [{ document: 'config.yaml', problem: 'APISIX did not load a part of it', causes }];
      }
      const text = reasons.join('\n');
      if (last?.text !== text) last = { text, since: Date.now() };
      if (Date.now() - last.since > STABLE_MS) {
        const causes = causesIn(await log(docker, name));
        // If the service is missing, the pool is missing too; that needs no separate message.
        const own = reasons.filter((reason) => !reason.endsWith('no backend is loaded'));
        return (own.length > 0 ? own : reasons).map((problem) => ({
          document: 'apisix.yaml',
          problem,
          causes,
        }));
      }
    } else if (await hasEnded(docker, name)) {
      return [
        {
          document: 'config.yaml',
          problem: 'APISIX does not start',
          causes: lastLines(await log(docker, name)),
        },
      ];
    }
    await sleep(POLL_MS);
  }
  if (interruption.signal.aborted) throw new Failure('Interrupted before APISIX loaded the files.');
  throw new Failure(`APISIX did not answer within ${TIMEOUT_MS / 1000} s.`);
}

interface Readiness {
  readonly status: string;
  readonly reasons?: readonly string[];
}

function readinessIn(answer: string): Readiness | undefined {
  const body = answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1);
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null && 'status' in parsed
      ? (parsed as Readiness)
      : undefined;
  } catch {
    return undefined;
  }
}

async function log(docker: Docker, name: string): Promise<readonly string[]> {
  const { stdout, stderr } = await docker.run(['logs', name]);
  return `${stdout}\n${stderr}`.split('\n');
}

async function hasEnded(docker: Docker, name: string): Promise<boolean> {
  const { stdout } = await docker.run(['inspect', '--format', '{{.State.Running}}', name]);
  return stdout.trim() !== 'true';
}

/** `… [lua] config_yaml.lua:123: load(): failed to check item data of [routes] err:…, context: ngx.timer` */
const LOG_LINE = /\[(?:warn|error|crit|alert|emerg)\] .*?\[lua\] [\w./-]+:\d+: (?:[\w.:<>]+\(\): )?(.*)$/;
const REJECTS = /failed to (?:check|load|parse|validate)|invalid|not valid|unknown plugin|err(?:or)?:/i;
const MAX_CAUSES = 5;
const MAX_CAUSE = 400;

/**
 * APISIX's messages about configuration that it does not accept. Every worker logs each message; duplicates are
 * removed.
 */
function causesIn(lines: readonly string[]): readonly string[] {
  const found = lines.flatMap((line) => {
    // After this the log line repeats the whole item, which may contain secrets.
    const message = LOG_LINE.exec(line)?.[1]?.replace(/(?: ?,val: |, context: ).*$/, '');
    return message !== undefined && REJECTS.test(message) ? [message.slice(0, MAX_CAUSE)] : [];
  });
  return [...new Set(found)].slice(0, MAX_CAUSES);
}

const lastLines = (lines: readonly string[]): readonly string[] =>
  lines
    .filter((line) => line.trim() !== '')
    .slice(-MAX_CAUSES)
    .map((line) => line.slice(0, MAX_CAUSE));
