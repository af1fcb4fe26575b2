/** The folders of deploy/azure that Terraform runs in: every module and every stack. */
import { dirname } from 'node:path';
import { repositoryFiles } from '../support/repository.ts';

/** What a copy of deploy/azure needs to be complete: it reads alert rules, the dashboard, and which settings are secret. */
export const FILES = repositoryFiles('deploy/azure', 'examples/observability', 'schemas');

const foldersUnder = (parent: string): string[] => [
  ...new Set(
    FILES.filter((file) => new RegExp(`^${parent}/[^/]+/[^/]+\\.tf$`).test(file)).map((file) =>
      dirname(file),
    ),
  ),
];

export const STACKS = foldersUnder('deploy/azure/stacks');
export const MODULES = foldersUnder('deploy/azure/modules');
