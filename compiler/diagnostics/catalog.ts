/**
 * The severity and the wording of every diagnostic, one file for each subject. Codes are stable; wording may change. An
 * entry gets the arguments of the diagnostic and the name of the setting.
 */
import { backends } from './catalog/backends.ts';
import { clients } from './catalog/clients.ts';
import { combinations } from './catalog/combinations.ts';
import type { Entry } from './catalog/entry.ts';
import { files } from './catalog/files.ts';
import { names } from './catalog/names.ts';
import { policy } from './catalog/policy.ts';
import { pools } from './catalog/pools.ts';
import { running } from './catalog/running.ts';
import { sources } from './catalog/sources.ts';
import { telemetry } from './catalog/telemetry.ts';
import { testMode } from './catalog/test-mode.ts';
import { values } from './catalog/values.ts';

export const catalog = {
  ...values,
  ...names,
  ...sources,
  ...backends,
  ...clients,
  ...pools,
  ...testMode,
  ...combinations,
  ...telemetry,
  ...files,
  ...running,
  ...policy,
} satisfies Record<string, Entry<never>>;

export type DiagnosticCode = keyof typeof catalog;

/** The arguments of a code. */
export type CatalogArgs<C extends DiagnosticCode> = Parameters<(typeof catalog)[C]['words']>[0];
