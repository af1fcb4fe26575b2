/** Turns the accelerator's files of values into the files of an environment. Pure. */
import stacks from 'virtual:stacks';
import { withoutKeys } from '../diagnostics/keys.ts';
import { resolveName } from '../settings/names.ts';
import { isPendingKey, isPlaceholderKey } from '../settings/rules/placeholders.ts';
import { readSources } from '../settings/sources.ts';
import type { TfEntry, TfProblem, TfValue, TfVariable } from './tfvars.ts';

export interface ImportedFile {
  readonly path: string;
  readonly variables: readonly TfVariable[];
}

export interface Problem extends TfProblem {
  readonly path: string;
  /** The variable or setting. */
  readonly name: string;
}

/** Something of the files that is not in the environment, or is there in another form. */
export interface Note {
  readonly names: readonly string[];
  readonly reason: string;
}

export interface Imported {
  /** Contents of NAME.env, NAME.secrets.env and NAME.tfvars; undefined: nothing belongs into the file. */
  readonly settings: string | undefined;
  readonly secrets: string | undefined;
  readonly variables: string | undefined;
  readonly counts: { readonly settings: number; readonly secrets: number; readonly variables: number };
  /** What was left out, and why. Names only. */
  readonly leftOut: readonly Note[];
  /** What was changed on the way. */
  readonly changed: readonly Note[];
}

export type ImportResult = Imported | { readonly problems: readonly Problem[] };

/** All variables of all stacks. */
const KNOWN: ReadonlySet<string> = new Set(Object.values(stacks).flat());

/** Variables that the files do not keep, although a stack has them. */
const HANDED_OVER =
  'deploy takes it from the stack that makes it; to keep a resource of the accelerator, see "Use what exists" in docs/azure.md';
const OF_DEPLOY: Readonly<Record<string, string>> = {
  gateway_image: 'deploy builds the image, or takes the one that you name',
  simulator_image: 'deploy --deploy-e2e builds the image, or takes the one that you name',
  hydrenv_image: "the gateway's image renders the settings",
  app_insights_connection_string: 'Terraform copies it from Application Insights into the vault',
  ...Object.fromEntries(
    [
      'state_resource_group_name',
      'state_storage_account_name',
      'state_container_name',
      'foundation_state_blob_key',
      'openai_state_blob_key',
      'remote_state_resource_group_name',
      'remote_state_storage_account_name',
      'remote_state_container_name',
      'platform_resource_group_name',
      'platform_acr_name',
      'key_vault_name',
      'aca_managed_identity_id',
      'log_analytics_workspace_id',
      'azure_monitor_workspace_id',
      'azure_monitor_prometheus_endpoint',
      'azure_monitor_prometheus_query_endpoint',
      'azure_monitor_prometheus_dcr_id',
      'gateway_log_ingest_uri',
      'gateway_log_ingest_dcr_id',
      'gateway_log_table_name',
    ].map((name) => [name, HANDED_OVER]),
  ),
};

/** Values that a stack refuses. */
const REFUSED: Readonly<
  Record<string, { readonly is: (value: TfValue) => boolean; readonly reason: string }>
> = {
  acr_admin_enabled: {
    is: isTrue,
    reason: 'the registry has no admin user; use acr_push_principal_ids',
  },
  gateway_e2e_test_mode: {
    is: isTrue,
    reason: 'deploy --deploy-e2e sets it, in an environment without other backends',
  },
  gateway_target_port: {
    is: (value) => textOf(value) !== '9080',
    reason: 'the gateway listens on port 9080 only',
  },
};

/** Settings that 20-workload sets itself, and refuses in `app_settings`. */
const OF_TERRAFORM =
  /^(?:GATEWAY_LOG_MODE|GATEWAY_E2E_TEST_MODE|GATEWAY_SHARED_DIR|AZURE_CLIENT_ID|(?:RESPONSES_AFFINITY|AI_RATE_LIMIT)_REDIS_(?:HOST|PORT|TLS|PASSWORD)|APPLICATIONINSIGHTS_CONNECTION_STRING)$/;

