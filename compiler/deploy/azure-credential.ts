/** How the program proves its identity to Azure. */
import type { TokenCredential } from '@azure/identity';

export interface CredentialRequest {
  /** The tenant of the deployment: the login of a user may be in another one. */
  readonly tenantId?: string | undefined;
  /** The variables of the process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The vault that the credential is for. A loopback address is an emulator, which takes any token. */
  readonly vaultUri: string;
}

/**
 * A credential for the Azure SDK: a service principal or a federated token of the environment (AZURE_CLIENT_ID with
 * AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE), the login of the Azure CLI, the
 * login of azd, then the managed identity of the machine. Asks nobody for a token yet.
 */
export declare function azureCredential(request: CredentialRequest): Promise<TokenCredential>;

/** Whether the address of a vault is an emulator on this machine. No vault of Azure has a loopback address. */
export declare function isEmulator(vaultUri: string): boolean;
