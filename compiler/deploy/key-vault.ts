/** Puts the secrets of an environment into its Key Vault. */
import type { TokenCredential } from '@azure/identity';
import type { KeyVaultSecret, SecretClient, SecretClientOptions } from '@azure/keyvault-secrets';
import { withoutKeys } from '../diagnostics/keys.ts';
import { isPendingKey, isPlaceholderKey } from '../settings/rules/placeholders.ts';
import type { Secret } from '../settings/secret.ts';
import { isEmulator } from './azure-credential.ts';

export interface SeedRequest {
  /** `https://NAME.vault.azure.net/`, Terraform's output `key_vault_uri`. A loopback address is an emulator. */
  readonly vaultUri: string;
  /** By the name of the setting, such as AZURE_OPENAI_KEY_0. No secret of the vault that is not named here is touched. */
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly credential: TokenCredential;
  /** Receives progress, and what is waited for, as it happens. Never receives a value. */
  readonly report: (progress: SeedProgress) => void;
  /** Ends all waiting and requests. The last request may have been carried out: seeding again finds out. */
  readonly signal: AbortSignal;
  /** Compare only, change nothing. A missing role or vault is reported at once, without a wait. */
  readonly dryRun?: boolean;
  /** Longest wait for a role that was just assigned, and for the address of a new vault. Default: 10 minutes. */
  readonly patienceMs?: number;
  /** Time between two attempts while waiting. Default: 10 seconds. */
  readonly pauseMs?: number;
}

export type SeedProgress =
  /** The vault denies access: a role takes minutes to have an effect. Sent before each pause. */
  | { readonly kind: 'waiting-for-role'; readonly elapsedMs: number; readonly patienceMs: number }
  /** The vault is busy, or cannot be reached: the address of a new vault takes minutes to be known. Sent before each pause. */
  | { readonly kind: 'waiting-for-vault'; readonly elapsedMs: number; readonly patienceMs: number }
  /** A secret is being deleted or recovered. Sent before each pause. */
  | { readonly kind: 'waiting-for-secret'; readonly setting: string; readonly elapsedMs: number }
  | { readonly kind: 'recovering'; readonly setting: string }
  /** The vault has this secret with the value of the request (with `dryRun`: it was compared). */
  | { readonly kind: 'done'; readonly setting: string; readonly count: number; readonly of: number };

/**
 * Names of settings, in the order of the request. With `dryRun`: what would be done; a secret that would be recovered
 * cannot be compared before.
 */
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
  /** Values that cannot be secrets: placeholders, empty values, values that are too long. Nothing was written. */
  | 'unusable'
  /** No login, or one that has expired. */
  | 'no-login'
  /** The role did not take effect in time, or is not assigned. */
  | 'denied'
  /** The vault does not take requests from this network. */
  | 'firewall'
  /** The vault has the secret, but it is disabled. */
  | 'disabled'
  /** The vault does not answer, or its name is unknown. */
  | 'unreachable'
  /** The vault answered with another error. */
  | 'refused'
  /** `signal` was aborted. */
  | 'aborted';

/** Why seeding stopped, and how far it came. No part of it has a value of a secret. */
export class SeedError extends Error {
  override readonly name = 'SeedError';
  readonly failure: SeedFailure;
  /** What was done before. */
  readonly done: SeedResult;
  /** Settings whose secrets were not compared or not written, in the order of the request. */
  readonly pending: readonly string[];
  /** What to do, as a sentence. */
  readonly advice: string;

  constructor(failure: Failure, done: SeedResult, pending: readonly string[]) {
    super(failure.message);
    this.failure = failure.kind;
    this.advice = failure.advice;
    this.done = done;
    this.pending = pending;
  }
}

interface Failure {
  readonly kind: SeedFailure;
  readonly message: string;
  readonly advice: string;
}

/** The name of a setting's secret in the vault, as Terraform and the accelerator have it: `azure-openai-key-0`. */
export const vaultSecretName = (setting: string): string => setting.toLowerCase().replaceAll('_', '-');

const PATIENCE_MS = 10 * 60 * 1000;
const PAUSE_MS = 10 * 1000;
/** Secrets that are compared and written at the same time. Key Vault takes thousands of requests in ten seconds. */
const AT_A_TIME = 8;
/** Key Vault takes values of 25 KB at most. */
const MAX_BYTES = 25 * 1024;

