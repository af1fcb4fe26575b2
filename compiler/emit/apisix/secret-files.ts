/** The secret files that the gateway reads at run time. */
import type { GatewayModel } from '../../model/model.ts';
import type { ModelSecret } from '../../model/secret.ts';
import type { UsedPlugins } from './plugins.ts';

/** Paths of secret files, by setting. */
export type FilesBySetting = Readonly<Record<string, string>>;

/** The file to which a document refers for a secret. */
export const fileOf = (secret: ModelSecret | undefined): string | undefined =>
  secret?.form.kind === 'file' ? secret.form.path : undefined;

/** The setting whose name a document uses as the reference to a secret file. */
export const settingOfFile = (secret: ModelSecret | undefined): string | undefined =>
  fileOf(secret) === undefined ? undefined : secret?.variable;

export const filesOf = (secrets: readonly (ModelSecret | undefined)[]): FilesBySetting =>
  Object.fromEntries(
    secrets.flatMap((secret): [string, string][] => {
      const file = fileOf(secret);
      return secret === undefined || file === undefined ? [] : [[secret.variable, file]];
    }),
  );

/** The files in the item of `secrets`. It has no files of clients, whose lines name them. */
export const listedFiles = (
  { affinity, backends, cache, limits, preferred, telemetry }: GatewayModel,
  plugins: UsedPlugins,
): FilesBySetting =>
  filesOf([
    affinity.redis?.password,
    ...backends.map(({ credential }) => (credential.kind === 'api-key' ? credential.key : undefined)),
    cache?.redis?.password,
    cache?.encryption?.key,
    cache?.encryption?.previous,
    plugins['azure-openai-limits'] ? limits.redis?.password : undefined,
    preferred?.secret,
    preferred?.redis?.password,
    telemetry.apimRecords?.identity.secret,
  ]);

/** All secret files, in the order of the document. */
export const apisixFiles = (model: GatewayModel, plugins: UsedPlugins): FilesBySetting => ({
  ...listedFiles(model, plugins),
  ...filesOf(model.clients.flatMap(({ key, secondaryKey }) => [key, secondaryKey])),
});
