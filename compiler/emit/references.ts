/** How documents name secrets that they do not hold. */
import type { Secret } from '../settings/secret.ts';

/** The item of `secrets` in apisix.yaml that says which files hold secrets. */
export const SECRETS_ITEM = 'file/settings';

/** What APISIX resolves when it runs: a variable, or a file that it follows. */
export const apisixReference = ({ variable, file }: Secret): string =>
  file === undefined ? `$env://${variable}` : `$secret://${SECRETS_ITEM}/${variable}`;

/** What the collector expands when it starts. */
export const collectorReference = ({ variable, file }: Secret): string =>
  file === undefined ? `\${env:${variable}}` : `\${file:${file}}`;