function isTrue(value: TfValue): boolean {
  return textOf(value)?.toLowerCase() === 'true';
}

/** A value as Terraform makes text of it; undefined for null, lists and maps. */
function textOf(value: TfValue): string | undefined {
  return 'text' in value ? value.text : undefined;
}

/**
 * Makes the files of the environment `name`. If several files set a variable, the last one counts, as for Terraform.
 * @returns all problems if a value cannot be taken over
 */
export function importFiles(files: readonly ImportedFile[], name: string): ImportResult {
  return new Import(files, name).result();
}

interface Given {
  readonly value: string;
  readonly path: string;
  readonly line: number;
}

class Import {
  readonly #files: readonly ImportedFile[];
  readonly #name: string;
  readonly #problems: Problem[] = [];
  readonly #leftOut = new Map<string, string>();
  readonly #changed = new Map<string, string>();
  readonly #settings = new Map<string, Given>();
  readonly #secrets = new Map<string, Given>();
  /** Values that must be in no other file than that of secrets. */
  readonly #secretValues = new Set<string>();

  constructor(files: readonly ImportedFile[], name: string) {
    this.#files = files;
    this.#name = name;
  }

  result(): ImportResult {
    for (const { path, variables } of this.#files) {
      for (const variable of variables) {
        if (variable.name === 'secrets') this.#take(path, variable, 'secret');
        else if (variable.name === 'app_settings') this.#take(path, variable, 'setting');
      }
    }
    const from = this.#files.map(({ path }) => withoutKeys(path)).join(', ');
    const settings = this.#envFile(this.#settings, [
      `# Settings of ${this.#name} that are not secret, imported from ${from}.`,
      '# docs/settings.md has every setting.',
    ]);
    const secrets = this.#envFile(this.#secrets, [
      `# Secret settings of ${this.#name}, imported from ${from}.`,
      '# Keep this file out of git. A line may be removed as soon as its secret is in the vault.',
    ]);
    const { text: variables, count } = this.#tfvars(from);
    if (this.#problems.length > 0) return { problems: this.#problems };
    return {
      settings,
      secrets,
      variables,
      counts: { settings: this.#settings.size, secrets: this.#secrets.size, variables: count },
      leftOut: notes(this.#leftOut),
      changed: notes(this.#changed),
    };
  }

  #problem(path: string, line: number, name: string, message: string, hint: string): void {
    this.#problems.push({ path, line, name, message, hint });
  }

  #take(path: string, { name, value, line }: TfVariable, kind: 'setting' | 'secret'): void {
    if (value.kind === 'null') return;
    if (value.kind !== 'map') {
      this.#problem(path, line, name, `${name} is not a map`, `write ${name} = { NAME = "value" }`);
      return;
    }
    for (const entry of value.entries) this.#takeEntry(path, name, entry, kind);
  }

  #takeEntry(path: string, map: string, entry: TfEntry, kind: 'setting' | 'secret'): void {
    const { name: given, value, line } = entry;
    if (value.kind === 'null') {
      this.#leftOut.set(given, `${map} has null for it`);
      return;
    }
    const written = textOf(value);
    if (written === undefined) {
      this.#problem(
        path,
        line,
        given,
        `its value in ${map} is a ${value.kind}`,
        'write text in double quotes',
      );
      return;
    }
    if (kind === 'secret') this.#secretValues.add(written.trim());
    const verdict = resolveName(given);
    const name = this.#nameOf(given, verdict, kind);
    if (name === undefined) return;
    const known = resolveName(name);
    const declaration = known.is === 'setting' ? known.known.declaration : undefined;
    const isSecret = kind === 'secret' || declaration?.sensitive === true;
    if (isSecret) this.#secretValues.add(written.trim());
    const reason = reasonToLeaveOut(name, written, isSecret);
    if (reason !== undefined) {
      this.#leftOut.set(name, reason);
      return;
    }
    // The accelerator's text of a heredoc has a line break at its end, with which no key works.
    const text = written.replace(/\r?\n$/, '');
    if (text !== written) this.#changed.set(name, 'the line break at its end was removed');
    if (kind === 'setting' && isSecret)
      this.#changed.set(name, 'it is a secret, so it went from app_settings into the file of secrets');
    const own = isSecret ? this.#secrets : this.#settings;
    const other = isSecret ? this.#settings : this.#secrets;
    const before = own.get(name) ?? other.get(name);
    if (before && (before.value !== text || other.has(name)))
      this.#changed.set(
        name,
        `it is set twice (${withoutKeys(before.path)}:${before.line}, ${withoutKeys(path)}:${line}); the last one counts`,
      );
    other.delete(name);
    own.delete(name);
    own.set(name, { value: text, path, line });
  }

  /** The name of the setting; undefined: it is left out. */
  #nameOf(
    given: string,
    verdict: ReturnType<typeof resolveName>,
    kind: 'setting' | 'secret',
  ): string | undefined {
    const rename = (name: string) => {
      this.#changed.set(name, `${given} was its name`);
      return name;
    };
    switch (verdict.is) {
      case 'setting':
        return given;
      case 'wrong-case':
        return rename(verdict.declared);
      case 'wrong-index':
        if (verdict.canonical !== undefined) return rename(verdict.canonical);
        this.#leftOut.set(given, 'the index is too large');
        return undefined;
      case 'secret-file':
      case 'no-secret-file':
        this.#leftOut.set(given, 'the gateway on Azure gets secrets from the vault, not from files');
        return undefined;
      case 'unknown':
        this.#leftOut.set(
          given,
          `there is no such setting${verdict.nearest === undefined ? '' : `; did you mean ${verdict.nearest}?`}`,
        );
        return undefined;
      case 'foreign':
        if (kind === 'setting' && /^[A-Za-z_][A-Za-z0-9_]*$/.test(given)) return given;
        this.#leftOut.set(given, 'it is no setting of the gateway');
        return undefined;
    }
  }

  #envFile(values: ReadonlyMap<string, Given>, head: readonly string[]): string | undefined {
    const lines = [...values].map(([name, { value, path, line }]) => {
      const assignment = envAssignment(name, value);
      if (assignment === undefined)
        this.#problem(
          path,
          line,
          name,
          'its value has several lines, or every kind of quotes, which an env file cannot have',
          'remove it from the file, and set it by another way, such as the vault',
        );
      return assignment ?? '';
    });
    return lines.length === 0 ? undefined : `${[...head, '', ...lines].join('\n')}\n`;
  }

  #tfvars(from: string): { readonly text: string | undefined; readonly count: number } {
    const kept = new Map<string, TfVariable & { readonly path: string }>();
    for (const { path, variables } of this.#files) {
      for (const variable of variables) {
        const { name } = variable;
        if (name === 'app_settings' || name === 'secrets') continue;
        const reason = this.#reasonToLeaveOut(variable);
        if (reason !== undefined) {
          if (!isBlank(variable.value)) this.#leftOut.set(name, reason);
          continue;
        }
        const before = kept.get(name);
        if (before && plain(before.value) !== plain(variable.value))
          this.#changed.set(
            name,
            `its values differ (${withoutKeys(before.path)}:${before.line}, ${withoutKeys(path)}:${variable.line}); the last one counts`,
          );
        kept.delete(name);
        kept.set(name, { ...variable, path });
      }
    }
    if (kept.size === 0) return { text: undefined, count: 0 };
    const text = [...kept.values()].map(({ comments, source, beginsGroup }, index) => {
      // A comment may have an old key.
      const own = withoutKeys(comments) === comments && !this.#hasSecret(comments) ? comments : '';
      return `${beginsGroup || index === 0 ? '\n' : ''}${own}${source}\n`;
    });
    const existing = existingResources(this.#files).map((line) => `# ${line}\n`);
    if (existing.length > 0) text.push('\n', KEEP, ...existing);
    const head = `# Variables of Terraform for ${this.#name}, imported from ${from}. docs/azure.md has every variable.\n`;
    return { text: `${head}${text.join('')}`, count: kept.size };
  }

  #reasonToLeaveOut({ name, value, source }: TfVariable): string | undefined {
    if (!KNOWN.has(name)) return 'no stack has this variable';
    const refused = REFUSED[name];
    if (refused?.is(value)) return refused.reason;
    if (this.#hasSecret(source)) return 'it has the value of a secret';
    return OF_DEPLOY[name];
  }

  /** Short values, such as `1`, are in many texts. */
  #hasSecret(text: string): boolean {
    return [...this.#secretValues].some((value) => value.length >= 8 && text.includes(value));
  }
}

