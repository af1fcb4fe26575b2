/**
 * Packages of real clients with their versions, and the user's cache where they are installed. A test compares the
 * versions with docs/clients.md.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

interface Installation {
  /** Programs that must be installed, with arguments that make them succeed. */
  readonly programs: readonly (readonly [string, ...string[]])[];
  /** Versions by package name. */
  readonly packages: Readonly<Record<string, string>>;
  /** A command that asks the registry for one of the packages within a few seconds. */
  readonly probe: readonly [string, ...string[]];
  /** Installs the packages into an empty folder. */
  install(folder: string): void;
}

const PATIENCE_MS = 540_000;
const PROBE_MS = 30_000;

const run = (folder: string, program: string, ...args: readonly string[]): void => {
  execFileSync(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'], timeout: PATIENCE_MS });
};

const npm = (packages: Readonly<Record<string, string>>): Installation => {
  const [[name = '', version = ''] = []] = Object.entries(packages);
  return {
    programs: [['npm', '--version']],
    packages,
    probe: ['npm', 'view', `${name}@${version}`, 'version'],
    install: (folder) => {
      writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: packages }));
      run(folder, 'npm', 'install', '--no-audit', '--no-fund', '--no-package-lock');
    },
  };
};

const PYTHON = { openai: '3.57.0', 'langchain-openai': '1.7.4' };
const GO = { 'github.com/openai/openai-go/v3': '3.99.0' };
const JAVA = { 'com.openai:openai-java': '4.101.0' };

/** By the need that tests declare for them. */
export const CLIENT_PACKAGES = {
  python_clients: {
    programs: [['python3', '-m', 'pip', '--version']],
    packages: PYTHON,
    probe: ['python3', '-m', 'pip', 'download', '--quiet', '--no-deps', `openai==${PYTHON.openai}`],
    install: (folder) => {
      const pinned = Object.entries(PYTHON).map(([name, version]) => `${name}==${version}`);
      run(folder, 'python3', '-m', 'pip', 'install', '--quiet', '--target', '.', ...pinned);
    },
  },
  node_clients: npm({ openai: '7.59.0', '@langchain/openai': '1.6.0', '@langchain/core': '1.4.0' }),
  go_clients: {
    programs: [['go', 'version']],
    packages: GO,
    probe: ['go', 'list', '-m', `github.com/openai/openai-go/v3@v${GO['github.com/openai/openai-go/v3']}`],
    install: (folder) => {
      const [[path, version]] = Object.entries(GO) as [[string, string]];
      writeFileSync(join(folder, 'go.mod'), `module clients\n\ngo 1.24\n\nrequire ${path} v${version}\n`);
      cpSync(new URL('../clients/main.go', import.meta.url), join(folder, 'main.go'));
      run(folder, 'go', 'mod', 'tidy');
    },
  },
  java_clients: {
    programs: [
      ['mvn', '--version'],
      ['javac', '--version'],
    ],
    packages: JAVA,
    probe: [
      'mvn',
      '--quiet',
      '--batch-mode',
      'dependency:get',
      '-Dtransitive=false',
      `-Dartifact=com.openai:openai-java:${JAVA['com.openai:openai-java']}`,
    ],
    install: (folder) => {
      const dependencies = Object.entries(JAVA).map(([name, version]) => {
        const [group, artifact] = name.split(':');
        return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`;
      });
      writeFileSync(
        join(folder, 'pom.xml'),
        `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>clients</groupId><artifactId>clients</artifactId><version>1</version>
  <dependencies>${dependencies.join('')}</dependencies>
</project>
`,
      );
      run(folder, 'mvn', '--quiet', '--batch-mode', 'dependency:copy-dependencies', '-DoutputDirectory=lib');
    },
  },
  codex: npm({ '@openai/codex': '0.171.0' }),
  opencode: npm({ 'opencode-ai': '1.18.33' }),
} satisfies Record<string, Installation>;

export type ClientPackages = keyof typeof CLIENT_PACKAGES;

const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'genai-gateway', 'clients');

/** A separate folder for each set of versions, so that an existing folder is always complete. */
function folderOf(name: ClientPackages): string {
  const { packages }: Installation = CLIENT_PACKAGES[name];
  const hash = createHash('sha256').update(JSON.stringify(packages)).digest('hex').slice(0, 12);
  return join(CACHE, `${name}-${hash}`);
}

/** Why the packages are not installed and cannot be, or undefined. */
export function lackOf(name: ClientPackages): string | undefined {
  const { programs, probe, packages }: Installation = CLIENT_PACKAGES[name];
  for (const [program, ...args] of programs) {
    if (spawnSync(program, args, { stdio: 'ignore' }).status !== 0)
      return `there is no ${[program, ...args].join(' ').replace(/ (--)?version$/, '')}`;
  }
  if (existsSync(folderOf(name))) return undefined;
  mkdirSync(CACHE, { recursive: true });
  const folder = mkdtempSync(join(CACHE, 'probe-'));
  const [program, ...args] = probe;
  const { status } = spawnSync(program, args, { cwd: folder, stdio: 'ignore', timeout: PROBE_MS });
  rmSync(folder, { recursive: true, force: true });
  if (status === 0) return undefined;
  const [[first, version] = []] = Object.entries(packages);
  return `${first} ${version} is not in ${CACHE}, and ${program} cannot get it: ${[program, ...args].join(' ')}`;
}

/** The folder with the packages. Installs them if necessary. */
export function installed(name: ClientPackages): string {
  const folder = folderOf(name);
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const fresh = mkdtempSync(`${folder}-`);
  try {
    CLIENT_PACKAGES[name].install(fresh);
    renameSync(fresh, folder);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    // Another test run has installed them meanwhile.
    if (existsSync(folder)) return folder;
    const { stderr } = error as { readonly stderr?: Buffer };
    throw new Error(`The packages ${name} cannot be installed: ${stderr?.toString().slice(-2000) ?? error}`, {
      cause: error,
    });
  }
  return folder;
}
