/** What an error of Terraform or of the Azure CLI means, and what to do. Pure. */

export type Cause =
  /** A role was assigned minutes ago and has no effect yet. Worth waiting for. */
  | 'role'
  /** Azure is busy with another change of the same resource. Worth waiting for. */
  | 'busy'
  /** The login lacks a right, which nothing grants by itself. */
  | 'rights'
  | 'login'
  | 'lock'
  | 'quota'
  | 'name'
  | 'firewall'
  | 'region'
  /** Docker Hub limits anonymous pulls, for hours. */
  | 'pull-limit'
  | 'unknown';

/** In this order: a text may match several. */
const PATTERNS: readonly (readonly [Cause, RegExp])[] = [
  ['lock', /acquiring the state lock|state blob is already locked/i],
  [
    'login',
    /az login|AADSTS|InteractiveRequired|refresh token has expired|could not configure AzureCli Authorizer/i,
  ],
  ['pull-limit', /pull rate limit|toomanyrequests: you have reached/i],
  ['quota', /InsufficientQuota|QuotaExceeded|exceed(?:s|ing)? .{0,40}quota/i],
  // Roles of the data plane, and roles of identities, which the stacks assign.
  [
    'role',
    /AuthorizationPermissionMismatch|ForbiddenByRbac|do not have the required permissions needed to perform this operation|not authorized to perform this operation using this permission|Caller is not authorized to perform action on resource[\s\S]{0,400}vault|(?:pull|fetch|get)[\s\S]{0,200}(?:using|with)[\s\S]{0,20}(?:managed )?identity|unable to pull image|UNAUTHORIZED: authentication required|denied: requested access|Unable to get value using Managed identity|PrincipalNotFound|does not exist in the directory/i,
  ],
  [
    'firewall',
    /ForbiddenByFirewall|blocked by network rules|ForbiddenByConnection|AuthorizationFailure\b|not allowed by (?:its )?firewall|Public network access is disabled/i,
  ],
  ['rights', /AuthorizationFailed|does not have authorization to perform action/i],
  [
    'name',
    /FlagMustBeSetForRestore|SoftDeleted|StorageAccountAlreadyTaken|already (?:in use|exists|taken)|VaultAlreadyExists|is not available/i,
  ],
  [
    'region',
    /LocationNotAvailableForResourceType|not available (?:for resource type|in (?:the )?(?:location|region))|SkuNotAvailable|InvalidResourceLocation/i,
  ],
  [
    'busy',
    /AnotherOperationInProgress|RequestConflict|OperationInProgress|another operation is in progress|TooManyRequests|RetryableError|StatusCode=?\s*(?:409|429|503)\b/i,
  ],
];

export const causeOf = (text: string): Cause =>
  PATTERNS.find(([, pattern]) => pattern.test(text))?.[0] ?? 'unknown';

/** Whether time alone may help. */
export const isWorthWaiting = (cause: Cause): cause is 'role' | 'busy' =>
  cause === 'role' || cause === 'busy';

export const AWAITED = {
  role: 'a role that was just assigned to take effect',
  busy: 'Azure, which is busy with another change of the same resource',
} as const;

/** What to do, in sentences; undefined where only the error itself can say it. */
export function adviceFor(cause: Cause, text: string): string | undefined {
  switch (cause) {
    case 'role':
      return 'Azure still denies access. If the role is assigned, its effect can take half an hour: run the command again. docs/azure.md lists all roles.';
    case 'busy':
      return 'Wait until the other change of the resource has ended, then run the command again.';
    case 'rights': {
      const [, action] = /perform action '([^']+)'/.exec(text) ?? [];
      const missing = action === undefined ? 'a right' : `the right ${action}`;
      return `Your login lacks ${missing}. A deployment needs Owner, or Contributor and Role Based Access Control Administrator, on the subscription.`;
    }
    case 'login':
      return 'Sign in again: az login';
    case 'quota':
      return 'Lower capacity in azure_openai_instances, choose another region, or ask Azure for more quota.';
    case 'name':
      return 'A resource has this name already, or was deleted and is still restorable. Set another identifier or workload_name, restore it, or purge it: docs/azure.md, "Remove everything".';
    case 'firewall':
      return 'A firewall refuses this machine. Allow its address, or run the command in the virtual network: docs/azure.md, "Private networking".';
    case 'pull-limit':
      return 'Docker Hub limits anonymous pulls. Wait some hours, or build with --local-docker after docker login.';
    case 'region':
      return 'The region does not offer this. Choose another location, or another size.';
    default:
      return undefined;
  }
}