/** Names with the same reason together. */
const KEEP =
  '# To keep what the accelerator made, remove the # of a line ("Use what exists" in docs/azure.md):\n';

/** Assignments with the ids of resources that the accelerator made, as far as the files name them. */
function existingResources(files: readonly ImportedFile[]): readonly string[] {
  const given = new Map(
    files.flatMap(({ variables }) =>
      variables.flatMap(({ name, value }) =>
        value.kind === 'string' && /^[\w./()-]+$/.test(value.text) ? [[name, value.text] as const] : [],
      ),
    ),
  );
  const of = (type: string, name: string | undefined) => {
    const subscription = given.get('subscription_id');
    const group = given.get('platform_resource_group_name');
    return subscription && group && name
      ? `/subscriptions/${subscription}/resourceGroups/${group}/providers/${type}/${name}`
      : undefined;
  };
  const ids = {
    existing_key_vault_id: of('Microsoft.KeyVault/vaults', given.get('key_vault_name')),
    existing_acr_id: of('Microsoft.ContainerRegistry/registries', given.get('platform_acr_name')),
    existing_log_analytics_workspace_id: given.get('log_analytics_workspace_id'),
    existing_azure_monitor_workspace_id: given.get('azure_monitor_workspace_id'),
  };
  return Object.entries(ids).flatMap(([name, id]) => (id === undefined ? [] : [`${name} = "${id}"`]));
}

