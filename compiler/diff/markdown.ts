/** Changes as Markdown for a pull request. Pure. */

import { cell, code, plain } from '../markdown.ts';
import type { Change, Comparison, Effect, Shown } from './changes.ts';
import { what } from './describe.ts';
import { type Facts, factsOf } from './facts.ts';
import { type Part, type ShareTable, trafficShares } from './shares.ts';
import { type Warning, warningsOf } from './warnings.ts';

/** Identifies the comment of an earlier run. */
export const MARKER = '<!-- genai-gateway diff -->';

/** Most rows of one table. GitHub limits a comment to 65,536 characters. */
const MAX_ROWS = 100;
const MAX_TABLES = 10;

/** The whole comment with its final newline. `title` names the compared settings. */
export function asMarkdown({ changes, apisix, mask }: Comparison, title: string): string {
  const head = `${MARKER}\n## Gateway: ${code(title)}\n`;
  if (changes.length === 0) return `${head}\nThere are no differences: rendering gives the same gateway.\n`;
  const facts = apisix && {
    before: withNewNames(factsOf(apisix.before), changes),
    after: factsOf(apisix.after),
  };
  const blocks = [
    `${head}\n${summary(changes)}\n`,
    facts ? warnings(warningsOf(facts.before, facts.after), mask) : '',
    ...SECTIONS.map(({ title, kinds }) =>
      table(
        title,
        changes.filter(({ kind, field }) => kinds.includes(sectionOf(kind, field))),
      ),
    ),
    facts ? traffic(trafficShares(facts.before, facts.after), facts.after.balancer, mask) : '',
  ];
  return blocks.filter((block) => block !== '').join('\n');
}

/** Uses new names on both sides, so that a renamed backend is one row. */
function withNewNames(facts: Facts, changes: readonly Change[]): Facts {
  const names = new Map(
    changes
      .filter(({ object, kind }) => object === 'backend' && kind === 'renamed')
      .map(({ name, after }) => [name, String(after)]),
  );
  const backends = facts.backends.map((each) => ({ ...each, name: names.get(each.name) ?? each.name }));
  return { ...facts, backends };
}

type Section = 'added' | 'changed' | 'removed';

const SECTIONS: readonly { readonly title: string; readonly kinds: readonly Section[] }[] = [
  { title: 'Added', kinds: ['added'] },
  { title: 'Changed', kinds: ['changed'] },
  { title: 'Removed', kinds: ['removed'] },
];

/** An added or removed field counts as a change of its object. */
const sectionOf = (kind: Change['kind'], field: string | undefined): Section =>
  field === undefined && (kind === 'added' || kind === 'removed') ? kind : 'changed';

const EFFECTS: Readonly<Record<Effect, string>> = {
  'at once': 'at once',
  'next start': 'when the gateway restarts',
  'next start of the collector': 'when the collector restarts',
};

function summary(changes: readonly Change[]): string {
  const count = changes.length;
  const parts = (Object.keys(EFFECTS) as Effect[]).flatMap((effect) => {
    const number = changes.filter((each) => each.effect === effect).length;
    return number === 0 ? [] : [{ number, when: EFFECTS[effect] }];
  });
  const [only, ...others] = parts;
  const when =
    only && others.length === 0
      ? `takes effect ${only.when}`
      : parts.map(({ number, when }) => `${number} ${when}`).join(', ');
  return `**${count} change${count === 1 ? '' : 's'}**, ${only && others.length === 0 && count > 1 ? when.replace('takes', 'all take') : when}.`;
}

function warnings(found: readonly Warning[], mask: (text: string) => string): string {
  if (found.length === 0) return '';
  const lines = found.slice(0, MAX_ROWS).map(({ rule, text }) => {
    const words = text.map((each) => (typeof each === 'string' ? each : code(mask(each.value)))).join('');
    return `> - ${words} (${code(rule)})`;
  });
  const more = found.length > MAX_ROWS ? [`> - and ${found.length - MAX_ROWS} more`] : [];
  return `> [!WARNING]\n> **Check before you merge**\n>\n${[...lines, ...more].join('\n')}\n`;
}

