/** Puts the secrets of an environment into its Key Vault. */
import type { TokenCredential } from '@azure/identity';
import type { Secret } from '../settings/secret.ts';

export interface SeedRequest {
  /** `https://NAME.vault.azure.net/`, Terraform's output `key_vault_uri`. A loopback address is an emulator. */
  readonly vaultUri: string;
  /** By the name of the setting, such as AZURE_OPENAI_KEY_0. No secret of the vault that is not named here is touched. */
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly credential: TokenCredential;
  /** Receives what is waited for, as it happens. Never receives a value. */
  readonly report: (progress: SeedProgress) => void;
  /** Ends all waiting. A write that was sent is completed or not, which `seedKeyVault` cannot know: run it again. */
  readonly signal: AbortSignal;
  /** Compare only, change nothing. A missing right or vault fails at once instead of after a wait. */
  readonly dryRun?: boolean;
  /** Longest wait for a role that was just assigned, and for the address of a new vault. Default: 10 minutes. */
  readonly patienceMs?: number;
}

export type SeedProgress =
  /** The vault denies access: a role needs minutes to take effect. Sent at each attempt. */
  | { readonly kind: 'waiting-for-role'; readonly elapsedMs: number; readonly patienceMs: number }
  /** The vault cannot be reached: the address of a new vault needs minutes to be known. Sent at each attempt. */
  | { readonly kind: 'waiting-for-vault'; readonly elapsedMs: number; readonly patienceMs: number }
  | { readonly kind: 'recovering'; readonly setting: string }
  /** One more secret is as it should be. */
  | { readonly kind: 'done'; readonly setting: string; readonly count: number; readonly of: number };

/** Names of settings, in the order of the request. With `dryRun`: what would be done. */
export interface SeedResult {
  readonly unchanged: readonly string[];
  /** The vault had no such secret. */
  readonly added: readonly string[];
  /** The vault had another value, which it keeps as an earlier version. */
  readonly changed: readonly string[];
  /** The vault had a deleted secret of this name. If its value differed, the name is in `changed` too. */
  readonly recovered: readonly string[];
}

export type SeedFailure =
  /** Values that are no secrets: placeholders, empty values. Nothing was written. */
  | 'placeholder'
  /** No login, or one that has expired. */
  | 'no-login'
  /** The role did not take effect in time, or is not assigned. */
  | 'denied'
  /** The firewall of the vault, or a vault without public access. */
  | 'firewall'
  /** The vault has the secret, but it is disabled. */
  | 'disabled'
  | 'unreachable'
  /** The vault answered with another error. */
  | 'refused'
  /** `signal` was aborted. */
  | 'aborted';

/** Why seeding stopped, and how far it came. Its message has no value of a secret. */
export declare class SeedError extends Error {
  readonly failure: SeedFailure;
  /** What was done before. */
  readonly done: SeedResult;
  /** Settings whose secrets were not compared or not written. */
  readonly pending: readonly string[];
  /** What to do, as a sentence. */
  readonly advice: string;
}

/** The name of a setting's secret in the vault, as Terraform and the accelerator have it: `azure-openai-key-0`. */
export declare function vaultSecretName(setting: string): string;

/**
 * Makes the vault have these secrets. Writes only where the value differs, so that running it again changes nothing.
 * Recovers secrets that were deleted. Never writes a placeholder: if one value is a placeholder, nothing is written.
 * @throws SeedError
 */
export declare function seedKeyVault(request: SeedRequest): Promise<SeedResult>;
