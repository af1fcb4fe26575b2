/** What a deployment asks of the Azure CLI. No secret is ever an argument of it, or in its output. */
import type { Children } from './children.ts';
import { DeployFailure } from './failure.ts';
import { failureOf, lastLines } from './terraform.ts';

export interface Login {
  readonly subscriptionId: string;
  readonly subscriptionName: string;
  readonly tenantId: string;
  readonly user: string;
}

/** A revision of a Container App, as far as a deployment cares. */
export interface Revision {
  readonly name: string;
  readonly created: string;
  readonly active: boolean;
  readonly provisioning: string;
  readonly health: string;
  readonly running: string;
  readonly image: string;
  /** Settings of the gateway that are not secret. */
  readonly settings: Readonly<Record<string, string>>;
  /** Names of its secret settings. */
  readonly secrets: readonly string[];
}

export interface AppStatus {
  readonly latest: string;
  readonly latestReady: string;
  readonly running: Omit<Revision, 'created' | 'active' | 'provisioning' | 'health' | 'running'>;
}

export interface App {
  readonly name: string;
  readonly group: string;
}

export class AzureCli {
  readonly #children: Children;
  #subscription: string | undefined;

  constructor(children: Children) {
    this.#children = children;
  }

  /** The login, in this subscription. All later commands are about it. @throws DeployFailure */
  async login(subscription: string | undefined): Promise<Login> {
    const args = ['account', 'show', '--output', 'json'];
    const { code, stdout, stderr } = await this.#children.run(
      'az',
      subscription === undefined ? args : [...args, '--subscription', subscription],
    );
    if (code !== 0) throw noLogin(stderr, subscription);
    const account = parsed<{
      readonly id?: string;
      readonly name?: string;
      readonly tenantId?: string;
      readonly state?: string;
      readonly user?: { readonly name?: string };
    }>(stdout, 'the login');
    const { id = '', name = '', tenantId = '', state = 'Enabled', user } = account;
    if (state !== 'Enabled' && state !== 'Warned')
      throw new DeployFailure('not-begun', `The subscription ${name} (${id}) is ${state}.`);
    this.#subscription = id;
    return { subscriptionId: id, subscriptionName: name, tenantId, user: user?.name ?? 'unknown' };
  }

  async #json<Value>(args: readonly string[], what: string): Promise<Value> {
    const { code, stdout, stderr } = await this.#run([...args, '--output', 'json']);
    if (code !== 0) throw failureOf(`${what} failed`, lastLines(stderr));
    return parsed<Value>(stdout, what);
  }

  #run(args: readonly string[], onLine?: (line: string) => void) {
    const subscription = this.#subscription === undefined ? [] : ['--subscription', this.#subscription];
    return this.#children.run('az', [...args, ...subscription], onLine === undefined ? {} : { onLine });
  }

  // ---- the state of 00-bootstrap ----

  /** Whether the subscription has a storage account of this name. */
  async hasStorageAccount(name: string): Promise<boolean> {
    const found = await this.#json<readonly unknown[]>(
      ['storage', 'account', 'list', '--query', `[?name=='${name}'].id`],
      'Listing the storage accounts',
    );
    return found.length > 0;
  }

  /** Downloads a blob. @returns false if there is none */
  async downloadBlob(place: BlobPlace, file: string): Promise<boolean> {
    const args = ['storage', 'blob', 'download', ...blobArguments(place), '--file', file, '--no-progress'];
    const { code, stderr } = await this.#run([...args, '--output', 'none']);
    if (code === 0) return true;
    if (/BlobNotFound|ContainerNotFound|blob does not exist|container does not exist/i.test(stderr))
      return false;
    throw failureOf('Reading the state of 00-bootstrap failed', lastLines(stderr));
  }

  async uploadBlob(place: BlobPlace, file: string): Promise<void> {
    const args = ['storage', 'blob', 'upload', ...blobArguments(place), '--file', file, '--overwrite'];
    const { code, stderr } = await this.#run([...args, '--no-progress', '--output', 'none']);
    if (code !== 0)
      throw failureOf('Writing the copy of the state of 00-bootstrap failed', lastLines(stderr));
  }

  /** Names of the blobs of a container. */
  async blobs({ account, container }: Omit<BlobPlace, 'name'>): Promise<readonly string[]> {
    return this.#json<readonly string[]>(
      [
        ...['storage', 'blob', 'list', '--auth-mode', 'login', '--account-name', account],
        ...['--container-name', container, '--query', '[].name'],
      ],
      'Listing the states',
    );
  }

  // ---- images ----

  /** The digest of an image; undefined if the registry has none of this tag. */
  async digestOf(registry: string, image: string): Promise<string | undefined> {
    const args = ['acr', 'repository', 'show', '--name', registry, '--image', image, '--query', 'digest'];
    const { code, stdout, stderr } = await this.#run([...args, '--output', 'tsv']);
    if (code === 0) return /sha256:[0-9a-f]{64}/.exec(stdout)?.[0];
    if (/not found|NAME_UNKNOWN|MANIFEST_UNKNOWN|TAG_UNKNOWN/i.test(stderr)) return undefined;
    throw failureOf(`Reading the image ${image} failed`, lastLines(stderr));
  }

  /** Lets the registry build. */
  async build(
    { registry, image, dockerfile, folder }: BuildRequest,
    onLine: (line: string) => void,
  ): Promise<void> {
    const args = ['acr', 'build', '--registry', registry, '--platform', 'linux/amd64', '--image', image];
    const { code, stdout, stderr } = await this.#run([...args, '--file', dockerfile, folder], onLine);
    if (code !== 0)
      throw failureOf('The registry could not build the image', lastLines(`${stdout}\n${stderr}`));
  }

  /** Signs docker in to the registry. */
  async loginToRegistry(registry: string): Promise<void> {
    const { code, stderr } = await this.#run(['acr', 'login', '--name', registry, '--output', 'none']);
    if (code !== 0) throw failureOf(`Signing in to the registry ${registry} failed`, lastLines(stderr));
  }

  // ---- the Container App ----

  /** What runs; undefined if there is no app of this name. */
  async app({ name, group }: App): Promise<AppStatus | undefined> {
    const args = ['containerapp', 'show', '--name', name, '--resource-group', group, '--output', 'json'];
    const { code, stdout, stderr } = await this.#run(args);
    if (code !== 0) {
      if (/ResourceNotFound|ResourceGroupNotFound|was not found|could not be found/i.test(stderr))
        return undefined;
      throw failureOf(`Reading the Container App ${name} failed`, lastLines(stderr));
    }
    const { properties = {} } = parsed<RawApp>(stdout, 'the Container App');
    const {
      latestRevisionName: latest = '',
      latestReadyRevisionName: latestReady = '',
      template,
    } = properties;
    return { latest, latestReady, running: { name: latest, ...gatewayOf(template) } };
  }

  /** The newest first. */
  async revisions({ name, group }: App): Promise<readonly Revision[]> {
    const found = await this.#json<readonly RawRevision[]>(
      ['containerapp', 'revision', 'list', '--name', name, '--resource-group', group, '--all'],
      `Listing the revisions of ${name}`,
    );
    return found
      .map(({ name: revision = '', properties = {} }) => ({
        name: revision,
        created: properties.createdTime ?? '',
        active: properties.active === true,
        provisioning: properties.provisioningState ?? '',
        health: properties.healthState ?? '',
        running: properties.runningState ?? '',
        ...gatewayOf(properties.template),
      }))
      .sort((a, b) => (a.created < b.created ? 1 : -1));
  }

  /** Makes a copy of a revision the newest one. */
  async copyRevision({ name, group }: App, revision: string): Promise<void> {
    const { code, stderr } = await this.#run([
      ...['containerapp', 'revision', 'copy', '--name', name, '--resource-group', group],
      ...['--from-revision', revision, '--output', 'none'],
    ]);
    if (code !== 0) throw failureOf(`Copying the revision ${revision} failed`, lastLines(stderr));
  }

  /** The last lines of a container's log; empty if Azure has none. */
  async logs({ name, group }: App, revision: string, container: string): Promise<string> {
    const { code, stdout } = await this.#run([
      ...['containerapp', 'logs', 'show', '--name', name, '--resource-group', group],
      ...['--revision', revision, '--container', container, '--tail', '20', '--format', 'text'],
    ]);
    return code === 0 ? lastLines(stdout) : '';
  }
}

