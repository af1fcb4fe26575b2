/** Reads what Terraform prints as JSON: events of plan and apply, plans, outputs. Pure. */
import { listOf, recordOf, textOf } from './json.ts';

export interface Diagnosis {
  readonly severity: 'error' | 'warning';
  readonly summary: string;
  readonly detail: string;
  /** The resource, if Terraform names one. */
  readonly address?: string;
}

export type TerraformEvent =
  | { readonly kind: 'diagnostic'; readonly diagnosis: Diagnosis }
  /** A resource is being created, changed or removed; `seconds` so far. */
  | {
      readonly kind: 'begun' | 'running';
      readonly address: string;
      readonly action: string;
      readonly seconds: number;
    }
  | {
      readonly kind: 'ended';
      readonly address: string;
      readonly action: string;
      readonly seconds: number;
      readonly ok: boolean;
    };

/** The event of one line of `-json`; undefined for lines that say nothing of use. */
export function eventOf(line: string): TerraformEvent | undefined {
  const parsed = objectIn(line);
  if (parsed === undefined) return undefined;
  const { type } = parsed;
  if (type === 'diagnostic') {
    const given = recordOf(parsed.diagnostic);
    const address = textOf(given.address);
    return {
      kind: 'diagnostic',
      diagnosis: {
        severity: given.severity === 'warning' ? 'warning' : 'error',
        summary: textOf(given.summary) ?? '',
        detail: textOf(given.detail) ?? '',
        ...(address === undefined ? {} : { address }),
      },
    };
  }
  const hook = recordOf(parsed.hook);
  const address = textOf(recordOf(hook.resource).addr);
  const kind = KINDS[String(type)];
  if (kind === undefined || address === undefined) return undefined;
  const about = {
    address,
    action: textOf(hook.action) ?? 'change',
    seconds: typeof hook.elapsed_seconds === 'number' ? hook.elapsed_seconds : 0,
  };
  // A list of data sources that Terraform reads while it applies is no progress.
  if (about.action === 'read') return undefined;
  return kind === 'ended' ? { kind, ...about, ok: type === 'apply_complete' } : { kind, ...about };
}

const KINDS: Readonly<Record<string, 'begun' | 'running' | 'ended'>> = {
  apply_start: 'begun',
  apply_progress: 'running',
  apply_complete: 'ended',
  apply_errored: 'ended',
};

export type ChangeKind = 'create' | 'update' | 'replace' | 'delete';

/** One object of a plan. Values are left out: an attribute may be a secret. */
export interface PlannedChange {
  readonly kind: ChangeKind;
  readonly address: string;
  readonly type: string;
  /** The name in Azure, if the plan knows it. */
  readonly name?: string;
  /** Names of the attributes that change, for an update or a replacement. */
  readonly attributes: readonly string[];
}

export interface PlanSummary {
  readonly changes: readonly PlannedChange[];
  /** Outputs after the apply. In a map, a value that Azure decides later is null. */
  readonly outputs: Readonly<Record<string, unknown>>;
}

/** @throws SyntaxError for a text that is not the JSON of a plan */
export function planOf(json: string): PlanSummary {
  const plan = recordOf(JSON.parse(json));
  const changes = listOf(plan.resource_changes).flatMap((each): PlannedChange[] => {
    const resource = recordOf(each);
    const change = recordOf(resource.change);
    const kind = kindOf(listOf(change.actions).map(String));
    if (kind === undefined || resource.mode === 'data') return [];
    const [before, after] = [recordOf(change.before), recordOf(change.after)];
    const name = textOf(after.name) ?? textOf(before.name);
    return [
      {
        kind,
        address: textOf(resource.address) ?? '',
        type: textOf(resource.type) ?? '',
        ...(name === undefined ? {} : { name }),
        attributes:
          kind === 'update' || kind === 'replace' ? changed(before, after, change.after_unknown) : [],
      },
    ];
  });
  const outputs = Object.fromEntries(
    Object.entries(recordOf(plan.output_changes)).map(([name, each]) => [
      name,
      plannedOutput(recordOf(each)),
    ]),
  );
  return { changes, outputs };
}

/** The value of an output after the apply. In a map, a value that Azure decides later is null. */
function plannedOutput({ after, after_unknown: later }: Readonly<Record<string, unknown>>): unknown {
  const unknown = Object.keys(recordOf(later));
  if (unknown.length === 0) return after;
  return { ...Object.fromEntries(unknown.map((name) => [name, null])), ...recordOf(after) };
}

function kindOf(actions: readonly string[]): ChangeKind | undefined {
  if (actions.includes('delete') && actions.includes('create')) return 'replace';
  const [only] = actions;
  return only === 'create' || only === 'update' || only === 'delete' ? only : undefined;
}

function changed(
  before: Readonly<Record<string, unknown>>,
  after: Readonly<Record<string, unknown>>,
  unknown: unknown,
): string[] {
  const later = recordOf(unknown);
  return [...new Set([...Object.keys(before), ...Object.keys(after), ...Object.keys(later)])]
    .filter((name) => later[name] === true || JSON.stringify(before[name]) !== JSON.stringify(after[name]))
    .sort();
}

/** Outputs of `terraform output -json`, by name. @throws SyntaxError */
export function outputsOf(json: string): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(recordOf(JSON.parse(json))).map(([name, each]) => [name, recordOf(each).value]),
  );
}

/** Who holds the lock of a state, as Terraform reports it. */
export interface StateLock {
  readonly id: string;
  readonly who: string;
  readonly since: string;
  readonly operation: string;
}

export function stateLockIn(text: string): StateLock | undefined {
  if (!/acquiring the state lock|state blob is already locked/i.test(text)) return undefined;
  const field = (name: string): string =>
    new RegExp(`^\\s*${name}:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim() ?? '';
  return { id: field('ID'), who: field('Who'), since: field('Created'), operation: field('Operation') };
}

function objectIn(line: string): Readonly<Record<string, unknown>> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return recordOf(JSON.parse(line));
  } catch {
    return undefined;
  }
}
