/** What changes for the gateway between the revision that runs and what is planned, object by object. */
import { documentSetOf } from '../commands/diff.ts';
import { compileSettings } from '../compile.ts';
import { changesBetween } from '../diff/changes.ts';
import { describe } from '../diff/describe.ts';
import type { RawSettings } from '../settings/sources.ts';
import type { Revision } from './azure-cli.ts';
import { digestOf } from './revisions.ts';
import { runningSettings, withStandIns } from './settings.ts';

type Running = Pick<Revision, 'image' | 'settings' | 'secrets'>;

/** The lines of `genai-gateway diff`. Values of secrets are not compared: nobody but the gateway reads them. */
export async function settingsChanges(
  running: Running,
  planned: { readonly raw: RawSettings; readonly secrets: readonly string[] },
): Promise<readonly string[]> {
  const before = runningSettings(running.settings, running.secrets);
  return changesOf(before, withStandIns(planned.raw, planned.secrets));
}

/** What going back to a revision changes. */
export async function revisionChanges(from: Running, to: Running): Promise<readonly string[]> {
  const [before, after] = [from, to].map(({ settings, secrets }) => runningSettings(settings, secrets));
  const lines = before && after ? await changesOf(before, after) : [];
  return from.image === to.image
    ? lines
    : [`image: ${digestOf(from.image)} → ${digestOf(to.image)}`, ...lines];
}

async function changesOf(before: RawSettings, after: RawSettings): Promise<readonly string[]> {
  const [old, current] = await Promise.all([before, after].map((raw) => compileSettings(raw, {})));
  if (!old?.documents || !current?.documents) return namesThatDiffer(before, after);
  return describe(
    await changesBetween(documentSetOf(old, old.documents), documentSetOf(current, current.documents)),
  );
}

/** For settings that this version does not compile, such as those of a revision of an older version. */
function namesThatDiffer(before: RawSettings, after: RawSettings): readonly string[] {
  const names = [...new Set([...before.variables.keys(), ...after.variables.keys()])].sort();
  return names.flatMap((name) => {
    const [old, current] = [before.variables.get(name), after.variables.get(name)];
    if (old?.value === current?.value) return [];
    return [`${name}: ${old === undefined ? 'added' : current === undefined ? 'removed' : 'changed'}`];
  });
}