export interface BlobPlace {
  readonly account: string;
  readonly container: string;
  readonly name: string;
}

export interface BuildRequest {
  readonly registry: string;
  /** With tag, without registry. */
  readonly image: string;
  readonly dockerfile: string;
  /** The build context. */
  readonly folder: string;
}

const blobArguments = ({ account, container, name }: BlobPlace): readonly string[] => [
  ...['--auth-mode', 'login', '--account-name', account],
  ...['--container-name', container, '--name', name],
];

interface RawTemplate {
  readonly initContainers?: readonly RawContainer[] | null;
  readonly containers?: readonly RawContainer[] | null;
}

interface RawContainer {
  readonly name?: string;
  readonly image?: string;
  readonly env?:
    | readonly { readonly name?: string; readonly value?: string; readonly secretRef?: string }[]
    | null;
}

interface RawApp {
  readonly properties?: {
    readonly latestRevisionName?: string;
    readonly latestReadyRevisionName?: string;
    readonly template?: RawTemplate;
  };
}

interface RawRevision {
  readonly name?: string;
  readonly properties?: {
    readonly createdTime?: string;
    readonly active?: boolean;
    readonly provisioningState?: string;
    readonly healthState?: string;
    readonly runningState?: string;
    readonly template?: RawTemplate;
  };
}

