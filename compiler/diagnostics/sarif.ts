/**
 * Diagnostics as SARIF 2.1.0 for GitHub code scanning. GitHub rejects a whole file for one result without a physical
 * location, for an absolute URI, and for a rule without description and help.
 */
import { createHash } from 'node:crypto';
import { docsUrl, HOMEPAGE } from '../links.ts';
import type { DiagnosticCode } from './catalog.ts';
import { DESCRIPTIONS, isAboutFile, ruleName } from './descriptions.ts';
import { origin, type Places, placeOf, sentence } from './places.ts';
import type { Worded } from './words.ts';

const LEVELS = { error: 'error', warning: 'warning', info: 'note' } as const;

/** The location of settings in the environment of a process, if no file of the workspace sets them. */
const ENVIRONMENT = 'environment';

/** A SARIF log with one run. */
export function sarif(diagnostics: readonly Worded[], workspace: Places): object {
  const rules = [...new Set(diagnostics.map((each) => each.code))].sort();
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'genai-gateway',
            version: PACKAGE_VERSION,
            informationUri: HOMEPAGE,
            rules: rules.map(rule),
          },
        },
        columnKind: 'utf16CodeUnits',
        results: diagnostics.map((each) => result(each, rules.indexOf(each.code), workspace)),
      },
    ],
  };
}

function rule(code: DiagnosticCode): object {
  const { about, remedy } = DESCRIPTIONS[code];
  const helpUri = docsUrl('diagnostics.md', code.toLowerCase());
  return {
    id: code,
    name: ruleName(code),
    shortDescription: { text: about.replace(/\. .*/s, '.') },
    fullDescription: { text: about },
    help: {
      text: `${about} ${remedy} See ${helpUri}`,
      markdown: `${about}\n\n**What to do:** ${remedy}\n\n[All diagnostics](${helpUri})`,
    },
    helpUri,
  };
}

function result(each: Worded, ruleIndex: number, workspace: Places): object {
  const at = placeOf(each, workspace);
  const uri = at?.file ?? workspace.fallback?.(each) ?? ENVIRONMENT;
  return {
    ruleId: each.code,
    ruleIndex,
    level: LEVELS[each.severity],
    message: { text: `${sentence(each)}${at === undefined ? origin(each) : ''}` },
    locations: [
      {
        physicalLocation: {
          artifactLocation: { uri: relativeUri(uri) },
          region: { startLine: at?.line ?? 1 },
        },
        ...(isAboutFile(each.code) ? {} : { logicalLocations: [{ name: each.setting, kind: 'variable' }] }),
      },
    ],
    // GitHub treats two results of one rule on one line as the same alert; results without a line of their own need
    // different fingerprints.
    ...(at?.line === undefined
      ? { partialFingerprints: { primaryLocationLineHash: fingerprint(each, uri) } }
      : {}),
  };
}

/** A path as a relative URI reference: escapes characters that would start a query, a fragment or a scheme. */
const relativeUri = (path: string): string =>
  encodeURI(path)
    .replaceAll('#', '%23')
    .replaceAll('?', '%3F')
    .replace(/^[A-Za-z][A-Za-z0-9+.-]*:/, (scheme) => scheme.replace(':', '%3A'));

const fingerprint = ({ code, setting, message }: Worded, uri: string): string =>
  `${createHash('sha256').update([code, setting, message, uri].join('\0')).digest('hex').slice(0, 16)}:1`;
