/** Checks that the programs which a deployment runs are there, and new enough. */
import type { Children, Ran, Tool } from './children.ts';
import { DeployFailure } from './failure.ts';

type Version = readonly [number, number, number];

interface Requirement {
  readonly args: readonly string[];
  /** Absent: every version will do. */
  readonly oldest?: Version;
  readonly version: RegExp;
  readonly install: string;
}

/** Terraform: write-only arguments. Azure CLI: `containerapp revision copy` without an extension. */
const REQUIRED: Readonly<Record<Tool, Requirement>> = {
  terraform: {
    args: ['version', '-json'],
    oldest: [1, 11, 0],
    version: /"terraform_version":\s*"(\d+)\.(\d+)\.(\d+)/,
    install: 'https://developer.hashicorp.com/terraform/install',
  },
  az: {
    args: ['version', '--output', 'json'],
    oldest: [2, 62, 0],
    version: /"azure-cli":\s*"(\d+)\.(\d+)\.(\d+)/,
    install: 'https://learn.microsoft.com/cli/azure/install-azure-cli',
  },
  docker: {
    args: ['version', '--format', '{{.Server.Version}}'],
    version: /(\d+)\.(\d+)(?:\.(\d+))?/,
    install: 'https://docs.docker.com/get-docker/, or leave out --local-docker to let the registry build',
  },
};

/**
 * Checks all tools, and reports everything that is missing at once.
 * @returns the versions, for the output
 * @throws DeployFailure
 */
export async function checkTools(tools: readonly Tool[], children: Children): Promise<readonly string[]> {
  const checked = await Promise.all(tools.map((tool) => check(tool, children)));
  const problems = checked.flatMap((each) => ('problem' in each ? [each.problem] : []));
  if (problems.length > 0) throw new DeployFailure('not-begun', problems.join('\n'));
  return checked.flatMap((each) => ('version' in each ? [each.version] : []));
}

async function check(
  tool: Tool,
  children: Children,
): Promise<{ readonly version: string } | { readonly problem: string }> {
  const { args, oldest, version, install } = REQUIRED[tool];
  let ran: Ran;
  try {
    ran = await children.run(tool, args);
  } catch (error) {
    if (!(error instanceof DeployFailure) || error.kind !== 'not-begun') throw error;
    return { problem: `${error.message} Install it: ${install}` };
  }
  const found = version.exec(ran.stdout);
  if (ran.code !== 0 || found === null)
    return {
      problem: `${tool} does not work: ${ran.stderr.trim().split('\n')[0] || 'it reports no version'}`,
    };
  const [, major = '0', minor = '0', patch = '0'] = found;
  const present: Version = [Number(major), Number(minor), Number(patch)];
  if (oldest !== undefined && isOlder(present, oldest))
    return {
      problem: `${tool} ${present.join('.')} is too old: ${oldest.join('.')} or later is needed. ${install}`,
    };
  return { version: `${tool} ${present.join('.')}` };
}

function isOlder(version: Version, than: Version): boolean {
  for (const [index, part] of version.entries()) {
    if (part !== than[index]) return part < (than[index] ?? 0);
  }
  return false;
}