/** Variables that the stack adds to its containers, and that are no settings. */
const NOT_SETTINGS = new Set(['GATEWAY_SHARED_DIR', 'DEPLOYED_SECRETS']);

/**
 * Image and settings of a revision. The container `render` has all settings; the container `gateway` lacks those of the
 * collector.
 */
function gatewayOf(template: RawTemplate | undefined): Pick<Revision, 'image' | 'settings' | 'secrets'> {
  const named = (list: readonly RawContainer[] | null | undefined, wanted: string) =>
    list?.find(({ name }) => name === wanted);
  const gateway = named(template?.containers, 'gateway');
  const { env } = named(template?.initContainers, 'render') ?? gateway ?? {};
  const settings: Record<string, string> = {};
  const secrets: string[] = [];
  for (const { name = '', value, secretRef } of env ?? []) {
    if (NOT_SETTINGS.has(name)) continue;
    if (secretRef) secrets.push(name);
    else settings[name] = value ?? '';
  }
  return { image: gateway?.image ?? '', settings, secrets };
}

function noLogin(stderr: string, subscription: string | undefined): DeployFailure {
  if (subscription !== undefined && /not found|doesn't exist|does not exist/i.test(stderr)) {
    return new DeployFailure(
      'not-begun',
      `The login of the Azure CLI has no subscription ${subscription}.`,
      'Sign in to the tenant of that subscription (az login --tenant TENANT), or correct subscription_id.',
    );
  }
  return new DeployFailure(
    'not-begun',
    `The Azure CLI is not signed in: ${lastLines(stderr, 1)}`,
    'Sign in: az login',
  );
}

function parsed<Value>(json: string, what: string): Value {
  try {
    return JSON.parse(json) as Value;
  } catch {
    throw new DeployFailure('failed', `${what}: the answer of the Azure CLI is not JSON.`);
  }
}
