/**
 * What a release says of itself: `node .github/scripts/release.mjs check TAG` ends with 1 where the tag, package.json and
 * CHANGELOG.md do not agree; `release.mjs notes TAG` prints the changelog's section of the tag's version.
 * The version is package.json's alone.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../../', import.meta.url);
const textOf = (name) => readFileSync(new URL(name, ROOT), 'utf8');

/** Sections of a changelog by their headings' first words, `## 1.2.3 - 2026-12-31`: date and text. */
export function sectionsOf(changelog) {
  const [, ...sections] = changelog.split(/^## /m);
  return new Map(
    sections.map((section) => {
      const [heading = '', ...lines] = section.split('\n');
      const [version, date] = heading.trim().split(' - ');
      return [version, { date, text: lines.join('\n').trim() }];
    }),
  );
}

/** What keeps a tag from being released, in sentences. */
export function problemsOf(tag, { version, lockedVersion, changelog }) {
  const problems = [];
  if (!/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/.test(version)) {
    problems.push(`package.json has the version ${version}: write MAJOR.MINOR.PATCH.`);
  }
  if (tag !== `v${version}`)
    problems.push(`The tag is ${tag}, and package.json has the version ${version}: tag v${version}.`);
  if (lockedVersion !== version) {
    problems.push(`package-lock.json has the version ${lockedVersion}: run npm install --package-lock-only.`);
  }
  const sections = sectionsOf(changelog);
  const section = sections.get(version);
  if (!section) {
    problems.push(`CHANGELOG.md has no section "## ${version} - YYYY-MM-DD": rename "## Unreleased".`);
  } else {
    if (!/^\d{4}-\d{2}-\d{2}$/.test(section.date ?? '')) {
      problems.push(`CHANGELOG.md: write the date of the release, "## ${version} - YYYY-MM-DD".`);
    }
    if (section.text === '') problems.push(`CHANGELOG.md says nothing of ${version}.`);
  }
  if (sections.get('Unreleased')?.text) {
    problems.push('CHANGELOG.md has changes under "## Unreleased": they belong to this release.');
  }
  return problems;
}

/** The notes of a release; undefined where the changelog has none. */
export function notesOf(tag, changelog) {
  return sectionsOf(changelog).get(tag.replace(/^v/, ''))?.text || undefined;
}

function main(command, tag) {
  const changelog = textOf('CHANGELOG.md');
  if (command === 'check' && tag) {
    const { version } = JSON.parse(textOf('package.json'));
    const lockedVersion = JSON.parse(textOf('package-lock.json')).version;
    const problems = problemsOf(tag, { version, lockedVersion, changelog });
    for (const each of problems) process.stderr.write(`${each}\n`);
    if (problems.length === 0) process.stdout.write(`${tag} can be released.\n`);
    return problems.length === 0 ? 0 : 1;
  }
  if (command === 'notes' && tag) {
    const notes = notesOf(tag, changelog);
    process[notes ? 'stdout' : 'stderr'].write(`${notes ?? `CHANGELOG.md says nothing of ${tag}.`}\n`);
    return notes ? 0 : 1;
  }
  process.stderr.write('usage: release.mjs check|notes TAG\n');
  return 64;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(...process.argv.slice(2));