function table(title: string, changes: readonly Change[]): string {
  if (changes.length === 0) return '';
  const style = { value: cell, field: plain };
  const rows = changes.slice(0, MAX_ROWS).map((change) => {
    const { object, name, effect } = change;
    const subject = name === undefined ? plain(object) : `${plain(object)} ${cell(name)}`;
    return `| ${subject} | ${what(change, style)}${details(change)} | ${EFFECTS[effect]} |`;
  });
  const rest = changes.length - MAX_ROWS;
  const more = rest > 0 ? `\nand ${rest} more: \`genai-gateway diff\` lists all\n` : '';
  return `### ${title}\n\n| Object | Change | Takes effect |\n|---|---|---|\n${rows.join('\n')}\n${more}`;
}

/** Fields that name an object, are the same for all objects, or are secret. */
const OMITTED_FIELDS: ReadonlySet<string> = new Set([
  'name',
  'username',
  'id',
  'provider',
  'key',
  'secondary_key',
]);

/** The main fields of an added or removed backend or client. */
function details({ object, kind, field, before, after }: Change): string {
  const whole = after ?? before;
  if (field !== undefined || (object !== 'backend' && object !== 'client')) return '';
  if ((kind !== 'added' && kind !== 'removed') || !isRecord(whole)) return '';
  const { override, ...rest } = whole;
  const endpoint = isRecord(override) ? { endpoint: override.endpoint } : {};
  const shown = Object.entries({ ...endpoint, ...rest }).flatMap(([key, value]) =>
    !OMITTED_FIELDS.has(key) && ['string', 'number', 'boolean'].includes(typeof value)
      ? [`${plain(key.replaceAll('_', ' '))} ${cell(String(value))}`]
      : [],
  );
  return shown.length === 0 ? '' : `: ${shown.join(', ')}`;
}

const isRecord = (value: Shown | undefined): value is { readonly [key: string]: Shown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Balancers whose shares depend on traffic, not only on weights. */
const BALANCERS: Readonly<Record<string, string>> = {
  latency: 'Within a priority, faster backends get more than the share of their weight.',
  chash: 'Requests with the same key go to the same backend, so a few busy keys can change the shares.',
};

function traffic(tables: readonly ShareTable[], balancer: string, mask: (text: string) => string): string {
  if (tables.length === 0) return '';
  const isSame = tables.every(({ shares }) =>
    shares.every(({ before, after }) => JSON.stringify(before) === JSON.stringify(after)),
  );
  const texts = tables.slice(0, MAX_TABLES).map(({ models, shares }) => {
    const rows = shares
      .slice(0, MAX_ROWS)
      .map(
        ({ name, before, after }) =>
          `| ${cell(mask(name))} | ${prioritiesOf(before, after)} | ${part(before)} | ${part(after)} |`,
      );
    const rest = shares.length - MAX_ROWS;
    const about =
      models === undefined
        ? tables.length > 1
          ? 'Other models:\n\n'
          : ''
        : `${models
            .slice(0, 20)
            .map((model) => code(mask(model)))
            .join(', ')}${models.length > 20 ? ` and ${models.length - 20} more` : ''}:\n\n`;
    return `${about}| Backend | Priority | Before | After |\n|---|---|---|---|\n${rows.join('\n')}\n${rest > 0 ? `\nand ${rest} more\n` : ''}`;
  });
  const more =
    tables.length > MAX_TABLES ? `\nand ${tables.length - MAX_TABLES} more groups of models\n` : '';
  const note = Object.hasOwn(BALANCERS, balancer) ? `${BALANCERS[balancer]}\n\n` : '';
  const body = `${note}${texts.join('\n')}${more}`;
  return isSame
    ? `<details><summary>Share of traffic: unchanged</summary>\n\n${body}\n</details>\n`
    : `### Share of traffic\n\n${body}`;
}

function prioritiesOf(before: Part | undefined, after: Part | undefined): string {
  const [old, current] = [before?.priority, after?.priority];
  return old === undefined || current === undefined || old === current
    ? `${current ?? old}`
    : `${old} → ${current}`;
}

/** A backend of a lower priority gets only the overflow of the higher ones. */
function part(given: Part | undefined): string {
  if (!given) return 'none';
  if (given.share === 0) return 'drained';
  const percent = `${Math.round(given.share * 1000) / 10} %`;
  return given.isReserve ? `${percent} of the overflow` : percent;
}