/**
 * Makes the vault have these secrets. Writes only where the value differs, so seeding again changes nothing. Recovers
 * secrets that were deleted. Never writes a placeholder: if one value is a placeholder, nothing is written.
 * @throws SeedError
 */
export async function seedKeyVault(request: SeedRequest): Promise<SeedResult> {
  const { secrets } = request;
  const outcomes = new Map<string, Outcome>();
  const fail = (failure: Failure) =>
    new SeedError(
      failure,
      resultOf(secrets, outcomes),
      [...secrets.keys()].filter((name) => !outcomes.has(name)),
    );
  const unusable = unusableSecrets(secrets);
  if (unusable) throw fail(unusable);
  if (secrets.size === 0) return resultOf(secrets, outcomes);
  const client = await clientOf(request);
  const seeding = { request, client, started: Date.now() };
  const waiting = [...secrets];
  let failed: { readonly error: unknown; readonly setting: string } | undefined;
  const takeNext = async () => {
    const [next] = waiting.splice(0, 1);
    if (!next || failed) return;
    const [setting, secret] = next;
    try {
      outcomes.set(setting, await seedOne(seeding, setting, secret));
      request.report({ kind: 'done', setting, count: outcomes.size, of: secrets.size });
    } catch (error) {
      failed ??= { error, setting };
    }
  };
  // The first one alone: it waits for the role and for the vault's address.
  await takeNext();
  const worker = async () => {
    while (waiting.length > 0 && !failed) await takeNext();
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  if (failed) throw fail(failureOf(failed.error, failed.setting, request));
  return resultOf(secrets, outcomes);
}

interface Outcome {
  readonly value: 'unchanged' | 'added' | 'changed';
  readonly recovered: boolean;
}

function resultOf(secrets: ReadonlyMap<string, Secret>, outcomes: ReadonlyMap<string, Outcome>): SeedResult {
  const names = (is: (outcome: Outcome) => boolean) =>
    [...secrets.keys()].filter((name) => {
      const outcome = outcomes.get(name);
      return outcome !== undefined && is(outcome);
    });
  return {
    unchanged: names(({ value, recovered }) => value === 'unchanged' && !recovered),
    added: names(({ value }) => value === 'added'),
    changed: names(({ value }) => value === 'changed'),
    recovered: names(({ recovered }) => recovered),
  };
}

/** The first kind of problem that forbids to write anything, with the names of all settings that have it. */
function unusableSecrets(secrets: ReadonlyMap<string, Secret>): Failure | undefined {
  const namesOf = (is: (secret: Secret, setting: string) => boolean) =>
    [...secrets].filter(([setting, secret]) => is(secret, setting)).map(([setting]) => setting);
  const problem = (names: readonly string[], message: string, advice: string): Failure | undefined =>
    names.length === 0 ? undefined : { kind: 'unusable', message: `${names.join(', ')}: ${message}`, advice };
  const seen = new Map<string, string>();
  return (
    problem(
      namesOf((secret) => secret.reveal().trim() === ''),
      'the value is empty',
      'Write the value, or remove the line: the vault then keeps what it has.',
    ) ??
    problem(
      namesOf((secret) => isPlaceholderKey(secret.reveal()) || isPendingKey(secret.reveal())),
      'the value is a placeholder',
      'Write the real value, or remove the line: the vault then keeps what it has.',
    ) ??
    problem(
      namesOf((secret) => Buffer.byteLength(secret.reveal()) > MAX_BYTES),
      `the value has more than ${MAX_BYTES} bytes, which Key Vault does not store`,
      'Check the value.',
    ) ??
    problem(
      namesOf((_, setting) => !/^[A-Za-z0-9_-]{1,127}$/.test(setting)),
      'the name cannot be the name of a secret in Key Vault, which has letters, digits and hyphens',
      'Check the name of the setting.',
    ) ??
    problem(
      namesOf((_, setting) => {
        const name = vaultSecretName(setting);
        const isTaken = seen.has(name);
        seen.set(name, setting);
        return isTaken;
      }),
      'another setting has the same name in the vault',
      'Remove one of the two settings.',
    )
  );
}

async function clientOf({ vaultUri, credential }: SeedRequest): Promise<SecretClient> {
  const { azure } = await import('./libraries.ts');
  const { SecretClient } = await azure();
  const options: SecretClientOptions = {
    // Repeats requests that are throttled (429, after Retry-After) or failed by the server or the network.
    retryOptions: { maxRetries: 3, maxRetryDelayInMs: 30_000 },
    userAgentOptions: { userAgentPrefix: `genai-gateway/${PACKAGE_VERSION}` },
    // An emulator names itself in its challenge, not a domain of Azure.
    ...(isEmulator(vaultUri)
      ? { disableChallengeResourceVerification: true, allowInsecureConnection: true }
      : {}),
  };
  return new SecretClient(vaultUri, credential, options);
}

interface Seeding {
  readonly request: SeedRequest;
  readonly client: SecretClient;
  /** When the first request was sent. Roles and address are waited for once, not for each secret. */
  readonly started: number;
}

async function seedOne(seeding: Seeding, setting: string, secret: Secret): Promise<Outcome> {
  const { client, request } = seeding;
  const name = vaultSecretName(setting);
  const call = <T>(act: (options: { abortSignal: AbortSignal }) => Promise<T>) =>
    patiently(seeding, setting, () => act({ abortSignal: request.signal }));
  const readSecret = () => call((options) => orMissing(client.getSecret(name, options)));
  let existing = await readSecret();
  let recovered = false;
  if (existing === undefined) {
    const deleted = await call((options) => orMissing(client.getDeletedSecret(name, options)));
    if (deleted !== undefined) {
      recovered = true;
      // Key Vault does not return the value of a deleted secret.
      if (request.dryRun) return { value: 'unchanged', recovered };
      request.report({ kind: 'recovering', setting });
      existing = await recover(seeding, setting, name);
    }
  }
  if (existing?.value === secret.reveal()) return { value: 'unchanged', recovered };
  if (!request.dryRun) {
    const { tags, contentType } = existing?.properties ?? {};
    // A new version has no tags of its own, and a policy of the subscription may require some.
    const kept = { ...(tags ? { tags } : {}), contentType: contentType ?? 'text/plain' };
    await call((options) => client.setSecret(name, secret.reveal(), { ...kept, ...options }));
  }
  return { value: existing === undefined ? 'added' : 'changed', recovered };
}

/** Recovers a deleted secret. Key Vault answers at once and needs some seconds until the secret can be read. */
async function recover(seeding: Seeding, setting: string, name: string): Promise<KeyVaultSecret | undefined> {
  const { client, request } = seeding;
  return patiently(seeding, setting, async () => {
    const poller = await client.beginRecoverDeletedSecret(name, {
      abortSignal: request.signal,
      intervalInMs: Math.min(2000, request.pauseMs ?? PAUSE_MS),
    });
    await poller.pollUntilDone({ abortSignal: request.signal });
    return orMissing(client.getSecret(name, { abortSignal: request.signal }));
  });
}

async function orMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (errorOf(error).status === 404) return undefined;
    throw error;
  }
}

