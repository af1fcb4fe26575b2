/** What action.yml runs: the check, the comparison with the target branch, the summary of the job, the comment. Node alone. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const { env } = process;
const input = (name) => (env[`INPUT_${name}`] ?? '').trim();
const lines = (text) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
const temporary = mkdtempSync(join(env.RUNNER_TEMP || tmpdir(), 'genai-gateway-'));

const MARKER = '<!-- genai-gateway diff -->';
/** GitHub takes 65,536 characters of a comment. */
const MAX_COMMENT = 60_000;
const PAGE = 100;
const DIFFERS = 2;

class Failure extends Error {}

/** The token is for the comment alone: nothing that is started here needs it, and settings are none of the inputs. */
const childEnvironment = Object.fromEntries(
  Object.entries(env).filter(([name]) => !name.startsWith('INPUT_')),
);

/** Runs a program to its end; what it says on stderr is shown. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 256 * 1024 * 1024,
    env: childEnvironment,
    ...options,
  });
  if (result.error) throw new Failure(`${command} cannot be started: ${result.error.message}`);
  return { code: result.status ?? 1, stdout: result.stdout ?? '' };
}

/** The program: installed once, by name, into a folder of its own. */
function installed() {
  if (env.GENAI_GATEWAY_PROGRAM) return env.GENAI_GATEWAY_PROGRAM;
  const { name, version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const wanted = input('PACKAGE') || `${name}@${version}`;
  const args = ['install', '--prefix', temporary, '--no-audit', '--no-fund', '--ignore-scripts', wanted];
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
  if (run(npm, args, { stdio: ['ignore', 2, 2] }).code !== 0)
    throw new Failure(`${wanted} cannot be installed.`);
  return join(temporary, 'node_modules', name, 'dist', 'genai-gateway.cjs');
}

const gateway = (program, ...args) => run(process.execPath, [program, ...args]);

const summary = (text) => {
  if (env.GITHUB_STEP_SUMMARY) appendFileSync(env.GITHUB_STEP_SUMMARY, `${text}\n`);
};

const base = lines(input('BASE'));
const settings = lines(input('SETTINGS'));
const isFolder = (path) => existsSync(path) && statSync(path).isDirectory();

/** The options that check and diff have in common. */
const shared = [
  ...(input('TEMPLATES') ? ['--templates', input('TEMPLATES')] : []),
  ...(input('STRICT') === 'true' ? ['--strict'] : []),
];
const envFiles = (files) => files.flatMap((file) => ['-e', file]);

/** The arguments of check: one folder of environments, or the files of one. */
function subject() {
  const [first, ...others] = settings;
  if (first === undefined) throw new Failure('The input settings names no file.');
  if (others.length === 0 && isFolder(first)) return [first, ...envFiles(base)];
  return envFiles([...base, ...settings]);
}

function check(program) {
  const policy = input('POLICY') ? ['--policy', input('POLICY')] : [];
  const args = ['check', ...subject(), ...shared, ...policy];
  const apisix = input('APISIX') === 'true' ? ['--apisix'] : [];
  // APISIX is asked once; the other formats are of the rest.
  const annotations = gateway(program, ...args, ...apisix, '--format', 'github');
  process.stdout.write(annotations.stdout);
  if (input('SARIF')) {
    mkdirSync(dirname(input('SARIF')), { recursive: true });
    writeFileSync(input('SARIF'), gateway(program, ...args, '--format', 'sarif').stdout);
  }
  summary(gateway(program, ...args, '--format', 'markdown').stdout);
  return annotations.code;
}

/** The files of each environment, as check finds them. */
function environments(program) {
  const [first = ''] = settings;
  if (settings.length > 1 || !isFolder(first)) return [{ name: settings.join(', '), files: settings }];
  const { stdout } = gateway(program, 'check', first, ...envFiles(base), '--no-policy', '--format', 'json');
  try {
    return JSON.parse(stdout).environments;
  } catch {
    return [];
  }
}

const target = () => input('AGAINST') || (env.GITHUB_BASE_REF ? `origin/${env.GITHUB_BASE_REF}` : '');

/** A file as it is in a commit; undefined where it is not there. */
function atCommit(commit, file) {
  const prefix = run('git', ['rev-parse', '--show-prefix']).stdout.trim();
  const path = relative('.', file).split('\\').join('/');
  const { code, stdout } = run('git', ['show', `${commit}:${prefix}${path}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  if (code !== 0) return undefined;
  const copy = join(mkdtempSync(join(temporary, 'before-')), 'settings.env');
  writeFileSync(copy, stdout, { mode: 0o600 });
  return copy;
}

/** The comparison of each environment as Markdown; undefined where there is nothing to compare with. */
function compare(program) {
  const commit = target();
  if (commit === '') return undefined;
  const known = run('git', ['rev-parse', '--verify', '--quiet', '--end-of-options', `${commit}^{commit}`]);
  if (known.code !== 0)
    throw new Failure(
      `There is no commit ${commit}: check out with fetch-depth: 0, or correct the input against.`,
    );
  const texts = [];
  let differs = false;
  for (const { name, files } of environments(program)) {
    const before = [...base, ...files].flatMap((file) => atCommit(commit, file) ?? []);
    const isNew = files.every((file) => atCommit(commit, file) === undefined);
    if (isNew) {
      differs = true;
      texts.push(`## Gateway: \`${name}\`\n\nThis environment is new.\n`);
      continue;
    }
    const args = [...before.flatMap((file) => ['--against', file]), ...envFiles([...base, ...files])];
    const { code, stdout } = gateway(
      program,
      'diff',
      ...args,
      ...shared,
      '--title',
      name,
      '--format',
      'markdown',
    );
    differs ||= code === DIFFERS;
    const text = stdout.replace(`${MARKER}\n`, '');
    // What the target branch has may be wrong, or gone: then there is nothing to compare.
    texts.push(
      text ||
        `## Gateway: \`${name}\`\n\nThe settings of ${commit} have errors, so there is nothing to compare with.\n`,
    );
  }
  return { markdown: texts.join('\n'), differs };
}

/** One comment, written again by every run. */
async function comment(markdown) {
  const { number } = JSON.parse(readFileSync(env.GITHUB_EVENT_PATH ?? '', 'utf8')).pull_request ?? {};
  if (number === undefined) return;
  const api = `${env.GITHUB_API_URL || 'https://api.github.com'}/repos/${env.GITHUB_REPOSITORY}/issues`;
  const ask = async (path, options = {}) => {
    const answer = await fetch(`${api}${path}`, {
      ...options,
      headers: {
        accept: 'application/vnd.github+json',
        authorization: `Bearer ${input('TOKEN')}`,
        'content-type': 'application/json',
        'x-github-api-version': '2022-11-28',
      },
    });
    if (!answer.ok)
      throw new Failure(
        `The comment cannot be written: GitHub answers ${answer.status}. The job needs the permission pull-requests: write.`,
      );
    return answer.json();
  };
  const shown =
    markdown.length > MAX_COMMENT
      ? `${markdown.slice(0, markdown.lastIndexOf('\n', MAX_COMMENT))}\n\nThe rest is in the summary of the job.\n`
      : markdown;
  const body = JSON.stringify({ body: `${MARKER}\n${shown}` });
  for (let page = 1; ; page++) {
    const found = await ask(`/${number}/comments?per_page=${PAGE}&page=${page}`);
    const ours = found.find((each) => each.body?.startsWith(MARKER));
    if (ours) return ask(`/comments/${ours.id}`, { method: 'PATCH', body });
    if (found.length < PAGE) return ask(`/${number}/comments`, { method: 'POST', body });
  }
}

async function main() {
  const program = installed();
  const code = check(program);
  const compared = compare(program);
  if (compared) {
    summary(compared.markdown);
    if (env.GITHUB_OUTPUT) appendFileSync(env.GITHUB_OUTPUT, `changed=${compared.differs}\n`);
    if (input('COMMENT') === 'true') await comment(compared.markdown);
  }
  return code;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stdout.write(`::error::${error.message.replaceAll('%', '%25').replaceAll('\n', '%0A')}\n`);
    process.exitCode = 3;
  }
}
