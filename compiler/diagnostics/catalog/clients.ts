/** Diagnostics about clients. */
import { error, list, warning } from './entry.ts';

export const clients = {
  CLIENT_INDEX_GAP: error((a: { missing: readonly number[]; highest: number }, name) => ({
    message: `clients are numbered up to ${a.highest}, but ${missingIndexes(a.missing)}`,
    expected: 'clients numbered 0, 1, 2, … without a gap',
    hint: `add ${name.replace(/\d+$/, String(a.missing[0]))}, or renumber the clients`,
  })),
  CLIENT_INCOMPLETE: error((a: { present: string }, name) => ({
    message: `${a.present} is set but ${name} is not`,
    expected: 'GATEWAY_CLIENT_NAME_N and GATEWAY_CLIENT_KEY_N for every client',
    hint: `set ${name}, or remove ${a.present}`,
  })),
  DUPLICATE_CLIENT_KEY: error((a: { other: string }, name) => ({
    message: `${name} and ${a.other} are the same key`,
    expected: 'a different key for every client',
    hint: `give ${name} another key`,
  })),
  SHORT_CLIENT_KEY: warning((a: { length: number }, name) => ({
    message: `the key has only ${a.length} characters and is easy to guess`,
    expected: '16 characters or more',
    hint: `give ${name} a random key, for example from: openssl rand -hex 24`,
  })),
  SINGLE_AND_INDEXED_CLIENTS: error((a: { indexed: string }, name) => ({
    message: `${name} defines one client without a number, but ${a.indexed} defines another client`,
    expected: 'either GATEWAY_CLIENT_KEY alone, or numbered clients',
    hint: `move the key to the next free GATEWAY_CLIENT_KEY_N with a GATEWAY_CLIENT_NAME_N, and unset ${name}`,
  })),
  MODELS_NOT_SERVED: warning(
    (a: { models: readonly string[]; all: boolean; served: readonly string[] }, name) => ({
      message: a.all
        ? `no backend serves ${list(a.models)}, so this client cannot call any model`
        : `no backend serves ${list(a.models)}`,
      expected: `names of AZURE_OPENAI_DEPLOYMENTS_N: ${list(a.served.slice(0, 20))}${a.served.length > 20 ? ', …' : ''}`,
      hint: `correct ${name}, or add the deployment to a backend's AZURE_OPENAI_DEPLOYMENTS_N`,
    }),
  ),
  NO_CLIENT: error(() => ({
    message: 'authentication is on, but no client is configured',
    expected: 'at least one GATEWAY_CLIENT_NAME_N with GATEWAY_CLIENT_KEY_N',
    hint: 'set GATEWAY_CLIENT_NAME_0 and GATEWAY_CLIENT_KEY_0',
  })),
  AUTH_OFF: warning(() => ({
    message: 'authentication is off: anyone who reaches the gateway can use your backends',
    expected: 'GATEWAY_REQUIRE_AUTH=true',
    hint: 'set GATEWAY_REQUIRE_AUTH=true and give each client a key',
  })),
};

function missingIndexes(missing: readonly number[]): string {
  const shown = missing.slice(0, 10).join(', ');
  return `${missing.length === 1 ? 'index' : 'indexes'} ${shown}${missing.length > 10 ? ', …' : ''} ${missing.length === 1 ? 'is' : 'are'} missing`;
}
