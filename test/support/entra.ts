/** A gateway with backends that use Entra ID tokens, and a mock of the source of those tokens. */

import type { MockOptions, RecordedRequest } from '../../compiler/mock/server.ts';
import { type Gateway, type GatewayOptions, HOST, hostAddress, startGateway } from './gateway.ts';
import {
  type MockIdentity,
  type MockIdentityOptions,
  startMockIdentity,
  TOKEN_FILE,
  type TokenSource,
} from './mock-identity.ts';

/** A backend with a key, or one with tokens for a resource. */
export type EntraBackend =
  | 'key'
  | { readonly resource?: string; readonly clientId?: string; readonly mock?: MockOptions };

export interface EntraOptions extends Pick<GatewayOptions, 'adapt' | 'mountedFiles'> {
  /** Default endpoint: Container Apps and App Service. */
  readonly source?: TokenSource;
  /** One backend by default. */
  readonly backends?: readonly EntraBackend[];
  readonly identity?: Partial<MockIdentityOptions>;
  /** Settings in addition to those of the backends and the source. */
  readonly settings?: Readonly<Record<string, string>>;
  /** More settings that depend on the mock's address. */
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

/** The token of a request, or undefined when the request has no token or another credential as well. */
export function tokenOf(request: RecordedRequest | undefined): string | undefined {
  const names = request?.headers.map(([name]) => name.toLowerCase()) ?? [];
  if (names.filter((name) => name === 'authorization').length !== 1 || names.includes('api-key'))
    return undefined;
  return /^Bearer (\S+)$/.exec(request?.header('authorization') ?? '')?.[1];
}
