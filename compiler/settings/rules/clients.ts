import { clientFields } from '../declarations/index.ts';
import type { Secret } from '../secret.ts';
import { isAcceleratorKey, isPlaceholderKey } from './placeholders.ts';
import { clientVariable, firstWith, type Rule } from './rule.ts';

const clientsAreContiguous: Rule = ({ clients, report }) => {
  const last = clients.at(-1);
  if (!last || last.index === clients.length - 1) return;
  const present = new Set(clients.map((each) => each.index));
  const missing = Array.from({ length: last.index }, (_, index) => index).filter(
    (index) => !present.has(index),
  );
  report('CLIENT_INDEX_GAP', clientVariable('NAME', last), { missing, highest: last.index });
};

const CLIENT_FIELDS = Object.keys(clientFields) as (keyof typeof clientFields)[];

const clientsAreComplete: Rule = ({ clients, given, report }) => {
  for (const client of clients) {
    const present = CLIENT_FIELDS.map((field) => clientVariable(field, client)).find(given) ?? '';
    for (const field of ['NAME', 'KEY'] as const) {
      const variable = clientVariable(field, client);
      if (!given(variable)) report('CLIENT_INCOMPLETE', variable, { present });
    }
  }
};

const clientNamesAreUnique: Rule = ({ clients, report }) => {
  const seen = new Map<string, string>();
  for (const client of clients) {
    if (client.NAME === undefined) continue;
    const variable = clientVariable('NAME', client);
    const other = firstWith(seen, client.NAME, variable);
    if (other !== undefined) report('DUPLICATE_NAME', variable, { other, name: client.NAME });
  }
};

const MIN_KEY_LENGTH = 16;

const clientKeysAreUniqueAndLong: Rule = ({ clients, values, report }) => {
  const seen = new Map<string, string>();
  const check = (variable: string, key: Secret | undefined) => {
    if (!key) return;
    const other = firstWith(seen, key.reveal(), variable);
    if (other !== undefined) report('DUPLICATE_CLIENT_KEY', variable, { other });
    // Keys of the accelerator have a more specific diagnostic.
    if (key.length < MIN_KEY_LENGTH && !isAcceleratorKey(key.reveal()))
      report('SHORT_CLIENT_KEY', variable, { length: key.length });
  };
  check('GATEWAY_CLIENT_KEY', values.GATEWAY_CLIENT_KEY);
  for (const client of clients) {
    check(clientVariable('KEY', client), client.KEY);
    check(clientVariable('KEY_SECONDARY', client), client.KEY_SECONDARY);
  }
};

/** Parts of headers that are copied together with a key. */
const HEADER = /^(?:(?:authorization|api-key|x-api-key|ocp-apim-subscription-key)\s*:|bearer\s)/i;

const keysHaveNoSpace: Rule = ({ backends, clients, values, report }) => {
  const keys = [
    ...backends.map(({ KEY }) => KEY),
    values.GATEWAY_CLIENT_KEY,
    ...clients.flatMap(({ KEY, KEY_SECONDARY }) => [KEY, KEY_SECONDARY]),
  ];
  for (const key of keys) {
    if (key === undefined) continue;
    const isHeader = HEADER.test(key.reveal());
    if ((isHeader || /\s/.test(key.reveal())) && !isPlaceholderKey(key.reveal()))
      report('KEY_WITH_SPACE', key.variable, { kind: isHeader ? 'scheme' : 'space' });
  }
};

const oneWayOfNamingClients: Rule = ({ clients, given, usable, report }) => {
  const [first] = clients;
  if (!first || !usable('GATEWAY_CLIENT_KEY')) return;
  const indexed =
    [clientVariable('NAME', first), clientVariable('KEY', first)].find(given) ??
    `clients with index ${first.index}`;
  report('SINGLE_AND_INDEXED_CLIENTS', 'GATEWAY_CLIENT_KEY', { indexed });
};

/** Whether a name matches a pattern with `*`. Azure ignores the case of names. */
function matches(pattern: string, name: string): boolean {
  const literal = (text: string) => text.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${pattern.split('*').map(literal).join('.*')}$`, 'i').test(name);
}

/** A backend without a list serves all models, so only complete lists are checked. */
const modelsOfClientsAreServed: Rule = ({ backends, clients, usable, report }) => {
  const isKnown = backends.length > 0 && backends.every((each) => each.DEPLOYMENTS !== undefined);
  if (!isKnown) return;
  const served = [...new Set(backends.flatMap((each) => each.DEPLOYMENTS ?? []).map(({ name }) => name))];
  for (const client of clients) {
    const variable = clientVariable('MODELS', client);
    if (client.MODELS === undefined || !usable(variable)) continue;
    const models = client.MODELS.filter((pattern) => !served.some((name) => matches(pattern, name)));
    if (models.length > 0)
      report('MODELS_NOT_SERVED', variable, { models, all: models.length === client.MODELS.length, served });
  }
};

const authenticationHasClients: Rule = ({ values, clients, given, report }) => {
  if (!values.GATEWAY_REQUIRE_AUTH) report('AUTH_OFF', 'GATEWAY_REQUIRE_AUTH', {});
  else if (clients.length === 0 && !given('GATEWAY_CLIENT_KEY') && !values.ENABLE_OIDC)
    report('NO_CLIENT', 'GATEWAY_CLIENT_NAME_0', {});
};

export const clientRules: readonly Rule[] = [
  clientsAreContiguous,
  clientsAreComplete,
  clientNamesAreUnique,
  clientKeysAreUniqueAndLong,
  keysHaveNoSpace,
  oneWayOfNamingClients,
  authenticationHasClients,
  modelsOfClientsAreServed,
];
