/** How the program proves its identity to Azure. */
import type { TokenCredential } from '@azure/identity';

export interface CredentialRequest {
  /** The tenant of the deployment: a user's login may have another default tenant. */
  readonly tenantId?: string | undefined;
  /** The variables of the process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The vault that the credential is for. A loopback address is an emulator, which accepts any token. */
  readonly vaultUri: string;
}

/**
 * A credential for the Azure SDK. The first of these that gives a token is used:
 *
 * 1. a service principal in the variables of the Azure SDK (AZURE_TENANT_ID, AZURE_CLIENT_ID, and AZURE_CLIENT_SECRET,
 *    AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE) or of Terraform (ARM_TENANT_ID, ARM_CLIENT_ID and
 *    ARM_CLIENT_SECRET),
 * 2. the login of the Azure CLI,
 * 3. the login of azd,
 * 4. the managed identity of the host, if its variables are there (IDENTITY_ENDPOINT or MSI_ENDPOINT). On a virtual machine
 *    run `az login --identity`: asking for an identity that may not be there takes long.
 *
 * Requests no token yet.
 */
export async function azureCredential(request: CredentialRequest): Promise<TokenCredential> {
  if (isEmulator(request.vaultUri)) return EMULATOR_CREDENTIAL;
  const { azure } = await import('./libraries.ts');
  const sdk = await azure();
  const { environment } = request;
  const { tenantId } = request;
  const tenant = tenantId === undefined ? {} : { tenantId };
  // The vault names its tenant in its challenge, which may be another one than that of the login.
  const options = { ...tenant, additionallyAllowedTenants: ['*'] };
  const has = (...names: readonly string[]) => names.every((name) => (environment[name] ?? '') !== '');
  const credentials: TokenCredential[] = [];
  if (has('AZURE_TENANT_ID', 'AZURE_CLIENT_ID', 'AZURE_FEDERATED_TOKEN_FILE'))
    credentials.push(new sdk.WorkloadIdentityCredential({ additionallyAllowedTenants: ['*'] }));
  else if (has('AZURE_TENANT_ID', 'AZURE_CLIENT_ID'))
    credentials.push(new sdk.EnvironmentCredential({ additionallyAllowedTenants: ['*'] }));
  const { ARM_TENANT_ID = '', ARM_CLIENT_ID = '', ARM_CLIENT_SECRET = '' } = environment;
  if (has('ARM_TENANT_ID', 'ARM_CLIENT_ID', 'ARM_CLIENT_SECRET'))
    credentials.push(
      new sdk.ClientSecretCredential(ARM_TENANT_ID, ARM_CLIENT_ID, ARM_CLIENT_SECRET, {
        additionallyAllowedTenants: ['*'],
      }),
    );
  credentials.push(new sdk.AzureCliCredential(options), new sdk.AzureDeveloperCliCredential(options));
  if (has('IDENTITY_ENDPOINT') || has('MSI_ENDPOINT')) {
    const clientId = environment.AZURE_CLIENT_ID ?? '';
    credentials.push(new sdk.ManagedIdentityCredential(clientId === '' ? {} : { clientId }));
  }
  return new sdk.ChainedTokenCredential(...credentials);
}

/** An emulator checks no token. A real token must not be sent to it. */
const EMULATOR_CREDENTIAL: TokenCredential = {
  getToken: async () => ({ token: 'emulator', expiresOnTimestamp: Date.now() + 60 * 60 * 1000 }),
};

/** Whether the address of a vault is an emulator on this machine. No vault of Azure has a loopback address. */
export function isEmulator(vaultUri: string): boolean {
  if (!URL.canParse(vaultUri)) return false;
  const { hostname } = new URL(vaultUri);
  return /^(?:(?:[\w-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname);
}
