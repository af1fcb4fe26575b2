/** The revisions of the gateway's Container App: the record of what was deployed. Pure. */
import type { Revision } from './azure-cli.ts';

/** Azure keeps revisions that never worked. Going back to one of them would help nobody. */
const worked = ({ provisioning, health }: Revision): boolean =>
  provisioning !== 'Failed' && health !== 'Unhealthy';

const sameContent = (a: Revision, b: Revision): boolean =>
  a.image === b.image &&
  JSON.stringify(Object.entries(a.settings).sort()) === JSON.stringify(Object.entries(b.settings).sort()) &&
  JSON.stringify([...a.secrets].sort()) === JSON.stringify([...b.secrets].sort());

/**
 * The revision to go back to: the named one, else the newest one before the present one that differs from it and worked.
 * @param revisions the newest first
 * @param named name of a revision, or its end
 * @returns the reason if there is none
 */
export function rollbackTarget(
  revisions: readonly Revision[],
  named: string | undefined,
): { readonly from: Revision; readonly to: Revision } | { readonly reason: string } {
  const [from] = revisions;
  if (from === undefined) return { reason: 'the Container App has no revision' };
  if (named !== undefined) {
    const found = revisions.filter(
      ({ name, image }) => name === named || name.endsWith(`--${named}`) || image.endsWith(named),
    );
    const [to] = found;
    if (to === undefined) return { reason: `there is no revision ${named}` };
    if (to.name === from.name) return { reason: `${to.name} is the newest revision` };
    return { from, to };
  }
  const to = revisions.slice(1).find((each) => worked(each) && !sameContent(each, from));
  if (to === undefined)
    return {
      reason: `no earlier revision both worked and differs from ${from.name}. Azure keeps max_inactive_revisions earlier revisions`,
    };
  return { from, to };
}

/** One line for each revision, the newest first. */
export function describeRevisions(revisions: readonly Revision[]): readonly string[] {
  const width = Math.max(...revisions.map(({ name }) => name.length), 0);
  return revisions.map((each) =>
    [
      each.name.padEnd(width),
      each.created.slice(0, 19).replace('T', ' '),
      each.active ? 'active  ' : 'inactive',
      (each.provisioning === 'Failed' ? 'failed' : each.health || each.provisioning || '-').padEnd(9),
      digestOf(each.image),
    ].join('  '),
  );
}

/** `genai-gateway@sha256:1a2b3c4d5e6f`: enough to tell images apart. */
export function digestOf(image: string): string {
  const [, name = image, digest] = /([^/]+)@sha256:([0-9a-f]{12})[0-9a-f]*$/.exec(image) ?? [];
  return digest === undefined ? (image.split('/').at(-1) ?? image) : `${name}@sha256:${digest}`;
}
