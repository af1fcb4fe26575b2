/**
 * An emulator of Azure that somebody started, floci-az (https://github.com/floci-io/floci-az): Log Analytics with ingestion and
 * queries, and identities. AZURE_EMULATOR has its URL, at which containers must reach it too.
 */
import { spawnSync } from 'node:child_process';

const SUBSCRIPTION = '00000000-0000-0000-0000-000000000001';
const GROUP = `/subscriptions/${SUBSCRIPTION}/resourceGroups/genai-gateway-tests`;

const emulator = (): string => (process.env.AZURE_EMULATOR ?? '').replace(/\/$/, '');

/** Why tests that need the emulator cannot run; undefined where they can. */
export function emulatorProblem(): string | undefined {
  if (emulator() === '') return 'AZURE_EMULATOR does not have the URL of a floci-az';
  const ask = `fetch(${JSON.stringify(`${emulator()}/_floci/health`)}).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))`;
  return spawnSync(process.execPath, ['-e', ask], { timeout: 10_000 }).status === 0
    ? undefined
    : `no floci-az answers at ${emulator()}`;
}

type Json = Readonly<Record<string, unknown>>;

/** The URL as a container has to write it, which knows this host by another name. */
export function emulatorFor(hostName: string): string {
  const url = new URL(emulator());
  url.hostname = hostName;
  return url.href.replace(/\/$/, '');
}

/** Makes a resource; the answer has what Azure decides. */
export async function putResource(
  type: string,
  name: string,
  properties: Json,
): Promise<{ readonly id: string; readonly properties: Json }> {
  const id = `${GROUP}/providers/${type}/${name}`;
  const answer = await fetch(`${emulator()}${id}?api-version=2024-01-01`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ location: 'westeurope', properties }),
  });
  if (!answer.ok) throw new Error(`${id}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as { id: string; properties: Json };
}

/** Rows of a query in KQL. */
export async function queried(workspace: unknown, query: string): Promise<Record<string, unknown>[]> {
  const answer = await fetch(`${emulator()}/v1/workspaces/${workspace}/query`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer of-a-reader' },
    body: JSON.stringify({ query }),
  });
  if (!answer.ok) throw new Error(`${query}: ${answer.status} ${await answer.text()}`);
  const { tables } = (await answer.json()) as {
    tables: readonly { columns: readonly { name: string }[]; rows: readonly unknown[][] }[];
  };
  return tables.flatMap(({ columns, rows }) =>
    rows.map((row) => Object.fromEntries(columns.map(({ name }, index) => [name, row[index]]))),
  );
}

/** The address of a Key Vault in the emulator, which has any vault that is asked for. */
export const vaultOfEmulator = (account: string): string => `${emulator()}/${account}-keyvault`;
