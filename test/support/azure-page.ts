/**
 * The shell commands of docs/azure.md, run as they stand there: `az`, `docker` and `npx` are small programs that play what the
 * page asks of them, on the double of Azure. Needs bash, curl, jq and openssl.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AzureDouble } from './azure-double.ts';
import { ROOT, textOf } from './repository.ts';
import { type Ran, run, type TerraformCopy } from './terraform.ts';

const PROGRAMS = join(ROOT, 'test/fixtures/azure/programs');
const STACKS_FOLDER = 'deploy/azure/stacks';

/** The shell blocks of a section, in their order. */
export function commandsOf(heading: string): readonly string[] {
  const section = textOf('docs/azure.md')
    .split(/^## /m)
    .find((each) => each.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`docs/azure.md has no section ${heading}`);
  return [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, commands = '']) => commands);
}

/** One shell's worth of commands of the page, in a copy of the repository's files. */
export class PageReader {
  /** What `az`, `docker` and `npx` were asked, a line a call. */
  private readonly log: string;
  private readonly programs: string;

  constructor(
    private readonly copy: TerraformCopy,
    private readonly azure: AzureDouble,
  ) {
    this.programs = copy.path('programs');
    this.log = copy.path('asked.log');
    mkdirSync(this.programs, { recursive: true });
    writeFileSync(this.log, '');
    for (const name of ['az', 'docker', 'npx', 'terraform']) {
      copyFileSync(join(PROGRAMS, name), join(this.programs, name));
      chmodSync(join(this.programs, name), 0o755);
    }
  }

  /**
   * Runs commands in the folder of the stacks, to which the first ones of the page change; the first that fails ends them.
   * `typed` is the line that a prompt reads.
   */
  run(commands: readonly string[], typed = ''): Promise<Ran> {
    const script = this.copy.path('commands.sh');
    const change = commands[0]?.startsWith('cd ') ? [] : [`cd ${STACKS_FOLDER}`];
    writeFileSync(script, ['set -euo pipefail', ...change, ...commands].join('\n'));
    const input = this.copy.path('typed.txt');
    writeFileSync(input, typed === '' ? '' : `${typed}\n`);
    const { status, stdout } = spawnSync('git', ['rev-parse', '--absolute-git-dir'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    const env = {
      ...this.copy.environment(),
      ...this.azure.environment,
      PATH: `${this.programs}:${process.env.PATH}`,
      // The page names the image by the commit of the checkout, which the copy is not.
      ...(status === 0 ? { GIT_DIR: stdout.trim() } : {}),
      ASKED_LOG: this.log,
      REPOSITORY: ROOT,
      TF_CLI_ARGS_apply: '-input=false -auto-approve',
      TF_CLI_ARGS_destroy: '-input=false -auto-approve',
      TF_CLI_ARGS_init: '-input=false',
    };
    return run('bash', ['-c', '. "$1" < "$2"', 'bash', script, input], this.copy.folder, env);
  }

  /** What one of the programs was asked, without the program's name. */
  asked(program: string): readonly string[] {
    return readFileSync(this.log, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith(`${program} `))
      .map((line) => line.slice(program.length + 1));
  }
}
