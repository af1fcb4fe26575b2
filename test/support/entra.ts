/** A gateway whose backends want Entra tokens, or some of them, and a mock of where it gets those. */
import { type Gateway, type GatewayOptions, HOST, hostAddress, startGateway } from './gateway.ts';
import type { MockOptions, RecordedRequest } from './mock-azure-openai/server.ts';
import {
  type MockIdentity,
  type MockIdentityOptions,
  startMockIdentity,
  TOKEN_FILE,
  type TokenSource,
} from './mock-identity.ts';

/** A backend that knows keys, or one that knows tokens for a resource. */
export type EntraBackend =
  | 'key'
  | { readonly resource?: string; readonly clientId?: string; readonly mock?: MockOptions };

export interface EntraOptions extends Pick<GatewayOptions, 'adapt' | 'mountedFiles'> {
  /** Default endpoint: Container Apps and App Service. */
  readonly source?: TokenSource;
  /** One by default. */
  readonly backends?: readonly EntraBackend[];
  readonly identity?: Partial<MockIdentityOptions>;
  /** Beside those of the backends and of the source. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Further settings that need to know where the mock is. */
  readonly settingsOf?: (identity: MockIdentity) => Readonly<Record<string, string>>;
}

export interface EntraGateway extends Gateway {
  readonly identity: MockIdentity;
}

export async function startEntraGateway({
  source = 'endpoint',
  backends = [{}],
  identity: options = {},
  settings = {},
  settingsOf = () => ({}),
  adapt = (documents) => documents,
  mountedFiles = {},
}: EntraOptions = {}): Promise<EntraGateway> {
  const identity = await startMockIdentity({ host: await hostAddress(), hostName: HOST, ...options });
  try {
    const gateway = await startGateway({
      backends: backends.map((each) =>
        each === 'key'
          ? {}
          : { keys: [], tokens: (token: string) => identity.accepts(token, each.resource), ...each.mock },
      ),
      settings: {
        ...Object.assign({}, ...backends.map(backendSettings)),
        ...identity.environment(source),
        ...settings,
        ...settingsOf(identity),
      },
      adapt,
      mountedFiles: {
        ...(source === 'workload' ? { [TOKEN_FILE]: `${identity.assertion}\n` } : {}),
        ...mountedFiles,
      },
    });
    return {
      ...gateway,
      identity,
      stop: async () => {
        await gateway.stop();
        await identity.stop();
      },
    };
  } catch (error) {
    await identity.stop();
    throw error;
  }
}

function backendSettings(backend: EntraBackend, index: number): Record<string, string> {
  if (backend === 'key') return {};
  const { resource = '', clientId = '' } = backend;
  return {
    [`AZURE_OPENAI_KEY_${index}`]: '',
    [`AZURE_OPENAI_AUTH_MODE_${index}`]: 'entra',
    [`AZURE_OPENAI_TOKEN_RESOURCE_${index}`]: resource,
    [`AZURE_OPENAI_MSI_CLIENT_ID_${index}`]: clientId,
  };
}

/** The token that a request came with, and undefined where it came with anything else, or more than that. */
export function tokenOf(request: RecordedRequest | undefined): string | undefined {
  const names = request?.headers.map(([name]) => name.toLowerCase()) ?? [];
  if (names.filter((name) => name === 'authorization').length !== 1 || names.includes('api-key'))
    return undefined;
  return /^Bearer (\S+)$/.exec(request?.header('authorization') ?? '')?.[1];
}