/** Repeats an act that fails for a reason that time removes, until the patience is used up. */
async function patiently<T>(
  { request, started }: Seeding,
  setting: string,
  act: () => Promise<T>,
): Promise<T> {
  const { signal, report, dryRun, patienceMs = PATIENCE_MS, pauseMs = PAUSE_MS } = request;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      const passing = passingReason(error);
      const elapsedMs = Date.now() - started;
      if (passing === undefined || dryRun || signal.aborted || elapsedMs + pauseMs > patienceMs) throw error;
      report(
        passing === 'waiting-for-secret'
          ? { kind: passing, setting, elapsedMs }
          : { kind: passing, elapsedMs, patienceMs },
      );
      await pause(pauseMs, signal);
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

interface VaultError {
  /** HTTP status; undefined if there was no answer. */
  readonly status: number | undefined;
  /** Key Vault's most precise code, or the code of the network. */
  readonly code: string;
  readonly message: string;
  readonly name: string;
}

/** The parts of an error of the SDK, whatever class it has. */
function errorOf(error: unknown): VaultError {
  const given = (error ?? {}) as {
    readonly name?: unknown;
    readonly message?: unknown;
    readonly code?: unknown;
    readonly statusCode?: unknown;
    readonly details?: { readonly error?: { readonly innererror?: unknown; readonly innerError?: unknown } };
  };
  const inner = (given.details?.error?.innererror ?? given.details?.error?.innerError) as
    | { readonly code?: unknown }
    | undefined;
  return {
    status: typeof given.statusCode === 'number' ? given.statusCode : undefined,
    code: String(inner?.code ?? given.code ?? ''),
    message: String(given.message ?? ''),
    name: String(given.name ?? ''),
  };
}

const NETWORK =
  /^(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|REQUEST_SEND_ERROR)$/;
const BY_NETWORK_RULES = /^ForbiddenBy(?:Firewall|Connection|PrivateLink|Nsp|NetworkSecurityPerimeter)/i;

const isDisabled = ({ status, code, message }: VaultError): boolean =>
  status === 403 && (code === 'SecretDisabled' || /\bdisabled\b/i.test(message));

/** Whether time may remove the reason of an error, and what is waited for then. */
function passingReason(
  error: unknown,
): 'waiting-for-role' | 'waiting-for-vault' | 'waiting-for-secret' | undefined {
  const problem = errorOf(error);
  const { status, code } = problem;
  if (status === 403 && !isDisabled(problem) && !BY_NETWORK_RULES.test(code)) return 'waiting-for-role';
  if (status === 409 && /^(?:ObjectIsBeing|ObjectIsDeleted|Conflict)/.test(code)) return 'waiting-for-secret';
  const isBusy = status === 429 || (status !== undefined && status >= 500);
  return isBusy || (status === undefined && NETWORK.test(code)) ? 'waiting-for-vault' : undefined;
}

/** Explains an error without any text that could have a secret in it. */
function failureOf(error: unknown, setting: string, { vaultUri, signal, dryRun }: SeedRequest): Failure {
  const problem = errorOf(error);
  const { status, code, message, name } = problem;
  const vault = hostOf(vaultUri);
  if (signal.aborted || name === 'AbortError') {
    return {
      kind: 'aborted',
      message: 'seeding was stopped',
      advice: 'Run the command again: it continues with the secrets that differ.',
    };
  }
  if (/Credential|Authentication/.test(name) || status === 401) {
    const [number] = /\bAADSTS\d+\b/.exec(message) ?? [];
    return {
      kind: 'no-login',
      message: `no login of Azure gives a token for ${vault}${number ? ` (${number})` : ''}`,
      advice: 'Run az login, with --tenant if the vault is in another tenant, and run the command again.',
    };
  }
  if (isDisabled(problem) && !BY_NETWORK_RULES.test(code)) {
    return {
      kind: 'disabled',
      message: `${setting}: the secret ${vaultSecretName(setting)} of ${vault} is disabled`,
      advice: 'Enable the secret in the vault, or remove the line.',
    };
  }
  if (status === 403 && BY_NETWORK_RULES.test(code)) {
    return {
      kind: 'firewall',
      message: `${vault} takes no requests from this network (${code})`,
      advice:
        'Run the command in the network of the vault, or allow your address in its firewall (key_vault_allowed_ip_ranges).',
    };
  }
  if (status === 403) {
    return {
      kind: 'denied',
      message: `${vault} denies access to its secrets`,
      advice: dryRun
        ? 'Assign the role Key Vault Secrets Officer on the vault to this login.'
        : 'A new role can take longer than this command waits: run it again in some minutes. If it fails again, assign the role Key Vault Secrets Officer on the vault to this login (deployment_principal_id).',
    };
  }
  if (status === undefined) {
    return {
      kind: 'unreachable',
      message: `${vault} cannot be reached${NETWORK.test(code) ? ` (${code})` : ''}`,
      advice:
        'Check the network, a proxy (HTTPS_PROXY) and the name of the vault, and run the command again.',
    };
  }
  // The vault's message names the problem. It quotes no value; keys are hidden in it as a precaution.
  const [firstLine = ''] = message.split(/\r?\n/);
  return {
    kind: 'refused',
    message: `${setting}: ${vault} answered with status ${status} (${code || 'no code'})${status === 429 ? ': too many requests' : `: ${withoutKeys(firstLine)}`}`,
    advice: 'Run the command again. It continues with the secrets that differ.',
  };
}

function hostOf(vaultUri: string): string {
  return URL.canParse(vaultUri) ? new URL(vaultUri).host : 'the vault';
}