const notes = (map: ReadonlyMap<string, string>): readonly Note[] =>
  [...new Set(map.values())].map((reason) => ({
    names: [...map].flatMap(([name, own]) => (own === reason ? [name] : [])),
    reason,
  }));

const isBlank = (value: TfValue): boolean =>
  value.kind === 'null' ||
  textOf(value)?.trim() === '' ||
  (value.kind === 'list' && value.items.length === 0);

function reasonToLeaveOut(name: string, value: string, isSecret: boolean): string | undefined {
  if (OF_TERRAFORM.test(name)) return 'Terraform sets it';
  if (value.trim() === '') return 'its value is empty';
  if (isSecret && (isPlaceholderKey(value.trim()) || isPendingKey(value.trim())))
    return 'its value is a placeholder; the vault keeps what it has';
  return undefined;
}

/** A value without its lines, to compare it. */
function plain(value: TfValue): string {
  switch (value.kind) {
    case 'list':
      return `[${value.items.map(plain).join()}]`;
    case 'map':
      return `{${value.entries
        .map((each) => `${JSON.stringify(each.name)}:${plain(each.value)}`)
        .sort()
        .join()}}`;
    case 'null':
      return 'null';
    default:
      // Terraform converts between text, numbers and booleans.
      return JSON.stringify(value.text);
  }
}

/**
 * A line of an env file that every reader understands in the same way. The reader of the program decides, so that no
 * value comes back as another one.
 * @returns undefined if no form of quotes does
 */
export function envAssignment(name: string, value: string): string | undefined {
  const forms = [value, `'${value}'`, `"${value}"`, `\`${value}\``];
  return forms
    .map((form) => `${name}=${form}`)
    .find((text) => {
      const { variables, diagnostics } = readSources({}, [{ path: 'imported', text }]);
      const read = variables.get(name);
      return (
        diagnostics.length === 0 &&
        variables.size === 1 &&
        read?.value === value &&
        read.ambiguous === undefined &&
        !value.includes('\n')
      );
    });
}
